"""Circuits as templates: a structure made once, and angles that are bound for many circuits at a time.

Amplitudes stay real with (multiplexed) RY rotations, CX and Hadamard gates; RX, RZ and RZZ make them complex. Qubit 0
is the lowest bit of an outcome, as in Qiskit and at IonQ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from quantum_db.errors import InvalidCircuit

Angles = NDArray[np.float64]
RotationName = Literal["rx", "rz", "rzz"]

_ROTATED_QUBITS: Final = MappingProxyType({"rx": 1, "rz": 1, "rzz": 2})
ROTATION_GATES: Final = frozenset({"ry", *_ROTATED_QUBITS})
"""Names of the gates that have an angle."""

TWO_QUBIT_GATES: Final = frozenset({"cx", "rzz"})


@dataclass(frozen=True, slots=True)
class MultiplexedRY:
    """RY on ``target`` by an angle that the basis state of ``controls`` selects.

    Control pattern j (``controls[0]`` is its lowest bit) takes the angle at ``first_angle + j``. No controls: plain RY.
    """

    target: int
    controls: tuple[int, ...]
    first_angle: int

    @property
    def angle_count(self) -> int:
        """Number of control patterns, each with its angle."""
        return 1 << len(self.controls)

    @property
    def qubits(self) -> tuple[int, ...]:
        """Target, then controls."""
        return (self.target, *self.controls)


@dataclass(frozen=True, slots=True)
class Rotation:
    """exp(-i angle/2 P) with P = X, Z or Z (x) Z, by the angle at ``first_angle``. Makes amplitudes complex.

    Raises InvalidCircuit for another name or number of qubits.
    """

    name: RotationName
    qubits: tuple[int, ...]
    first_angle: int

    def __post_init__(self) -> None:
        expected = _ROTATED_QUBITS.get(self.name)
        if expected is None:
            raise InvalidCircuit(f"there is no rotation {self.name!r}; known are {', '.join(_ROTATED_QUBITS)}")
        if len(self.qubits) != expected:
            raise InvalidCircuit(f"{self.name} acts on {expected} qubits, not on {len(self.qubits)}")

    @property
    def angle_count(self) -> int:
        """Number of angles: one."""
        return 1


@dataclass(frozen=True, slots=True)
class H:
    """Hadamard gate."""

    target: int

    @property
    def qubits(self) -> tuple[int, ...]:
        """The target."""
        return (self.target,)


@dataclass(frozen=True, slots=True)
class CX:
    """Controlled NOT."""

    control: int
    target: int

    @property
    def qubits(self) -> tuple[int, ...]:
        """Control, then target."""
        return (self.control, self.target)


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate of a bound circuit: ``ry``, ``rx``, ``rz`` or ``rzz`` with an angle in radians; ``h``, or ``cx``.

    The qubits of ``cx`` are (control, target).
    """

    name: str
    qubits: tuple[int, ...]
    angle: float = 0.0


Step = MultiplexedRY | CX | H | Rotation


