"""The search for a join tree of low C_out within a time: seeds, then proof where it can be had, else improvement.

1. Greedy operator ordering, IKKBZ and the most selective predicates first give leaf orders; linearised DP turns each
   into the best bushy tree of that order.
2. Exact reordering of random parts of the best tree lowers its cost, which bounds the exact search.
3. Exact DP over connected subsets, of which those with more rows than that cost are left out, if what it takes fits.
4. Otherwise annealing of leaf orders and reordering of parts take turns until the time is over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sql_synthesizer.joins import exact, improve, seeds
from sql_synthesizer.joins.graph import JoinGraph, JoinOrder, JoinTree, joinable, leaves, left_deep, log_c_out

Floats = NDArray[np.float64]
Masks = NDArray[np.int64]
Flags = NDArray[np.bool_]

MOST_EXACT = 20
"""The most relations whose subsets are all looked at."""
SPLITS_A_SECOND = 2.5e8
"""How many splits the exact search tries in a second; only a guide of whether to begin, it is measured low."""
UNITS = 8
"""Parts of a tree that are reordered at a time: 3^8 / 2 splits."""
ROWS = 16
"""Random moves between two looks at the clock."""
PREFIX_ROWS = 512
"""The same for left-deep orders, whose moves are so much shorter."""
HOT, COLD = 0.3, 0.03
"""First and last temperature of annealing, in units of a logarithm of C_out."""


class _Search:
    """One search: the graph as arrays, the best tree so far, and the deadline."""

    def __init__(self, graph: JoinGraph, joined: Flags, deadline: float, seed: int) -> None:
        self.n = graph.size
        self.rows = np.ascontiguousarray(graph.log_rows)
        self.between = np.ascontiguousarray(graph.log_selectivity)
        self.joined = joined
        self.deadline = deadline
        self.rng = np.random.default_rng(seed)
        self.shift = shift_of(graph)
        self.costs = np.empty((self.n, self.n))
        self.cuts = np.empty((self.n, self.n), dtype=np.int64)
        self.cost = math.inf
        self.tree: JoinTree = 0
        self.found_by = ""
        self.proved = False

    def time_left(self) -> float:
        """Return the seconds until the deadline; negative after it."""
        return self.deadline - time.perf_counter()

    def offer(self, cost: float, found_by: str, tree: Callable[[], JoinTree]) -> None:
        """Take a tree if it is the best so far, by more than rounding."""
        if cost < self.cost * (1.0 - 1e-12) or not self.found_by:
            self.cost, self.found_by, self.tree = cost, found_by, tree()

    def polish(self, order: Masks) -> float:
        """Return the cost of the best tree with these leaves; its cuts stand in ``cuts``."""
        return exact.interval_dp(order, self.rows, self.between, self.joined, self.shift, self.costs, self.cuts)

    def offer_order(self, order: Masks, found_by: str) -> None:
        """Take the best tree with these leaves if it is the best so far."""
        self.offer(self.polish(order), found_by, lambda: _from_cuts(order, self.cuts, 0, self.n - 1))

    def seed(self) -> None:
        """Begin with the quick orders, each with the best tree of its leaves."""
        pairs = seeds.greedy_operators(self.rows, self.between, self.joined)
        greedy = from_pairs(pairs, 2 * self.n - 2)
        self.offer_order(np.array(list(leaves(greedy)), dtype=np.int64), "greedy")
        _, order = seeds.ikkbz(self.rows, self.between, self.joined, self.shift)
        self.offer_order(order, "ikkbz")
        parents = np.empty(self.n, dtype=np.int64)
        order = np.empty(self.n, dtype=np.int64)
        seeds.spanning_tree(self.between, self.joined, int(self.rows.argmin()), parents, order)
        self.offer_order(order, "selective")

    def neighbourhood(self, rounds: int) -> None:
        """Reorder random parts of the best tree, and end when ``rounds`` looks found nothing or time is over."""
        pairs = _to_pairs(self.tree, self.n)
        logs = np.empty(2 * self.n - 1)
        improve.node_logs(pairs, self.rows, self.between, logs)
        units = min(UNITS, self.n)
        idle = 0
        while idle < rounds and self.time_left() > 0.0:
            draws = self.rng.random((ROWS, units))
            found = improve.search_neighbourhood(pairs, logs, self.between, self.joined, self.shift, units, draws)
            idle = 0 if found else idle + 1
        cost = float(np.exp(np.minimum(logs[self.n :] - self.shift, exact.TOP)).sum())
        self.offer(cost, "neighbourhood", lambda: from_pairs(pairs, _root(pairs)))

    def prove(self) -> None:
        """Search all connected subsets, if that can be done in the time that is left."""
        if self.n > MOST_EXACT or self.time_left() < (1 << self.n) * 4e-8:
            return
        logs = np.empty(1 << self.n)
        alive = np.empty(1 << self.n, dtype=np.bool_)
        exact.subset_logs(self.rows, self.between, logs)
        neighbours = self.joined @ (1 << np.arange(self.n))
        limit = math.log(self.cost) + self.shift + 1e-9
        splits = exact.candidates(logs, neighbours, limit, alive)
        edges = int(self.joined.sum()) // 2
        by_edges = float(np.count_nonzero(alive)) * self.n if edges == self.n - 1 else math.inf
        if min(splits, by_edges) > self.time_left() * SPLITS_A_SECOND:
            return
        costs = np.empty(1 << self.n)
        chosen = np.zeros(1 << self.n, dtype=np.int64)
        if by_edges < splits:
            below, above = rooted(self.joined)
            cost = exact.tree_dp(logs, self.shift, below, above, alive, costs, chosen)
        else:
            cost = exact.subset_dp(logs, self.shift, alive, costs, chosen)
        self.offer(cost, "exact", lambda: _from_splits(chosen, (1 << self.n) - 1))
        self.proved = True

    def anneal(self) -> None:
        """Anneal orders from the best tree's on, in the time that is left, and reorder parts of what comes out.

        Where predicates are many, orders of left-deep trees come first: they are nearly as good as bushy ones there,
        and a move of theirs takes a hundredth of the time.
        """
        if self.joined.sum() > 4 * self.n * math.log2(self.n):
            self.cool(improve.anneal_prefixes, self.time_left() * 0.8, PREFIX_ROWS)
            self.neighbourhood(8)
        while self.time_left() > 0.0:
            self.cool(improve.anneal_orders, self.time_left() / 2.0, ROWS)
            self.neighbourhood(8)

    def cool(self, moves: Callable[..., None], seconds: float, rows: int) -> None:
        """Anneal the order of the best tree's leaves, and offer the best that was met."""
        order = np.array(list(leaves(self.tree)), dtype=np.int64)
        self.offer_order(self.moved(moves, order, seconds, rows), "annealing")

    def moved(self, moves: Callable[..., None], order: Masks, seconds: float, rows: int) -> Masks:
        """Make moves from an order on, at falling temperatures; return the best order that was met, or this one."""
        order, best = order.copy(), order.copy()
        state = np.full(2, math.inf)
        begun = time.perf_counter()
        seconds = max(seconds, 1e-6)  # a deadline may have passed since it was looked at
        while (gone := (time.perf_counter() - begun) / seconds) < 1.0:
            temperature = HOT * (COLD / HOT) ** gone
            draws = self.rng.random((rows, 4))
            moves(order, best, state, self.rows, self.between, self.joined, self.shift, temperature, draws)
        return best


