"""What has changed, numbered, for everyone who caches: a bounded buffer that readers follow by long polls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from typing import Final

from quantum_db.ports import Clock

MAX_KEPT_IDS: Final = 200_000
"""Entity ids in the changes that a feed keeps, some 20 MB."""
MAX_SENT: Final = 1_000
"""Changes in one answer."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader has come: the feed's epoch, which is another one after each restart, and a change's number."""

    epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class Change:
    """Entities about which answers that were given before ``at_s`` (seconds since the epoch) may be stale.

    ``group_id`` and its ``version`` are those of a changed group; an entity was written or deleted where it is None.
    """

    number: int
    at_s: float
    group_id: str | None
    version: int
    entity_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes after a reader's cursor, and its next one. With a ``gap`` some are gone: all may be stale."""

    cursor: Cursor
    changes: tuple[Change, ...]
    gap: bool


class ChangeFeed:
    """The latest changes. For one event loop."""

    def __init__(self, epoch: int, clock: Clock, max_kept_ids: int = MAX_KEPT_IDS) -> None:
        """Start without changes."""
        self._epoch = epoch
        self._clock = clock
        self._bound = max_kept_ids
        self._kept: deque[Change] = deque()
        self._ids = 0
        self._last = 0
        self._more = asyncio.Event()

    def add(self, entity_ids: Collection[str], group_id: str | None = None, version: int = 0) -> None:
        """Tell a change. Beyond the bound the oldest ones are dropped, which their readers will find out."""
        self._last += 1
        self._kept.append(Change(self._last, self._clock.now_s(), group_id, version, tuple(sorted(entity_ids))))
        self._ids += len(entity_ids)
        while self._ids > self._bound:
            self._ids -= len(self._kept.popleft().entity_ids)
        self._more.set()
        self._more = asyncio.Event()

    async def after(self, cursor: Cursor | None, timeout_s: float) -> Changes:
        """Return the changes after a cursor; wait for the first one, at most ``timeout_s``.

        None, a cursor of an earlier epoch, and one whose next change is gone are answered at once, with a gap.
        """
        if cursor is None or cursor.epoch != self._epoch or not self._first() - 1 <= cursor.number <= self._last:
            return Changes(Cursor(self._epoch, self._last), (), gap=True)
        if cursor.number == self._last:
            try:
                await asyncio.wait_for(self._more.wait(), timeout_s)
            except TimeoutError:
                return Changes(cursor, (), gap=False)
            if cursor.number < self._first() - 1:
                return Changes(Cursor(self._epoch, self._last), (), gap=True)
        start = cursor.number + 1 - self._first()
        found = tuple(islice(self._kept, start, start + MAX_SENT))
        return Changes(Cursor(self._epoch, found[-1].number), found, gap=False)

    def _first(self) -> int:
        return self._last + 1 - len(self._kept)
