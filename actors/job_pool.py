"""The job pool's coordinator: one process that keeps limits, budgets and the journal for the whole cluster."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from actors.job_worker import RemoteWorkers
from quantum_db.backend_ports import BackendLimits, BackendResult, Condition, JobRequest
from quantum_db.clock import SystemClock
from quantum_db.errors import Fenced, QuantumDBError, Unavailable
from quantum_db.jobs.assembly import AssembledPool, PoolPolicy, assemble
from quantum_db.jobs.backends import BackendSpec, describe
from quantum_db.jobs.job_metrics import WorkerMetrics
from quantum_db.jobs.pool import QuantumJobPool
from quantum_db.jobs.scaling import ScalingPolicy, WorkerScaling
from quantum_db.jobs.stored_jobs import StoredJobs
from quantum_db.journals.open import open_journal
from quantum_db.telemetry import Snapshot, snapshot

logger = logging.getLogger(__name__)

OPEN_PAUSE_S = 1.0
READY_TIMEOUT_S = 30.0
SCALE_EVERY_S = 0.5
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How the pool is made up.

    Attributes:
        backends: name -> how to build it.
        journal_url: where intents and results are written; see ``quantum_db.journals.open``.
        workers: worker processes at the start.
        policy: the pool's bounds.
        scaling: how the number of workers follows the load; None leaves it as it is.
    """

    backends: Mapping[str, BackendSpec]
    journal_url: str
    workers: int = 1
    policy: PoolPolicy = field(default_factory=PoolPolicy)
    scaling: ScalingPolicy | None = None


class JobPool:
    """A ``QuantumJobPool`` and its ``StoredJobs``. After a crash it reads its journal before it lets callers in."""

    def __init__(self, settings: PoolSettings, seed: int | None = None) -> None:
        self._settings = settings
        self._rng = np.random.default_rng(seed)
        threads = 4 * settings.policy.max_in_flight * len(settings.backends) + 8
        self._workers = RemoteWorkers(settings.backends, settings.workers, threads, settings.policy.retry, seed)
        self._registry = CollectorRegistry()
        self._worker_metrics = WorkerMetrics(self._registry)
        self._clock = SystemClock()
        self._problem = "it is being read"
        self._parts: AssembledPool | None = None
        self._stored: StoredJobs | None = None
        self._scaling: asyncio.Task[None] | None = None
        self._starting = asyncio.get_running_loop().create_task(self._start())

    async def ready(self) -> bool:
        """Return True once the journal has been read and all workers answer.

        Raises:
            CorruptData: the journal cannot be read.
            InvalidSettings: it cannot be used.
            Unavailable: it does not answer for ``READY_TIMEOUT_S``; the pool goes on trying.
        """
        await asyncio.wait({self._starting}, timeout=READY_TIMEOUT_S)
        if not self._starting.done():
            raise Unavailable(f"the job pool waits for its journal: {self._problem}")
        self._starting.result()
        await self._workers.ready()
        return True

    async def limits(self, backend: str) -> BackendLimits:
        """See ``JobPool.limits`` of the ports."""
        return await (await self._opened()).pool.limits(backend)

    async def conditions(self) -> dict[str, Condition]:
        """See ``JobPool.conditions`` of the ports."""
        return await (await self._opened()).pool.conditions()

    async def run(self, request: JobRequest) -> BackendResult:
        """See ``JobPool.run`` of the ports."""
        return await (await self._opened()).pool.run(request)

    async def leave(self, key: str) -> None:
        """Note that the caller of a request has left."""
        (await self._opened()).pool.leave(key)

    async def desk(self, method: str, *arguments: Any) -> Any:
        """Call a method of the port ``JobDesk``."""
        await self._opened()
        assert self._stored is not None
        return await getattr(self._stored, method)(*arguments)

    async def metrics(self) -> Snapshot:
        """Return this process's metrics."""
        if self._parts is not None:
            self._parts.pool.show()
        self._worker_metrics.show(self._workers.counts)
        return snapshot(self._registry, "jobs")

    async def close(self) -> None:
        """Let go of all work, and release the journal. Jobs at a provider are taken up at the next start."""
        self._starting.cancel()
        if self._scaling is not None:
            self._scaling.cancel()
        if self._parts is None or self._stored is None:
            return
        await self._parts.pool.close()  # first: stored jobs that leave an open pool would be canceled at the provider
        await self._stored.close()
        await self._parts.journal.close()

    async def _opened(self) -> AssembledPool:
        if self._parts is None or not self._starting.done():
            await asyncio.wait({self._starting}, timeout=OPEN_PAUSE_S)
        if not self._starting.done():
            raise Unavailable("the job pool is reading its journal", retry_after_s=OPEN_PAUSE_S)
        self._starting.result()  # raises what the journal is wrong with
        assert self._parts is not None
        return self._parts

    async def _start(self) -> None:
        """Open the pool; try again for as long as the journal does not answer."""
        while True:
            try:
                parts = await self._assembled()
                break
            except Unavailable as error:
                self._problem = error.detail
                logger.warning("the job pool waits for its journal: %s", error.detail)
                await asyncio.sleep(OPEN_PAUSE_S)
            except QuantumDBError:
                logger.exception("the job pool cannot start")
                raise
        parts.pool.open()
        self._parts = parts
        self._stored = StoredJobs(parts.pool, parts.journal, self._workers, self._clock)
        self._stored.resume()
        policy = self._settings.scaling
        if policy is not None and policy.floor < policy.ceiling:
            self._scaling = asyncio.get_running_loop().create_task(self._scale(parts.pool, policy))

    async def _scale(self, pool: QuantumJobPool, policy: ScalingPolicy) -> None:
        """Let the number of workers follow the load."""
        scaling = WorkerScaling(policy, self._settings.workers)
        while True:
            loads = await pool.loads()
            before = scaling.workers
            wanted = scaling.decide(loads, self._clock.monotonic_s())
            self._worker_metrics.decided(before, wanted, sum(load.jobs for load in loads.values()))
            self._workers.scale(wanted)
            await asyncio.sleep(SCALE_EVERY_S)

    async def _assembled(self) -> AssembledPool:
        journal = await asyncio.to_thread(open_journal, self._settings.journal_url)
        parts = assemble(
            self._settings.policy,
            {name: describe(spec) for name, spec in self._settings.backends.items()},
            workers=self._workers,
            journal=journal,
            clock=self._clock,
            rng=self._rng,
            registry=self._registry,
            on_fenced=_give_way,
        )
        await parts.journal.load()
        return parts


def _give_way(error: Fenced) -> None:
    """End this process at once: another has become the coordinator, and this one must not decide anything more."""
    logger.error("the job pool ends: %s", error.detail)
    logging.shutdown()
    os._exit(1)
