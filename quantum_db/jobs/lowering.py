"""From any circuit to the product's own form: a template and its angles, equal but for a global phase.

Qiskit's transpiler writes a circuit in RX, RY, RZ, RZZ, CX and H. It takes every qubit to start in |0>, as all circuits
here do, so a gate with many controls may use an idle qubit. IonQ's gates are lowered once for each structure, with
their angles as parameters: thousands of circuits of one structure cost one transpilation and one array operation.

Qiskit is imported with this module, not where it is used: imported first in a thread that ends, it crashes the process
when another thread uses it (2.6.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import Gate as QiskitGate
from qiskit.circuit import ParameterExpression, ParameterVector
from qiskit.circuit.library import (
    HGate,
    PhaseGate,
    RXGate,
    RXXGate,
    RYGate,
    RYYGate,
    RZGate,
    RZZGate,
    SdgGate,
    SGate,
    SwapGate,
    SXdgGate,
    SXGate,
    TdgGate,
    TGate,
    XGate,
    YGate,
    ZGate,
)
from qiskit.exceptions import QiskitError
from qiskit.transpiler import PassManager, generate_preset_pass_manager

from quantum_db.circuits.template import (
    CX,
    Angles,
    H,
    MultiplexedRY,
    Rotation,
    RotationName,
    Step,
    Template,
    content_key,
)
from quantum_db.errors import InvalidCircuit
from quantum_db.ionq.gate_simulator import WITH_ANGLE, Gate

MAX_GATES: Final = 10_000
"""Of one circuit, once it is lowered."""

_BASIS: Final = ("rx", "ry", "rz", "rzz", "cx", "h")
_SEED: Final = 0
_CONTROL_COST: Final = 8
"""Gates that a control adds at the least, about; with it a circuit that is too large is refused before it is built."""

_FIXED: Final = {"x": XGate, "y": YGate, "z": ZGate, "h": HGate, "s": SGate, "si": SdgGate, "t": TGate, "ti": TdgGate}
_TURNS: Final = {"rx": RXGate, "ry": RYGate, "rz": RZGate, "phase": PhaseGate, "v": SXGate, "vi": SXdgGate}
_PAIRS: Final = {"swap": SwapGate, "xx": RXXGate, "yy": RYYGate, "zz": RZZGate}
_QIS: Final[Mapping[str, Callable[..., QiskitGate]]] = MappingProxyType(_FIXED | _TURNS | _PAIRS)


@dataclass(frozen=True, slots=True, eq=False)
class Lowered:
    """A template whose A angles are affine in P parameters: ``base``, and a factor for each place with a parameter.

    Attributes:
        base: (A,) radians.
        places, columns, factors: (T,) each; ``factors[t]`` times parameter ``columns[t]`` is added at ``places[t]``.
    """

    template: Template
    base: Angles
    places: NDArray[np.intp]
    columns: NDArray[np.intp]
    factors: Angles

    def bind(self, parameters: Angles) -> Angles:
        """Return the angles, (K, A), for (K, P) parameters."""
        angles = np.repeat(self.base[None, :], len(parameters), axis=0)
        np.add.at(angles.T, self.places, parameters.T[self.columns] * self.factors[:, None])
        return angles


def lowering_passes() -> PassManager:
    """Return the transpiler's passes; the same circuit gives the same gates each time. For one thread at a time."""
    return generate_preset_pass_manager(optimization_level=1, basis_gates=list(_BASIS), seed_transpiler=_SEED)


def lower(circuit: QuantumCircuit, passes: PassManager) -> Lowered:
    """Return a circuit of gates alone, its free parameters in their order there, as a template.

    Raises:
        InvalidCircuit: the gates cannot be written so, are more than ``MAX_GATES``, or an angle is not finite.
    """
    try:
        with panics_refused():
            found = passes.run(circuit)
    except (QiskitError, ArithmeticError, ValueError) as error:
        raise InvalidCircuit(f"the gates cannot be decomposed: {one_line(error)}") from error
    if len(found.data) > MAX_GATES:
        raise InvalidCircuit(f"has {len(found.data)} gates once it is decomposed; at most {MAX_GATES} are taken")
    place = {qubit: index for index, qubit in enumerate(found.qubits)}
    column = {parameter: index for index, parameter in enumerate(circuit.parameters)}
    steps: list[Step] = []
    base: list[float] = []
    terms: list[tuple[int, int, float]] = []
    for instruction in found.data:
        qubits = tuple(place[qubit] for qubit in instruction.qubits)
        steps.append(_step(instruction.operation.name, qubits, len(base)))
        for value in instruction.operation.params:
            constant, slopes = _affine(value)
            terms += [(len(base), column[parameter], slope) for parameter, slope in slopes]
            base.append(constant)
    angles = np.array(base, dtype=np.float64)
    if not np.isfinite(angles).all():
        raise InvalidCircuit("has an angle that is not finite; every angle must be a number of radians")
    template = Template(content_key(circuit.num_qubits, tuple(steps)), circuit.num_qubits, tuple(steps))
    places, columns, factors = zip(*terms, strict=True) if terms else ((), (), ())
    return Lowered(
        template,
        angles,
        np.array(places, dtype=np.intp),
        np.array(columns, dtype=np.intp),
        np.array(factors, dtype=np.float64),
    )


