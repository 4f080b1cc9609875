"""Error mitigation: undo readout errors by calibration, extrapolate gate noise to zero, or divide it out.

All functions are pure: they build circuits, which any backend runs, and turn what was read into estimates with
standard errors. Mitigation trades bias for variance. It pays only where the bias that it removes exceeds the noise
that it adds, and the standard errors here are what tells.

A compiler that cancels neighbouring inverse gates undoes folding. IonQ's may do so for circuits in the QIS gate set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from quantum_db.circuits.noise import NoiseModel, apply_to_each_qubit
from quantum_db.circuits.template import (
    CX,
    ROTATION_GATES,
    CircuitBatch,
    H,
    MultiplexedRY,
    Rotation,
    RotationName,
    Step,
    Template,
    content_key,
)
from quantum_db.errors import InvalidCircuit, InvalidRequest

Array = NDArray[np.float64]
Extrapolation = Literal["linear", "richardson", "exponential"]

_SIGNAL: Final = 2.0
"""The exponential fit takes logarithms only of what is this many standard errors above the mixed state's share."""

_ROTATION_NAMES: Final[Mapping[str, RotationName]] = {"rx": "rx", "rz": "rz", "rzz": "rzz"}


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Estimates and their standard errors, arrays of one shape. Estimates may lie outside of [0, 1]."""

    values: Array
    standard_errors: Array


@dataclass(frozen=True, slots=True, eq=False)
class ReadoutCalibration:
    """How often each qubit is read wrong.

    Attributes:
        flips: (n, 2): the probabilities to read 1 for a right 0, and 0 for a right 1.
        variances: (n, 2), of ``flips``; zero where they are known.
    """

    flips: Array
    variances: Array

    @classmethod
    def of_model(cls, noise: NoiseModel, num_qubits: int) -> ReadoutCalibration:
        """Return the calibration that a noise model stands for."""
        flips = np.tile([noise.one_given_zero, noise.zero_given_one], (num_qubits, 1))
        return cls(flips, np.zeros_like(flips))

    @classmethod
    def measured(cls, zeros_and_ones: Sequence[Mapping[int, int]], num_qubits: int) -> ReadoutCalibration:
        """Return the calibration from the counts of ``calibration_circuits``.

        The share of wrong values is taken as (k + 1/2) / (S + 1), so that its variance is not zero where k is
        (Jeffreys' prior).

        Raises InvalidRequest without counts of two circuits.
        """
        if len(zeros_and_ones) != 2 or not all(zeros_and_ones):
            raise InvalidRequest("a calibration needs the counts of two circuits")
        shots = np.array([sum(counts.values()) for counts in zeros_and_ones], dtype=np.float64)
        shares = frequencies(zeros_and_ones, num_qubits)
        ones = ((np.arange(1 << num_qubits)[:, None] >> np.arange(num_qubits)) & 1).astype(np.float64)
        wrong = np.stack([shares[0] @ ones, 1.0 - shares[1] @ ones], axis=1) * shots
        flips = (wrong + 0.5) / (shots + 1.0)
        return cls(flips, flips * (1.0 - flips) / (shots + 1.0))

    def inverses(self) -> Array:
        """Return the inverse confusion matrices, (n, 2, 2). Raises InvalidRequest if a readout tells nothing."""
        p, q = self.flips[:, 0], self.flips[:, 1]
        determinant = 1.0 - p - q
        if (determinant <= 0.0).any():
            raise InvalidRequest("a qubit is read wrong at least half of the time; its readout cannot be inverted")
        rows = np.array([[1.0 - q, -q], [-p, 1.0 - p]]) / determinant
        return np.ascontiguousarray(np.moveaxis(rows, -1, 0))


def calibration_circuits(num_qubits: int) -> CircuitBatch:
    """Return the two circuits that prepare |0...0> and |1...1>, by RY of 0 and pi on each qubit.

    Two suffice because readout errors are taken as independent between qubits (tensored calibration: Bravyi et al.,
    Phys. Rev. A 103 (2021) 042605). The error of the RY itself counts as readout error.
    """
    steps = tuple(MultiplexedRY(qubit, (), qubit) for qubit in range(num_qubits))
    template = Template(content_key(num_qubits, steps), num_qubits, steps)
    return CircuitBatch(template, np.outer([0.0, np.pi], np.ones(num_qubits)))


def frequencies(counts: Sequence[Mapping[int, int]], num_qubits: int) -> Array:
    """Return the share of each outcome, (K, 2^n)."""
    shares = np.zeros((len(counts), 1 << num_qubits))
    for row, found in zip(shares, counts, strict=True):
        row[list(found)] = list(found.values())
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def mitigate_readout(shares: Array, shots: int, calibration: ReadoutCalibration) -> Estimate:
    """Return the outcome shares without readout errors, (K, 2^n): sums to 1, but elements may be negative.

    The inverse confusion matrices are applied qubit by qubit. To first order the variance is that of the shots, with
    ``A`` the inverse, ``((A o A) f - (A f)^2) / S``, and that of the calibration, by ``dA = -A dM A`` for each flip.
    All circuits share the latter, so it correlates their errors.

    Args:
        shares: (K, 2^n) observed frequencies.
        shots: of each circuit.
        calibration: of the n qubits.
    """
    inverses = calibration.inverses()
    values = apply_to_each_qubit(shares, inverses)
    variance = (apply_to_each_qubit(shares, inverses**2) - values**2).clip(0.0) / shots
    for qubit, kind in zip(*np.nonzero(calibration.variances), strict=True):
        change = np.zeros((2, 2))
        change[:, kind] = (-1.0, 1.0) if kind == 0 else (1.0, -1.0)
        one = np.tile(np.eye(2), (inverses.shape[0], 1, 1))
        one[qubit] = inverses[qubit] @ change
        variance += apply_to_each_qubit(values, one) ** 2 * calibration.variances[qubit, kind]
    return Estimate(values, np.sqrt(variance))


def nearest_distribution(values: Array) -> Array:
    """Return the probability distribution nearest to each row, (K, N), by Euclidean distance.

    Smolin, Gambetta, Smith, Phys. Rev. Lett. 108 (2012) 070502. Projecting never increases the distance to the true
    distribution, but it moves small estimates up: single outcomes are no longer unbiased.
    """
    falling = -np.sort(-values, axis=1)
    excess = (np.cumsum(falling, axis=1) - 1.0) / np.arange(1, values.shape[1] + 1)
    kept = (falling > excess).sum(axis=1)
    shift = np.take_along_axis(excess, kept[:, None] - 1, axis=1)
    return np.asarray((values - shift).clip(0.0), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """Circuits with more noise and the same meaning; ``scale`` is how many times the two-qubit gates they have."""

    batch: CircuitBatch
    scale: float


def fold(batch: CircuitBatch, scale: float) -> Folded:
    """Replace gates G by G G^-1 G until there are about ``scale`` times as many, one- and two-qubit gates alike.

    Local unitary folding (Giurgica-Tiron et al., arXiv:2005.10921). Depolarising noise commutes with its gate, so an
    odd scale multiplies the exponent of all gate noise exactly. Between odd scales the folded gates are spread evenly.

    Raises InvalidCircuit if ``scale`` is below 1.
    """
    if not 1.0 <= scale < np.inf:
        raise InvalidCircuit(f"circuits are folded by a scale of at least 1, not {scale}")
    structure = batch.template.structure
    extra = _extra_pairs(structure, scale)
    column_of = np.cumsum([name in ROTATION_GATES for name, _ in structure]) - 1
    steps: list[Step] = []
    columns: list[int] = []
    signs: list[float] = []
    for (name, qubits), pairs, column in zip(structure, extra, column_of, strict=True):
        for copy in range(1 + 2 * pairs):
            steps.append(_step(name, qubits, len(columns)))
            if name in ROTATION_GATES:
                columns.append(int(column))
                signs.append(-1.0 if copy % 2 else 1.0)
    angles = batch.template.gate_angles(batch.angles)[:, columns] * np.array(signs)
    key = content_key(batch.template.num_qubits, tuple(steps))
    folded = CircuitBatch(Template(key, batch.template.num_qubits, tuple(steps)), angles)
    counted = [pairs for (_, qubits), pairs in zip(structure, extra, strict=True) if len(qubits) == 2] or extra
    return Folded(folded, 1.0 + 2.0 * sum(counted) / len(counted) if counted else 1.0)


def _extra_pairs(structure: Sequence[tuple[str, tuple[int, ...]]], scale: float) -> list[int]:
    """Return how many pairs G^-1 G follow each gate: even over the gates on one and over those on two qubits."""
    totals = {width: sum(len(qubits) == width for _, qubits in structure) for width in (1, 2)}
    pairs = {width: round((scale - 1.0) / 2.0 * total) for width, total in totals.items()}
    seen = {1: 0, 2: 0}
    extra = []
    for _, qubits in structure:
        width = len(qubits)
        done = seen[width] * pairs[width] // totals[width]
        seen[width] += 1
        extra.append(seen[width] * pairs[width] // totals[width] - done)
    return extra


def _step(name: str, qubits: tuple[int, ...], first_angle: int) -> Step:
    if name == "cx":
        return CX(*qubits)
    if name == "h":
        return H(*qubits)
    return (
        MultiplexedRY(qubits[0], (), first_angle)
        if name == "ry"
        else Rotation(_ROTATION_NAMES[name], qubits, first_angle)
    )


def weights_at_zero(scales: Sequence[float], method: Extrapolation) -> Array:
    """Return w with sum w_i y_i the value at scale 0, (S,): of the line of least squares, or of the polynomial.

    ``richardson`` is exact for polynomials of degree S - 1, with w_i = prod over j != i of s_j / (s_j - s_i).
    The exponential fit is a line through logarithms.

    Raises InvalidRequest with fewer than two distinct scales.
    """
    at = np.asarray(scales, dtype=np.float64)
    if len(np.unique(at)) < max(2, len(at)):
        raise InvalidRequest("an extrapolation needs at least two scales, all distinct")
    degree = len(at) - 1 if method == "richardson" else 1
    return np.asarray(np.linalg.pinv(np.vander(at, degree + 1, increasing=True))[0], dtype=np.float64)


def shot_shares(scales: Sequence[float], method: Extrapolation) -> Array:
    """Return the share of all shots for each scale, (S,), that makes the variance at zero least.

    For equal variances of a shot: sum w_i^2 / n_i under sum n_i = n is least for n_i in proportion to abs(w_i).
    """
    sizes = np.abs(weights_at_zero(scales, method))
    return np.asarray(sizes / sizes.sum(), dtype=np.float64)


def extrapolate(
    scales: Sequence[float], values: Array, standard_errors: Array, method: Extrapolation, mixed: float = 0.0
) -> Estimate:
    """Return the values at zero noise, (K,).

    ``exponential`` fits mixed + a exp(-b scale) by a line through log(value - mixed), with the delta method for its
    standard error. A circuit whose signal is below two standard errors at some scale has no usable logarithm; it is
    extrapolated by the line through its values instead.

    Args:
        scales: (S,) distinct noise scales, like 1 and 3.
        values: (S, K) estimates at each scale.
        standard_errors: (S, K), independent between scales.
        method: the curve.
        mixed: what the value tends to under full noise: 2^-n for the share of one outcome.
    """
    weights = weights_at_zero(scales, method)
    straight = Estimate(weights @ values, np.sqrt(weights**2 @ standard_errors**2))
    if method != "exponential":
        return straight
    signal = values - mixed
    usable = (signal > _SIGNAL * standard_errors).all(axis=0)
    safe = np.where(usable, signal, 1.0)
    amplitude = np.exp(weights @ np.log(safe))
    spread = amplitude * np.sqrt(weights**2 @ (standard_errors / safe) ** 2)
    return Estimate(
        np.where(usable, mixed + amplitude, straight.values), np.where(usable, spread, straight.standard_errors)
    )


def divide_out(measured: Estimate, survival: float, mixed: float, survival_error: float = 0.0) -> Estimate:
    """Return (p - (1 - s) mixed) / s: the value before global depolarising noise that a share s survives.

    Vovrosh et al., Phys. Rev. E 104 (2021) 035309. The survival is from a noise model (``NoiseModel.survival``), or
    from a circuit whose value is known (``survival_of_reference``). Order is kept: this cannot change a ranking.

    Args:
        measured: any shape.
        survival: s.
        mixed: what the value tends to under full noise: 2^-n for the share of one outcome.
        survival_error: standard error of s, to first order; it is shared by all values.

    Raises InvalidRequest unless ``survival`` is in (0, 1].
    """
    if not 0.0 < survival <= 1.0:
        raise InvalidRequest(f"a survival is above 0 and at most 1, not {survival}")
    values = (measured.values - (1.0 - survival) * mixed) / survival
    errors = np.hypot(measured.standard_errors, (values - mixed) * survival_error) / survival
    return Estimate(values, np.asarray(errors, dtype=np.float64))


def survival_of_reference(share: float, shots: int, mixed: float, known: float = 1.0) -> tuple[float, float]:
    """Return the survival that a circuit of known value shows, cut to at most 1, and its standard error.

    The reference for overlap circuits is the query's overlap with itself: the same structure, and 1 without noise
    (noise-estimation circuits: Urbanek et al., Phys. Rev. Lett. 127 (2021) 270502). It covers readout errors too. A
    compiler that cancels inverse gates undoes it, as it undoes folding; the overlap with another vector, whose value is
    known from their inner product, it does not.

    Args:
        share: what was measured where ``known`` was right.
        shots: of that circuit.
        mixed: what the value tends to under full noise.
        known: the value without noise; not ``mixed``.
    """
    scale = known - mixed
    error = np.sqrt(share * (1.0 - share) / shots) / abs(scale)
    return min(1.0, (share - mixed) / scale), float(error)
