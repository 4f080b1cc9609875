"""What runs circuits: backends, providers, and the pool in front of them. Adapters: ``ionq``, ``actors``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from quantum_db.circuits.adaptive import Selection
from quantum_db.circuits.template import CircuitBatch
from quantum_db.jobs.breaker import BreakerState
from quantum_db.jobs.budget import NO_LIMIT, SpendingLimit
from quantum_db.jobs.queue import Priority
from quantum_db.model import Provenance
from quantum_db.scope import DEFAULT_TENANT

NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})


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
