"""What the database needs from outside, as protocols. Adapters: ``stores``, ``journals``, ``ionq``, ``actors``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from quantum_db.circuits.adaptive import Selection
from quantum_db.circuits.template import CircuitBatch, Template
from quantum_db.lifecycle import StateEvent
from quantum_db.model import Candidates, EntanglementGroup, Entity, Provenance, Search


class VectorStore(Protocol):
    """Entities with their vectors, contexts and metadata, durable when a write returns.

    The dimension is set by the first entity ever written and stays. All methods raise ``Unavailable`` when the
    store does not answer.
    """

    async def dimension(self) -> int | None:
        """Return the length of the stored vectors, or None before the first write."""

    async def upsert(self, entities: Sequence[Entity]) -> None:
        """Write the entities, replacing those with the same id as a whole. Idempotent.

        Ids within one call are distinct. Raises InvalidRequest when a dimension is wrong; nothing is written then.
        """

    async def fetch(self, ids: Sequence[str]) -> list[Entity | None]:
        """Return the entities in the order of ``ids``, None for each unknown one."""

    async def delete(self, ids: Sequence[str]) -> list[bool]:
        """Delete the entities; return for each id whether it was there. Idempotent in effect."""

    async def search(self, searches: Sequence[Search]) -> list[Candidates]:
        """Answer several searches in one call. A store without data answers with no candidates."""

    async def context_names(self) -> list[str]:
        """Return the names of all contexts that some entity has. Slow: for error messages."""

    async def count(self) -> int:
        """Return the number of entities."""

    async def optimize(self) -> None:
        """Build what makes searches fast. Optional after a bulk load; may take minutes."""

    async def close(self) -> None:
        """Flush and release. Idempotent."""


@dataclass(frozen=True, slots=True)
class BackendLimits:
    """What a backend accepts in one job, and what a planner has to know of it.

    Attributes:
        price_model: a name of ``quantum_db.ionq.pricing``.
        one_qubit_fidelity, two_qubit_fidelity: mean fidelities of its gates; 1 for an ideal simulator.
    """

    max_qubits: int
    max_circuits: int
    max_gates: int
    max_shots: int
    price_model: str = "free"
    one_qubit_fidelity: float = 1.0
    two_qubit_fidelity: float = 1.0


@dataclass(frozen=True, slots=True)
class BackendResult:
    """The counts of one job.

    Attributes:
        counts: for each circuit, outcome -> number of shots; an outcome is an integer, qubit 0 its lowest bit.
        cost_usd: by the provider's published price model; 0 for simulators.
        provider_job_ids: as the provider knows the work; one for each round of an adaptive job.
        selection: of an adaptive job, what it decided.
    """

    counts: tuple[Mapping[int, int], ...]
    provenance: Provenance
    backend: str
    cost_usd: float
    provider_job_ids: tuple[str, ...] = ()
    selection: Selection | None = None


class QuantumBackend(Protocol):
    """Runs circuits. Synchronous: the job pool calls it from worker threads."""

    @property
    def name(self) -> str:
        """The name that queries choose it by."""

    @property
    def limits(self) -> BackendLimits:
        """What one job may hold."""

    def run(self, batch: CircuitBatch, shots: int, *, job_key: str, timeout_s: float) -> BackendResult:
        """Run every circuit of the batch with ``shots`` shots each, as one job.

        Args:
            job_key: identifies the work to the provider; two calls with the same key are the same work.

        Raises:
            InvalidCircuit: the batch is outside the limits; nothing was submitted.
            DeadlineExceeded: no result within ``timeout_s``; the job was cancelled if that was possible.
            Unavailable: the provider does not answer, or answers with a transient error.
            JobFailed: the provider refused or failed the job.
        """


@dataclass(frozen=True, slots=True)
class AdaptiveAim:
    """What adaptive shots are to find: the ``top_k`` circuits by their share of all-zero outcomes.

    Attributes:
        epsilon: 0 for the exact set; else no chosen circuit is worse than a missed one by more than this.
        confidence: of the set.
        max_shots: budget over all circuits.
    """

    top_k: int
    epsilon: float
    confidence: float
    max_shots: int


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One piece of quantum work: a batch of circuits that a backend runs as one job, or in rounds.

    Attributes:
        key: identifies the work; unique for each new piece of it.
        shots: of each circuit, where there is no ``adaptive`` aim.
        priority: ``interactive`` work starts before ``batch`` work.
    """

    key: str
    backend: str
    batch: CircuitBatch
    shots: int
    timeout_s: float
    priority: Literal["interactive", "batch"] = "interactive"
    adaptive: AdaptiveAim | None = None


