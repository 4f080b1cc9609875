"""The table of states against the plain dict of states, event by event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from benchmarks.dict_states import DictStates
from quantum_db.errors import CorruptData, InvalidRequest
from quantum_db.lifecycle import Happening, Phase, State, StateEvent, Transition
from quantum_db.states import rounds as module
from quantum_db.states import table as table_module
from quantum_db.states.events import EventBatch
from quantum_db.states.records import record_of
from quantum_db.states.table import StateTable

NAMES = [f"e{number}" for number in range(9)] + ["é/\u2603", "a" * 300]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(Happening),
        st.floats(0.0, 3.0),
        st.sampled_from([None, 0.0, 0.125, 700.0, 65_000.0, 1e9]),
        st.integers(0, 9),
    ),
    max_size=40,
)
Drawn = list[tuple[str, Happening, float, float | None, int]]


def events_of(drawn: Drawn, now_s: float) -> list[StateEvent]:
    of_writes = (Happening.CREATED, Happening.ARCHIVED)
    return [
        StateEvent(name, what, now_s + after_s, ms, commit if what in of_writes else 0)
        for name, what, after_s, ms, commit in drawn
    ]


def event(what: Happening, at_s: float = 0.0, entity: str = "e", coherence_ms: float | None = 1_000.0) -> StateEvent:
    return StateEvent(entity, what, at_s, coherence_ms)


def by_entity(transitions: Iterator[Transition] | list[Transition]) -> dict[str, list[Transition]]:
    found = defaultdict(list)
    for transition in transitions:
        found[transition.after.entity_id].append(transition)
    return dict(found)


class TableMachine(RuleBasedStateMachine):
    """Any events, also refused ones and ones out of time: table and model make the same steps."""

    least_round = 1

    def __init__(self) -> None:
        super().__init__()
        module.LEAST_ROUND = self.least_round
        self.table, self.model = StateTable(5), DictStates(5)
        self.now_s = 1_000.0

    def teardown(self) -> None:
        module.LEAST_ROUND = 16

    @rule(drawn=EVENTS)
    def happen(self, drawn: Drawn) -> None:
        events = events_of(drawn, self.now_s)
        outcome = self.table.apply(EventBatch.of(events))
        steps, refused = self.model.apply(events)
        assert by_entity(outcome.transitions) == by_entity(steps)
        assert [(one.position, one.reason) for one in outcome.refused] == refused
        assert sum(outcome.transitions.counts().values()) == len(steps)
        assert outcome.transitions.archived() == [
            one.after for one in outcome.transitions if one.after.phase is Phase.ARCHIVED
        ]

    @rule(seconds=st.sampled_from([0.0, 0.01, 1.0, 70.0, 5_000.0, 1e6, 1e8]), limit=st.integers(1, 4))
    def advance(self, seconds: float, limit: int) -> None:
        self.now_s += seconds
        found: list[Transition] = []
        calls = 0
        while self.table.due(self.now_s):
            some = list(self.table.advance(self.now_s, limit))
            assert len(some) <= limit
            found += some
            calls += 1
            assert calls <= 2_000
        late_s = self.now_s - 1 / 64
        must = [name for name, state in self.model.states.items() if self.model.get(name, late_s) is not state]
        steps = by_entity(self.model.sweep(self.now_s))
        assert set(must) <= by_entity(found).keys() <= steps.keys()
        for name, transitions in by_entity(found).items():
            assert transitions == steps.pop(name)
        for name in steps:  # within the last tick: decohered for who looks, and at the next call
            self.table.apply(EventBatch.of([StateEvent(name, Happening.EXPIRED, self.now_s)]))

    @rule()
    def restart(self) -> None:
        records = list(self.table.snapshot())
        self.table = StateTable(5)
        assert len(self.table.restore(records)) == 0

    @rule(drawn=EVENTS)
    def lose_the_table_but_not_its_transitions(self, drawn: Drawn) -> None:
        records = list(self.table.snapshot())
        events = events_of(drawn, self.now_s)
        steps = self.table.apply(EventBatch.of(events)).transitions
        self.model.apply(events)
        self.table = StateTable(5)
        self.table.restore([*records, *(record_of(step.after) for step in steps)])
        for name in [*self.model.states]:
            self.table.apply(EventBatch.of([StateEvent(name, Happening.PREPARED, 0.0)]))
            self.model.apply([StateEvent(name, Happening.PREPARED, 0.0)])

    @invariant()
    def agree(self) -> None:
        self.table.validate()
        assert len(self.table) == len(self.model.states)
        for name in NAMES:
            for now_s in (self.now_s, self.now_s + 2.0):
                assert self.table.get(name, now_s) == self.model.get(name, now_s)


class OneByOneMachine(TableMachine):
    """The same where no round is large enough for array operations."""

    least_round = 1_000


TestTable = TableMachine.TestCase
TestOneByOne = OneByOneMachine.TestCase
TestTable.settings = TestOneByOne.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def created(names: list[str], at_s: float = 0.0) -> EventBatch:
    return EventBatch.of([StateEvent(name, Happening.CREATED, at_s, 1_000.0) for name in names])


def test_eviction_archives_the_least_recently_touched_and_their_generations_go_on() -> None:
    table = StateTable(128)
    names = [f"n{number}" for number in range(128)]
    assert table.apply(created(names)).transitions.archived() == []
    table.apply(EventBatch.of([event(Happening.PREPARED, 1.0, name) for name in names[2:]]))
    archived = table.apply(created(["new"], 5.0)).transitions.archived()
    assert [(state.entity_id, state.since_s) for state in archived] == [("n0", 5.0), ("n1", 5.0), ("n2", 5.0)]
    assert (len(table), table.get("n0", 5.0)) == (126, None), "two more than it must, which is 128 / 64"
    steps = list(table.apply(EventBatch.of([event(Happening.PREPARED, 6.0, "n2")])).transitions)
    assert [(step.before, step.after.phase, step.after.generation) for step in steps] == [
        (None, Phase.CREATED, 2),
        (Phase.CREATED, Phase.ACTIVE, 2),
    ]


def test_what_expired_unseen_is_archived_as_decohered() -> None:
    table = StateTable(1)
    table.apply(EventBatch.of([event(Happening.PREPARED, 0.0, "old")]))
    steps = [step for step in table.apply(created(["new"], 9.0)).transitions if step.after.entity_id == "old"]
    assert [(step.after.phase, step.after.since_s) for step in steps] == [
        (Phase.DECOHERED, 1.0),
        (Phase.ARCHIVED, 9.0),
    ]


def test_a_batch_larger_than_a_chunk_is_applied_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "CHUNK", 4)
    table = StateTable(3)
    events = [
        event(what, 0.5, f"e{number % 5}") for number, what in enumerate([Happening.MEASURED, Happening.PREPARED] * 9)
    ]
    outcome = table.apply(EventBatch.of(events))
    assert [one.position for one in outcome.refused][:3] == [0, 2, 4]
    assert all(events[one.position].what is Happening.MEASURED for one in outcome.refused)
    assert len(table) <= 3
    table.validate()


@given(length=st.integers(1, 300), coherence_ms=st.sampled_from([50.0, 1e6]), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_one_entity_may_have_the_whole_batch(length: int, coherence_ms: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    what = [Happening.PREPARED, Happening.MEASURED, Happening.CREATED]
    drawn = rng.choice(3, length, p=[0.3, 0.69, 0.01])
    events = [event(what[code], at / 100, "hot", coherence_ms) for at, code in enumerate(drawn)]
    table, model = StateTable(2), DictStates(2)
    outcome, (steps, refused) = table.apply(EventBatch.of(events)), model.apply(events)
    assert list(outcome.transitions) == steps
    assert [(one.position, one.reason) for one in outcome.refused] == refused


def test_many_states_expire_in_bounded_calls() -> None:
    table, count = StateTable(5_000), 5_000
    rng = np.random.default_rng(1)
    spread_ms = rng.uniform(1.0, 1e5, count).astype(np.float32)
    ids = np.array([f"s{number}" for number in range(count)], dtype=np.object_)
    table.apply(
        EventBatch(
            ids,
            np.full(count, Happening.PREPARED.code, np.uint8),
            np.zeros(count),
            spread_ms,
            np.zeros(count, np.int64),
        )
    )
    now_s, found = 0.0, 0
    while now_s < 101.0:
        now_s += 0.5
        while table.due(now_s):
            found += len(table.advance(now_s, 64))
        decohered = int(np.count_nonzero(spread_ms / 1e3 <= now_s))
        late = int(np.count_nonzero(spread_ms / 1e3 <= now_s - 1 / 64))
        assert late <= found <= decohered
        assert table.counts()[Phase.DECOHERED] == found
    assert found == count


def test_stale_timers_are_bounded() -> None:
    """An entity written anew, again and again, each time with a shorter coherence time."""
    table = StateTable(1)
    rows = 1 + table_module.CHUNK
    for number in range(200):
        events = [event(Happening.CREATED, 0.0), event(Happening.PREPARED, 0.0, coherence_ms=1e9 * 0.9**number)]
        table.apply(EventBatch.of(events))
        table.validate()
    assert table._timers._entries <= 200
    table._timers._entries += 2 * rows  # as if as many had become stale
    table.apply(EventBatch.of([event(Happening.CREATED), event(Happening.PREPARED)]))
    assert table._timers._entries == 1
    table.validate()


@pytest.mark.parametrize(
    "columns",
    [
        {"at_s": np.array([np.nan])},
        {"at_s": np.array([0.0, 1.0])},
        {"coherence_ms": np.array([-1.0], np.float32)},
        {"coherence_ms": np.array([np.nan], np.float32)},
        {"codes": np.array([5], np.uint8)},
    ],
)
def test_a_malformed_batch_is_refused_as_a_whole(columns: dict[str, np.ndarray]) -> None:
    table = StateTable(2)
    with pytest.raises(InvalidRequest, match="event batch must be"):
        table.apply(replace(created(["a"]), **columns))
    assert len(table) == 0


def test_an_empty_batch_does_nothing() -> None:
    outcome = StateTable(2).apply(EventBatch.of([]))
    assert (len(outcome.transitions), list(outcome.transitions), outcome.refused) == (0, [], ())


def test_a_smaller_table_archives_what_it_has_no_room_for() -> None:
    table = StateTable(9)
    table.apply(created([f"n{number}" for number in range(9)]))
    table.apply(EventBatch.of([event(Happening.PREPARED, 0.5, "n0")]))
    smaller = StateTable(2)
    archived = smaller.restore(table.snapshot())
    assert [state.entity_id for state in archived.archived()] == [f"n{number}" for number in range(1, 8)]
    smaller.validate()
    assert (smaller.get("n0", 0.6), smaller.get("n8", 0.6)) == (table.get("n0", 0.6), table.get("n8", 0.6))


@pytest.mark.parametrize(
    "change",
    [
        {"phase": "lost"},
        {"generation": 0},
        {"entity_id": 3},
        {"since_s": None},
        {"since_s": float("nan")},
        {"expires_at_s": None},
        {"measurements": "x"},
    ],
)
def test_a_broken_record_is_told(change: dict[str, object]) -> None:
    good = record_of(State("e", 1, Phase.ACTIVE, 0.0, 1_000.0, 1.0))
    StateTable(2).restore([good])
    with pytest.raises(CorruptData, match="a state record cannot be read"):
        StateTable(2).restore([{**good, **change}])


@pytest.mark.parametrize("fault", ["generation", "phase", "expiry", "timer", "measured", "touched", "full", "leak"])
def test_validate_catches_a_broken_table(fault: str) -> None:
    table = StateTable(5)
    table.apply(EventBatch.of([event(Happening.PREPARED, 0.0, name) for name in "ab"]))
    table.validate()
    row = table._index.find_one("a")
    if fault == "generation":
        table._states.generation[row] = 0
    elif fault == "phase":
        table._states.phase[row] = Phase.ARCHIVED.code
    elif fault == "expiry":
        table._states.expires_at_s[row] = np.inf
    elif fault == "timer":
        table._timers.clear()
    elif fault == "measured":
        table._states.phase[row] = Phase.MEASURED.code
    elif fault == "touched":
        table._touched[:] = 7
    elif fault == "full":
        table._capacity = 1
    else:
        table._index.remove(np.array([row], dtype=np.int32))
    with pytest.raises(AssertionError):
        table.validate()
