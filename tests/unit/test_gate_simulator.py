"""The gate simulator against qiskit's statevector, through the JSON that qiskit-ionq writes."""

import math

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit.library import MCXGate
from qiskit.quantum_info import Statevector
from qiskit_ionq.helpers import qiskit_circ_to_ionq_circ

from quantum_db.circuits.encoding import encode_span
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.simulator import probabilities
from quantum_db.errors import InvalidCircuit
from quantum_db.ionq.gate_simulator import SUPPORTED_GATES, CircuitReader, simulate

# name of the QuantumCircuit method, number of angles, number of qubits
GATES = [
    *[(name, 0, 1) for name in ("x", "y", "z", "h", "s", "sdg", "t", "tdg", "sx", "sxdg")],
    *[(name, 1, 1) for name in ("rx", "ry", "rz", "p")],
    *[(name, 0, 2) for name in ("cx", "cy", "cz", "ch", "csx", "swap")],
    *[(name, 1, 2) for name in ("crx", "cry", "crz", "cp", "rxx", "ryy", "rzz")],
    ("ccx", 0, 3),
]


def add_random_gate(circuit, rng, name, angles, width):
    qubits = rng.choice(circuit.num_qubits, width, replace=False).tolist()
    getattr(circuit, name)(*rng.uniform(-2 * math.pi, 2 * math.pi, angles), *qubits)


def random_circuit(rng, qubits, depth):
    circuit = QuantumCircuit(qubits)
    for qubit in range(qubits):
        circuit.ry(rng.uniform(0, math.pi), qubit)
    fitting = [gate for gate in GATES if gate[2] <= qubits]
    for _ in range(depth):
        add_random_gate(circuit, rng, *fitting[rng.integers(len(fitting))])
    return circuit


def as_json(circuit):
    return qiskit_circ_to_ionq_circ(circuit)[0]


def read(raw, qubits, **options):
    return CircuitReader(**options).read(raw, qubits)


def dense(histogram, qubits):
    row = np.zeros(1 << qubits)
    for outcome, probability in histogram.items():
        row[outcome] = probability
    return row


def assert_agrees(circuit):
    found = simulate([read(as_json(circuit), circuit.num_qubits)])[0]
    expected = Statevector(circuit).probabilities()
    np.testing.assert_allclose(dense(found, circuit.num_qubits), expected, atol=1e-12)


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate[0])
def test_each_gate_agrees_with_qiskit(gate) -> None:
    rng = np.random.default_rng(7)
    for _ in range(5):
        circuit = QuantumCircuit(4)
        for qubit in range(4):  # a state without symmetry, so that a wrong phase or qubit shows after the second layer
            circuit.ry(rng.uniform(0, math.pi), qubit)
            circuit.rz(rng.uniform(0, math.pi), qubit)
        add_random_gate(circuit, rng, *gate)
        for qubit in range(4):
            circuit.rx(rng.uniform(0, math.pi), qubit)
        assert_agrees(circuit)


@pytest.mark.parametrize("qubits", [1, 2, 3, 5, 8])
def test_random_circuits_of_all_gates_agree_with_qiskit(qubits) -> None:
    rng = np.random.default_rng(qubits)
    for _ in range(8):
        assert_agrees(random_circuit(rng, qubits, 60))


def test_many_controls() -> None:
    rng = np.random.default_rng(3)
    circuit = random_circuit(rng, 6, 20)
    circuit.append(MCXGate(5), [4, 1, 0, 5, 2, 3])
    assert_agrees(circuit)


def test_ionqs_own_spellings() -> None:
    raw = [
        {"gate": "h", "targets": [0, 2]},
        {"gate": "cnot", "control": 0, "target": 1},
        {"gate": "not", "target": 3},
        {"gate": "swap", "targets": [2, 3], "controls": [0, 1]},
        {"gate": "vi", "target": 2, "control": 3},
        {"gate": "z", "targets": [1], "rotation": 0.3},
        {"gate": "h", "targets": [0, 1, 2, 3]},
    ]
    circuit = QuantumCircuit(4)
    circuit.h([0, 2])
    circuit.cx(0, 1)
    circuit.x(3)
    both = QuantumCircuit(2)
    both.swap(0, 1)
    circuit.append(both.to_gate().control(2), [0, 1, 2, 3])
    inverse = QuantumCircuit(1)
    inverse.sxdg(0)
    circuit.append(inverse.to_gate().control(1), [3, 2])
    circuit.p(0.3, 1)
    circuit.h(range(4))
    found = simulate([read(raw, 4)])[0]
    np.testing.assert_allclose(dense(found, 4), Statevector(circuit).probabilities(), atol=1e-12)


def test_qubit_0_is_the_lowest_bit() -> None:
    assert simulate([read([{"gate": "x", "target": 0}], 3)]) == [{1: 1.0}]
    assert simulate([read([{"gate": "x", "target": 2}], 3)]) == [{4: 1.0}]
    assert simulate([read([], 2)]) == [{0: 1.0}]


