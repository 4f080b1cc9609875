"""When states expire: a heap of buckets, coarse for what is far off and fine for what is near.

Time is counted in ticks of 1/64 s. A row whose state expires in 64**l to 64**(l + 1) ticks waits in a bucket that falls
due at a multiple of 64**l ticks, before it expires; it then moves to a finer one, and at last to one of a single tick.
So there are at most 64 buckets a level, a row moves a few times at most, and nothing is ever swept::

    expires in      less than 1 s    64 s    68 min    3 days    194 days
    bucket wide           1/64 s      1 s      64 s    68 min      3 days
"""

from __future__ import annotations

from array import array
from heapq import heappop, heappush
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.hashing import Rows

TICKS_PER_S: Final = 64
_BITS: Final = 6
_LEVELS: Final = 1 << _BITS * np.arange(1, 10, dtype=np.int64)
_FAR: Final = 2.0**60
_NEVER: Final = np.iinfo(np.int64).max


class Timers:
    """Which rows fall due by a time. A row set to an earlier time leaves a stale entry, which is passed over."""

    def __init__(self, rows: int) -> None:
        """Make room for rows below ``rows``."""
        self._due = np.full(rows, _NEVER, dtype=np.int64)
        self._buckets: dict[int, array[int]] = {}
        self._heap: list[int] = []
        self._base = -int(_FAR)
        self._entries = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self._due.nbytes + sum(bucket.itemsize * len(bucket) for bucket in self._buckets.values())

    @property
    def crowded(self) -> bool:
        """Whether so many entries are stale that they should be made anew: there are two for each row."""
        return self._entries > 2 * len(self._due)

    def due(self, now_s: float) -> bool:
        """Return whether ``pop`` has work."""
        return bool(self._heap) and self._heap[0] <= _ticks(np.array([now_s]))[0]

    def clear(self) -> None:
        """Forget everything."""
        self._due[:] = _NEVER
        self._buckets.clear()
        self._heap.clear()
        self._entries = 0

    def set(self, rows: Rows, expires_at_s: NDArray[np.float64]) -> None:
        """Let each row fall due by the time that it expires. One that falls due earlier already stays as it is."""
        ticks = _ticks(expires_at_s)
        level = np.searchsorted(_LEVELS, ticks - self._base, side="right")
        shift = _BITS * level
        due = np.maximum(np.where(level == 0, ticks + 1, (ticks >> shift) << shift), self._base)
        earlier = due < self._due[rows]
        rows, due = rows[earlier], due[earlier]
        self._due[rows] = due
        self._entries += len(rows)
        order = np.argsort(due, kind="stable")
        rows, due = rows[order].astype(np.int32), due[order]
        ends = [*(np.flatnonzero(due[1:] != due[:-1]) + 1).tolist(), len(due)] if len(due) else []
        start = 0
        for end in ends:
            self._bucket(int(due[start])).frombytes(rows[start:end].tobytes())
            start = end

    def pop(self, now_s: float, limit: int) -> Rows:
        """Return rows that have fallen due, each once; they are unset. Looks at ``limit`` entries at most."""
        now = int(_ticks(np.array([now_s]))[0])
        self._base = max(self._base, now)
        found: list[Rows] = []
        while self._heap and self._heap[0] <= now and limit > 0:
            due = self._heap[0]
            bucket = self._buckets[due]
            entries = np.frombuffer(bucket[-limit:], dtype=np.int32)
            del bucket[-limit:]
            if not bucket:
                heappop(self._heap)
                del self._buckets[due]
            limit -= len(entries)
            self._entries -= len(entries)
            rows = np.unique(entries[self._due[entries] == due])
            self._due[rows] = _NEVER
            found.append(rows)
        return np.concatenate(found) if found else np.empty(0, dtype=np.int32)

    def validate(self, rows: Rows, expires_at_s: NDArray[np.float64]) -> None:
        """Raise AssertionError if one of these rows would be found too late. For tests."""
        assert sorted(self._heap) == sorted(self._buckets)
        assert self._entries == sum(map(len, self._buckets.values()))
        assert (self._due[rows] <= np.maximum(_ticks(expires_at_s) + 1, self._base)).all()
        for row in rows.tolist():
            assert row in self._buckets[int(self._due[row])]

    def _bucket(self, due: int) -> array[int]:
        if due not in self._buckets:
            self._buckets[due] = array("i")
            heappush(self._heap, due)
        return self._buckets[due]


def _ticks(times_s: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.floor(np.clip(times_s * TICKS_PER_S, -_FAR, _FAR)).astype(np.int64)
