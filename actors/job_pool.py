"""The pool of quantum-job actors: one coordinator that keeps the limits, and workers that talk to backends."""

from __future__ import annotations

import importlib
import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import ray
from prometheus_client import CollectorRegistry, Gauge
from ray.actor import ActorHandle

from actors.shell import CALL_TIMEOUT_S, ask
from quantum_db.clock import SystemClock
from quantum_db.jobs.backends import BackendSpec, build_backend
from quantum_db.jobs.pool import QueuedJobPool
from quantum_db.jobs.queue import JobQueue
from quantum_db.jobs.run import run_job
from quantum_db.ports import BackendLimits, BackendResult, JobRequest, QuantumBackend
from quantum_db.telemetry import Snapshot, snapshot

GRACE_S = 5.0
"""How much longer than a job's own timeout the pool waits for the worker's word about it."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How the pool is made up.

    Attributes:
        backends: name -> how to build it.
        max_concurrent_circuits: jobs in flight for each backend, over all workers; a multi-circuit job is one.
        max_waiting: jobs that may wait for each backend.
        workers: worker processes.
    """

    backends: Mapping[str, BackendSpec]
    max_concurrent_circuits: int
    max_waiting: int
    workers: int


class JobWorker:
    """Runs jobs on the backends, several at a time in threads. Holds no state that matters."""

    def __init__(self, specs: Mapping[str, BackendSpec], seed: int | None) -> None:
        if any(spec.kind == "ionq" for spec in specs.values()):
            importlib.import_module("quantum_db.ionq.backend")  # brings qiskit, which no short-lived thread may import
        self._specs = dict(specs)
        self._seeds = np.random.SeedSequence(seed)
        self._backends: dict[str, QuantumBackend] = {}
        self._lock = threading.Lock()

    def ready(self) -> bool:
        """Return True."""
        return True

    def limits(self, backend: str) -> BackendLimits:
        """Return what a backend accepts; may ask the provider."""
        return self._backend(backend).limits

    def run(self, request: JobRequest) -> BackendResult:
        """Run one job; see ``quantum_db.jobs.run``."""
        return run_job(self._backend(request.backend), request, SystemClock())

    def _backend(self, name: str) -> QuantumBackend:
        with self._lock:
            if name not in self._backends:
                rng = np.random.default_rng(self._seeds.spawn(1)[0])
                self._backends[name] = build_backend(name, self._specs[name], rng)
            return self._backends[name]


class JobPool:
    """The coordinator: a ``QueuedJobPool`` whose jobs run on ``JobWorker``s in turn."""

    def __init__(self, settings: PoolSettings) -> None:
        threads = settings.max_concurrent_circuits + 2  # so that asking for limits never waits for jobs
        worker = ray.remote(JobWorker).options(num_cpus=0, max_restarts=-1, max_concurrency=threads)
        self._workers = [worker.remote(settings.backends, None) for _ in range(settings.workers)]
        self._turn = itertools.cycle(self._workers)
        self._registry = CollectorRegistry()
        self._depth = Gauge("quantum_jobs_now", "Jobs in the pool", ["backend", "where"], registry=self._registry)
        limits = dict.fromkeys(settings.backends, settings.max_concurrent_circuits)
        self._pool = QueuedJobPool(
            JobQueue(limits, settings.max_waiting),
            backends=tuple(settings.backends),
            execute=self._execute,
            limits_of=self._limits_of,
            clock=SystemClock(),
            registry=self._registry,
        )

    async def ready(self) -> bool:
        """Return True once all workers answer."""
        for worker in self._workers:
            await ask(worker.ready.remote())
        return True

    async def limits(self, backend: str) -> BackendLimits:
        """See ``JobPool.limits`` of the ports."""
        return await self._pool.limits(backend)

    async def run(self, request: JobRequest) -> BackendResult:
        """See ``JobPool.run`` of the ports."""
        return await self._pool.run(request)

    async def metrics(self) -> Snapshot:
        """Return this process's metrics."""
        for backend, (in_flight, waiting) in self._pool.depths().items():
            self._depth.labels(backend, "in_flight").set(in_flight)
            self._depth.labels(backend, "waiting").set(waiting)
        return snapshot(self._registry, "jobs")

    async def _execute(self, request: JobRequest) -> BackendResult:
        result = await ask(next(self._turn).run.remote(request), request.timeout_s + GRACE_S)
        return cast(BackendResult, result)

    async def _limits_of(self, backend: str) -> BackendLimits:
        return cast(BackendLimits, await ask(next(self._turn).limits.remote(backend)))


class RemoteJobPool:
    """Implements the ``JobPool`` port by calls to the coordinator; limits are asked once a process."""

    def __init__(self, actor: ActorHandle[Any]) -> None:
        self._actor = actor
        self._limits: dict[str, BackendLimits] = {}

    async def limits(self, backend: str) -> BackendLimits:
        if backend not in self._limits:
            self._limits[backend] = cast(BackendLimits, await ask(self._actor.limits.remote(backend), CALL_TIMEOUT_S))
        return self._limits[backend]

    async def run(self, request: JobRequest) -> BackendResult:
        result = await ask(self._actor.run.remote(request), request.timeout_s + 2 * GRACE_S)
        return cast(BackendResult, result)
