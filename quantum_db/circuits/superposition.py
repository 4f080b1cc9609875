"""Superposition with contexts: an entity is sum_c sqrt(w_c) |c>|v_c>, scored in closed form and by circuits.

With overlap amplitudes s_c = <q|v_c> and a query's own context amplitudes sqrt(u_c), sum u_c = 1:

    coherent    C = |sum_c sqrt(w_c u_c) s_c|^2 / (sum_c sqrt(w_c u_c))^2
    incoherent  I = sum_c w_c u_c s_c^2 / sum_c w_c u_c
    dephased    lambda C + (1 - lambda) I,   lambda = exp(-age / T)
    traced      sum_c w_c s_c^2

C is what the context register gives when it is projected on the query's amplitudes; I what it gives when it is measured
first, which is what complete dephasing is. Each is normalised by its value at s_c = 1, so that a fit of 1 scores 1.

**Dephasing, exactly.** Dephasing of strength 1 - lambda leaves the register alone with probability lambda, and else
applies one of its 2^m strings of Z, all equally likely; the average over the strings is the measured register. Here
nothing is drawn: the coherent and the measured circuit are run by themselves, and their *normalised* results are mixed
with weights lambda and 1 - lambda. That is a retention rule of the application (T is the entity's
``coherence_time_ms``), not a machine's noise. It differs from conditioning the dephased state on the query's
context outcome, which would weight C and I by how likely each makes that outcome.

Vectors are taken as they are. For retrieval, lift them first (``encoding.lift``): an s_c below zero interferes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantum_db.circuits.encoding import Matrix, tree_angles
from quantum_db.circuits.multiplexed import fuse_undo, register_table, shares, undo_angles
from quantum_db.circuits.template import CircuitBatch, MultiplexedRY, Step, Template, content_key
from quantum_db.errors import FieldError, InvalidRequest, UnknownContext
from quantum_db.model import DEFAULT_COHERENCE_TIME_MS
from quantum_db.near import near_name

Owner = NDArray[np.integer]


def coherence(age_s: ArrayLike, coherence_time_ms: ArrayLike) -> Matrix:
    """Return lambda = exp(-age / T), elementwise; an age below zero counts as zero."""
    age_ms = 1000.0 * np.maximum(np.asarray(age_s, dtype=np.float64), 0.0)
    return np.asarray(np.exp(-age_ms / np.asarray(coherence_time_ms, dtype=np.float64)))


@dataclass(frozen=True, slots=True, eq=False)
class ContextScores:
    """Scores of E entities for a query in several contexts, each (E,) float64.

    An entity without weight in any of them cannot have such an outcome and is no candidate: its probabilities are 0
    and its scores nan.

    Attributes:
        values: dephased by age, ``lambda coherent + (1 - lambda) incoherent``.
        coherent_probability: (sum sqrt(w u))^2, what ``coherent`` was divided by.
        incoherent_probability: sum w u, what ``incoherent`` was divided by.
    """

    values: Matrix
    coherent: Matrix
    incoherent: Matrix
    coherent_probability: Matrix
    incoherent_probability: Matrix


def context_scores(
    overlaps: Matrix, weights: Matrix, asked: Matrix, owner: Owner, entities: int, coherences: Matrix
) -> ContextScores:
    """Return the scores of all entities at once, from rows as in ``Candidates``.

    Args:
        overlaps: (N,) amplitudes s_c.
        weights: (N,) w_c; those of an entity sum to 1.
        asked: (N,) u_c of each row, 0 where its context is not asked; see ``asked_weights``.
        owner: (N,) the row's entity, below ``entities``.
        coherences: (E,) lambda of each entity; see ``coherence``.
    """

    def sums(values: Matrix) -> Matrix:
        return np.asarray(np.bincount(owner, values, minlength=entities), dtype=np.float64)

    amplitudes, outcomes = np.sqrt(weights * asked), weights * asked
    coherent_probability, incoherent_probability = sums(amplitudes) ** 2, sums(outcomes)
    with np.errstate(invalid="ignore"):  # 0 / 0 is nan: no candidate
        coherent = sums(amplitudes * overlaps) ** 2 / coherent_probability
        incoherent = sums(outcomes * overlaps**2) / incoherent_probability
    values = coherences * coherent + (1.0 - coherences) * incoherent
    return ContextScores(values, coherent, incoherent, coherent_probability, incoherent_probability)


def traced_scores(overlaps: Matrix, weights: Matrix, owner: Owner, entities: int) -> Matrix:
    """Return sum_c w_c s_c^2 of each entity, (E,): no context in the query, its register traced out."""
    return np.asarray(np.bincount(owner, weights * overlaps**2, minlength=entities), dtype=np.float64)


def asked_weights(contexts: Sequence[str | None], asked: Mapping[str, float]) -> Matrix:
    """Return u_c of each row, (N,): the asked contexts' weights, normalised to sum 1, and 0 for others.

    Raises:
        InvalidRequest: nothing is asked, or a weight is negative or not finite, or all are 0.
    """
    total = sum(asked.values())
    if not all(math.isfinite(weight) and weight >= 0.0 for weight in asked.values()) or not total > 0.0:
        raise InvalidRequest.at("contexts", "need weights that are finite and not negative, and not all 0")
    return np.array([asked.get(name, 0.0) / total if name is not None else 0.0 for name in contexts])


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A context measured: the outcome's probability w_c, and the data register's state given it, (d,)."""

    probability: float
    state: Matrix


