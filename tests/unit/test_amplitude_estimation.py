"""Amplitude estimation: the iterate as circuit, as reflections and as formula; the estimator with and without noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.quantum_info import Statevector

from quantum_db.circuits.amplitude_estimation import (
    NOISELESS,
    Schedule,
    Survival,
    estimate_amplitudes,
    exponential_schedule,
    grover_circuits,
    grover_probability,
    grover_template,
    grover_two_qubit_gates,
    iterated_amplitudes,
    standard_error,
)
from quantum_db.circuits.encoding import SpanEncoding
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.simulator import probabilities
from quantum_db.circuits.template import CircuitBatch
from quantum_db.errors import InvalidCircuit


def unit(rng: np.random.Generator, rows: int, dimension: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def overlaps(rng: np.random.Generator, qubits: int, rows: int) -> tuple[CircuitBatch, np.ndarray, np.ndarray]:
    query, candidates = unit(rng, 1, 1 << qubits)[0], unit(rng, rows, 1 << qubits)
    batch = overlap_circuits(SpanEncoding(query, candidates, qubits, 0.0), overlap_template(qubits))
    return batch, query, candidates


def draw(rng: np.random.Generator, truth: np.ndarray, schedule: Schedule, noise: Survival = NOISELESS) -> np.ndarray:
    columns = [rng.binomial(schedule.shots, grover_probability(truth, m, noise)) for m in schedule.powers]
    return np.stack(columns, axis=1)


@settings(max_examples=40, deadline=None)
@given(qubits=st.integers(1, 4), power=st.integers(0, 9), seed=st.integers(0, 2**32 - 1))
def test_reflections_follow_the_formula(qubits: int, power: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    query, candidates = unit(rng, 1, 1 << qubits)[0], unit(rng, 5, 1 << qubits)
    expected = grover_probability((candidates @ query) ** 2, power)
    np.testing.assert_allclose(iterated_amplitudes(query, candidates, power) ** 2, expected, atol=1e-9)


@pytest.mark.parametrize("qubits", [1, 2, 3])
@pytest.mark.parametrize("power", [0, 1, 2, 3])
def test_the_circuit_follows_the_formula_gate_by_gate(qubits: int, power: int) -> None:
    batch, query, candidates = overlaps(np.random.default_rng(qubits), qubits, 3)
    template = grover_template(qubits, power)
    assert template.two_qubit_gates == grover_two_qubit_gates(qubits, power)
    bound = grover_circuits(batch, template, power)
    expected = grover_probability((candidates @ query) ** 2, power)
    np.testing.assert_allclose(probabilities(bound)[:, 0], expected, atol=1e-10)
    for gates, value in zip(template.gates(bound.angles), expected, strict=True):
        circuit = QuantumCircuit(qubits + 1)
        for gate in gates:
            if gate.name == "ry":
                circuit.ry(gate.angle, *gate.qubits)
            else:
                circuit.cx(*gate.qubits)
        outcome = Statevector(circuit).probabilities()
        assert outcome[0] == pytest.approx(value, abs=1e-9)
        assert outcome[1 << qubits :].sum() == pytest.approx(0.0, abs=1e-9)  # the ancilla comes back to 0


def test_the_check_of_the_circuit_catches_a_reflection_left_out() -> None:
    """The planted fault: one of the two reflections turns by nothing."""
    batch, query, candidates = overlaps(np.random.default_rng(9), 2, 3)
    template = grover_template(2, 1)
    angles = grover_circuits(batch, template, 1).angles.copy()
    angles[:, batch.angles.shape[1]] = 0.0
    outcome = probabilities(CircuitBatch(template, angles))[:, 0]
    assert np.abs(outcome - grover_probability((candidates @ query) ** 2, 1)).max() > 0.01


def test_a_template_of_another_size_is_refused() -> None:
    batch, _, _ = overlaps(np.random.default_rng(0), 2, 1)
    with pytest.raises(InvalidCircuit, match="does not fit"):
        grover_circuits(batch, grover_template(3, 1), 1)


def test_the_error_falls_with_the_preparations_and_meets_its_bound() -> None:
    """Median error within 30% of a normal's at the Cramer-Rao bound; the gain over sampling grows with the length."""
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.05, 0.95, size=400)
    gains = []
    for longest in (2, 8):
        schedule = exponential_schedule(longest, 100)
        error = np.abs(estimate_amplitudes(draw(rng, truth, schedule), schedule).fidelities - truth)
        bound = np.array([standard_error(f, schedule) for f in truth])
        assert 0.7 < np.median(error / bound) / 0.6745 < 1.3
        gains.append(np.median(np.sqrt(truth * (1.0 - truth) / schedule.preparations) / bound))
    assert gains[1] > 1.5 * gains[0] > 1.5


NOISY = Survival(overlap=0.92, reflection=0.97, num_qubits=4)


@pytest.mark.parametrize("noise", [NOISELESS, NOISY])
def test_intervals_hold_with_known_noise(noise: Survival) -> None:
    """2,000 cases; likelihood-ratio intervals at 95% hold in 93.5% to 96.5% (3 sigma of the count are 1.5 points)."""
    rng = np.random.default_rng(2)
    truth = rng.uniform(0.05, 0.95, size=2_000)
    schedule = exponential_schedule(4, 200)
    counts = draw(rng, truth, schedule, noise)
    found = estimate_amplitudes(counts, schedule, noise=noise)
    assert 0.935 < ((found.low <= truth) & (truth <= found.high)).mean() < 0.965


def test_the_check_of_the_intervals_catches_noise_that_is_not_known() -> None:
    """The planted fault: noisy counts, read as if there were no noise."""
    rng = np.random.default_rng(3)
    truth = rng.uniform(0.05, 0.95, size=500)
    schedule = exponential_schedule(4, 200)
    found = estimate_amplitudes(draw(rng, truth, schedule, NOISY), schedule)
    assert ((found.low <= truth) & (truth <= found.high)).mean() < 0.8


def test_schedules_count_their_preparations() -> None:
    assert exponential_schedule(8, 10).powers == (0, 1, 2, 4, 8)
    assert exponential_schedule(0, 10).powers == (0,)
    assert exponential_schedule(2, 10).preparations == 10 * (1 + 3 + 5)
    for powers, shots in (((1, 2), 10), ((0, 2, 2), 10), ((), 10), ((0,), 0)):
        with pytest.raises(ValueError, match=r"powers start at 0|at least one shot"):
            Schedule(powers, shots)
    with pytest.raises(ValueError, match="counts have shape"):
        estimate_amplitudes(np.zeros((1, 2), dtype=int), Schedule((0,), 5))
    with pytest.raises(ValueError, match="outside of 0 to 5"):
        estimate_amplitudes(np.array([[6]]), Schedule((0,), 5))


def test_only_power_zero_is_plain_sampling() -> None:
    schedule = Schedule((0,), 1_000)
    found = estimate_amplitudes(np.array([[300], [0], [1_000]]), schedule)
    np.testing.assert_allclose(found.fidelities, [0.3, 0.0, 1.0], atol=2e-3)
    assert standard_error(0.3, schedule) == pytest.approx(np.sqrt(0.21 / 1_000))
