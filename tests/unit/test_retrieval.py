"""Scores, rules and ranking against their formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quantum_db import overlaps, retrieval
from quantum_db.backend_ports import BackendLimits, BackendResult
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.simulator import probabilities
from quantum_db.circuits.statistics import wilson_interval, z_value
from quantum_db.model import Candidates, Query
from quantum_db.modes import MODES
from quantum_db.retrieval import Estimates, distinct_rows

DIMENSION = 16


def unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, DIMENSION)) + 0.7
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def query(**changes: object) -> Query:
    vector = unit(np.random.default_rng(99), 1)[0]
    return replace(Query(vector=vector, contexts=(), mode="balanced", top_k=3, timeout_s=1.0), **changes)  # type: ignore[arg-type]


def candidates(sizes: list[int], seed: int = 0) -> Candidates:
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    weights = np.concatenate([rng.dirichlet(np.ones(size)) for size in sizes])
    return Candidates(
        entity_ids=tuple(f"e{i}" for i in range(len(sizes))),
        metadata=tuple({"n": i} for i in range(len(sizes))),
        coherence_time_ms=(1000.0,) * len(sizes),
        owner=owner,
        contexts=tuple(f"c{i}" for i in range(len(owner))),
        weights=weights,
        vectors=unit(rng, len(owner)),
    )


def drawn(rng: np.random.Generator, fidelities: np.ndarray, shots: int) -> Estimates:
    """Return what an ideal backend's shots would say."""
    share = rng.binomial(shots, fidelities) / shots
    low, high = wilson_interval((share * shots).round().astype(int), shots, 0.95)
    return Estimates(share, low, high, share * (1 - share) / shots)


def test_the_rules_are_their_formulas() -> None:
    found = candidates([2, 1, 3])
    cosines = found.vectors.astype(np.float64) @ query().vector.astype(np.float64)
    fidelities = retrieval.exact_fidelities(query(), found)
    np.testing.assert_allclose(fidelities, ((1 + cosines) / 2) ** 2, atol=1e-7)
    parts = [slice(0, 2), slice(2, 3), slice(3, 6)]
    expected = {
        "best": [fidelities[part].max() for part in parts],
        "traced": [(found.weights[part] * fidelities[part]).sum() for part in parts],
        "soft": [np.log(np.exp(10 * cosines[part]).sum()) / 10 for part in parts],
    }
    for rule, values in expected.items():
        scores = retrieval.score(query(no_context_rule=rule), found, fidelities)
        np.testing.assert_allclose(scores.values, values, atol=1e-6)
        np.testing.assert_allclose(scores.low, scores.high, err_msg="exact scores have no width")


def test_in_a_context_the_score_is_conditional_or_joint() -> None:
    found = candidates([1, 1, 1])
    fidelities = retrieval.exact_fidelities(query(), found)
    conditional = retrieval.score(query(contexts=(("c0", 1.0),)), found, fidelities)
    joint = retrieval.score(query(contexts=(("c0", 1.0),), weighting="joint"), found, fidelities)
    np.testing.assert_allclose(conditional.values, fidelities)
    np.testing.assert_allclose(joint.values, fidelities * found.weights)


def test_the_circuits_estimate_what_the_exact_score_is() -> None:
    found = candidates([2, 3, 1, 2])
    plan = retrieval.plan_refinement(query(), found, max_qubits=8)
    batch = overlap_circuits(plan.encoding, overlap_template(plan.encoding.num_qubits))
    zeros = probabilities(batch)[:, 0]
    np.testing.assert_allclose(zeros[plan.circuit_of_row], retrieval.exact_fidelities(query(), found), atol=1e-6)


def test_equal_vectors_share_a_circuit_and_the_heavier_context_leads() -> None:
    found = candidates([1, 1, 1])
    vectors = found.vectors.copy()
    vectors[2] = vectors[0]
    found = replace(found, vectors=vectors, weights=np.array([0.3, 0.5, 0.7]))
    plan = retrieval.plan_refinement(query(contexts=(("c", 1.0),)), found, max_qubits=8)
    assert plan.encoding.candidates.shape[0] == 2
    assert plan.circuit_of_row[0] == plan.circuit_of_row[2] != plan.circuit_of_row[1]
    counts = ({0: 400, 1: 100}, {0: 350, 3: 150})
    result = BackendResult(counts, "simulated shots", "simulator", 0.0)
    limits = BackendLimits(8, 10, 1_000, 1_000)
    estimates = retrieval.estimate(plan, overlaps.read("merged", plan.encoding, limits, result, 0.95))
    assert estimates.fidelities[0] == estimates.fidelities[2]
    asked = query(contexts=(("c", 1.0),))
    classical = retrieval.score(asked, found, retrieval.exact_fidelities(asked, found))
    refined = retrieval.score(asked, found, estimates.fidelities, estimates)
    order = [hit.id for hit in retrieval.rank(found, classical, refined)]
    assert order.index("e2") + 1 == order.index("e0"), "of two equal documents the one of more weight leads"


