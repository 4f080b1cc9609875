"""The workers of the job pool: processes that talk to backends, and the coordinator's side of them."""

from __future__ import annotations

import asyncio
import importlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import ray
from ray.actor import ActorHandle

from actors.shell import ActorLost, ask
from quantum_db.backend_ports import (
    BackendLimits,
    BackendResult,
    Collected,
    JobEstimate,
    JobRequest,
    ProviderJob,
    QuantumBackend,
    QuantumProvider,
)
from quantum_db.circuits.template import CircuitBatch
from quantum_db.clock import SystemClock
from quantum_db.errors import DeadlineExceeded, OutcomeUnclear, QuantumDBError, Unavailable
from quantum_db.jobs.backends import BackendSpec, build_backend, build_provider
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.jobs.rounds import run_here

logger = logging.getLogger(__name__)

GRACE_S = 5.0
"""How much longer than a call's own timeout the pool waits for the worker's word about it."""

LIMITS_TIMEOUT_S = 15.0
SIMULATING: Final = "simulating"
SIMULATING_THREADS: Final = 4
"""In these a worker runs circuits by itself; the many others wait for providers. NumPy keeps up to some megabytes of
small arrays for each thread that ever had any: in 48 threads that grew for hours."""
DRAIN_LOOK_S: Final = 0.1
DRAIN_TIMEOUT_S: Final = 300.0
"""After which a worker that is to end is ended, whatever it does: no call to a provider takes so long."""


class JobWorker:
    """Runs circuits, or talks to a provider, several calls at a time in threads. Holds no state that matters."""

    def __init__(self, specs: Mapping[str, BackendSpec], retry: RetryPolicy, seed: int | None) -> None:
        if any(spec.kind == "ionq" for spec in specs.values()):
            importlib.import_module("quantum_db.ionq.backend")  # brings qiskit, which no short-lived thread may import
        self._specs = dict(specs)
        self._retry = retry
        self._seeds = np.random.SeedSequence(seed)
        self._clock = SystemClock()
        self._backends: dict[str, QuantumBackend] = {}
        self._providers: dict[str, QuantumProvider] = {}
        self._lock = threading.Lock()
        self._running = 0

    def ready(self) -> bool:
        """Return True."""
        return True

    def busy(self) -> int:
        """Return how many calls are being carried out, also those whose caller has ceased to wait."""
        return self._running

    def limits(self, backend: str) -> BackendLimits:
        """Return what a backend accepts; may ask the provider."""
        local = self._specs[backend].kind == "simulator"
        with self._counted():
            return self._backend(backend).limits if local else self._provider(backend).limits

    def run(self, request: JobRequest) -> BackendResult:
        """Run circuits here; see ``quantum_db.jobs.rounds``."""
        with self._counted():
            return run_here(self._backend(request.backend), request, self._clock)

    def submit(self, backend: str, begin_by_s: float, *arguments: Any, **options: Any) -> str:
        """See ``Workers.submit``."""
        if self._clock.now_s() > begin_by_s:
            raise DeadlineExceeded("the worker came to the submission too late; nothing was sent")
        with self._counted():
            return self._provider(backend).submit(*arguments, **options)

    def call(self, backend: str, method: str, *arguments: Any, **options: Any) -> Any:
        """Call another method of the provider."""
        with self._counted():
            return getattr(self._provider(backend), method)(*arguments, **options)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def _backend(self, name: str) -> QuantumBackend:
        with self._lock:
            if name not in self._backends:
                self._backends[name] = build_backend(name, self._specs[name], self._rng())
            return self._backends[name]

    def _provider(self, name: str) -> QuantumProvider:
        with self._lock:
            if name not in self._providers:
                self._providers[name] = build_provider(name, self._specs[name], self._retry, self._rng())
            return self._providers[name]

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng(self._seeds.spawn(1)[0])


@dataclass(slots=True, eq=False)
class _Hired:
    """A worker, and how many calls to it are waited for."""

    actor: ActorHandle[Any]
    calls: int = 0


