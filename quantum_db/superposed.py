"""Queries in several contexts: scores of superpositions, dephased by age, exact and by circuits.

The asked contexts of an entity, renormalised, are its state conditional on the outcome lying among them. Its score is
lambda * coherent + (1 - lambda) * incoherent; see ``quantum_db.circuits.superposition``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quantum_db.backend_ports import BackendResult
from quantum_db.circuits.encoding import encode_span, lift
from quantum_db.circuits.superposition import (
    asked_states,
    asked_weights,
    coherence,
    context_scores,
    estimate_context_score,
    measured_states,
    register_states,
    superposition_circuits,
)
from quantum_db.circuits.template import CircuitBatch
from quantum_db.errors import InvalidCircuit
from quantum_db.model import Candidates, Query
from quantum_db.retrieval import CONFIDENCE, Scores, exact_fidelities

Array = NDArray[np.float64]


def possible(query: Query, candidates: Candidates) -> Candidates:
    """Return the candidates without those whose outcome in every asked context has probability 0."""
    asked = asked_weights(candidates.contexts, dict(query.contexts))
    kept = np.bincount(candidates.owner, candidates.weights * asked, minlength=len(candidates.entity_ids)) > 0.0
    if kept.all():
        return candidates
    rows = kept[candidates.owner]
    places = np.flatnonzero(kept)
    return Candidates(
        entity_ids=tuple(candidates.entity_ids[place] for place in places),
        metadata=tuple(candidates.metadata[place] for place in places),
        coherence_time_ms=tuple(candidates.coherence_time_ms[place] for place in places),
        owner=(np.cumsum(kept) - 1)[candidates.owner[rows]].astype(np.int32),
        contexts=tuple(name for name, kept_row in zip(candidates.contexts, rows, strict=True) if kept_row),
        weights=candidates.weights[rows],
        vectors=candidates.vectors[rows],
    )


def exact_scores(query: Query, candidates: Candidates) -> Scores:
    """Return the scores in closed form. ``best_row`` is the asked context whose outcome fits best, w u F."""
    asked = asked_weights(candidates.contexts, dict(query.contexts))
    fidelities = exact_fidelities(query, candidates)
    entities = len(candidates.entity_ids)
    lambdas = _coherences(query, candidates)
    found = context_scores(np.sqrt(fidelities), candidates.weights, asked, candidates.owner, entities, lambdas)
    return Scores(found.values, found.values, found.values, _fitting_rows(candidates, asked * fidelities))


@dataclass(frozen=True, slots=True, eq=False)
class SuperposedCircuits:
    """Two circuits for each of E entities: rows e measure the coherent part, rows E + e each context's own fidelity."""

    batch: CircuitBatch
    context_qubits: int
    data_qubits: int
    encoding_error: float


def prepare(query: Query, candidates: Candidates, max_qubits: int) -> SuperposedCircuits:
    """Make the circuits of at least one candidate, as one job.

    Raises:
        InvalidCircuit: the backend's qubits do not hold the context register and one more.
    """
    asked = asked_weights(candidates.contexts, dict(query.contexts))
    entities = len(candidates.entity_ids)
    most = int(np.bincount(candidates.owner).max())
    context_qubits = (most - 1).bit_length()
    if context_qubits >= max_qubits:
        raise InvalidCircuit(f"{most} contexts need {context_qubits + 1} qubits, and the backend has {max_qubits}")
    encoding = encode_span(lift(query.vector[None, :])[0], lift(candidates.vectors), max_qubits - context_qubits)
    states = register_states(encoding.candidates, _conditional_weights(candidates), candidates.owner, entities)
    registers = [asked_states(asked, candidates.owner, entities), measured_states(entities, context_qubits)]
    batch = superposition_circuits(np.concatenate([states, states]), encoding.query, np.concatenate(registers))
    return SuperposedCircuits(batch, context_qubits, encoding.num_qubits, encoding.worst_error)


def estimate(query: Query, candidates: Candidates, made: SuperposedCircuits, result: BackendResult) -> Scores:
    """Return the scores that the counts give, with intervals."""
    asked = asked_weights(candidates.contexts, dict(query.contexts))
    weights, lambdas = _conditional_weights(candidates), _coherences(query, candidates)
    entities = len(candidates.entity_ids)
    found = [
        estimate_context_score(
            result.counts[entity],
            result.counts[entities + entity],
            weights[candidates.owner == entity],
            asked[candidates.owner == entity],
            context_qubits=made.context_qubits,
            data_qubits=made.data_qubits,
            coherence=float(lambdas[entity]),
            confidence=CONFIDENCE,
        )
        for entity in range(entities)
    ]
    exact = exact_scores(query, candidates)
    return replace(
        exact,
        values=np.array([one.value for one in found]),
        low=np.array([one.low for one in found]),
        high=np.array([one.high for one in found]),
    )


def _coherences(query: Query, candidates: Candidates) -> Array:
    return coherence(np.full(len(candidates.entity_ids), query.age_ms / 1000.0), candidates.coherence_time_ms)


def _conditional_weights(candidates: Candidates) -> Array:
    totals = np.bincount(candidates.owner, candidates.weights)
    return np.asarray(candidates.weights / totals[candidates.owner])


def _fitting_rows(candidates: Candidates, values: Array) -> NDArray[np.intp]:
    order = np.lexsort((-candidates.weights * values, candidates.owner))
    return order[np.searchsorted(candidates.owner[order], np.arange(len(candidates.entity_ids)))]
