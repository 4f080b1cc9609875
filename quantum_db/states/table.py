"""The current state of each entity: a bounded table of arrays, with batches of events in and transitions out.

Beyond ``capacity`` the least recently touched states are archived, some at a time. Whatever leaves the table leaves it
as a transition to ``archived``, which the caller writes down. What stays behind of an archived state is its generation,
in bounded memory (``LastNumbers``): the next instance is one generation later, or more where that was forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, Final

import numpy as np

from quantum_db.hashing import NONE, IdIndex, Rows
from quantum_db.last_numbers import LastNumbers, is_of_numbers
from quantum_db.lifecycle import Happening, Phase, State, aged
from quantum_db.states.columns import ABSENT, PHASES, Outcome, Refusal, StateColumns, Transitions
from quantum_db.states.copies import TableCopy
from quantum_db.states.events import EventBatch, Ids
from quantum_db.states.records import state_of
from quantum_db.states.rounds import Rounds
from quantum_db.states.steps import StepLog, decohere, is_live, take_step
from quantum_db.states.timers import Timers

CHUNK: Final = 16_384
"""Events that are applied at a time; after each chunk the table is within its capacity again."""
SLACK: Final = 64
"""An eviction frees one in so many places beyond what it must, so that it pays."""
REMEMBERED: Final = 500_000
"""Archived entities whose exact generation is remembered; 10 MB."""


class StateTable:
    """The hot states of many entities, and the clock of their expiry.

    A state that has expired is decohered for everyone who looks, whether or not ``advance`` has come to it.
    """

    def __init__(self, capacity: int, remembered: int = REMEMBERED) -> None:
        """Start empty. All memory of the arrays, about 90 bytes a state, is taken now."""
        self._capacity = capacity
        rows = capacity + CHUNK
        self._index = IdIndex(rows)
        self._states = StateColumns.absent(rows)
        self._touched = np.zeros(rows, dtype=np.int64)
        self._timers = Timers(rows)
        self._generations = LastNumbers(remembered)
        self._touches = 0

    def __len__(self) -> int:
        return len(self._index)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, without the strings of the ids."""
        parts = (self._index, self._states, self._timers, self._generations, self._touched)
        return sum(part.nbytes for part in parts)

    def get(self, entity_id: str, now_s: float) -> State | None:
        """Return the state as it is at ``now_s``, or None if the table has never seen or has archived it."""
        row = self._index.find_one(entity_id)
        return None if row == NONE else aged(self._states.state(row, entity_id), now_s)

    def apply(self, events: EventBatch) -> Outcome:
        """Apply events; those of one entity in their order. What is refused changes nothing but its state's age.

        Raises:
            InvalidRequest: the batch is malformed; nothing was applied.
        """
        events.check()
        parts: list[Transitions] = []
        refused: list[Refusal] = []
        for start in range(0, len(events), CHUNK):
            chunk = events.take(slice(start, start + CHUNK))
            log = StepLog()
            rounds = Rounds(self._states, self._rows_of(chunk.ids), chunk, log)
            rounds.run()
            touched = rounds.last >= 0
            self._touched[rounds.rows[touched]] = self._touches + rounds.last[touched]
            self._touches += len(chunk)
            refused += [replace(one, position=one.position + start) for one in rounds.refused]
            parts += [self._settled(rounds.rows, log), self._evict(float(chunk.at_s.max()))]
        return Outcome(Transitions.concatenated(parts), tuple(sorted(refused, key=lambda one: one.position)))

    def advance(self, now_s: float, limit: int) -> Transitions:
        """Let states that have expired by ``now_s`` decohere; call again while ``due``.

        Looks at ``limit`` states at most, so that a call takes a bounded time however many have expired.
        """
        rows, log = self._timers.pop(now_s, limit), StepLog()
        decohere(self._states, rows, now_s, log)
        self._set_timers(rows)
        return log.transitions(self._index.ids)

    def due(self, now_s: float) -> bool:
        """Return whether ``advance`` has work."""
        return self._timers.due(now_s)

    def counts(self) -> dict[Phase, int]:
        """Return how many states of the table are in each phase (as of their last event or ``advance``)."""
        found = np.bincount(self._states.phase[self._index.rows()], minlength=len(PHASES))
        return dict(zip(PHASES, found.tolist(), strict=True))

    def copy(self) -> TableCopy:
        """Return what a snapshot needs, in array operations: some 20 ms for a million states."""
        rows = self._index.rows()
        return TableCopy(
            self._generations.snapshot(), self._index.ids[rows], self._touched[rows], self._states.take(rows)
        )

    def snapshot(self) -> Iterator[dict[str, Any]]:
        """Return the records from which ``restore`` makes the same table, as it is when this is called."""
        return self.copy().records()

    def restore(self, records: Iterable[Mapping[str, Any]]) -> Transitions:
        """Take in the records of a snapshot and of transitions since then, oldest first; a later one replaces.

        Returns:
            The archivings of those that are beyond the capacity.

        Raises:
            CorruptData: a record cannot be read; those before it may have been taken in.
        """
        parts, source = [], iter(records)
        while chunk := list(islice(source, CHUNK)):
            latest: dict[str, State] = {}
            for record in chunk:
                if is_of_numbers(record):
                    self._generations.restore(record)
                    continue
                state = state_of(record)
                latest.pop(state.entity_id, None)
                latest[state.entity_id] = state
            if latest:
                self._put(list(latest.values()))
                parts.append(self._evict(max(state.since_s for state in latest.values())))
        return Transitions.concatenated(parts)

    def validate(self) -> None:
        """Raise AssertionError if an invariant is broken. For tests."""
        self._index.validate()
        assert len(self) <= self._capacity
        rows = self._index.rows()
        states = self._states.take(rows)
        live = is_live(states.phase)
        assert (states.phase < Phase.ARCHIVED.code).all()
        assert (states.generation >= 1).all()
        assert ((states.measurements > 0) | (states.phase != Phase.MEASURED.code)).all()
        assert (np.isinf(states.expires_at_s) == (states.phase == Phase.CREATED.code)).all()
        assert (np.delete(self._states.phase, rows) == ABSENT).all()
        assert len(np.unique(self._touched[rows])) == len(rows)
        self._timers.validate(rows[live], states.expires_at_s[live])

    def _rows_of(self, ids: Ids) -> Rows:
        """Return the row of each id, giving one to those that have none."""
        rows = self._index.find(ids)
        unknown = np.flatnonzero(rows == NONE)
        if unknown.size:
            new = np.array(list(dict.fromkeys(ids[unknown].tolist())), dtype=np.object_)
            self._states.generation[self._index.add(new)] = self._generations.last(new)
            rows[unknown] = self._index.find(ids[unknown])
        return rows

    def _put(self, states: list[State]) -> None:
        rows = self._rows_of(np.array([state.entity_id for state in states], dtype=np.object_))
        self._states.put(rows, StateColumns.of(states))
        self._touched[rows] = self._touches + np.arange(len(rows))
        self._touches += len(rows)
        self._settled(rows, StepLog())

    def _settled(self, rows: Rows, log: StepLog) -> Transitions:
        """Set the timers of rows, take back those that are absent, and return the steps that were made."""
        transitions = log.transitions(self._index.ids)
        gone = rows[self._states.phase[rows] == ABSENT]
        if gone.size:
            self._generations.put(self._index.ids[gone], self._states.generation[gone])
            self._index.remove(gone)
        self._set_timers(rows)
        return transitions

    def _set_timers(self, rows: Rows) -> None:
        if self._timers.crowded:
            self._timers.clear()
            rows = self._index.rows()
        live = rows[is_live(self._states.phase[rows])]
        self._timers.set(live, self._states.expires_at_s[live])

    def _evict(self, now_s: float) -> Transitions:
        """Archive the least recently touched of a table that is too full."""
        too_many = len(self) - self._capacity
        if too_many <= 0:
            return Transitions.concatenated([])
        rows, count = self._index.rows(), too_many + self._capacity // SLACK
        touched = self._touched[rows]
        oldest = rows[np.argpartition(touched, count - 1)[:count]]
        oldest = oldest[np.argsort(self._touched[oldest])]
        ends = EventBatch(
            self._index.ids[oldest],
            np.full(count, Happening.ARCHIVED.code, dtype=np.uint8),
            np.full(count, now_s),
            np.zeros(count, dtype=np.float32),
            np.zeros(count, dtype=np.int64),
        )
        log = StepLog()
        take_step(self._states, oldest, ends, log)
        return self._settled(oldest, log)