@dataclass(frozen=True, slots=True, eq=False)
class Superposition:
    """sum_c sqrt(w_c) |c>|v_c>, prepared at a time. Made by ``create_superposition``.

    Attributes:
        contexts: C names, all different.
        weights: (C,) float64, sum 1.
        vectors: (C, d) float64 unit vectors.
        coherence_time_ms: T, after which it no longer counts as coherent; its coherent part decays as exp(-age / T).
        prepared_at_s: on the caller's clock.
    """

    contexts: tuple[str, ...]
    weights: Matrix
    vectors: Matrix
    coherence_time_ms: float
    prepared_at_s: float

    def coherence(self, now_s: float) -> float:
        """Return lambda = exp(-age / T), in (0, 1]."""
        return float(coherence(now_s - self.prepared_at_s, self.coherence_time_ms))

    def is_coherent(self, now_s: float) -> bool:
        """Whether the coherence time has not run out, as the lifecycle counts it."""
        return now_s < self.prepared_at_s + self.coherence_time_ms / 1000.0

    def state_vector(self) -> Matrix:
        """Return the amplitudes, (2^(m+n),): basis state c 2^n + j holds sqrt(w_c) v_c[j], the rest is 0."""
        return register_states(_padded(self.vectors), self.weights, np.zeros(len(self.contexts), np.intp), 1).ravel()

    def project(self, context: str) -> Projection:
        """Return what measuring ``context`` gives. Raises UnknownContext with the near names."""
        if context not in self.contexts:
            message = f"there is no context {context!r}{near_name(context, self.contexts)}"
            raise UnknownContext(message, errors=[FieldError("context", message)])
        place = self.contexts.index(context)
        return Projection(float(self.weights[place]), self.vectors[place])

    def score(self, query: Matrix, asked: Mapping[str, float], now_s: float) -> ContextScores:
        """Return the scores, of one entity, for a query (d,) in contexts with weights u_c (amplitudes sqrt(u_c)).

        Raises:
            InvalidRequest: see ``asked_weights``.
            UnknownContext: a context that this superposition does not have.
        """
        for context in asked:
            self.project(context)
        u = asked_weights(self.contexts, asked)
        owner = np.zeros(len(self.contexts), dtype=np.intp)
        return context_scores(self.vectors @ query, self.weights, u, owner, 1, np.array([self.coherence(now_s)]))

    def traced(self, query: Matrix) -> float:
        """Return sum_c w_c <q|v_c>^2."""
        return float(self.weights @ (self.vectors @ query) ** 2)


