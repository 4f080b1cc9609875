"""The stages of a vector query after parsing, as plain functions: filter, refine, rank.

A row is one vector of a candidate in one context. Its fidelity with the query is exact (from the stored vectors) or
estimated from shots; a rule turns the fidelities of an entity's rows into its score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from quantum_db.circuits.statistics import wilson_interval, z_value
from quantum_db.model import Candidates, Hit, Interval, NoContextRule, Query, Search
from quantum_db.modes import Mode

Array = NDArray[np.float64]

CONFIDENCE = 0.95
SOFT_BETA = 10.0
"""Sharpness of the rule ``soft``: the value with the best recall on the WordNet corpus (docs/queries.md)."""


def search_for(query: Query, mode: Mode) -> Search:
    """Return what the store is asked for: enough candidates for the mode, and for ``top_k``."""
    return Search(
        vector=query.vector,
        limit=max(mode.candidates, query.top_k),
        context=query.context,
        filter=query.filter,
        all_contexts=query.context is None and query.no_context_rule != "best",
    )


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
    _, first, circuit_of_row = np.unique(candidates.vectors, axis=0, return_index=True, return_inverse=True)
    distinct = lift(candidates.vectors[first])
    encoding = encode_span(lift(query.vector[None, :])[0], distinct, max_qubits)
    return RefinementPlan(encoding, circuit_of_row.reshape(-1))


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Fidelities of the rows as estimated from ``shots`` shots of each circuit: successes, (N,) integers."""

    successes: NDArray[np.int64]
    shots: int

    @property
    def fidelities(self) -> Array:
        """The share of all-zero outcomes, (N,)."""
        return self.successes / self.shots


def estimate(plan: RefinementPlan, counts: Sequence[Mapping[int, int]], shots: int) -> Estimates:
    """Return the rows' estimates from each circuit's counts."""
    zeros = np.array([outcomes.get(0, 0) for outcomes in counts], dtype=np.int64)
    return Estimates(zeros[plan.circuit_of_row], shots)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores of the E entities, with the ends of their intervals; ``best_row`` is the row that fits each best."""

    values: Array
    low: Array
    high: Array
    best_row: NDArray[np.intp]


def score(query: Query, candidates: Candidates, fidelities: Array, estimates: Estimates | None = None) -> Scores:
    """Turn the rows' fidelities into the entities' scores.

    With a context, the score is the row's fidelity (``joint``: times its weight). Without:

    - ``best``: the largest fidelity of an entity's rows;
    - ``traced``: sum of w F, the fidelity after tracing out the context register;
    - ``soft``: log-sum-exp of the cosines, ``log(sum exp(beta cos)) / beta``; not a fidelity: its range is
      -1 to 1 + log(contexts) / beta.

    Intervals: Wilson's for one row; for sums of rows, the delta method with var(F) = F (1 - F) / shots.

    Args:
        estimates: where ``fidelities`` come from; None when they are exact, and the intervals have no width.
    """
    best_row = _best_rows(candidates, fidelities)
    if query.context is None and query.no_context_rule != "best":
        values, deviation = _sum_of_rows(query.no_context_rule, candidates, fidelities, estimates)
        margin = z_value(CONFIDENCE) * deviation
        return Scores(values, values - margin, values + margin, best_row)
    low = high = fidelities
    if estimates is not None:
        low, high = wilson_interval(estimates.successes, estimates.shots, CONFIDENCE)
    factor = candidates.weights if query.weighting == "joint" else np.ones_like(fidelities)
    values, low, high = ((array * factor)[best_row] for array in (fidelities, low, high))
    return Scores(values, low, high, best_row)


def _best_rows(candidates: Candidates, fidelities: Array) -> NDArray[np.intp]:
    order = np.lexsort((-candidates.weights, -fidelities, candidates.owner))
    first = np.searchsorted(candidates.owner[order], np.arange(len(candidates.entity_ids)))
    return order[first]


def _sum_of_rows(
    rule: NoContextRule, candidates: Candidates, fidelities: Array, estimates: Estimates | None
) -> tuple[Array, Array]:
    """Return value and standard deviation of each entity's sum over its rows."""
    starts = np.searchsorted(candidates.owner, np.arange(len(candidates.entity_ids)))
    variance = np.zeros_like(fidelities)
    if estimates is not None:  # the Agresti-Coull centre keeps the variance of 0 or all successes above zero
        centre = (estimates.successes + 2.0) / (estimates.shots + 4.0)
        variance = centre * (1.0 - centre) / estimates.shots
    if rule == "traced":
        weights = candidates.weights
        values = np.add.reduceat(weights * fidelities, starts)
        return values, np.sqrt(np.add.reduceat(weights**2 * variance, starts))
    powers = np.exp(SOFT_BETA * cosine_of_fidelity(fidelities))
    sums = np.add.reduceat(powers, starts)
    share = powers / sums[candidates.owner]
    cosine_variance = variance / np.maximum(fidelities, 1e-12)  # d cos / d F = 1 / sqrt(F)
    return np.log(sums) / SOFT_BETA, np.sqrt(np.add.reduceat(share**2 * cosine_variance, starts))


def rank(candidates: Candidates, classical: Scores, refined: Scores | None) -> tuple[Hit, ...]:
    """Return all entities as hits, best first, each once.

    Ties are broken by the classical score, then by the weight of the context, then by id: of two equal documents
    the one that is more of the asked context leads.
    """
    chosen = classical if refined is None else refined
    weights = candidates.weights[chosen.best_row]
    order = sorted(
        range(len(candidates.entity_ids)),
        key=lambda e: (-chosen.values[e], -classical.values[e], -weights[e], candidates.entity_ids[e]),
    )
    return tuple(
        Hit(
            id=candidates.entity_ids[entity],
            score=float(chosen.values[entity]),
            classical_score=float(classical.values[entity]),
            context=candidates.contexts[chosen.best_row[entity]],
            context_probability=float(weights[entity]),
            metadata=candidates.metadata[entity],
            interval=None
            if refined is None
            else Interval(float(refined.low[entity]), float(refined.high[entity]), CONFIDENCE),
        )
        for entity in order
    )


def order_changed(hits: Sequence[Hit], top_k: int) -> bool:
    """Return whether the first ``top_k`` hits stand in another order than their classical scores give."""
    classical = sorted(hits, key=lambda hit: (-hit.classical_score, -hit.context_probability, hit.id))
    return [hit.id for hit in hits[:top_k]] != [hit.id for hit in classical[:top_k]]
