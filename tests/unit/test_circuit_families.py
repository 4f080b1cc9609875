"""Multiplexed, unary and feature-map circuits against qiskit and linear algebra; gates counted, intervals held."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit.library import zz_feature_map
from qiskit.quantum_info import Operator, Statevector

from quantum_db.circuits.encoding import SpanEncoding
from quantum_db.circuits.feature_map import (
    zz_feature_circuits,
    zz_feature_template,
    zz_kernel_circuits,
    zz_kernel_gates,
    zz_kernel_template,
)
from quantum_db.circuits.multiplexed import (
    index_qubits_for,
    joint_standard_error,
    multiplexed_circuit,
    multiplexed_cx,
    multiplexed_fidelities,
    multiplexed_template,
    shares,
)
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.simulator import SimulatorBackend, probabilities, simulate
from quantum_db.circuits.template import CircuitBatch, Gate
from quantum_db.circuits.unary import (
    SUCCESS,
    unary_circuits,
    unary_fidelities,
    unary_overlap_circuits,
    unary_overlap_cx,
    unary_overlap_template,
    unary_template,
)
from quantum_db.errors import InvalidCircuit


def unit(rng: np.random.Generator, rows: int, dimension: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def encoded(seed: int, rows: int, data_qubits: int) -> SpanEncoding:
    vectors = unit(np.random.default_rng(seed), rows + 1, 1 << data_qubits)
    return SpanEncoding(vectors[0], vectors[1:], data_qubits, 0.0)


def as_qiskit(gates: list[Gate], qubits: int) -> QuantumCircuit:
    circuit = QuantumCircuit(qubits)
    for gate in gates:
        angle = (gate.angle,) if gate.name in {"rx", "ry", "rz", "rzz"} else ()
        getattr(circuit, gate.name)(*angle, *gate.qubits)
    return circuit


def exact(encoding: SpanEncoding) -> np.ndarray:
    return (encoding.candidates @ encoding.query) ** 2


# Multiplexed


@pytest.mark.parametrize(
    ("rows", "data_qubits", "qubits", "cx"), [(16, 2, 6, 48), (16, 4, 8, 246), (128, 4, 11, 1926), (1, 4, 4, 20)]
)
def test_the_multiplexed_circuit_has_the_published_size(rows: int, data_qubits: int, qubits: int, cx: int) -> None:
    template = multiplexed_template(rows, data_qubits)
    assert (template.num_qubits, template.two_qubit_gates) == (qubits, cx)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 40), data_qubits=st.integers(1, 4))
def test_the_multiplexed_formula_counts_the_cx(rows: int, data_qubits: int) -> None:
    assert multiplexed_template(rows, data_qubits).two_qubit_gates == multiplexed_cx(rows, data_qubits)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 12), data_qubits=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_one_multiplexed_circuit_holds_every_fidelity(rows: int, data_qubits: int, seed: int) -> None:
    encoding = encoded(seed, rows, data_qubits)
    chances = probabilities(multiplexed_circuit(encoding, multiplexed_template(rows, data_qubits)))[0]
    table = chances.reshape(1 << index_qubits_for(rows), -1)
    np.testing.assert_allclose(table[:rows, 0], exact(encoding) / rows, atol=1e-12)
    np.testing.assert_allclose(table.sum(axis=1)[:rows], 1.0 / rows, atol=1e-12)
    np.testing.assert_allclose(table[rows:], 0.0, atol=1e-12)


@pytest.mark.parametrize(("rows", "data_qubits"), [(4, 2), (3, 2), (5, 1)])
def test_multiplexed_gates_give_the_same_state_in_qiskit(rows: int, data_qubits: int) -> None:
    """Up to the undo, the state is sum_i |i>|v_i> / sqrt(K); qiskit's unitaries undo the query."""
    encoding = encoded(rows, rows, data_qubits)
    batch = multiplexed_circuit(encoding, multiplexed_template(rows, data_qubits))
    (gates,) = batch.template.gates(batch.angles)
    state = Statevector(as_qiskit(gates, batch.template.num_qubits)).data
    np.testing.assert_allclose(state, simulate(batch)[0], atol=1e-10)
    prepared = np.zeros((1 << index_qubits_for(rows), 1 << data_qubits))
    prepared[:rows] = encoding.candidates / np.sqrt(rows)
    undone = state.reshape(prepared.shape)[:, 0]
    np.testing.assert_allclose(undone, prepared @ encoding.query, atol=1e-10)


