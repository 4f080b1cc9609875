"""States and transitions as struct of arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.lifecycle import Phase, State, Transition
from quantum_db.states.events import Ids

PHASES: Final = tuple(Phase)
ABSENT: Final = len(PHASES)
"""Code of a row whose entity has no state, or an archived one. Its ``generation`` is the last one."""

At = NDArray[np.int32] | NDArray[np.intp] | NDArray[np.bool_] | slice


@dataclass(frozen=True, slots=True, eq=False)
class StateColumns:
    """The fields of N states; ``expires_at_s`` is infinite and ``commit`` is 0 where there is none."""

    phase: NDArray[np.uint8]
    generation: NDArray[np.uint32]
    since_s: NDArray[np.float64]
    coherence_ms: NDArray[np.float32]
    expires_at_s: NDArray[np.float64]
    measurements: NDArray[np.uint32]
    commit: NDArray[np.int64]

    @classmethod
    def absent(cls, rows: int) -> StateColumns:
        """Return rows without states."""
        return cls(
            phase=np.full(rows, ABSENT, dtype=np.uint8),
            generation=np.zeros(rows, dtype=np.uint32),
            since_s=np.zeros(rows),
            coherence_ms=np.zeros(rows, dtype=np.float32),
            expires_at_s=np.full(rows, np.inf),
            measurements=np.zeros(rows, dtype=np.uint32),
            commit=np.zeros(rows, dtype=np.int64),
        )

    @classmethod
    def of(cls, states: Sequence[State]) -> StateColumns:
        """Return states as columns."""
        return cls(
            phase=np.array([state.phase.code for state in states], dtype=np.uint8),
            generation=np.array([state.generation for state in states], dtype=np.uint32),
            since_s=np.array([state.since_s for state in states], dtype=np.float64),
            coherence_ms=np.array([state.coherence_time_ms for state in states], dtype=np.float32),
            expires_at_s=np.array(
                [math.inf if state.expires_at_s is None else state.expires_at_s for state in states], dtype=np.float64
            ),
            measurements=np.array([state.measurements for state in states], dtype=np.uint32),
            commit=np.array([state.commit for state in states], dtype=np.int64),
        )

    @classmethod
    def concatenated(cls, parts: Sequence[StateColumns]) -> StateColumns:
        """Return the parts, one after the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in _NAMES))

    def __len__(self) -> int:
        return len(self.phase)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(getattr(self, name).nbytes for name in _NAMES)

    def take(self, at: At) -> StateColumns:
        """Return a copy of some states."""
        return StateColumns(*(getattr(self, name)[at] for name in _NAMES))

    def put(self, at: At, states: StateColumns) -> None:
        """Overwrite some states. An archived one leaves its row ``ABSENT``, with its generation."""
        for name in _NAMES:
            getattr(self, name)[at] = getattr(states, name)
        self.phase[at] = np.where(states.phase == Phase.ARCHIVED.code, ABSENT, states.phase)

    def put_one(self, at: int, state: State) -> None:
        """Overwrite one state, as ``put`` does."""
        self.phase[at] = ABSENT if state.phase is Phase.ARCHIVED else state.phase.code
        self.generation[at] = state.generation
        self.since_s[at] = state.since_s
        self.coherence_ms[at] = state.coherence_time_ms
        self.expires_at_s[at] = math.inf if state.expires_at_s is None else state.expires_at_s
        self.measurements[at] = state.measurements
        self.commit[at] = state.commit

    def state(self, at: int, entity_id: str) -> State:
        """Return one state, which is not absent."""
        expires_at_s = float(self.expires_at_s[at])
        return State(
            entity_id=entity_id,
            generation=int(self.generation[at]),
            phase=PHASES[self.phase[at]],
            since_s=float(self.since_s[at]),
            coherence_time_ms=float(self.coherence_ms[at]),
            expires_at_s=None if math.isinf(expires_at_s) else expires_at_s,
            measurements=int(self.measurements[at]),
            commit=int(self.commit[at]),
        )


_NAMES: Final = tuple(field.name for field in fields(StateColumns))


@dataclass(frozen=True, slots=True, eq=False)
class Transitions:
    """T steps; those of one entity are in their order. ``before`` is ``ABSENT`` where ``Transition.before`` is None."""

    ids: Ids
    before: NDArray[np.uint8]
    after: StateColumns

    @classmethod
    def concatenated(cls, parts: Sequence[Transitions]) -> Transitions:
        """Return the parts, one after the other."""
        if not parts:
            return cls(np.empty(0, dtype=np.object_), np.empty(0, dtype=np.uint8), StateColumns.absent(0))
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.before for part in parts]),
            StateColumns.concatenated([part.after for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Transition]:
        for at, (entity_id, before) in enumerate(zip(self.ids, self.before, strict=True)):
            yield Transition(None if before == ABSENT else PHASES[before], self.after.state(at, entity_id))

    def counts(self) -> dict[Phase, int]:
        """Return how many steps lead to each phase."""
        return dict(zip(PHASES, np.bincount(self.after.phase, minlength=len(PHASES)).tolist(), strict=True))

    def archived(self) -> list[State]:
        """Return the instances that have come to their end."""
        ends = np.flatnonzero(self.after.phase == Phase.ARCHIVED.code)
        return [self.after.state(int(at), self.ids[at]) for at in ends]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that the lifecycle does not allow; it changed nothing. ``position`` is its place in the batch."""

    position: int
    entity_id: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a batch of events did."""

    transitions: Transitions
    refused: tuple[Refusal, ...]
