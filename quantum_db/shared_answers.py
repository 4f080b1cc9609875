"""Answers that all replicas keep together, in Redis. Without Redis there are none, and nothing else changes."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from quantum_db.ports import Clock

logger = logging.getLogger(__name__)

PREFIX: Final = b"quantum-db:answer:"
WAIT_S: Final = 0.05
"""How long an answer is looked for: making it anew takes hardly longer."""

PAUSE_S: Final = 5.0
"""How long Redis is left alone after it did not answer."""

MAX_WRITES: Final = 100
"""Answers on their way to Redis at the same time; further ones are not sent."""


class RedisAnswers:
    """Implements ``SharedAnswers``. For one event loop."""

    def __init__(self, url: str, clock: Clock) -> None:
        """Connect to nothing yet. The URL is that of a Redis which may drop what is used least."""
        self._redis: Redis = Redis.from_url(url, socket_timeout=WAIT_S, socket_connect_timeout=WAIT_S)
        self._clock = clock
        self._paused_until_s = 0.0
        self._writes: set[asyncio.Task[None]] = set()

    async def get(self, key: bytes) -> tuple[bytes, float] | None:
        """See ``SharedAnswers``."""
        if self._clock.monotonic_s() < self._paused_until_s:
            return None
        try:
            async with asyncio.timeout(WAIT_S), self._redis.pipeline(transaction=False) as asked:
                asked.get(PREFIX + key)
                asked.pttl(PREFIX + key)
                answer, left_ms = await asked.execute()
        except (RedisError, OSError, TimeoutError) as error:
            self._pause(error)
            return None
        return None if answer is None or left_ms <= 0 else (bytes(answer), left_ms / 1000.0)

    def put(self, key: bytes, answer: bytes, keep_s: float) -> None:
        """See ``SharedAnswers``."""
        if len(self._writes) >= MAX_WRITES or self._clock.monotonic_s() < self._paused_until_s:
            return
        task = asyncio.get_running_loop().create_task(self._put(key, answer, keep_s))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def close(self) -> None:
        """Give the connections back."""
        await asyncio.gather(*self._writes)
        await self._redis.aclose()

    async def _put(self, key: bytes, answer: bytes, keep_s: float) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                await self._redis.set(PREFIX + key, answer, px=max(1, int(keep_s * 1000.0)))
        except (RedisError, OSError, TimeoutError) as error:
            self._pause(error)

    def _pause(self, error: Exception) -> None:
        self._paused_until_s = self._clock.monotonic_s() + PAUSE_S
        logger.warning("shared answers are left out for %.0f s: %s", PAUSE_S, error or type(error).__name__)