def test_a_mixed_batch_keeps_its_order() -> None:
    rng = np.random.default_rng(11)
    circuits = [random_circuit(rng, int(rng.integers(1, 5)), 12) for _ in range(12)]
    shared = random_circuit(rng, 3, 10)
    for index in (2, 5, 9):  # several circuits of one structure, between others
        circuits[index] = shared
    reader = CircuitReader()
    parsed = [reader.read(as_json(circuit), circuit.num_qubits) for circuit in circuits]
    assert parsed[2].gates is parsed[9].gates
    for circuit, found in zip(circuits, simulate(parsed), strict=True):
        expected = Statevector(circuit).probabilities()
        np.testing.assert_allclose(dense(found, circuit.num_qubits), expected, atol=1e-12)


def test_overlap_circuits_agree_with_the_batched_level_simulator() -> None:
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(9, 24)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    encoding = encode_span(vectors[0], vectors[1:], max_qubits=4)
    batch = overlap_circuits(encoding, overlap_template(encoding.num_qubits))
    names = {"ry": "ry", "cx": "cnot"}
    reader = CircuitReader()
    parsed = []
    for gates in batch.template.gates(batch.angles):
        raw = []
        for gate in gates:
            entry = {"gate": names[gate.name], "target": gate.qubits[-1]}
            if gate.name == "ry":
                entry["rotation"] = gate.angle
            else:
                entry["control"] = gate.qubits[0]
            raw.append(entry)
        parsed.append(reader.read(raw, batch.template.num_qubits))
    assert len({id(circuit.gates) for circuit in parsed}) == 1
    found = np.array([dense(histogram, encoding.num_qubits) for histogram in simulate(parsed)])
    np.testing.assert_allclose(found, probabilities(batch), atol=1e-12)


def test_probabilities_sum_to_one_and_small_ones_are_left_out() -> None:
    circuit = QuantumCircuit(10)
    circuit.h(0)
    for qubit in range(9):
        circuit.cx(qubit, qubit + 1)
    found = simulate([read(as_json(circuit), 10)])[0]
    assert set(found) == {0, 1023}
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-12)


def test_large_batches_are_cut_into_chunks(monkeypatch) -> None:
    monkeypatch.setattr("quantum_db.ionq.gate_simulator._CHUNK_AMPLITUDES", 16)
    reader = CircuitReader()
    circuits = [reader.read([{"gate": "ry", "target": 0, "rotation": 0.1 * k}], 2) for k in range(11)]
    found = simulate(circuits)
    assert [row.get(1, 0.0) for row in found] == pytest.approx([math.sin(0.05 * k) ** 2 for k in range(11)])


@pytest.mark.parametrize(
    ("gate", "what"),
    [
        ({"gate": "pauliexp", "targets": [0], "terms": ["X"]}, "unknown fields"),
        ({"gate": "gpi", "target": 0}, "'gpi' is not supported"),
        ({"gate": ["x"], "target": 0}, "is not supported"),
        ({"gate": "x", "target": 3}, "3 is not one of the 3 qubits"),
        ({"gate": "x", "target": -1}, "-1 is not one of the 3 qubits"),
        ({"gate": "x", "target": True}, "True is not one of"),
        ({"gate": "x", "targets": 0}, "targets must be a list"),
        ({"gate": "x"}, "at least one target"),
        ({"gate": "x", "target": 0, "targets": [1]}, "not both"),
        ({"gate": "x", "target": 0, "controls": [0]}, "distinct"),
        ({"gate": "cnot", "target": 0}, "needs a control"),
        ({"gate": "swap", "targets": [0]}, "needs two targets"),
        ({"gate": "ry", "target": 0}, "needs a rotation"),
        ({"gate": "h", "target": 0, "rotation": 1.0}, "takes no rotation"),
        ({"gate": "ry", "target": 0, "rotation": math.inf}, "finite"),
        ({"gate": "ry", "target": 0, "rotation": "1"}, "finite"),
        ("x", "must be an object"),
    ],
)
def test_what_cannot_be_simulated_is_refused_by_name(gate, what) -> None:
    with pytest.raises(InvalidCircuit, match=what) as caught:
        read([{"gate": "h", "target": 0}, gate], 3)
    assert caught.value.detail.startswith("circuit[1]: ")


def test_too_many_qubits_and_no_list() -> None:
    with pytest.raises(InvalidCircuit, match="21 qubits; this emulator takes 1 to 20"):
        read([], 21)
    with pytest.raises(InvalidCircuit, match="1 to 4"):
        read([], 5, max_qubits=4)
    with pytest.raises(InvalidCircuit, match="must be a list"):
        read({}, 2)


def test_every_supported_gate_is_read() -> None:
    for name in SUPPORTED_GATES:
        pair = name in {"swap", "xx", "yy", "zz"}
        entry = {"gate": name, "targets": [0, 1] if pair else [0]}
        if name == "cnot":
            entry["control"] = 1
        if name in {"rx", "ry", "rz", "xx", "yy", "zz"}:
            entry["rotation"] = 0.5
        assert sum(simulate([read([entry], 2)])[0].values()) == pytest.approx(1.0)
