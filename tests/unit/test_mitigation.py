"""Readout mitigation, folding and extrapolation against exact noisy simulation and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.quantum_info import Operator

from quantum_db.circuits.encoding import SpanEncoding
from quantum_db.circuits.mitigation import (
    Estimate,
    ReadoutCalibration,
    calibration_circuits,
    divide_out,
    extrapolate,
    fold,
    frequencies,
    mitigate_readout,
    nearest_distribution,
    shot_shares,
    survival_of_reference,
    weights_at_zero,
)
from quantum_db.circuits.noise import ARIA_1, FORTE_1, NoiseModel, NoisySimulatorBackend, noisy_probabilities
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.simulator import probabilities
from quantum_db.circuits.template import (
    CX,
    CircuitBatch,
    H,
    MultiplexedRY,
    Rotation,
    Step,
    Template,
    content_key,
)
from quantum_db.clock import SystemClock
from quantum_db.errors import InvalidCircuit, InvalidRequest
from tests.unit.test_noise import aer_probabilities

READOUT = NoiseModel("readout", "a test", one_given_zero=0.02, zero_given_one=0.09)


def overlaps(qubits: int, rows: int, seed: int = 0) -> CircuitBatch:
    vectors = np.random.default_rng(seed).normal(size=(rows + 1, 1 << qubits))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return overlap_circuits(SpanEncoding(vectors[0], vectors[1:], qubits, 0.0), overlap_template(qubits))


def mixed_gates() -> CircuitBatch:
    steps: tuple[Step, ...] = (
        H(0),
        MultiplexedRY(1, (0, 2), 0),
        Rotation("rzz", (2, 0), 4),
        Rotation("rx", (2,), 5),
        CX(1, 2),
        Rotation("rz", (1,), 6),
    )
    angles = np.random.default_rng(4).uniform(-np.pi, np.pi, size=(3, 7))
    return CircuitBatch(Template(content_key(3, steps), 3, steps), angles)


# --- readout


def test_a_known_calibration_undoes_readout_errors_exactly() -> None:
    batch = overlaps(3, 5)
    calibration = ReadoutCalibration.of_model(READOUT, 3)
    found = mitigate_readout(noisy_probabilities(batch, READOUT), 1_000, calibration)
    np.testing.assert_allclose(found.values, probabilities(batch), atol=1e-12)


def test_a_planted_wrong_calibration_shows() -> None:
    batch = overlaps(3, 5)
    swapped = NoiseModel("swapped", "a fault", one_given_zero=0.09, zero_given_one=0.02)
    found = mitigate_readout(noisy_probabilities(batch, READOUT), 1_000, ReadoutCalibration.of_model(swapped, 3))
    assert np.abs(found.values - probabilities(batch)).max() > 0.02


def test_calibration_circuits_measure_the_flips_of_each_qubit() -> None:
    """Asymmetric flips, within 5 standard errors for 8 figures."""
    backend = NoisySimulatorBackend("noisy", READOUT, rng=np.random.default_rng(1), clock=SystemClock())
    counts = backend.run(calibration_circuits(4), 20_000, job_key="k", timeout_s=60.0).counts
    measured = ReadoutCalibration.measured(counts, 4)
    exact = ReadoutCalibration.of_model(READOUT, 4)
    assert (np.abs(measured.flips - exact.flips) < 5 * np.sqrt(measured.variances)).all()
    np.testing.assert_allclose(measured.variances, exact.flips * (1 - exact.flips) / 20_000, rtol=0.2)
    perfect = ReadoutCalibration.measured([{0: 50}, {3: 50}], 2)
    assert (perfect.variances > 0).all()


@pytest.mark.parametrize("calibrated", [True, False], ids=["calibrated", "known"])
def test_readout_standard_errors_cover(calibrated: bool) -> None:
    """2 standard errors (95.4%) hold in 95.4% +- 2% of 4,000 cases; without the calibration's part they do not."""
    batch = overlaps(2, 4, seed=3)
    exact = probabilities(batch)
    rng = np.random.default_rng(2)
    read = noisy_probabilities(batch, READOUT)
    held, held_without = [], []
    for _ in range(1_000):
        shares = rng.multinomial(4_000, read) / 4_000
        calibration = ReadoutCalibration.of_model(READOUT, 2)
        if calibrated:
            runs = rng.multinomial(400, noisy_probabilities(calibration_circuits(2), READOUT))
            calibration = ReadoutCalibration.measured([dict(enumerate(row.tolist())) for row in runs], 2)
        found = mitigate_readout(shares, 4_000, calibration)
        held.append(np.abs(found.values - exact) < 2 * found.standard_errors)
        known = ReadoutCalibration(calibration.flips, np.zeros((2, 2)))
        without = mitigate_readout(shares, 4_000, known).standard_errors
        held_without.append(np.abs(found.values - exact) < 2 * without)
    assert np.mean(held) == pytest.approx(0.954, abs=0.02)
    if calibrated:
        assert np.mean(held_without) < 0.9


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 4), size=st.integers(1, 20), seed=st.integers(0, 10_000), spread=st.floats(0.0, 3.0))
def test_the_nearest_distribution_is_one_and_is_nearest(rows: int, size: int, seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.dirichlet(np.ones(size), size=rows) + spread * rng.normal(size=(rows, size))
    found = nearest_distribution(values)
    assert found.min() >= 0.0
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(nearest_distribution(found), found, atol=1e-12)
    others = rng.dirichlet(np.ones(size), size=50)
    # the angle at the projection is obtuse, seen from every other distribution
    assert ((values - found) @ others.T <= ((values - found) * found).sum(axis=1, keepdims=True) + 1e-9).all()


def test_readout_refusals() -> None:
    with pytest.raises(InvalidRequest, match="two circuits"):
        ReadoutCalibration.measured([{0: 1}], 1)
    with pytest.raises(InvalidRequest, match="two circuits"):
        ReadoutCalibration.measured([{0: 1}, {}], 1)
    with pytest.raises(InvalidRequest, match="cannot be inverted"):
        mitigate_readout(np.eye(2), 10, ReadoutCalibration(np.array([[0.5, 0.5]]), np.zeros((1, 2))))


# --- folding


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(1.0, 9.0))
def test_folded_circuits_mean_the_same_and_have_the_gates(scale: float) -> None:
    batch = mixed_gates()
    folded = fold(batch, scale)
    template = folded.batch.template
    np.testing.assert_allclose(probabilities(folded.batch), probabilities(batch), atol=1e-12)
    assert template.two_qubit_gates == pytest.approx(folded.scale * batch.template.two_qubit_gates)
    assert abs(folded.scale - scale) <= 1.0 / batch.template.two_qubit_gates + 1e-9
    singles = len(batch.template.structure) - batch.template.two_qubit_gates
    assert abs((len(template.structure) - template.two_qubit_gates) / singles - scale) <= 1.0 / singles + 1e-9


