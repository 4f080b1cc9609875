"""Routing: the bound against drawn shots, and answers that do not change where it skips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db import routing
from quantum_db.routing import Aim, binomial_errors, report, route


def changed_share(fidelities: np.ndarray, shots: int, top_k: int, aim: Aim, rng: np.random.Generator) -> float:
    estimates = rng.binomial(shots, fidelities, size=(4_000, fidelities.size)) / shots
    exact = np.argsort(-fidelities, kind="stable")[:top_k]
    drawn = np.argsort(-(estimates + 1e-9 * fidelities), axis=1, kind="stable")[:, :top_k]
    if aim == "set":
        exact, drawn = np.sort(exact), np.sort(drawn, axis=1)
    return float((drawn != exact).any(axis=1).mean())


@pytest.mark.parametrize("aim", ["order", "set"])
def test_the_bound_holds_and_is_sharp_for_a_single_pair(aim: Aim) -> None:
    """4,000 draws for each of 30 instances; 3 sigma allowed."""
    rng = np.random.default_rng(1)
    for _ in range(30):
        fidelities = rng.uniform(0.1, 0.9, size=8)
        decision = route(fidelities, binomial_errors(fidelities, 4_000), 3, 0.95, aim=aim)
        share = changed_share(fidelities, 4_000, 3, aim, rng)
        assert share <= decision.change_bound + 3.0 * np.sqrt(0.25 / 4_000)
        assert decision.run == (decision.change_bound > 1.0 - 0.95)
    pair = np.array([0.52, 0.5])
    decision = route(pair, binomial_errors(pair, 1_000), 1, 0.95, aim=aim)
    assert changed_share(pair, 1_000, 1, aim, rng) == pytest.approx(decision.change_bound, abs=0.03)


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12),
    top_k=st.integers(1, 14),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_decision_does_not_depend_on_the_order_of_the_rows(scores: list[float], top_k: int, seed: int) -> None:
    fidelities = np.array(scores)
    mixed = np.random.default_rng(seed).permutation(fidelities)
    one, other = (route(f, binomial_errors(f, 1_000), top_k, 0.9) for f in (fidelities, mixed))
    assert one.run == other.run
    assert one.change_bound == pytest.approx(other.change_bound)
    assert 0.0 <= one.change_bound <= 1.0
    assert route(fidelities, binomial_errors(fidelities, 1_000), top_k, 0.9, aim="set").change_bound <= 1.0


def test_wide_margins_are_skipped_and_narrow_ones_run() -> None:
    wide = np.array([0.9, 0.6, 0.3])
    skipped = route(wide, binomial_errors(wide, 4_096), 1, 0.95)
    assert not skipped.run
    assert "the classical margin decides the order of the first 1" in skipped.why
    assert skipped.margin == pytest.approx(0.3)
    narrow = np.array([0.61, 0.6, 0.3])
    ran = route(narrow, binomial_errors(narrow, 1_024), 1, 0.95)
    assert ran.run
    assert "may change" in ran.why
    assert not route(narrow, binomial_errors(narrow, 1_000_000), 1, 0.95).run


def test_the_set_may_be_decided_where_the_order_is_not() -> None:
    scores = np.array([0.80, 0.799, 0.3])
    errors = binomial_errors(scores, 4_096)
    assert route(scores, errors, 2, 0.95, aim="order").run
    assert not route(scores, errors, 2, 0.95, aim="set").run


def test_candidates_that_share_a_circuit_are_not_told_apart() -> None:
    scores = np.array([0.8, 0.8, 0.3])
    errors = binomial_errors(scores, 4_096)
    assert route(scores, errors, 1, 0.95).run
    assert not route(scores, errors, 1, 0.95, circuits=np.array([0, 0, 1])).run


def test_nothing_to_choose_from_is_skipped_as_a_set() -> None:
    scores = np.array([0.5, 0.4])
    decision = route(scores, binomial_errors(scores, 10), 5, 0.95, aim="set")
    assert not decision.run
    assert decision.margin == float("inf")
    for wrong in ({"top_k": 0}, {"confidence": 1.0}):
        with pytest.raises(ValueError, match="one shape"):
            route(scores, scores, **{"top_k": 1, "confidence": 0.9, **wrong})  # type: ignore[arg-type]


def queries(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.uniform(0.05, 0.95, size=20) for _ in range(count)]


def test_answers_that_are_routed_past_do_not_change() -> None:
    """2,000 queries: of those skipped at 95%, far fewer than 5% would have changed; of those that ran, many."""
    seen = report(queries(2_000), 4_096, 3, 0.95, np.random.default_rng(3))
    assert seen.queries == 2_000
    assert 0.3 < seen.skipped_share < 0.9
    assert seen.changed_share <= 0.05
    assert seen.changed_share_of_run > 0.1


def test_the_report_catches_a_route_that_always_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault."""
    monkeypatch.setattr(routing, "route", lambda *args, **kwargs: routing.Route(False, "", 0.0, 1.0))
    assert report(queries(500), 4_096, 3, 0.95, np.random.default_rng(3)).changed_share > 0.05
