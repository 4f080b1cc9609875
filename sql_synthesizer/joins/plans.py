"""The join order of an engine's own plan, read out of what it explains."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sql_synthesizer.joins.graph import JoinTree, leaves, left_deep

MOST_READINGS: Final = 24
"""Ways to tell apart the scans of a table that is there several times; with more, these are looked at."""
SQLITE_LOOP: Final = re.compile(r"^\W*(?:SCAN|SEARCH) (\S+)")
POSTGRES_NODE: Final = re.compile(r"^(\s*)(?:->\s+)?(.*?)\s+\(cost=")
POSTGRES_SCAN: Final = re.compile(r"(?:Scan|Scan using \S+|Scan Backward using \S+) on (\S+)(?: (\S+))?$")


def own_trees(plan: str, dialect: str, tables: Mapping[str, str]) -> list[JoinTree]:
    """Return the trees that a plan may mean, over relations in the order of ``tables``; none if it cannot be read.

    DuckDB names tables and not their aliases: where a table is there several times, each way to tell them apart is one.

    Args:
        plan: the text that the engine explains; for DuckDB that of ``EXPLAIN (FORMAT json)``.
        dialect: of the engine.
        tables: by alias, the names of the tables.
    """
    position = {alias: i for i, alias in enumerate(tables)}
    found: list[JoinTree] = []
    if dialect == "sqlite":
        loops = [match[1] for line in plan.splitlines() if (match := SQLITE_LOOP.match(line))]
        if sorted(loops) == sorted(tables):
            found = [left_deep([position[alias] for alias in loops])]
    elif dialect == "postgres":
        tree = _postgres_tree(plan, position)
        found = [tree] if tree is not None else []
    else:
        found = _duckdb_trees(plan, tables)
    return [tree for tree in found if sorted(leaves(tree)) == list(range(len(tables)))]


def _duckdb_trees(details: str, tables: Mapping[str, str]) -> list[JoinTree]:
    """Put each assignment of aliases to the scans of a plan into its tree."""
    scans: list[str] = []
    try:
        shape = _shape(json.loads(details)[0], scans)
    except (ValueError, LookupError, TypeError):  # no JSON, or not the one of this version
        return []
    groups = [[i for i, table in enumerate(tables.values()) if table == name] for name in dict.fromkeys(scans)]
    if shape is None:
        return []
    trees = []
    readings = itertools.product(*(itertools.permutations(group) for group in groups))
    for chosen in itertools.islice(readings, MOST_READINGS):
        waiting = {name: iter(group) for name, group in zip(dict.fromkeys(scans), chosen, strict=True)}
        meant = [next(waiting[name], -1) for name in scans]
        trees.append(_renamed(shape, meant))
    return trees


def _shape(node: dict[str, Any], scans: list[str]) -> JoinTree | None:
    """Return the tree of a node over the scans below it, which are noted by table."""
    table = (node.get("extra_info") or {}).get("Table")
    if table:
        scans.append(str(table).rpartition(".")[2].strip('"'))
        return len(scans) - 1
    parts = [part for child in node["children"] if (part := _shape(child, scans)) is not None]
    return _pair(parts) if parts else None


def _renamed(tree: JoinTree, names: Sequence[int]) -> JoinTree:
    if isinstance(tree, int):
        return names[tree]
    return _renamed(tree[0], names), _renamed(tree[1], names)


def _postgres_tree(text: str, position: dict[str, int]) -> JoinTree | None:
    """Join what stands under each node; a node of one child is that child."""
    open_nodes: list[tuple[int, list[JoinTree]]] = []
    top: list[JoinTree] = []

    def close(indent: int) -> None:
        while open_nodes and open_nodes[-1][0] >= indent:
            _, parts = open_nodes.pop()
            if parts:
                above = open_nodes[-1][1] if open_nodes else top
                above.append(parts[0] if len(parts) == 1 else _pair(parts))

    for line in text.splitlines():
        node = POSTGRES_NODE.match(line)
        if node is None:
            continue
        indent = len(node[1])
        close(indent)
        scan = POSTGRES_SCAN.search(node[2])
        alias = (scan[2] or scan[1]).strip('"') if scan and "Bitmap Index" not in node[2] else None
        open_nodes.append((indent, [position[alias]] if alias in position else []))
    close(-1)
    return top[0] if len(top) == 1 else None


def _pair(parts: list[JoinTree]) -> JoinTree:
    tree = parts[0]
    for part in parts[1:]:
        tree = (tree, part)
    return tree
