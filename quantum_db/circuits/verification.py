"""Checks of what comes back from a run, before anything is concluded from it.

Shape, range and sums are exact checks. Whether counts come from an expected distribution is a chi-square test with a
stated rate of false alarms; it is for backends that are meant to be ideal, because hardware noise fails it rightly.
What goes in is checked by ``quantum_db.circuits.simulator.check_limits``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.errors import JobFailed

Floats = NDArray[np.float64]

FALSE_ALARM: Final = 1e-4
MIN_EXPECTED: Final = 10.0
"""Outcomes with fewer expected shots are pooled; the tail of the chi-square law needs more than the usual 5."""

_IMPOSSIBLE: Final = 1e-12
"""Probabilities below this are rounding: an outcome that is seen all the same is a fault, not a fluctuation."""


def verify_probabilities(probabilities: Floats, num_qubits: int, tolerance: float = 1e-9) -> None:
    """Check a backend's probabilities: (K, 2^n), finite, not negative, each row of sum 1.

    Raises:
        JobFailed: naming the circuit and what is wrong with it.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != 1 << num_qubits:
        raise JobFailed(
            f"probabilities have shape {probabilities.shape}; {num_qubits} qubits need (K, {1 << num_qubits})"
        )
    for row, circuit in enumerate(probabilities):
        if not np.isfinite(circuit).all():
            raise JobFailed(f"circuit {row}: a probability is not finite")
        if circuit.min() < -tolerance:
            raise JobFailed(f"circuit {row}: a probability is negative, {circuit.min():g}")
        if abs(circuit.sum() - 1.0) > tolerance:
            raise JobFailed(f"circuit {row}: probabilities sum to {circuit.sum():.12g}")


def verify_counts(counts: Sequence[Mapping[int, int]], circuits: int, num_qubits: int, shots: int) -> None:
    """Check the counts of a job: one histogram for each circuit, outcomes below 2^n, numbers that sum to the shots.

    Raises:
        JobFailed: naming the circuit and what is wrong with it.
    """
    if len(counts) != circuits:
        raise JobFailed(f"{len(counts)} histograms came back for {circuits} circuits")
    for row, histogram in enumerate(counts):
        if sum(histogram.values()) == shots and _is_possible(histogram, num_qubits):
            continue
        for outcome, number in histogram.items():
            if not 0 <= outcome < 1 << num_qubits:
                raise JobFailed(f"circuit {row}: {outcome} is no outcome of {num_qubits} qubits")
            if number < 0:
                raise JobFailed(f"circuit {row}: outcome {outcome} was counted {number} times")
        raise JobFailed(f"circuit {row}: {sum(histogram.values())} shots came back of {shots}")


def _is_possible(histogram: Mapping[int, int], num_qubits: int) -> bool:
    return min(histogram) >= 0 and max(histogram) < 1 << num_qubits and min(histogram.values()) >= 0


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """Pearson's test of one histogram: the statistic, its degrees of freedom and the p-value."""

    statistic: float
    degrees: int
    p_value: float


def chi_square(counts: Mapping[int, int], expected: Floats) -> ChiSquare:
    """Return Pearson's test (Philos. Mag. 50, 157, 1900) of counts against the probabilities (2^n,) of a circuit.

    Outcomes with fewer than ``MIN_EXPECTED`` expected shots are pooled with their neighbours in size. An impossible
    outcome that was seen makes the p-value 0; where all outcomes fall into one cell it is 1.
    """
    observed = np.zeros(expected.shape)
    observed[list(counts)] = list(counts.values())
    if observed[expected < _IMPOSSIBLE].any():
        return ChiSquare(math.inf, 0, 0.0)
    order = np.argsort(expected, kind="stable")
    sizes = expected[order] * observed.sum()
    starts = _cells(sizes)
    sizes, seen = np.add.reduceat(sizes, starts), np.add.reduceat(observed[order], starts)
    degrees = len(sizes) - 1
    if degrees == 0:
        return ChiSquare(0.0, 0, 1.0)
    statistic = float(((seen - sizes) ** 2 / sizes).sum())
    return ChiSquare(statistic, degrees, chi_square_tail(statistic, degrees))


def _cells(sizes: Floats) -> list[int]:
    """Return where the cells start that ascending sizes are pooled into; each has at least ``MIN_EXPECTED``.

    A last pool that is too small joins the one before it.
    """
    starts, pooled = [0], 0.0
    for place, size in enumerate(sizes):
        if pooled >= MIN_EXPECTED:
            starts.append(place)
            pooled = 0.0
        pooled += float(size)
    if pooled < MIN_EXPECTED and len(starts) > 1:
        starts.pop()
    return starts


def verify_distribution(
    counts: Sequence[Mapping[int, int]], expected: Floats, false_alarm: float = FALSE_ALARM
) -> tuple[ChiSquare, ...]:
    """Check each circuit's counts against its expected probabilities, (K, 2^n); return the tests.

    A job of right counts is refused with a probability of about ``false_alarm`` at most: each of K circuits is tested
    at ``false_alarm / K`` (Bonferroni). The chi-square law is approximate: over 30,000 right runs of each of 15 kinds
    of distribution, alarms came at no more than 1.2 times a rate of 1e-2, 1.6 times one of 1e-3, and 4 times one of
    1e-4.

    Raises:
        JobFailed: naming the circuit that fits worst.
    """
    if len(counts) != len(expected):
        raise JobFailed(f"{len(counts)} histograms came back for {len(expected)} circuits")
    tests = tuple(chi_square(histogram, row) for histogram, row in zip(counts, expected, strict=True))
    worst = min(range(len(tests)), key=lambda row: tests[row].p_value)
    if tests[worst].p_value < false_alarm / len(tests):
        raise JobFailed(
            f"circuit {worst}: the counts do not come from its distribution (chi-square "
            f"{tests[worst].statistic:.4g}, {tests[worst].degrees} degrees of freedom, p = {tests[worst].p_value:.2g})"
        )
    return tests


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Return the probability that a chi-square variable with ``degrees`` >= 1 exceeds ``statistic``.

    A finite sum for every whole number of degrees (Abramowitz and Stegun, 26.4.4 and 26.4.5): with h half the
    statistic, sum h^a e^-h / Gamma(a + 1) over a = 0, 1, ... below degrees/2, or over a = 1/2, 3/2, ... plus
    erfc(sqrt(h)).
    """
    half = statistic / 2.0
    if half <= 0.0:
        return 1.0
    start = 0.5 if degrees % 2 else 0.0
    powers = (start + step for step in range(degrees // 2))
    total = sum(math.exp(a * math.log(half) - half - math.lgamma(a + 1.0)) for a in powers)
    return min(1.0, total + (math.erfc(math.sqrt(half)) if degrees % 2 else 0.0))
