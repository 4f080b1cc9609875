"""Jobs as a resource: taken with a promise, run when there is a place, kept with their results over restarts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final
from uuid import uuid4

from quantum_db.circuits.simulator import check_limits
from quantum_db.circuits.template import CircuitBatch
from quantum_db.errors import (
    DeadlineExceeded,
    JobCanceled,
    NotFound,
    Overloaded,
    QuantumDBError,
    Unavailable,
)
from quantum_db.ionq.pricing import PRICE_MODELS
from quantum_db.jobs.bodies import JobBody
from quantum_db.jobs.budget import MICRO, SpendingLimit
from quantum_db.jobs.job_journal import JobJournal
from quantum_db.jobs.ledger import JobStatus, StoredJob
from quantum_db.jobs.parts import parts_from_json, parts_to_json
from quantum_db.jobs.pool import QuantumJobPool
from quantum_db.jobs.prepared import PreparedJob, reading_from_json
from quantum_db.jobs.workers import Workers
from quantum_db.ports import BackendResult, Clock, JobRequest
from quantum_db.requests import parse

logger = logging.getLogger(__name__)

MAX_OPEN_JOBS: Final = 1_000
AGAIN_S: Final = 2.0
LONGEST_AGAIN_S: Final = 60.0
ESTIMATE_TIMEOUT_S: Final = 5.0
CANCEL_WAIT_S: Final = 5.0

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """Which jobs to list.

    Attributes:
        cursor: the id that the last page ended with.
        limit: at most so many.
        status: only those of this status; None for all.
    """

    cursor: str | None = None
    limit: int = 100
    status: JobStatus | None = None


class StoredJobs:
    """Takes, runs, lists and cancels jobs. Another tenant's job looks like none."""

    def __init__(
        self, pool: QuantumJobPool, journal: JobJournal, workers: Workers, clock: Clock, default_backend: str
    ) -> None:
        """Run nothing yet; ``resume`` does.

        Args:
            pool: runs the circuits.
            journal: keeps the jobs, in its ledger.
            workers: are asked for estimates.
            clock: for deadlines.
            default_backend: of jobs that name none.
        """
        self._pool = pool
        self._journal = journal
        self._workers = workers
        self._clock = clock
        self._default_backend = default_backend
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._request_keys: dict[str, str] = {}

    def resume(self) -> None:
        """Take up the jobs that had not ended."""
        for job in list(self._journal.ledger.jobs.values()):
            if job.status == "queued":
                self._begin(job)

    async def create(self, tenant: str, raw: object) -> Json:
        """Take a job (``JobBody``): when this returns, it is written down, and will be run or say why not.

        Raises:
            InvalidRequest, InvalidCircuit: it cannot be run.
            BudgetExceeded: its budget, or the tenant's day, does not cover the estimate.
            Overloaded: too many jobs have not ended.
        """
        body, backend, prepared, usd = await self._priced(raw)
        if len(self._tasks) >= MAX_OPEN_JOBS:
            raise Overloaded(f"{len(self._tasks)} jobs have not ended; try again later", retry_after_s=AGAIN_S)
        circuits = sum(map(len, prepared.parts))
        body.budget.to_limit().check(usd, body.shots * circuits)
        self._pool.check_day(tenant, backend, usd, body.shots * circuits)
        now_s = self._clock.now_s()
        job = StoredJob(
            id=f"job-{uuid4().hex}",
            tenant=tenant,
            backend=backend,
            shots=body.shots,
            circuits=circuits,
            priority=body.priority,
            created_at_s=now_s,
            deadline_at_s=now_s + body.deadline_s,
            name=body.name,
            work={
                "parts": parts_to_json(prepared.parts),
                "reading": prepared.reading.model_dump(mode="json"),
                "limit": asdict(body.budget.to_limit()),
            },
        )
        await self._journal.write({"t": "job", **asdict(job)})
        self._begin(job)
        return self._view(job)

    def get(self, tenant: str, job_id: str) -> Json:
        """Return a job, with its result once it has one. Raises NotFound."""
        return self._view(self._find(tenant, job_id))

    def list(self, tenant: str, page: Page) -> Json:
        """Return jobs, newest first, without their results."""
        found: list[Json] = []
        skipping = page.cursor is not None
        for job in reversed(self._journal.ledger.jobs.values()):
            if job.tenant != tenant or (page.status is not None and job.status != page.status):
                continue
            if skipping:
                skipping = job.id != page.cursor
                continue
            if len(found) == page.limit:
                return {"jobs": found, "next": found[-1]["id"]}
            view = self._view(job)
            del view["result"]
            found.append(view)
        return {"jobs": found, "next": None}

    async def cancel(self, tenant: str, job_id: str) -> Json:
        """Cancel a job; return it as it is then. Idempotent; one that has ended stays as it is. Raises NotFound."""
        job = self._find(tenant, job_id)
        task = self._tasks.get(job.id)
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_WAIT_S)
        return self.get(tenant, job_id)

    async def estimate(self, tenant: str, raw: object) -> Json:
        """Return what a job (``JobBody``) would cost, by published prices and by the provider's word. Submits nothing.

        Raises InvalidRequest or InvalidCircuit.
        """
        body, backend, prepared, usd = await self._priced(raw)
        limits = await self._pool.limits(backend)
        model = PRICE_MODELS[limits.price_model]
        told: Json | None = None
        if not self._pool.lane(backend).local:
            try:
                found = await self._workers.estimate(backend, prepared.parts, body.shots, timeout_s=ESTIMATE_TIMEOUT_S)
                told = asdict(found)
            except QuantumDBError as error:
                told = {"problem": error.detail}
        circuits = sum(map(len, prepared.parts))
        return {
            "backend": backend,
            "circuits": circuits,
            "shots": body.shots * circuits,
            "two_qubit_gates": sum(len(part) * part.template.two_qubit_gates for part in prepared.parts),
            "cost_usd": usd,
            "price_model": {"name": model.name, "source": model.source},
            "provider": told,
            "left_today": self._pool.left_today(tenant),
        }

    def costs(self, tenant: str, since: str | None, until: str | None) -> Json:
        """Return what a tenant has spent, by day and backend.

        Args:
            since: the first day, like ``2026-11-25`` (UTC); None for all that is kept.
            until: the last day.
        """
        rows = []
        for account, spent in sorted(self._journal.ledger.budgets.accounts().items(), key=lambda item: str(item[0])):
            if account.tenant != tenant or not (since or "") <= account.day <= (until or "9999-12-31"):
                continue
            rows.append(
                {
                    "day": account.day,
                    "backend": account.backend,
                    "cost_usd": spent.micro_usd / MICRO,
                    "reserved_usd": spent.reserved_micro_usd / MICRO,
                    "shots": spent.shots,
                    "circuits": spent.circuits,
                    "jobs": spent.jobs,
                    "reused_circuits": spent.reused,
                }
            )
        return {
            "tenant": tenant,
            "days": rows,
            "total_usd": sum(row["cost_usd"] for row in rows),
            "left_today": self._pool.left_today(tenant),
        }

    async def close(self) -> None:
        """Stop running jobs; they are taken up at the next start."""
        tasks = list(self._tasks.values())
        self._tasks.clear()  # so that their end is not taken for a cancellation by their owner
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _priced(self, raw: object) -> tuple[JobBody, str, PreparedJob, float]:
        body = parse(JobBody, raw)
        backend = body.backend or self._default_backend
        limits = await self._pool.limits(backend)
        prepared = await asyncio.to_thread(body.to_circuits, limits.max_qubits)
        for part in prepared.parts:
            one = [CircuitBatch(part.template, part.angles[:1])]
            check_limits(backend, limits, one, min(body.shots, limits.max_shots))
        return body, backend, prepared, self._pool.estimate_usd(limits, prepared.parts, body.shots)

    def _begin(self, job: StoredJob) -> None:
        self._tasks[job.id] = asyncio.get_running_loop().create_task(self._run(job))

    async def _run(self, job: StoredJob) -> None:
        """Run a job to its end, and write that down."""
        end: Json
        try:
            result, reading = await self._result(job)
            end = {
                "status": "completed",
                "result": reading,
                "cost_usd": result.cost_usd,
                "reused_circuits": result.reused_circuits,
                "provider_job_ids": list(result.provider_job_ids),
                "provenance": result.provenance,
            }
        except asyncio.CancelledError:
            if job.id not in self._tasks:  # the pool is closing: the job goes on at the next start
                raise
            end = {"status": "canceled"}
        except JobCanceled as error:
            end = {"status": "canceled", "error": {"slug": error.slug, "detail": error.detail}}
        except QuantumDBError as error:
            end = {"status": "failed", "error": {"slug": error.slug, "detail": error.detail}}
        await self._write_end({"t": "job_end", "id": job.id, "ended_at_s": self._clock.now_s(), **end})
        self._tasks.pop(job.id, None)
        self._request_keys.pop(job.id, None)

    async def _result(self, job: StoredJob) -> tuple[BackendResult, Mapping[str, Any]]:
        """Ask the pool until there is a result, or an error that does not pass, or the deadline."""
        work = job.work
        assert work is not None
        prepared = PreparedJob(parts_from_json(work["parts"]), reading_from_json(work["reading"]))
        pause_s = AGAIN_S
        while True:
            left_s = job.deadline_at_s - self._clock.now_s()
            if left_s <= 0.0:
                raise DeadlineExceeded("the job's deadline passed before it had a result")
            key = self._request_keys[job.id] = f"{job.id}-{uuid4().hex}"
            request = JobRequest(
                key=key,
                backend=job.backend,
                parts=prepared.parts,
                shots=job.shots,
                timeout_s=left_s,
                priority="interactive" if job.priority == "interactive" else "batch",
                tenant=job.tenant,
                limit=SpendingLimit(**work["limit"]),
            )
            try:
                result = await self._pool.run(request, patient=True)
            except (Unavailable, Overloaded) as error:
                logger.info("job %s waits: %s", job.id, error.detail)
                await asyncio.sleep(min(max(pause_s, error.retry_after_s or 0.0), LONGEST_AGAIN_S, left_s))
                pause_s = min(2.0 * pause_s, LONGEST_AGAIN_S)
            else:
                return result, prepared.read(result.counts)

    async def _write_end(self, record: Json) -> None:
        """Write how a job ended; a job whose end cannot be written is run again after a restart, at no cost."""
        try:
            await self._journal.write(record)
        except QuantumDBError as error:
            logger.warning("the end of job %s could not be written: %s", record["id"], error.detail)

    def _find(self, tenant: str, job_id: str) -> StoredJob:
        job = self._journal.ledger.jobs.get(job_id)
        if job is None or job.tenant != tenant:
            raise NotFound(f"there is no job {job_id!r}")
        return job

    def _view(self, job: StoredJob) -> Json:
        job = self._journal.ledger.jobs.get(job.id, job)
        view = {name: value for name, value in asdict(job).items() if name not in ("tenant", "work")}
        if job.status == "queued":
            view["provider_job_ids"] = self._pool.provider_job_ids(self._request_keys.get(job.id, ""))
            view["status"] = "submitted" if view["provider_job_ids"] else "queued"
        return view
