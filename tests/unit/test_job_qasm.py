"""OpenQASM 3 programs against circuits built by hand, and what is refused of them."""

from __future__ import annotations

import math
import string
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, qasm3, transpile
from qiskit.circuit.library import MCXGate, RXGate, UnitaryGate
from qiskit.quantum_info import Operator, Statevector

from quantum_db.circuits.simulator import probabilities
from quantum_db.circuits.template import CircuitBatch
from quantum_db.errors import InvalidCircuit
from quantum_db.jobs import qasm
from quantum_db.jobs.lowering import lower, lowering_passes
from quantum_db.jobs.qasm import MAX_SOURCE_CHARS, MAX_TOTAL_CHARS, QasmReader

QUBITS = 4
HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[4] q;\nbit[4] c;\n'
BEFORE = "".join(f"ry({0.4 + 0.3 * i}) q[{i}]; rz({0.4 + 0.3 * i}) q[{i}];\n" for i in range(QUBITS))
AFTER = "".join(f"rx({1.1 - 0.2 * i}) q[{i}];\n" for i in range(QUBITS))

Build = Callable[[QuantumCircuit], object]


def exact(build: Build) -> np.ndarray:
    """Return probabilities of a circuit between layers that make a wrong qubit, sign or phase show."""
    circuit = QuantumCircuit(QUBITS)
    for qubit in range(QUBITS):
        circuit.ry(0.4 + 0.3 * qubit, qubit)
        circuit.rz(0.4 + 0.3 * qubit, qubit)
    build(circuit)
    for qubit in range(QUBITS):
        circuit.rx(1.1 - 0.2 * qubit, qubit)
    return np.asarray(Statevector(circuit).probabilities())


def converted(source: str, max_qubits: int = 12) -> np.ndarray:
    found = lower(QasmReader(max_qubits).read(source), lowering_passes())
    return probabilities(CircuitBatch(found.template, found.base[None, :]))[0]


def power(name: str, exponent: float) -> UnitaryGate:
    circuit = QuantumCircuit(1)
    getattr(circuit, name)(0)
    return UnitaryGate(Operator(circuit).power(exponent))


