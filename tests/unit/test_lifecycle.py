"""The lifecycle, as a machine against a plain model."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quantum_db.errors import IllegalTransition
from quantum_db.lifecycle import Happening, Phase, State, StateEvent, StateTable, step


def event(what: Happening, at_s: float = 0.0, entity: str = "e", coherence_time_ms: float = 1_000.0) -> StateEvent:
    return StateEvent(entity, what, at_s, coherence_time_ms)


def test_a_whole_life() -> None:
    table = StateTable(10)
    table.apply([event(Happening.CREATED, 0.0)])
    table.apply([event(Happening.PREPARED, 1.0)])
    table.apply([event(Happening.MEASURED, 1.5), event(Happening.MEASURED, 1.6)])
    state = table.get("e", 1.7)
    assert state is not None
    assert (state.phase, state.measurements, state.generation, state.expires_at_s) == (Phase.MEASURED, 2, 1, 2.0)
    aged = table.get("e", 2.0)
    assert aged is not None
    assert (aged.phase, aged.since_s) == (Phase.DECOHERED, 2.0)
    transitions = table.apply([event(Happening.PREPARED, 3.0)])
    assert [t.after.phase for t in transitions] == [Phase.DECOHERED, Phase.ACTIVE]
    again = table.get("e", 3.0)
    assert again is not None
    assert (again.generation, again.measurements, again.expires_at_s) == (2, 0, 4.0)


def test_measuring_what_was_never_prepared_is_illegal_and_told_so() -> None:
    state = State("e", 1, Phase.CREATED, 0.0, 1_000.0)
    with pytest.raises(IllegalTransition, match=r"'e' \(generation 1\) is created; it cannot be measured"):
        step(state, event(Happening.MEASURED))


@pytest.mark.parametrize(
    ("phase", "what"),
    [
        (Phase.CREATED, Happening.MEASURED),
        (Phase.CREATED, Happening.EXPIRED),
        (Phase.DECOHERED, Happening.MEASURED),
        (Phase.DECOHERED, Happening.EXPIRED),
        (Phase.ARCHIVED, Happening.MEASURED),
        (Phase.ARCHIVED, Happening.ARCHIVED),
        (Phase.ACTIVE, Happening.CREATED),
    ],
)
def test_what_the_lifecycle_does_not_have_raises(phase: Phase, what: Happening) -> None:
    with pytest.raises(IllegalTransition):
        step(State("e", 1, phase, 0.0, 1.0, 1.0), event(what))


def test_eviction_archives_the_least_recently_touched_and_its_generation_goes_on() -> None:
    table = StateTable(2)
    table.apply([event(Happening.PREPARED, 0.0, name) for name in ("a", "b", "a", "c")])
    assert (table.get("a", 0.0) is None, table.get("b", 0.0) is None) == (False, True)
    transitions = table.apply([event(Happening.PREPARED, 0.1, "b")])
    assert [(t.after.entity_id, t.after.phase) for t in transitions][-1] == ("a", Phase.ARCHIVED)
    state = table.get("b", 0.1)
    assert state is not None
    assert state.generation == 2


def test_writing_an_entity_anew_archives_its_old_state() -> None:
    table = StateTable(5)
    transitions = table.apply([event(Happening.PREPARED), event(Happening.CREATED, 0.5)])
    assert [t.after.phase for t in transitions] == [Phase.CREATED, Phase.ACTIVE, Phase.ARCHIVED, Phase.CREATED]


def test_generations_from_an_earlier_life_go_on() -> None:
    table = StateTable(5, {"e": 7})
    table.apply([event(Happening.PREPARED)])
    state = table.get("e", 0.0)
    assert state is not None
    assert state.generation == 8


def test_validate_catches_a_broken_table() -> None:
    table = StateTable(5)
    table.apply([event(Happening.PREPARED)])
    table._states["e"] = State("other", 1, Phase.ACTIVE, 0.0, 1.0, 1.0)
    with pytest.raises(AssertionError):
        table.validate()


class LifecycleMachine(RuleBasedStateMachine):
    """Any legal sequence keeps the invariants; generations never go back."""

    def __init__(self) -> None:
        super().__init__()
        self.table = StateTable(3)
        self.now_s = 0.0
        self.generations: dict[str, int] = {}

    names = st.sampled_from(["a", "b", "c", "d", "e"])

    @rule(name=names, seconds=st.floats(0.0, 2.0))
    def prepare_and_measure(self, name: str, seconds: float) -> None:
        self.now_s += seconds
        self.apply([event(Happening.PREPARED, self.now_s, name), event(Happening.MEASURED, self.now_s, name)])
        state = self.table.get(name, self.now_s)
        assert state is not None
        assert state.phase is Phase.MEASURED

    @rule(name=names, what=st.sampled_from([Happening.CREATED, Happening.ARCHIVED]))
    def write_or_delete(self, name: str, what: Happening) -> None:
        self.apply([event(what, self.now_s, name)])

    def apply(self, events: list[StateEvent]) -> None:
        for transition in self.table.apply(events):
            state = transition.after
            assert state.generation >= self.generations.get(state.entity_id, 0)
            self.generations[state.entity_id] = state.generation

    @invariant()
    def holds(self) -> None:
        self.table.validate()
        assert sum(self.table.counts().values()) == len(self.table)


TestLifecycleMachine = LifecycleMachine.TestCase
TestLifecycleMachine.settings = settings(max_examples=50, deadline=None)