@pytest.mark.parametrize("rule", ["soft", "traced", "best"])
def test_intervals_hold_at_their_confidence(rule: str) -> None:
    """2,000 draws of 8 entities: 95% within 1.5 points; ``best`` keeps its row fixed by clear gaps."""
    rng = np.random.default_rng(3)
    found = candidates([1, 2, 3, 1, 2, 1, 4, 2], seed=5)
    asked = query(no_context_rule=rule)
    exact = retrieval.exact_fidelities(asked, found)
    truth = retrieval.score(asked, found, exact).values
    shots, held, total = 20_000, 0, 0
    for _ in range(2_000):
        estimates = drawn(rng, exact, shots)
        scores = retrieval.score(asked, found, estimates.fidelities, estimates)
        held += int(((scores.low <= truth) & (truth <= scores.high)).sum())
        total += len(truth)
    assert abs(held / total - 0.95) < 0.015
    assert z_value(0.95) == pytest.approx(1.95996, abs=1e-4)


def test_ranking_tells_each_entity_once_and_whether_the_order_changed() -> None:
    found = candidates([2, 1, 3, 1])
    exact = retrieval.exact_fidelities(query(), found)
    classical = retrieval.score(query(), found, exact)
    hits = retrieval.rank(found, classical, None)
    assert sorted(hit.id for hit in hits) == ["e0", "e1", "e2", "e3"]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(hit.interval is None for hit in hits)
    assert not retrieval.order_changed(found, classical, classical, 4)
    other = replace(classical, values=-classical.values)
    assert retrieval.order_changed(found, classical, other, 4)
    swapped = classical.values.copy()
    third, fourth = np.argsort(-swapped)[2:]
    swapped[[third, fourth]] = swapped[[fourth, third]]
    below = replace(classical, values=swapped)
    assert not retrieval.order_changed(found, classical, below, 2)
    assert retrieval.order_changed(found, classical, below, 3)


def test_the_store_is_asked_for_all_contexts_only_where_the_rule_needs_them() -> None:
    mode = MODES["balanced"]
    assert retrieval.search_for(query(), mode).all_contexts
    assert not retrieval.search_for(query(no_context_rule="best"), mode).all_contexts
    assert not retrieval.search_for(query(contexts=(("c", 1.0),)), mode).all_contexts
    assert retrieval.search_for(query(top_k=90), mode).limit == 90
    assert retrieval.search_for(query(), mode).limit == mode.candidates


def test_routing_skips_the_circuits_where_they_cannot_change_the_set() -> None:
    found = candidates([1] * 12)
    asked = query(contexts=(("c", 1.0),), top_k=3)
    exact = retrieval.score(asked, found, retrieval.exact_fidelities(asked, found))
    assert retrieval.routed(asked, found, exact, shots=100).run
    way = retrieval.routed(asked, found, exact, shots=100_000_000)
    assert not way.run
    assert "the classical margin decides the set of the first 3" in way.why
    everything = replace(asked, top_k=12)
    assert not retrieval.routed(everything, found, exact, shots=1).run


@pytest.mark.parametrize("rule", ["soft", "traced", "best"])
def test_routing_knows_the_error_of_every_rule(rule: str) -> None:
    """Where it skips, at most 5% of 300 draws may change the set; a wrong error would show as many more."""
    rng = np.random.default_rng(6)
    found = candidates([2, 1, 3, 1, 2, 4, 1, 2], seed=7)
    asked = query(no_context_rule=rule, top_k=3)
    fidelities = retrieval.exact_fidelities(asked, found)
    exact = retrieval.score(asked, found, fidelities)
    shots = next(s for s in (10**p for p in range(1, 10)) if not retrieval.routed(asked, found, exact, s).run)
    best = set(np.argsort(-exact.values)[:3])
    changed = 0
    for _ in range(300):
        estimates = drawn(rng, fidelities, shots)
        scores = retrieval.score(asked, found, estimates.fidelities, estimates)
        changed += set(np.argsort(-scores.values)[:3]) != best
    assert changed <= 0.05 * 300


def test_equal_rows_are_one_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    some = rng.normal(size=(7, 5)).astype(np.float32)
    vectors = some[[3, 1, 3, 3, 0, 1, 6, 3]]
    which, first = distinct_rows(vectors)
    assert which.tolist() == [0, 1, 0, 0, 2, 1, 3, 0]
    assert first.tolist() == [0, 1, 4, 6]
    np.testing.assert_array_equal(vectors[first][which], vectors)
    vectors[5, 2] = np.nextafter(vectors[5, 2], np.float32(9.0))
    assert distinct_rows(vectors)[0].tolist() == [0, 1, 0, 0, 2, 3, 4, 0], "a last bit makes another vector"
    zeros = np.array([[0.0, 1.0], [-0.0, 1.0]], dtype=np.float32)
    assert distinct_rows(zeros)[0].tolist() == [0, 0]
    assert distinct_rows(np.empty((0, 3), dtype=np.float32))[1].size == 0
