"""Encoding, overlap circuits and the simulator, against exact linear algebra and qiskit's unitaries."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.quantum_info import Statevector

from quantum_db.circuits.cache import CacheCounts, TemplateCache
from quantum_db.circuits.drawing import draw, to_qiskit
from quantum_db.circuits.encoding import cosine_of_fidelity, encode_span, fidelity_of_cosine, lift, tree_angles
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.simulator import SimulatorBackend, probabilities, simulate
from quantum_db.circuits.statistics import wilson_interval
from quantum_db.circuits.template import CX, CircuitBatch, Gate, MultiplexedRY, Template, content_key
from quantum_db.errors import InvalidCircuit, InvalidRequest


def unit(rng: np.random.Generator, rows: int, dimension: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def as_qiskit(gates: list[Gate], qubits: int) -> QuantumCircuit:
    circuit = QuantumCircuit(qubits)
    for gate in gates:
        if gate.name == "ry":
            circuit.ry(gate.angle, *gate.qubits)
        else:
            circuit.cx(*gate.qubits)
    return circuit


def test_lift_makes_fidelity_monotone_in_the_cosine() -> None:
    rng = np.random.default_rng(1)
    query, vectors = unit(rng, 1, 20)[0], unit(rng, 200, 20)
    cosines = vectors @ query
    fidelities = (lift(vectors) @ lift(query[None, :])[0]) ** 2
    np.testing.assert_allclose(fidelities, ((1 + cosines) / 2) ** 2, atol=1e-12)
    np.testing.assert_allclose(fidelity_of_cosine(cosines), fidelities, atol=1e-12)
    np.testing.assert_allclose(cosine_of_fidelity(fidelities), cosines, atol=1e-7)
    assert (np.argsort(fidelities) == np.argsort(cosines)).all()


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 40), dimension=st.integers(1, 60), seed=st.integers(0, 2**32 - 1))
def test_span_encoding_keeps_all_inner_products(rows: int, dimension: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    query, vectors = unit(rng, 1, dimension)[0], unit(rng, rows, dimension)
    encoding = encode_span(query, vectors, max_qubits=10)
    assert encoding.worst_error == 0.0
    assert 2**encoding.num_qubits >= min(rows + 1, dimension)
    np.testing.assert_allclose(encoding.candidates @ encoding.query, vectors @ query, atol=1e-10)
    np.testing.assert_allclose(encoding.candidates @ encoding.candidates.T, vectors @ vectors.T, atol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(encoding.candidates, axis=1), 1.0, atol=1e-12)


def test_sixty_two_lifted_candidates_and_a_query_fit_six_qubits() -> None:
    rng = np.random.default_rng(2)
    encoding = encode_span(lift(unit(rng, 1, 384))[0], lift(unit(rng, 62, 384)), max_qubits=12)
    assert (encoding.num_qubits, encoding.worst_error) == (6, 0.0)


def test_a_cut_span_states_the_worst_error_it_made() -> None:
    rng = np.random.default_rng(3)
    query, vectors = unit(rng, 1, 100)[0], unit(rng, 40, 100)
    encoding = encode_span(query, vectors, max_qubits=4)
    assert encoding.num_qubits == 4
    made = np.abs(encoding.candidates @ encoding.query - vectors @ query).max()
    assert encoding.worst_error == pytest.approx(made)
    assert encoding.worst_error > 0.0


def test_equal_candidates_and_query_are_encoded() -> None:
    vector = np.array([0.6, 0.8, 0.0])
    encoding = encode_span(vector, np.array([vector, vector, -vector]), max_qubits=8)
    np.testing.assert_allclose(encoding.candidates @ encoding.query, [1.0, 1.0, -1.0], atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(qubits=st.integers(1, 5), seed=st.integers(0, 2**32 - 1), sparse=st.booleans())
def test_tree_angles_prepare_the_amplitudes(qubits: int, seed: int, sparse: bool) -> None:
    rng = np.random.default_rng(seed)
    amplitudes = rng.normal(size=(3, 2**qubits))
    if sparse:
        amplitudes[:, rng.random(2**qubits) < 0.6] = 0.0
        amplitudes[:, 0] += 0.1
    amplitudes /= np.linalg.norm(amplitudes, axis=1, keepdims=True)
    steps, first = [], 0
    for level in range(qubits):
        target = qubits - 1 - level
        steps.append(MultiplexedRY(target, tuple(range(target + 1, qubits)), first))
        first += 1 << level
    template = Template(content_key(qubits, tuple(steps)), qubits, tuple(steps))
    prepared = simulate(CircuitBatch(template, np.concatenate(tree_angles(amplitudes), axis=1)))
    np.testing.assert_allclose(prepared, amplitudes, atol=1e-10)


@pytest.mark.parametrize("qubits", [2, 3, 4, 5, 6, 7, 8])
def test_the_merged_overlap_circuit_has_the_stated_number_of_cx(qubits: int) -> None:
    assert overlap_template(qubits).two_qubit_gates == 1.5 * 2**qubits - 4


@pytest.mark.parametrize("rows", [1, 3, 6, 14])
def test_overlap_circuits_give_the_fidelity_gate_by_gate(rows: int) -> None:
    rng = np.random.default_rng(rows)
    query, vectors = unit(rng, 1, 30)[0], unit(rng, rows, 30)
    encoding = encode_span(lift(query[None, :])[0], lift(vectors), max_qubits=8)
    template = overlap_template(encoding.num_qubits)
    batch = overlap_circuits(encoding, template)
    expected = fidelity_of_cosine(vectors @ query)
    np.testing.assert_allclose(probabilities(batch)[:, 0], expected, atol=1e-12)
    for gates, amplitudes in zip(template.gates(batch.angles), simulate(batch), strict=True):
        assert {gate.name for gate in gates} <= {"ry", "cx"}
        state = Statevector(as_qiskit(gates, template.num_qubits)).data
        np.testing.assert_allclose(state, amplitudes, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_circuit_is_simulated_like_its_gates(data: st.DataObject) -> None:
    qubits = data.draw(st.integers(1, 4))
    steps: list[MultiplexedRY | CX] = []
    first = 0
    for _ in range(data.draw(st.integers(1, 6))):
        order = data.draw(st.permutations(range(qubits)))
        if qubits > 1 and data.draw(st.booleans()):
            steps.append(CX(order[0], order[1]))
        else:
            step = MultiplexedRY(order[0], tuple(order[1 : data.draw(st.integers(1, qubits))]), first)
            first += step.angle_count
            steps.append(step)
    template = Template(content_key(qubits, tuple(steps)), qubits, tuple(steps))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    batch = CircuitBatch(template, rng.uniform(-np.pi, np.pi, size=(2, template.angle_count)))
    for gates, amplitudes in zip(template.gates(batch.angles), simulate(batch), strict=True):
        np.testing.assert_allclose(Statevector(as_qiskit(gates, qubits)).data, amplitudes, atol=1e-10)


def test_a_template_is_keyed_by_its_content_and_travels_small() -> None:
    template = overlap_template(6)
    assert template.key == overlap_template(6).key != overlap_template(5).key
    assert template.two_qubit_gates > 0  # fills what is derived
    again = pickle.loads(pickle.dumps(template))
    assert again == template
    assert len(pickle.dumps(template)) < 2_000


def test_wrong_angles_are_refused() -> None:
    template = overlap_template(2)
    with pytest.raises(InvalidCircuit, match="angles have shape"):
        CircuitBatch(template, np.zeros((1, 3)))
    with pytest.raises(InvalidCircuit, match="not finite"):
        CircuitBatch(template, np.full((1, template.angle_count), np.nan))


def test_the_simulator_refuses_what_is_outside_its_limits() -> None:
    backend = SimulatorBackend(np.random.default_rng(0), max_qubits=3)
    template = overlap_template(4)
    batch = CircuitBatch(template, np.zeros((1, template.angle_count)))
    with pytest.raises(InvalidCircuit, match="4 qubits in one job, and simulator takes 3"):
        backend.run(batch, 100, job_key="k", timeout_s=1.0)
    with pytest.raises(InvalidCircuit, match="at least one circuit and one shot"):
        SimulatorBackend(np.random.default_rng(0)).run(batch, 0, job_key="k", timeout_s=1.0)


def test_counts_follow_the_probabilities() -> None:
    """Chi-square over the outcomes of 20 circuits, against about its 99.9% quantile."""
    rng = np.random.default_rng(11)
    encoding = encode_span(unit(rng, 1, 8)[0], unit(rng, 20, 8), max_qubits=3)
    batch = overlap_circuits(encoding, overlap_template(3))
    expected = probabilities(batch)
    shots = 10_000
    result = SimulatorBackend(rng).run(batch, shots, job_key="k", timeout_s=1.0)
    statistic = 0.0
    for counts, row in zip(result.counts, expected, strict=True):
        assert sum(counts.values()) == shots
        observed = np.array([counts.get(outcome, 0) for outcome in range(8)])
        keep = row * shots >= 5
        statistic += float((((observed - row * shots) ** 2)[keep] / (row * shots)[keep]).sum())
    degrees = 20 * 7
    assert statistic < degrees + 3.1 * np.sqrt(2 * degrees) + 5


def test_more_shots_come_closer() -> None:
    rng = np.random.default_rng(5)
    encoding = encode_span(lift(unit(rng, 1, 50))[0], lift(unit(rng, 30, 50)), max_qubits=6)
    batch = overlap_circuits(encoding, overlap_template(encoding.num_qubits))
    exact = probabilities(batch)[:, 0]
    errors = []
    for shots in (100, 10_000, 1_000_000):
        counts = SimulatorBackend(rng).run(batch, shots, job_key="k", timeout_s=1.0).counts
        errors.append(float(np.abs(np.array([c.get(0, 0) for c in counts]) / shots - exact).mean()))
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


def test_wilson_intervals_hold_in_95_percent() -> None:
    """30,000 cases: the share of a true 95% lies within 1 point with overwhelming probability (8 sigma)."""
    rng = np.random.default_rng(7)
    truth = rng.uniform(0.02, 0.98, size=30_000)
    successes = rng.binomial(1_000, truth)
    low, high = wilson_interval(successes, 1_000, 0.95)
    assert abs(((low <= truth) & (truth <= high)).mean() - 0.95) < 0.01


def test_intervals_at_the_edges_stay_in_range() -> None:
    low, high = wilson_interval(np.array([0, 100]), 100, 0.95)
    assert low[0] == 0.0 < high[0] < 0.1
    assert high[1] == 1.0 > low[1] > 0.9


def test_the_cache_builds_each_structure_once_and_stays_bounded() -> None:
    cache = TemplateCache(capacity=2)
    first = cache.overlap(3)
    assert cache.overlap(3) is first
    assert cache.find(first.key) is first
    cache.overlap(4)
    cache.overlap(5)
    assert cache.find(first.key) is None
    assert cache.counts() == CacheCounts(hits=2, misses=4, evictions=1, entries=2)


def test_a_structure_is_drawn_as_text_as_a_picture_and_as_qasm() -> None:
    template = overlap_template(3)
    assert "Ry(angle[0])" in draw(template, "text")
    picture = draw(template, "svg")
    assert "<svg" in picture
    program = draw(template, "qasm3")
    assert program.count("cx ") == template.two_qubit_gates
    with pytest.raises(InvalidRequest, match="format: must be one of text, svg, qasm3, not 'gif'"):
        draw(template, "gif")
    with pytest.raises(InvalidRequest, match="take qasm3"):
        draw(overlap_template(10), "svg")


def test_the_drawn_structure_is_the_circuit() -> None:
    rng = np.random.default_rng(8)
    template = overlap_template(3)
    batch = CircuitBatch(template, rng.uniform(-3, 3, size=(1, template.angle_count)))
    circuit = to_qiskit(template)
    circuit.remove_final_measurements()
    bound = circuit.assign_parameters(list(template.gate_angles(batch.angles)[0]))
    np.testing.assert_allclose(Statevector(bound).data, simulate(batch)[0], atol=1e-10)


def test_circuits_are_drawn_in_threads_that_come_and_go() -> None:
    """In a process of its own: qiskit, first imported in a thread that ends, would crash it."""
    program = """
import threading
def draw():
    from quantum_db.circuits.drawing import to_qiskit
    from quantum_db.circuits.overlap import overlap_template
    for qubits in (2, 3, 4):
        to_qiskit(overlap_template(qubits))
import quantum_db.api
for _ in range(4):
    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
