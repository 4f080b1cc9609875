"""Annealing where one of several plans is taken for each statement: thermal, and in a transverse field.

A state is one plan for each statement at every moment, so no penalty is needed for the rule that there be exactly one.
The energy is ``sum of costs - sum of savings`` of pairs that are taken together; what a plan would add to it, given the
others, is its *marginal cost*, and a move changes the energy by the difference of two marginal costs.

The transverse field acts on a statement with m plans as the hopping ``-G sum |a><b|`` over all pairs a, b of them. One
Trotter step of length t = G / (P T) has the weights

    <a|exp(t A)|a> ~ e^{tm} - 1 + m,    <a|exp(t A)|b> ~ e^{tm} - 1      (A: ones off the diagonal, 0 on it)

so a neighbouring slice that has the same plan adds ``ln(1 + m / (e^{tm} - 1))`` to the logarithm of a state's weight.
For m = 2 that is the Ising bond -ln tanh t of Santoro et al., Science 295, 2427 (2002). Both samplers make the same
move (another plan for one statement, by Metropolis) and end in the same descent. Classical algorithms, both.

Arrays: q statements, P plans in all, plans of statement g are ``starts[g]`` to ``starts[g + 1]``. Links are pairs in
compressed rows: those of plan p are ``link_starts[p]`` to ``link_starts[p + 1]``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sql_synthesizer.joins.compiled import compiled

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

DESCENT_ROUNDS = 1000
"""Bound on the rounds of a descent; it ends by itself when a round changes nothing, mostly after about five."""


class Terms(NamedTuple):
    """The energy, as the loops read it.

    Attributes:
        costs: (P,).
        starts: (q + 1,).
        link_starts: (P + 1,).
        link_plans, link_savings: (2 E,), each pair from both of its ends.
    """

    costs: Floats
    starts: Indices
    link_starts: Indices
    link_plans: Indices
    link_savings: Floats


@compiled
def marginal_costs(terms: Terms, chosen: Indices) -> Floats:
    """Return what each plan would cost beside the chosen ones of the other statements, (P,)."""
    field = np.empty(len(terms.costs))
    for plan in range(len(field)):
        field[plan] = terms.costs[plan]
    for plan in chosen:
        for link in range(terms.link_starts[plan], terms.link_starts[plan + 1]):
            field[terms.link_plans[link]] -= terms.link_savings[link]
    return field


@compiled
def take(terms: Terms, field: Floats, old: int, new: int) -> None:
    """Replace one plan by another in the marginal costs."""
    for link in range(terms.link_starts[old], terms.link_starts[old + 1]):
        field[terms.link_plans[link]] += terms.link_savings[link]
    for link in range(terms.link_starts[new], terms.link_starts[new + 1]):
        field[terms.link_plans[link]] -= terms.link_savings[link]


@compiled
def _copy(source: Indices, target: Indices) -> None:
    """Overwrite an array; a loop, because slices take seconds to compile."""
    for g in range(len(source)):
        target[g] = source[g]


@compiled
def descend(terms: Terms, chosen: Indices, field: Floats, tolerance: float) -> float:
    """Give each statement its best plan until that changes nothing, in place; return by how much the energy fell."""
    fallen = 0.0
    for _ in range(DESCENT_ROUNDS):
        changed = False
        for g in range(len(chosen)):
            old = chosen[g]
            best = old
            for plan in range(terms.starts[g], terms.starts[g + 1]):
                if field[plan] < field[best] - tolerance:
                    best = plan
            if best != old:
                fallen += field[old] - field[best]
                take(terms, field, old, best)
                chosen[g] = best
                changed = True
        if not changed:
            break
    return fallen


@compiled
def thermal_chain(terms: Terms, start: Indices, temperatures: Floats, seed: int, tolerance: float) -> Indices:
    """Return the best choice of one chain after its descent, (q,). One sweep for each temperature."""
    np.random.seed(seed)
    chosen, best = np.empty_like(start), np.empty_like(start)
    _copy(start, chosen)
    _copy(start, best)
    field = marginal_costs(terms, chosen)
    energy, best_energy = 0.0, 0.0
    for temperature in temperatures:
        for g in range(len(chosen)):
            first, size = terms.starts[g], terms.starts[g + 1] - terms.starts[g]
            if size == 1:
                continue
            old = chosen[g]
            new = first + (old - first + 1 + int(np.random.random() * (size - 1))) % size
            change = field[new] - field[old]
            if change <= 0.0 or np.random.random() < math.exp(-change / temperature):
                take(terms, field, old, new)
                chosen[g] = new
                energy += change
        if energy < best_energy - tolerance:
            best_energy = energy
            _copy(chosen, best)
    energy -= descend(terms, chosen, field, tolerance)
    best_energy -= descend(terms, best, marginal_costs(terms, best), tolerance)
    if energy < best_energy:
        _copy(chosen, best)
    return best


@compiled
def bond(plans: int, step: float) -> float:
    """Return what a neighbouring slice with the same plan adds to the logarithm of a weight; see above."""
    return math.log1p(plans / math.expm1(step * plans))


@compiled
def _slice_sweep(terms: Terms, rings: Indices, fields: Floats, k: int, bonds: Floats, beta: float) -> float:
    """Try another plan for each statement in slice k, in place; return the change of its energy."""
    slices = len(rings)
    before, after = rings[k - 1], rings[(k + 1) % slices]
    total = 0.0
    for g in range(rings.shape[1]):
        first, size = terms.starts[g], terms.starts[g + 1] - terms.starts[g]
        if size == 1:
            continue
        old = rings[k, g]
        new = first + (old - first + 1 + int(np.random.random() * (size - 1))) % size
        change = fields[k, new] - fields[k, old]
        agreement = (before[g] == new) + (after[g] == new) - (before[g] == old) - (after[g] == old)
        exponent = bonds[g] * agreement - beta * change
        if exponent >= 0.0 or np.random.random() < math.exp(exponent):
            take(terms, fields[k], old, new)
            rings[k, g] = new
            total += change
    return total


@compiled
def _exchange(terms: Terms, rings: Indices, fields: Floats, energies: Floats, beta: float) -> None:
    """Try one global move: two plans of a statement change places in all slices, which leaves the bonds as they are."""
    g = int(np.random.random() * rings.shape[1])
    first, size = terms.starts[g], terms.starts[g + 1] - terms.starts[g]
    if size == 1:
        return
    a = first + int(np.random.random() * size)
    b = first + (a - first + 1 + int(np.random.random() * (size - 1))) % size
    change = 0.0
    for k in range(len(rings)):
        if rings[k, g] == a:
            change += fields[k, b] - fields[k, a]
        elif rings[k, g] == b:
            change += fields[k, a] - fields[k, b]
    if change > 0.0 and np.random.random() >= math.exp(-beta * change):
        return
    for k in range(len(rings)):
        old = rings[k, g]
        if old in (a, b):
            new = b if old == a else a
            energies[k] += fields[k, new] - fields[k, old]
            take(terms, fields[k], old, new)
            rings[k, g] = new


@compiled
def _keep_best(rings: Indices, energies: Floats, best: Indices, best_energy: float, tolerance: float) -> float:
    """Copy the best slice to ``best`` if it is better; return the energy of the best of all times."""
    for k in range(len(rings)):
        if energies[k] < best_energy - tolerance:
            best_energy = energies[k]
            _copy(rings[k], best)
    return best_energy


@compiled
def quantum_ring(
    terms: Terms,
    rings: Indices,
    steps: Floats,
    temperature: float,
    global_moves: int,
    seed: int,
    tolerance: float,
) -> Indices:
    """Return the best choice that one ring of slices meets, after a descent of each slice, (q,).

    Args:
        rings: (slices, q) where the slices begin; is overwritten.
        steps: the transverse field of each sweep in units of ``temperature``, falling.
        temperature: P T in units of the energy.
        global_moves: exchanges tried after each sweep.
    """
    np.random.seed(seed)
    slices, statements = rings.shape
    fields = np.empty((slices, len(terms.costs)))
    energies = np.zeros(slices)
    bonds = np.empty(statements)
    for k in range(slices):
        field = marginal_costs(terms, rings[k])
        for plan in range(len(field)):
            fields[k, plan] = field[plan]
        # Each pair's saving lowers the marginal cost of both its ends: half of each makes it count once.
        for plan in rings[k]:
            energies[k] += 0.5 * (field[plan] + terms.costs[plan])
    best: Indices = np.empty_like(rings[0])
    best_energy = _keep_best(rings, energies, best, np.inf, 0.0)
    for step in steps:
        for g in range(statements):
            bonds[g] = bond(terms.starts[g + 1] - terms.starts[g], step)
        for k in range(slices):
            energies[k] += _slice_sweep(terms, rings, fields, k, bonds, 1.0 / temperature)
        for _ in range(global_moves):
            _exchange(terms, rings, fields, energies, 1.0 / temperature)
        best_energy = _keep_best(rings, energies, best, best_energy, tolerance)
    for k in range(slices):
        energies[k] -= descend(terms, rings[k], fields[k], tolerance)
    _keep_best(rings, energies, best, best_energy, tolerance)
    return best
