"""The join order of an engine's own plan, read out of what it explains. DuckDB draws its plans as boxes: not read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sql_synthesizer.joins.graph import JoinTree, leaves, left_deep

SQLITE_LOOP: Final = re.compile(r"^\W*(?:SCAN|SEARCH) (\S+)")
POSTGRES_NODE: Final = re.compile(r"^(\s*)(?:->\s+)?(.*?)\s+\(cost=")
POSTGRES_SCAN: Final = re.compile(r"(?:Scan|Scan using \S+|Scan Backward using \S+) on (\S+)(?: (\S+))?$")


def own_tree(text: str, dialect: str, aliases: Sequence[str]) -> JoinTree | None:
    """Return the tree of a plan over relations in the order of ``aliases``, or None if it cannot be read for sure."""
    position = {alias: i for i, alias in enumerate(aliases)}
    tree = None
    if dialect == "sqlite":
        found = [match[1] for line in text.splitlines() if (match := SQLITE_LOOP.match(line))]
        if sorted(found) == sorted(aliases):
            tree = left_deep([position[alias] for alias in found])
    elif dialect == "postgres":
        tree = _postgres_tree(text, position)
    return tree if tree is not None and sorted(leaves(tree)) == list(range(len(aliases))) else None


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
