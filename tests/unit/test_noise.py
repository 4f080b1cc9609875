"""Noisy simulation against qiskit-aer's density matrix, and against what theory says in closed form."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel as AerNoiseModel
from qiskit_aer.noise import ReadoutError, depolarizing_error

from quantum_db.circuits.encoding import SpanEncoding
from quantum_db.circuits.noise import (
    ARIA_1,
    FORTE_1,
    IDEAL,
    NOISE_MODELS,
    NoiseModel,
    NoisySimulatorBackend,
    evolve,
    noise_model,
    noisy_probabilities,
)
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.simulator import probabilities
from quantum_db.circuits.template import (
    CX,
    CircuitBatch,
    Gate,
    H,
    MultiplexedRY,
    Rotation,
    Step,
    Template,
    content_key,
)
from quantum_db.clock import SystemClock
from quantum_db.errors import DeadlineExceeded, InvalidCircuit, InvalidSettings

STRONG = NoiseModel("strong", "a test", one_qubit=0.02, two_qubit=0.07, one_given_zero=0.03, zero_given_one=0.08)
AER = AerSimulator(method="density_matrix", max_parallel_threads=1)


def overlaps(qubits: int, rows: int, seed: int = 0) -> CircuitBatch:
    vectors = np.random.default_rng(seed).normal(size=(rows + 1, 1 << qubits))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return overlap_circuits(SpanEncoding(vectors[0], vectors[1:], qubits, 0.0), overlap_template(qubits))


def build(qubits: int, steps: list[Step], angles: np.ndarray) -> CircuitBatch:
    return CircuitBatch(Template(content_key(qubits, tuple(steps)), qubits, tuple(steps)), angles)


def aer_probabilities(gates: list[Gate], qubits: int, noise: NoiseModel) -> np.ndarray:
    """The diagonal of Aer's density matrix, then qiskit's own readout error as a channel on the outcomes."""
    model = AerNoiseModel()
    model.add_all_qubit_quantum_error(depolarizing_error(noise.one_qubit, 1), ["rx", "ry", "rz", "h"])
    model.add_all_qubit_quantum_error(depolarizing_error(noise.two_qubit, 2), ["cx", "rzz"])
    circuit = QuantumCircuit(qubits)
    for gate in gates:
        angle = () if gate.name in {"cx", "h"} else (gate.angle,)
        getattr(circuit, gate.name)(*angle, *gate.qubits)
    circuit.save_density_matrix()
    density = AER.run(circuit, noise_model=model).result().data()["density_matrix"]
    exact = np.real(np.diagonal(np.asarray(density)))
    readout = ReadoutError(
        [[1 - noise.one_given_zero, noise.one_given_zero], [noise.zero_given_one, 1 - noise.zero_given_one]]
    ).probabilities.T  # its rows are the right values
    confusion = np.ones((1, 1))
    for _ in range(qubits):
        confusion = np.kron(readout, confusion)
    return confusion @ exact


@pytest.mark.parametrize("noise", [IDEAL, ARIA_1, FORTE_1, STRONG], ids=lambda noise: noise.name)
@pytest.mark.parametrize("qubits", [1, 2, 3, 5])
def test_overlap_circuits_agree_with_aer(qubits: int, noise: NoiseModel) -> None:
    batch = overlaps(qubits, 3)
    found = noisy_probabilities(batch, noise)
    for gates, row in zip(batch.template.gates(batch.angles), found, strict=True):
        np.testing.assert_allclose(row, aer_probabilities(gates, batch.template.num_qubits, noise), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_circuit_agrees_with_aer(data: st.DataObject) -> None:
    qubits = data.draw(st.integers(1, 4))
    steps: list[Step] = []
    used = count()
    for _ in range(data.draw(st.integers(1, 8))):
        order = data.draw(st.permutations(range(qubits)))
        kinds = ["h", "rx", "rz", "ry"] + (["cx", "rzz", "multiplexed"] if qubits > 1 else [])
        match data.draw(st.sampled_from(kinds)):
            case "h":
                steps.append(H(order[0]))
            case "cx":
                steps.append(CX(order[0], order[1]))
            case "rzz":
                steps.append(Rotation("rzz", (order[0], order[1]), next(used)))
            case "multiplexed":
                steps.append(MultiplexedRY(order[0], (order[1],), next(used)))
                next(used)
            case "ry":
                steps.append(MultiplexedRY(order[0], (), next(used)))
            case name:
                steps.append(Rotation(name, (order[0],), next(used)))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    batch = build(qubits, steps, rng.uniform(-np.pi, np.pi, size=(2, next(used))))
    found = noisy_probabilities(batch, STRONG)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)
    assert found.min() > -1e-12
    for gates, row in zip(batch.template.gates(batch.angles), found, strict=True):
        np.testing.assert_allclose(row, aer_probabilities(gates, qubits, STRONG), atol=1e-12)


@pytest.mark.parametrize("planted", [{"two_qubit": 0.0705}, {"one_qubit": 0.0205}, {"one_given_zero": 0.0305}])
def test_the_comparison_sees_a_parameter_that_is_slightly_off(planted: dict[str, float]) -> None:
    batch = overlaps(3, 1)
    fields = {name: getattr(STRONG, name) for name in ("one_qubit", "two_qubit", "one_given_zero", "zero_given_one")}
    wrong = NoiseModel("wrong", "a planted fault", **{**fields, **planted})
    expected = aer_probabilities(next(batch.template.gates(batch.angles)), 3, STRONG)
    assert np.abs(noisy_probabilities(batch, wrong)[0] - expected).max() > 1e-5


@settings(max_examples=30, deadline=None)
@given(qubits=st.integers(1, 5), seed=st.integers(0, 1000))
def test_without_noise_it_is_the_ideal_simulator(qubits: int, seed: int) -> None:
    batch = overlaps(qubits, 4, seed)
    np.testing.assert_allclose(noisy_probabilities(batch, IDEAL), probabilities(batch), atol=1e-12)


def test_full_depolarising_leaves_nothing() -> None:
    erased = NoiseModel("erased", "a test", one_qubit=1.0, two_qubit=1.0)
    np.testing.assert_allclose(noisy_probabilities(overlaps(3, 2), erased), 1.0 / 8.0, atol=1e-12)


def test_one_gate_has_the_stated_average_fidelity() -> None:
    """A gate in an entangled or product input keeps 1 - r (1 - 2^-m) on average; on a basis state all are equal."""
    steps: list[Step] = [CX(0, 1)]
    found = noisy_probabilities(build(2, steps, np.empty((1, 0))), NoiseModel("r", "a test", two_qubit=0.04))
    assert found[0, 0] == pytest.approx(1 - 0.75 * 0.04)
    assert NoiseModel("r", "a test", two_qubit=0.04).two_qubit_fidelity == pytest.approx(found[0, 0])
    found = noisy_probabilities(build(1, [H(0), H(0)], np.empty((1, 0))), NoiseModel("r", "a test", one_qubit=0.04))
    assert found[0, 0] == pytest.approx((1 + (1 - 0.04) ** 2) / 2)


def test_readout_errors_are_for_the_right_value_and_qubit() -> None:
    batch = build(2, [MultiplexedRY(1, (), 0)], np.array([[np.pi]]))
    found = noisy_probabilities(batch, NoiseModel("r", "a test", one_given_zero=0.1, zero_given_one=0.3))
    np.testing.assert_allclose(found[0], [0.9 * 0.3, 0.1 * 0.3, 0.9 * 0.7, 0.1 * 0.7], atol=1e-12)


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = overlaps(3, 7)
    whole = noisy_probabilities(batch, STRONG)
    monkeypatch.setattr("quantum_db.circuits.noise._CHUNK_NUMBERS", 2 * 4**3)
    np.testing.assert_allclose(noisy_probabilities(batch, STRONG), whole, atol=1e-15)


def test_published_models_have_the_published_fidelities() -> None:
    assert set(NOISE_MODELS) == {"ideal", "aria-1", "forte-1"}
    assert noise_model("forte-1") is FORTE_1
    assert FORTE_1.two_qubit_fidelity == pytest.approx(0.9963, abs=5e-5)
    assert FORTE_1.one_qubit_fidelity == pytest.approx(0.99987, abs=5e-6)
    assert FORTE_1.spam_fidelity == pytest.approx(0.9942)
    assert ARIA_1.two_qubit_fidelity == pytest.approx(0.9900, abs=5e-5)
    assert ARIA_1.spam_fidelity == pytest.approx(0.9961)
    assert IDEAL.is_ideal
    assert not FORTE_1.is_ideal
    for model in (ARIA_1, FORTE_1):
        assert "https://" in model.source
        assert "20" in model.source
    with pytest.raises(InvalidSettings, match="no noise model 'forte'; known are ideal, aria-1, forte-1"):
        noise_model("forte")


def test_survival_is_close_to_the_formula_for_equal_vectors() -> None:
    """For equal vectors the overlap is 1, and what is left of it is the circuit's fidelity.

    It is at least the probability that no gate has any of the 15 (or 3) Pauli errors.
    """
    vector = np.random.default_rng(1).normal(size=16)
    vector /= np.linalg.norm(vector)
    batch = overlap_circuits(SpanEncoding(vector, vector[None, :], 4, 0.0), overlap_template(4))
    gates_only = NoiseModel("gates", "a test", one_qubit=FORTE_1.one_qubit, two_qubit=FORTE_1.two_qubit)
    left = noisy_probabilities(batch, gates_only)[0, 0]
    two = batch.template.two_qubit_gates
    one = len(batch.template.structure) - two
    assert left == pytest.approx(FORTE_1.survival(one, two), rel=0.01)
    assert left > (1 - FORTE_1.one_qubit * 3 / 4) ** one * (1 - FORTE_1.two_qubit * 15 / 16) ** two


@pytest.mark.parametrize("field", ["one_qubit", "two_qubit", "one_given_zero", "zero_given_one"])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_what_is_no_probability_is_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidSettings, match=field):
        NoiseModel("wrong", "a test", **{field: value})


def test_wide_gates_are_refused() -> None:
    with pytest.raises(InvalidCircuit, match="one acts on 3"):
        evolve(3, 1, [((0, 1, 2), np.eye(8)[None])], FORTE_1)


def test_the_backend_draws_from_the_noisy_probabilities() -> None:
    """Chi-square over 12 circuits of 8 outcomes: false alarms about 1e-3; ideal probabilities fail by far."""
    batch = overlaps(3, 12)
    shots = 20_000
    backend = NoisySimulatorBackend("noisy", STRONG, rng=np.random.default_rng(3), clock=SystemClock())
    result = backend.run(batch, shots, job_key="k", timeout_s=60.0)
    assert (result.backend, result.provenance, result.cost_usd) == ("noisy", "simulated shots", 0.0)
    observed = np.array([[counts.get(outcome, 0) for outcome in range(8)] for counts in result.counts])
    assert (observed.sum(axis=1) == shots).all()

    def statistic(expected: np.ndarray) -> float:
        return float(((observed - shots * expected) ** 2 / (shots * expected)).sum())

    degrees = 12 * 7
    assert statistic(noisy_probabilities(batch, STRONG)) < degrees + 3.1 * np.sqrt(2 * degrees) + 5
    assert statistic(probabilities(batch).clip(1e-6)) > 100 * degrees


def test_the_backend_keeps_its_limits_and_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        passed_s = 0.0

        def now_s(self) -> float:
            return self.passed_s

        def monotonic_s(self) -> float:
            self.passed_s += 1.0
            return self.passed_s

    monkeypatch.setattr("quantum_db.circuits.noise._CHUNK_NUMBERS", 2 * 4**3)
    backend = NoisySimulatorBackend("noisy", FORTE_1, rng=np.random.default_rng(0), clock=Clock(), max_qubits=3)
    with pytest.raises(DeadlineExceeded, match="noisy had run 6 of 7 circuits in time"):
        backend.run(overlaps(3, 7), 10, job_key="k", timeout_s=2.5)
    assert len(backend.run(overlaps(3, 7), 10, job_key="k", timeout_s=9.0).counts) == 7
    with pytest.raises(InvalidCircuit, match="4 qubits in one job, and noisy takes 3"):
        backend.run(overlaps(4, 1), 10, job_key="k", timeout_s=9.0)
