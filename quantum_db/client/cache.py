"""Answers of queries that this client keeps for a while.

Writes through this client make it forget all of them. Of what others write, an answer from here knows nothing until it
is ``ttl_s`` old.
"""

from __future__ import annotations

from quantum_db.caching import BoundedCache
from quantum_db.ports import Clock


class AnswerCache:
    """The answers, as bytes, of the ``size`` queries that were asked last; none older than ``ttl_s`` seconds."""

    def __init__(self, size: int, ttl_s: float, clock: Clock) -> None:
        self._size = size
        self._ttl_s = ttl_s
        self._clock = clock
        self._answers: BoundedCache[bytes] = BoundedCache(size, clock)
        self._generation = 0

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def generation(self) -> int:
        """Grows with each ``forget``."""
        return self._generation

    def get(self, key: bytes) -> bytes | None:
        """Return the answer that is kept, if there is one that is young enough."""
        return self._answers.get(key)

    def put(self, key: bytes, answer: bytes, asked_in: int) -> None:
        """Keep an answer to a question that was asked in a generation; one from before a write is not kept."""
        if asked_in == self._generation:
            self._answers.put(key, answer, 1, self._ttl_s)

    def forget(self) -> None:
        """Forget all answers, and those that are on their way."""
        self._answers = BoundedCache(self._size, self._clock)
        self._generation += 1
