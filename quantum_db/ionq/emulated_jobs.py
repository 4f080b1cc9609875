"""The emulator's jobs: their life by the clock, the sessions they run in, and the ledger of what was accepted.

Pure: no HTTP, no threads, no timers. A job's status follows from the clock and from the times fixed when it was
accepted, so a job advances without anybody touching it. One event loop or one thread owns an ``EmulatedJobs``.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from quantum_db.ionq.emulated_requests import MULTI, SIMULATOR, SINGLE, ApiError, JobSpec
from quantum_db.ionq.pricing import BRAKET_FORTE, FREE, PriceModel
from quantum_db.ports import Clock

Status = Literal["submitted", "ready", "started", "completed", "failed", "canceled"]
FINAL: Final[frozenset[Status]] = frozenset({"completed", "failed", "canceled"})

MAX_SESSIONS: Final = 1_000
_LEDGER_VALUE_CHARS: Final = 256  # qiskit's header describes every circuit; the ledger is about keys
_SCRAMBLE: Final = 40_503  # odd, so that child numbers map one to one onto 16 bits
_UNSCRAMBLE: Final = pow(_SCRAMBLE, -1, 1 << 16)
_CHILD_END: Final = re.compile(r"[0-9a-f]{4}")


@dataclass(frozen=True, slots=True)
class Delays:
    """How long a job stays in each state before its end, in seconds."""

    submitted_s: float = 0.0
    ready_s: float = 0.0
    started_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed, in IonQ's words."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """An accepted job. Times ending in ``_mono_s`` are on the monotonic clock."""

    id: str
    number: int
    spec: JobSpec
    one_qubit_gates: int
    two_qubit_gates: int
    cost_usd: float
    submitted_at_s: float
    submitted_mono_s: float
    ready_mono_s: float
    started_mono_s: float
    ended_mono_s: float
    failure: Failure | None
    canceled_mono_s: float | None = None

    def status(self, now_mono_s: float) -> Status:
        """Return the status at a time."""
        if self.canceled_mono_s is not None:
            return "canceled"
        if now_mono_s >= self.ended_mono_s:
            return "failed" if self.failure else "completed"
        if now_mono_s >= self.started_mono_s:
            return "started"
        return "ready" if now_mono_s >= self.ready_mono_s else "submitted"

    @property
    def type(self) -> str:
        """IonQ's name of the job's type."""
        return MULTI if self.spec.multi else SINGLE

    @property
    def child_ids(self) -> tuple[str, ...]:
        """Ids of the jobs of a multi-circuit job, in the order of its circuits. They do not sort in that order."""
        return tuple(map(self.child_id, range(len(self.spec.circuits)))) if self.spec.multi else ()

    def child_id(self, circuit: int) -> str:
        """Return the id of the job of one circuit of a multi-circuit job."""
        return f"{self.id[:-4]}{((circuit + 1) * _SCRAMBLE) & 0xFFFF:04x}"


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One accepted submission. ``metadata`` without its longest values."""

    job_id: str
    backend: str
    circuits: int
    shots: int
    cost_usd: float
    submitted_at_s: float
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """When a session takes no more jobs; None for no limit."""

    jobs: int | None = None
    duration_min: int | None = None
    cost_usd: float | None = None


