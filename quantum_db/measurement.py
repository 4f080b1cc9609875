"""Measuring entanglement groups: their circuit through the job pool, and what its counts say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from quantum_db.circuits.entanglement import (
    ChshEstimate,
    GroupCorrelation,
    chsh_circuits,
    correlation_circuit,
    estimate_chsh,
    estimate_group,
)
from quantum_db.circuits.template import CircuitBatch
from quantum_db.errors import DeadlineExceeded, InvalidRequest
from quantum_db.model import EntanglementGroup
from quantum_db.ports import BackendResult, Groups, JobPool, JobRequest


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """What the circuit of a group gave. ``chsh`` is of its first two members, None if it was not asked for."""

    group: EntanglementGroup
    correlation: GroupCorrelation
    chsh: ChshEstimate | None
    runs: tuple[BackendResult, ...]
    shots: int


class GroupMeasurement:
    """Runs the circuits of entanglement groups."""

    def __init__(
        self,
        *,
        jobs: JobPool,
        groups: Groups,
        default_backend: str,
        new_key: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self._jobs = jobs
        self._groups = groups
        self._default_backend = default_backend
        self._new_key = new_key

    async def measure(
        self, group_id: str, *, shots: int, timeout_s: float, backend: str | None = None, chsh: bool = False
    ) -> Measurement:
        """Prepare a group's state on one qubit for each member, and measure it.

        Raises:
            NotFound: there is no such group.
            InvalidRequest: no such backend, or it has fewer qubits than the group has members.
            DeadlineExceeded: it did not end within ``timeout_s``.
        """
        name = backend or self._default_backend
        try:
            async with asyncio.timeout(timeout_s):
                group = await self._groups.get(group_id)
                limits = await self._jobs.limits(name)
                members = len(group.entity_ids)
                if members > limits.max_qubits:
                    message = f"has {limits.max_qubits} qubits, and the group has {members} members"
                    raise InvalidRequest.at("backend", f"{name} {message}")
                circuit = correlation_circuit(members, group.correlation_strength)
                runs = [await self._run(circuit, name, shots, timeout_s)]
                correlation, bell = estimate_group(runs[0].counts[0], members), None
                if chsh:
                    test = chsh_circuits(members, group.correlation_strength)
                    runs.append(await self._run(test.batch, name, shots, timeout_s))
                    bell = estimate_chsh(test, tuple(runs[1].counts))
        except TimeoutError:
            raise DeadlineExceeded(
                f"timeout_ms: the measurement did not end within {timeout_s * 1000:.0f} ms"
            ) from None
        total = sum(sum(counts.values()) for run in runs for counts in run.counts)
        return Measurement(group, correlation, bell, tuple(runs), total)

    async def _run(self, batch: CircuitBatch, backend: str, shots: int, timeout_s: float) -> BackendResult:
        return await self._jobs.run(JobRequest(self._new_key(), backend, batch, shots, timeout_s))