def content_key(num_qubits: int, steps: tuple[Step, ...]) -> str:
    """Return the key of a structure: 16 hex digits, equal for equal content in every process."""
    return hashlib.sha256(repr((num_qubits, steps)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Template:
    """A circuit's structure. ``key`` is its ``content_key``: equal structure, equal key.

    Raises InvalidCircuit where a step names a qubit twice, or a qubit or an angle that is not there.
    """

    key: str
    num_qubits: int
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        for step in self.steps:
            if len(set(step.qubits)) < len(step.qubits) or not all(0 <= q < self.num_qubits for q in step.qubits):
                raise InvalidCircuit(f"{step} does not name distinct qubits below {self.num_qubits}")
            if isinstance(step, MultiplexedRY | Rotation):
                last_angle = step.first_angle + step.angle_count - 1
                if step.first_angle < 0 or last_angle >= self.angle_count:
                    raise InvalidCircuit(f"{step} has angles outside of the {self.angle_count} of this structure")

    def __getstate__(self) -> dict[str, object]:
        """Pickle what cannot be derived: templates travel with every job."""
        return {"key": self.key, "num_qubits": self.num_qubits, "steps": self.steps}

    @cached_property
    def angle_count(self) -> int:
        """Number of angles that a circuit of this structure binds."""
        return sum(step.angle_count for step in self.steps if isinstance(step, MultiplexedRY | Rotation))

    @cached_property
    def is_real(self) -> bool:
        """Whether all amplitudes are real, whatever the angles."""
        return not any(isinstance(step, Rotation) for step in self.steps)

    @cached_property
    def structure(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The gates (name, qubits) in order, without their angles."""
        return tuple(_structure(self.steps))

    @cached_property
    def two_qubit_gates(self) -> int:
        """Number of CX and RZZ gates."""
        return sum(1 for name, _ in self.structure if name in TWO_QUBIT_GATES)

    @cached_property
    def depth(self) -> int:
        """Layers of gates on disjoint qubits, each gate as early as it can be."""
        return _depth(self.num_qubits, self.structure, one_qubit_gates=True)

    @cached_property
    def two_qubit_depth(self) -> int:
        """The same, where one-qubit gates take no time: the length of the longest chain of two-qubit gates."""
        return _depth(self.num_qubits, self.structure, one_qubit_gates=False)

    def gate_angles(self, angles: Angles) -> Angles:
        """Return the angles of the lowered gates, (K, R), for the steps' angles (K, ``angle_count``).

        A multiplexor with k controls becomes 2^k RY with CX between them; the angles transform by
        M_ij = (-1)^(popcount(j & gray(i))) / 2^k (Mottonen et al., quant-ph/0404089, eq. 3).
        """
        columns = []
        for step in self.steps:
            if isinstance(step, MultiplexedRY | Rotation):
                own = angles[:, step.first_angle : step.first_angle + step.angle_count]
                columns.append(own @ _gray_transform(len(step.controls)) if isinstance(step, MultiplexedRY) else own)
        return np.concatenate(columns, axis=1) if columns else np.empty((angles.shape[0], 0))

    def gates(self, angles: Angles) -> Iterator[list[Gate]]:
        """Yield the gate list of each circuit of (K, ``angle_count``) angles."""
        for row in self.gate_angles(angles):
            remaining = iter(row)
            yield [
                Gate(name, qubits, float(next(remaining)) if name in ROTATION_GATES else 0.0)
                for name, qubits in self.structure
            ]


@dataclass(frozen=True, slots=True, eq=False)
class CircuitBatch:
    """K circuits of one structure: the template, and (K, ``angle_count``) angles in radians."""

    template: Template
    angles: Angles

    def __post_init__(self) -> None:
        expected = self.template.angle_count
        if self.angles.ndim != 2 or self.angles.shape[1] != expected:
            raise InvalidCircuit(f"angles have shape {self.angles.shape}; this structure binds (K, {expected})")
        if not np.isfinite(self.angles).all():
            raise InvalidCircuit("an angle is not finite")

    def __len__(self) -> int:
        return int(self.angles.shape[0])


def _structure(steps: tuple[Step, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for step in steps:
        if not isinstance(step, MultiplexedRY):
            name = step.name if isinstance(step, Rotation) else "cx" if isinstance(step, CX) else "h"
            yield name, step.qubits
            continue
        for index in range(step.angle_count):
            yield "ry", (step.target,)
            if step.controls:
                yield "cx", (step.controls[_flipped_control(index, len(step.controls))], step.target)


def _depth(qubits: int, structure: tuple[tuple[str, tuple[int, ...]], ...], *, one_qubit_gates: bool) -> int:
    layers = [0] * qubits
    for _, touched in structure:
        if one_qubit_gates or len(touched) > 1:
            layer = 1 + max(layers[qubit] for qubit in touched)
            for qubit in touched:
                layers[qubit] = layer
    return max(layers)


def _flipped_control(index: int, count: int) -> int:
    """Return the control whose bit changes from Gray code ``index`` to the next; the last closes the cycle."""
    if index == (1 << count) - 1:
        return count - 1
    return ((index + 1) & -(index + 1)).bit_length() - 1


@lru_cache(maxsize=32)
def _gray_transform(controls: int) -> Angles:
    """Return T with (multiplexed angles) @ T = (gate angles), shape (2^k, 2^k), read-only because it is shared."""
    size = 1 << controls
    index = np.arange(size)
    gray = index ^ (index >> 1)
    parity = np.bitwise_count(index[:, None] & gray[None, :]) & 1
    transform = np.asarray(np.where(parity, -1.0, 1.0) / size, dtype=np.float64)
    transform.flags.writeable = False
    return transform
