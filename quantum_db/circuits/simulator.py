"""Exact simulation of many circuits of one structure at a time, and the in-process backend made of it.

The state is (K, 2^n), real where all steps are. A multiplexed rotation is one vectorised step instead of its 2^(k+1)
gates, and so is a run of RZ and RZZ; tests hold both against the gates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantum_db.backend_ports import BackendLimits, BackendResult
from quantum_db.circuits.template import CX, Angles, CircuitBatch, H, MultiplexedRY, Rotation, Step
from quantum_db.errors import InvalidCircuit

State = NDArray[Any]
"""Amplitudes, (K, 2^n): float64 where the template is real, else complex128."""

_HALF_SQRT = np.sqrt(0.5)


def simulate(batch: CircuitBatch) -> State:
    """Return the final amplitudes, (K, 2^n), each circuit starting from |0...0>.

    They are float64 where all steps are real (``Template.is_real``), else complex128.
    """
    qubits = batch.template.num_qubits
    state: State = np.zeros((len(batch), 1 << qubits), dtype=np.float64 if batch.template.is_real else np.complex128)
    state[:, 0] = 1.0
    for run in _runs(batch.template.steps):
        step = run[0]
        if isinstance(step, CX):
            state = np.take(state, _cx_order(qubits, step.control, step.target), axis=1)
        elif isinstance(step, H):
            _hadamard(state, step.target)
        elif isinstance(step, MultiplexedRY):
            _rotate(state, qubits, step, batch.angles[:, step.first_angle : step.first_angle + step.angle_count])
        elif step.name == "rx":
            _rotate_x(state, step.qubits[0], batch.angles[:, step.first_angle])
        else:
            columns = [part.first_angle for part in run if isinstance(part, Rotation)]
            half_phase = batch.angles[:, columns] @ _signs(qubits, tuple(part.qubits for part in run))
            state *= np.exp(-0.5j * half_phase)
    return state


def probabilities(batch: CircuitBatch) -> NDArray[np.float64]:
    """Return the outcome probabilities, (K, 2^n) float64; rows sum to 1."""
    state = simulate(batch)
    squared = state**2 if batch.template.is_real else state.real**2 + state.imag**2
    squared /= squared.sum(axis=1, keepdims=True)
    return np.asarray(squared, dtype=np.float64)


def _runs(steps: tuple[Step, ...]) -> Iterator[list[Step]]:
    """Yield the steps in order: neighbouring RZ and RZZ together, because diagonals multiply; others alone."""
    for diagonal, run in groupby(steps, lambda step: isinstance(step, Rotation) and step.name != "rx"):
        if diagonal:
            yield list(run)
        else:
            yield from ([step] for step in run)


def _pairs(state: State, target: int) -> State:
    """Return a view of ``state`` with the bit of ``target`` as an axis: (K, upper, 2, lower)."""
    return state.reshape(state.shape[0], -1, 2, 1 << target)


def _hadamard(state: State, target: int) -> None:
    """Apply H to ``state`` in place."""
    pairs = _pairs(state, target)
    total = (pairs[:, :, 0] + pairs[:, :, 1]) * _HALF_SQRT
    pairs[:, :, 1] = (pairs[:, :, 0] - pairs[:, :, 1]) * _HALF_SQRT
    pairs[:, :, 0] = total


def _rotate_x(state: State, target: int, angles: Angles) -> None:
    """Apply RX by each circuit's angle, (K,), to ``state`` in place."""
    pairs = _pairs(state, target)
    cosine, sine = np.cos(angles / 2.0)[:, None, None], -1j * np.sin(angles / 2.0)[:, None, None]
    turned = cosine * pairs[:, :, 0] + sine * pairs[:, :, 1]
    pairs[:, :, 1] = sine * pairs[:, :, 0] + cosine * pairs[:, :, 1]
    pairs[:, :, 0] = turned


