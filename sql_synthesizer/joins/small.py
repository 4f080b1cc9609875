"""Exact dynamic programming in plain Python, for graphs that are so small that compiling a kernel would take longer.

Pairs of connected sets come in the order of DPccp (Moerkotte and Neumann, VLDB 2006): each pair once, parts first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from sql_synthesizer.joins.graph import JoinGraph, JoinOrder, JoinTree, SetLogs, joinable, log_c_out

PAIRS = 10_000
"""Pairs that are looked at by default: some 20 ms."""


def order_small(graph: JoinGraph, *, pairs: int = PAIRS, chain: bool = False) -> JoinOrder | None:
    """Return the best join tree without needless cross products, or None if it takes more than ``pairs`` pairs.

    With ``chain`` it is the best left-deep one, by what look-ups fetch where the graph tells that.
    """
    begun = time.perf_counter()
    neighbours = _masks(graph)
    weights = {1 << i: weight for i, weight in enumerate(graph.fetched)} if chain else {}
    sets, rows = SetLogs(graph), dict[int, float]()
    best: dict[int, tuple[float, JoinTree]] = {1 << i: (0.0, i) for i in range(graph.size)}
    shift = max(0.0, graph.log_cardinality(range(graph.size)) - 600.0)
    for count, pair in enumerate(connected_pairs(neighbours)):
        if count >= pairs:
            return None
        one, other = pair
        if chain and other & (other - 1):
            one, other = other, one
            if other & (other - 1):
                continue
        both = one | other
        cost = best[one][0] + best[other][0]
        if both not in rows:
            rows[both] = math.exp(min(sets.log(both) - shift, 700.0))
        if weights and not one & (one - 1) and weights[one] < weights[other]:
            one, other = other, one
        cost += rows[both] * (weights[other] if weights else 1.0)
        if both not in best or cost < best[both][0]:
            best[both] = cost, (best[one][1], best[other][1])
    tree = best[(1 << graph.size) - 1][1]
    return JoinOrder(tree, log_c_out(graph, tree), True, "exact", time.perf_counter() - begun)


def connected_pairs(neighbours: list[int]) -> Iterator[tuple[int, int]]:
    """Yield each pair of disjoint connected sets with an edge between them once; all pairs within a set before it."""
    for i in reversed(range(len(neighbours))):
        lower = (2 << i) - 1
        for one in _grown(1 << i, lower, neighbours):
            taken = (1 << _lowest(one)) - 1 | 1 << _lowest(one) | one
            around = _around(one, neighbours) & ~taken
            for j in reversed(range(len(neighbours))):
                if around >> j & 1:
                    before = around & ((2 << j) - 1)
                    for other in _grown(1 << j, taken | before, neighbours):
                        yield one, other


def _grown(start: int, taken: int, neighbours: list[int]) -> Iterator[int]:
    """Yield a connected set and all that grow out of it without the relations that are taken."""
    yield start
    yield from _grow(start, taken, neighbours)


def _grow(start: int, taken: int, neighbours: list[int]) -> Iterator[int]:
    around = _around(start, neighbours) & ~taken
    parts = list(_subsets(around))
    for part in parts:
        yield start | part
    for part in parts:
        yield from _grow(start | part, taken | around, neighbours)


def _subsets(relations: int) -> Iterator[int]:
    """Yield the non-empty subsets, smaller numbers first."""
    part = -relations & relations
    while part:
        yield part
        part = (part - relations) & relations


def _around(relations: int, neighbours: list[int]) -> int:
    around = 0
    for i, mask in enumerate(neighbours):
        if relations >> i & 1:
            around |= mask
    return around & ~relations


def _lowest(relations: int) -> int:
    return (relations & -relations).bit_length() - 1


def _masks(graph: JoinGraph) -> list[int]:
    return [sum(1 << int(j) for j in row.nonzero()[0]) for row in joinable(graph)]
