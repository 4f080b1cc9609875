"""Workers of a job pool as threads of one process: real providers over real HTTP, without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from quantum_db.backend_ports import BackendLimits, BackendResult, Collected, JobEstimate, JobRequest, ProviderJob
from quantum_db.circuits.template import CircuitBatch
from quantum_db.clock import SystemClock
from quantum_db.errors import DeadlineExceeded
from quantum_db.jobs.backends import BackendSpec, build_provider
from quantum_db.jobs.retry import RetryPolicy

T = TypeVar("T")


class ThreadWorkers:
    """Implements ``Workers`` for backends of the kind ``ionq``."""

    def __init__(self, specs: Mapping[str, BackendSpec], retry: RetryPolicy, seed: int, threads: int = 32) -> None:
        rngs = np.random.default_rng(seed).spawn(len(specs))
        self._providers = {
            name: build_provider(name, spec, retry, rng) for (name, spec), rng in zip(specs.items(), rngs, strict=True)
        }
        self._clock = SystemClock()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="worker")

    async def limits(self, backend: str) -> BackendLimits:
        return await self._in_thread(lambda: self._providers[backend].limits)

    async def run(self, request: JobRequest) -> BackendResult:
        raise NotImplementedError("no backend runs here")

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
        def submit() -> str:
            if self._clock.now_s() > begin_by_s:
                raise DeadlineExceeded("the worker came to the submission too late; nothing was sent")
            return self.post(backend, parts, shots, job_key, timeout_s, labels)

        return await self._in_thread(submit)

    def post(
        self,
        backend: str,
        parts: Sequence[CircuitBatch],
        shots: int,
        job_key: str,
        timeout_s: float,
        labels: Mapping[str, str],
    ) -> str:
        """Submit, in a thread."""
        return self._providers[backend].submit(parts, shots, job_key=job_key, timeout_s=timeout_s, labels=labels)

    async def find(self, backend: str, job_key: str, *, timeout_s: float, since_s: float) -> tuple[ProviderJob, ...]:
        provider = self._providers[backend]
        return await self._in_thread(lambda: provider.find(job_key, timeout_s=timeout_s, since_s=since_s))

    async def collect(
        self, backend: str, job_id: str, qubits: Sequence[int], shots: int, *, timeout_s: float
    ) -> Collected:
        provider = self._providers[backend]
        return await self._in_thread(lambda: provider.collect(job_id, qubits, shots, timeout_s=timeout_s))

    async def cancel(self, backend: str, job_id: str, *, timeout_s: float) -> bool:
        return await self._in_thread(lambda: self._providers[backend].cancel(job_id, timeout_s=timeout_s))

    async def estimate(
        self, backend: str, parts: Sequence[CircuitBatch], shots: int, *, timeout_s: float
    ) -> JobEstimate:
        return await self._in_thread(lambda: self._providers[backend].estimate(parts, shots, timeout_s=timeout_s))

    async def queue_time_s(self, backend: str, *, timeout_s: float) -> float:
        return await self._in_thread(lambda: self._providers[backend].queue_time_s(timeout_s=timeout_s))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
