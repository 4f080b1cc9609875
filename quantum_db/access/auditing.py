"""The keeper's side of reports: the audit log, and the addresses from which bad credentials keep coming."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from quantum_db.access.audit import AuditEvent, AuditLog
from quantum_db.access.blocking import BlockPolicy, Blocks
from quantum_db.errors import NotFound
from quantum_db.journals.keeper import uncancelled
from quantum_db.ports import Clock

MAX_SOURCES: Final = 10_000
KEEPER: Final = "keeper"

Json = dict[str, Any]


class AuditDesk:
    """Implements ``ReportDesk``. For one event loop."""

    def __init__(self, log: AuditLog, policy: BlockPolicy, clock: Clock) -> None:
        """Join the parts. ``log`` is owned from now on; ``close`` closes it."""
        self._log = log
        self._blocks = Blocks(policy)
        self._clock = clock
        self._alone = asyncio.Lock()
        self._own: list[AuditEvent] = []
        self._taken: OrderedDict[str, int] = OrderedDict()

    async def report(
        self, source: str, number: int, events: Sequence[AuditEvent], failures: Mapping[str, int]
    ) -> Mapping[str, float]:
        """See ``ReportDesk.report``. A repetition is known for as long as this process lives."""

        async def work() -> None:
            async with self._alone:
                if number <= self._taken.get(source, 0):
                    return
                written = [*self._own, *events]
                if written:
                    await asyncio.to_thread(self._log.append, written)
                self._own.clear()
                self._taken[source] = number
                self._count(failures)
                self._taken.move_to_end(source)
                while len(self._taken) > MAX_SOURCES:
                    self._taken.popitem(last=False)

        await uncancelled(work())
        return self._blocks.active(self._clock.now_s())

    async def blocks(self) -> Json:
        """Return the blocked addresses."""
        active = self._blocks.active(self._clock.now_s())
        return {"blocks": [{"address": address, "until_s": until_s} for address, until_s in sorted(active.items())]}

    async def lift(self, address: str) -> Json:
        """Lift a block; replicas learn of it with their next report, within about a second. Raises NotFound."""
        if not self._blocks.lift(address, self._clock.now_s()):
            raise NotFound(f"the address {address!r} is not blocked")
        return {"address": address, "lifted": True}

    async def head(self) -> Json:
        """Return the head of the audit log, to be kept where the cluster cannot write."""
        return {"head": str(self._log.head), "count": self._log.head.count, "hash": self._log.head.hash}

    async def close(self) -> None:
        """Release the log. Idempotent."""
        async with self._alone:
            if self._own:
                await asyncio.to_thread(self._log.append, self._own)
            self._log.close()

    def _count(self, failures: Mapping[str, int]) -> None:
        now_s = self._clock.now_s()
        for address, count in failures.items():
            if self._blocks.failed(address, count, now_s):
                self._own.append(AuditEvent(now_s, KEEPER, "", "blocks.begin", address, "ok", 0, "", address))
