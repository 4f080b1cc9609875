"""Jobs as a resource: taken with a promise, run when there is a place, kept with their results over restarts."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final
from uuid import uuid4

from quantum_db.backend_ports import BackendResult, JobRequest
from quantum_db.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    JobCanceled,
    NotFound,
    Overloaded,
    QuantumDBError,
    Unavailable,
)
from quantum_db.ionq.pricing import PRICE_MODELS
from quantum_db.jobs.breaker import Override
from quantum_db.jobs.budget import MICRO, SpendingLimit
from quantum_db.jobs.desk import JobPage
from quantum_db.jobs.job_journal import JobJournal
from quantum_db.jobs.ledger import JobStatus, StoredJob
from quantum_db.jobs.orders import JobOrder
from quantum_db.jobs.parts import parts_from_json, parts_to_json
from quantum_db.jobs.pool import QuantumJobPool
from quantum_db.jobs.prepared import PreparedJob, Reading, reading_from_json
from quantum_db.jobs.workers import Workers
from quantum_db.ports import Clock

logger = logging.getLogger(__name__)

MAX_OPEN_JOBS: Final = 1_000
AGAIN_S: Final = 2.0
LONGEST_AGAIN_S: Final = 60.0
ESTIMATE_TIMEOUT_S: Final = 5.0
MAX_ESTIMATES: Final = 2
"""So many estimates are asked of providers at a time; others wait for their turn."""

CANCEL_WAIT_S: Final = 5.0

Json = dict[str, Any]


class StoredJobs:
    """Implements ``JobDesk``. Another tenant's job looks like none."""

    def __init__(self, pool: QuantumJobPool, journal: JobJournal, workers: Workers, clock: Clock) -> None:
        """Run nothing yet; ``resume`` does.

        Args:
            pool: runs the circuits.
            journal: keeps the jobs, in its ledger.
            workers: are asked for estimates.
            clock: for deadlines.
        """
        self._pool = pool
        self._journal = journal
        self._workers = workers
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[str] = set()
        self._taking: dict[str, asyncio.Task[None]] = {}
        self._request_keys: dict[str, str] = {}
        self._estimates = asyncio.Semaphore(MAX_ESTIMATES)

    def resume(self) -> None:
        """Take up the jobs that had not ended."""
        for job in list(self._journal.ledger.jobs.values()):
            if job.status == "queued":
                self._begin(job)

    async def create(self, tenant: str, order: JobOrder) -> Json:
        """Take a job: when this returns, it is written down, and will be run or say why not.

        The same order again under the same key is the job that was taken before, as long as that is kept.

        Raises:
            BudgetExceeded: its budget, or the tenant's day, does not cover the estimate.
            Conflict: another order was given under the key.
            Overloaded: too many jobs have not ended.
        """
        job_id = _id_of(tenant, order)
        if (known := await self._known(job_id, order)) is not None:
            return known
        if len(self._tasks) >= MAX_OPEN_JOBS:
            raise Overloaded(f"{len(self._tasks)} jobs have not ended; try again later", retry_after_s=AGAIN_S)
        usd, shots = await self._pool.quote(_request_of("", tenant, order, order.deadline_s))
        order.limit.check(usd, shots)
        self._pool.check_day(tenant, order.backend, usd, shots)
        if (known := await self._known(job_id, order)) is not None:  # taken while this one was quoted
            return known
        now_s = self._clock.now_s()
        job = StoredJob(
            id=job_id,
            tenant=tenant,
            backend=order.backend,
            shots=order.shots,
            circuits=order.circuits,
            priority=order.priority,
            created_at_s=now_s,
            deadline_at_s=now_s + order.deadline_s,
            name=order.name,
            work={
                "parts": parts_to_json(order.parts),
                "reading": dict(order.reading),
                "limit": asdict(order.limit),
            },
            digest=None if order.key is None else order.digest,
        )
        taking = self._taking[job.id] = asyncio.get_running_loop().create_task(self._take(job))
        taking.add_done_callback(lambda _: self._taking.pop(job.id, None))
        await asyncio.shield(taking)
        return self._view(job)

    async def _known(self, job_id: str, order: JobOrder) -> Json | None:
        """Return the job that was taken under the order's key, if any. Raises Conflict."""
        while (taking := self._taking.get(job_id)) is not None:
            await asyncio.wait({taking})
        job = self._journal.ledger.jobs.get(job_id)
        if job is None:
            return None
        if job.digest != order.digest:
            raise Conflict(f"the idempotency key {order.key!r} was used for another job; take a new key")
        return self._view(job)

    async def get(self, tenant: str, job_id: str) -> Json:
        """Return a job, with its result once it has one. Raises NotFound."""
        return self._view(self._find(tenant, job_id))

    async def list(self, tenant: str, page: JobPage) -> Json:
        """Return jobs, newest first, without their results."""
        found: list[Json] = []
        if page.cursor is not None and getattr(self._journal.ledger.jobs.get(page.cursor), "tenant", None) != tenant:
            raise InvalidRequest.at("cursor", "names a job that is not kept any longer; begin again without a cursor")
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
            if job.id not in self._ending:
                task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_WAIT_S)
        return await self.get(tenant, job_id)

    async def estimate(self, tenant: str, order: JobOrder) -> Json:
        """Return what a job would cost, by published prices and by the provider's word. Submits nothing."""
        limits = await self._pool.limits(order.backend)
        model = PRICE_MODELS[limits.price_model]
        lane = self._pool.lane(order.backend)
        return {
            "backend": order.backend,
            "circuits": order.circuits,
            "shots": order.shots * order.circuits,
            "two_qubit_gates": sum(len(part) * part.template.two_qubit_gates for part in order.parts),
            "cost_usd": self._pool.estimate_usd(limits, order.parts, order.shots),
            "new_cost_usd": (await self._pool.quote(_request_of("", tenant, order, order.deadline_s)))[0],
            "price_model": {"name": model.name, "source": model.source},
            "provider": None if lane.local else await self._provider_estimate(order),
            "left_today": self._pool.left_today(tenant),
        }

    async def _provider_estimate(self, order: JobOrder) -> Json:
        """Ask the provider, few at a time: one that hangs shall leave the workers to the jobs."""
        try:
            async with asyncio.timeout(ESTIMATE_TIMEOUT_S):
                await self._estimates.acquire()
        except TimeoutError:
            return {"problem": "other estimates wait for the provider's word; try again later"}
        # A caller that leaves does not end the worker's call, which keeps its place until it has ended.
        return await asyncio.shield(asyncio.get_running_loop().create_task(self._ask_estimate(order)))

    async def _ask_estimate(self, order: JobOrder) -> Json:
        try:
            found = await self._workers.estimate(order.backend, order.parts, order.shots, timeout_s=ESTIMATE_TIMEOUT_S)
            return asdict(found)
        except QuantumDBError as error:
            return {"problem": error.detail}
        finally:
            self._estimates.release()

    async def costs(self, tenant: str, since: str | None, until: str | None) -> Json:
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

    async def backends(self) -> Json:
        """See ``QuantumJobPool.backends``."""
        return self._pool.backends()

    async def force_breaker(self, backend: str, override: Override) -> None:
        """See ``QuantumJobPool.force_breaker``."""
        self._pool.force_breaker(backend, override)

    async def close(self) -> None:
        """Stop running jobs; they are taken up at the next start. Close the pool before."""
        tasks = list(self._tasks.values())
        self._tasks.clear()  # so that their end is not taken for a cancellation by their owner
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, job: StoredJob) -> None:
        """Write a job down and begin with it: both, even if who sent it has left meanwhile."""
        await self._journal.write({"t": "job", **asdict(job)})
        self._begin(job)

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
            end = _unsuccessful("canceled", error)
        except QuantumDBError as error:
            end = _unsuccessful("failed", error)
        except Exception:  # a fault of this program: nobody would work on a job that stays queued
            logger.exception("job %s crashed", job.id)
            end = _unsuccessful("failed", QuantumDBError("the job pool failed; see its log"))
        self._ending.add(job.id)
        await self._write_end({"t": "job_end", "id": job.id, "ended_at_s": self._clock.now_s(), **end})
        self._ending.discard(job.id)
        self._tasks.pop(job.id, None)
        self._request_keys.pop(job.id, None)

    async def _result(self, job: StoredJob) -> tuple[BackendResult, Mapping[str, Any]]:
        """Ask the pool until there is a result, or an error that does not pass, or the deadline."""
        order, reading = _order_of(job)
        pause_s = AGAIN_S
        while True:
            left_s = job.deadline_at_s - self._clock.now_s()
            if left_s <= 0.0:
                raise DeadlineExceeded("the job's deadline passed before it had a result")
            key = self._request_keys[job.id] = f"{job.id}-{uuid4().hex}"
            request = _request_of(key, job.tenant, order, left_s)
            try:
                result = await self._pool.run(request, patient=True)
            except (Unavailable, Overloaded) as error:
                logger.info("job %s waits: %s", job.id, error.detail)
                await asyncio.sleep(min(max(pause_s, error.retry_after_s or 0.0), LONGEST_AGAIN_S, left_s))
                pause_s = min(2.0 * pause_s, LONGEST_AGAIN_S)
            else:
                return result, PreparedJob(order.parts, reading).read(result.counts)

    async def _write_end(self, record: Json) -> None:
        """Write how a job ended, again until it is durable; after a restart it is run again, at no cost."""
        pause_s = AGAIN_S
        while True:
            try:
                await self._journal.write(record)
            except QuantumDBError as error:
                logger.warning("the end of job %s could not be written yet: %s", record["id"], error.detail)
                await asyncio.sleep(pause_s)
                pause_s = min(2.0 * pause_s, LONGEST_AGAIN_S)
            else:
                return

    def _find(self, tenant: str, job_id: str) -> StoredJob:
        job = self._journal.ledger.jobs.get(job_id)
        if job is None or job.tenant != tenant:
            raise NotFound(f"there is no job {job_id!r}")
        return job

    def _view(self, job: StoredJob) -> Json:
        job = self._journal.ledger.jobs.get(job.id, job)
        view = {name: value for name, value in asdict(job).items() if name not in ("tenant", "work", "digest")}
        if job.status == "queued":
            view["provider_job_ids"] = self._pool.provider_job_ids(self._request_keys.get(job.id, ""))
            view["status"] = "submitted" if view["provider_job_ids"] else "queued"
        return view


