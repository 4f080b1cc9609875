"""Better join trees from good ones: annealing of leaf orders, and exact search in the neighbourhood of a tree.

A tree is an array of pairs (n - 1, 2): nodes below n are relations, node n + i is the result of pair i. All random
numbers come in as arguments, so that a search can be repeated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sql_synthesizer.joins.compiled import compiled
from sql_synthesizer.joins.exact import candidates, interval_dp, subset_dp, subset_logs

Floats = NDArray[np.float64]
Masks = NDArray[np.int64]
Flags = NDArray[np.bool_]


@compiled
def moved(order: Masks, draws: Floats, into: Masks) -> None:
    """Write the order after a random move into ``into``: two relations exchanged, one moved, or a stretch reversed."""
    n = order.size
    i = int(draws[0] * n)
    j = int(draws[1] * (n - 1))
    if j >= i:
        j += 1
    kind = 0 if draws[2] < 0.4 else 1 if draws[2] < 0.8 else 2
    low, high = min(i, j), max(i, j)
    for k in range(n):
        source = k
        if low <= k <= high:
            if kind == 0:
                source = j if k == i else i if k == j else k
            elif kind == 2:
                source = low + high - k
            elif k == j:
                source = i
            else:
                source = k + 1 if i < j else k - 1
        into[k] = order[source]


@compiled
def anneal_orders(
    order: Masks,
    best_order: Masks,
    state: Floats,
    log_rows: Floats,
    log_selectivity: Floats,
    joined: Flags,
    shift: float,
    temperature: float,
    draws: Floats,
) -> None:
    """Make one Metropolis move for each row of ``draws`` on a leaf order whose energy is the log cost of its best tree.

    ``order`` and ``best_order``, at first the same, change in place; ``state`` holds their energies, at first infinite.
    """
    n = order.size
    costs = np.empty((n, n))
    cuts = np.empty((n, n), dtype=np.int64)
    tried = np.empty(n, dtype=np.int64)
    if state[0] == np.inf:
        state[0] = np.log(interval_dp(order, log_rows, log_selectivity, joined, shift, costs, cuts))
        state[1] = state[0]
    for row in range(draws.shape[0]):
        moved(order, draws[row], tried)
        energy = np.log(interval_dp(tried, log_rows, log_selectivity, joined, shift, costs, cuts))
        if energy <= state[0] or draws[row, 3] < np.exp((state[0] - energy) / temperature):
            state[0] = energy
            for k in range(n):
                order[k] = tried[k]
        if energy < state[1]:
            state[1] = energy
            for k in range(n):
                best_order[k] = tried[k]


@compiled
def prefix_logs(
    order: Masks, low: int, high: int, log_rows: Floats, log_selectivity: Floats, joined: Flags, logs: Floats
) -> bool:
    """Fill in the logarithms of the rows of the prefixes that end at ``low`` to ``high``; tell if all hang together."""
    whole = True
    for p in range(low, high + 1):
        new = order[p]
        added = log_rows[new]
        met = p == 0
        for i in range(p):
            added += log_selectivity[order[i], new]
            met |= joined[order[i], new]
        logs[p] = added if p == 0 else logs[p - 1] + added
        whole &= met
    return whole


@compiled
def changed(order: Masks, tried: Masks) -> tuple[int, int]:
    """Return the first and the last position where two orders differ; they do."""
    low, high = 0, order.size - 1
    while low < high and tried[low] == order[low]:
        low += 1
    while high > low and tried[high] == order[high]:
        high -= 1
    return low, high


@compiled
def total_rows(logs: Floats, shift: float) -> float:
    """Return the sum of the rows of all prefixes but the first, relative."""
    total = 0.0
    for p in range(1, logs.size):
        total += np.exp(min(logs[p] - shift, 700.0))
    return total


@compiled
def anneal_prefixes(
    order: Masks,
    best_order: Masks,
    state: Floats,
    log_rows: Floats,
    log_selectivity: Floats,
    joined: Flags,
    shift: float,
    temperature: float,
    draws: Floats,
) -> None:
    """Do as `anneal_orders`, but with the log cost of the left-deep tree: a move costs as many steps as it is wide."""
    n = order.size
    now = np.empty(n)
    if prefix_logs(order, 0, n - 1, log_rows, log_selectivity, joined, now) and state[0] == np.inf:
        state[0] = np.log(total_rows(now, shift))
        state[1] = state[0]
    logs = now.copy()
    tried = order.copy()
    for row in range(draws.shape[0]):
        moved(order, draws[row], tried)
        low, high = changed(order, tried)
        if not prefix_logs(tried, low, high, log_rows, log_selectivity, joined, logs):
            energy = np.inf
        else:
            energy = np.log(total_rows(logs, shift))
        if energy <= state[0] or draws[row, 3] < np.exp((state[0] - energy) / temperature):
            state[0] = energy
        else:
            for p in range(low, high + 1):
                tried[p], logs[p] = order[p], now[p]
        for p in range(low, high + 1):
            order[p], now[p] = tried[p], logs[p]
        if state[0] < state[1]:
            state[1] = state[0]
            for p in range(n):
                best_order[p] = order[p]


@compiled
def node_logs(pairs: Masks, log_rows: Floats, log_selectivity: Floats, logs: Floats) -> None:
    """Fill in the logarithm of the rows of each node of a tree."""
    n = log_rows.size
    owner = np.arange(n)  # the highest node so far that holds a relation
    for i in range(n):
        logs[i] = log_rows[i]
    for step in range(n - 1):
        one, other = pairs[step, 0], pairs[step, 1]
        total = logs[one] + logs[other]
        for i in range(n):
            if owner[i] == one:
                for j in range(n):
                    if owner[j] == other:
                        total += log_selectivity[i, j]
        logs[n + step] = total
        for i in range(n):
            if owner[i] == one or owner[i] == other:
                owner[i] = n + step


@compiled
def choose_units(pairs: Masks, draws: Floats, most: int, units: Masks, inner: Masks) -> int:
    """Choose a random join and open it, and random joins below it, up to ``most`` parts; return how many parts.

    ``units`` receives the parts, ``inner`` the joins that were opened, the top first.
    """
    n = pairs.shape[0] + 1
    top = int(draws[0] * (n - 1))
    inner[0] = top
    units[0], units[1] = pairs[top, 0], pairs[top, 1]
    count = 2
    while count < most:
        openable = 0
        for u in range(count):
            openable += units[u] >= n
        if openable == 0:
            break
        pick = int(draws[count] * openable)
        for u in range(count):
            if units[u] < n:
                continue
            if pick == 0:
                opened = units[u] - n
                inner[count - 1] = opened
                units[u], units[count] = pairs[opened, 0], pairs[opened, 1]
                break
            pick -= 1
        count += 1
    return count


@compiled
def between_units(
    pairs: Masks, units: Masks, log_selectivity: Floats, joined: Flags, between: Floats, neighbours: Masks
) -> None:
    """Fill in what the predicates between each two parts of a tree keep, and which parts are neighbours."""
    n = pairs.shape[0] + 1
    owner = np.full(n, -1)
    held = np.empty(n, dtype=np.int64)
    stack = np.empty(n, dtype=np.int64)
    count = 0
    for u in range(units.size):
        depth = 1
        stack[0] = units[u]
        while depth:
            depth -= 1
            node = stack[depth]
            if node < n:
                owner[node] = u
                held[count] = node
                count += 1
            else:
                stack[depth], stack[depth + 1] = pairs[node - n, 0], pairs[node - n, 1]
                depth += 2
    for u in range(units.size):
        neighbours[u] = 0
        for v in range(units.size):
            between[u, v] = 0.0
    for a in range(count):
        i = held[a]
        for b in range(a):
            j = held[b]
            if owner[i] != owner[j] and joined[i, j]:
                u, v = owner[i], owner[j]
                between[u, v] += log_selectivity[i, j]
                between[v, u] = between[u, v]
                neighbours[u] |= 1 << v
                neighbours[v] |= 1 << u


@compiled
def rebuild(pairs: Masks, logs: Floats, units: Masks, inner: Masks, splits: Masks, subset: Floats) -> None:
    """Put the best tree over the parts in the place of the joins that were opened; the top keeps its place."""
    n = pairs.shape[0] + 1
    k = units.size
    stack = np.empty((k, 2), dtype=np.int64)
    stack[0, 0], stack[0, 1] = (1 << k) - 1, inner[0]
    depth, used = 1, 1
    while depth:
        depth -= 1
        relations, place = stack[depth, 0], stack[depth, 1]
        logs[n + place] = subset[relations]
        for side in range(2):
            part = splits[relations] if side == 0 else relations ^ splits[relations]
            if part & (part - 1) == 0:
                unit = 0
                while part >> (unit + 1):
                    unit += 1
                pairs[place, side] = units[unit]
            else:
                pairs[place, side] = n + inner[used]
                stack[depth, 0], stack[depth, 1] = part, inner[used]
                depth += 1
                used += 1


@compiled
def search_neighbourhood(
    pairs: Masks, logs: Floats, log_selectivity: Floats, joined: Flags, shift: float, most: int, draws: Floats
) -> int:
    """Reorder random parts of a tree exactly, once for each row of ``draws``; return how often that was better.

    ``pairs`` and ``logs`` (see `node_logs`) change in place; parts no longer stand before what holds them.
    """
    n = pairs.shape[0] + 1
    units = np.empty(most, dtype=np.int64)
    inner = np.empty(most, dtype=np.int64)
    between = np.empty((most, most))
    neighbours = np.empty(most, dtype=np.int64)
    subset = np.empty(1 << most)
    alive = np.empty(1 << most, dtype=np.bool_)
    costs = np.empty(1 << most)
    splits = np.empty(1 << most, dtype=np.int64)
    found = 0
    for row in range(draws.shape[0]):
        count = choose_units(pairs, draws[row], most, units, inner)
        if count < 3:
            continue
        now = 0.0
        for step in range(count - 1):
            now += np.exp(min(logs[n + inner[step]] - shift, 700.0))
        between_units(pairs, units[:count], log_selectivity, joined, between[:count, :count], neighbours[:count])
        size = 1 << count
        subset_logs(logs[units[:count]], between[:count, :count], subset[:size])
        candidates(subset[:size], neighbours[:count], np.log(now) + shift, alive[:size])
        cost = subset_dp(subset[:size], shift, alive[:size], costs[:size], splits[:size])
        if cost < now * (1.0 - 1e-12):
            rebuild(pairs, logs, units[:count], inner, splits, subset)
            found += 1
    return found
