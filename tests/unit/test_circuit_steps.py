"""The steps of a template and their exact simulation, against qiskit's unitaries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.quantum_info import Operator, Statevector

from quantum_db.circuits.simulator import SimulatorBackend, probabilities, simulate
from quantum_db.circuits.template import CX, CircuitBatch, Gate, H, MultiplexedRY, Rotation, Step, Template, content_key
from quantum_db.errors import InvalidCircuit


def as_qiskit(gates: list[Gate], qubits: int) -> QuantumCircuit:
    circuit = QuantumCircuit(qubits)
    for gate in gates:
        angle = (gate.angle,) if gate.name in {"rx", "ry", "rz", "rzz"} else ()
        getattr(circuit, gate.name)(*angle, *gate.qubits)
    return circuit


def template_of(qubits: int, *steps: Step) -> Template:
    return Template(content_key(qubits, steps), qubits, steps)


@st.composite
def templates(draw: st.DrawFn) -> Template:
    qubits = draw(st.integers(1, 4))
    steps: list[Step] = []
    first = 0
    for _ in range(draw(st.integers(1, 9))):
        order = draw(st.permutations(range(qubits)))
        kind = draw(st.sampled_from(["ry", "rx", "rz", "h"] + (["cx", "rzz"] if qubits > 1 else [])))
        if kind == "cx":
            steps.append(CX(order[0], order[1]))
        elif kind == "h":
            steps.append(H(order[0]))
        elif kind == "ry":
            steps.append(MultiplexedRY(order[0], tuple(order[1 : draw(st.integers(1, qubits))]), first))
            first += steps[-1].angle_count
        else:
            steps.append(Rotation(kind, tuple(order[: 2 if kind == "rzz" else 1]), first))
            first += 1
    return template_of(qubits, *steps)


@settings(max_examples=150, deadline=None)
@given(template=templates(), seed=st.integers(0, 1000))
def test_any_circuit_is_simulated_like_its_gates(template: Template, seed: int) -> None:
    angles = np.random.default_rng(seed).uniform(-7.0, 7.0, size=(3, template.angle_count))
    batch = CircuitBatch(template, angles)
    amplitudes = simulate(batch)
    assert amplitudes.dtype == (np.float64 if template.is_real else np.complex128)
    assert probabilities(batch).dtype == np.float64
    for gates, row, chances in zip(template.gates(angles), amplitudes, probabilities(batch), strict=True):
        circuit = as_qiskit(gates, template.num_qubits)
        np.testing.assert_allclose(row, Statevector(circuit).data, atol=1e-10)
        np.testing.assert_allclose(chances, Statevector(circuit).probabilities(), atol=1e-10)
        assert template.depth == circuit.depth()
        assert template.two_qubit_depth == circuit.depth(lambda instruction: instruction.operation.num_qubits > 1)
        assert template.two_qubit_gates == circuit.num_nonlocal_gates()


@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("rx", [[np.cos(0.35), -1j * np.sin(0.35)], [-1j * np.sin(0.35), np.cos(0.35)]]),
        ("rz", np.diag([np.exp(-0.35j), np.exp(0.35j)])),
        ("rzz", np.diag([np.exp(-0.35j), np.exp(0.35j), np.exp(0.35j), np.exp(-0.35j)])),
    ],
)
def test_rotations_are_exp_of_minus_half_the_angle(name: str, matrix: np.ndarray) -> None:
    qubits = 2 if name == "rzz" else 1
    template = template_of(qubits, Rotation(name, tuple(range(qubits)), 0))
    (gates,) = template.gates(np.array([[0.7]]))
    assert gates == [Gate(name, tuple(range(qubits)), 0.7)]
    np.testing.assert_allclose(Operator(as_qiskit(gates, qubits)).data, matrix, atol=1e-12)
    for basis in range(1 << qubits):  # prepare the basis state, then rotate: the column of the matrix
        flips = [MultiplexedRY(q, (), i) for i, q in enumerate(q for q in range(qubits) if basis >> q & 1)]
        prepared = template_of(qubits, *flips, Rotation(name, tuple(range(qubits)), len(flips)))
        state = simulate(CircuitBatch(prepared, np.array([[np.pi] * len(flips) + [0.7]])))
        np.testing.assert_allclose(state[0], np.asarray(matrix)[:, basis], atol=1e-12)


def test_a_planted_sign_fault_is_found_by_the_comparison() -> None:
    template = template_of(2, H(0), H(1), Rotation("rzz", (0, 1), 0), Rotation("rx", (0,), 1))
    right = simulate(CircuitBatch(template, np.array([[0.7, 0.4]])))
    (gates,) = template.gates(np.array([[-0.7, 0.4]]))
    assert np.abs(Statevector(as_qiskit(gates, 2)).data - right[0]).max() > 0.1


def test_each_circuit_of_a_batch_has_its_own_angles() -> None:
    template = template_of(3, H(0), Rotation("rx", (1,), 0), Rotation("rz", (0,), 1), Rotation("rzz", (2, 0), 2), H(0))
    angles = np.random.default_rng(0).uniform(-3, 3, size=(5, 3))
    together = simulate(CircuitBatch(template, angles))
    for row, amplitudes in zip(angles, together, strict=True):
        np.testing.assert_allclose(simulate(CircuitBatch(template, row[None]))[0], amplitudes, atol=1e-13)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Rotation("rxx", (0, 1), 0),  # type: ignore[arg-type]
        lambda: Rotation("rzz", (0,), 0),
        lambda: Rotation("rx", (0, 1), 0),
        lambda: template_of(2, CX(0, 2)),
        lambda: template_of(2, CX(1, 1)),
        lambda: template_of(2, MultiplexedRY(1, (1,), 0)),
        lambda: template_of(1, H(1)),
        lambda: template_of(1, H(-1)),
        lambda: template_of(2, Rotation("rz", (0,), 1)),
        lambda: template_of(2, MultiplexedRY(0, (), -1)),
    ],
)
def test_structures_that_cannot_be_run_are_refused(build: object) -> None:
    with pytest.raises(InvalidCircuit):
        build()  # type: ignore[operator]


def test_the_in_process_backend_runs_complex_circuits() -> None:
    template = template_of(1, H(0), Rotation("rz", (0,), 0), H(0))
    counts = SimulatorBackend(np.random.default_rng(0)).run(
        CircuitBatch(template, np.array([[0.0], [np.pi]])), 100, job_key="k", timeout_s=1.0
    )
    assert counts.counts == ({0: 100}, {1: 100})


def test_ionq_gets_every_gate_under_its_own_name() -> None:
    from qiskit_ionq.helpers import qiskit_circ_to_ionq_circ  # noqa: PLC0415

    from quantum_db.ionq.gate_simulator import CircuitReader  # noqa: PLC0415
    from quantum_db.ionq.gate_simulator import simulate as run_json  # noqa: PLC0415
    from quantum_db.ionq.payload import qiskit_circuits  # noqa: PLC0415

    template = template_of(
        3, H(0), MultiplexedRY(1, (0,), 0), Rotation("rx", (2,), 2), Rotation("rzz", (0, 2), 3), CX(1, 2),
        Rotation("rz", (2,), 4), H(2), Rotation("rx", (0,), 5),
    )  # fmt: skip
    batch = CircuitBatch(template, np.random.default_rng(1).uniform(-3, 3, size=(1, template.angle_count)))
    written, *_ = qiskit_circ_to_ionq_circ(qiskit_circuits(batch)[0], gateset="qis")
    assert {gate["gate"] for gate in written} == {"h", "ry", "rx", "rz", "zz", "x"}
    (histogram,) = run_json([CircuitReader().read(written, 3)])
    expected = probabilities(batch)[0]
    np.testing.assert_allclose([histogram.get(outcome, 0.0) for outcome in range(8)], expected, atol=1e-9)
