"""Adaptive shots: the state machine, the level of its claims, and the coverage of its intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.circuits import adaptive
from quantum_db.circuits.adaptive import AdaptiveAllocation, Selection, normal_tail


def run(truth: np.ndarray, allocation: AdaptiveAllocation, rng: np.random.Generator) -> Selection:
    while (current := allocation.next_round()) is not None:
        allocation.observe(rng.binomial(current.shots, truth[current.indices]))
    return allocation.result()


def is_good(truth: np.ndarray, selection: Selection, epsilon: float) -> bool:
    missed = np.setdiff1d(np.arange(truth.size), selection.indices)
    return missed.size == 0 or bool(truth[missed].max() - truth[selection.indices].min() <= epsilon + 1e-12)


def close_scores(rng: np.random.Generator) -> np.ndarray:
    """Fifty fidelities as close to each other as those of real candidates: a boundary gap of about 0.002."""
    return np.clip(0.40 + 0.03 * rng.gumbel(size=50), 0.01, 0.99)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 30),
    top_k=st.integers(1, 35),
    epsilon=st.sampled_from([0.0, 0.01, 0.3]),
    budget=st.integers(30, 200_000),
    rounds=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_keeps_budget_and_rounds_and_ends(
    count: int, top_k: int, epsilon: float, budget: int, rounds: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    allocation = AdaptiveAllocation(count, top_k, epsilon=epsilon, max_shots=budget, max_rounds=rounds)
    selection = run(rng.choice([0.0, 0.2, 0.5, 1.0], size=count), allocation, rng)
    assert selection.total_shots <= budget
    assert selection.rounds <= rounds
    assert selection.shots.min() >= 1
    assert len(set(selection.indices.tolist())) == min(top_k, count)
    assert ((selection.low <= selection.scores + 1e-12) & (selection.scores <= selection.high + 1e-12)).all()
    assert selection.decided == (selection.undecided.size == 0)
    assert 0.0 <= selection.confidence <= 0.95
    assert allocation.next_round() is None


def test_shots_go_to_the_boundary() -> None:
    truth = np.linspace(0.9, 0.1, 40)
    truth[9], truth[10] = 0.71, 0.703
    selection = run(truth, AdaptiveAllocation(40, 10), np.random.default_rng(1))
    assert selection.decided
    assert set(selection.indices.tolist()) == set(range(10))
    assert set(np.argsort(-selection.shots)[:2].tolist()) == {9, 10}
    assert selection.shots[10] > 50 * selection.shots[39]


def test_equal_circuits_use_up_the_budget_and_are_named() -> None:
    truth = np.array([0.9, 0.5, 0.5, 0.1])
    selection = run(truth, AdaptiveAllocation(4, 2, max_shots=100_000), np.random.default_rng(2))
    assert not selection.decided
    assert set(selection.undecided.tolist()) == {1, 2}
    assert selection.confidence < 0.95
    assert selection.total_shots > 99_000
    good = run(truth, AdaptiveAllocation(4, 2, epsilon=0.02), np.random.default_rng(2))
    assert good.decided
    assert good.total_shots < 100_000


def test_a_round_is_the_same_until_it_is_observed() -> None:
    allocation = AdaptiveAllocation(5, 2)
    first, second = allocation.next_round(), allocation.next_round()
    assert first is not None
    assert second is not None
    assert (first.shots, first.indices.tolist()) == (second.shots, second.indices.tolist()) == (200, [0, 1, 2, 3, 4])
    with pytest.raises(ValueError, match="nothing has been observed"):
        allocation.result()
    with pytest.raises(ValueError, match="no round of this many"):
        allocation.observe(np.array([1, 2]))
    with pytest.raises(ValueError, match="outside of 0 to 200"):
        allocation.observe(np.array([1, 2, 3, 4, 201]))


@pytest.mark.parametrize(
    "wrong", [{"top_k": 0}, {"count": 0}, {"confidence": 1.0}, {"epsilon": -0.1}, {"max_shots": 3}, {"max_rounds": 0}]
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    arguments: dict[str, float] = {"count": 5, "top_k": 2, **wrong}
    with pytest.raises(ValueError, match=r"inside|start at 1"):
        AdaptiveAllocation(**arguments)  # type: ignore[arg-type]


def test_normal_tail_is_accurate_far_out() -> None:
    np.testing.assert_allclose(
        normal_tail(np.array([0.0, 1.959963985, -1.0, 6.0])), [0.5, 0.025, 0.841344746, 9.8658765e-10], rtol=1e-7
    )


def slippage(gap: float, top_k: int, count: int) -> Callable[[np.random.Generator], np.ndarray]:
    """All of the top k are better than all others by ``gap``: every pair can go wrong."""
    truth = np.full(count, 0.44)
    truth[:top_k] += gap
    return lambda rng: rng.permutation(truth)


INSTANCES = {
    "random": (lambda rng: rng.uniform(size=30), 6, 0.0),
    "random, good enough": (lambda rng: rng.uniform(size=30), 6, 0.02),
    "close": (close_scores, 10, 0.02),
    "all pairs just above epsilon": (slippage(0.0301, 10, 40), 10, 0.03),
    "best just above epsilon": (slippage(0.0301, 1, 40), 1, 0.03),
    "one close pair": (slippage(0.01, 1, 2), 1, 0.0),
    "all pairs close": (slippage(0.02, 4, 12), 4, 0.0),
    "high": (lambda rng: 1.0 - 0.05 * rng.uniform(size=30), 6, 0.005),
}


@pytest.mark.parametrize("name", INSTANCES)
@pytest.mark.parametrize("confidence", [0.95, 0.6])
def test_the_claimed_set_is_right_with_the_asked_confidence(name: str, confidence: float) -> None:
    """300 cases each; the share of wrong claims is below the allowed one (in fact far below)."""
    make, top_k, epsilon = INSTANCES[name]
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(300):
        truth = make(rng)
        allocation = AdaptiveAllocation(truth.size, top_k, epsilon=epsilon, confidence=confidence, max_shots=1_000_000)
        selection = run(truth, allocation, rng)
        wrong += selection.decided and not is_good(truth, selection, epsilon)
    assert wrong / 300 <= 1.0 - confidence


def test_the_check_of_the_claims_catches_a_rule_that_stops_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: p-values a hundred times too small."""
    monkeypatch.setattr(adaptive, "normal_tail", lambda z: normal_tail(z) / 100.0)
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(200):
        truth = slippage(0.0301, 10, 40)(rng)
        selection = run(truth, AdaptiveAllocation(40, 10, epsilon=0.03), rng)
        wrong += selection.decided and not is_good(truth, selection, 0.03)
    assert wrong / 200 > 0.05