@pytest.mark.parametrize("estimator", ["joint", "conditional"])
@pytest.mark.parametrize("rows", [8, 11])
def test_multiplexed_estimates_have_the_stated_error_and_intervals(estimator: str, rows: int) -> None:
    """300 runs: a standard deviation from 300 is within 16% (4 sigma); 300 K intervals hold in 95% +- 2.5 points."""
    encoding = encoded(5, rows, 2)
    truth, shots = exact(encoding), 20_000
    batch = multiplexed_circuit(encoding, multiplexed_template(rows, 2))
    repeated = CircuitBatch(batch.template, np.repeat(batch.angles, 300, axis=0))
    counts = SimulatorBackend(np.random.default_rng(3)).run(repeated, shots, job_key="k", timeout_s=1.0).counts
    found = [multiplexed_fidelities(row, rows, 2, 0.95, estimator) for row in counts]  # type: ignore[arg-type]
    values = np.stack([estimate.values for estimate in found])
    expected = joint_standard_error(truth, rows, shots)
    if estimator == "conditional":
        expected = np.sqrt(truth * (1.0 - truth) * rows / shots)
    np.testing.assert_allclose(values.std(axis=0), expected, rtol=0.17)
    np.testing.assert_allclose(values.mean(axis=0), truth, atol=float(4.5 * expected.max() / np.sqrt(300)))
    held = np.mean([(estimate.low <= truth) & (truth <= estimate.high) for estimate in found])
    assert abs(held - 0.95) < 0.025


def test_the_conditional_estimator_beats_the_joint_one_near_a_fidelity_of_one() -> None:
    vector = unit(np.random.default_rng(0), 1, 4)
    encoding = SpanEncoding(vector[0], np.repeat(vector, 4, axis=0), 2, 0.0)
    batch = multiplexed_circuit(encoding, multiplexed_template(4, 2))
    (counts,) = SimulatorBackend(np.random.default_rng(1)).run(batch, 1_000, job_key="k", timeout_s=1.0).counts
    np.testing.assert_allclose(multiplexed_fidelities(counts, 4, 2).values, 1.0)
    assert np.abs(multiplexed_fidelities(counts, 4, 2, 0.95, "joint").values - 1.0).max() > 1e-3


def test_multiplexed_scores_of_candidates_in_another_order_are_found() -> None:
    """The planted fault: the index register read backwards."""
    encoding = encoded(5, 8, 2)
    batch = multiplexed_circuit(encoding, multiplexed_template(8, 2))
    (counts,) = SimulatorBackend(np.random.default_rng(1)).run(batch, 200_000, job_key="k", timeout_s=1.0).counts
    found = multiplexed_fidelities(counts, 8, 2)
    assert ((found.low <= exact(encoding)) & (exact(encoding) <= found.high)).mean() >= 0.75
    backwards = exact(encoding)[::-1]
    assert ((found.low <= backwards) & (backwards <= found.high)).mean() <= 0.25


def test_shots_on_no_candidate_are_dropped_or_refused() -> None:
    counts = {0: 30, 1: 10, 4: 20, 12: 5}  # three candidates on two data qubits; index 3 was not prepared
    found = multiplexed_fidelities(counts, 3, 2)
    assert found.trials.tolist() == [40, 20, 0]
    assert found.values[:2].tolist() == [0.75, 1.0]
    assert np.isnan(found.values[2])
    assert (found.low[2], found.high[2]) == (0.0, 1.0)
    with pytest.raises(InvalidCircuit, match="5 shots have an index that was not prepared"):
        multiplexed_fidelities(counts, 3, 2, 0.95, "joint")
    with pytest.raises(InvalidCircuit, match="does not fit"):
        multiplexed_fidelities({16: 1}, 3, 2)


def test_a_template_for_another_number_of_candidates_is_refused() -> None:
    with pytest.raises(InvalidCircuit, match="angles have shape"):
        multiplexed_circuit(encoded(0, 5, 2), multiplexed_template(8, 2))


# Unary


def ceil_log2(number: int) -> int:
    return (number - 1).bit_length()


@pytest.mark.parametrize("dimension", [2, 3, 4, 5, 6, 7, 8, 11, 16, 24, 32, 64])
def test_unary_gates_and_depth_are_as_stated(dimension: int) -> None:
    loader = unary_template(dimension)
    assert loader.two_qubit_gates == 2 * (dimension - 1)
    assert loader.two_qubit_depth == 2 * ceil_log2(dimension)
    overlap = unary_overlap_template(dimension)
    assert overlap.two_qubit_gates == unary_overlap_cx(dimension)
    assert overlap.two_qubit_depth <= 4 * ceil_log2(dimension) - 2
    if dimension & (dimension - 1) == 0:
        assert overlap.two_qubit_gates == 3 * dimension - 4
        assert overlap.two_qubit_depth == 4 * ceil_log2(dimension) - 2


