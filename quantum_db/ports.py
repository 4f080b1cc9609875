"""What the database needs from outside, as protocols. Adapters: ``stores``, ``journals``, ``ionq``, ``actors``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from quantum_db.circuits.adaptive import Selection
from quantum_db.circuits.template import CircuitBatch, Template
from quantum_db.groups import GroupPage, GroupUpdate
from quantum_db.jobs.breaker import BreakerState
from quantum_db.jobs.budget import NO_LIMIT, SpendingLimit
from quantum_db.jobs.queue import Priority
from quantum_db.model import DEFAULT_TENANT, Candidates, EntanglementGroup, Entity, Provenance, Search
from quantum_db.sessions import Observation, SessionKey
from quantum_db.states.events import EventBatch

NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})


class VectorReader(Protocol):
    """What queries need of a store. All methods raise ``Unavailable`` when it does not answer."""

    async def dimension(self) -> int | None:
        """Return the length of the stored vectors, or None before the first write."""

    async def fetch(self, ids: Sequence[str]) -> list[Entity | None]:
        """Return the entities in the order of ``ids``, None for each unknown one."""

    async def search(self, searches: Sequence[Search]) -> list[Candidates]:
        """Answer several searches in one call. A store without data answers with no candidates."""

    async def context_names(self) -> list[str]:
        """Return the names of all contexts that some entity has. Slow: for error messages."""


class ScrollableReader(VectorReader, Protocol):
    """A reader that can list all entities."""

    async def scroll(self, after: str | None, limit: int) -> tuple[list[Entity], str | None]:
        """Return the next entities of all, and the cursor of those that follow, None at the end.

        The order is the store's own and does not change: an entity that is there during the whole of a scroll comes
        exactly once, however many are written or deleted meanwhile.

        Args:
            after: the cursor that the call before returned; None begins.
            limit: at least 1; there may be fewer before the end, where entities are large.
        """


class VectorStore(ScrollableReader, Protocol):
    """Entities with their vectors, contexts and metadata, durable when a write returns.

    The dimension is set by the first entity ever written and stays.
    """

    async def upsert(self, entities: Sequence[Entity]) -> None:
        """Write the entities, replacing those with the same id as a whole. Idempotent.

        Ids within one call are distinct. Raises InvalidRequest when a dimension is wrong; nothing is written then.
        """

    async def delete(self, ids: Sequence[str]) -> list[bool]:
        """Delete the entities; return for each id whether it was there. Idempotent in effect."""

    async def apply(self, upserts: Sequence[Entity], deletes: Sequence[str]) -> None:
        """Write some entities and delete others: no search or fetch sees a part of it. Idempotent.

        All ids of one call are distinct; unknown ones are deleted already. When it fails midway, reads raise
        Unavailable until a call with the same ids has succeeded. Of a store that was killed midway, the owner calls
        again before it lets readers in.

        Raises:
            InvalidRequest: a dimension is wrong, or what ``check_transactions`` says; nothing was written.
        """

    def check_transactions(self) -> None:
        """Raise InvalidRequest when the store has no way to show several changes together."""

    async def versions(self, ids: Sequence[str]) -> list[int | None]:
        """Return the versions of the entities in the order of ``ids``, None for each unknown one. Reads no vectors."""

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
        reused_circuits: how many were answered without being run again.
        selection: of an adaptive job, what it decided.
    """

    counts: tuple[Mapping[int, int], ...]
    provenance: Provenance
    backend: str
    cost_usd: float
    provider_job_ids: tuple[str, ...] = ()
    selection: Selection | None = None
    reused_circuits: int = 0


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
class ProviderJob:
    """One job at a provider.

    Attributes:
        job_id: the provider's name for it.
        status: ``completed``, ``failed`` or ``canceled`` when it has ended; anything else means that it may still run.
    """

    job_id: str
    status: str


