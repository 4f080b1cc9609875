"""Exact dynamic programming: over subsets of relations, over connected parts of a tree, and over intervals of an order.

Sets are bit masks. Rows are relative: a logarithm has ``shift`` taken off before it is raised, so that floats never
overflow. A set whose rows alone are above a known plan's cost is part of no better plan, and is not looked into.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sql_synthesizer.joins.compiled import compiled

Floats = NDArray[np.float64]
Masks = NDArray[np.int64]
Flags = NDArray[np.bool_]

TOP = 700.0
"""The largest logarithm that is raised: above it rows count as e^700."""


@compiled
def subset_logs(log_rows: Floats, log_selectivity: Floats, logs: Floats) -> None:
    """Fill in the logarithm of each subset's rows: that of the set without its highest relation, and what that adds."""
    logs[0] = 0.0
    sums = np.empty(logs.size // 2 + 1)
    for high in range(log_rows.size):
        half = 1 << high
        sums[0] = log_rows[high]
        for bit in range(high):
            step = 1 << bit
            for rest in range(step):
                sums[step + rest] = sums[rest] + log_selectivity[high, bit]
        for rest in range(half):
            logs[half + rest] = logs[rest] + sums[rest]


@compiled
def connected_within(relations: int, neighbours: Masks) -> bool:
    """Tell whether a set's induced subgraph is connected; ``neighbours`` has a mask for each relation."""
    reached = relations & -relations
    frontier = reached
    while frontier:
        grown = 0
        relation = 0
        while frontier:
            if frontier & 1:
                grown |= neighbours[relation]
            frontier >>= 1
            relation += 1
        frontier = grown & relations & ~reached
        reached |= frontier
    return reached == relations


@compiled
def candidates(logs: Floats, neighbours: Masks, log_limit: float, alive: Flags) -> float:
    """Mark the connected subsets with rows up to a limit; return how many splits of them there are."""
    splits = 0.0
    for relations in range(1, logs.size):
        alive[relations] = logs[relations] <= log_limit and connected_within(relations, neighbours)
        if alive[relations]:
            members = 0
            rest = relations
            while rest:
                rest &= rest - 1
                members += 1
            splits += float(1 << (members - 1))
    return splits


@compiled
def subset_dp(logs: Floats, shift: float, alive: Flags, costs: Floats, splits: Masks) -> float:
    """Find the best bushy tree over all relations by trying each split of each marked set; return its cost."""
    for relations in range(1, logs.size):
        costs[relations] = np.inf
        if relations & (relations - 1) == 0:
            costs[relations] = 0.0
            continue
        if not alive[relations]:
            continue
        best = np.inf
        chosen = 0
        lowest = relations & -relations
        rest = relations ^ lowest
        part = rest
        while part:  # the part without the lowest relation: each split is seen once
            cost = costs[part] + costs[relations ^ part]
            if cost < best:
                best = cost
                chosen = part
            part = (part - 1) & rest
        if chosen:
            costs[relations] = best + np.exp(min(logs[relations] - shift, 700.0))
            splits[relations] = chosen
    return float(costs[logs.size - 1])


@compiled
def tree_dp(
    logs: Floats, shift: float, below: Masks, above: Masks, alive: Flags, costs: Floats, splits: Masks
) -> float:
    """Do as `subset_dp` where the join graph is a tree: a connected set splits only along its edges.

    ``below[v]`` is the mask of v and all under it, ``above[v]`` that of v's parent, 0 for the root.
    """
    n = below.size
    for relations in range(1, logs.size):
        costs[relations] = np.inf
        if relations & (relations - 1) == 0:
            costs[relations] = 0.0
            continue
        if not alive[relations]:
            continue
        best = np.inf
        chosen = 0
        for child in range(n):
            if (relations >> child) & 1 and relations & above[child]:
                part = relations & below[child]
                cost = costs[part] + costs[relations ^ part]
                if cost < best:
                    best = cost
                    chosen = part
        if chosen:
            costs[relations] = best + np.exp(min(logs[relations] - shift, 700.0))
            splits[relations] = chosen
    return float(costs[logs.size - 1])


@compiled
def interval_dp(
    order: Masks, log_rows: Floats, log_selectivity: Floats, joined: Flags, shift: float, costs: Floats, cuts: Masks
) -> float:
    """Find the best bushy tree whose leaves stand in a given order (linearised DP); return its cost.

    Above the diagonal ``costs[i, j]`` is the cost of the interval, ``cuts[i, j]`` the last position of its left part;
    below it the same costs stand mirrored, so that both parts of a split are read from consecutive places.
    Infinite if no tree of this order does without a pair of parts that ``joined`` does not join.
    """
    n = order.size
    logs = np.empty((n, n))
    edges = np.zeros((n, n), dtype=np.int64)
    for j in range(n):
        logs[j, j] = log_rows[order[j]]
        costs[j, j] = 0.0
        added = logs[j, j]
        met = 0
        for i in range(j - 1, -1, -1):
            added += log_selectivity[order[i], order[j]]
            met += joined[order[i], order[j]]
            logs[i, j] = logs[i, j - 1] + added
            edges[i, j] = edges[i, j - 1] + met
    for j in range(1, n):
        for i in range(j - 1, -1, -1):
            best = np.inf
            cut = -1
            for k in range(i, j):
                cost = costs[i, k] + costs[j, k + 1]
                if cost < best and edges[i, j] > edges[i, k] + edges[k + 1, j]:
                    best = cost
                    cut = k
            cuts[i, j] = cut
            if cut >= 0:
                best += np.exp(min(logs[i, j] - shift, 700.0))
            costs[i, j] = best
            costs[j, i] = best
    return float(costs[0, n - 1])
