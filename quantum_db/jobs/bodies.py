"""The body of a quantum job, as it comes in as JSON, and how it becomes an order. Done where requests come in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, model_validator

from quantum_db.backend_ports import BackendLimits
from quantum_db.circuits.simulator import check_limits
from quantum_db.circuits.template import CircuitBatch
from quantum_db.cursors import MAX_CURSOR
from quantum_db.jobs.circuits import MAX_CIRCUITS, CircuitEntry, to_parts
from quantum_db.jobs.orders import JobOrder
from quantum_db.jobs.prepared import CountsReading, EntangleBody, OverlapBody, PreparedJob, QaoaBody
from quantum_db.requests import MAX_SHOTS, Body, BudgetBody, Finite, Name, parse, refuse

DEFAULT_DEADLINE_S: Final = 3_600.0
MAX_DEADLINE_S: Final = 7.0 * 86_400.0
MAX_NAME_CHARS: Final = 128


Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
"""A day in UTC, like ``2026-11-25``."""


class JobBody(Body):
    """A quantum job: circuits, or one of the prepared kinds ``overlap``, ``entangle`` and ``qaoa``.

    ``shots`` are those of each circuit.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "shots": 1000,
                "circuits": [
                    {
                        "format": "qasm3",
                        "source": 'OPENQASM 3; include "stdgates.inc"; qubit[2] q; h q[0]; cx q[0], q[1];',
                    }
                ],
                "budget": {"max_usd": 5.0},
                "name": "bell pair",
            }
        }
    )

    shots: Annotated[int, Field(ge=1, le=MAX_SHOTS)]
    circuits: Annotated[list[CircuitEntry], Field(min_length=1, max_length=MAX_CIRCUITS)] | None = None
    overlap: OverlapBody | None = None
    entangle: EntangleBody | None = None
    qaoa: QaoaBody | None = None
    backend: Name | None = None
    priority: Literal["interactive", "batch"] = "batch"
    deadline_s: Annotated[Finite, Field(ge=1.0, le=MAX_DEADLINE_S)] = DEFAULT_DEADLINE_S
    budget: BudgetBody = BudgetBody()
    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)] | None = None

    @model_validator(mode="after")
    def _asks_for_one_thing(self) -> JobBody:
        kinds = ("circuits", "overlap", "entangle", "qaoa")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            refuse(f"must be given, or else overlap, entangle or qaoa: one of the four, not {found}", at="circuits")
        return self

    def to_circuits(self, max_qubits: int) -> PreparedJob:
        """Return the circuits for a backend of ``max_qubits`` >= 1, and how their counts are read. Deterministic.

        Takes up to some ten seconds for the largest bodies: to be called in a thread.

        Raises:
            InvalidCircuit: a circuit cannot be read or converted, or has too many qubits; it is named by its place.
        """
        if self.circuits is not None:
            return PreparedJob(to_parts(self.circuits, max_qubits), CountsReading())
        prepared = self.overlap or self.entangle or self.qaoa
        assert prepared is not None
        return prepared.prepare(max_qubits)


class JobPageBody(Body):
    """Which jobs to list, newest first."""

    cursor: Annotated[str, Field(max_length=MAX_CURSOR)] | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100
    status: Literal["queued", "completed", "failed", "canceled"] | None = None


class CostsBody(Body):
    """Which days to tell the costs of; both ends are included."""

    since: Day | None = None
    until: Day | None = None


class BreakerBody(Body):
    """What an operator sets a breaker to; ``auto`` gives it back to itself."""

    model_config = ConfigDict(json_schema_extra={"example": {"state": "open"}})

    state: Literal["open", "closed", "auto"]


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