def warm_up() -> float:
    """Compile all kernels, once in a process, and return the seconds that it took: some 15 of one processor."""
    begun = time.perf_counter()
    for n, predicates in ((4, 3), (5, 10)):
        between = np.zeros((n, n))
        between[np.triu_indices(n, 1)] = [-1.0] * predicates + [0.0] * (n * (n - 1) // 2 - predicates)
        graph = JoinGraph(tuple(map(str, range(n))), np.ones(n), between + between.T)
        search = _Search(graph, joinable(graph), math.inf, 0)
        search.seed()
        search.neighbourhood(1)
        search.prove()
        search.deadline = time.perf_counter() + 1e-3
        search.cool(improve.anneal_prefixes, 1e-3, ROWS)
        search.cool(improve.anneal_orders, 1e-3, ROWS)
    return time.perf_counter() - begun


def shift_of(graph: JoinGraph) -> float:
    """Return what is taken off logarithms of rows before they are raised, so that the whole does not overflow."""
    return max(0.0, graph.log_cardinality(range(graph.size)) - 600.0)


def order_joins(graph: JoinGraph, *, seconds: float = 0.05, cross_products: bool = False, seed: int = 0) -> JoinOrder:
    """Return the best join tree that is found in about ``seconds``.

    Args:
        graph: what to order.
        seconds: how long to search; it ends sooner once the tree is proved to be the best.
        cross_products: also join what no predicate joins, wherever that costs less. Parts of a graph that hang together
            by nothing are joined so in any case.
        seed: of the random moves. Two searches agree if both are proved, or have the same time for their moves.
    """
    begun = time.perf_counter()
    search = _Search(graph, joinable(graph, cross_products), begun + seconds, seed)
    if graph.size > 2:
        search.seed()
        search.neighbourhood(4)
        search.prove()
        if not search.proved:
            search.anneal()
    elif graph.size == 2:
        search.tree = (0, 1)
    proved = search.proved or graph.size <= 2
    log_cost = log_c_out(graph, search.tree)
    return JoinOrder(search.tree, log_cost, proved, search.found_by or "exact", time.perf_counter() - begun)


def order_chain(graph: JoinGraph, *, seconds: float = 0.05, seed: int = 0) -> JoinOrder:
    """Return the best left-deep tree without needless cross products that annealing from IKKBZ's finds in time."""
    begun = time.perf_counter()
    search = _Search(graph, joinable(graph), begun + seconds, seed)
    _, order = seeds.ikkbz(search.rows, search.between, search.joined, search.shift)
    best = search.moved(improve.anneal_prefixes, order, seconds, PREFIX_ROWS)
    tree = left_deep(best.tolist())
    changed = not np.array_equal(best, order)
    seconds = time.perf_counter() - begun
    return JoinOrder(tree, log_c_out(graph, tree), False, "annealing" if changed else "ikkbz", seconds)


def rooted(joined: Flags) -> tuple[Masks, Masks]:
    """Return for a graph that is a tree, rooted at relation 0, the masks that `exact.tree_dp` wants."""
    n = len(joined)
    below = 1 << np.arange(n)
    above = np.zeros(n, dtype=np.int64)
    preorder, seen = [0], {0}
    for v in preorder:
        for child in np.flatnonzero(joined[v]).tolist():
            if child not in seen:
                seen.add(child)
                preorder.append(child)
                above[child] = 1 << v
    for v in reversed(preorder[1:]):
        below[int(above[v]).bit_length() - 1] |= below[v]
    return below, above


def _from_cuts(order: Masks, cuts: Masks, i: int, j: int) -> JoinTree:
    if i == j:
        return int(order[i])
    cut = int(cuts[i, j])
    return _from_cuts(order, cuts, i, cut), _from_cuts(order, cuts, cut + 1, j)


def _from_splits(splits: Masks, relations: int) -> JoinTree:
    if relations & (relations - 1) == 0:
        return relations.bit_length() - 1
    part = int(splits[relations])
    return _from_splits(splits, relations ^ part), _from_splits(splits, part)


def from_pairs(pairs: Masks, node: int) -> JoinTree:
    """Return the tree of a node of an array of pairs."""
    n = len(pairs) + 1
    if node < n:
        return node
    return from_pairs(pairs, int(pairs[node - n, 0])), from_pairs(pairs, int(pairs[node - n, 1]))


def _to_pairs(tree: JoinTree, n: int) -> Masks:
    pairs = np.empty((n - 1, 2), dtype=np.int64)
    made = 0

    def node(part: JoinTree) -> int:
        nonlocal made
        if isinstance(part, int):
            return part
        pair = node(part[0]), node(part[1])
        pairs[made] = pair
        made += 1
        return n + made - 1

    node(tree)
    return pairs


def _root(pairs: Masks) -> int:
    """Return the join that is part of no other."""
    n = len(pairs) + 1
    return int(np.setdiff1d(np.arange(n, 2 * n - 1), pairs)[0])
