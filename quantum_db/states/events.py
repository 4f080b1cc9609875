"""Events of many states as columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantum_db.errors import InvalidRequest
from quantum_db.lifecycle import Happening, StateEvent

Ids = NDArray[np.object_]
HAPPENINGS = tuple(Happening)
_IS_OF_A_WRITE = np.array([one in (Happening.CREATED, Happening.ARCHIVED) for one in HAPPENINGS])


@dataclass(frozen=True, slots=True, eq=False)
class EventBatch:
    """N events in order.

    Attributes:
        ids: (N,) strings.
        codes: (N,) ``Happening.code``.
        at_s: (N,) seconds since the epoch, finite.
        coherence_ms: (N,) coherence times; 0 where the event has none.
        commits: (N,) numbers of writes; 0 where the event is of none.
    """

    ids: Ids
    codes: NDArray[np.uint8]
    at_s: NDArray[np.float64]
    coherence_ms: NDArray[np.float32]
    commits: NDArray[np.int64]

    @classmethod
    def of(cls, events: Sequence[StateEvent]) -> EventBatch:
        """Return the events as columns."""
        return cls(
            np.array([event.entity_id for event in events], dtype=np.object_),
            np.array([event.what.code for event in events], dtype=np.uint8),
            np.array([event.at_s for event in events], dtype=np.float64),
            np.array([event.coherence_time_ms or 0.0 for event in events], dtype=np.float32),
            np.array([event.commit for event in events], dtype=np.int64),
        )

    def check(self) -> None:
        """Raise InvalidRequest if the columns do not fit each other or hold what they must not."""
        columns = (self.ids, self.codes, self.at_s, self.coherence_ms, self.commits)
        if any(column.shape != (len(self.ids),) for column in columns):
            raise InvalidRequest("the columns of an event batch must be of one length")
        if not (np.isfinite(self.at_s).all() and (self.coherence_ms >= 0.0).all()):
            raise InvalidRequest("the times of an event batch must be finite, and its coherence times not negative")
        if len(self) and int(self.codes.max()) >= len(HAPPENINGS):
            raise InvalidRequest(f"the codes of an event batch must be below {len(HAPPENINGS)}")
        if ((self.commits != 0) & ~((self.commits > 0) & _IS_OF_A_WRITE[self.codes])).any():
            raise InvalidRequest("only what is created or archived has a commit in an event batch, and it is positive")

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, positions: NDArray[np.intp] | slice) -> EventBatch:
        """Return the events at some positions."""
        return EventBatch(
            self.ids[positions],
            self.codes[positions],
            self.at_s[positions],
            self.coherence_ms[positions],
            self.commits[positions],
        )

    def __iter__(self) -> Iterator[StateEvent]:
        columns = (self.ids, self.codes, self.at_s, self.coherence_ms, self.commits)
        for entity_id, code, at_s, coherence_ms, commit in zip(*(one.tolist() for one in columns), strict=True):
            yield StateEvent(entity_id, HAPPENINGS[code], at_s, coherence_ms or None, commit)