def test_the_confidence_that_is_left_is_not_above_the_truth() -> None:
    """2,000 cases cut off by their budget, in bins of the confidence they state; 3 sigma of the bin's size allowed."""
    rng = np.random.default_rng(5)
    stated, right = [], []
    for _ in range(2_000):
        truth = close_scores(rng)
        selection = run(truth, AdaptiveAllocation(50, 10, max_shots=100_000, max_rounds=6), rng)
        if not selection.decided:
            stated.append(selection.confidence)
            right.append(is_good(truth, selection, 0.0))
    bins = np.digitize(stated, [0.05, 0.2, 0.4, 0.6, 0.8])
    for number in np.unique(bins):
        inside = bins == number
        allowed = 3.0 * np.sqrt(0.25 / inside.sum())
        assert np.mean(np.array(right)[inside]) >= np.mean(np.array(stated)[inside]) - allowed


COVERAGE = {
    "random, exact": (lambda rng: rng.uniform(size=50), 0.0, 400_000),
    "random, epsilon": (lambda rng: rng.uniform(size=50), 0.02, 400_000),
    "close, exact": (close_scores, 0.0, 600_000),
    "close, epsilon": (close_scores, 0.02, 3_000_000),
}


def covered(name: str, cases: int, seed: int) -> np.ndarray:
    make, epsilon, budget = COVERAGE[name]
    rng = np.random.default_rng(seed)
    inside = []
    for _ in range(cases // 50):
        truth = make(rng)
        selection = run(truth, AdaptiveAllocation(50, 10, epsilon=epsilon, max_shots=budget), rng)
        inside.append((selection.low <= truth) & (truth <= selection.high))
    return np.concatenate(inside)


@pytest.mark.parametrize("name", COVERAGE)
def test_intervals_hold_although_the_shots_are_adaptive(name: str) -> None:
    """50,000 cases: the share that a 95% interval covers is within one point of 95%."""
    assert abs(covered(name, 50_000, 6).mean() - 0.95) < 0.01


def test_the_check_of_the_intervals_catches_intervals_of_93_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: every interval has the quantile of 93%."""
    monkeypatch.setattr(adaptive, "z_value", lambda confidence: 1.81)
    assert abs(covered("close, exact", 50_000, 6).mean() - 0.95) > 0.01
