"""The lifecycle of a state: events in, transitions out; no I/O, and time comes with the events.

An entity is durable in the store at every stage. A state is one preparation of it for queries::

    Created --prepared--> Active --measured--> Measured --expired--> Decohered --archived--> Archived

A state may also expire or be archived earlier. Preparing a decohered or archived state starts a new instance, one
generation later. Every other step raises IllegalTransition.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from quantum_db.errors import IllegalTransition


class Phase(Enum):
    """Where a state stands in its life."""

    CREATED = "created"
    ACTIVE = "active"
    MEASURED = "measured"
    DECOHERED = "decohered"
    ARCHIVED = "archived"


class Happening(Enum):
    """What can happen to a state."""

    CREATED = "created"
    PREPARED = "prepared"
    MEASURED = "measured"
    EXPIRED = "expired"
    ARCHIVED = "archived"


@dataclass(frozen=True, slots=True)
class StateEvent:
    """Something that happened to an entity's state at ``at_s`` (seconds since the epoch)."""

    entity_id: str
    what: Happening
    at_s: float
    coherence_time_ms: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """One state instance. ``expires_at_s`` is when it decoheres, counted from its preparation."""

    entity_id: str
    generation: int
    phase: Phase
    since_s: float
    coherence_time_ms: float
    expires_at_s: float | None = None
    measurements: int = 0


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of one state: ``before`` is None for a state that is new to the table."""

    before: State | None
    after: State


_STEPS: dict[tuple[Phase, Happening], Phase] = {
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


def step(state: State, event: StateEvent) -> State:
    """Return the state after the event.

    Raises:
        IllegalTransition: the lifecycle has no such step.
    """
    phase = _STEPS.get((state.phase, event.what))
    if phase is None:
        raise IllegalTransition(
            f"the state of {event.entity_id!r} (generation {state.generation}) is {state.phase.value}; "
            f"it cannot be {event.what.value}"
        )
    after = replace(state, phase=phase)
    if phase is not state.phase:
        after = replace(after, since_s=event.at_s)
    if event.what is Happening.MEASURED:
        after = replace(after, measurements=state.measurements + 1)
    if event.what is Happening.PREPARED and phase is Phase.ACTIVE and state.phase is not Phase.ACTIVE:
        coherence_time_ms = event.coherence_time_ms or state.coherence_time_ms
        again = state.phase in (Phase.DECOHERED, Phase.ARCHIVED)
        after = replace(
            after,
            generation=state.generation + again,
            coherence_time_ms=coherence_time_ms,
            expires_at_s=event.at_s + coherence_time_ms / 1000.0,
            measurements=0,
        )
    return after


class StateTable:
    """The current state of each entity, bounded: beyond ``capacity`` the least recently touched are archived.

    A state that expired since it was last touched decoheres before its next event, at the time it expired.
    """

    def __init__(self, capacity: int, generations: Mapping[str, int] | None = None) -> None:
        """Start empty.

        Args:
            generations: the last generation of entities that were archived earlier.
        """
        self._capacity = capacity
        self._states: OrderedDict[str, State] = OrderedDict()
        self._generations = dict(generations or {})

    def __len__(self) -> int:
        return len(self._states)

    def get(self, entity_id: str, now_s: float) -> State | None:
        """Return the state as it is at ``now_s``, or None if the table has never seen or has archived it."""
        state = self._states.get(entity_id)
        return None if state is None else _aged(state, now_s)

    def apply(self, events: Sequence[StateEvent]) -> list[Transition]:
        """Apply events in order and return every step made, evictions included.

        ``created`` on a state that exists (an entity written anew) archives the old instance. All or nothing is not
        promised: on IllegalTransition the events before it have been applied.
        """
        transitions: list[Transition] = []
        for event in events:
            transitions += self._apply(event)
        while len(self._states) > self._capacity:
            state = next(iter(self._states.values()))
            transitions += self._archive(state, state.since_s)
        return transitions

    def counts(self) -> dict[str, int]:
        """Return how many states of the table are in each phase (as of their last event)."""
        counts = {phase.value: 0 for phase in Phase}
        for state in self._states.values():
            counts[state.phase.value] += 1
        return counts

    def validate(self) -> None:
        """Raise AssertionError if an invariant is broken. For tests."""
        assert len(self._states) <= self._capacity
        for entity_id, state in self._states.items():
            assert state.entity_id == entity_id
            assert state.phase is not Phase.ARCHIVED
            assert state.generation >= 1
            assert (state.measurements > 0) or state.phase is not Phase.MEASURED
            assert (state.expires_at_s is None) == (state.phase is Phase.CREATED)

    def _apply(self, event: StateEvent) -> list[Transition]:
        state = self._states.get(event.entity_id)
        transitions = []
        if state is not None and (aged := _aged(state, event.at_s)) is not state:
            transitions.append(Transition(state, aged))
            state = self._states[event.entity_id] = aged
        if event.what is Happening.ARCHIVED:
            return transitions + (self._archive(state, event.at_s) if state is not None else [])
        if event.what is Happening.CREATED and state is not None:
            transitions += self._archive(state, event.at_s)
            state = None
        before = state
        if state is None:
            state = self._first(event)
            transitions.append(Transition(None, state))
            before = state
        if event.what is not Happening.CREATED:
            after = step(state, event)
            if after != before:
                transitions.append(Transition(before, after))
            state = after
        self._states[event.entity_id] = state
        self._states.move_to_end(event.entity_id)
        return transitions

    def _first(self, event: StateEvent) -> State:
        generation = self._generations.pop(event.entity_id, 0) + 1
        return State(event.entity_id, generation, Phase.CREATED, event.at_s, event.coherence_time_ms or 0.0)

    def _archive(self, state: State, at_s: float) -> list[Transition]:
        del self._states[state.entity_id]
        self._generations[state.entity_id] = state.generation
        return [Transition(state, replace(state, phase=Phase.ARCHIVED, since_s=at_s))]


def _aged(state: State, now_s: float) -> State:
    """Return the state after its coherence time has run out, if it has."""
    live = state.phase in (Phase.ACTIVE, Phase.MEASURED)
    if not live or state.expires_at_s is None or now_s < state.expires_at_s:
        return state
    return replace(state, phase=Phase.DECOHERED, since_s=state.expires_at_s)
