"""The lifecycle of one state, step by step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quantum_db.errors import IllegalTransition
from quantum_db.lifecycle import STEPS, Happening, Phase, State, StateEvent, aged, follow, step


def event(what: Happening, at_s: float = 0.0, coherence_time_ms: float | None = 1_000.0) -> StateEvent:
    return StateEvent("e", what, at_s, coherence_time_ms)


def test_a_whole_life() -> None:
    (state,) = follow(None, event(Happening.CREATED, 0.0))
    assert (state.phase, state.generation, state.expires_at_s) == (Phase.CREATED, 1, None)
    (state,) = follow(state, event(Happening.PREPARED, 1.0))
    for at_s in (1.5, 1.6):
        (state,) = follow(state, event(Happening.MEASURED, at_s))
    assert (state.phase, state.since_s, state.measurements, state.expires_at_s) == (Phase.MEASURED, 1.5, 2, 2.0)
    assert aged(state, 1.999) is state
    state = aged(state, 7.0)
    assert (state.phase, state.since_s) == (Phase.DECOHERED, 2.0)
    (state,) = follow(state, event(Happening.PREPARED, 8.0, None))
    assert (state.phase, state.generation, state.measurements, state.expires_at_s) == (Phase.ACTIVE, 2, 0, 9.0)
    assert follow(state, event(Happening.PREPARED, 8.5)) == (), "it is prepared already, and does not live longer"
    (state,) = follow(state, event(Happening.ARCHIVED, 8.7))
    assert (state.phase, state.since_s, state.generation) == (Phase.ARCHIVED, 8.7, 2)


def test_codes_are_places() -> None:
    for kind in (Phase, Happening):
        assert [member.code for member in kind] == list(range(5))


def test_measuring_what_was_never_prepared_is_illegal_and_told_so() -> None:
    state = State("e", 1, Phase.CREATED, 0.0, 1_000.0)
    for before in (state, None):
        with pytest.raises(IllegalTransition, match=r"'e' \(generation 1\) is created; it cannot be measured"):
            follow(before, event(Happening.MEASURED))


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


def test_generations_go_on_after_an_archived_instance() -> None:
    created, active = follow(None, event(Happening.PREPARED), last_generation=7)
    assert (created.generation, created.phase, active.generation, active.phase) == (
        8, Phase.CREATED, 8, Phase.ACTIVE,
    )  # fmt: skip
    archived, anew = follow(active, event(Happening.CREATED, 0.5))
    assert (archived.phase, archived.generation, anew.phase, anew.generation) == (
        Phase.ARCHIVED, 8, Phase.CREATED, 9,
    )  # fmt: skip
    assert follow(None, event(Happening.ARCHIVED)) == ()


def test_the_table_of_the_docs_is_the_lifecycle() -> None:
    text = (Path(__file__).parents[2] / "docs" / "states.md").read_text(encoding="utf-8")
    head, *lines = re.findall(r"^\| (phase|created|active|measured|decohered|archived) \|(.*)\|$", text, re.MULTILINE)[
        :6
    ]
    told = {
        (Phase(phase), Happening(what.strip())): Phase(after.strip())
        for phase, cells in lines
        for what, after in zip(head[1].split("|"), cells.split("|"), strict=True)
        if after.strip()
    }
    assert told == STEPS
