"""IonQ's JSON circuits (QIS gate set) to exact outcome probabilities.

A circuit is parsed into a structure (gates and qubits in order) and its angles. Circuits of one structure are simulated
together: the state is (K, 2, ..., 2) with one axis for each qubit, the highest first, so that qubit 0 is the lowest bit
of an outcome. A structure of real gates only is simulated in real arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.errors import InvalidCircuit

MAX_QUBITS: Final = 20
"""Amplitudes of one circuit then take 16 MiB."""

_CHUNK_AMPLITUDES: Final = 1 << 20
_NEGLIGIBLE: Final = 1e-15  # below the rounding of the simulation itself; such outcomes are not listed

Array = NDArray[Any]
Histogram = dict[int, float]

Matrix = tuple[tuple[Any, Any], tuple[Any, Any]]

_S: Final = math.sqrt(0.5)
_FIXED: Final[Mapping[str, Matrix]] = {
    "x": ((0, 1), (1, 0)),
    "y": ((0, -1j), (1j, 0)),
    "z": ((1, 0), (0, -1)),
    "h": ((_S, _S), (_S, -_S)),
    "s": ((1, 0), (0, 1j)),
    "si": ((1, 0), (0, -1j)),
    "t": ((1, 0), (0, _S + _S * 1j)),
    "ti": ((1, 0), (0, _S - _S * 1j)),
    "v": ((0.5 + 0.5j, 0.5 - 0.5j), (0.5 - 0.5j, 0.5 + 0.5j)),
    "vi": ((0.5 - 0.5j, 0.5 + 0.5j), (0.5 + 0.5j, 0.5 - 0.5j)),
}
_DIAGONAL: Final = frozenset({"z", "s", "si", "t", "ti", "rz", "phase"})
_PAIRS: Final = frozenset({"swap", "xx", "yy", "zz"})
WITH_ANGLE: Final = frozenset({"rx", "ry", "rz", "phase", "xx", "yy", "zz"})
_REAL: Final = frozenset({"x", "z", "h", "ry", "swap"})
_FIELDS: Final = frozenset({"gate", "target", "targets", "control", "controls", "rotation"})
_ALIASES: Final = {"not": "x", "cnot": "x"}

SUPPORTED_GATES: Final = (
    *("x", "y", "z", "h", "not", "cnot", "s", "si", "t", "ti", "v", "vi"),
    *("rx", "ry", "rz", "swap", "xx", "yy", "zz"),
)


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate of a structure: on one target, or on two for ``swap``, ``xx``, ``yy`` and ``zz``."""

    name: str
    targets: tuple[int, ...]
    controls: tuple[int, ...] = ()

    @property
    def qubits(self) -> int:
        """Number of qubits that the gate acts on."""
        return len(self.targets) + len(self.controls)


@dataclass(frozen=True, slots=True)
class Circuit:
    """A parsed circuit; ``angles`` in radians belong to the gates that have one, in order."""

    qubits: int
    gates: tuple[Gate, ...]
    angles: tuple[float, ...]


class CircuitReader:
    """Parses the circuits of one job; equal gates and structures are stored once."""

    def __init__(self, max_qubits: int = MAX_QUBITS) -> None:
        self._max_qubits = max_qubits
        self._gates: dict[Gate, Gate] = {}
        self._structures: dict[tuple[Gate, ...], tuple[Gate, ...]] = {}

    def read(self, raw: object, qubits: int, where: str = "circuit") -> Circuit:
        """Parse a list of IonQ gates.

        Raises InvalidCircuit, which names the gate, when the circuit cannot be simulated as it stands.
        """
        if not 1 <= qubits <= self._max_qubits:
            raise InvalidCircuit(f"{where} has {qubits} qubits; this emulator takes 1 to {self._max_qubits}")
        if not isinstance(raw, list):
            raise InvalidCircuit(f"{where} must be a list of gates")
        gates: list[Gate] = []
        angles: list[float] = []
        for index, item in enumerate(raw):
            try:
                for gate, angle in _read_gate(item, qubits):
                    gates.append(self._gates.setdefault(gate, gate))
                    if angle is not None:
                        angles.append(angle)
            except InvalidCircuit as error:
                raise InvalidCircuit(f"{where}[{index}]: {error.detail}") from None
        structure = tuple(gates)
        return Circuit(qubits, self._structures.setdefault(structure, structure), tuple(angles))


