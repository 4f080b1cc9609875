"""The retry policy: bounds and distribution of its pauses, and what the other side asks for."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import kstest

from quantum_db.jobs.retry import RetryPolicy

SECONDS = st.just(0.0) | st.floats(1e-9, 1e6)


@given(
    first_s=SECONDS,
    longest_s=SECONDS,
    attempt=st.integers(1, 5_000),
    retry_after_s=st.none() | SECONDS,
    seed=st.integers(0, 2**32),
)
def test_a_pause_is_within_its_bounds_and_never_shorter_than_what_is_asked_for(
    first_s: float, longest_s: float, attempt: int, retry_after_s: float | None, seed: int
) -> None:
    assume(first_s <= longest_s)
    policy = RetryPolicy(first_s=first_s, longest_s=longest_s)
    pause_s = policy.pause_s(attempt, np.random.default_rng(seed), retry_after_s)
    cap_s = float(min(Fraction(longest_s), Fraction(first_s) * 2 ** (attempt - 1)))
    assert (retry_after_s or 0.0) <= pause_s <= max(cap_s, retry_after_s or 0.0)


def pauses(policy: RetryPolicy, attempt: int, count: int = 2_000) -> np.ndarray:
    rng = np.random.default_rng(attempt)
    return np.array([policy.pause_s(attempt, rng) for _ in range(count)])


@pytest.mark.parametrize(("attempt", "cap_s"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 10.0), (60, 10.0)])
def test_pauses_are_uniform_up_to_a_cap_that_doubles(attempt: int, cap_s: float) -> None:
    """A Kolmogorov-Smirnov test with a false alarm in a million accepts [0, cap], and refuses half and twice of it."""
    found = pauses(RetryPolicy(), attempt)
    assert kstest(found, "uniform", args=(0.0, cap_s)).pvalue > 1e-6
    assert kstest(found, "uniform", args=(0.0, 2.0 * cap_s)).pvalue < 1e-6
    assert kstest(found, "uniform", args=(cap_s / 2.0, cap_s / 2.0)).pvalue < 1e-6  # "equal jitter" of the same source


def test_callers_that_failed_at_once_do_not_come_back_at_once() -> None:
    assert len(set(pauses(RetryPolicy(), 1, 100))) == 100


@pytest.mark.parametrize("attempts", [1, 2, 3, 7])
def test_there_are_as_many_attempts_as_the_policy_says(attempts: int) -> None:
    policy = RetryPolicy(attempts=attempts)
    attempt = 1
    while policy.may_retry(attempt):
        attempt += 1
    assert attempt == attempts


def test_what_is_asked_for_may_be_longer_than_the_longest_pause() -> None:
    assert RetryPolicy().pause_s(1, np.random.default_rng(0), 77.0) == 77.0


@pytest.mark.parametrize(
    "values",
    [
        {"attempts": 0},
        {"first_s": -1.0},
        {"first_s": math.nan},
        {"first_s": 2.0, "longest_s": 1.0},
        {"longest_s": math.inf},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a retry policy needs"):
        RetryPolicy(**values)  # type: ignore[arg-type]