def create_superposition(
    vectors: Sequence[ArrayLike],
    contexts: Sequence[str],
    weights: Sequence[float] | None = None,
    coherence_time_ms: float = DEFAULT_COHERENCE_TIME_MS,
    prepared_at_s: float = 0.0,
) -> Superposition:
    """Return the superposition of one vector for each context; vectors and weights are normalised.

    Args:
        vectors: C vectors of one length d, none of them 0.
        contexts: C different names.
        weights: C numbers that are not negative; equal ones if None.
        coherence_time_ms: above 0.
        prepared_at_s: on the clock that ages are asked by.

    Raises:
        InvalidRequest: any of this does not hold; it names the field.
    """
    names = tuple(contexts)
    if not names or len(set(names)) < len(names):
        raise InvalidRequest.at("contexts", "need at least one name, and each only once")
    rows = [np.asarray(vector, dtype=np.float64) for vector in vectors]
    if len(rows) != len(names) or any(row.ndim != 1 or row.shape != rows[0].shape for row in rows):
        raise InvalidRequest.at("vectors", f"need {len(names)} vectors of one length, one for each context")
    matrix = np.stack(rows)
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not np.isfinite(matrix).all() or not norms.all():
        raise InvalidRequest.at("vectors", "need finite numbers, not all of them 0")
    shares_of = np.ones(len(names)) if weights is None else np.asarray(weights, dtype=np.float64)
    if shares_of.shape != (len(names),) or not np.isfinite(shares_of).all() or (shares_of < 0.0).any():
        raise InvalidRequest.at("weights", f"need {len(names)} finite numbers that are not negative")
    if not shares_of.sum() > 0.0:
        raise InvalidRequest.at("weights", "need at least one above 0")
    if not (math.isfinite(coherence_time_ms) and coherence_time_ms > 0.0):
        raise InvalidRequest.at("coherence_time_ms", "needs a finite number above 0")
    return Superposition(names, shares_of / shares_of.sum(), matrix / norms, coherence_time_ms, prepared_at_s)


def register_states(vectors: Matrix, weights: Matrix, owner: Owner, entities: int) -> Matrix:
    """Return each entity's amplitudes over (context, data), (E, 2^m, 2^n); m holds the most contexts of an entity.

    Args:
        vectors: (N, 2^n) unit vectors, as ``SpanEncoding.candidates``.
        weights: (N,) w_c.
        owner: (N,) the row's entity, non-decreasing, each below ``entities`` at least once. An entity's first row is
            its context 0.
    """
    place = context_places(owner)
    states = np.zeros((entities, 1 << int(place.max()).bit_length(), vectors.shape[1]))
    states[owner, place] = np.sqrt(weights)[:, None] * vectors
    return states


def context_places(owner: Owner) -> NDArray[np.intp]:
    """Return each row's place within its entity, (N,): its value of the context register."""
    starts = np.searchsorted(owner, owner, side="left")
    return np.arange(len(owner)) - starts


def asked_states(asked: Matrix, owner: Owner, entities: int) -> Matrix:
    """Return the query's amplitudes sqrt(u_c) on each entity's context register, (E, 2^m).

    Where an entity lacks some of the asked contexts the rest is normalised, and ``context_scores`` divides by the same.
    Raises InvalidRequest for an entity that has none of them: it is no candidate.
    """
    place = context_places(owner)
    states = np.zeros((entities, 1 << int(place.max()).bit_length()))
    states[owner, place] = np.sqrt(asked)
    norms = np.linalg.norm(states, axis=1, keepdims=True)
    if not norms.all():
        raise InvalidRequest.at("contexts", "an entity has none of the asked contexts")
    return np.asarray(states / norms)


def measured_states(entities: int, context_qubits: int) -> Matrix:
    """Return |0> on the context register in place of ``asked_states``, (E, 2^m): then nothing is undone on it."""
    states = np.zeros((entities, 1 << context_qubits))
    states[:, 0] = 1.0
    return states


def superposition_template(context_qubits: int, data_qubits: int) -> Template:
    """Return the structure of the circuit on ``context_qubits`` >= 0 (the upper) and ``data_qubits`` >= 1 qubits.

    Prepare the entity over both registers, undo the query on the data register (its first step fused), undo the
    query's context amplitudes on the context register. See ``superposition_cx``.
    """
    total = context_qubits + data_qubits
    targets = [(target, total) for target in range(total - 1, -1, -1)]
    targets += [(target, data_qubits) for target in range(1, data_qubits)]
    targets += [(target, total) for target in range(data_qubits, total)]
    steps: list[Step] = []
    first_angle = 0
    for target, end in targets:
        step = MultiplexedRY(target, tuple(range(target + 1, end)), first_angle)
        steps.append(step)
        first_angle += step.angle_count
    return Template(content_key(total, tuple(steps)), total, tuple(steps))


