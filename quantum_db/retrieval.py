"""The stages of a vector query after parsing, as plain functions: filter, refine, rank.

A row is one vector of a candidate in one context. Its fidelity with the query is exact (from the stored vectors) or
estimated from shots; a rule turns the fidelities of an entity's rows into its score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantum_db.circuits.encoding import (
    SpanEncoding,
    cosine_of_fidelity,
    encode_span,
    fidelity_of_cosine,
    lift,
)
from quantum_db.circuits.statistics import z_value
from quantum_db.model import Candidates, Hit, Interval, NoContextRule, Query, Search
from quantum_db.modes import Mode
from quantum_db.overlaps import FidelityEstimates
from quantum_db.routing import Route, binomial_errors, route

Array = NDArray[np.float64]

CONFIDENCE = 0.95
SOFT_BETA = 10.0
"""Sharpness of the rule ``soft``: the value with the best recall on the WordNet corpus (docs/queries.md)."""


def search_for(query: Query, mode: Mode) -> Search:
    """Return what the store is asked for: enough candidates for the mode, and for ``top_k``.

    Where no circuit runs and the nearest entities are the answer, there is nothing to choose among more of them.
    """
    final = mode.shots == 0 and not query.enable_tunneling and _is_by_distance(query)
    return Search(
        vector=query.vector,
        limit=query.top_k if final else max(mode.candidates, query.top_k),
        contexts=tuple(name for name, _ in query.contexts),
        filter=query.filter,
        all_contexts=_sums_rows(query),
    )


def _is_by_distance(query: Query) -> bool:
    """Return whether the exact order of entities is that of their nearest vectors."""
    if query.contexts:
        return len(query.contexts) == 1 and query.weighting == "conditional"
    return query.no_context_rule == "best"


def exact_fidelities(query: Query, candidates: Candidates) -> Array:
    """Return the fidelity of each row with the query, (N,), of the lifted vectors."""
    wide = candidates.vectors.astype(np.float64)
    cosines = np.einsum("ij,j->i", wide, query.vector.astype(np.float64))  # unlike BLAS, equal rows give equal bits
    return fidelity_of_cosine(np.clip(cosines, -1.0, 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class RefinementPlan:
    """The circuits of one query. Equal vectors share a circuit: row i is estimated by circuit ``circuit_of_row[i]``."""

    encoding: SpanEncoding
    circuit_of_row: NDArray[np.intp]


def plan_refinement(query: Query, candidates: Candidates, max_qubits: int) -> RefinementPlan:
    """Encode the query and the distinct vectors of the candidates (at least one row) in their span."""
    circuit_of_row, first = distinct_rows(candidates.vectors)
    distinct = lift(candidates.vectors[first])
    encoding = encode_span(lift(query.vector[None, :])[0], distinct, max_qubits)
    return RefinementPlan(encoding, circuit_of_row)


def distinct_rows(vectors: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return of each row which distinct one it is, (N,), and where each of those stands first, (D,), ascending.

    ``np.unique`` over rows does the same and sorts them by their columns, which took a fifth of a refined query's time
    in the replica.
    """
    known: dict[bytes, int] = {}
    rows = np.ascontiguousarray(vectors + np.float32(0.0))  # equal numbers get equal bits: -0.0 becomes 0.0
    which = np.array([known.setdefault(row.tobytes(), len(known)) for row in rows], dtype=np.intp)
    first = np.flatnonzero(np.diff(np.maximum.accumulate(which), prepend=-1))
    return which, first


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """What shots say of the rows' fidelities; all of shape (N,). ``low`` and ``high`` are at ``CONFIDENCE``."""

    fidelities: Array
    low: Array
    high: Array
    variance: Array


def estimate(plan: RefinementPlan, found: FidelityEstimates) -> Estimates:
    """Return the rows' estimates from those of the circuits."""
    row = plan.circuit_of_row
    return Estimates(found.values[row], found.low[row], found.high[row], found.variance[row])


