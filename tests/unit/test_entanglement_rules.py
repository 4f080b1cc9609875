"""The three classical rules of entanglement groups, as properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_db import entanglement_rules as rules
from quantum_db.entanglement_rules import Link
from quantum_db.errors import InvalidRequest
from quantum_db.groups import GroupTable, record_of
from quantum_db.model import EntanglementGroup

IDS = [f"e{i}" for i in range(8)]
STRENGTHS = st.floats(0.0, 1.0)
GROUPS = st.lists(
    st.builds(
        lambda number, members, strength: EntanglementGroup(f"g{number}", tuple(members), strength),
        st.integers(0, 9),
        st.lists(st.sampled_from(IDS), min_size=2, max_size=5, unique=True),
        STRENGTHS,
    ),
    max_size=8,
    unique_by=lambda group: group.group_id,
)
WEIGHTS = (
    st.dictionaries(st.sampled_from("abcde"), st.floats(0.0, 1.0), min_size=1)
    .filter(lambda weights: sum(weights.values()) > 1e-3)
    .map(lambda weights: {name: weight / sum(weights.values()) for name, weight in weights.items()})
)


def table(groups: Sequence[EntanglementGroup]) -> GroupTable:
    made = GroupTable()
    made.restore(map(record_of, groups))
    return made


def of_all(groups: Sequence[EntanglementGroup]) -> dict[str, list[EntanglementGroup]]:
    return {entity_id: table(groups).of_member(entity_id) for entity_id in IDS}


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def group(name: str, strength: float, *members: str) -> EntanglementGroup:
    return EntanglementGroup(name, members, strength)


def is_distribution(weights: Mapping[str, float]) -> bool:
    return min(weights.values()) >= 0.0 and abs(sum(weights.values()) - 1.0) < 1e-12


# Read


@given(weights=WEIGHTS, context=st.sampled_from("abcdef"), strength=STRENGTHS)
def test_weights_stay_a_distribution_and_move_as_stated(
    weights: dict[str, float], context: str, strength: float
) -> None:
    after = rules.weights_after_reading(weights, context, strength)
    assert is_distribution(after)
    assert after.keys() == weights.keys()
    for name, weight in weights.items():
        expected = (1 - strength) * weight + strength * (name == context) if context in weights else weight
        assert after[name] == pytest.approx(expected, abs=1e-12)


def test_a_distribution_that_is_none_is_noticed() -> None:
    """Planted: the rule without its (1 - s)."""
    assert not is_distribution({"a": 0.5 + 0.3, "b": 0.5})


def test_a_strength_outside_its_range_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="correlation_strength"):
        rules.weights_after_reading({"a": 1.0}, "a", 1.5)


# Expand


@given(own=st.floats(-2, 2), hit=st.floats(-2, 2), strength=STRENGTHS, more=st.floats(0, 1))
def test_a_boost_lies_between_the_own_score_and_the_hits(own: float, hit: float, strength: float, more: float) -> None:
    value = rules.boost(own, hit, strength)
    assert own <= value <= max(own, hit)
    assert rules.boost(own + more, hit, strength) >= value - 1e-12
    assert rules.boost(own, hit + more, strength) >= value - 1e-12
    assert rules.boost(own, hit, 0.0) == own
    assert rules.boost(own, hit, 1.0) == max(own, hit)


@given(groups=GROUPS, limit=st.integers(0, 5), data=st.data())
def test_expansion_is_bounded_and_one_step_deep(
    groups: list[EntanglementGroup], limit: int, data: st.DataObject
) -> None:
    known = data.draw(st.lists(st.sampled_from(IDS), min_size=1, unique=True))
    hits = known[: data.draw(st.integers(1, len(known)))]
    links = rules.links_of_hits(hits, of_all(groups), known, limit)
    newcomers = {link.entity_id for link in links} - set(known)
    assert len(newcomers) <= limit
    assert all(link.hit_id in hits and link.strength > 0.0 for link in links)
    scores = {entity_id: data.draw(st.floats(0, 1)) for entity_id in {*known, *newcomers}}
    boosted = rules.boosted_scores(scores, links)
    assert boosted.keys() == scores.keys()
    assert all(a.value >= b.value for a, b in pairwise(boosted.values()))
    for entity_id, one in boosted.items():
        best = max(scores[link.hit_id] for link in links if link.entity_id == entity_id) if one.link else one.own
        assert one.own == scores[entity_id] <= one.value <= max(best, one.own)
    assert rules.boosted_scores(scores, reversed(links)).keys() == boosted.keys()


def test_newcomers_come_by_strength_then_rank_then_id() -> None:
    groups = {
        "h1": [group("g1", 0.5, "h1", "n1", "n0"), group("g3", 0.0, "h1", "never")],
        "h2": [group("g2", 0.5, "h2", "n2"), group("g4", 0.9, "h2", "n3", "h1")],
    }
    for limit, expected in ((1, {"n3"}), (2, {"n3", "n0"}), (3, {"n3", "n0", "n1"}), (9, {"n3", "n0", "n1", "n2"})):
        links = rules.links_of_hits(["h1", "h2"], groups, ["h1", "h2"], limit)
        assert {link.entity_id for link in links} - {"h1", "h2"} == expected


def test_a_fully_correlated_partner_stands_right_after_its_hit() -> None:
    boosted = rules.boosted_scores({"a": 0.2, "hit": 0.9, "z": 0.5}, [Link("a", "hit", 1.0), Link("z", "gone", 1.0)])
    assert list(boosted) == ["hit", "a", "z"]
    assert boosted["a"].link == Link("a", "hit", 1.0)
    assert (boosted["a"].value, boosted["z"].link) == (0.9, None)


# Write


def test_a_write_makes_stale_what_is_cached_about_the_entity_and_its_partners() -> None:
    ring = [group(f"g{i}", 0.5, f"e{i}", f"e{(i + 1) % 6}") for i in range(6)]
    assert rules.invalidated("e0", table(ring).of_member("e0")) == {"e0", "e1", "e5"}
    assert rules.invalidated("a", [group("g", 0.0, "a", "b")]) == {"a", "b"}