# Each of them stands between BEFORE and AFTER.
PROGRAMS: dict[str, tuple[str, Build]] = {
    "nothing": ("", lambda c: None),
    **{
        name: (f"{name} q[2];", lambda c, name=name: getattr(c, name)(2))
        for name in ("x", "y", "z", "h", "s", "sdg", "t", "tdg", "sx")
    },
    **{
        name: (f"{name}(0.7) q[1];", lambda c, name=name: getattr(c, name)(0.7, 1)) for name in ("p", "rx", "ry", "rz")
    },
    **{
        name: (f"{name} q[3], q[1];", lambda c, name=name: getattr(c, name)(3, 1))
        for name in ("cx", "cy", "cz", "ch", "swap")
    },
    **{
        name: (f"{name}(-1.3) q[0], q[2];", lambda c, name=name: getattr(c, name)(-1.3, 0, 2))
        for name in ("cp", "crx", "cry", "crz")
    },
    "ccx": ("ccx q[3], q[0], q[1];", lambda c: c.ccx(3, 0, 1)),
    "cswap": ("cswap q[2], q[0], q[3];", lambda c: c.cswap(2, 0, 3)),
    "cu": ("cu(0.1, 0.2, 0.3, 0.4) q[1], q[2];", lambda c: c.cu(0.1, 0.2, 0.3, 0.4, 1, 2)),
    "U": ("U(0.1, 0.2, 0.3) q[1];", lambda c: c.u(0.1, 0.2, 0.3, 1)),
    "u2 and u3": ("u2(0.2, 0.3) q[1]; u3(1, 2, 3) q[0];", lambda c: (c.u(np.pi / 2, 0.2, 0.3, 1), c.u(1, 2, 3, 0))),
    "id, phase, cphase": ("id q; phase(1) q[0]; cphase(2) q[1], q[3];", lambda c: (c.p(1, 0), c.cp(2, 1, 3))),
    "expressions": (
        "rx(pi / 3 - 2 * 0.1) q[0]; rz(-tau / 7) q[1]; ry(2) q[2];",
        lambda c: (c.rx(math.pi / 3 - 0.2, 0), c.rz(-math.tau / 7, 1), c.ry(2, 2)),
    ),
    "a tiny angle": ("rx(1e-7) q[0];", lambda c: c.rx(1e-7, 0)),
    "broadcast": ("h q; cx q[0:1], q[2:3]; t q[{0, 3}];", lambda c: (c.h(range(4)), c.cx([0, 1], [2, 3]), c.t([0, 3]))),
    "alias": ("let a = q[1:3]; h a; x a[0];", lambda c: (c.h([1, 2, 3]), c.x(1))),
    "barriers": ("h q[0]; barrier q; h q[0]; barrier q[1];", lambda c: None),
    "global phase": (
        "gphase(0.3); ctrl @ gphase(0.4) q[1]; ctrl(2) @ gphase(0.5) q[1], q[2];",
        lambda c: (c.p(0.4, 1), c.cp(0.5, 1, 2)),
    ),
    "ctrl": ("ctrl(3) @ x q[3], q[0], q[1], q[2];", lambda c: c.append(MCXGate(3), [3, 0, 1, 2])),
    "negctrl": (
        "negctrl @ ctrl @ rx(0.3) q[2], q[1], q[0];",
        # The outer modifier's control comes first in the program; the state is read from the right.
        lambda c: c.append(RXGate(0.3).control(2, ctrl_state="10", annotated=False), [2, 1, 0]),
    ),
    "inv": (
        "inv @ s q[0]; inv @ cu(0.1, 0.2, 0.3, 0.4) q[1], q[2];",
        lambda c: (c.sdg(0), c.cu(-0.1, -0.3, -0.2, -0.4, 1, 2)),
    ),
    "pow": (
        "pow(0.5) @ x q[0]; pow(-2) @ t q[1]; pow(1.0 / 3) @ h q[2];",
        lambda c: (c.sx(0), c.sdg(1), c.append(power("h", 1 / 3), [2])),
    ),
    "controlled pow": (
        "ctrl @ pow(0.25) @ x q[1], q[0];",
        lambda c: c.append(power("x", 0.25).control(1, annotated=False), [1, 0]),
    ),
    "gates of gates": (
        "gate twist(t, u) a, b { rx(t / 2) a; ctrl @ rz(-u) b, a; cx a, b; }\n"
        "gate both(t) a, b, d { twist(t, 2 * t) a, b; inv @ twist(0.1, t) d, a; h b; }\n"
        "both(0.7) q[3], q[1], q[0];",
        lambda c: (
            (c.rx(0.35, 3), c.crz(-1.4, 1, 3), c.cx(3, 1)),
            (c.cx(0, 3), c.crz(0.7, 3, 0), c.rx(-0.05, 0)),
            c.h(1),
        ),
    ),
    "a controlled gate of gates": (
        "gate pair(t) a, b { h a; cx a, b; rz(t) b; }\nctrl(2) @ pair(0.4) q[0], q[2], q[3], q[1];",
        lambda c: (
            c.append(QuantumCircuit.to_gate(_pair()).control(2, annotated=False), [0, 2, 3, 1])
        ),
    ),
    "final measurements": ("", lambda c: None),
}  # fmt: skip


def _pair() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.rz(0.4, 1)
    return circuit


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_agree_with_linear_algebra(name: str) -> None:
    program, build = PROGRAMS[name]
    np.testing.assert_allclose(converted(HEAD + BEFORE + program + AFTER), exact(build), atol=1e-9)


@pytest.mark.parametrize(
    ("program", "build"),
    [
        ("sdg q[2];", lambda c: c.s(2)),
        ("cx q[1], q[3];", lambda c: c.cx(3, 1)),
        ("rz(0.70001) q[1];", lambda c: c.rz(0.7, 1)),
        ("cp(1.3) q[0], q[2];", lambda c: c.cp(-1.3, 0, 2)),
    ],
)
def test_the_comparison_finds_a_wrong_gate(program: str, build: Build) -> None:
    assert np.abs(converted(HEAD + BEFORE + program + AFTER) - exact(build)).max() > 1e-7


