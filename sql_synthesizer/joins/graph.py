"""The join graph of a block of inner joins, and the cost of a join tree.

The estimate of a set's rows is the product of its relations' rows and of the selectivities between them, in natural
logarithms: ``log|S| = sum_i log_rows[i] + sum_{i<j} log_selectivity[i, j]``. The cost is C_out, the sum of the rows
of all joins of a tree, its root included (Cluet and Moerkotte, ICDT 1995).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from quantum_db.errors import InvalidRequest

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

JoinTree: TypeAlias = "int | tuple[JoinTree, JoinTree]"
"""A relation's index, or a pair of trees that are joined: ``((0, 2), 1)``."""


@dataclass(frozen=True, slots=True, eq=False)
class JoinGraph:
    """Relations and what their join predicates keep.

    Attributes:
        names: of the relations, n different ones.
        log_rows: (n,), natural logarithms of the rows that are left by each relation's own filters.
        log_selectivity: (n, n), symmetric, natural logarithms; 0 where there is no predicate, and on the diagonal.
        classes: groups of relations with a column each that are all equal. Of k relations of a group k - 1 pairs imply
            the others: the most selective ones that connect them count, and not all. No pair may be in two groups.
        fetched: for each relation, by how much the rows that a look-up in it finds are more than those that its own
            filters leave: in engines that look up row by row the former cost. Empty elsewhere.

    Raises:
        InvalidRequest: on wrong shapes, a repeated name, or a number that is not finite.
    """

    names: tuple[str, ...]
    log_rows: Floats
    log_selectivity: Floats
    classes: tuple[tuple[int, ...], ...] = ()
    fetched: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.names)
        _require(n >= 1, "names", "must name at least one relation")
        _require(len(set(self.names)) == n, "names", "must differ")
        _require(self.log_rows.shape == (n,), "log_rows", f"must have shape ({n},)")
        _require(self.log_selectivity.shape == (n, n), "log_selectivity", f"must have shape ({n}, {n})")
        _require(bool(np.isfinite(self.log_rows).all()), "log_rows", "must be finite")
        _require(bool(np.isfinite(self.log_selectivity).all()), "log_selectivity", "must be finite")
        _require(bool((self.log_selectivity == self.log_selectivity.T).all()), "log_selectivity", "must be symmetric")
        _require(len(self.fetched) in (0, n), "fetched", f"must have {n} numbers or none")
        _require(not self.log_selectivity.diagonal().any(), "log_selectivity", "must be 0 on the diagonal")

    @property
    def size(self) -> int:
        """How many relations there are."""
        return len(self.names)

    def edges(self) -> list[tuple[int, int]]:
        """Return the pairs i < j that a predicate joins, in order."""
        upper = np.argwhere(np.triu(self.log_selectivity, 1) != 0.0)
        return [(int(i), int(j)) for i, j in upper]

    def log_cardinality(self, relations: Sequence[int]) -> float:
        """Return the natural logarithm of the estimated rows of a set of relations' join."""
        return SetLogs(self).log(sum(1 << relation for relation in set(relations)))

    def without_classes(self) -> JoinGraph:
        """Return a graph of pairs alone: of each group those that count for the whole of it are left."""
        between = self.log_selectivity.copy()
        for group in self.classes:
            for i, j in itertools.combinations(group, 2):
                between[i, j] = between[j, i] = 0.0
            for i, j in _connecting(self.log_selectivity.tolist(), list(group)):
                between[i, j] = between[j, i] = self.log_selectivity[i, j]
        return JoinGraph(self.names, self.log_rows, between, (), self.fetched)


