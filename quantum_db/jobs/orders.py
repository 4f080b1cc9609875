"""From the body of a job to what the pool is asked to keep and run. Done where requests come in, not in the pool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from quantum_db.circuits.simulator import check_limits
from quantum_db.circuits.template import CircuitBatch
from quantum_db.jobs.bodies import JobBody
from quantum_db.jobs.budget import SpendingLimit
from quantum_db.jobs.queue import Priority
from quantum_db.ports import BackendLimits
from quantum_db.requests import parse


@dataclass(frozen=True, slots=True, eq=False)
class JobOrder:
    """A job that is known to fit its backend.

    Attributes:
        reading: how the counts are to be read, as JSON; see ``quantum_db.jobs.prepared``.
        shots: of each circuit.
        deadline_s: from when it is taken.
    """

    backend: str
    parts: tuple[CircuitBatch, ...]
    reading: Mapping[str, Any]
    shots: int
    priority: Priority
    deadline_s: float
    limit: SpendingLimit
    name: str | None

    @property
    def circuits(self) -> int:
        """Number of circuits."""
        return sum(map(len, self.parts))


async def order_of(raw: object, default_backend: str, limits_of: Callable[[str], Awaitable[BackendLimits]]) -> JobOrder:
    """Check a job's body (``JobBody``) and prepare its circuits.

    Raises:
        InvalidRequest: the body is wrong, or there is no such backend.
        InvalidCircuit: a circuit cannot be read, or cannot run there; it is named by its place.
    """
    body = parse(JobBody, raw)
    backend = body.backend or default_backend
    limits = await limits_of(backend)
    prepared = await asyncio.to_thread(body.to_circuits, limits.max_qubits)
    for part in prepared.parts:
        one = [CircuitBatch(part.template, part.angles[:1])]
        check_limits(backend, limits, one, min(body.shots, limits.max_shots))
    return JobOrder(
        backend=backend,
        parts=prepared.parts,
        reading=prepared.reading.model_dump(mode="json"),
        shots=body.shots,
        priority=body.priority,
        deadline_s=body.deadline_s,
        limit=body.budget.to_limit(),
        name=body.name,
    )
