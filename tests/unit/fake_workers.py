"""A provider and a journal in memory, for tests of the job pool; what goes wrong is said by the test."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from quantum_db.backend_ports import BackendLimits, BackendResult, Collected, JobEstimate, JobRequest, ProviderJob
from quantum_db.circuits.simulator import SimulatorBackend
from quantum_db.circuits.template import CircuitBatch, MultiplexedRY, Template, content_key
from quantum_db.clock import SystemClock
from quantum_db.errors import DeadlineExceeded, Fenced, JobCanceled, Unavailable
from quantum_db.jobs.assembly import AssembledPool, PoolPolicy, assemble
from quantum_db.jobs.backends import BackendDescription
from quantum_db.jobs.budget import SpendingLimit
from quantum_db.jobs.rounds import run_here

PAID = BackendLimits(8, 1_000, 100_000, 10_000, price_model="braket-forte")
BACKENDS = {
    "far": BackendDescription(local=False, identity="http://far|qpu", provenance="hardware"),
    "near": BackendDescription(local=True, identity="near", provenance="simulated shots"),
}


def labelled(*outcomes: int, qubits: int = 3) -> CircuitBatch:
    """Return circuits that have one outcome each: the given one."""
    steps = tuple(MultiplexedRY(qubit, (), qubit) for qubit in range(qubits))
    bits = np.array([[(outcome >> qubit) & 1 for qubit in range(qubits)] for outcome in outcomes])
    return CircuitBatch(Template(content_key(qubits, steps), qubits, steps), np.pi * bits)


def request(key: str, *outcomes: int, **options: Any) -> JobRequest:
    return JobRequest(
        **{
            "key": key,
            "backend": "far",
            "parts": (labelled(*(outcomes or (1,))),),
            "shots": 100,
            "timeout_s": 5.0,
            **options,
        }
    )


@dataclass
class FarJob:
    id: str
    key: str
    parts: tuple[CircuitBatch, ...]
    shots: int
    labels: Mapping[str, str]
    status: str = "started"


class FakeWorkers:
    """``near`` runs here; ``far`` accepts jobs, lists them, and ends them once ``finish`` is set, as it is at first."""

    def __init__(self, limits: BackendLimits = PAID) -> None:
        self.far = limits
        self.simulator = SimulatorBackend(np.random.default_rng(0), name="near")
        self.jobs: list[FarJob] = []
        self.local: list[JobRequest] = []
        self.calls: Counter[str] = Counter()
        self.finish = asyncio.Event()
        self.finish.set()
        self.hold_local: asyncio.Event | None = None
        self.hold_far: asyncio.Event | None = None
        self.on_submit: Callable[[str], Any] = lambda key: None
        self.after_submit: Callable[[str], Any] = lambda key: None
        self.on_limits: Callable[[], Any] = lambda: None
        self.on_find: Callable[[], Any] = lambda: None
        self.on_collect: Callable[[], Any] = lambda: None
        self.listed = True
        self.in_flight = self.most_in_flight = 0
        self.queue_s = 0.0

    async def limits(self, backend: str) -> BackendLimits:
        if backend != "far":
            return self.simulator.limits
        self.calls["limits"] += 1
        if self.hold_far is not None:
            await self.hold_far.wait()
        self.on_limits()
        return self.far

    async def run(self, request: JobRequest) -> BackendResult:
        self.local.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if self.hold_local is not None:
            await self.hold_local.wait()
        self.in_flight -= 1
        return run_here(self.simulator, request, SystemClock())

    async def submit(
        self,
        backend: str,
        parts: Sequence[CircuitBatch],
        shots: int,
        *,
        job_key: str,
        begin_by_s: float,
        timeout_s: float,
        labels: Mapping[str, str],
    ) -> str:
        self.calls["submit"] += 1
        await asyncio.sleep(0)
        self.on_submit(job_key)
        job = FarJob(f"job-{len(self.jobs)}", job_key, tuple(parts), shots, labels)
        self.jobs.append(job)
        running = sum(job.status == "started" for job in self.jobs)
        self.most_in_flight = max(self.most_in_flight, running)
        self.after_submit(job_key)
        return job.id

    async def find(self, backend: str, job_key: str, *, timeout_s: float, since_s: float) -> tuple[ProviderJob, ...]:
        self.calls["find"] += 1
        self.on_find()
        found = [ProviderJob(job.id, job.status) for job in self.jobs if job.key == job_key and self.listed]
        return tuple(reversed(found))

    async def collect(
        self, backend: str, job_id: str, qubits: Sequence[int], shots: int, *, timeout_s: float
    ) -> Collected:
        self.calls["collect"] += 1
        self.on_collect()
        job = next(job for job in self.jobs if job.id == job_id)
        while not self.finish.is_set() and job.status == "started":
            try:
                await asyncio.wait_for(self.finish.wait(), 0.01)
            except TimeoutError:
                if self.calls["collect"] > 10_000:
                    raise DeadlineExceeded("still running") from None
        if job.status == "canceled":
            raise JobCanceled(f"job {job_id} was canceled")
        job.status = "completed"
        counts = [
            outcome for part in job.parts for outcome in self.simulator.run(part, shots, job_key="", timeout_s=1).counts
        ]
        assert [part.template.num_qubits for part in job.parts for _ in range(len(part))] == list(qubits)
        return Collected(BackendResult(tuple(counts), "hardware", "far", 8.3 * len(counts), (job_id,)), None)

    async def cancel(self, backend: str, job_id: str, *, timeout_s: float) -> bool:
        self.calls["cancel"] += 1
        job = next(job for job in self.jobs if job.id == job_id)
        if job.status == "started":
            job.status = "canceled"
        return job.status == "canceled"

    async def estimate(
        self, backend: str, parts: Sequence[CircuitBatch], shots: int, *, timeout_s: float
    ) -> JobEstimate:
        self.calls["estimate"] += 1
        if self.hold_far is not None:
            await self.hold_far.wait()
        return JobEstimate(1.0, 2.0, 3.0)

    async def queue_time_s(self, backend: str, *, timeout_s: float) -> float:
        return self.queue_s


@dataclass
class MemoryJournal:
    """A journal that survives the pool, not the test. ``refuse`` makes the next appends fail."""

    records: list[dict[str, Any]] = field(default_factory=list)
    epoch: int = 0
    refuse: int = 0
    snapshot: list[dict[str, Any]] = field(default_factory=list)
    through: int = 0

    def begin_epoch(self, stream: str) -> int:
        self.epoch += 1
        return self.epoch

    def append(self, stream: str, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None) -> int:
        if epoch is not None and epoch != self.epoch:
            raise Fenced("another process has taken over")
        if self.refuse:
            self.refuse -= 1
            raise Unavailable("the disk is full")
        self.records += [dict(record) for record in records]
        return self.through + len(self.records)

    def read(self, stream: str, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from ((self.through, record) for record in self.snapshot)
        yield from enumerate(self.records, start=self.through + 1)

    def last(self, stream: str) -> int:
        return self.through + len(self.records)

    def compact(
        self, stream: str, through: int, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None
    ) -> None:
        del self.records[: through - self.through]
        self.snapshot, self.through = [dict(record) for record in records], through

    def close(self) -> None:
        return None

    def kinds(self) -> list[str]:
        return [record["t"] for record in self.records]


class Bench:
    """A pool over fakes. ``restart`` gives a new pool on the same journal and provider."""

    def __init__(self, policy: PoolPolicy | None = None, limits: BackendLimits = PAID) -> None:
        self.policy = policy or PoolPolicy(window_s=0.001)
        self.workers = FakeWorkers(limits)
        self.journal = MemoryJournal()
        self.fenced: list[Fenced] = []
        self.numbers = itertools.count()

    async def start(self) -> Bench:
        self.registry = CollectorRegistry()
        self.parts: AssembledPool = assemble(
            self.policy,
            BACKENDS,
            workers=self.workers,
            journal=self.journal,
            clock=SystemClock(),
            rng=np.random.default_rng(0),
            registry=self.registry,
            on_fenced=self.fenced.append,
        )
        await self.parts.journal.load()
        self.pool = self.parts.pool
        self.pool.open()
        return self

    async def restart(self) -> Bench:
        """As after a crash: what was in memory is gone, and nothing was said to the provider."""
        await self.pool.close()
        await self.parts.journal.close()
        return await self.start()

    async def ask(self, *outcomes: int, **options: Any) -> BackendResult:
        return await self.pool.run(request(f"r{next(self.numbers)}", *outcomes, **options))

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(2_000):
            if condition():
                return
            await asyncio.sleep(0.002)
        raise AssertionError("the condition never came true")

    def spent(self, tenant: str = "default") -> tuple[float, float]:
        """Return what is settled and what is reserved, in USD."""
        accounts = self.parts.journal.ledger.budgets.accounts().items()
        own = [spent for account, spent in accounts if account.tenant == tenant]
        return sum(s.micro_usd for s in own) / 1e6, sum(s.reserved_micro_usd for s in own) / 1e6


def outcomes_of(result: BackendResult) -> list[int]:
    """Return the one outcome of each labelled circuit."""
    return [next(iter(counts)) for counts in result.counts]


__all__ = ["BACKENDS", "Bench", "FakeWorkers", "MemoryJournal", "SpendingLimit", "labelled", "outcomes_of", "request"]
