"""Small work for simulators is run where it is asked for; all other work goes to the pool."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from quantum_db.backend_ports import AdaptiveAim, BackendResult, JobRequest
from quantum_db.circuits.encoding import encode_span, lift
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.simulator import probabilities
from quantum_db.circuits.template import CircuitBatch
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


def request(
    circuits: int = 30, dimension: int = 31, backend: str = "ideal", shots: int = 1_000, seed: int = 1
) -> JobRequest:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(circuits + 1, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    encoding = encode_span(lift(rows[:1])[0], lift(rows[1:]), 12)
    batch = overlap_circuits(encoding, overlap_template(encoding.num_qubits))
    return JobRequest("key", backend, (batch,), shots, 5.0)


def test_the_circuits_of_a_query_are_small_and_run_here() -> None:
    registry = CollectorRegistry()
    work, asked = small_work(registry), request()
    assert work.takes(asked)
    (result,) = work.run_each([asked])
    assert isinstance(result, BackendResult)
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


def test_what_cannot_run_is_an_error_of_its_own_here_as_there() -> None:
    registry = CollectorRegistry()
    work = small_work(registry)
    poor, narrow = replace(request(), limit=SpendingLimit(max_shots=100)), request(backend="narrow")
    errors = work.run_each([poor, request(), narrow])
    assert [type(one) for one in errors] == [BudgetExceeded, BackendResult, InvalidCircuit]
    assert "narrow takes 2" in str(errors[2])
    assert isinstance(work.run_each([replace(request(), timeout_s=0.0)])[0], DeadlineExceeded)
    assert registry.get_sample_value("quantum_jobs_total", {"backend": "narrow", "outcome": "invalid-circuit"}) == 1


def test_alike_circuits_of_several_callers_are_simulated_together_and_told_apart() -> None:
    work, simulated = small_work(), list[int]()
    backend = work._backends["ideal"]
    run = backend.run

    def counted(batch: CircuitBatch, *arguments: Any, **options: Any) -> BackendResult:
        simulated.append(len(batch))
        return run(batch, *arguments, **options)

    backend.run = counted  # type: ignore[method-assign]
    asked = [
        request(5, seed=1),
        request(7, seed=2),
        request(7, seed=3, shots=500),
        replace(request(3), parts=request(3).parts * 2),
    ]
    results = [one for one in work.run_each(asked) if isinstance(one, BackendResult)]
    assert [len(one.counts) for one in results] == [5, 7, 7, 6]
    assert [sum(one.counts[0].values()) for one in results] == [1_000, 1_000, 500, 1_000]
    assert sorted(simulated) == [3, 3, 7, 12]
    for one, of in zip(results, asked, strict=True):
        exact = np.concatenate([probabilities(part)[:, 0] for part in of.parts])
        shares = np.array([counts.get(0, 0) for counts in one.counts]) / of.shots
        assert np.abs(shares - exact).max() < 5.0 * np.sqrt(0.25 / of.shots)


def test_limits_are_those_of_the_simulators() -> None:
    work = small_work()
    narrow = work.limits("narrow")
    assert narrow is not None
    assert narrow.max_qubits == 2
    assert work.limits("noisy") is None
    assert work.limits("ionq") is None
