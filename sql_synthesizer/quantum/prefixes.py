"""Annealing on the prefixes of a join order: thermal, and in a transverse field.

A state is an order of all relations. The move exchanges two relations; in the bits of the prefix QUBO
(``sql_synthesizer.quantum.prefix_qubo``) it turns one bit on and one off in each prefix between the two, so that every
prefix keeps its size and holds the one before. The field acts on these bits: a neighbouring slice that has the same
bit adds ``-ln tanh(G / (P T))`` to the logarithm of a state's weight (Santoro et al., Science 295, 2427, 2002).

Arrays: n relations, ``order`` holds the relation at each place. Prefix k is the first k places; those from 2 to n - 1
are counted, for the first is no join and the last is the same for every order.
"""

from __future__ import annotations

import math

import numpy as np

from sql_synthesizer.joins.compiled import compiled
from sql_synthesizer.quantum.onehot import Floats, Indices


@compiled
def exchange_change(log_rows: Floats, log_selectivity: Floats, order: Indices, i: int, j: int) -> float:
    """Return by how much the sum of log cardinalities changes when the relations at places i < j change places."""
    a, b = order[i], order[j]
    step = log_rows[b] - log_rows[a]
    for place in range(i):
        step += log_selectivity[b, order[place]] - log_selectivity[a, order[place]]
    change = step if i > 0 else 0.0
    for place in range(i + 1, j):
        step += log_selectivity[b, order[place]] - log_selectivity[a, order[place]]
        change += step
    return change


@compiled
def _agreement(places: Indices, a: int, b: int, i: int, j: int) -> int:
    """Return how many more bits agree with a neighbouring slice once a leaves prefixes i + 1 to j and b enters them.

    ``places`` holds the place of each relation in that slice.
    """
    more = 0
    for size in range(max(2, i + 1), j + 1):
        more += 1 if places[a] >= size else -1
        more += 1 if places[b] < size else -1
    return more


@compiled
def _draw(n: int) -> tuple[int, int]:
    """Return two different places, the lower first."""
    i = int(np.random.random() * n)
    j = (i + 1 + int(np.random.random() * (n - 1))) % n
    return min(i, j), max(i, j)


@compiled
def descend_order(log_rows: Floats, log_selectivity: Floats, order: Indices) -> float:
    """Exchange relations while that lowers the sum, in place; return by how much it fell."""
    n, fallen = len(order), 0.0
    changed = True
    while changed:
        changed = False
        for i in range(n - 1):
            for j in range(i + 1, n):
                change = exchange_change(log_rows, log_selectivity, order, i, j)
                if change < -1e-9:
                    order[i], order[j] = order[j], order[i]
                    fallen -= change
                    changed = True
    return fallen


@compiled
def thermal_orders(
    log_rows: Floats, log_selectivity: Floats, start: Indices, temperatures: Floats, seed: int
) -> Indices:
    """Return the best order of one chain after its descent, (n,). A sweep is n tries of an exchange."""
    np.random.seed(seed)
    n = len(start)
    order, best = start.copy(), start.copy()
    energy, best_energy = 0.0, 0.0
    for temperature in temperatures:
        for _ in range(n):
            i, j = _draw(n)
            change = exchange_change(log_rows, log_selectivity, order, i, j)
            if change <= 0.0 or np.random.random() < math.exp(-change / temperature):
                order[i], order[j] = order[j], order[i]
                energy += change
        if energy < best_energy - 1e-9:
            best_energy = energy
            for place in range(n):
                best[place] = order[place]
    energy -= descend_order(log_rows, log_selectivity, order)
    best_energy -= descend_order(log_rows, log_selectivity, best)
    return order if energy < best_energy else best


@compiled
def _slice_sweep(
    log_rows: Floats, log_selectivity: Floats, orders: Indices, places: Indices, k: int, bond: float, beta: float
) -> float:
    """Try n exchanges in slice k, in place; return the change of its energy."""
    slices, n = orders.shape
    order, total = orders[k], 0.0
    for _ in range(n):
        i, j = _draw(n)
        a, b = order[i], order[j]
        change = exchange_change(log_rows, log_selectivity, order, i, j)
        exponent = -beta * change
        exponent += bond * _agreement(places[k - 1], a, b, i, j)
        exponent += bond * _agreement(places[(k + 1) % slices], a, b, i, j)
        if exponent >= 0.0 or np.random.random() < math.exp(exponent):
            order[i], order[j] = b, a
            places[k, a], places[k, b] = j, i
            total += change
    return total


@compiled
def _rename(
    log_rows: Floats, log_selectivity: Floats, orders: Indices, places: Indices, energies: Floats, beta: float
) -> None:
    """Try one global move: two relations change places in all slices, which leaves the bonds as they are."""
    a, b = _draw(orders.shape[1])
    changes = np.empty(len(orders))
    total = 0.0
    for k in range(len(orders)):
        i, j = min(places[k, a], places[k, b]), max(places[k, a], places[k, b])
        changes[k] = exchange_change(log_rows, log_selectivity, orders[k], i, j)
        total += changes[k]
    if total > 0.0 and np.random.random() >= math.exp(-beta * total):
        return
    for k in range(len(orders)):
        i, j = places[k, a], places[k, b]
        orders[k, i], orders[k, j] = b, a
        places[k, a], places[k, b] = j, i
        energies[k] += changes[k]


@compiled
def quantum_orders(
    log_rows: Floats,
    log_selectivity: Floats,
    orders: Indices,
    steps: Floats,
    temperature: float,
    global_moves: int,
    seed: int,
) -> Indices:
    """Return each slice's order after its descent, (slices, n): the same array, which is overwritten.

    Args:
        orders: (slices, n) where the slices begin.
        steps: the transverse field of each sweep in units of ``temperature``, falling.
        temperature: P T in units of the energy.
        global_moves: tried after each sweep.
    """
    np.random.seed(seed)
    slices, n = orders.shape
    places = np.empty_like(orders)
    energies = np.zeros(slices)
    for k in range(slices):
        for place in range(n):
            places[k, orders[k, place]] = place
    for step in steps:
        bond = -math.log(math.tanh(step))
        for k in range(slices):
            energies[k] += _slice_sweep(log_rows, log_selectivity, orders, places, k, bond, 1.0 / temperature)
        for _ in range(global_moves):
            _rename(log_rows, log_selectivity, orders, places, energies, 1.0 / temperature)
    for k in range(slices):
        descend_order(log_rows, log_selectivity, orders[k])
    return orders
