"""The workers of the job pool: processes that talk to backends, and the coordinator's side of them."""

from __future__ import annotations

import importlib
import itertools
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any, cast

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
from quantum_db.errors import DeadlineExceeded, OutcomeUnclear, QuantumDBError
from quantum_db.jobs.backends import BackendSpec, build_backend, build_provider
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.jobs.rounds import run_here

logger = logging.getLogger(__name__)

GRACE_S = 5.0
"""How much longer than a call's own timeout the pool waits for the worker's word about it."""

LIMITS_TIMEOUT_S = 15.0


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

    def ready(self) -> bool:
        """Return True."""
        return True

    def limits(self, backend: str) -> BackendLimits:
        """Return what a backend accepts; may ask the provider."""
        local = self._specs[backend].kind == "simulator"
        return self._backend(backend).limits if local else self._provider(backend).limits

    def run(self, request: JobRequest) -> BackendResult:
        """Run circuits here; see ``quantum_db.jobs.rounds``."""
        return run_here(self._backend(request.backend), request, self._clock)

    def submit(self, backend: str, begin_by_s: float, *arguments: Any, **options: Any) -> str:
        """See ``Workers.submit``."""
        if self._clock.now_s() > begin_by_s:
            raise DeadlineExceeded("the worker came to the submission too late; nothing was sent")
        return self._provider(backend).submit(*arguments, **options)

    def call(self, backend: str, method: str, *arguments: Any, **options: Any) -> Any:
        """Call another method of the provider."""
        return getattr(self._provider(backend), method)(*arguments, **options)

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


class RemoteWorkers:
    """Implements ``Workers`` by calls to worker actors, in turn. They die with the process that made them."""

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
        worker = ray.remote(JobWorker).options(num_cpus=0, max_restarts=-1, max_concurrency=threads)
        seeds = [None if seed is None else seed + place for place in range(count)]
        self._workers: list[ActorHandle[Any]] = [worker.remote(dict(specs), retry, own) for own in seeds]
        self._turn = itertools.cycle(self._workers)

    async def ready(self) -> None:
        """Return once all workers answer. Raises Unavailable."""
        for worker in self._workers:
            await ask(worker.ready.remote())

    async def limits(self, backend: str) -> BackendLimits:
        return cast(BackendLimits, await self._ask(self._next().limits.remote(backend), LIMITS_TIMEOUT_S))

    async def run(self, request: JobRequest) -> BackendResult:
        return cast(BackendResult, await self._ask(self._next().run.remote(request), request.timeout_s))

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
        reference = self._next().submit.remote(backend, begin_by_s, tuple(parts), shots, **options)
        late_s = max(0.0, begin_by_s - SystemClock().now_s())
        try:
            return str(await self._ask(reference, late_s + timeout_s))
        except ActorLost as error:
            raise OutcomeUnclear(f"the worker that submitted it: {error.detail}") from error

    async def find(self, backend: str, job_key: str, *, timeout_s: float, since_s: float) -> tuple[ProviderJob, ...]:
        found = self._next().call.remote(backend, "find", job_key, timeout_s=timeout_s, since_s=since_s)
        return cast(tuple[ProviderJob, ...], await self._ask(found, timeout_s))

    async def collect(
        self, backend: str, job_id: str, qubits: Sequence[int], shots: int, *, timeout_s: float
    ) -> Collected:
        found = self._next().call.remote(backend, "collect", job_id, tuple(qubits), shots, timeout_s=timeout_s)
        return cast(Collected, await self._ask(found, timeout_s))

    async def cancel(self, backend: str, job_id: str, *, timeout_s: float) -> bool:
        canceled = self._next().call.remote(backend, "cancel", job_id, timeout_s=timeout_s)
        return bool(await self._ask(canceled, timeout_s))

    async def estimate(
        self, backend: str, parts: Sequence[CircuitBatch], shots: int, *, timeout_s: float
    ) -> JobEstimate:
        found = self._next().call.remote(backend, "estimate", tuple(parts), shots, timeout_s=timeout_s)
        return cast(JobEstimate, await self._ask(found, timeout_s))

    async def queue_time_s(self, backend: str, *, timeout_s: float) -> float:
        found = self._next().call.remote(backend, "queue_time_s", timeout_s=timeout_s)
        return float(await self._ask(found, timeout_s))

    def _next(self) -> ActorHandle[Any]:
        return next(self._turn)

    async def _ask(self, reference: Any, timeout_s: float) -> Any:
        """Await a worker's answer. An error that is none of ours is a fault of a worker: it is not to stop a job."""
        try:
            return await ask(reference, timeout_s + GRACE_S)
        except QuantumDBError:
            raise
        except ray.exceptions.RayError as error:
            logger.exception("a worker failed")
            raise ActorLost(f"a worker failed: {type(error).__name__}") from error
