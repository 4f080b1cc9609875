"""Amplitude estimation of an overlap without phase estimation: the error falls with the preparations, not their root.

With A the overlap circuit and F = |<0|A|0>|^2 = sin^2(theta), the Grover iterate Q = -A S_0 A^dagger S_0,
S_0 = 1 - 2|0><0|, turns by 2 theta, so after m iterates P(0) = sin^2((2m + 1) theta). Counts at several m give theta by
maximum likelihood (Suzuki et al., Quantum Inf. Process. 19 (2020) 75). A circuit with m iterates prepares 2m + 1 times.
Depolarising noise damps the signal exponentially in m, which ends the gain (Tanaka et al., Quantum Inf. Process. 20
(2021) 293).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from quantum_db.circuits.overlap import overlap_template
from quantum_db.circuits.statistics import z_value
from quantum_db.circuits.template import CircuitBatch, MultiplexedRY, Template, content_key
from quantum_db.errors import InvalidCircuit

Array = NDArray[np.float64]

_COARSE = 64
"""Grid points for each half oscillation of the fastest circuit; the likelihood is smooth between them."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which circuits run: ``powers`` (Grover iterates m) with ``shots`` shots each.

    Raises ValueError unless the powers grow from 0 on and there is a shot.
    """

    powers: tuple[int, ...]
    shots: int

    def __post_init__(self) -> None:
        if not self.powers or self.powers[0] != 0 or any(b <= a for a, b in pairwise(self.powers)):
            raise ValueError("powers start at 0 and grow; without 0 the angle is ambiguous")
        if self.shots < 1:
            raise ValueError("a schedule needs at least one shot")

    @property
    def preparations(self) -> int:
        """Uses of the overlap circuit or its inverse, for one overlap."""
        return self.shots * sum(2 * power + 1 for power in self.powers)


@dataclass(frozen=True, slots=True)
class Survival:
    """Known depolarising noise: the chance that one use of a part is not depolarised, each in (0, 1].

    Attributes:
        overlap: of one overlap circuit.
        reflection: of one S_0.
        num_qubits: measured; what was depolarised is uniform over their outcomes.
    """

    overlap: float = 1.0
    reflection: float = 1.0
    num_qubits: int = 1

    def kept(self, power: int) -> float:
        """Return the survival of the circuit with ``power`` iterates: 2m + 1 overlaps and 2m reflections."""
        return float(self.overlap ** (2 * power + 1) * self.reflection ** (2 * power))


NOISELESS = Survival()


def exponential_schedule(longest: int, shots: int) -> Schedule:
    """Return powers 0, 1, 2, 4, ... up to ``longest``: the schedule whose error falls like 1 / preparations."""
    powers = [0]
    while (following := max(1, 2 * powers[-1])) <= longest:
        powers.append(following)
    return Schedule(tuple(powers), shots)


def grover_probability(fidelity: Array | float, power: int, noise: Survival = NOISELESS) -> Array:
    """Return P(all zero) after ``power`` iterates: s sin^2((2m + 1) theta) + (1 - s) / 2^n with s = noise.kept(m).

    Args:
        fidelity: the overlap F in [0, 1].
    """
    theta = np.arcsin(np.sqrt(np.clip(fidelity, 0.0, 1.0)))
    kept = noise.kept(power)
    return np.asarray(kept * np.sin((2 * power + 1) * theta) ** 2 + (1.0 - kept) / (1 << noise.num_qubits))


def iterated_amplitudes(query: Array, candidates: Array, power: int) -> Array:
    """Return <q| Q^m |v>, (K,), by real reflections: Q = (2|v><v| - 1)(1 - 2|q><q|). Its square is P(all zero).

    Args:
        query: (D,) unit vector.
        candidates: (K, D) unit vectors.
    """
    state = candidates.copy()
    for _ in range(power):
        state -= 2.0 * (state @ query)[:, None] * query
        state = 2.0 * np.einsum("kd,kd->k", state, candidates)[:, None] * candidates - state
    return np.asarray(state @ query)


def grover_template(num_qubits: int, power: int) -> Template:
    """Return the circuit A (S_0 A^dagger S_0 A)^m on ``num_qubits`` + 1 qubits.

    S_0 is a rotation by 2 pi of an ancilla (the top qubit, which stays 0) where all others are 0: real, and 2^n CX.
    """
    forward = overlap_template(num_qubits).steps
    kinds = [(step.target, step.controls) for step in forward if isinstance(step, MultiplexedRY)]
    flip = (num_qubits, tuple(range(num_qubits)))
    order = kinds + [*[flip], *reversed(kinds), *[flip], *kinds] * power
    steps, first_angle = [], 0
    for target, controls in order:
        steps.append(MultiplexedRY(target, controls, first_angle))
        first_angle += 1 << len(controls)
    return Template(content_key(num_qubits + 1, tuple(steps)), num_qubits + 1, tuple(steps))


def grover_circuits(overlaps: CircuitBatch, template: Template, power: int) -> CircuitBatch:
    """Bind ``grover_template(n, power)`` for each of K overlap circuits of n qubits.

    Raises InvalidCircuit when the template is for another size.
    """
    if template.num_qubits != overlaps.template.num_qubits + 1:
        raise InvalidCircuit(
            f"a template on {template.num_qubits} qubits does not fit {overlaps.template.num_qubits}+1"
        )
    blocks = [
        overlaps.angles[:, step.first_angle : step.first_angle + step.angle_count]
        for step in overlaps.template.steps
        if isinstance(step, MultiplexedRY)
    ]
    flip = np.zeros((len(overlaps), 1 << overlaps.template.num_qubits))
    flip[:, 0] = 2.0 * np.pi
    iterate = [flip, *[-block for block in reversed(blocks)], flip, *blocks]
    return CircuitBatch(template, np.concatenate(blocks + iterate * power, axis=1))


def grover_two_qubit_gates(num_qubits: int, power: int) -> int:
    """Return the CX of ``grover_template``: (2m + 1) overlaps and 2m reflections of 2^n CX."""
    return (2 * power + 1) * overlap_template(num_qubits).two_qubit_gates + 2 * power * (1 << num_qubits)


@dataclass(frozen=True, slots=True, eq=False)
class AmplitudeEstimates:
    """Fidelities (K,) with the ends of their intervals at ``confidence``."""

    fidelities: Array
    low: Array
    high: Array
    confidence: float


def estimate_amplitudes(
    successes: NDArray[np.integer],
    schedule: Schedule,
    *,
    confidence: float = 0.95,
    noise: Survival = NOISELESS,
) -> AmplitudeEstimates:
    """Return the maximum-likelihood fidelities of K overlaps, with likelihood-ratio intervals (hull of the set).

    Args:
        successes: (K, M) all-zero counts for the M powers of the schedule.
        noise: what the machine is known to do; wrong figures here give wrong intervals.

    Raises:
        ValueError: the counts do not fit the schedule.
    """
    counts = np.asarray(successes, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[1] != len(schedule.powers):
        raise ValueError(f"counts have shape {counts.shape}; the schedule has {len(schedule.powers)} powers")
    if counts.min() < 0 or counts.max() > schedule.shots:
        raise ValueError(f"a count lies outside of 0 to {schedule.shots}")
    finest = max(schedule.powers) * 2 + 1
    points = _COARSE * finest * max(1, int(np.sqrt(schedule.shots / 16)))
    theta = (np.arange(points) + 0.5) * (np.pi / 2.0 / points)
    likelihood = np.zeros((counts.shape[0], points))
    for column, power in enumerate(schedule.powers):
        model = grover_probability(np.sin(theta) ** 2, power, noise)
        model = np.clip(model, 1e-15, 1.0 - 1e-15)
        hits = counts[:, column : column + 1]
        likelihood += hits * np.log(model) + (schedule.shots - hits) * np.log1p(-model)
    best = likelihood.argmax(axis=1)
    floor = likelihood.max(axis=1) - z_value(confidence) ** 2 / 2.0  # Wilks: twice the ratio is chi-square, 1 degree
    inside = likelihood >= floor[:, None]
    first = inside.argmax(axis=1)
    last = points - 1 - inside[:, ::-1].argmax(axis=1)
    step = np.pi / 4.0 / points
    return AmplitudeEstimates(
        np.sin(theta[best]) ** 2, np.sin(theta[first] - step) ** 2, np.sin(theta[last] + step) ** 2, confidence
    )


def standard_error(fidelity: float, schedule: Schedule, noise: Survival = NOISELESS) -> float:
    """Return the Cramer-Rao bound of the fidelity's error: 1 / sqrt(Fisher information), which large shots reach.

    I(F) = sum over m of shots (dP/dF)^2 / (P (1 - P)), dP/dF = s (2m+1) sin(2 (2m+1) theta) / sin(2 theta).
    """
    theta = float(np.arcsin(np.sqrt(np.clip(fidelity, 1e-12, 1.0 - 1e-12))))
    information = 0.0
    for power in schedule.powers:
        turns = 2 * power + 1
        p = float(np.clip(grover_probability(fidelity, power, noise), 1e-12, 1.0 - 1e-12))
        slope = noise.kept(power) * turns * np.sin(2 * turns * theta) / np.sin(2 * theta)
        information += schedule.shots * slope**2 / (p * (1.0 - p))
    return float(1.0 / np.sqrt(information)) if information > 0.0 else float("inf")