@dataclass(slots=True)
class Session:
    """A reservation of a backend."""

    id: str
    backend: str
    limits: SessionLimits
    created_at_s: float
    started_at_s: float | None = None
    ended_at_s: float | None = None
    jobs: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; None and empty mean any."""

    ids: frozenset[str] = frozenset()
    status: Status | None = None
    targets: frozenset[str] = frozenset()
    session_id: str | None = None


def _new_id() -> str:
    return str(uuid.uuid4())


class EmulatedJobs:
    """Accepts, advances, lists and forgets jobs."""

    def __init__(
        self,
        clock: Clock,
        *,
        delays: Delays = Delays(),
        listing_lag_s: float = 0.0,
        queue_time_s: float = 0.0,
        kept_jobs: int = 2_000,
        kept_entries: int = 100_000,
        qpu_price: PriceModel = BRAKET_FORTE,
        new_id: Callable[[], str] = _new_id,
    ) -> None:
        """Start without jobs.

        Args:
            clock: what the jobs advance by.
            delays: for jobs accepted from now on; may be set at any time.
            listing_lag_s: how long after its acceptance a job, with its children, appears in lists; may be set at any
                time.
            queue_time_s: what backends and estimates tell of the queue, whatever the delays; may be set at any time.
            kept_jobs: how many jobs are kept; beyond, the oldest ended ones are forgotten.
            kept_entries: how many ledger entries are kept.
            qpu_price: the price model of every backend but the simulator.
            new_id: makes ids; must look like a UUID.
        """
        self.delays = delays
        self.listing_lag_s = listing_lag_s
        self.queue_time_s = queue_time_s
        self.clock = clock
        self._kept_jobs = kept_jobs
        self._kept_entries = kept_entries
        self._qpu_price = qpu_price
        self._new_id = new_id
        self.reset()

    def reset(self) -> None:
        """Forget all jobs, sessions and the ledger."""
        self._jobs: dict[str, Job] = {}
        self._in_flight: set[str] = set()
        self._ledger: deque[LedgerEntry] = deque(maxlen=self._kept_entries)
        self._sessions: dict[str, Session] = {}
        self.accepted = 0
        self.high_water_mark = 0
        self.high_water_marks: dict[str, int] = {}

    def submit(self, spec: JobSpec, *, failure: Failure | None = None) -> Job:
        """Accept a job, which is then in the ledger.

        Args:
            spec: the checked submission.
            failure: what the job will end with, if not with results.

        Raises:
            ApiError: its session takes no more jobs (400), or too many jobs are in flight (429).
        """
        now_s = self.clock.monotonic_s()
        self._forget(now_s)
        one_qubit, two_qubit = spec.gate_counts()
        cost_usd = self._price_usd(spec, one_qubit, two_qubit)
        session = self._enter_session(spec, cost_usd) if spec.session_id else None
        ready_s = now_s + self.delays.submitted_s
        started_s = ready_s + self.delays.ready_s
        self.accepted += 1
        job = Job(
            id=self._new_id()[:-4] + "0000",
            number=self.accepted,
            spec=spec,
            one_qubit_gates=one_qubit,
            two_qubit_gates=two_qubit,
            cost_usd=cost_usd,
            submitted_at_s=self.clock.now_s(),
            submitted_mono_s=now_s,
            ready_mono_s=ready_s,
            started_mono_s=started_s,
            ended_mono_s=started_s + self.delays.started_s,
            failure=failure,
        )
        if session is not None:
            session.jobs += 1
            session.cost_usd += cost_usd
            session.started_at_s = session.started_at_s or job.submitted_at_s
        self._jobs[job.id] = job
        self._in_flight.add(job.id)
        self._note_high_water(spec.backend)
        self._ledger.append(_entry(job))
        return job

    def find(self, job_id: str) -> tuple[Job, int | None]:
        """Return the job of an id, and which of its circuits the id stands for if it is a child's.

        Raises ApiError with status 404.
        """
        job = self._jobs.get(job_id)
        if job is not None:
            return job, None
        parent = self._jobs.get(f"{job_id[:-4]}0000")
        if parent is not None and parent.spec.multi and _CHILD_END.fullmatch(job_id[-4:]):
            circuit = ((int(job_id[-4:], 16) * _UNSCRAMBLE) & 0xFFFF) - 1
            if 0 <= circuit < len(parent.spec.circuits):
                return parent, circuit
        raise ApiError(404, f"there is no job {job_id[:64]}")

    def select(self, wanted: JobFilter, *, limit: int, before: int | None = None) -> tuple[list[Job], int | None]:
        """Return the newest jobs that fit, and the number to pass as ``before`` for the next page, if there is one."""
        now_s = self.clock.monotonic_s()
        found: list[Job] = []
        for job in reversed(self._jobs.values()):
            if (before is not None and job.number >= before) or not self.is_listed(job):
                continue
            if not _fits(job, wanted, now_s):
                continue
            if len(found) == limit:
                return found, found[-1].number
            found.append(job)
        return found, None

    def is_listed(self, job: Job) -> bool:
        """Whether the job, or a child of it, appears in lists by now."""
        return self.clock.monotonic_s() >= job.submitted_mono_s + self.listing_lag_s

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that has not ended. Raises ApiError: 404, or 409 when it has."""
        job, circuit = self.find(job_id)
        now_s = self.clock.monotonic_s()
        status = job.status(now_s)
        if circuit is not None:
            raise ApiError(409, "a circuit of a job cannot be canceled by itself; cancel the job")
        if status in FINAL and status != "canceled":
            raise ApiError(409, f"the job is {status}")
        if status != "canceled":
            job = self._jobs[job.id] = replace(job, canceled_mono_s=now_s)
            self._in_flight.discard(job.id)
        return job

    def delete(self, job_id: str) -> None:
        """Forget a job; it stays in the ledger. Raises ApiError with status 404."""
        job, circuit = self.find(job_id)
        if circuit is not None:
            raise ApiError(409, "a circuit of a job cannot be deleted by itself; delete the job")
        del self._jobs[job.id]
        self._in_flight.discard(job.id)

    def cost_usd(self, job: Job, circuit: int | None) -> float:
        """Return what a job, or one of its circuits, costs."""
        if circuit is None:
            return job.cost_usd
        alone = replace(job.spec, circuits=(job.spec.circuits[circuit],))
        return self._price_usd(alone, *alone.gate_counts())

    def price_of(self, backend: str) -> PriceModel:
        """Return the price model of a backend."""
        return FREE if backend == SIMULATOR else self._qpu_price

    @property
    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Every accepted submission that is still kept, oldest first."""
        return tuple(self._ledger)

    def times_accepted(self, metadata_key: str) -> Counter[str]:
        """Return how often each value of a metadata key was accepted: a count above 1 is work paid for twice."""
        return Counter(entry.metadata[metadata_key] for entry in self._ledger if metadata_key in entry.metadata)

    def open_session(self, backend: str, limits: SessionLimits) -> Session:
        """Open a session. Raises ApiError with status 429 when there are too many."""
        if len(self._sessions) >= MAX_SESSIONS:
            self._sessions = {key: value for key, value in self._sessions.items() if self.is_active(value)}
        if len(self._sessions) >= MAX_SESSIONS:
            raise ApiError(429, f"there are {MAX_SESSIONS} active sessions")
        session = Session(self._new_id(), backend, limits, created_at_s=self.clock.now_s())
        self._sessions[session.id] = session
        return session

    def session(self, session_id: str) -> Session:
        """Return a session. Raises ApiError with status 404."""
        try:
            return self._sessions[session_id]
        except KeyError:
            raise ApiError(404, f"there is no session {session_id[:64]}") from None

    def sessions(self) -> Iterable[Session]:
        """Return the sessions, oldest first."""
        return tuple(self._sessions.values())

    def is_active(self, session: Session) -> bool:
        """Whether the session takes jobs, as far as its time goes; an expired one is ended."""
        limit_min = session.limits.duration_min
        if session.ended_at_s is None and limit_min is not None:
            end_s = session.created_at_s + 60.0 * limit_min
            if self.clock.now_s() >= end_s:
                session.ended_at_s = end_s
        return session.ended_at_s is None

    def end_session(self, session_id: str) -> Session:
        """End a session. Idempotent. Raises ApiError with status 404."""
        session = self.session(session_id)
        if self.is_active(session):
            session.ended_at_s = self.clock.now_s()
        return session

    def _price_usd(self, spec: JobSpec, one_qubit: int, two_qubit: int) -> float:
        circuits = len(spec.circuits)
        return self.price_of(spec.backend).cost_usd(circuits, spec.shots, one_qubit / circuits, two_qubit / circuits)

    def _enter_session(self, spec: JobSpec, cost_usd: float) -> Session:
        session = self._sessions.get(spec.session_id or "")
        if session is None or session.backend != spec.backend or not self.is_active(session):
            raise ApiError(400, f"there is no active session of this id on {spec.backend}", ("session_id",))
        limits = session.limits
        if limits.jobs is not None and session.jobs >= limits.jobs:
            raise ApiError(400, f"the session takes {limits.jobs} jobs", ("session_id",))
        if limits.cost_usd is not None and session.cost_usd + cost_usd > limits.cost_usd:
            raise ApiError(400, f"the session's cost limit is {limits.cost_usd} USD", ("session_id",))
        return session

    def _note_high_water(self, backend: str) -> None:
        """Note how many jobs are in flight, in all and on the backend that has just taken one."""
        here = sum(self._jobs[key].spec.backend == backend for key in self._in_flight)
        self.high_water_mark = max(self.high_water_mark, len(self._in_flight))
        self.high_water_marks[backend] = max(self.high_water_marks.get(backend, 0), here)

    def _forget(self, now_s: float) -> None:
        """Note which jobs have ended, and make room for one more."""
        self._in_flight = {key for key in self._in_flight if self._jobs[key].status(now_s) not in FINAL}
        if len(self._jobs) < self._kept_jobs:
            return
        oldest = next((key for key in self._jobs if key not in self._in_flight), None)
        if oldest is None:
            raise ApiError(429, f"{self._kept_jobs} jobs are in flight, and the emulator keeps no more")
        del self._jobs[oldest]


def _entry(job: Job) -> LedgerEntry:
    spec = job.spec
    metadata = {key: value for key, value in (spec.metadata or {}).items() if len(value) <= _LEDGER_VALUE_CHARS}
    return LedgerEntry(job.id, spec.backend, len(spec.circuits), spec.shots, job.cost_usd, job.submitted_at_s, metadata)


def _fits(job: Job, wanted: JobFilter, now_s: float) -> bool:
    return (
        (not wanted.ids or job.id in wanted.ids)
        and (not wanted.targets or job.spec.backend in wanted.targets)
        and (wanted.session_id is None or job.spec.session_id == wanted.session_id)
        and (wanted.status is None or job.status(now_s) == wanted.status)
    )
