"""What the database holds and answers: frozen values with units in their names.

Vectors are float32 unit vectors. Arrays inside these values are shared, so nobody writes to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quantum_db.filters import Filter
from quantum_db.jobs.budget import NO_LIMIT, SpendingLimit
from quantum_db.scope import DEFAULT_TENANT

Vector = NDArray[np.float32]
Provenance = Literal["exact", "simulated shots", "emulator", "hardware"]
NoContextRule = Literal["soft", "best", "traced"]
Mitigation = Literal["none", "readout", "zne"]
TunnelingSolver = Literal["annealing", "qaoa"]
Refine = Literal["auto", "always"]
OnTimeout = Literal["classical", "error"]
Weighting = Literal["conditional", "joint"]

DEFAULT_COHERENCE_TIME_MS = 60_000.0
DEFAULT_MAX_SHOTS = 3_000_000
MAX_GROUP_MEMBERS = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """One context of an entity. ``vector`` is None where the entity's own vector holds for it."""

    name: str
    weight: float
    vector: Vector | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Entity:
    """A thing that can be found: one vector, or one for each of its contexts; weights sum to 1.

    ``vector`` is None only if every context has a vector of its own. An entity without contexts has a vector.
    ``version`` is the number of the commit that wrote it; 0 where it was written before there were such numbers.
    """

    id: str
    vector: Vector | None
    contexts: tuple[Context, ...] = ()
    coherence_time_ms: float = DEFAULT_COHERENCE_TIME_MS
    metadata: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0

    @property
    def dimension(self) -> int:
        """Length of the entity's vectors."""
        if self.vector is not None:
            return int(self.vector.shape[0])
        own = self.contexts[0].vector
        assert own is not None
        return int(own.shape[0])

    def distinct_vectors(self) -> list[tuple[Vector, tuple[Context, ...]]]:
        """Return each vector of the entity once, with the contexts that it holds for.

        The entity's own vector comes first, with the contexts that have none (maybe no context at all).
        """
        groups: list[tuple[Vector, tuple[Context, ...]]] = []
        if self.vector is not None:
            groups.append((self.vector, tuple(c for c in self.contexts if c.vector is None)))
        groups += [(c.vector, (c,)) for c in self.contexts if c.vector is not None]
        return groups


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What the store is asked: the entities whose vectors lie nearest to ``vector``.

    With ``contexts``, only vectors that hold for one of them are compared, and all of an entity's that do are returned.
    Without, all are compared; ``all_contexts`` then returns all of an entity's vectors, else only the nearest. An
    entity's place is that of its nearest compared vector.
    """

    vector: Vector
    limit: int
    contexts: tuple[str, ...] = ()
    filter: Filter | None = None
    all_contexts: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The store's answer as a struct of arrays: E entities, best first, and their N rows.

    A row is one vector of an entity in one context (``None``: the entity has no contexts, the row's weight is 1).

    Attributes:
        entity_ids, metadata, coherence_time_ms: of length E.
        owner: (N,) int32, the row's entity as an index below E; non-decreasing.
        contexts: of length N.
        weights: (N,) float64.
        vectors: (N, d) float32 unit vectors.
    """

    entity_ids: tuple[str, ...]
    metadata: tuple[Mapping[str, Any], ...]
    coherence_time_ms: tuple[float, ...]
    owner: NDArray[np.int32]
    contexts: tuple[str | None, ...]
    weights: NDArray[np.float64]
    vectors: Vector