def _read_gate(item: object, qubits: int) -> Iterator[tuple[Gate, float | None]]:
    """Yield the gate, once for each target if it is a one-qubit gate."""
    if not isinstance(item, dict):
        raise InvalidCircuit("a gate must be an object")
    unknown = item.keys() - _FIELDS
    if unknown:
        raise InvalidCircuit(f"unknown fields {sorted(unknown)}")
    targets = _indices(item, "target", qubits)
    controls = tuple(sorted(_indices(item, "control", qubits)))
    name, angle = _name_and_angle(item)
    if item["gate"] == "cnot" and not controls:
        raise InvalidCircuit("gate 'cnot' needs a control")
    if not targets or len({*targets, *controls}) < len(targets) + len(controls):
        raise InvalidCircuit("targets and controls must be distinct qubits, with at least one target")
    if name not in _PAIRS:
        for target in targets:
            yield Gate(name, (target,), controls), angle
    elif len(targets) == 2:
        yield Gate(name, tuple(sorted(targets)), controls), angle  # all four are symmetric in their targets
    else:
        raise InvalidCircuit(f"gate {name!r} needs two targets")


def _name_and_angle(item: Mapping[str, Any]) -> tuple[str, float | None]:
    given, angle = item.get("gate"), item.get("rotation")
    if not isinstance(given, str) or given not in SUPPORTED_GATES:
        raise InvalidCircuit(f"gate {given!r} is not supported; supported are {', '.join(SUPPORTED_GATES)}")
    name = _ALIASES.get(given, given)
    if angle is not None:
        if isinstance(angle, bool) or not isinstance(angle, int | float) or not math.isfinite(angle):
            raise InvalidCircuit("a rotation must be a finite number of radians")
        angle = float(angle)
        if name == "z":
            name = "phase"  # qiskit-ionq writes a phase gate, diag(1, e^ia), as a z that has a rotation
    if (name in WITH_ANGLE) != (angle is not None):
        raise InvalidCircuit(f"gate {given!r} {'needs a' if angle is None else 'takes no'} rotation")
    return name, angle


def _indices(item: Mapping[str, Any], name: str, qubits: int) -> tuple[int, ...]:
    """Return the qubits under ``name`` or under its plural."""
    if name in item and f"{name}s" in item:
        raise InvalidCircuit(f"a gate has {name} or {name}s, not both")
    values = item.get(f"{name}s", [item[name]] if name in item else [])
    if not isinstance(values, list):
        raise InvalidCircuit(f"{name}s must be a list of qubits")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < qubits:
            raise InvalidCircuit(f"{value!r} is not one of the {qubits} qubits")
    return tuple(values)


def simulate(circuits: Sequence[Circuit]) -> list[Histogram]:
    """Return outcome -> probability for each circuit; outcomes of no weight are left out.

    The probabilities of a circuit sum to 1 but for rounding.
    """
    found: dict[int, Histogram] = {}
    for qubits, gates, members in by_structure(circuits):
        size = max(1, _CHUNK_AMPLITUDES >> qubits)
        for start in range(0, len(members), size):
            chunk = members[start : start + size]
            angles = np.array([circuits[index].angles for index in chunk], dtype=np.float64)
            for index, row in zip(chunk, _probabilities(qubits, gates, angles), strict=True):
                outcomes = np.flatnonzero(row > _NEGLIGIBLE)
                found[index] = dict(zip(outcomes.tolist(), row[outcomes].tolist(), strict=True))
    return [found[index] for index in range(len(circuits))]


def unitaries(gate: Gate, angles: NDArray[np.float64] | None) -> NDArray[np.complex128]:
    """Return the gate on its own qubits, targets first: (R, 2^m, 2^m), R the number of angles, 1 without.

    Made by applying the gate to each basis state, so that it cannot differ from what is simulated.
    """
    width = gate.qubits
    size = 1 << width
    places = range(width)
    own = Gate(gate.name, tuple(places[: len(gate.targets)]), tuple(places[len(gate.targets) :]))
    rows = 1 if angles is None else len(angles)
    columns: Array = np.tile(np.eye(size, dtype=np.complex128), (rows, 1))
    _apply(columns.reshape(-1, *[2] * width), width, own, None if angles is None else np.repeat(angles, size))
    return np.asarray(columns.reshape(rows, size, size).transpose(0, 2, 1), dtype=np.complex128)