@pytest.mark.parametrize(
    "measurements",
    [
        "",
        "c = measure q;",
        "measure q -> c;",
        "c[2] = measure q[0];",
        "c[0] = measure q[3]; c[1] = measure q[0]; barrier q;",
    ],
)
def test_final_measurements_change_nothing_and_qubit_0_is_the_lowest_bit(measurements: str) -> None:
    found = converted(HEAD + "x q[0]; x q[3];" + measurements)
    assert found.argmax() == 0b1001
    assert found.max() == pytest.approx(1.0)
    assert len(found) == 16


def test_a_bit_may_be_declared_with_its_measurement() -> None:
    assert converted("OPENQASM 3; qubit q; U(3.141592653589793, 0, 0) q; bit d = measure q;").argmax() == 1


def test_what_qiskit_writes_is_read() -> None:
    circuit = QuantumCircuit(3, 3)
    circuit.h(0)
    circuit.rzz(0.3, 0, 1)
    circuit.append(MCXGate(2), [0, 1, 2])
    circuit.append(RXGate(0.2).control(2, annotated=False), [2, 1, 0])
    circuit.u(0.1, 0.2, 0.3, 1)
    bare = circuit.copy()
    circuit.measure(range(3), range(3))
    np.testing.assert_allclose(converted(qasm3.dumps(circuit)), Statevector(bare).probabilities(), atol=1e-9)
    physical = transpile(
        circuit, coupling_map=[[0, 1], [1, 2]], basis_gates=["cx", "rz", "sx"], initial_layout=[0, 1, 2]
    )
    assert "$0" in qasm3.dumps(physical)
    assert converted(qasm3.dumps(physical)).shape == (8,)


def test_physical_qubits_are_counted_from_0() -> None:
    assert converted('OPENQASM 3; include "stdgates.inc"; x $2; cx $2, $0;').argmax() == 0b101


def doubling(levels: int, parameter: str = "", argument: str = "") -> str:
    lines = [f"gate g0{parameter} a {{ U(0, 0, 1) a; }}"]
    lines += [f"gate g{n}{parameter} a {{ g{n - 1}{argument} a; g{n - 1}{argument} a; }}" for n in range(1, levels)]
    return "\n".join(lines)


BEYOND = "a program is gates with numbers, then measurements"

