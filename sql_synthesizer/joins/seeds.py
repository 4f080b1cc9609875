"""Quick orders to start from: greedy operator ordering, IKKBZ, and the most selective predicate first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sql_synthesizer.joins.compiled import compiled

Floats = NDArray[np.float64]
Masks = NDArray[np.int64]
Flags = NDArray[np.bool_]


@compiled
def greedy_operators(log_rows: Floats, log_selectivity: Floats, joined: Flags) -> Masks:
    """Join the two parts whose join has the fewest rows until one is left (Fegaras, DEXA 1998).

    Returns:
        The pairs that were joined, (n - 1, 2): nodes below n are relations, node n + i is the result of pair i.
    """
    n = log_rows.size
    rows = log_rows.copy()
    between = log_selectivity.copy()
    linked = joined.copy()
    node = np.arange(n)
    living = np.ones(n, dtype=np.bool_)
    pairs = np.empty((n - 1, 2), dtype=np.int64)
    for step in range(n - 1):
        best = np.inf
        a, b = -1, -1
        for i in range(n):
            if not living[i]:
                continue
            for j in range(i + 1, n):
                if living[j] and linked[i, j] and (a < 0 or rows[i] + rows[j] + between[i, j] < best):
                    best = rows[i] + rows[j] + between[i, j]
                    a, b = i, j
        pairs[step, 0], pairs[step, 1] = node[a], node[b]
        node[a] = n + step
        rows[a] = best
        living[b] = False
        for k in range(n):
            between[a, k] += between[b, k]
            between[k, a] = between[a, k]
            linked[a, k] = linked[a, k] or linked[b, k]
            linked[k, a] = linked[a, k]
    return pairs


@compiled
def spanning_tree(log_selectivity: Floats, joined: Flags, root: int, parents: Masks, preorder: Masks) -> None:
    """Grow the tree of the most selective predicates from a root (Prim); parents come before their children."""
    n = parents.size
    waiting = np.ones(n, dtype=np.bool_)
    keys = np.full(n, np.inf)
    for v in range(n):
        parents[v] = -1
    added = root
    for step in range(n):
        preorder[step] = added
        waiting[added] = False
        following = -1
        for v in range(n):
            if not waiting[v]:
                continue
            if joined[added, v] and log_selectivity[added, v] < keys[v]:
                keys[v] = log_selectivity[added, v]
                parents[v] = added
            if keys[v] < np.inf and (following < 0 or keys[v] < keys[following]):
                following = v
        added = following


@compiled
def ikkbz_order(log_rows: Floats, log_selectivity: Floats, parents: Masks, preorder: Masks) -> Masks:
    """Return the best left-deep order of a tree of predicates from its root on (Ibaraki, Kameda; Krishnamurthy et al.).

    Each subtree becomes a list of modules that grow in rank (T - 1) / C; where a parent's rank is above that of its
    first module the two become one. T and C are a module's factor of rows and its cost.
    """
    n = parents.size
    factor = np.ones(n)
    cost = np.zeros(n)
    follower = np.full(n, -1)  # the next relation within a module
    last = np.arange(n)  # the last relation of the module that begins here
    behind = np.full(n, -1)  # the next module's first relation
    below = np.full(n, -1)  # the first module of the lists of the children that are done, merged
    for position in range(n - 1, 0, -1):
        v = preorder[position]
        parent = parents[v]
        factor[v] = np.exp(max(min(log_rows[v] + log_selectivity[parent, v], 300.0), -300.0))
        cost[v] = factor[v]
        behind[v] = below[v]
        after = behind[v]
        while after >= 0 and (factor[v] - 1.0) * cost[after] > (factor[after] - 1.0) * cost[v]:
            cost[v] = min(cost[v] + factor[v] * cost[after], 1e150)
            factor[v] = min(factor[v] * factor[after], 1e150)
            follower[last[v]] = after
            last[v] = last[after]
            after = behind[after]
            behind[v] = after
        one, other, end = v, below[parent], -1
        head = -1
        while one >= 0 or other >= 0:
            first = other < 0 or (one >= 0 and (factor[one] - 1.0) * cost[other] <= (factor[other] - 1.0) * cost[one])
            taken = one if first else other
            if first:
                one = behind[one]
            else:
                other = behind[other]
            if end < 0:
                head = taken
            else:
                behind[end] = taken
            end = taken
        behind[end] = -1
        below[parent] = head
    order = np.empty(n, dtype=np.int64)
    order[0] = preorder[0]
    count = 1
    module = below[preorder[0]]
    while module >= 0:
        relation = module
        while relation >= 0:
            order[count] = relation
            count += 1
            relation = follower[relation]
        module = behind[module]
    return order


@compiled
def left_deep_cost(order: Masks, log_rows: Floats, log_selectivity: Floats, shift: float) -> float:
    """Return C_out, relative, of joining relations one after the other."""
    log = log_rows[order[0]]
    total = 0.0
    for j in range(1, order.size):
        log += log_rows[order[j]]
        for i in range(j):
            log += log_selectivity[order[i], order[j]]
        total += np.exp(min(log - shift, 700.0))
    return total


@compiled
def ikkbz(log_rows: Floats, log_selectivity: Floats, joined: Flags, shift: float) -> tuple[float, Masks]:
    """Return the best of IKKBZ's orders over all roots of the tree of the most selective predicates, and its cost."""
    n = log_rows.size
    parents = np.empty(n, dtype=np.int64)
    preorder = np.empty(n, dtype=np.int64)
    best = np.inf
    best_order = np.arange(n)
    for root in range(n):
        spanning_tree(log_selectivity, joined, root, parents, preorder)
        order = ikkbz_order(log_rows, log_selectivity, parents, preorder)
        cost = left_deep_cost(order, log_rows, log_selectivity, shift)
        if cost < best:
            best = cost
            best_order = order
    return best, best_order
