"""Measuring entanglement groups: their circuit through the job pool, and what its counts say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from quantum_db.backend_ports import BackendResult, JobPool, JobRequest
from quantum_db.circuits.entanglement import (
    ChshEstimate,
    GroupCorrelation,
    chsh_circuits,
    correlation_circuit,
    estimate_chsh,
    estimate_group,
)
from quantum_db.errors import DeadlineExceeded, InvalidRequest
from quantum_db.model import EntanglementGroup
from quantum_db.ports import Groups


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """What the circuit of a group gave. ``chsh`` is of its first two members, None if it was not asked for."""

    group: EntanglementGroup
    correlation: GroupCorrelation
    chsh: ChshEstimate | None
    run: BackendResult
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
        self,
        group_id: str,
        *,
        shots: int,
        timeout_s: float,
        tenant: str,
        backend: str | None = None,
        chsh: bool = False,
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
                test = chsh_circuits(members, group.correlation_strength) if chsh else None
                parts = (circuit,) if test is None else (circuit, test.batch)
                run = await self._jobs.run(JobRequest(self._new_key(), name, parts, shots, timeout_s, tenant=tenant))
                correlation = estimate_group(run.counts[0], members)
                bell = None if test is None else estimate_chsh(test, tuple(run.counts[1:]))
        except TimeoutError:
            raise DeadlineExceeded(
                f"timeout_ms: the measurement did not end within {timeout_s * 1000:.0f} ms"
            ) from None
        total = sum(sum(counts.values()) for counts in run.counts)
        return Measurement(group, correlation, bell, run, total)
