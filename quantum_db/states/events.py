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


@dataclass(frozen=True, slots=True, eq=False)
class EventBatch:
    """N events in order.

    Attributes:
        ids: (N,) strings.
        codes: (N,) ``Happening.code``.
        at_s: (N,) seconds since the epoch, finite.
        coherence_ms: (N,) coherence times; 0 where the event has none.
    """

    ids: Ids
    codes: NDArray[np.uint8]
    at_s: NDArray[np.float64]
    coherence_ms: NDArray[np.float32]

    @classmethod
    def of(cls, events: Sequence[StateEvent]) -> EventBatch:
        """Return the events as columns."""
        return cls(
            np.array([event.entity_id for event in events], dtype=np.object_),
            np.array([event.what.code for event in events], dtype=np.uint8),
            np.array([event.at_s for event in events], dtype=np.float64),
            np.array([event.coherence_time_ms or 0.0 for event in events], dtype=np.float32),
        )

    def check(self) -> None:
        """Raise InvalidRequest if the columns do not fit each other or hold what they must not."""
        if not self.ids.shape == self.codes.shape == self.at_s.shape == self.coherence_ms.shape == (len(self.ids),):
            raise InvalidRequest("the columns of an event batch must be of one length")
        if not (np.isfinite(self.at_s).all() and (self.coherence_ms >= 0.0).all()):
            raise InvalidRequest("the times of an event batch must be finite, and its coherence times not negative")
        if len(self) and int(self.codes.max()) >= len(HAPPENINGS):
            raise InvalidRequest(f"the codes of an event batch must be below {len(HAPPENINGS)}")

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, positions: NDArray[np.intp] | slice) -> EventBatch:
        """Return the events at some positions."""
        return EventBatch(
            self.ids[positions], self.codes[positions], self.at_s[positions], self.coherence_ms[positions]
        )

    def __iter__(self) -> Iterator[StateEvent]:
        columns = (self.ids.tolist(), self.codes.tolist(), self.at_s.tolist(), self.coherence_ms.tolist())
        for entity_id, code, at_s, coherence_ms in zip(*columns, strict=True):
            yield StateEvent(entity_id, HAPPENINGS[code], at_s, coherence_ms or None)
