"""Sessions: what they see, what they share with nobody, and how much of them is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quantum_db import entanglement_rules as rules
from quantum_db import sessions as module
from quantum_db.errors import CorruptData
from quantum_db.model import Candidates, EntanglementGroup
from quantum_db.resharding import resharded
from quantum_db.sessions import Observation, SessionKey, SessionLimits, SessionTable

KEY = SessionKey("tenant", "s")
WEIGHTS = {
    "a": {"x": 0.5, "y": 0.5},
    "b": {"x": 0.25, "y": 0.75},
    "c": {"y": 0.2, "z": 0.8},
    "d": {"x": 1.0, "y": 0.0},
}
GROUPS = [
    EntanglementGroup("g1", ("a", "b", "d"), 0.5),
    EntanglementGroup("g2", ("b", "a", "c"), 0.4),
    EntanglementGroup("g3", ("c", "d"), 1.0),
]


def rows(weights: dict[str, dict[str, float]], asked: tuple[str, ...] = ()) -> Candidates:
    """Return the entities as candidates, with the rows of the asked contexts only, or all."""
    found = [
        (place, name, weight)
        for place, own in enumerate(weights.values())
        for name, weight in own.items()
        if not asked or name in asked
    ]
    return Candidates(
        entity_ids=tuple(weights),
        metadata=({},) * len(weights),
        coherence_time_ms=(1.0,) * len(weights),
        owner=np.array([place for place, _, _ in found], dtype=np.int32),
        contexts=tuple(name for _, name, _ in found),
        weights=np.array([weight for _, _, weight in found]),
        vectors=np.zeros((len(found), 2), dtype=np.float32),
    )


def observe(
    table: SessionTable, entity: str, context: str, number: object, key: SessionKey = KEY, now_s: float = 0.0
) -> None:
    groups = [group for group in GROUPS if entity in group.entity_ids]
    table.observe(key, Observation(f"m{number}", entity, context), groups, WEIGHTS, now_s)


def seen(table: SessionTable, key: SessionKey = KEY, now_s: float = 0.0) -> dict[str, dict[str, float]]:
    """Return all weights as a session sees them."""
    candidates = rows(WEIGHTS)
    found: dict[str, dict[str, float]] = {one: {} for one in WEIGHTS}
    adjusted = table.adjusted_weights(key, candidates, now_s)
    for place, name, weight in zip(candidates.owner, candidates.contexts, adjusted, strict=True):
        assert name is not None
        found[candidates.entity_ids[place]][name] = float(weight)
    return found


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz")), max_size=30), st.sampled_from("xyz"))
def test_any_measurements_move_weights_as_the_rule_says(measured: list[tuple[str, str]], asked: str) -> None:
    table, expected = SessionTable(), {one: dict(own) for one, own in WEIGHTS.items()}
    for number, (entity, context) in enumerate(measured):
        observe(table, entity, context, number)
        observe(table, entity, context, number)
        groups = [group for group in GROUPS if entity in group.entity_ids]
        for partner, strength in rules.partners(entity, groups).items():
            expected[partner] = rules.weights_after_reading(expected[partner], context, strength)
        table.validate()
    found = seen(table)
    for one, own in expected.items():
        assert found[one] == pytest.approx(own, abs=1e-9)
        assert sum(found[one].values()) == pytest.approx(1.0)
    partial = rows(WEIGHTS, (asked,))
    for place, weight in zip(partial.owner, table.adjusted_weights(KEY, partial, 0.0), strict=True):
        assert weight == pytest.approx(expected[partial.entity_ids[place]][asked], abs=1e-9), "without the other rows"


def test_it_reaches_partners_only_and_leaves_the_stored_weights() -> None:
    table, candidates = SessionTable(), rows(WEIGHTS)
    before = candidates.weights.copy()
    observe(table, "a", "x", 0)
    found = seen(table)
    assert found["a"] == WEIGHTS["a"], "the measured entity itself"
    assert found["c"] == WEIGHTS["c"], "it has no context x"
    assert found["d"] == {"x": 1.0, "y": 0.0}
    assert found["b"] == pytest.approx({"x": 0.25 * 0.3 + 0.7, "y": 0.75 * 0.3})
    table.adjusted_weights(KEY, candidates, 0.0)
    np.testing.assert_array_equal(candidates.weights, before)


def test_a_distribution_that_is_none_is_noticed() -> None:
    """Planted: the rule without its (1 - s)."""
    table = SessionTable()
    observe(table, "a", "x", 0)
    table.validate()
    moves = table._sessions[KEY].moves
    moves["b"] = replace(moves["b"], kept=1.0)
    with pytest.raises(AssertionError):
        table.validate()


@pytest.mark.parametrize("other", [SessionKey("other", "s"), SessionKey("tenant", "t"), SessionKey("tenant\0s", "")])
def test_nobody_else_sees_it(other: SessionKey) -> None:
    table = SessionTable()
    observe(table, "a", "x", 0)
    assert seen(table, other) == WEIGHTS
    assert len(table) == 1, "who only looks begins no session"
    observe(table, "a", "y", 0, other)
    assert (seen(table)["b"]["x"], seen(table, other)["b"]["x"]) == pytest.approx((0.775, 0.075))


def test_a_session_ends_when_it_was_idle_for_too_long() -> None:
    table = SessionTable(SessionLimits(idle_s=10.0))
    observe(table, "a", "x", 0, now_s=0.0)
    assert seen(table, now_s=9.0)["b"] != WEIGHTS["b"]
    assert seen(table, now_s=18.0)["b"] != WEIGHTS["b"], "looking is using"
    assert table.advance(20.0, 5) == 0
    assert seen(table, now_s=29.0) == WEIGHTS
    for number in range(4):
        observe(table, "a", "x", 0, SessionKey("t", str(number)), now_s=float(number))
    assert (table.advance(12.5, 2), table.advance(12.5, 2), len(table)) == (2, 1, 1)
    table.end(SessionKey("t", "3"))
    table.end(SessionKey("t", "3"))
    assert len(table) == 0
    table.validate()


def test_the_least_recently_used_go_first() -> None:
    table = SessionTable(SessionLimits(sessions=2, moves_per_session=2))
    keys = [SessionKey("t", str(number)) for number in range(3)]
    observe(table, "a", "y", 0, keys[0])
    observe(table, "a", "y", 0, keys[1])
    seen(table, keys[0])
    observe(table, "a", "y", 0, keys[2])
    assert [seen(table, key) == WEIGHTS for key in keys] == [False, True, False]
    assert seen(table, keys[0])["b"] == WEIGHTS["b"], "of three moved partners the first moved went"
    few = SessionTable(SessionLimits(moves=4))
    for key in keys:
        observe(few, "c", "y", 0, key)
    assert [seen(few, key) == WEIGHTS for key in keys] == [True, True, False]
    few.validate()


def test_a_session_remembers_a_bounded_number_of_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_MEASUREMENTS", 3)
    table = SessionTable()
    for number in range(4):
        observe(table, "a", "x", number)
    before = seen(table)
    observe(table, "a", "x", 1)
    assert seen(table) == before
    observe(table, "a", "x", 0)
    assert seen(table) != before


class SessionMachine(RuleBasedStateMachine):
    """Any use, with restarts and resharding between: the bounds hold, and weights stay distributions."""

    limits = SessionLimits(sessions=3, moves=7, moves_per_session=2, idle_s=100.0)
    keys = st.builds(SessionKey, st.sampled_from("tu"), st.sampled_from("123"))

    def __init__(self) -> None:
        super().__init__()
        self.table, self.now_s, self.number = SessionTable(self.limits), 0.0, 0

    @rule(key=keys, entity=st.sampled_from("abcd"), context=st.sampled_from("xyz"), seconds=st.floats(0, 60))
    def observe(self, key: SessionKey, entity: str, context: str, seconds: float) -> None:
        self.now_s += seconds
        self.number += 1
        others = {other: seen(self.copy(), other, self.now_s) for other in self.table._sessions if other != key}
        observe(self.table, entity, context, self.number, key, self.now_s)
        for other, weights in others.items():
            assert seen(self.copy(), other, self.now_s) in (weights, WEIGHTS), "unchanged, or evicted"

    @rule(seconds=st.floats(0, 200), limit=st.integers(1, 3))
    def advance(self, seconds: float, limit: int) -> None:
        self.now_s += seconds
        assert self.table.advance(self.now_s, limit) <= limit

    @rule()
    def restart(self) -> None:
        before = list(self.table.snapshot())
        self.table = self.copy()
        assert list(self.table.snapshot()) == before

    @rule(shards=st.integers(1, 3))
    def reshard(self, shards: int) -> None:
        parts = [SessionTable(self.limits) for _ in range(shards)]
        snapshot = list(self.table.snapshot())
        key = lambda record: SessionKey(record["tenant"], record["session_id"]).shard_key  # noqa: E731
        for shard, record in resharded([snapshot], shards, key):
            parts[shard].restore([record])
        found = [record for part in parts for record in part.snapshot()]
        assert sorted(map(json.dumps, found)) == sorted(map(json.dumps, snapshot))

    @invariant()
    def holds(self) -> None:
        self.table.validate()
        for key in list(self.table._sessions):
            for own in seen(self.copy(), key, self.now_s).values():
                assert sum(own.values()) == pytest.approx(1.0)

    def copy(self) -> SessionTable:
        table = SessionTable(self.limits)
        table.restore(json.loads(json.dumps(record)) for record in self.table.snapshot())
        return table


TestSessions = SessionMachine.TestCase
TestSessions.settings = settings(max_examples=40, deadline=None)


@pytest.mark.parametrize("change", [{"moves": []}, {"moves": {"a": 1}}, {"used_s": None}, {"measured": 3}])
def test_a_broken_record_is_told(change: dict[str, object]) -> None:
    table = SessionTable()
    observe(table, "a", "x", 0)
    (record,) = table.snapshot()
    with pytest.raises(CorruptData, match="a session record cannot be read"):
        SessionTable().restore([{**record, **change}])