@dataclass(frozen=True, slots=True)
class EntanglementGroup:
    """Entities that belong together. ``correlation_strength`` in [0, 1] is the <ZZ> of each pair's circuit."""

    group_id: str
    entity_ids: tuple[str, ...]
    correlation_strength: float
    version: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A vector query, checked and complete: every default has been filled in.

    Attributes:
        shots: of each circuit; None takes the mode's.
        epsilon: makes the shots adaptive; 0 asks for the exact top-k set, else for one that is right up to this.
        max_shots: budget of adaptive shots.
        contexts: names with their probabilities u_c; none, one, or several in superposition.
        age_ms: age of the states, by which several contexts have lost coherence.
        refine: ``auto`` runs circuits only where they may change the answer.
        backend: a backend's name, ``auto``, or None for the configured one.
        on_timeout: what happens when circuits would not end within the timeout: the classical answer, or an error.
        tenant: who asks: whose budget pays.
        budget: what its circuits may cost.
        session_id: the tenant's session that it belongs to, if any.
        observe: whether the session takes note of the top hit although no circuit ran.
    """

    vector: Vector
    contexts: tuple[tuple[str, float], ...]
    mode: str
    top_k: int
    timeout_s: float
    filter: Filter | None = None
    weighting: Weighting = "conditional"
    no_context_rule: NoContextRule = "soft"
    backend: str | None = None
    shots: int | None = None
    epsilon: float | None = None
    max_shots: int = DEFAULT_MAX_SHOTS
    age_ms: float = 0.0
    mitigation: Mitigation = "none"
    refine: Refine = "auto"
    enable_tunneling: bool = False
    tunneling_solver: TunnelingSolver = "annealing"
    explain: bool = False
    tenant: str = DEFAULT_TENANT
    budget: SpendingLimit = NO_LIMIT
    session_id: str | None = None
    observe: bool = False
    on_timeout: OnTimeout = "classical"


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided confidence interval of a score at ``confidence`` (0.95 means 95%)."""

    low: float
    high: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One entity of an answer.

    Attributes:
        score: what the hits are ordered by; from the circuits where they ran, else the classical score.
        classical_score: the same rule computed exactly from the stored vectors.
        context: the context that the score is for; with none or several in the query, the one that fits best.
        context_probability: the weight of that context, which is the probability of its outcome.
        interval: of ``score``; None where it is exact.
    """

    id: str
    score: float
    classical_score: float
    context: str | None
    context_probability: float
    metadata: Mapping[str, Any]
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Wall time of each stage of one query, in milliseconds."""

    parse_ms: float
    filter_ms: float
    refine_ms: float
    rank_ms: float


@dataclass(frozen=True, slots=True)
class Refinement:
    """What the quantum stage did, or why it did not run.

    Attributes:
        circuit_key: the circuits' structure, for ``GET /api/v2/circuits/{key}``.
        shots: of all circuits; ``two_qubit_gates`` likewise, each circuit counted once.
        rounds: jobs that it took; more than 1 with adaptive shots.
        confidence: with adaptive shots, how sure it is that the top-k set is right (up to epsilon).
        encoding_error: the worst error of an inner product made by cutting the span; 0 when nothing was cut.
        changed_order: whether the hits stand in another order than the classical one.
        plan: the planner's choice of circuits and shots beside the alternatives; None where nothing was to choose.
        routing: how the backend was chosen, where the query left that open.
        reused_circuits: how many were answered from kept results, at no cost.
        fell_back: whether what was asked for failed, or had no result in time, and something else stands for it.
        quantum_speedup_ratio: wall time of the exact scores over that of the circuits, measured in this query.
    """

    ran: bool
    why: str
    provenance: Provenance
    backend: str | None = None
    circuit_key: str | None = None
    circuits: int = 0
    qubits: int = 0
    shots: int = 0
    rounds: int = 0
    confidence: float | None = None
    two_qubit_gates: int = 0
    cost_usd: float = 0.0
    encoding_error: float = 0.0
    changed_order: bool = False
    quantum_speedup_ratio: float | None = None
    provider_job_ids: tuple[str, ...] = ()
    plan: Mapping[str, Any] | None = None
    routing: Mapping[str, Any] | None = None
    reused_circuits: int = 0
    fell_back: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Hits, best first, with how they came to be.

    Attributes:
        coherence_time_ms: the shortest of the states that its circuits measured; None where none ran.
    """

    hits: tuple[Hit, ...]
    mode: str
    candidates: int
    refinement: Refinement
    stages: StageTimes
    tunneling: Mapping[str, Any] | None = None
    coherence_time_ms: float | None = None