def ionq_structure(qubits: int, gates: tuple[Gate, ...]) -> QuantumCircuit:
    """Return gates of IonQ's QIS set for qiskit; the angles are parameters, in order.

    Raises:
        InvalidCircuit: they would be more than ``MAX_GATES`` once they are lowered.
    """
    least = len(gates) + _CONTROL_COST * sum(len(gate.controls) for gate in gates if len(gate.controls) > 1)
    if least > MAX_GATES:
        raise InvalidCircuit(f"has more than {MAX_GATES} gates once its controls are decomposed; that many are taken")
    circuit = QuantumCircuit(qubits)
    angles = iter(ParameterVector("angle", sum(gate.name in WITH_ANGLE for gate in gates)))
    for gate in gates:
        angle = (next(angles),) if gate.name in WITH_ANGLE else ()
        if gate.controls and len(gate.targets) == 2:
            _add_controlled_pair(circuit, gate, angle)
        else:
            _add(circuit, gate.name, angle, gate.controls, gate.targets)
    return circuit


@contextmanager
def panics_refused() -> Iterator[None]:
    """Turn a panic of qiskit's compiled core, which is no ``Exception``, into InvalidCircuit."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise InvalidCircuit(f"the gates cannot be decomposed: {error!s:.200}") from None


def one_line(error: Exception) -> str:
    """Return what a library says of an error, for a message: without line ends, and not too long."""
    return " ".join(str(error).strip("'\" ").split())[:200] or type(error).__name__


def _step(name: str, qubits: tuple[int, ...], first_angle: int) -> Step:
    if name == "ry":
        return MultiplexedRY(qubits[0], (), first_angle)
    if name == "cx":
        return CX(*qubits)
    if name == "h":
        return H(*qubits)
    return Rotation(cast(RotationName, name), qubits, first_angle)


def _affine(value: Any) -> tuple[float, list[tuple[Any, float]]]:
    """Return an angle's constant, and the slope of each of its parameters."""
    if not isinstance(value, ParameterExpression):
        return float(value), []
    slopes = [(parameter, float(value.gradient(parameter))) for parameter in value.parameters]
    return float(value.bind(dict.fromkeys(value.parameters, 0.0))), slopes


def _add(
    circuit: QuantumCircuit, name: str, angle: tuple[Any, ...], controls: tuple[int, ...], targets: tuple[int, ...]
) -> None:
    gate = _QIS[name](*angle)
    circuit.append(gate.control(len(controls), annotated=True) if controls else gate, [*controls, *targets])


def _add_controlled_pair(circuit: QuantumCircuit, gate: Gate, angle: tuple[Any, ...]) -> None:
    """Add a gate on two targets as one on the second between CX, whose turn of the basis needs no control.

    Swap is CX CX CX, of which the middle one decides; ZZ is Z of the second between CX, and XX and YY are ZZ between
    turns of both qubits.
    """
    first, second = gate.targets
    if gate.name == "swap":
        circuit.cx(second, first)
        _add(circuit, "x", (), (*gate.controls, first), (second,))
        circuit.cx(second, first)
        return
    for qubit in gate.targets:
        if gate.name == "xx":
            circuit.h(qubit)
        elif gate.name == "yy":
            circuit.rx(np.pi / 2, qubit)
    circuit.cx(first, second)
    _add(circuit, "rz", angle, gate.controls, (second,))
    circuit.cx(first, second)
    for qubit in gate.targets:
        if gate.name == "xx":
            circuit.h(qubit)
        elif gate.name == "yy":
            circuit.rx(-np.pi / 2, qubit)
