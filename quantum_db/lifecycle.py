"""The lifecycle of one state, event by event; no I/O, and time comes with the events.

An entity is durable in the store at every stage. A state is one preparation of it for queries::

    Created --prepared--> Active --measured--> Measured --expired--> Decohered --archived--> Archived

A state may also expire or be archived earlier. Preparing a decohered or archived state starts a new instance, one
generation later. Every other step raises IllegalTransition.

This is the specification; ``quantum_db.states`` does the same for many states at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from quantum_db.errors import IllegalTransition


class Phase(Enum):
    """Where a state stands in its life. ``code`` stands for it in arrays."""

    CREATED = "created"
    ACTIVE = "active"
    MEASURED = "measured"
    DECOHERED = "decohered"
    ARCHIVED = "archived"

    def __init__(self, _: str) -> None:
        self.code = len(type(self).__members__)


class Happening(Enum):
    """What can happen to a state. ``code`` stands for it in arrays."""

    CREATED = "created"
    PREPARED = "prepared"
    MEASURED = "measured"
    EXPIRED = "expired"
    ARCHIVED = "archived"

    def __init__(self, _: str) -> None:
        self.code = len(type(self).__members__)


@dataclass(frozen=True, slots=True)
class StateEvent:
    """Something that happened to an entity's state at ``at_s`` (seconds since the epoch).

    Attributes:
        commit: number of the write that created or archived the state; 0 where no numbered write did.
    """

    entity_id: str
    what: Happening
    at_s: float
    coherence_time_ms: float | None = None
    commit: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """One state instance. ``expires_at_s`` is when it decoheres, counted from its preparation.

    ``commit`` is the number of the last write that it was told of: an event of this or an earlier one changes nothing.
    """

    entity_id: str
    generation: int
    phase: Phase
    since_s: float
    coherence_time_ms: float
    expires_at_s: float | None = None
    measurements: int = 0
    commit: int = 0


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of one state: ``before`` is None for a new instance of an entity that had none."""

    before: Phase | None
    after: State


STEPS: Final[dict[tuple[Phase, Happening], Phase]] = {
    (Phase.CREATED, Happening.PREPARED): Phase.ACTIVE,
    (Phase.CREATED, Happening.ARCHIVED): Phase.ARCHIVED,
    (Phase.ACTIVE, Happening.PREPARED): Phase.ACTIVE,
    (Phase.ACTIVE, Happening.MEASURED): Phase.MEASURED,
    (Phase.ACTIVE, Happening.EXPIRED): Phase.DECOHERED,
    (Phase.ACTIVE, Happening.ARCHIVED): Phase.ARCHIVED,
    (Phase.MEASURED, Happening.PREPARED): Phase.MEASURED,
    (Phase.MEASURED, Happening.MEASURED): Phase.MEASURED,
    (Phase.MEASURED, Happening.EXPIRED): Phase.DECOHERED,
    (Phase.MEASURED, Happening.ARCHIVED): Phase.ARCHIVED,
    (Phase.DECOHERED, Happening.PREPARED): Phase.ACTIVE,
    (Phase.DECOHERED, Happening.ARCHIVED): Phase.ARCHIVED,
    (Phase.ARCHIVED, Happening.PREPARED): Phase.ACTIVE,
}


def refusal(entity_id: str, generation: int, phase: Phase, what: Happening) -> str:
    """Return the reason why a state cannot make a step."""
    return f"the state of {entity_id!r} (generation {generation}) is {phase.value}; it cannot be {what.value}"


def step(state: State, event: StateEvent) -> State:
    """Return the state after the event.

    Raises:
        IllegalTransition: the lifecycle has no such step.
    """
    phase = STEPS.get((state.phase, event.what))
    if phase is None:
        raise IllegalTransition(refusal(event.entity_id, state.generation, state.phase, event.what))
    if event.what is Happening.PREPARED and phase is not state.phase:
        coherence_time_ms = event.coherence_time_ms or state.coherence_time_ms
        again = state.phase in (Phase.DECOHERED, Phase.ARCHIVED)
        return replace(
            state,
            generation=state.generation + again,
            phase=phase,
            since_s=event.at_s,
            coherence_time_ms=coherence_time_ms,
            expires_at_s=event.at_s + coherence_time_ms / 1000.0,
            measurements=0,
        )
    return replace(
        state,
        phase=phase,
        since_s=state.since_s if phase is state.phase else event.at_s,
        measurements=state.measurements + (event.what is Happening.MEASURED),
        commit=max(state.commit, event.commit),
    )


def aged(state: State, now_s: float) -> State:
    """Return the state after its coherence time has run out, if it has: decohered since it expired."""
    live = state.phase in (Phase.ACTIVE, Phase.MEASURED)
    if not live or state.expires_at_s is None or now_s < state.expires_at_s:
        return state
    return replace(state, phase=Phase.DECOHERED, since_s=state.expires_at_s)


def follow(state: State | None, event: StateEvent, last_generation: int = 0) -> tuple[State, ...]:
    """Return the states that an entity goes through by one event; none where nothing changes.

    ``created`` on a state that exists (an entity written anew) archives the old instance. What tells of a write that
    the state knows of, or of an earlier one, changes nothing.

    Args:
        state: the entity's state, aged up to the event; None where it has none, or an archived one.
        last_generation: of the instances that it had, where it has none.

    Raises:
        IllegalTransition: the lifecycle has no such step.
    """
    if state is None:
        if event.what is Happening.ARCHIVED:
            return ()
        first = _first(event, last_generation)
        return (first,) if event.what is Happening.CREATED else (first, step(first, event))
    if 0 < event.commit <= state.commit:
        return ()
    if event.what is Happening.CREATED:
        commit = max(state.commit, event.commit)
        archived = replace(state, phase=Phase.ARCHIVED, since_s=event.at_s, commit=commit)
        return (archived, _first(event, state.generation))
    after = step(state, event)
    return () if after == state else (after,)


def _first(event: StateEvent, last_generation: int) -> State:
    return State(
        event.entity_id,
        last_generation + 1,
        Phase.CREATED,
        event.at_s,
        event.coherence_time_ms or 0.0,
        commit=event.commit,
    )
