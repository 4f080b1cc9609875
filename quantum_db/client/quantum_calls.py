"""The calls about groups, circuits, jobs, costs, states and sessions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from quantum_db.client.calls import Calls
from quantum_db.client.loop import blocking
from quantum_db.client.results import Correlation, Job, Json, correlation_of, group_of, job_of
from quantum_db.model import EntanglementGroup


class GroupCalls(Calls):
    """Entanglement groups, and circuits that are run for their own sake."""

    async def create_entangled_group(
        self, group_id: str, entity_ids: Iterable[str], correlation_strength: float
    ) -> EntanglementGroup:
        """Write an entanglement group of stored entities; ``correlation_strength`` in [0, 1]. Idempotent.

        Raises:
            Conflict: the id stands for another group.
        """
        body = {"group_id": group_id, "entity_ids": list(entity_ids), "correlation_strength": correlation_strength}
        return group_of(await self.call("create_group", body))

    async def group(self, group_id: str) -> EntanglementGroup:
        """Return a group. Raises NotFound."""
        return group_of(await self.call("group", group_id))

    async def groups(
        self, *, member: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> tuple[tuple[EntanglementGroup, ...], str | None]:
        """Return a page of groups by id, those of a member or all; and the cursor of the next page."""
        answer = await self.call("list_groups", {"member": member, "cursor": cursor or "", "limit": limit})
        return tuple(group_of(view) for view in answer["groups"]), answer["next"]

    async def update_group(
        self,
        group_id: str,
        *,
        expected_version: int,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        correlation_strength: float | None = None,
    ) -> EntanglementGroup | None:
        """Change a group as one; return it, or None when it has lost its last pair and is deleted.

        Raises:
            Conflict: it is not at ``expected_version``.
        """
        body: Json = {"expected_version": expected_version, "add": list(add), "remove": list(remove)}
        if correlation_strength is not None:
            body["correlation_strength"] = correlation_strength
        answer = await self.call("update_group", group_id, body)
        return None if answer.get("deleted") else group_of(answer)

    async def delete_group(self, group_id: str, *, expected_version: int | None = None) -> None:
        """Delete a group. Raises NotFound, or Conflict where it is at another version."""
        await self.call("delete_group", group_id, expected_version)

    async def measure_correlation(self, /, group_id: str, **options: Any) -> Correlation:
        """Run a group's circuit; ``options``: ``shots``, ``backend``, ``timeout_ms``, ``chsh``."""
        return correlation_of(await self.call("measure_group", group_id, options))

    async def execute_batch(self, /, operations: Sequence[Json], **options: Any) -> Json:
        """Encode, entangle and measure in as few circuits as the qubits allow; as ``POST /api/v2/batch`` answers."""
        answer: Json = await self.call("execute_batch", {"operations": list(operations), **options})
        return answer

    create_entangled_group_sync = blocking(create_entangled_group)
    group_sync = blocking(group)
    groups_sync = blocking(groups)
    update_group_sync = blocking(update_group)
    delete_group_sync = blocking(delete_group)
    measure_correlation_sync = blocking(measure_correlation)
    execute_batch_sync = blocking(execute_batch)


class JobCalls(Calls):
    """Quantum jobs, what they cost, and the backends that run them."""

    async def submit_job(self, /, **body: Any) -> Job:
        """Take a quantum job, durably; the fields are those of ``POST /api/v2/jobs``.

        A job whose answer was lost is taken once. Raises BudgetExceeded, InvalidCircuit.
        """
        return job_of(await self.call("jobs.submit", body))

    async def estimate_job(self, /, **body: Any) -> Json:
        """Tell what a job would cost, as ``POST /api/v2/jobs/estimate``. Submits nothing."""
        answer: Json = await self.call("jobs.estimate", body)
        return answer

    async def job(self, job_id: str) -> Job:
        """Return a job, with its result once it has one. Raises NotFound."""
        return job_of(await self.call("jobs.get", job_id))

    async def jobs(
        self, *, status: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> tuple[tuple[Job, ...], str | None]:
        """Return a page of jobs, newest first, without results; and the cursor of the next page."""
        answer = await self.call("jobs.list", {"status": status, "cursor": cursor, "limit": limit})
        return tuple(job_of(view) for view in answer["jobs"]), answer["next"]

    async def cancel_job(self, job_id: str) -> Job:
        """Cancel a job, also at the provider. One that has ended stays as it is. Idempotent."""
        return job_of(await self.call("jobs.cancel", job_id))

    async def costs(self, *, since: str | None = None, until: str | None = None) -> Json:
        """Return what was spent, by day (UTC, like ``2026-01-31``) and backend, as ``GET /api/v2/costs``."""
        answer: Json = await self.call("jobs.costs", {"since": since, "until": until})
        return answer

    async def backends(self) -> Json:
        """Return the state of each backend, as ``GET /api/v2/backends``."""
        answer: Json = await self.call("jobs.backends")
        return answer

    async def set_breaker(self, backend: str, state: str) -> Json:
        """Set a backend's breaker ``open`` or ``closed`` by hand, or ``auto``; return the state of each backend."""
        answer: Json = await self.call("jobs.set_breaker", backend, {"state": state})
        return answer

    submit_job_sync = blocking(submit_job)
    estimate_job_sync = blocking(estimate_job)
    job_sync = blocking(job)
    jobs_sync = blocking(jobs)
    cancel_job_sync = blocking(cancel_job)
    costs_sync = blocking(costs)
    backends_sync = blocking(backends)
    set_breaker_sync = blocking(set_breaker)


class StateCalls(Calls):
    """States of entities, and sessions. Answers are those of the REST API."""

    async def state(self, entity_id: str) -> Json:
        """Return where an entity's state stands in its lifecycle, with its ``history``. Raises NotFound."""
        answer: Json = await self.call("state", entity_id)
        return answer

    async def session(self, session_id: str) -> Json:
        """Return what a session has measured, and how it sees the weights of moved entities. Raises NotFound."""
        answer: Json = await self.call("session", session_id)
        return answer

    async def end_session(self, session_id: str) -> None:
        """End a session. Idempotent."""
        await self.call("end_session", session_id)

    state_sync = blocking(state)
    session_sync = blocking(session)
    end_session_sync = blocking(end_session)
