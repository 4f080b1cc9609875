"""IonQ's gates, lowered to templates, against the gate simulator's exact probabilities."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit

from quantum_db.circuits.simulator import probabilities
from quantum_db.circuits.template import CX, CircuitBatch
from quantum_db.errors import InvalidCircuit
from quantum_db.ionq.gate_simulator import SUPPORTED_GATES, WITH_ANGLE, Circuit, CircuitReader, simulate
from quantum_db.jobs import lowering
from quantum_db.jobs.lowering import MAX_GATES, ionq_structure, lower, lowering_passes

PAIRS = ("swap", "xx", "yy", "zz")
GateList = list[dict[str, Any]]


def converted(circuit: Circuit) -> CircuitBatch:
    found = lower(ionq_structure(circuit.qubits, circuit.gates), lowering_passes())
    return CircuitBatch(found.template, found.bind(np.array([circuit.angles], dtype=np.float64)))


def assert_agrees(gates: GateList, qubits: int) -> None:
    circuit = CircuitReader().read(gates, qubits)
    exact = np.zeros(1 << qubits)
    for outcome, probability in simulate([circuit])[0].items():
        exact[outcome] = probability
    np.testing.assert_allclose(probabilities(converted(circuit))[0], exact, atol=1e-9)


def turned(gates: GateList, qubits: int) -> GateList:
    """Put gates between layers that make a wrong qubit, sign or phase show in the probabilities."""
    before = [
        {"gate": name, "target": qubit, "rotation": 0.4 + 0.3 * qubit}
        for name in ("ry", "rz")
        for qubit in range(qubits)
    ]
    after = [{"gate": "rx", "target": qubit, "rotation": 1.1 - 0.2 * qubit} for qubit in range(qubits)]
    return [*before, *gates, *after]


def one_gate(name: str, controls: int, angle: float = 0.7) -> GateList:
    targets = [1, 0] if name in PAIRS else [1]
    gate: dict[str, Any] = {"gate": name, "targets": targets, "controls": list(range(2, 2 + controls))}
    return [gate | ({"rotation": angle} if name in WITH_ANGLE else {})]


@pytest.mark.parametrize("name", SUPPORTED_GATES)
def test_each_gate_with_up_to_four_controls(name: str) -> None:
    for controls in range(1 if name == "cnot" else 0, 5):
        assert_agrees(turned(one_gate(name, controls), 6), 6)


def test_a_phase_gate_as_ionq_writes_it() -> None:
    for controls in (0, 1, 3):
        gate = {"gate": "z", "target": 0, "controls": list(range(1, 1 + controls)), "rotation": 0.9}
        assert_agrees(turned([gate], 5), 5)


@st.composite
def circuits(draw: st.DrawFn) -> tuple[GateList, int]:
    qubits = draw(st.integers(1, 5))
    gates = []
    for _ in range(draw(st.integers(0, 12))):
        order = draw(st.permutations(range(qubits)))
        names = [name for name in SUPPORTED_GATES if qubits > 1 or name not in {*PAIRS, "cnot"}]
        name = draw(st.sampled_from(names))
        targets = 2 if name in PAIRS else 1
        least = 1 if name == "cnot" else 0
        controls = draw(st.integers(least, max(least, qubits - targets)))
        gate: dict[str, Any] = {
            "gate": name,
            "targets": order[:targets],
            "controls": order[targets : targets + controls],
        }
        if name in WITH_ANGLE:
            gate["rotation"] = draw(st.floats(-50.0, 50.0) | st.sampled_from([0.0, 1e-8, math.pi, -math.pi / 2, 1e6]))
        gates.append(gate)
    return gates, qubits


@settings(max_examples=150, deadline=None)
@given(circuits())
def test_random_circuits(drawn: tuple[GateList, int]) -> None:
    gates, qubits = drawn
    assert_agrees(gates, qubits)
    assert_agrees(turned(gates, qubits), qubits)


@pytest.mark.parametrize(
    ("name", "wrong"), [("s", lowering.SdgGate), ("h", lowering.YGate), ("v", lowering.SXdgGate), ("t", lowering.SGate)]
)
def test_the_check_finds_a_wrong_gate(name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "_QIS", {**lowering._QIS, name: wrong})
    for controls in (0, 1, 3):
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            assert_agrees(turned(one_gate(name, controls), 6), 6)


def test_the_check_finds_a_swapped_qubit_and_a_lost_angle(monkeypatch: pytest.MonkeyPatch) -> None:
    right = lowering._step

    def swapped(name: str, qubits: tuple[int, ...], first_angle: int) -> Any:
        return CX(qubits[1], qubits[0]) if name == "cx" else right(name, qubits, first_angle)

    with monkeypatch.context() as patch:
        patch.setattr(lowering, "_step", swapped)
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            assert_agrees(turned(one_gate("cnot", 1), 3), 3)
    monkeypatch.setattr(lowering, "_affine", lambda value: (0.0, []))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_agrees(turned(one_gate("xx", 0), 3), 3)


def test_one_structure_is_lowered_once_for_all_its_angles() -> None:
    rng = np.random.default_rng(1)
    gates = turned([*one_gate("yy", 2), *one_gate("rx", 3), *one_gate("h", 1)], 5)
    reader = CircuitReader()
    read = [
        reader.read([{**gate, "rotation": rng.normal()} if "rotation" in gate else gate for gate in gates], 5)
        for _ in range(20)
    ]
    found = lower(ionq_structure(5, read[0].gates), lowering_passes())
    together = probabilities(CircuitBatch(found.template, found.bind(np.array([circuit.angles for circuit in read]))))
    for row, circuit in zip(together, read, strict=True):
        np.testing.assert_allclose(row, probabilities(converted(circuit))[0], atol=1e-12)


def test_the_same_circuit_gives_the_same_template() -> None:
    gates = ionq_structure(5, CircuitReader().read(turned(one_gate("h", 3), 5), 5).gates)
    assert lower(gates, lowering_passes()).template == lower(gates, lowering_passes()).template


def test_a_circuit_may_be_empty_or_cancel_out() -> None:
    for gates in ([], [{"gate": "x", "target": 0}, {"gate": "x", "target": 0}]):
        batch = converted(CircuitReader().read(gates, 2))
        assert batch.angles.shape == (1, 0)
        assert probabilities(batch).tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_controls_that_would_need_too_many_gates_are_refused_before_they_are_built() -> None:
    wide = {"gate": "rx", "target": 0, "controls": list(range(1, 20)), "rotation": 0.1}
    circuit = CircuitReader().read([wide] * 100, 20)
    with pytest.raises(InvalidCircuit, match=f"more than {MAX_GATES} gates once its controls are decomposed"):
        ionq_structure(20, circuit.gates)
    circuit = CircuitReader().read([wide] * 30, 20)
    with pytest.raises(InvalidCircuit, match=f"gates once it is decomposed; at most {MAX_GATES} are taken"):
        lower(ionq_structure(20, circuit.gates), lowering_passes())


def test_an_angle_that_is_not_finite_is_refused() -> None:
    circuit = QuantumCircuit(1)
    circuit.rx(math.inf, 0)
    with pytest.raises(InvalidCircuit, match="an angle that is not finite"):
        lower(circuit, lowering_passes())


def test_a_panic_of_the_transpiler_is_an_invalid_circuit() -> None:
    circuit = QuantumCircuit(1)
    circuit.rx(10**400, 0)
    with pytest.raises(InvalidCircuit, match="the gates cannot be decomposed"):
        lower(circuit, lowering_passes())


def test_circuits_are_converted_in_threads_that_come_and_go() -> None:
    """In a process of its own: qiskit, first imported in a thread that ends, would crash it."""
    program = """
import threading
from quantum_db.jobs.bodies import JobBody
from quantum_db.requests import parse
source = 'OPENQASM 3; include "stdgates.inc"; qubit[5] q; ctrl(3) @ rx(0.3) q[0], q[1], q[2], q[3]; pow(0.5) @ x q[4];'
body = parse(JobBody, {"shots": 1, "circuits": [{"format": "qasm3", "source": source}]})
done = []
for _ in range(4):
    thread = threading.Thread(target=lambda: done.append(body.to_circuits(5)))
    thread.start()
    thread.join()
assert len(done) == 4
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
