"""Exact simulation of many circuits of one structure at a time, and the in-process backend made of it.

The state is real, (K, 2^n). A multiplexed rotation is one vectorised step instead of its 2^(k+1) gates; tests hold it
against the gates.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from quantum_db.circuits.template import CX, Angles, CircuitBatch, MultiplexedRY
from quantum_db.errors import InvalidCircuit
from quantum_db.ports import BackendLimits, BackendResult

State = NDArray[np.float64]


def simulate(batch: CircuitBatch) -> State:
    """Return the final amplitudes, (K, 2^n), each circuit starting from |0...0>."""
    qubits = batch.template.num_qubits
    state = np.zeros((len(batch), 1 << qubits))
    state[:, 0] = 1.0
    for step in batch.template.steps:
        if isinstance(step, CX):
            state = state[:, _cx_order(qubits, step.control, step.target)]
        else:
            angles = batch.angles[:, step.first_angle : step.first_angle + step.angle_count]
            _rotate(state, qubits, step, angles)
    return state


def probabilities(batch: CircuitBatch) -> State:
    """Return the outcome probabilities, (K, 2^n); rows sum to 1."""
    squared = simulate(batch) ** 2
    squared /= squared.sum(axis=1, keepdims=True)
    return squared


def _rotate(state: State, qubits: int, step: MultiplexedRY, angles: Angles) -> None:
    """Apply a multiplexed RY to ``state`` in place."""
    rows = state.shape[0]
    pairs = state.reshape(rows, 1 << (qubits - 1 - step.target), 2, 1 << step.target)
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
    """The backend ``simulator``: exact probabilities of the bound circuits, then shots drawn from them. Free."""

    name = "simulator"

    def __init__(self, rng: np.random.Generator, max_qubits: int = 12) -> None:
        self._rng = rng
        self.limits = BackendLimits(
            max_qubits=max_qubits, max_circuits=5_000, max_gates=50_000_000, max_shots=1_000_000_000
        )

    def run(self, batch: CircuitBatch, shots: int, *, job_key: str, timeout_s: float) -> BackendResult:  # noqa: ARG002
        """Run the batch; see ``QuantumBackend.run``. It ends by itself within its limits, so no timeout is needed."""
        check_limits(self.name, self.limits, batch, shots)
        drawn = self._rng.multinomial(shots, probabilities(batch))
        counts = tuple({int(outcome): int(row[outcome]) for outcome in np.flatnonzero(row)} for row in drawn)
        return BackendResult(counts=counts, provenance="simulated shots", backend=self.name, cost_usd=0.0)


def check_limits(name: str, limits: BackendLimits, batch: CircuitBatch, shots: int) -> None:
    """Raise InvalidCircuit if the batch is outside of what backend ``name`` accepts in one job."""
    template = batch.template
    asked = (
        ("qubits", template.num_qubits, limits.max_qubits),
        ("circuits", len(batch), limits.max_circuits),
        ("gates", len(batch) * len(template.structure), limits.max_gates),
        ("shots", shots, limits.max_shots),
    )
    for what, value, limit in asked:
        if value > limit:
            raise InvalidCircuit(f"{value} {what} in one job, and {name} takes {limit}")
    if shots < 1 or len(batch) < 1:
        raise InvalidCircuit(f"a job needs at least one circuit and one shot, not {len(batch)} and {shots}")
