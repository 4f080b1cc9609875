"""What the pool needs of those who talk to backends, as a protocol: processes on a cluster, threads in a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from quantum_db.backend_ports import BackendLimits, BackendResult, Collected, JobEstimate, JobRequest, ProviderJob
from quantum_db.circuits.template import CircuitBatch


class Workers(Protocol):
    """Several workers behind one face. Each method is that of ``QuantumProvider`` with the backend's name in front.

    A worker that dies gives Unavailable, and OutcomeUnclear where it may have submitted something.
    """

    async def limits(self, backend: str) -> BackendLimits:
        """Return what a backend accepts."""

    async def run(self, request: JobRequest) -> BackendResult:
        """Run circuits on a backend that runs in the worker itself."""

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
        """See ``QuantumProvider.submit``. A worker that begins after ``begin_by_s`` (since the epoch) sends nothing."""

    async def find(self, backend: str, job_key: str, *, timeout_s: float, since_s: float) -> tuple[ProviderJob, ...]:
        """See ``QuantumProvider.find``."""

    async def collect(
        self, backend: str, job_id: str, qubits: Sequence[int], shots: int, *, timeout_s: float
    ) -> Collected:
        """See ``QuantumProvider.collect``."""

    async def cancel(self, backend: str, job_id: str, *, timeout_s: float) -> bool:
        """See ``QuantumProvider.cancel``."""

    async def estimate(
        self, backend: str, parts: Sequence[CircuitBatch], shots: int, *, timeout_s: float
    ) -> JobEstimate:
        """See ``QuantumProvider.estimate``."""

    async def queue_time_s(self, backend: str, *, timeout_s: float) -> float:
        """See ``QuantumProvider.queue_time_s``."""