class SetLogs:
    """Logarithms of the rows of a graph's sets of relations, by bit mask, each computed once."""

    def __init__(self, graph: JoinGraph) -> None:
        self._rows: list[float] = graph.log_rows.tolist()
        self._kept: list[list[float]] = graph.log_selectivity.tolist()
        free = graph.log_selectivity.copy()
        for group in graph.classes:
            for i, j in itertools.combinations(group, 2):
                free[i, j] = free[j, i] = 0.0
        self._free: list[list[float]] = free.tolist()
        self._groups = [sum(1 << relation for relation in group) for group in graph.classes]
        self._plain: dict[int, float] = {0: 0.0}
        self._of_groups: dict[int, float] = {}

    def log(self, relations: int) -> float:
        """Return the natural logarithm of the rows of a set's join."""
        total = self._log_plain(relations)
        for group in self._groups:
            members = relations & group
            if members & (members - 1):
                if members not in self._of_groups:
                    pairs = _connecting(self._kept, _bits(members))
                    self._of_groups[members] = sum(self._kept[i][j] for i, j in pairs)
                total += self._of_groups[members]
        return total

    def log_c_out(self, tree: JoinTree) -> float:
        """Return the natural logarithm of a tree's C_out, minus infinity for a single relation."""
        logs = [self.log(sum(1 << leaf for leaf in leaves(pair))) for pair in joins(tree)]
        return float(np.logaddexp.reduce(logs)) if logs else -math.inf

    def _log_plain(self, relations: int) -> float:
        if relations not in self._plain:
            first, *others = _bits(relations)
            rest = self._log_plain(relations & (relations - 1))
            kept = self._free[first]
            self._plain[relations] = rest + self._rows[first] + sum(kept[other] for other in others)
        return self._plain[relations]


def _bits(relations: int) -> list[int]:
    return [i for i in range(relations.bit_length()) if relations >> i & 1]


@dataclass(frozen=True, slots=True)
class JoinOrder:
    """A join tree that was found.

    Attributes:
        tree: over the graph's relations.
        log_cost: natural logarithm of its C_out.
        proved: no tree costs less (of those without cross products, unless these were asked for).
        found_by: the step that found it: "greedy", "ikkbz", "selective", "neighbourhood", "exact" or "annealing".
        seconds: how long the search took.
    """

    tree: JoinTree
    log_cost: float
    proved: bool
    found_by: str
    seconds: float


def joinable(graph: JoinGraph, cross_products: bool = False) -> Flags:
    """Return which pairs may be joined: those with a predicate, and those of different components; or all."""
    joined: Flags = graph.log_selectivity != 0.0
    reach = joined | np.eye(graph.size, dtype=np.bool_)
    for _ in range(max(1, (graph.size - 1).bit_length())):
        reach = reach @ reach
    joined = joined | ~reach
    if cross_products:
        joined = np.ones_like(joined)
    np.fill_diagonal(joined, val=False)
    return joined


def _connecting(kept: list[list[float]], members: list[int]) -> list[tuple[int, int]]:
    """Return the pairs of the tree over all members whose selectivities are lowest (Prim)."""
    inside, pairs = members[:1], []
    while len(inside) < len(members):
        outside = [j for j in members if j not in inside]
        i, j = min(((i, j) for i in inside for j in outside), key=lambda pair: kept[pair[0]][pair[1]])
        inside.append(j)
        pairs.append((i, j))
    return pairs


def leaves(tree: JoinTree) -> Iterator[int]:
    """Yield the relations of a tree from left to right."""
    if isinstance(tree, int):
        yield tree
    else:
        yield from leaves(tree[0])
        yield from leaves(tree[1])


def joins(tree: JoinTree) -> Iterator[tuple[JoinTree, JoinTree]]:
    """Yield the pairs that are joined, each after those below it."""
    if not isinstance(tree, int):
        yield from joins(tree[0])
        yield from joins(tree[1])
        yield tree


def left_deep(order: Sequence[int]) -> JoinTree:
    """Return the tree that joins relations one after the other."""
    tree: JoinTree = int(order[0])
    for relation in order[1:]:
        tree = (tree, int(relation))
    return tree


def log_c_out(graph: JoinGraph, tree: JoinTree) -> float:
    """Return the natural logarithm of C_out; minus infinity for a single relation.

    Raises:
        InvalidRequest: if the tree does not hold each relation exactly once.
    """
    found = sorted(leaves(tree))
    _require(found == list(range(graph.size)), "tree", f"must hold each of {graph.size} relations once, not {found}")
    return SetLogs(graph).log_c_out(tree)


def c_out(graph: JoinGraph, tree: JoinTree) -> float:
    """Return C_out in rows; infinity above the range of a float."""
    logarithm = log_c_out(graph, tree)
    return math.exp(logarithm) if logarithm < 709.0 else math.inf


def _require(condition: bool, field: str, message: str) -> None:
    if not condition:
        raise InvalidRequest.at(field, message)
