"""Puts a job pool together from its policy, its workers and its journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from prometheus_client import CollectorRegistry

from quantum_db.errors import Fenced
from quantum_db.jobs.backends import BackendDescription
from quantum_db.jobs.breaker import Breaker, BreakerPolicy
from quantum_db.jobs.budget import Allowance, Budgets
from quantum_db.jobs.dispatch import Dispatcher
from quantum_db.jobs.flight import Surroundings
from quantum_db.jobs.job_journal import JobJournal
from quantum_db.jobs.job_metrics import JobMetrics
from quantum_db.jobs.lanes import Lane
from quantum_db.jobs.ledger import Ledger, Retention
from quantum_db.jobs.pool import QuantumJobPool
from quantum_db.jobs.queue import FairQueue, QueueLimits
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.jobs.submission import ProtocolLimits
from quantum_db.jobs.workers import Workers
from quantum_db.ports import Clock, Journal


@dataclass(frozen=True, slots=True)
class TenantPolicy:
    """What a tenant gets.

    Attributes:
        weight: its share of each backend relative to other tenants that have work waiting.
        usd_per_day, shots_per_day: what it may spend at paid backends in a day (UTC); None for no limit.
    """

    weight: float = 1.0
    usd_per_day: float | None = None
    shots_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """The pool's bounds.

    Attributes:
        max_in_flight: jobs at each backend, over all workers.
        max_waiting: callers that may wait for each backend; one tenant may have half of them.
        window_s: how long the first caller waits for others to share a job at a provider. At backends that run in the
            workers nobody waits: what comes in while all places are taken goes together.
        tenants: by name; ``default_tenant`` for all others.
    """

    max_in_flight: int = 10
    max_waiting: int = 1_000
    window_s: float = 0.003
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    protocol: ProtocolLimits = field(default_factory=ProtocolLimits)
    retention: Retention = field(default_factory=Retention)
    default_tenant: TenantPolicy = field(default_factory=TenantPolicy)
    tenants: Mapping[str, TenantPolicy] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AssembledPool:
    """A pool and its journal. ``load`` the journal, then ``open`` the pool; close the pool first."""

    pool: QuantumJobPool
    journal: JobJournal


def assemble(
    policy: PoolPolicy,
    backends: Mapping[str, BackendDescription],
    *,
    workers: Workers,
    journal: Journal,
    clock: Clock,
    rng: np.random.Generator,
    registry: CollectorRegistry,
    on_fenced: Callable[[Fenced], None],
) -> AssembledPool:
    """Return a pool that has read nothing yet.

    Args:
        policy: its bounds.
        backends: by name.
        workers: talk to the backends.
        journal: owned by the pool from now on.
        clock: for deadlines and days.
        rng: for the jitter of pauses.
        registry: of its metrics.
        on_fenced: is told when another process has taken over the journal.
    """

    def of(tenant: str) -> TenantPolicy:
        return policy.tenants.get(tenant, policy.default_tenant)

    budgets = Budgets(lambda tenant: Allowance(of(tenant).usd_per_day, of(tenant).shots_per_day))
    ledger = Ledger(budgets, policy.retention)
    journaled = JobJournal(journal, ledger, clock, on_fenced)
    bounds = QueueLimits(policy.max_in_flight, policy.max_waiting, max(1, policy.max_waiting // 2))
    lanes = {
        name: Lane(
            name,
            local=backend.local,
            identity=backend.identity,
            window_s=0.0 if backend.local else policy.window_s,
            breaker=Breaker(name, policy.breaker),
        )
        for name, backend in backends.items()
    }
    metrics = JobMetrics(registry)
    dispatcher = Dispatcher(
        lanes,
        queue=FairQueue(dict.fromkeys(backends, bounds), lambda tenant: of(tenant).weight),
        budgets=budgets,
        around=Surroundings(workers, journaled.write, clock, policy.protocol),
        retry=policy.retry,
        metrics=metrics,
        rng=rng,
    )
    provenances = {name: backend.provenance for name, backend in backends.items()}
    return AssembledPool(QuantumJobPool(dispatcher, ledger, workers, clock, metrics, provenances), journaled)