WRONG = {
    "": "is empty",
    "// nothing\n": "is empty",
    "OPENQASM 3;": "has no qubit",
    "OPENQASM 2.0; qreg q[2];": "is OpenQASM 2.0; it must be OpenQASM 3",
    HEAD + "h q[0]": "a statement is not complete",
    HEAD + "h q[0]; §": "token recognition error",
    'include "/etc/passwd"; qubit q;': "line 1: '/etc/passwd' cannot be included, only 'stdgates.inc'",
    'include "qelib1.inc"; qubit q;': "line 1: 'qelib1.inc' cannot be included, only 'stdgates.inc'",
    HEAD + "reset q[0];": f"line 5: there can be no reset; {BEYOND}",
    HEAD + "if (c[0]) x q[0];": f"line 5: there can be no if; {BEYOND}",
    HEAD + "for int i in [0:3] { x q[i]; }": f"line 5: there can be no for; {BEYOND}",
    HEAD + "while (c[0]) { x q[0]; }": f"line 5: there can be no while; {BEYOND}",
    HEAD + "switch (1) { case 1 { x q[0]; } }": f"line 5: there can be no switch; {BEYOND}",
    HEAD + "input float t; rx(t) q[0];": f"line 5: there can be no input or output; {BEYOND}",
    HEAD + "const float t = 1.0; rx(t) q[0];": f"line 5: there can be no const; {BEYOND}",
    HEAD + "int n = 3;": f"line 5: there can be no classical variable but bits; {BEYOND}",
    HEAD + "c[0] = 1;": f"line 5: there can be no assignment; {BEYOND}",
    HEAD + "def f(qubit a) { x a; } f(q[0]);": f"line 5: there can be no def; {BEYOND}",
    HEAD + "delay[10ns] q[0];": f"line 5: there can be no delay; {BEYOND}",
    HEAD + "box { x q[0]; }": f"line 5: there can be no box; {BEYOND}",
    HEAD + "pragma hello": f"line 5: there can be no pragma; {BEYOND}",
    HEAD + "end;": f"line 5: there can be no statement of this kind; {BEYOND}",
    HEAD + "@note\nx q[0];": "line 5: there can be no annotation",
    HEAD + "gate g a {\n@note\nU(0, 0, 0) a; }": "line 6: there can be no annotation",
    HEAD + "gate g a { reset a; }": "line 5: cannot have a non-unitary 'reset' instruction in a gate",
    HEAD + "gate g a { delay[1ns] a; }": "line 5: a gate can be made of gates only",
    HEAD + "c[0] = measure q[0]; h q[0];": "uses a qubit after it was measured; measurements can stand only at the end",
    HEAD + "c = measure q; c = measure q;": "uses a qubit after it was measured",
    HEAD + "measure q;": "line 5: measurements must save their result",
    HEAD + "foo q[0];": "line 5: gate 'foo' is not defined",
    HEAD + "gate a x { a x; } a q[0];": "line 5: gate 'a' is not defined",
    HEAD + "rx q[0];": "line 5: rx must have 1 angle and 1 qubit",
    HEAD + "cx q[0];": "line 5: cx must have 0 angles and 2 qubits",
    HEAD + "ctrl @ x q[0];": "line 5: x must have 0 angles and 1 qubit",
    HEAD + "gate g(t) a { rx(t) a; } g(1, 2) q[0];": "line 5: g must have 1 angle and 1 qubit",
    HEAD + "cx q[0], q[0];": "duplicate",
    HEAD + "x q[7];": "out of range",
    HEAD + "rx(theta) q[0];": "line 5: Undefined symbol 'theta'",
    HEAD + "rx(sin(1)) q[0];": "line 5: 'FunctionCall' cannot be resolved",
    HEAD + "rx(1 / 0) q[0];": "division",
    HEAD + "rx(1e999) q[0];": "line 5: an angle has a number above 1e+15",
    HEAD + f"rx({'9' * 400}) q[0];": "line 5: an angle has a number above 1e+15",
    HEAD + f"rx({'9' * 5000}) q[0];": "4300 digits",
    HEAD + f"rx({'*'.join(['1e15'] * 30)}) q[0];": "an angle that is not finite",
    HEAD + f"gate g(t) a {{ rx({'*'.join(['1e15'] * 30)}) a; }} g(1) q[0];": "an angle that is not finite",
    HEAD + f"rx({'*'.join(['100000000000000'] * 30)}) q[0];": "too large to convert to float",
    HEAD + "ctrl(0) @ x q[0];": "line 5: controls must be written as a number from 1 to 11",
    HEAD + "ctrl(99) @ x q[0];": "line 5: controls must be written as a number from 1 to 11",
    HEAD + "pow(0.5) @ ctrl(3) @ x q[0], q[1], q[2], q[3];": "line 5: pow can be asked of a gate on up to 3 qubits",
    HEAD + "let a = q ++ q;": "must not be duplicated",
    "qubit[13] q;": "has 13 qubits, and the backend takes 12",
    "qubit[1000000000] q;": "has 1000000000 qubits, and the backend takes 12",
    "qubit[2 * 3] q;": "line 1: a size must be written as a number from 1",
    "qubit[0] q;": "line 1: a size must be written as a number from 1",
    "qubit q; bit[1000000000] c;": "has 1000000000 classical bits; at most 1024 are taken",
    "U(0, 0, 0) $999999999;": "names the qubit $999999999, and the backend has 12 qubits",
    "U(0, 0, $12) $1;": "names the qubit $12, and the backend has 12 qubits",
    "U(0, 0, 0) $0; // ends here\rU(0, 0, 0) $999999999;": "names the qubit $999999999",
    "@a /*\nU(0, 0, 0) $999999999;\n@b */\nU(0, 0, 0) $0;": "there can be no annotation",
    HEAD
    + "gate g0 a {} "
    + "".join(f"gate g{n} a {{ g{n - 1} a; }} " for n in range(1, 20)): "gates call each other more than 16 times",
    HEAD + doubling(60) + "g59 q[0];": "stands for too many gates",
    HEAD + doubling(16, "(t)", "(t)") + "g15(1) q[0];": "stands for too many gates",
    HEAD + doubling(14, "(t)", "(t + t + t)") + "g13(1) q[0];": "stands for too many gates",
    HEAD + "gate g(t) a { rx(t) a; }\n" + "g(1) q;" * 8_000: "stands for too many gates",
    HEAD + f"rx({'(' * 17}1{')' * 17}) q[0];": "brackets or signs within each other more than 16 times",
    HEAD + f"rx({'-' * 17}1) q[0];": "brackets or signs within each other more than 16 times",
    HEAD + f"rx({'+'.join(['1'] * 5_000)}) q[0];": "has an expression that is too long; write it as one number",
    "x" * (MAX_SOURCE_CHARS + 1): f"is too long: a program may have {MAX_SOURCE_CHARS} characters",
}


