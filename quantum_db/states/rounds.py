"""A chunk of events, several for one entity: rounds of array operations in which every entity makes a step.

What is most common, by far, is that a live state is prepared (no change) and measured (one more measurement), again and
again. Each round passes such runs in one go, whatever their length, and then lets every entity take one other event. A
few entities with many of those are followed event by event, which is cheaper for them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.errors import IllegalTransition
from quantum_db.hashing import Rows
from quantum_db.lifecycle import Happening, Phase, aged, follow, refusal
from quantum_db.states.columns import ABSENT, PHASES, Refusal, StateColumns
from quantum_db.states.events import HAPPENINGS, EventBatch
from quantum_db.states.steps import StepLog, is_live, take_step

LEAST_ROUND: Final = 16
"""Below so many entities a round costs more than to follow their events one by one."""

Places = NDArray[np.int64]


class Rounds:
    """N events on their way into the rows of a table, those of one row side by side and in order.

    Attributes:
        rows: the distinct rows.
        last: of each row, the position in the batch of the last event that was not refused; -1 if there is none.
        refused: what the lifecycle does not allow, in any order.
    """

    def __init__(self, states: StateColumns, rows: Rows, events: EventBatch, log: StepLog) -> None:
        """Take (N,) rows and events, in the batch's order."""
        packed = np.sort(rows.astype(np.int64) << 32 | np.arange(len(rows)))
        self._positions = packed & 0xFFFFFFFF
        self._states, self._events, self._log = states, events.take(self._positions), log
        rows = (packed >> 32).astype(np.int32)
        first = np.flatnonzero(np.append(True, rows[1:] != rows[:-1]))
        self._at, self._end = first, np.append(first[1:], len(rows))
        self._set_runs()
        self.rows = rows[first]
        self.last = np.full(len(first), -1, dtype=np.int64)
        self.refused: list[Refusal] = []

    def run(self) -> None:
        """Apply all events."""
        while True:
            self._pass_runs()
            going = np.flatnonzero(self._at < self._end)
            if going.size < LEAST_ROUND:
                break
            self._step(going)
        for one in going.tolist():
            self._follow_alone(one)

    def _set_runs(self) -> None:
        """Find the runs of preparing and measuring: behind which place each event's ends, and its latest time."""
        codes = self._events.codes
        other = (codes != Happening.PREPARED.code) & (codes != Happening.MEASURED.code)
        next_other = np.minimum.accumulate(np.where(other, np.arange(len(codes)), len(codes))[::-1])[::-1]
        self._stop = np.minimum(next_other, np.repeat(self._end, self._end - self._at))
        begins = other.copy()
        begins[1:] |= other[:-1]
        begins[self._at] = True
        latest_s = np.maximum.reduceat(self._events.at_s, np.flatnonzero(begins))
        self._latest_s = latest_s[np.cumsum(begins) - 1]

    def _pass_runs(self) -> None:
        """Let live states pass the runs that they stand before and that end before they expire."""
        going = np.flatnonzero(self._at < self._end)
        at, rows = self._at[going], self.rows[going]
        passes = (self._stop[at] > at) & is_live(self._states.phase[rows])
        passes &= self._latest_s[at] < self._states.expires_at_s[rows]
        going, at, rows = going[passes], at[passes], rows[passes]
        if not going.size:
            return
        lengths = self._stop[at] - at
        owner = np.repeat(np.arange(len(going)), lengths)
        places = np.arange(len(owner)) + np.repeat(at - (np.cumsum(lengths) - lengths), lengths)
        measuring = self._events.codes[places] == Happening.MEASURED.code
        self._measure(rows, owner[measuring], places[measuring])
        self._at[going] = self._stop[at]
        self.last[going] = self._positions[self._stop[at] - 1]

    def _measure(self, rows: Rows, owner: Places, places: Places) -> None:
        """Measure live states as often as they come among the owners; both are in one order."""
        counts = np.bincount(owner, minlength=len(rows))
        number = np.arange(1, len(owner) + 1) - np.repeat(np.cumsum(counts) - counts, counts)
        first, measured = number == 1, counts > 0
        before, earlier = self._states.phase[rows], self._states.measurements[rows]
        woken = first & (before[owner] == Phase.ACTIVE.code)
        self._states.since_s[rows[owner[woken]]] = self._events.at_s[places[woken]]
        self._states.phase[rows[measured]] = Phase.MEASURED.code
        self._states.measurements[rows] += counts.astype(np.uint32)
        after = replace(self._states.take(rows[owner]), measurements=earlier[owner] + number.astype(np.uint32))
        self._log.note(rows[owner], np.where(first, before[owner], Phase.MEASURED.code).astype(np.uint8), after)

    def _step(self, going: Places) -> None:
        """Let each of these entities take its next event."""
        at, rows = self._at[going], self.rows[going]
        refused = take_step(self._states, rows, self._events.take(at), self._log)
        self.last[going[~refused]] = self._positions[at[~refused]]
        self._at[going] = at + 1
        for row, place in zip(rows[refused].tolist(), at[refused].tolist(), strict=True):
            generation, phase = int(self._states.generation[row]), int(self._states.phase[row])
            standing = (generation + 1, Phase.CREATED) if phase == ABSENT else (generation, PHASES[phase])
            what = HAPPENINGS[self._events.codes[place]]
            self._refuse(place, refusal(self._events.ids[place], *standing, what))

    def _follow_alone(self, one: int) -> None:
        """Let one entity take all its other events by ``lifecycle.follow``."""
        row, state = int(self.rows[one]), None
        if self._states.phase[row] != ABSENT:
            state = self._states.state(row, self._events.ids[self._at[one]])
        generation = int(self._states.generation[row])
        latest = state
        start, end = int(self._at[one]), int(self._end[one])
        for place, event in enumerate(self._events.take(slice(start, end)), start):
            if state is not None and (older := aged(state, event.at_s)) is not state:
                self._log.note_one(row, state.phase.code, older)
                state = latest = older
            try:
                passed = follow(state, event, generation)
            except IllegalTransition as error:
                self._refuse(place, error.detail)
                continue
            self.last[one] = self._positions[place]
            for after in passed:
                self._log.note_one(row, ABSENT if state is None else state.phase.code, after)
                generation, latest = after.generation, after
                state = None if after.phase is Phase.ARCHIVED else after
        if latest is not None:
            self._states.put_one(row, latest)

    def _refuse(self, place: int, reason: str) -> None:
        self.refused.append(Refusal(int(self._positions[place]), self._events.ids[place], reason))