def by_structure(circuits: Sequence[Circuit]) -> Iterator[tuple[int, tuple[Gate, ...], list[int]]]:
    """Yield each structure (qubits, gates) with the indices of the circuits that have it."""
    groups: dict[tuple[int, tuple[Gate, ...]], list[int]] = {}
    for index, circuit in enumerate(circuits):
        groups.setdefault((circuit.qubits, circuit.gates), []).append(index)
    for (qubits, gates), members in groups.items():
        yield qubits, gates, members


def _probabilities(qubits: int, gates: tuple[Gate, ...], angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (K, 2^n) probabilities of one structure with (K, A) angles."""
    rows = angles.shape[0]
    real = all(gate.name in _REAL for gate in gates)
    state: Array = np.zeros((rows, 1 << qubits), dtype=np.float64 if real else np.complex128)
    state[:, 0] = 1.0
    axes = state.reshape(rows, *[2] * qubits)
    column = 0
    for gate in gates:
        angle = None
        if gate.name in WITH_ANGLE:
            angle = angles[:, column]
            column += 1
        _apply(axes, qubits, gate, angle)
    return np.asarray(state**2 if real else state.real**2 + state.imag**2, dtype=np.float64)


def _apply(axes: Array, qubits: int, gate: Gate, angle: NDArray[np.float64] | None) -> None:
    """Apply a gate to ``axes`` in place: only where all controls are 1."""
    index: list[int | slice] = [slice(None)] * (qubits + 1)
    for control in gate.controls:
        index[qubits - control] = 1
    parts = []
    for pattern in range(1 << len(gate.targets)):
        for position, target in enumerate(gate.targets):
            index[qubits - target] = (pattern >> position) & 1
        parts.append(axes[tuple(index)])
    if angle is not None:
        angle = angle.reshape(-1, *[1] * (parts[0].ndim - 1))  # one angle for each circuit
    if gate.name in _PAIRS:
        _apply_pair(gate.name, parts, angle)
    else:
        _apply_single(gate.name, parts[0], parts[1], angle)


def _apply_single(name: str, zero: Array, one: Array, angle: Array | None) -> None:
    """Apply a one-qubit gate to the amplitudes of target 0 and target 1."""
    (a, b), (c, d) = _FIXED[name] if angle is None else _rotation(name, angle)
    if np.isrealobj(zero):
        a, b, c, d = np.real(a), np.real(b), np.real(c), np.real(d)
    if name == "x":
        kept = zero.copy()
        zero[...] = one
        one[...] = kept
    elif name in _DIAGONAL:
        if name == "rz":
            zero *= a
        one *= d
    else:
        turned = a * zero + b * one
        one[...] = c * zero + d * one
        zero[...] = turned


def _rotation(name: str, angle: Array) -> Matrix:
    if name == "phase":
        return (1, 0), (0, np.exp(1j * angle))
    if name == "rz":
        return (np.exp(-0.5j * angle), 0), (0, np.exp(0.5j * angle))
    cosine, sine = np.cos(angle / 2), np.sin(angle / 2)
    if name == "ry":
        return (cosine, -sine), (sine, cosine)
    return (cosine, -1j * sine), (-1j * sine, cosine)


def _apply_pair(name: str, parts: list[Array], angle: Array | None) -> None:
    """Apply swap, or exp(-i angle/2 P P) for P one of X, Y, Z; ``parts`` are the amplitudes of 00, 01, 10, 11."""
    if angle is None:
        kept = parts[1].copy()
        parts[1][...] = parts[2]
        parts[2][...] = kept
    elif name == "zz":
        equal, unequal = np.exp(-0.5j * angle), np.exp(0.5j * angle)
        for part, factor in zip(parts, (equal, unequal, unequal, equal), strict=True):
            np.multiply(part, factor, out=part)
    else:
        cosine, sine = np.cos(angle / 2), np.sin(angle / 2)
        outer = 1j * sine if name == "yy" else -1j * sine  # YY takes 00 to -11, XX takes it to 11
        for low, high, factor in ((0, 3, outer), (1, 2, -1j * sine)):
            turned = cosine * parts[low] + factor * parts[high]
            parts[high][...] = factor * parts[low] + cosine * parts[high]
            parts[low][...] = turned