@pytest.mark.parametrize("source", WRONG, ids=lambda source: source.removeprefix(HEAD)[:40] or "empty")
def test_wrong_programs_are_told_what_is_wrong(source: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidCircuit) as caught:
        QasmReader(12).read(source)
    assert WRONG[source] in caught.value.detail
    assert "\n" not in caught.value.detail
    assert len(caught.value.detail) < 400
    assert capfd.readouterr() == ("", "")  # the parser's console, and the panics of compiled code


def test_the_programs_of_a_job_are_bounded_together() -> None:
    reader = QasmReader(12)
    long = "qubit q;" + " " * (MAX_SOURCE_CHARS - 8)
    for _ in range(MAX_TOTAL_CHARS // MAX_SOURCE_CHARS):
        reader.read(long)
    with pytest.raises(InvalidCircuit, match="the different ones of a job 524288 together"):
        reader.read("qubit q;")
    most = HEAD + doubling(11) + "g10 q;"
    assert QasmReader(12).read(most).num_qubits == 4
    reader = QasmReader(12)
    reader.read(HEAD + doubling(10) + "g9 q;")
    with pytest.raises(InvalidCircuit, match="stands for too many gates"):
        reader.read(most)


def test_the_check_before_the_importer_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the importer itself takes a register of any size, and a hundred thousand qubits by one name."""
    monkeypatch.setattr(qasm.ProgramCheck, "program", lambda self, program: None)
    assert QasmReader(12).read("qubit[100000] q;").num_qubits == 100_000
    monkeypatch.setattr(qasm, "check_text", lambda bare, max_qubits: None)
    assert QasmReader(12).read("U(0, 0, 0) $99999;").num_qubits == 100_000


PIECES = [
    *("qubit[3] q;", "bit c;", "h q;", "cx q[0], q[1];", "rx(t) q[0];", "gate g(t) a { rx(t) a; }", "g(1) q[0];"),
    *("ctrl @ ", "inv @ ", "pow(2) @ ", "let a = q;", "c = measure q[0];", "barrier q;", "gphase(1);", "$1", "1e400"),
    *("(", ")", "{", "}", "[", "]", ";", ",", "/*", "*/", "//", '"', "@", "-", "\n", "if (c) ", "OPENQASM 3;"),
]


def outcome_of(source: str) -> str:
    try:
        return lower(QasmReader(5).read(source), lowering_passes()).template.key
    except InvalidCircuit as error:
        return error.detail


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(string.printable, max_size=4), max_size=12).map("".join))
def test_any_text_is_a_circuit_or_is_refused_in_one_line(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(outcome_of('include "stdgates.inc";' + text).splitlines()) == 1
