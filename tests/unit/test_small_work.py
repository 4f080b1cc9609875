"""Small work for simulators is run where it is asked for; all other work goes to the pool."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from quantum_db.backend_ports import AdaptiveAim, JobRequest
from quantum_db.circuits.encoding import encode_span, lift
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.clock import SystemClock
from quantum_db.errors import BudgetExceeded, DeadlineExceeded, InvalidCircuit
from quantum_db.jobs.backends import BackendSpec
from quantum_db.jobs.budget import SpendingLimit
from quantum_db.jobs.here import MOST_AMPLITUDES, SmallWork
from quantum_db.jobs.job_metrics import JobMetrics

SPECS = {
    "ideal": BackendSpec(kind="simulator"),
    "narrow": BackendSpec(kind="simulator", max_qubits=2),
    "noisy": BackendSpec(kind="simulator", noise_model="forte-1"),
    "ionq": BackendSpec(kind="ionq", url="http://127.0.0.1:9/v0.4"),
}


def small_work(registry: CollectorRegistry | None = None) -> SmallWork:
    metrics = JobMetrics(registry or CollectorRegistry())
    return SmallWork(SPECS, SystemClock(), np.random.default_rng(0), metrics)


def request(circuits: int = 30, dimension: int = 31, backend: str = "ideal", shots: int = 1_000) -> JobRequest:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(circuits + 1, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    encoding = encode_span(lift(rows[:1])[0], lift(rows[1:]), 12)
    batch = overlap_circuits(encoding, overlap_template(encoding.num_qubits))
    return JobRequest("key", backend, (batch,), shots, 5.0)


def test_the_circuits_of_a_query_are_small_and_run_here() -> None:
    registry = CollectorRegistry()
    work, asked = small_work(registry), request()
    assert work.takes(asked)
    result = work.run(asked)
    assert [sum(counts.values()) for counts in result.counts] == [1_000] * 30
    assert (result.backend, result.provenance, result.cost_usd) == ("ideal", "simulated shots", 0.0)
    assert registry.get_sample_value("quantum_circuits_total", {"backend": "ideal"}) == 30
    assert registry.get_sample_value("quantum_shots_total", {"backend": "ideal"}) == 30_000


@pytest.mark.parametrize(
    "other",
    [
        request(backend="noisy"),
        request(backend="ionq"),
        request(backend="unknown"),
        replace(request(), adaptive=AdaptiveAim(5, 0.1, 0.95, 10_000)),
        replace(request(), shots=2_000_000_000),
        replace(request(), parts=request().parts * (MOST_AMPLITUDES // (30 << 5) + 1)),
    ],
    ids=["noise", "a provider", "an unknown backend", "adaptive", "many shots", "many amplitudes"],
)
def test_other_work_is_the_pools(other: JobRequest) -> None:
    assert not small_work().takes(other)


def test_what_cannot_run_is_an_error_here_as_there() -> None:
    registry = CollectorRegistry()
    work = small_work(registry)
    with pytest.raises(BudgetExceeded):
        work.run(replace(request(), limit=SpendingLimit(max_shots=100)))
    with pytest.raises(InvalidCircuit, match="narrow takes 2"):
        work.run(request(backend="narrow"))
    with pytest.raises(DeadlineExceeded):
        work.run(replace(request(), timeout_s=0.0))
    assert registry.get_sample_value("quantum_jobs_total", {"backend": "narrow", "outcome": "invalid-circuit"}) == 1


def test_limits_are_those_of_the_simulators() -> None:
    work = small_work()
    narrow = work.limits("narrow")
    assert narrow is not None
    assert narrow.max_qubits == 2
    assert work.limits("noisy") is None
    assert work.limits("ionq") is None
