"""States in one dict of dataclasses, event by event: the peer of ``benchmarks.states`` and the model of the tests.

It keeps what ``quantum_db.states.StateTable`` keeps, in the plainest way, and remembers every generation for ever.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from quantum_db.errors import IllegalTransition
from quantum_db.lifecycle import Happening, Phase, State, StateEvent, Transition, aged, follow
from quantum_db.states.table import SLACK


class DictStates:
    """The current state of each entity, least recently touched first."""

    def __init__(self, capacity: int) -> None:
        self.states: OrderedDict[str, State] = OrderedDict()
        self.generations: dict[str, int] = {}
        self._capacity = capacity

    def apply(self, events: Sequence[StateEvent]) -> tuple[list[Transition], list[tuple[int, str]]]:
        """Apply events in order; return the steps made, evictions last, and what is refused: (position, reason)."""
        steps: list[Transition] = []
        refused = []
        for position, event in enumerate(events):
            try:
                self._apply(event, steps)
            except IllegalTransition as error:
                refused.append((position, error.detail))
        if len(self.states) > self._capacity:
            now_s = max(event.at_s for event in events)
            for entity_id in list(self.states)[: len(self.states) - self._capacity + self._capacity // SLACK]:
                self._apply(StateEvent(entity_id, Happening.ARCHIVED, now_s), steps)
        return steps, refused

    def sweep(self, now_s: float) -> list[Transition]:
        """Let all that has expired decohere, by looking at every state."""
        steps: list[Transition] = []
        for state in self.states.values():
            if (older := aged(state, now_s)) is not state:
                self._pass(state, older, steps)
        return steps

    def get(self, entity_id: str, now_s: float) -> State | None:
        state = self.states.get(entity_id)
        return None if state is None else aged(state, now_s)

    def _apply(self, event: StateEvent, steps: list[Transition]) -> None:
        state = self.states.get(event.entity_id)
        if state is not None and (older := aged(state, event.at_s)) is not state:
            state = self._pass(state, older, steps)
        last = self.generations.get(event.entity_id, 0)
        for after in follow(state, event, last):
            state = self._pass(state, after, steps)
        if event.entity_id in self.states:
            self.states.move_to_end(event.entity_id)

    def _pass(self, state: State | None, after: State, steps: list[Transition]) -> State | None:
        steps.append(Transition(None if state is None else state.phase, after))
        if after.phase is Phase.ARCHIVED:
            del self.states[after.entity_id]
            self.generations[after.entity_id] = after.generation
            return None
        self.states[after.entity_id] = after
        return after