@lru_cache(maxsize=16)
def _signs(qubits: int, parities: tuple[tuple[int, ...], ...]) -> Angles:
    """Return the eigenvalue of each product of Z in each basis state, (len(parities), 2^n)."""
    basis = np.arange(1 << qubits)
    masks = np.array([sum(1 << qubit for qubit in touched) for touched in parities])
    return np.asarray(1.0 - 2.0 * (np.bitwise_count(basis[None, :] & masks[:, None]) & 1), dtype=np.float64)


def _rotate(state: State, qubits: int, step: MultiplexedRY, angles: Angles) -> None:
    """Apply a multiplexed RY to ``state`` in place."""
    pairs = _pairs(state, step.target)
    half = angles / 2.0
    if step.controls == tuple(range(step.target + 1, qubits)):  # the pattern is the index of the upper qubits
        cosine, sine = np.cos(half)[:, :, None], np.sin(half)[:, :, None]
    else:
        pattern = _pattern(qubits, step.target, step.controls)
        cosine, sine = np.cos(half)[:, pattern], np.sin(half)[:, pattern]
    zero, one = pairs[:, :, 0], pairs[:, :, 1]
    turned = cosine * zero - sine * one
    pairs[:, :, 1] = sine * zero + cosine * one
    pairs[:, :, 0] = turned


@lru_cache(maxsize=1024)
def _pattern(qubits: int, target: int, controls: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the control pattern of each pair of basis states, (upper, lower) as ``_rotate`` lays them out."""
    upper = np.arange(1 << (qubits - 1 - target))[:, None] << (target + 1)
    basis = upper | np.arange(1 << target)[None, :]
    pattern = np.zeros_like(basis)
    for position, control in enumerate(controls):
        pattern |= ((basis >> control) & 1) << position
    return pattern


@lru_cache(maxsize=1024)
def _cx_order(qubits: int, control: int, target: int) -> NDArray[np.intp]:
    basis = np.arange(1 << qubits)
    return basis ^ (((basis >> control) & 1) << target)


class SimulatorBackend:
    """Simulates in process: exact probabilities of the bound circuits, then shots drawn from them. Free."""

    def __init__(self, rng: np.random.Generator, max_qubits: int = 12, name: str = "simulator") -> None:
        self.name = name
        self._rng = rng
        self.limits = BackendLimits(
            max_qubits=max_qubits, max_circuits=5_000, max_gates=50_000_000, max_shots=1_000_000_000
        )

    def run(self, batch: CircuitBatch, shots: int, *, job_key: str, timeout_s: float) -> BackendResult:  # noqa: ARG002
        """Run the batch; see ``QuantumBackend.run``. It ends by itself within its limits, so no timeout is needed."""
        check_limits(self.name, self.limits, [batch], shots)
        counts = histograms(self._rng.multinomial(shots, probabilities(batch)))
        return BackendResult(counts=counts, provenance="simulated shots", backend=self.name, cost_usd=0.0)


def histograms(drawn: NDArray[np.int64]) -> tuple[dict[int, int], ...]:
    """Return of each row of counts, (K, 2^n), the outcomes that came and how often."""
    rows, outcomes = np.nonzero(drawn)
    numbers, seen = drawn[rows, outcomes].tolist(), outcomes.tolist()
    ends = np.searchsorted(rows, np.arange(1, len(drawn) + 1)).tolist()
    return tuple(
        dict(zip(seen[start:end], numbers[start:end], strict=True))
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    )


def check_limits(name: str, limits: BackendLimits, parts: Sequence[CircuitBatch], shots: int) -> None:
    """Raise InvalidCircuit if the circuits of all parts are outside of what backend ``name`` accepts in one job."""
    circuits = sum(map(len, parts))
    if shots < 1 or circuits < 1:
        raise InvalidCircuit(f"a job needs at least one circuit and one shot, not {circuits} and {shots}")
    asked = (
        ("qubits", max(part.template.num_qubits for part in parts), limits.max_qubits),
        ("circuits", circuits, limits.max_circuits),
        ("gates", sum(len(part) * len(part.template.structure) for part in parts), limits.max_gates),
        ("shots", shots, limits.max_shots),
    )
    for what, value, limit in asked:
        if value > limit:
            raise InvalidCircuit(f"{value} {what} in one job, and {name} takes {limit}")