def test_at_64_numbers_the_unary_overlap_has_a_quarter_of_the_depth() -> None:
    unary, binary = unary_overlap_template(64), overlap_template(6)
    assert (unary.two_qubit_gates, binary.two_qubit_gates) == (188, 92)
    assert (unary.two_qubit_depth, binary.two_qubit_depth) == (22, 89)


@settings(max_examples=40, deadline=None)
@given(dimension=st.integers(2, 9), seed=st.integers(0, 2**31), sparse=st.booleans())
def test_the_unary_loader_puts_each_number_on_its_qubit(dimension: int, seed: int, sparse: bool) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(3, dimension))
    if sparse:
        vectors[:, rng.random(dimension) < 0.5] = 0.0
        vectors[:, rng.integers(dimension)] = -1.0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    state = simulate(unary_circuits(vectors, unary_template(dimension)))
    expected = np.zeros((3, 1 << dimension))
    expected[:, 1 << np.arange(dimension)] = vectors
    np.testing.assert_allclose(state, expected, atol=1e-12)


def test_a_beam_splitter_turns_the_plane_of_weight_one_and_nothing_else() -> None:
    """On two qubits, after the X of the loader is taken off; qiskit's unitary is the oracle."""
    theta = 0.3
    template = unary_template(2)
    batch = unary_circuits(np.array([[np.cos(theta), np.sin(theta)]]), template)
    (gates,) = template.gates(batch.angles)
    cosine, sine = np.cos(theta), np.sin(theta)
    expected = np.array([[1, 0, 0, 0], [0, cosine, -sine, 0], [0, sine, cosine, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(Operator(as_qiskit(gates[1:], 2)).data, expected, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(dimension=st.integers(2, 8), rows=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_unary_overlaps_are_fidelities_and_keep_the_weight(dimension: int, rows: int, seed: int) -> None:
    vectors = unit(np.random.default_rng(seed), rows + 1, dimension)
    template = unary_overlap_template(dimension)
    batch = unary_overlap_circuits(vectors[0], vectors[1:], template)
    chances = probabilities(batch)
    np.testing.assert_allclose(chances[:, SUCCESS], (vectors[1:] @ vectors[0]) ** 2, atol=1e-12)
    np.testing.assert_allclose(chances[:, 1 << np.arange(dimension)].sum(axis=1), 1.0, atol=1e-12)
    (gates, *_) = template.gates(batch.angles)
    assert {gate.name for gate in gates} <= {"ry", "h", "cx"}
    np.testing.assert_allclose(Statevector(as_qiskit(gates, dimension)).probabilities(), chances[0], atol=1e-10)


def test_post_selection_finds_every_single_bit_flip() -> None:
    """X on any qubit between any two beam splitters, or at the end, leaves no accepted outcome."""
    vectors = unit(np.random.default_rng(8), 2, 4)
    template = unary_overlap_template(4)
    (gates,) = template.gates(unary_overlap_circuits(vectors[0], vectors[1:], template).angles)
    outcomes = np.bitwise_count(np.arange(16))
    boundaries = [place for place in range(1, len(gates) + 1) if (place - 1) % 6 == 0]  # between beam splitters
    for place in boundaries:
        for qubit in range(4):
            circuit = as_qiskit(gates[:place], 4)
            circuit.x(qubit)
            circuit.compose(as_qiskit(gates[place:], 4), inplace=True)
            chances = Statevector(circuit).probabilities()
            assert chances[outcomes == 1].sum() == pytest.approx(0.0, abs=1e-12)


def test_the_unary_estimate_counts_accepted_shots_alone() -> None:
    found = unary_fidelities([{1: 60, 2: 20, 0: 15, 3: 5}, {1: 10}])
    assert found.fidelities.values.tolist() == [0.75, 1.0]
    assert found.fidelities.trials.tolist() == [80, 10]
    np.testing.assert_allclose(found.accepted, [0.8, 1.0])
    with pytest.raises(InvalidCircuit, match="without shots"):
        unary_fidelities([{}])


def test_unary_intervals_hold_in_95_percent() -> None:
    """3,000 cases of random overlaps, standard deviation 0.4 points: 95% +- 1.6 points."""
    vectors = unit(np.random.default_rng(2), 3_001, 4)
    batch = unary_overlap_circuits(vectors[0], vectors[1:], unary_overlap_template(4))
    counts = SimulatorBackend(np.random.default_rng(4)).run(batch, 2_000, job_key="k", timeout_s=1.0).counts
    found = unary_fidelities(counts).fidelities
    truth = (vectors[1:] @ vectors[0]) ** 2
    keep = (truth > 0.01) & (truth < 0.99)
    held = ((found.low <= truth) & (truth <= found.high))[keep]
    assert abs(held.mean() - 0.95) < 0.016


def test_a_loader_needs_two_numbers() -> None:
    with pytest.raises(InvalidCircuit, match="at least two numbers"):
        unary_template(1)


# ZZ feature map


@pytest.mark.parametrize("entanglement", ["full", "linear"])
@pytest.mark.parametrize(("features", "repetitions"), [(2, 1), (3, 2), (4, 3)])
def test_the_feature_map_is_qiskits(features: int, repetitions: int, entanglement: str) -> None:
    vector = np.random.default_rng(features).uniform(-2.0, 4.0, size=(1, features))
    template = zz_feature_template(features, repetitions, entanglement)  # type: ignore[arg-type]
    batch = zz_feature_circuits(vector, template, repetitions, entanglement)  # type: ignore[arg-type]
    (gates,) = template.gates(batch.angles)
    ours = Operator(as_qiskit(gates, features))
    theirs = Operator(zz_feature_map(features, repetitions, entanglement).assign_parameters(vector[0]))
    assert ours.equiv(theirs)
    np.testing.assert_allclose(Statevector(as_qiskit(gates, features)).data, simulate(batch)[0], atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(
    features=st.integers(1, 4),
    repetitions=st.integers(1, 3),
    seed=st.integers(0, 2**31),
    entanglement=st.sampled_from(["full", "linear"]),
)
def test_the_kernel_is_the_fidelity_of_feature_states(
    features: int, repetitions: int, seed: int, entanglement: str
) -> None:
    vectors = np.random.default_rng(seed).uniform(-3.0, 3.0, size=(4, features))
    options = (repetitions, entanglement)
    template = zz_kernel_template(features, *options)  # type: ignore[arg-type]
    assert template.two_qubit_gates == zz_kernel_gates(features, *options)  # type: ignore[arg-type]
    kernel = probabilities(zz_kernel_circuits(vectors[0], vectors[1:], template, *options))[:, 0]  # type: ignore[arg-type]
    states = simulate(zz_feature_circuits(vectors, zz_feature_template(features, *options), *options))  # type: ignore[arg-type]
    np.testing.assert_allclose(kernel, np.abs(states[1:] @ states[0].conj()) ** 2, atol=1e-9)
    own = zz_kernel_circuits(vectors[0], vectors[:1], template, *options)  # type: ignore[arg-type]
    assert probabilities(own)[0, 0] == pytest.approx(1.0)


def test_a_feature_map_with_another_sign_is_found() -> None:
    """The planted fault: (pi + x)(pi + y) instead of (pi - x)(pi - y)."""
    vector = np.array([[0.4, 0.9]])
    template = zz_feature_template(2, 2)
    batch = zz_feature_circuits(-vector, template, 2)
    angles = batch.angles.copy()
    angles[:, [0, 1, 3, 4]] *= -1.0
    (gates,) = template.gates(angles)
    theirs = Operator(zz_feature_map(2, 2).assign_parameters(vector[0]))
    assert not Operator(as_qiskit(gates, 2)).equiv(theirs)


def test_a_feature_map_needs_a_feature_and_a_repetition() -> None:
    for features, repetitions in ((0, 1), (2, 0)):
        with pytest.raises(InvalidCircuit):
            zz_kernel_template(features, repetitions)


# What they share


def test_every_family_estimates_the_same_fidelities() -> None:
    """Four candidates in four dimensions, by inversion, multiplexed and unary circuits, exactly."""
    encoding = encoded(1, 4, 2)
    inversion = probabilities(overlap_circuits(encoding, overlap_template(2)))[:, 0]
    multiplexed = probabilities(multiplexed_circuit(encoding, multiplexed_template(4, 2)))[0].reshape(4, 4)[:, 0] * 4
    unary = probabilities(unary_overlap_circuits(encoding.query, encoding.candidates, unary_overlap_template(4)))
    np.testing.assert_allclose(inversion, exact(encoding), atol=1e-12)
    np.testing.assert_allclose(multiplexed, exact(encoding), atol=1e-12)
    np.testing.assert_allclose(unary[:, SUCCESS], exact(encoding), atol=1e-12)


def test_shares_with_trials_of_their_own_are_wilsons() -> None:
    value, low, high = shares(np.array([5, 0, 0]), np.array([10, 10, 0]), 0.95)
    np.testing.assert_allclose(value[:2], [0.5, 0.0])
    np.testing.assert_allclose(low, [0.236593, 0.0, 0.0], atol=1e-6)  # tabulated for 5 of 10
    np.testing.assert_allclose(high, [0.763407, 0.277533, 1.0], atol=1e-6)
