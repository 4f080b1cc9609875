"""Branch and bound for plan selection: a proof that no choice of plans is cheaper, where one is found soon.

Statements are decided in their order. Of the undecided ones each takes at least the least of its plans' marginal cost
less half of the most that each other undecided statement could save with that plan: a pair of undecided plans is then
counted half from either end, so that the sum is never above the cost of any completion.
"""

from __future__ import annotations

import numpy as np

from sql_synthesizer.joins.compiled import compiled
from sql_synthesizer.quantum.onehot import Floats, Indices, Terms


def prove(terms: Terms, incumbent: Indices, cost: float, tolerance: float, max_nodes: int) -> tuple[Indices, bool]:
    """Return the cheapest choice met, (q,), and whether it is proven that none is cheaper by more than ``tolerance``.

    Args:
        incumbent: (q,) a choice to begin with, of cost ``cost``.
        max_nodes: partial choices to look at.
    """
    best = incumbent.copy()
    proven = _search(terms, best, cost, _reach(terms), tolerance, max_nodes)
    return best, bool(proven)


@compiled
def _reach(terms: Terms) -> Floats:
    """Return half of the most that plan p can save with statements g, g + 1, ... , its own not among them, (q, P)."""
    statements = len(terms.starts) - 1
    plans = len(terms.costs)
    owner = np.empty(plans, dtype=np.int64)
    for g in range(statements):
        for plan in range(terms.starts[g], terms.starts[g + 1]):
            owner[plan] = g
    reach = np.zeros((statements + 1, plans))
    for plan in range(plans):
        for link in range(terms.link_starts[plan], terms.link_starts[plan + 1]):
            g = owner[terms.link_plans[link]]
            reach[g, plan] = max(reach[g, plan], 0.5 * terms.link_savings[link])
    for g in range(statements - 1, -1, -1):
        for plan in range(plans):
            reach[g, plan] += reach[g + 1, plan]
    return reach


@compiled
def _bound(terms: Terms, field: Floats, reach: Floats, depth: int) -> float:
    """Return the least that statements from ``depth`` on can add."""
    total = 0.0
    for g in range(depth, len(terms.starts) - 1):
        least = np.inf
        for plan in range(terms.starts[g], terms.starts[g + 1]):
            least = min(least, field[plan] - reach[depth, plan])
        total += least
    return total


@compiled
def _search(terms: Terms, best: Indices, best_cost: float, reach: Floats, tolerance: float, max_nodes: int) -> bool:
    """Walk the tree depth first, cheapest plan first; keep the best in place; return whether all of it was seen."""
    statements = len(best)
    field = np.empty(len(terms.costs))
    for plan in range(len(field)):
        field[plan] = terms.costs[plan]
    ranks = np.empty(len(terms.costs), dtype=np.int64)  # plans of an open statement, by rising marginal cost
    place = np.zeros(statements, dtype=np.int64) - 1
    values = np.zeros(statements + 1)
    depth, nodes = 0, 0
    while depth >= 0:
        first, last = terms.starts[depth], terms.starts[depth + 1]
        if place[depth] < 0:
            _rank(field, ranks, first, last)
        else:
            _undo(terms, field, ranks[first + place[depth]])
        place[depth] += 1
        if first + place[depth] == last:
            place[depth] = -1
            depth -= 1
            continue
        plan = ranks[first + place[depth]]
        values[depth + 1] = values[depth] + field[plan]
        _apply(terms, field, plan)
        nodes += 1
        if nodes > max_nodes:
            return False
        if values[depth + 1] + _bound(terms, field, reach, depth + 1) >= best_cost - tolerance:
            continue
        if depth + 1 == statements:
            best_cost = values[statements]
            for g in range(statements):
                best[g] = ranks[terms.starts[g] + place[g]]
        else:
            depth += 1
    return True


@compiled
def _apply(terms: Terms, field: Floats, plan: int) -> None:
    for link in range(terms.link_starts[plan], terms.link_starts[plan + 1]):
        field[terms.link_plans[link]] -= terms.link_savings[link]


@compiled
def _undo(terms: Terms, field: Floats, plan: int) -> None:
    for link in range(terms.link_starts[plan], terms.link_starts[plan + 1]):
        field[terms.link_plans[link]] += terms.link_savings[link]


@compiled
def _rank(field: Floats, ranks: Indices, first: int, last: int) -> None:
    """Write the plans ``first`` to ``last`` by rising marginal cost; by insertion, for they are few."""
    for plan in range(first, last):
        place = plan
        while place > first and field[ranks[place - 1]] > field[plan]:
            ranks[place] = ranks[place - 1]
            place -= 1
        ranks[place] = plan