@dataclass(frozen=True, slots=True)
class JobEstimate:
    """What a provider expects of a job: its cost, the wait in the queue and the run time; None for what is not told."""

    cost_usd: float
    wait_s: float | None
    run_s: float | None


@dataclass(frozen=True, slots=True)
class Collected:
    """The end of a job at a provider.

    Attributes:
        result: the counts. Its ``cost_usd`` is ``told_cost_usd``, or where that is None the price model's figure for
            the gates that the provider counted.
        told_cost_usd: what the provider says that the job cost; None where it says nothing, in particular where
            nothing is billed.
    """

    result: BackendResult
    told_cost_usd: float | None


class QuantumProvider(Protocol):
    """Runs circuits elsewhere, step by step, so that a journal can be written between the steps.

    Synchronous: called from worker threads, and may be shared by them. No method waits beyond its ``timeout_s``. All
    but ``submit`` may be repeated freely.
    """

    @property
    def name(self) -> str:
        """The name that queries choose it by."""

    @property
    def limits(self) -> BackendLimits:
        """What one job may hold. Raises Unavailable when the provider does not tell."""

    def submit(
        self,
        parts: Sequence[CircuitBatch],
        shots: int,
        *,
        job_key: str,
        timeout_s: float,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> str:
        """Submit all circuits of all parts, in order, as one job; return the provider's id of it.

        The submission is sent once at most, whatever happens. Parts may differ in structure and qubits.

        Args:
            shots: of each circuit.
            job_key: what ``find`` finds the job by.
            labels: kept with the job for people and tools, beside the key.

        Raises:
            InvalidCircuit: the job is outside the limits, or it or its labels cannot be written; nothing was sent.
            DeadlineExceeded: no time was left; nothing was sent.
            OutcomeUnclear: it may have been accepted.
            Unavailable: it was certainly not accepted, and may be later.
            JobFailed: it was refused.
        """

    def find(self, job_key: str, *, timeout_s: float, since_s: float = 0.0) -> tuple[ProviderJob, ...]:
        """Return the jobs of this key, newest first. Submits nothing. A new job may not be listed at once.

        Args:
            since_s: seconds since the epoch; jobs submitted earlier need not be looked through.

        Raises:
            Unavailable: there is no clear answer, also because more jobs are listed than can be looked through.
            JobFailed: the provider refuses to list jobs.
        """

    def collect(self, job_id: str, qubits: Sequence[int], shots: int, *, timeout_s: float) -> Collected:
        """Wait for the end of a job and return its counts. Cancels nothing.

        Args:
            qubits: of each circuit, in the order of submission.
            shots: of each circuit.

        Raises:
            DeadlineExceeded: it was still waiting or running.
            Unavailable: there is no clear answer.
            JobFailed: it failed, is gone, or has a result that cannot be that of the circuits.
            JobCanceled: it was canceled.
        """

    def cancel(self, job_id: str, *, timeout_s: float) -> bool:
        """Cancel a job; return True if it is canceled now, False if it had ended otherwise. Raises Unavailable."""

    def estimate(self, parts: Sequence[CircuitBatch], shots: int, *, timeout_s: float) -> JobEstimate:
        """Return what the provider expects of such a job. Raises Unavailable, or JobFailed when it refuses to say."""

    def queue_time_s(self, *, timeout_s: float) -> float:
        """Return how long jobs wait in the queue on average at present. Raises Unavailable."""


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
    """One piece of quantum work: circuits that a backend runs as one job, or in rounds.

    Attributes:
        key: identifies the request; unique for each new one.
        parts: batches of one structure each; results come in their order.
        shots: of each circuit, where there is no ``adaptive`` aim.
        priority: ``interactive`` work starts before ``batch`` work.
        tenant: who it is for: whose budget pays, and whose share of the queue it takes.
        limit: what it may spend.
        adaptive: for a single part.
    """

    key: str
    backend: str
    parts: tuple[CircuitBatch, ...]
    shots: int
    timeout_s: float
    priority: Priority = "interactive"
    tenant: str = DEFAULT_TENANT
    limit: SpendingLimit = NO_LIMIT
    adaptive: AdaptiveAim | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """How a backend is doing, for those who choose one.

    Attributes:
        breaker: ``open`` and ``half_open`` take no new work.
        wait_s: predicted wait for a place and in the provider's queue, in seconds.
        run_s: mean time that its recent jobs took from their start here; 0 before the first.
    """

    limits: BackendLimits
    provenance: Provenance
    breaker: BreakerState
    wait_s: float
    run_s: float


class JobPool(Protocol):
    """Runs quantum jobs within the limits of each backend."""

    async def limits(self, backend: str) -> BackendLimits:
        """Return what a backend accepts.

        Raises InvalidRequest when there is no such backend, Unavailable when it does not tell.
        """

    async def conditions(self) -> Mapping[str, Condition]:
        """Return how each backend is doing that answers; a moment old."""

    async def run(self, request: JobRequest) -> BackendResult:
        """Run circuits and return their counts.

        Raises:
            InvalidCircuit: a circuit is outside the limits; nothing was submitted.
            BudgetExceeded: the limit, or the tenant's day, does not cover it; nothing was submitted.
            Overloaded: too much work waits.
            BreakerOpen: the backend failed too often; nothing was submitted.
            OutcomeUnclear: a submission may or may not have been accepted; it is being looked for.
            Unavailable: the provider does not answer.
            DeadlineExceeded: there was no result within ``timeout_s``.
            JobFailed, JobCanceled: the provider refused, failed or canceled the job.
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

    def record(self, events: EventBatch) -> None:
        """Note the events, in order."""


class Groups(Protocol):
    """Entanglement groups, durable when a write returns."""

    async def create(self, group: EntanglementGroup) -> EntanglementGroup:
        """Write a group; return it with its version. Idempotent; Conflict if the id stands for another group."""

    async def get(self, group_id: str) -> EntanglementGroup:
        """Return a group. Raises NotFound."""

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        """Return the groups that an entity is in, by id."""

    async def update(self, group_id: str, update: GroupUpdate, version: int) -> EntanglementGroup | None:
        """Change a group that is at ``version``; return it, or None if it fell below two members and is deleted.

        Raises:
            NotFound: there is no such group.
            Conflict: the group is not at ``version``.
            InvalidRequest: it would have too many members.
        """

    async def delete(self, group_id: str, version: int | None) -> int:
        """Delete a group, at ``version`` or whatever its version; return the version of the deletion.

        Raises NotFound, and Conflict as ``update`` does.
        """

    async def page(self, member: str | None, after: str, limit: int) -> GroupPage:
        """Return the first ``limit`` groups (of a member, or all) whose ids come after ``after``."""

    async def entity_deleted(self, entity_id: str) -> None:
        """Let an entity leave all its groups; those that fall below two members are deleted. Idempotent."""

    async def entities_written(self, entity_ids: Sequence[str]) -> None:
        """Tell everyone who caches that these entities have other vectors or contexts now.

        Does not raise where a part of the groups does not answer: after a restart it tells that all may be stale.
        """


class Sessions(Protocol):
    """What sessions have measured, durable when a write returns. All methods raise ``Unavailable``."""

    async def weights(self, key: SessionKey, candidates: Candidates) -> NDArray[np.float64]:
        """Return the weights of the candidates' rows as a session sees them, (N,); the stored ones without one."""

    async def observe(
        self,
        key: SessionKey,
        seen: Observation,
        groups: Sequence[EntanglementGroup],
        contexts: Mapping[str, Sequence[str]],
    ) -> None:
        """Let a session note a measurement; see ``SessionTable.observe``. Idempotent by the measurement's id."""

    async def get(self, key: SessionKey) -> Mapping[str, Any]:
        """Return the record of a session. Raises NotFound."""

    async def end(self, key: SessionKey) -> None:
        """Forget a session. Idempotent."""


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
