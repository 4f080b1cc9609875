"""A replica's copy of all keys: no call is made to check a request."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from quantum_db.access.keys import Key, KeyTable, Token
from quantum_db.access.ports import KeySource
from quantum_db.change_feed import Cursor
from quantum_db.errors import Unavailable
from quantum_db.ports import Clock

logger = logging.getLogger(__name__)

POLL_S: Final = 5.0
PAUSE_S: Final = 0.2
STALE_S: Final = 25.0
"""A copy about whose age more is not known lets nobody in. Below ``registry.FOLLOWER_GONE_S``, so that a replica that a
revocation no longer waits for has no copy that it goes by."""


class KeyFollower:
    """Follows a ``KeySource``. For one event loop."""

    def __init__(self, source: KeySource, name: str, clock: Clock) -> None:
        """Begin with no keys. ``name`` is another one for each replica."""
        self._source = source
        self._name = name
        self._clock = clock
        self._table = KeyTable()
        self._cursor: Cursor | None = None
        self._known_s = float("-inf")

    def owner(self, token: Token) -> Key | None:
        """Return the key with this id and secret, None if there is none that is good.

        Raises:
            Unavailable: the copy may be stale, and the keeper does not answer.
        """
        if self._clock.monotonic_s() - self._known_s > STALE_S:
            raise Unavailable("keys cannot be checked, for their keeper does not answer", retry_after_s=1.0)
        return self._table.owner(token, self._clock.now_s())

    def was_good(self, token: Token) -> bool:
        """See ``KeyTable.was_good``."""
        return self._table.was_good(token)

    async def step(self, timeout_s: float = POLL_S) -> None:
        """Ask once, and take in what is told. Raises Unavailable."""
        asked_s = self._clock.monotonic_s()
        found = await self._source.news(self._name, self._cursor, timeout_s)
        if found.whole:
            self._table = KeyTable()
        for key in found.keys:
            self._table.put(key)
        self._cursor, self._known_s = found.cursor, asked_s

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self.step()
            except Unavailable:
                await asyncio.sleep(PAUSE_S)
            except Exception:
                logger.exception("the feed of keys cannot be followed; it is tried again")
                await asyncio.sleep(POLL_S)
