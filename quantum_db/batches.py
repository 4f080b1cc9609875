"""Batches of circuit operations, run through the job pool: encode, entangle and measure in as few circuits as fit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import uuid4

from pydantic import ConfigDict, Field

from quantum_db.backend_ports import BackendResult, JobPool, JobRequest
from quantum_db.circuits.batch import BatchPlan, plan_batch
from quantum_db.circuits.batch_operations import OperationsBody
from quantum_db.circuits.batch_results import Result, read_batch
from quantum_db.errors import DeadlineExceeded
from quantum_db.requests import MAX_TIMEOUT_MS, Name, parse


class RunBatchBody(OperationsBody):
    """Operations to run, and where."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "operations": [
                    {"op": "encode", "id": "doc_1", "vector": [0.6, 0.8]},
                    {"op": "entangle", "entity_ids": ["doc_2", "doc_3"], "correlation_strength": 0.85},
                    {"op": "measure", "shots": 1000},
                ]
            }
        }
    )

    backend: Name | None = None
    timeout_ms: Annotated[int, Field(ge=1, le=MAX_TIMEOUT_MS)] = 5_000


@dataclass(frozen=True, slots=True, eq=False)
class BatchRun:
    """What a batch was planned as, what each operation gave, and the job that ran."""

    plan: BatchPlan
    results: tuple[Result | None, ...]
    run: BackendResult


class BatchRunner:
    """Plans batches for a backend's qubits and runs them."""

    def __init__(self, jobs: JobPool, default_backend: str, new_key: Callable[[], str] = lambda: uuid4().hex) -> None:
        self._jobs = jobs
        self._default_backend = default_backend
        self._new_key = new_key

    async def run(self, raw: object, tenant: str) -> BatchRun:
        """Run a batch (``RunBatchBody``) for a tenant.

        Raises:
            InvalidRequest: an operation is wrong, or needs more qubits in one circuit than the backend has.
            DeadlineExceeded: the jobs did not end within ``timeout_ms``.
        """
        body = parse(RunBatchBody, raw)
        backend, timeout_s = body.backend or self._default_backend, body.timeout_ms / 1000.0
        try:
            async with asyncio.timeout(timeout_s):
                limits = await self._jobs.limits(backend)
                operations = [operation.model_dump(exclude_unset=True) for operation in body.operations]
                plan = plan_batch(operations, backend, limits)
                request = JobRequest(
                    self._new_key(), backend, tuple(plan.batches), plan.shots, timeout_s, tenant=tenant
                )
                run = await self._jobs.run(request)
        except TimeoutError:
            raise DeadlineExceeded(f"timeout_ms: the batch did not end within {timeout_s * 1000:.0f} ms") from None
        return BatchRun(plan, read_batch(plan, _by_batch(plan, run.counts)), run)


def _by_batch(plan: BatchPlan, counts: Sequence[Mapping[int, int]]) -> list[Sequence[Mapping[int, int]]]:
    """Return the counts of each batch of the plan."""
    found, start = [], 0
    for batch in plan.batches:
        found.append(counts[start : start + len(batch)])
        start += len(batch)
    return found
