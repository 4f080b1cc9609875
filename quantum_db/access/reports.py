"""What a replica tells the keeper of access in the background: events for the audit log, and bad credentials."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

from quantum_db.access.audit import AuditEvent
from quantum_db.access.blocking import BlockPolicy, normal_address
from quantum_db.errors import Unavailable
from quantum_db.ports import Clock

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 1.0
MAX_SENT: Final = 2_000
MAX_WAITING: Final = 20_000
"""Events that wait for a keeper that does not answer; what must be written down is refused beyond."""
MAX_ADDRESSES: Final = 10_000


class ReportDesk(Protocol):
    """Takes reports. Raises Unavailable when it does not answer."""

    async def report(
        self, source: str, number: int, events: Sequence[AuditEvent], failures: Mapping[str, int]
    ) -> Mapping[str, float]:
        """Write events down and count bad credentials by address; on disk when it returns.

        Idempotent by ``source`` and ``number``.

        Returns:
            All blocked addresses, and until when each is, in seconds since the epoch.
        """


class Reports:
    """Gathers reports and sends them. For one event loop."""

    def __init__(self, desk: ReportDesk, source: str, policy: BlockPolicy, clock: Clock) -> None:
        """Begin with nothing to report."""
        self._desk = desk
        self._source = source
        self._policy = policy
        self._clock = clock
        self._waiting: list[AuditEvent] = []
        self._failures: Counter[str] = Counter()
        self._blocked: Mapping[str, float] = {}
        self._number = 0
        self._sent: tuple[int, list[AuditEvent], Counter[str]] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._due = asyncio.Event()

    def note(self, event: AuditEvent) -> None:
        """Take an event to be written down."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(event)
        else:
            logger.error("the audit log is behind; lost: %s", event)
        if len(self._waiting) >= MAX_SENT:
            self._due.set()

    def check_room(self) -> None:
        """Raise Unavailable when what is done next could not be written down."""
        if len(self._waiting) >= MAX_WAITING // 2:
            raise Unavailable("the audit log is behind; nothing is done that it could not tell of", retry_after_s=1.0)

    def failed(self, peer: str) -> None:
        """Count a bad credential."""
        address = normal_address(peer)
        if address in self._failures or len(self._failures) < MAX_ADDRESSES:
            self._failures[address] += 1
        if self._failures[address] >= self._policy.failures:
            self._due.set()

    def blocked_for_s(self, peer: str) -> float:
        """Return for how long bad credentials of a caller are only counted; 0 if his address is not blocked."""
        address = normal_address(peer)
        if self._failures[address] >= self._policy.failures:
            return self._policy.block_s
        return max(0.0, self._blocked.get(address, 0.0) - self._clock.now_s())

    async def flush(self) -> None:
        """Report what is there, or what a report that was not answered had. Raises Unavailable."""
        async with self._one_at_a_time:
            if self._sent is None:
                self._number += 1
                self._sent = (self._number, self._waiting[:MAX_SENT], self._failures)
                del self._waiting[:MAX_SENT]
                self._failures = Counter()
            number, events, failures = self._sent
            self._blocked = await self._desk.report(self._source, number, events, failures)
            self._sent = None

    async def run(self) -> None:
        """Report once a second, and sooner when there is much, until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), INTERVAL_S)
            self._due.clear()
            try:
                await self.flush()
            except Unavailable:
                await asyncio.sleep(INTERVAL_S)
            except Exception:
                logger.exception("a report for the audit log failed; it is tried again")
                await asyncio.sleep(INTERVAL_S)

    async def close(self) -> None:
        """Report all that waits. Raises Unavailable."""
        while self._waiting or self._sent is not None:
            await self.flush()