class RemoteWorkers:
    """Implements ``Workers`` by calls to worker actors, to the least busy one. They die with who made them."""

    def __init__(
        self, specs: Mapping[str, BackendSpec], count: int, threads: int, retry: RetryPolicy, seed: int | None
    ) -> None:
        """Start the workers.

        Args:
            specs: backends by name.
            count: worker processes.
            threads: calls that each carries out at a time.
            retry: of reads from a provider.
            seed: of the simulators' shots; None for a fresh one.
        """
        options = {"num_cpus": 0, "max_restarts": -1, "max_concurrency": threads}
        self._worker = ray.remote(concurrency_groups={SIMULATING: SIMULATING_THREADS}, **options)(JobWorker)
        self._arguments = (dict(specs), retry)
        self._seed = seed
        self._hired = 0
        self._working = [self._hire() for _ in range(count)]
        self._coming: set[asyncio.Task[None]] = set()
        self._going: set[asyncio.Task[None]] = set()

    @property
    def counts(self) -> dict[str, int]:
        """How many work, are being started, and finish what they have begun before they end."""
        return {"working": len(self._working), "starting": len(self._coming), "draining": len(self._going)}

    def scale(self, count: int) -> None:
        """Start workers, or let some end, until there are ``count``, which is at least 1.

        One that starts is asked nothing before it answers. One that is to end is asked nothing more, and ends when all
        that it has been asked is done.
        """
        loop = asyncio.get_running_loop()
        for _ in range(count - len(self._working) - len(self._coming)):
            _keep(self._coming, loop.create_task(self._welcome(self._hire())))
        for _ in range(len(self._working) - count):
            leaving = min(self._working, key=lambda worker: worker.calls)
            self._working.remove(leaving)
            _keep(self._going, loop.create_task(self._let_go(leaving)))

    async def ready(self) -> None:
        """Return once all workers answer. Raises Unavailable."""
        for worker in list(self._working):
            await ask(worker.actor.ready.remote())

    async def limits(self, backend: str) -> BackendLimits:
        return cast(BackendLimits, await self._ask(LIMITS_TIMEOUT_S, "limits", backend))

    async def run(self, request: JobRequest) -> BackendResult:
        return cast(BackendResult, await self._ask(request.timeout_s, "run", request))

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
        options = {"job_key": job_key, "timeout_s": timeout_s, "labels": dict(labels)}
        late_s = max(0.0, begin_by_s - SystemClock().now_s())
        try:
            asked = self._ask(late_s + timeout_s, "submit", backend, begin_by_s, tuple(parts), shots, **options)
            return str(await asked)
        except ActorLost as error:
            raise OutcomeUnclear(f"the worker that submitted it: {error.detail}") from error

    async def find(self, backend: str, job_key: str, *, timeout_s: float, since_s: float) -> tuple[ProviderJob, ...]:
        asked = self._call(timeout_s, backend, "find", job_key, since_s=since_s)
        return cast(tuple[ProviderJob, ...], await asked)

    async def collect(
        self, backend: str, job_id: str, qubits: Sequence[int], shots: int, *, timeout_s: float
    ) -> Collected:
        return cast(Collected, await self._call(timeout_s, backend, "collect", job_id, tuple(qubits), shots))

    async def cancel(self, backend: str, job_id: str, *, timeout_s: float) -> bool:
        return bool(await self._call(timeout_s, backend, "cancel", job_id))

    async def estimate(
        self, backend: str, parts: Sequence[CircuitBatch], shots: int, *, timeout_s: float
    ) -> JobEstimate:
        return cast(JobEstimate, await self._call(timeout_s, backend, "estimate", tuple(parts), shots))

    async def queue_time_s(self, backend: str, *, timeout_s: float) -> float:
        return float(await self._call(timeout_s, backend, "queue_time_s"))

    async def _call(self, timeout_s: float, backend: str, method: str, *arguments: Any, **options: Any) -> Any:
        return await self._ask(timeout_s, "call", backend, method, *arguments, timeout_s=timeout_s, **options)

    async def _ask(self, limit_s: float, what: str, *arguments: Any, **options: Any) -> Any:
        """Await a worker's answer. An error that is none of ours is a fault of a worker: it is not to stop a job."""
        worker = min(self._working, key=lambda one: one.calls)
        self._working.remove(worker)
        self._working.append(worker)  # of those that are equally busy each has its turn
        worker.calls += 1
        method = getattr(worker.actor, what)
        if what == "run":
            method = method.options(concurrency_group=SIMULATING)
        try:
            return await ask(method.remote(*arguments, **options), limit_s + GRACE_S)
        except QuantumDBError:
            raise
        except ray.exceptions.RayError as error:
            logger.exception("a worker failed")
            raise ActorLost(f"a worker failed: {type(error).__name__}") from error
        finally:
            worker.calls -= 1

    def _hire(self) -> _Hired:
        seed = None if self._seed is None else self._seed + self._hired
        self._hired += 1
        return _Hired(self._worker.remote(*self._arguments, seed))

    async def _welcome(self, worker: _Hired) -> None:
        try:
            await ask(worker.actor.ready.remote())
        except QuantumDBError as error:
            logger.warning("a worker did not start: %s", error.detail)
            ray.kill(worker.actor)
            return
        self._working.append(worker)

    async def _let_go(self, worker: _Hired) -> None:
        """End a worker that is asked nothing more, once it has done everything."""
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while worker.calls or await ask(worker.actor.busy.remote()):  # noqa: ASYNC110 - it is in another process
                    await asyncio.sleep(DRAIN_LOOK_S)
        except (TimeoutError, Unavailable):
            logger.warning("a worker did not come to an end, and is ended")
        ray.kill(worker.actor)


def _keep(tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
    """Hold a task for as long as it runs: the event loop does not."""
    tasks.add(task)
    task.add_done_callback(tasks.discard)
