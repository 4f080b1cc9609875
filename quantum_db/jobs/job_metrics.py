"""The pool's metrics, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from quantum_db.errors import QuantumDBError
from quantum_db.jobs.breaker import BreakerState
from quantum_db.jobs.runs import Run

_BREAKER_STATES: dict[BreakerState, int] = {"closed": 0, "half_open": 1, "open": 2}


class JobMetrics:
    """Counts what the pool does. Tenants are in no label: their number has no bound."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = Counter("quantum_jobs", "Jobs that ended", ["backend", "outcome"], registry=registry)
        self._circuits = Counter("quantum_circuits", "Circuits of completed jobs", ["backend"], registry=registry)
        self._shots = Counter("quantum_shots", "Shots of completed jobs", ["backend"], registry=registry)
        self._cost = Counter("quantum_cost_usd", "Cost of completed jobs", ["backend"], registry=registry)
        self._callers = Counter("quantum_job_callers", "Callers that jobs were made of", ["backend"], registry=registry)
        self._reused = Counter(
            "quantum_circuits_reused", "Circuits that had run before", ["backend"], registry=registry
        )
        self._refused = Counter("quantum_work_refused", "Work not taken", ["backend", "reason"], registry=registry)
        self._wait = Histogram("quantum_job_wait_seconds", "Wait for a place", ["backend"], registry=registry)
        self._now = Gauge(
            "quantum_jobs_now", "Jobs in flight, callers waiting", ["backend", "where"], registry=registry
        )
        self._breaker = Gauge(
            "quantum_breaker_state", "0 closed, 1 half open, 2 open: no work is sent", ["backend"], registry=registry
        )

    def started(self, backend: str, runs: Sequence[Run], waited_s: float) -> None:
        """Note that a job of these runs starts; ``waited_s`` is the wait of the first."""
        self._callers.labels(backend).inc(len(runs))
        self._wait.labels(backend).observe(waited_s)

    def ended(self, backend: str, error: QuantumDBError | None) -> None:
        """Note how a job ended."""
        self._jobs.labels(backend, "completed" if error is None else error.slug).inc()

    def completed(self, backend: str, circuits: int, shots: int, cost_usd: float) -> None:
        """Count what a completed job ran and cost."""
        self._circuits.labels(backend).inc(circuits)
        self._shots.labels(backend).inc(circuits * shots)
        self._cost.labels(backend).inc(cost_usd)

    def reused(self, backend: str, circuits: int) -> None:
        """Count circuits that were answered from kept results."""
        self._reused.labels(backend).inc(circuits)

    def refused(self, backend: str, error: QuantumDBError) -> None:
        """Count work that was not taken."""
        self._refused.labels(backend, error.slug).inc()

    def show(self, backend: str, in_flight: int, waiting: int, breaker: BreakerState) -> None:
        """Set the gauges of a backend."""
        self._now.labels(backend, "in_flight").set(in_flight)
        self._now.labels(backend, "waiting").set(waiting)
        self._breaker.labels(backend).set(_BREAKER_STATES[breaker])


class WorkerMetrics:
    """Shows how many workers there are, and counts the decisions about them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._now = Gauge("quantum_workers", "Worker processes", ["state"], registry=registry)
        self._jobs = Gauge(
            "quantum_worker_jobs", "Jobs that keep the workers busy, also waiting ones", registry=registry
        )
        self._changes = Counter(
            "quantum_worker_changes", "Decisions for more or fewer workers", ["direction"], registry=registry
        )

    def show(self, counts: Mapping[str, int]) -> None:
        """Set how many workers are in each state."""
        for state, count in counts.items():
            self._now.labels(state).set(count)

    def decided(self, before: int, after: int, jobs: float) -> None:
        """Note a decision and what it was made from."""
        self._jobs.set(jobs)
        if after != before:
            self._changes.labels("up" if after > before else "down").inc()
