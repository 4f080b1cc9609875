"""The job pool's flow of control: wait for a place, run, free the place when the job has really ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from prometheus_client import CollectorRegistry, Counter, Histogram

from quantum_db.errors import DeadlineExceeded, InvalidRequest, QuantumDBError
from quantum_db.jobs.queue import JobQueue
from quantum_db.near import near_name
from quantum_db.ports import BackendLimits, BackendResult, Clock, JobRequest


class QueuedJobPool:
    """Implements ``JobPool`` over anything that can execute one job. For one event loop."""

    def __init__(
        self,
        queue: JobQueue,
        *,
        backends: tuple[str, ...],
        execute: Callable[[JobRequest], Awaitable[BackendResult]],
        limits_of: Callable[[str], Awaitable[BackendLimits]],
        clock: Clock,
        registry: CollectorRegistry,
    ) -> None:
        self._queue = queue
        self._backends = backends
        self._execute = execute
        self._limits_of = limits_of
        self._limits: dict[str, BackendLimits] = {}
        self._clock = clock
        self._places: dict[str, asyncio.Future[None]] = {}
        self._running: set[asyncio.Task[BackendResult]] = set()
        self._jobs = Counter("quantum_jobs", "Jobs that ended", ["backend", "outcome"], registry=registry)
        self._circuits = Counter("quantum_circuits", "Circuits of completed jobs", ["backend"], registry=registry)
        self._shots = Counter("quantum_shots", "Shots of completed jobs", ["backend"], registry=registry)
        self._cost = Counter("quantum_cost_usd", "Cost of completed jobs", ["backend"], registry=registry)
        self._wait = Histogram("quantum_job_wait_seconds", "Wait for a place", ["backend"], registry=registry)

    async def limits(self, backend: str) -> BackendLimits:
        """See ``JobPool.limits``. Asked of the backend once."""
        self._check_name(backend)
        if backend not in self._limits:
            self._limits[backend] = await self._limits_of(backend)
        return self._limits[backend]

    async def run(self, request: JobRequest) -> BackendResult:
        """See ``JobPool.run``. A caller that leaves gives up the result; its running job keeps its place to the end."""
        self._check_name(request.backend)
        deadline_s = self._clock.monotonic_s() + request.timeout_s
        place = self._places[request.key] = asyncio.get_running_loop().create_future()
        task: asyncio.Task[BackendResult] | None = None
        try:
            async with asyncio.timeout(request.timeout_s):
                self._open(self._queue.submit(request.key, request.backend, request.priority))
                start = self._clock.monotonic_s()
                await place
                now = self._clock.monotonic_s()
                self._wait.labels(request.backend).observe(now - start)
                task = asyncio.create_task(self._run_to_the_end(replace(request, timeout_s=deadline_s - now)))
                self._running.add(task)
                task.add_done_callback(self._ended)
                return await asyncio.shield(task)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the job on {request.backend} did not end within {request.timeout_s:.3g} s"
            ) from None
        finally:
            del self._places[request.key]
            if task is None and not self._queue.withdraw(request.key):  # left just as its place opened: pass it on
                self._open(self._queue.finish(request.key))

    def depths(self) -> dict[str, tuple[int, int]]:
        """Return backend -> (jobs in flight, jobs waiting)."""
        return self._queue.depths()

    async def _run_to_the_end(self, request: JobRequest) -> BackendResult:
        outcome = "failed"
        try:
            result = await self._execute(request)
            outcome = "completed"
        except QuantumDBError as error:
            outcome = error.slug
            raise
        finally:
            self._jobs.labels(request.backend, outcome).inc()
            self._open(self._queue.finish(request.key))
        self._circuits.labels(request.backend).inc(len(request.batch))
        self._shots.labels(request.backend).inc(sum(sum(counts.values()) for counts in result.counts))
        self._cost.labels(request.backend).inc(result.cost_usd)
        return result

    def _ended(self, task: asyncio.Task[BackendResult]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as seen: the caller may have left before it was raised

    def _open(self, keys: list[str]) -> None:
        for key in keys:
            place = self._places[key]
            if place.done():  # cancelled: its caller is about to leave
                self._open(self._queue.finish(key))
            else:
                place.set_result(None)

    def _check_name(self, backend: str) -> None:
        if backend not in self._backends:
            known = ", ".join(self._backends)
            raise InvalidRequest.at(
                "backend", f"there is no backend {backend!r}; there are {known}{near_name(backend, self._backends)}"
            )