def test_folding_keeps_the_unitary() -> None:
    batch = mixed_gates()
    unitaries = []
    for each in (batch, fold(batch, 2.3).batch):
        circuit = QuantumCircuit(3)
        for gate in next(each.template.gates(each.angles)):
            angle = () if gate.name in {"cx", "h"} else (gate.angle,)
            getattr(circuit, gate.name)(*angle, *gate.qubits)
        unitaries.append(Operator(circuit))
    assert unitaries[0].equiv(unitaries[1])


@pytest.mark.parametrize("scale", [1, 3, 5])
def test_an_odd_scale_multiplies_the_exponent_of_the_noise(scale: int) -> None:
    batch = overlaps(3, 2)
    noise = NoiseModel("gates", "a test", one_qubit=0.01, two_qubit=0.05)
    stronger = NoiseModel("stronger", "a test", one_qubit=1 - (1 - 0.01) ** scale, two_qubit=1 - (1 - 0.05) ** scale)
    folded = fold(batch, scale)
    assert folded.scale == scale
    np.testing.assert_allclose(
        noisy_probabilities(folded.batch, noise), noisy_probabilities(batch, stronger), atol=1e-12
    )
    gates = next(folded.batch.template.gates(folded.batch.angles))
    np.testing.assert_allclose(
        noisy_probabilities(folded.batch, noise)[0], aer_probabilities(gates, 3, noise), atol=1e-10
    )


