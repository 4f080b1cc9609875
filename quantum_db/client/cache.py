"""Answers of queries that this client keeps for a while.

Writes through this client make it forget all of them. Of what others write, an answer from here knows nothing until it
is ``ttl_s`` old.
"""

from __future__ import annotations

from collections import OrderedDict

from quantum_db.ports import Clock


class AnswerCache:
    """The answers, as bytes, of the ``size`` queries that were asked last; none older than ``ttl_s`` seconds."""

    def __init__(self, size: int, ttl_s: float, clock: Clock) -> None:
        self._size = size
        self._ttl_s = ttl_s
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._generation = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def generation(self) -> int:
        """Grows with each ``forget``."""
        return self._generation

    def get(self, key: bytes) -> bytes | None:
        """Return the answer that is kept, if there is one that is young enough."""
        found = self._entries.get(key)
        if found is None:
            return None
        kept_until_s, answer = found
        if self._clock.monotonic_s() >= kept_until_s:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return answer

    def put(self, key: bytes, answer: bytes, asked_in: int) -> None:
        """Keep an answer to a question that was asked in a generation; one from before a write is not kept."""
        if asked_in != self._generation:
            return
        self._entries[key] = (self._clock.monotonic_s() + self._ttl_s, answer)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def forget(self) -> None:
        """Forget all answers, and those that are on their way."""
        self._entries.clear()
        self._generation += 1