def _id_of(tenant: str, order: JobOrder) -> str:
    """Return the id for a job: one of its own, or, with a key, the one that this key always has."""
    if order.key is None:
        return f"job-{uuid4().hex}"
    return f"job-{hashlib.blake2b(f'{tenant}:{order.key}'.encode(), digest_size=16).hexdigest()}"


def _order_of(job: StoredJob) -> tuple[JobOrder, Reading]:
    """Return what a stored job asks for. Raises CorruptData."""
    assert job.work is not None, "it has not ended"
    order = JobOrder(
        backend=job.backend,
        parts=parts_from_json(job.work["parts"]),
        reading=job.work["reading"],
        shots=job.shots,
        priority="interactive" if job.priority == "interactive" else "batch",
        deadline_s=job.deadline_at_s - job.created_at_s,
        limit=SpendingLimit(**job.work["limit"]),
        name=job.name,
    )
    return order, reading_from_json(job.work["reading"])


def _request_of(key: str, tenant: str, order: JobOrder, timeout_s: float) -> JobRequest:
    return JobRequest(
        key=key,
        backend=order.backend,
        parts=order.parts,
        shots=order.shots,
        timeout_s=timeout_s,
        priority=order.priority,
        tenant=tenant,
        limit=order.limit,
    )


def _unsuccessful(status: JobStatus, error: QuantumDBError) -> Json:
    return {"status": status, "error": {"slug": error.slug, "detail": error.detail}}