def routed(query: Query, candidates: Candidates, exact: Scores, shots: int) -> Route:
    """Decide whether ``shots`` shots for each circuit may change which hits are answered; see ``quantum_db.routing``.

    Where they may not, the exact order of the same hits is the better answer.
    """
    fidelities = exact_fidelities(query, candidates)
    if _sums_rows(query):
        variance = fidelities * (1.0 - fidelities) / shots
        _, errors = _sum_of_rows(query.no_context_rule, candidates, fidelities, variance)
        circuits = None
    else:
        factor = candidates.weights if query.weighting == "joint" else np.ones_like(fidelities)
        errors = (binomial_errors(fidelities, shots) * factor)[exact.best_row]
        circuit, _ = distinct_rows(candidates.vectors)
        circuits = circuit[exact.best_row]
    return route(exact.values, errors, query.top_k, CONFIDENCE, aim="set", circuits=circuits)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores of the E entities, with the ends of their intervals; ``best_row`` is the row that fits each best."""

    values: Array
    low: Array
    high: Array
    best_row: NDArray[np.intp]


def score(query: Query, candidates: Candidates, fidelities: Array, estimates: Estimates | None = None) -> Scores:
    """Turn the rows' fidelities into the entities' scores.

    With one context, the score is the row's fidelity (``joint``: times its weight); several are scored in
    ``quantum_db.superposed``. Without:

    - ``best``: the largest fidelity of an entity's rows;
    - ``traced``: sum of w F, the fidelity after tracing out the context register;
    - ``soft``: log-sum-exp of the cosines, ``log(sum exp(beta cos)) / beta``; not a fidelity: its range is
      -1 to 1 + log(contexts) / beta.

    Intervals: Wilson's for one row; for sums of rows, the delta method with var(F) = F (1 - F) / shots.

    Args:
        estimates: where ``fidelities`` come from; None when they are exact, and the intervals have no width.
    """
    best_row = _best_rows(candidates, fidelities)
    if _sums_rows(query):
        variance = np.zeros_like(fidelities) if estimates is None else estimates.variance
        values, deviation = _sum_of_rows(query.no_context_rule, candidates, fidelities, variance)
        margin = z_value(CONFIDENCE) * deviation
        return Scores(values, values - margin, values + margin, best_row)
    low = high = fidelities
    if estimates is not None:
        low, high = estimates.low, estimates.high
    factor = candidates.weights if query.weighting == "joint" else np.ones_like(fidelities)
    values, low, high = ((array * factor)[best_row] for array in (fidelities, low, high))
    return Scores(values, low, high, best_row)


def _best_rows(candidates: Candidates, fidelities: Array) -> NDArray[np.intp]:
    order = np.lexsort((-candidates.weights, -fidelities, candidates.owner))
    first = np.searchsorted(candidates.owner[order], np.arange(len(candidates.entity_ids)))
    return order[first]


def _sums_rows(query: Query) -> bool:
    return not query.contexts and query.no_context_rule != "best"


def _sum_of_rows(
    rule: NoContextRule, candidates: Candidates, fidelities: Array, variance: Array
) -> tuple[Array, Array]:
    """Return value and standard deviation of each entity's sum over its rows."""
    starts = np.searchsorted(candidates.owner, np.arange(len(candidates.entity_ids)))
    if rule == "traced":
        weights = candidates.weights
        values = np.add.reduceat(weights * fidelities, starts)
        return values, np.sqrt(np.add.reduceat(weights**2 * variance, starts))
    powers = np.exp(SOFT_BETA * cosine_of_fidelity(fidelities))
    sums = np.add.reduceat(powers, starts)
    share = powers / sums[candidates.owner]
    cosine_variance = variance / np.maximum(fidelities, 1e-12)  # d cos / d F = 1 / sqrt(F)
    return np.log(sums) / SOFT_BETA, np.sqrt(np.add.reduceat(share**2 * cosine_variance, starts))


def rank(
    candidates: Candidates, classical: Scores, refined: Scores | None, limit: int | None = None
) -> tuple[Hit, ...]:
    """Return the entities as hits, best first, each once; only the first ``limit`` if one is given.

    Ties are broken by the classical score, then by the weight of the context, then by id: of two equal documents
    the one that is more of the asked context leads.
    """
    chosen = classical if refined is None else refined
    order = _order(candidates, chosen, classical)[:limit]
    weights = candidates.weights[chosen.best_row].tolist()
    values, exact = chosen.values.tolist(), classical.values.tolist()
    rows, low, high = chosen.best_row.tolist(), chosen.low.tolist(), chosen.high.tolist()
    return tuple(
        Hit(
            id=candidates.entity_ids[entity],
            score=values[entity],
            classical_score=exact[entity],
            context=candidates.contexts[rows[entity]],
            context_probability=weights[entity],
            metadata=candidates.metadata[entity],
            interval=None if refined is None else Interval(low[entity], high[entity], CONFIDENCE),
        )
        for entity in order
    )


def order_changed(candidates: Candidates, classical: Scores, refined: Scores, top_k: int) -> bool:
    """Return whether the first ``top_k`` entities are others, or stand in another order, than by the exact scores."""
    return _order(candidates, refined, classical)[:top_k] != _order(candidates, classical, classical)[:top_k]


def _order(candidates: Candidates, chosen: Scores, classical: Scores) -> list[int]:
    ids, values, exact = candidates.entity_ids, chosen.values.tolist(), classical.values.tolist()
    weights = candidates.weights[chosen.best_row].tolist()
    return sorted(range(len(ids)), key=lambda e: (-values[e], -exact[e], -weights[e], ids[e]))