def superposition_cx(context_qubits: int, data_qubits: int) -> int:
    """Return the number of CX: 2^(m+n) - 2, then 2^(n-1) - 2 for the query and 2^m - 2 for its contexts."""
    register_sizes = (context_qubits + data_qubits, data_qubits - 1, context_qubits)
    return sum(max(0, (1 << size) - 2) for size in register_sizes)


def superposition_circuits(states: Matrix, query: Matrix, contexts: Matrix) -> CircuitBatch:
    """Bind one circuit for each entity.

    With ``asked_states`` (the coherent circuit) P(all zeros) = |sum_c sqrt(w_c u_c) s_c|^2, u as normalised there.
    With ``measured_states`` P(context = c, data = 0) = w_c s_c^2. Rows of both kinds may share a batch: one job.

    Args:
        states: (E, 2^m, 2^n), from ``register_states``.
        query: (2^n,) unit vector.
        contexts: (E, 2^m).
    """
    entities, context_count, size = states.shape
    context_qubits, data_qubits = context_count.bit_length() - 1, size.bit_length() - 1
    prepare = tree_angles(states.reshape(entities, -1))
    undo = tree_angles(query[None, :])
    prepare[-1] = fuse_undo(prepare[-1], undo[-1])
    columns = [*prepare, *(np.repeat(level, entities, axis=0) for level in undo_angles(undo))]
    if context_qubits:
        columns += [-level for level in reversed(tree_angles(contexts))]
    return CircuitBatch(superposition_template(context_qubits, data_qubits), np.concatenate(columns, axis=1))


@dataclass(frozen=True, slots=True)
class ContextEstimate:
    """One entity's dephased score from shots, with its parts and the interval of ``value``."""

    value: float
    low: float
    high: float
    coherent: float
    incoherent: float


def estimate_context_score(
    coherent: Mapping[int, int],
    measured: Mapping[int, int],
    weights: Matrix,
    asked: Matrix,
    *,
    context_qubits: int,
    data_qubits: int,
    coherence: float,
    confidence: float = 0.95,
) -> ContextEstimate:
    """Return an entity's dephased score from the counts of its two circuits.

    The coherent part is the share of all-zero outcomes, divided by what it is at s_c = 1. The incoherent part takes
    s_c^2 for each context from the shots whose context outcome is c, and weighs by the known w_c u_c. A part that no
    shot fell on may be anything from 0 to 1, and counts as 1/2; so with lambda = 1 ``measured`` may be empty.

    Intervals of the parts are Wilson's, combined by recovered variances: G. Y. Zou, A. Donner, Statistics in Medicine
    27 (2008) 1693.

    Args:
        coherent: counts of the circuit with ``asked_states``.
        measured: counts of the circuit with ``measured_states``.
        weights, asked: (C,) w_c and u_c of the entity's rows, in order.
        context_qubits, data_qubits: of the circuits.
        coherence: lambda.
    """
    shots = np.array([sum(coherent.values())])
    zero, zero_low, zero_high = shares(np.array([coherent.get(0, 0)]), shots, confidence)
    table = register_table(measured, context_qubits, data_qubits)[: len(weights)]
    fit, fit_low, fit_high = shares(table[:, 0], table.sum(axis=1), confidence)
    parts = np.concatenate([zero, fit])
    parts = np.where(np.isnan(parts), 0.5, parts)

    outcomes = weights * asked
    # P(all zeros) at s_c = 1 is (sum sqrt(w u))^2 / sum u over the entity's own contexts, as ``asked_states`` are.
    ceiling = np.sqrt(outcomes).sum() ** 2 / asked.sum()
    scale = np.concatenate([[coherence / ceiling], (1.0 - coherence) * outcomes / outcomes.sum()])
    low = np.concatenate([zero_low, fit_low])
    high = np.concatenate([zero_high, fit_high])
    value = float(scale @ parts)
    return ContextEstimate(
        value=value,
        low=value - float(np.sqrt(((scale * (parts - low)) ** 2).sum())),
        high=value + float(np.sqrt(((scale * (high - parts)) ** 2).sum())),
        coherent=float(zero[0] / ceiling),
        incoherent=float(outcomes @ parts[1:] / outcomes.sum()),
    )


def _padded(vectors: Matrix) -> Matrix:
    size = 1 << max(1, (vectors.shape[1] - 1).bit_length())
    return np.pad(vectors, ((0, 0), (0, size - vectors.shape[1])))
