"""Each overlap family gives the fidelities, on an ideal and on a noisy backend; the plan picks by price and error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quantum_db import overlaps
from quantum_db.backend_ports import QuantumBackend
from quantum_db.circuits.encoding import SpanEncoding, encode_span, lift
from quantum_db.circuits.noise import FORTE_1, NoisySimulatorBackend
from quantum_db.circuits.overlap import overlap_template
from quantum_db.circuits.planner import FAMILIES, Family
from quantum_db.circuits.simulator import SimulatorBackend
from quantum_db.clock import SystemClock


def encoding(rows: int, seed: int = 0) -> tuple[SpanEncoding, np.ndarray]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows + 1, 40)) + 0.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lifted = lift(vectors)
    encoded = encode_span(lifted[0], lifted[1:], 12)
    return encoded, (encoded.candidates @ encoded.query) ** 2


def values(backend: QuantumBackend, family: Family, encoded: SpanEncoding, shots: int) -> overlaps.FidelityEstimates:
    batch = overlaps.bind(family, encoded, overlap_template(encoded.num_qubits))
    result = backend.run(batch, shots, job_key="k", timeout_s=60.0)
    return overlaps.read(family, encoded, backend.limits, result, 0.95)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_estimates_the_fidelities(family: Family) -> None:
    """5 standard errors, with those of the multiplexed circuit sqrt(F (K - F) / S)."""
    encoded, exact = encoding(6)
    shots = 200_000
    found = values(SimulatorBackend(np.random.default_rng(1)), family, encoded, shots)
    scale = 6 if family == "multiplexed" else 1
    error = np.sqrt(exact * (scale - exact) / shots)
    assert (np.abs(found.values - exact) < 5 * error + 1e-6).all()
    np.testing.assert_allclose(np.sqrt(found.variance), error, rtol=0.05)
    assert ((found.low <= found.values) & (found.values <= found.high)).all()


def test_intervals_of_a_noisy_backend_hold_the_fidelity_without_noise() -> None:
    """Gate errors are divided out: without it the shares are off by about 0.05 here. Readout is made ideal."""
    noise = replace(FORTE_1, one_given_zero=0.0, zero_given_one=0.0)
    encoded, exact = encoding(7, seed=2)
    backend = NoisySimulatorBackend("forte", noise, rng=np.random.default_rng(3), clock=SystemClock())
    assert backend.limits.two_qubit_fidelity < 1.0
    found = values(backend, "merged", encoded, 100_000)
    ideal = replace(backend.limits, one_qubit_fidelity=1.0, two_qubit_fidelity=1.0)
    batch = overlaps.bind("merged", encoded, overlap_template(encoded.num_qubits))
    raw = overlaps.read("merged", encoded, ideal, backend.run(batch, 100_000, job_key="k", timeout_s=60.0), 0.95)
    assert np.abs(found.values - exact).mean() < 0.25 * np.abs(raw.values - exact).mean()


def test_the_plan_asks_for_as_many_shots_as_the_error_needs() -> None:
    encoded, _ = encoding(20)
    limits = SimulatorBackend(np.random.default_rng(0)).limits
    ideal = overlaps.plan(encoded, limits, 4_096)
    assert (ideal.chosen.family, ideal.chosen.shots, ideal.chosen.cost_usd) == ("merged", 4_096, 0.0)
    noisy = overlaps.plan(encoded, replace(limits, two_qubit_fidelity=0.996, price_model="braket-forte"), 4_096)
    assert noisy.chosen.shots > 4_096
    assert noisy.chosen.cost_usd == min(p.cost_usd for p in (noisy.chosen, *noisy.alternatives) if p.feasible)


def test_a_minimum_price_for_each_circuit_can_make_one_circuit_for_all_the_choice() -> None:
    encoded, exact = encoding(10)
    limits = replace(SimulatorBackend(np.random.default_rng(0)).limits, price_model="azure")
    plan = overlaps.plan(encoded, limits, 16)
    assert plan.chosen.family == "multiplexed"
    found = values(SimulatorBackend(np.random.default_rng(4)), "multiplexed", encoded, plan.chosen.shots)
    assert np.sqrt(found.variance).max() < 2 * overlaps.WORST_SPREAD / np.sqrt(16)
    assert np.abs(found.values - exact).max() < 5 * overlaps.WORST_SPREAD / np.sqrt(16)