def test_without_two_qubit_gates_the_scale_counts_the_others() -> None:
    assert fold(overlaps(1, 1), 3).scale == 3.0
    with pytest.raises(InvalidCircuit, match=r"at least 1, not 0\.5"):
        fold(overlaps(2, 1), 0.5)
    with pytest.raises(InvalidCircuit, match="at least 1, not nan"):
        fold(overlaps(2, 1), float("nan"))


# --- extrapolation


@settings(max_examples=40, deadline=None)
@given(
    scales=st.lists(st.floats(1.0, 9.0), min_size=2, max_size=4, unique_by=lambda scale: round(scale, 1)),
    seed=st.integers(0, 1000),
)
def test_each_curve_is_exact_on_its_own_kind(scales: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = np.array(scales)[:, None]
    none = np.zeros((len(scales), 3))
    linear = rng.normal(size=3) + rng.normal(size=3) * at
    at_zero = linear[0] - (linear[1] - linear[0]) / (at[1] - at[0]) * at[0]
    np.testing.assert_allclose(extrapolate(scales, linear, none, "linear").values, at_zero, atol=1e-8)
    coefficients = rng.normal(size=(len(scales), 3))
    polynomial = np.vander(at[:, 0], len(scales), increasing=True) @ coefficients
    found = extrapolate(scales, polynomial, none, "richardson").values
    np.testing.assert_allclose(found, coefficients[0], atol=1e-6 * np.abs(polynomial).max() + 1e-8)
    amplitudes = rng.uniform(0.1, 0.8, 3)
    decay = 0.1 + amplitudes * np.exp(-rng.uniform(0.01, 0.3, 3) * at)
    found = extrapolate(scales, decay, none, "exponential", mixed=0.1).values
    np.testing.assert_allclose(found, 0.1 + amplitudes, rtol=1e-6)


def test_richardson_weights_are_the_textbook_ones() -> None:
    np.testing.assert_allclose(weights_at_zero([1, 3], "richardson"), [1.5, -0.5])
    np.testing.assert_allclose(weights_at_zero([1, 3], "linear"), [1.5, -0.5])
    np.testing.assert_allclose(weights_at_zero([1, 3, 5], "richardson"), [15 / 8, -10 / 8, 3 / 8])
    np.testing.assert_allclose(shot_shares([1, 3], "linear"), [0.75, 0.25])
    for scales in ([1.0], [3.0, 3.0], []):
        with pytest.raises(InvalidRequest, match="at least two scales"):
            weights_at_zero(scales, "linear")


@pytest.mark.parametrize("method", ["linear", "richardson", "exponential"])
def test_extrapolated_standard_errors_are_those_of_repetitions(method: str) -> None:
    """The stated error against the spread of 4,000 repetitions: within 5% (sampling error of a spread: 1.1%)."""
    rng = np.random.default_rng(0)
    truth = np.array([0.8, 0.55, 0.4])[:, None]
    error = np.array([0.004, 0.006, 0.008])[:, None]
    values = truth + error * rng.normal(size=(3, 4_000))
    found = extrapolate([1, 3, 5], values, np.broadcast_to(error, values.shape), method, mixed=0.06)
    assert found.values.std() == pytest.approx(found.standard_errors.mean(), rel=0.05)
    assert found.standard_errors.mean() > error[0, 0]  # the price: more variance than the plain estimate


def test_signals_lost_in_noise_fall_back_to_the_line() -> None:
    values = np.array([[0.5, 0.07], [0.3, 0.05]])
    errors = np.full((2, 2), 0.01)
    found = extrapolate([1, 3], values, errors, "exponential", mixed=0.0625)
    line = extrapolate([1, 3], values, errors, "linear")
    assert found.values[1] == line.values[1]
    assert found.standard_errors[1] == line.standard_errors[1]
    assert found.values[0] > line.values[0]


@pytest.mark.parametrize("noise", [FORTE_1, ARIA_1], ids=lambda noise: noise.name)
def test_mitigation_removes_bias_when_shots_are_without_end(noise: NoiseModel) -> None:
    """Exact probabilities stand for infinite shots: what is left is bias."""
    batch = overlaps(4, 8)
    exact = probabilities(batch)[:, 0]
    calibration = ReadoutCalibration.of_model(noise, 4)

    def read(scale: int) -> np.ndarray:
        shares = noisy_probabilities(fold(batch, scale).batch, noise)
        return mitigate_readout(shares, 1, calibration).values[:, 0]

    values = np.array([read(scale) for scale in (1, 3)])
    raw = noisy_probabilities(batch, noise)[:, 0]

    def error(found: np.ndarray) -> float:
        return float(np.sqrt(((found - exact) ** 2).mean()))

    none = np.zeros_like(values)
    linear = extrapolate([1, 3], values, none, "linear").values
    exponential = extrapolate([1, 3], values, none, "exponential", mixed=1 / 16).values
    assert error(values[0]) < error(raw)
    assert error(linear) < 0.5 * error(raw)
    assert error(exponential) < 0.5 * error(raw)


def test_dividing_out_is_exact_for_global_depolarising() -> None:
    truth = np.array([0.9, 0.3, 0.01])
    measured = Estimate(0.7 * truth + 0.3 / 8, np.full(3, 0.01))
    found = divide_out(measured, 0.7, 1 / 8)
    np.testing.assert_allclose(found.values, truth, atol=1e-12)
    np.testing.assert_allclose(found.standard_errors, 0.01 / 0.7)
    for survival in (0.0, 1.1, float("nan")):
        with pytest.raises(InvalidRequest, match="survival"):
            divide_out(measured, survival, 1 / 8)


def test_the_overlap_of_the_query_with_itself_tells_the_survival() -> None:
    """Without a noise model: the error left is a small part of the raw one, and order is kept."""
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(9, 16)) + 1.0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    batch = overlap_circuits(SpanEncoding(vectors[0], vectors, 4, 0.0), overlap_template(4))
    exact = probabilities(batch)[:, 0]
    raw = noisy_probabilities(batch, FORTE_1)[:, 0]
    survival, error = survival_of_reference(float(raw[0]), 10_000, 1 / 16)
    assert error == pytest.approx(np.sqrt(raw[0] * (1 - raw[0]) / 10_000) * 16 / 15)
    found = divide_out(Estimate(raw, np.zeros(9)), survival, 1 / 16).values
    assert found[0] == pytest.approx(1.0)
    assert np.abs(found - exact).max() < 0.25 * np.abs(raw - exact).max()
    assert (np.argsort(found) == np.argsort(raw)).all()


def test_divided_standard_errors_are_those_of_repetitions() -> None:
    """The stated error against the spread of 4,000 repetitions: within 5% (sampling error of a spread: 1.1%)."""
    rng = np.random.default_rng(9)
    shots, mixed = 2_000, 1 / 16
    shares = rng.binomial(shots, 0.6 * 0.5 + 0.4 * mixed, size=4_000) / shots
    references = rng.binomial(shots, 0.6 * 1.0 + 0.4 * mixed, size=4_000) / shots
    found, stated = [], []
    for share, reference in zip(shares, references, strict=True):
        survival, error = survival_of_reference(reference, shots, mixed)
        measured = Estimate(np.array(share), np.sqrt(np.array(share) * (1 - share) / shots))
        estimate = divide_out(measured, survival, mixed, error)
        found.append(float(estimate.values))
        stated.append(float(estimate.standard_errors))
    assert np.mean(found) == pytest.approx(0.5, abs=0.002)
    assert np.std(found) == pytest.approx(np.mean(stated), rel=0.05)


def test_frequencies_are_shares() -> None:
    np.testing.assert_allclose(frequencies([{0: 1, 3: 3}, {2: 5}], 2), [[0.25, 0, 0, 0.75], [0, 0, 1, 0]])
