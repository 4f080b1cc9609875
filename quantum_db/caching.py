"""What is kept for a while: bounded by size and by age, least recently used out first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from quantum_db.ports import Clock

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Kept(Generic[V]):
    value: V
    size: int
    until_s: float


class BoundedCache(Generic[V]):
    """Values by key.

    Attributes:
        size: of all values together, in whatever unit theirs are told; at most ``max_size``.
        evictions: values that went for want of room.
    """

    def __init__(self, max_size: int, clock: Clock) -> None:
        """Start empty."""
        self.size = 0
        self.evictions = 0
        self._max_size = max_size
        self._clock = clock
        self._entries: OrderedDict[bytes, _Kept[V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> V | None:
        """Return the value under a key, if one is kept that is not too old."""
        found = self._entries.get(key)
        if found is None:
            return None
        if found.until_s <= self._clock.monotonic_s():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return found.value

    def put(self, key: bytes, value: V, size: int, keep_s: float) -> None:
        """Keep a value of a size for ``keep_s`` seconds, if it is not larger than the whole cache."""
        if key in self._entries:
            self._drop(key)
        if size > self._max_size or keep_s <= 0.0:
            return
        self._entries[key] = _Kept(value, size, self._clock.monotonic_s() + keep_s)
        self.size += size
        while self.size > self._max_size:
            self._drop(next(iter(self._entries)))
            self.evictions += 1

    def _drop(self, key: bytes) -> None:
        self.size -= self._entries.pop(key).size
