"""One event for each of many states, in array operations: ``lifecycle.follow`` for a whole batch."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.hashing import Rows
from quantum_db.lifecycle import STEPS, Happening, Phase, State
from quantum_db.states.columns import ABSENT, StateColumns, Transitions
from quantum_db.states.events import EventBatch, Ids

_REFUSED: Final = 255


def _step_codes() -> NDArray[np.uint8]:
    """Return the code of the next phase, (phases and ``ABSENT``, happenings)."""
    codes = np.full((ABSENT + 1, len(Happening)), _REFUSED, dtype=np.uint8)
    for (phase, what), after in STEPS.items():
        codes[phase.code, what.code] = after.code
    return codes


_NEXT: Final = _step_codes()
_LIVE: Final = np.array([code in (Phase.ACTIVE.code, Phase.MEASURED.code) for code in range(ABSENT + 1)])


def is_live(phases: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which states expire: the active and the measured ones."""
    return np.asarray(_LIVE[phases])


class StepLog:
    """Collects the steps that rows make, in order."""

    def __init__(self) -> None:
        self._rows: list[Rows] = []
        self._before: list[NDArray[np.uint8]] = []
        self._after: list[StateColumns] = []
        self._single: list[tuple[int, int, State]] = []

    def note(self, rows: Rows, before: NDArray[np.uint8], after: StateColumns) -> None:
        """Note a step of each row."""
        self._rows.append(rows)
        self._before.append(before)
        self._after.append(after)

    def note_one(self, row: int, before: int, after: State) -> None:
        """Note a single step. All single steps come after the others."""
        self._single.append((row, before, after))

    def transitions(self, ids: Ids) -> Transitions:
        """Return what was noted. ``ids`` are those of all rows."""
        if self._single:
            rows, before, after = zip(*self._single, strict=True)
            self._rows.append(np.array(rows, dtype=np.int32))
            self._before.append(np.array(before, dtype=np.uint8))
            self._after.append(StateColumns.of(after))
        parts = [
            Transitions(ids[rows], before, after)
            for rows, before, after in zip(self._rows, self._before, self._after, strict=True)
        ]
        return Transitions.concatenated(parts)


def decohere(states: StateColumns, rows: Rows, now_s: NDArray[np.float64] | float, log: StepLog) -> None:
    """Age rows up to ``now_s``: what has expired becomes decohered, since the time that it expired."""
    phase = states.phase[rows]
    due = _LIVE[phase] & (states.expires_at_s[rows] <= now_s)
    if due.any():
        rows = rows[due]
        states.phase[rows] = Phase.DECOHERED.code
        states.since_s[rows] = states.expires_at_s[rows]
        log.note(rows, phase[due], states.take(rows))


def take_step(states: StateColumns, rows: Rows, events: EventBatch, log: StepLog) -> NDArray[np.bool_]:
    """Apply one event to each of N distinct rows; return which events are refused, (N,). Those only age their rows.

    An archived row is left ``ABSENT``, with its generation.
    """
    decohere(states, rows, events.at_s, log)
    told = (events.commits > 0) & (events.commits <= states.commit[rows]) & (states.phase[rows] != ABSENT)
    creating = (events.codes == Happening.CREATED.code) & ~told
    archiving = creating | ((events.codes == Happening.ARCHIVED.code) & ~told)
    beginning = creating | (events.codes == Happening.PREPARED.code)
    _archive(states, rows, events, archiving, log)
    _begin(states, rows, events, beginning, log)
    return _follow(states, rows, events, ~(archiving | told), log)


def _archive(states: StateColumns, rows: Rows, events: EventBatch, asked: NDArray[np.bool_], log: StepLog) -> None:
    phase = states.phase[rows]
    ended = asked & (phase != ABSENT)
    if ended.any():
        rows = rows[ended]
        states.phase[rows] = Phase.ARCHIVED.code
        states.since_s[rows] = events.at_s[ended]
        states.commit[rows] = np.maximum(states.commit[rows], events.commits[ended])
        log.note(rows, phase[ended], states.take(rows))
        states.phase[rows] = ABSENT


def _begin(states: StateColumns, rows: Rows, events: EventBatch, asked: NDArray[np.bool_], log: StepLog) -> None:
    new = asked & (states.phase[rows] == ABSENT)
    if new.any():
        rows = rows[new]
        states.phase[rows] = Phase.CREATED.code
        states.generation[rows] += np.uint32(1)
        states.since_s[rows] = events.at_s[new]
        states.coherence_ms[rows] = events.coherence_ms[new]
        states.expires_at_s[rows] = np.inf
        states.measurements[rows] = 0
        states.commit[rows] = events.commits[new]
        log.note(rows, np.full(len(rows), ABSENT, dtype=np.uint8), states.take(rows))


def _follow(
    states: StateColumns, rows: Rows, events: EventBatch, asked: NDArray[np.bool_], log: StepLog
) -> NDArray[np.bool_]:
    phase = states.phase[rows]
    after = _NEXT[phase, events.codes]
    refused = asked & (after == _REFUSED)
    measured = events.codes == Happening.MEASURED.code
    changed = asked & ~refused & ((after != phase) | measured)
    if not changed.any():
        return np.asarray(refused)
    moved = changed & (after != phase)
    states.phase[rows[moved]] = after[moved]
    states.since_s[rows[moved]] = events.at_s[moved]
    states.measurements[rows[changed & measured]] += np.uint32(1)
    prepared = changed & (events.codes == Happening.PREPARED.code)
    if prepared.any():
        _prepare(states, rows[prepared], events.at_s[prepared], events.coherence_ms[prepared], phase[prepared])
    log.note(rows[changed], phase[changed], states.take(rows[changed]))
    return np.asarray(refused)


def _prepare(
    states: StateColumns,
    rows: Rows,
    at_s: NDArray[np.float64],
    asked_ms: NDArray[np.float32],
    before: NDArray[np.uint8],
) -> None:
    states.generation[rows] += (before == Phase.DECOHERED.code).astype(np.uint32)
    coherence_ms = np.where(asked_ms > 0.0, asked_ms, states.coherence_ms[rows])
    states.coherence_ms[rows] = coherence_ms
    states.expires_at_s[rows] = at_s + coherence_ms.astype(np.float64) / 1000.0
    states.measurements[rows] = 0