class JobPool(Protocol):
    """Runs quantum jobs within the limits of each backend."""

    async def limits(self, backend: str) -> BackendLimits:
        """Return what a backend accepts.

        Raises InvalidRequest when there is no such backend, Unavailable when it does not tell.
        """

    async def run(self, request: JobRequest) -> BackendResult:
        """Run a job and return its counts.

        Raises what ``QuantumBackend.run`` raises, and Overloaded when too many jobs wait.
        """


class Templates(Protocol):
    """Circuit structures, built once and shared."""

    async def overlap(self, num_qubits: int) -> Template:
        """Return ``overlap_template(num_qubits)``."""

    def note(self, template: Template) -> None:
        """Let the cluster know a structure that has been used, so that ``get`` finds it. Does not wait."""

    async def get(self, key: str) -> Template:
        """Return the structure with this key. Raises NotFound when it is not in the cluster's cache (any more)."""


class StateLog(Protocol):
    """Takes note of what happens to states. Does not wait, and a lost note changes no answer."""

    def record(self, events: Sequence[StateEvent]) -> None:
        """Note the events, in order."""


class Groups(Protocol):
    """Entanglement groups, durable when a write returns."""

    async def create(self, group: EntanglementGroup) -> EntanglementGroup:
        """Write a group; return it with its version. Idempotent; Conflict if the id stands for another group."""

    async def get(self, group_id: str) -> EntanglementGroup:
        """Return a group. Raises NotFound."""

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        """Return the groups that an entity is in, by id."""


class Journal(Protocol):
    """An append-only record of facts, in named streams that are numbered from 1 without gaps. Synchronous.

    One thread of the owner writes; others may read meanwhile. Every wait is bounded. All methods raise ``Unavailable``
    when the journal does not answer, refuses to write (full, read-only) or is closed, and ``CorruptData`` when what it
    holds is damaged or less than this object has seen. Whether a write that raised Unavailable took place is not
    known; it did as a whole or not at all.
    """

    def begin_epoch(self, stream: str) -> int:
        """Become the stream's writer: return a new epoch, one above the last. Durable when it returns.

        From now on writes with an earlier epoch are refused.
        """

    def append(self, stream: str, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None) -> int:
        """Append JSON records, all or none, and return the number of the last one. Durable when it returns.

        Appending nothing returns the number of the stream's last record.

        Args:
            epoch: the writer's own, from ``begin_epoch``; None is never refused.

        Raises:
            Fenced: ``epoch`` is not the newest; nothing was written.
            TypeError, ValueError: a record is not JSON (NaN isn't); nothing was written.
        """

    def read(self, stream: str, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (number, record) for what is there when the reading begins and numbered above ``after``, in order.

        Where ``compact`` has replaced records above ``after``, the snapshot comes first, each of its records with the
        number up to which it stands for the stream. Records are loaded in batches of bounded number.

        Raises:
            CorruptData: a record or the snapshot is missing or fails its checksum, or ``after`` is beyond the last
                number: never silently short.
            Unavailable: also when a compaction has overtaken this reading; a new one succeeds.
        """

    def last(self, stream: str) -> int:
        """Return the number of the stream's last record, 0 if it never had one."""

    def compact(
        self, stream: str, through: int, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None
    ) -> None:
        """Replace all up to and including number ``through`` by ``records``, the snapshot. Atomic and idempotent.

        Numbers of later records stay. Durable when it returns.

        Raises:
            Fenced: ``epoch`` is not the newest; nothing was changed.
            TypeError, ValueError: a record is not JSON.
            ValueError: ``through`` lies beyond the last record or before the existing snapshot; nothing was changed.
        """

    def close(self) -> None:
        """Release the journal. Idempotent."""


class Clock(Protocol):
    """Time, so that tests can hold it still."""

    def now_s(self) -> float:
        """Seconds since the epoch, for records and ages."""

    def monotonic_s(self) -> float:
        """Seconds that never go back, for deadlines and durations."""
