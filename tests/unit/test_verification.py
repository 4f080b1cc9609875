"""Verification after a run: right results pass at the stated rate, and each planted fault is caught."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_db.circuits.entanglement import correlation_circuit
from quantum_db.circuits.simulator import SimulatorBackend, probabilities
from quantum_db.circuits.verification import (
    chi_square,
    chi_square_tail,
    verify_counts,
    verify_distribution,
    verify_probabilities,
)
from quantum_db.errors import JobFailed


def test_a_right_run_passes_every_check() -> None:
    batch = correlation_circuit(4, 0.6)
    expected = probabilities(batch)
    counts = SimulatorBackend(np.random.default_rng(1)).run(batch, 5_000, job_key="k", timeout_s=1.0).counts
    verify_probabilities(expected, 4)
    verify_counts(counts, 1, 4, 5_000)
    (test,) = verify_distribution(counts, expected)
    assert test.p_value > 1e-4


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (np.full((1, 4), 0.25), "have shape"),
        (np.full(8, 0.125), "have shape"),
        (np.full((2, 8), 0.12), "circuit 0: probabilities sum to 0.96"),
        (np.array([[0.125] * 8, [np.nan] + [0.125] * 7]), "circuit 1: a probability is not finite"),
        (np.array([[1.1, -0.1] + [0.0] * 6]), "circuit 0: a probability is negative"),
    ],
)
def test_wrong_probabilities_are_caught(broken: np.ndarray, message: str) -> None:
    with pytest.raises(JobFailed, match=message):
        verify_probabilities(broken, 3)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([{0: 10}], "1 histograms came back for 2"),
        ([{0: 10}, {0: 9}], "circuit 1: 9 shots came back of 10"),
        ([{0: 10}, {}], "circuit 1: 0 shots"),
        ([{4: 10}, {0: 10}], "circuit 0: 4 is no outcome of 2 qubits"),
        ([{-1: 10}, {0: 10}], "circuit 0: -1 is no outcome"),
        ([{0: 11, 1: -1}, {0: 10}], "circuit 0: outcome 1 was counted -1 times"),
    ],
)
def test_wrong_counts_are_caught(counts: list[dict[int, int]], message: str) -> None:
    with pytest.raises(JobFailed, match=message):
        verify_counts(counts, 2, 2, 10)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 64, 255, 4095])
def test_the_tail_is_that_of_sums_of_squares(degrees: int) -> None:
    """Against numerical integration of the density, and against itself where closed forms exist."""
    for factor in (0.5, 1.0, 1.3):
        x = factor * degrees
        grid = np.linspace(x, x + 40 * math.sqrt(2 * degrees) + 60, 400_001)
        density = np.exp(
            (degrees / 2 - 1) * np.log(grid) - grid / 2 - degrees / 2 * math.log(2) - math.lgamma(degrees / 2)
        )
        assert chi_square_tail(x, degrees) == pytest.approx(float(np.trapezoid(density, grid)), rel=1e-5, abs=1e-12)
    assert chi_square_tail(0.0, degrees) == 1.0
    assert chi_square_tail(3.8414588, 1) == pytest.approx(0.05)
    assert chi_square_tail(5.0, 2) == pytest.approx(math.exp(-2.5))


@given(degrees=st.integers(1, 500), x=st.floats(0, 2000), more=st.floats(0, 100))
def test_the_tail_is_a_probability_that_falls(degrees: int, x: float, more: float) -> None:
    assert 0.0 <= chi_square_tail(x + more, degrees) <= chi_square_tail(x, degrees) + 1e-12 <= 1.0 + 1e-12


@pytest.mark.parametrize(("outcomes", "shots"), [(4, 200), (64, 2_000), (256, 1_000)])
@pytest.mark.parametrize("shape", ["even", "steep"])
def test_false_alarms_are_as_rare_as_stated(outcomes: int, shots: int, shape: str) -> None:
    """4,000 right runs: alarms at 1% and 0.2% stay below twice the rate (6 and 3 standard deviations)."""
    rng = np.random.default_rng([outcomes, shots, len(shape)])
    row = np.ones(outcomes) if shape == "even" else 1.0 / np.arange(1, outcomes + 1) ** 1.5
    row /= row.sum()
    p_values = np.array(
        [
            chi_square({o: int(n) for o, n in enumerate(drawn) if n}, row).p_value
            for drawn in rng.multinomial(shots, row, size=4_000)
        ]
    )
    assert (p_values < 0.01).mean() < 0.02
    assert (p_values < 0.002).mean() < 0.005
    assert (p_values < 0.5).mean() == pytest.approx(0.5, abs=0.08)


def test_wrong_distributions_are_caught() -> None:
    batch = correlation_circuit(5, 0.8)
    expected = probabilities(batch)
    rng = np.random.default_rng(5)

    def drawn(row: np.ndarray) -> dict[int, int]:
        return {o: int(n) for o, n in enumerate(rng.multinomial(10_000, row)) if n}

    right = [drawn(expected[0]) for _ in range(50)]
    verify_distribution(right, np.repeat(expected, 50, axis=0))
    other = probabilities(correlation_circuit(5, 0.77))[0]
    flipped = expected[0].reshape(2, 16)[::-1].ravel()  # the highest qubit read wrongly
    noisy = 0.95 * expected[0] + 0.05 / 32
    for fault in (other, flipped * 0.2 + 0.8 * expected[0], noisy):
        planted = [*right[:20], drawn(fault), *right[20:49]]
        with pytest.raises(JobFailed, match="circuit 20: the counts do not come"):
            verify_distribution(planted, np.repeat(expected, 50, axis=0))
    with pytest.raises(JobFailed, match="1 histograms"):
        verify_distribution(right[:1], np.repeat(expected, 2, axis=0))


def test_one_impossible_shot_is_a_fault() -> None:
    expected = probabilities(correlation_circuit(3, 1.0))  # only 000 and 111
    assert chi_square({0: 500, 7: 499, 1: 1}, expected[0]).p_value == 0.0
    with pytest.raises(JobFailed, match="circuit 0"):
        verify_distribution([{0: 500, 7: 499, 1: 1}], expected)


def test_too_few_shots_for_two_cells_decide_nothing() -> None:
    assert chi_square({0: 3, 1: 2}, np.full(4, 0.25)).p_value == 1.0
