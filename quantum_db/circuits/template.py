"""Circuits as templates: a structure made once, and angles that are bound for many circuits at a time.

Everything here has real amplitudes: RY rotations, multiplexed RY rotations and CX. Qubit 0 is the lowest bit of an
outcome, as in Qiskit and at IonQ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quantum_db.errors import InvalidCircuit

Angles = NDArray[np.float64]


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


@dataclass(frozen=True, slots=True)
class CX:
    """Controlled NOT."""

    control: int
    target: int


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate of a bound circuit: ``ry`` with an angle in radians, or ``cx`` with (control, target)."""

    name: str
    qubits: tuple[int, ...]
    angle: float = 0.0


Step = MultiplexedRY | CX


def content_key(num_qubits: int, steps: tuple[Step, ...]) -> str:
    """Return the key of a structure: 16 hex digits, equal for equal content in every process."""
    return hashlib.sha256(repr((num_qubits, steps)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Template:
    """A circuit's structure. ``key`` is its ``content_key``: equal structure, equal key."""

    key: str
    num_qubits: int
    steps: tuple[Step, ...]

    def __getstate__(self) -> dict[str, object]:
        """Pickle what cannot be derived: templates travel with every job."""
        return {"key": self.key, "num_qubits": self.num_qubits, "steps": self.steps}

    @cached_property
    def angle_count(self) -> int:
        """Number of angles that a circuit of this structure binds."""
        return sum(step.angle_count for step in self.steps if isinstance(step, MultiplexedRY))

    @cached_property
    def structure(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The gates (name, qubits) in order, without their angles."""
        return tuple(_structure(self.steps))

    @cached_property
    def two_qubit_gates(self) -> int:
        """Number of CX gates."""
        return sum(1 for name, _ in self.structure if name == "cx")

    def gate_angles(self, angles: Angles) -> Angles:
        """Return the RY angles of the lowered gates, (K, R), for the multiplexed angles (K, ``angle_count``).

        A multiplexor with k controls becomes 2^k RY with CX between them; the angles transform by
        M_ij = (-1)^(popcount(j & gray(i))) / 2^k (Mottonen et al., quant-ph/0404089, eq. 3).
        """
        columns = [
            angles[:, step.first_angle : step.first_angle + step.angle_count] @ _gray_transform(len(step.controls))
            for step in self.steps
            if isinstance(step, MultiplexedRY)
        ]
        return np.concatenate(columns, axis=1) if columns else np.empty((angles.shape[0], 0))

    def gates(self, angles: Angles) -> Iterator[list[Gate]]:
        """Yield the gate list of each circuit of (K, ``angle_count``) angles."""
        for row in self.gate_angles(angles):
            remaining = iter(row)
            yield [
                Gate(name, qubits, float(next(remaining)) if name == "ry" else 0.0) for name, qubits in self.structure
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
        if isinstance(step, CX):
            yield "cx", (step.control, step.target)
            continue
        for index in range(step.angle_count):
            yield "ry", (step.target,)
            if step.controls:
                yield "cx", (step.controls[_flipped_control(index, len(step.controls))], step.target)


def _flipped_control(index: int, count: int) -> int:
    """Return the control whose bit changes from Gray code ``index`` to the next; the last closes the cycle."""
    if index == (1 << count) - 1:
        return count - 1
    return ((index + 1) & -(index + 1)).bit_length() - 1


def _gray_transform(controls: int) -> Angles:
    """Return T with (multiplexed angles) @ T = (gate angles), shape (2^k, 2^k)."""
    size = 1 << controls
    index = np.arange(size)
    gray = index ^ (index >> 1)
    parity = np.bitwise_count(index[:, None] & gray[None, :]) & 1
    return np.asarray(np.where(parity, -1.0, 1.0) / size, dtype=np.float64)
