"""The ledger's journal: what is written is durable before anything depends on it, and read back after a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from quantum_db.errors import Fenced, QuantumDBError
from quantum_db.jobs.ledger import STREAM, Ledger
from quantum_db.journals.group_commit import GroupCommit
from quantum_db.ports import Clock, Journal

logger = logging.getLogger(__name__)

MIN_RECORDS: Final = 2_000
"""Records after a snapshot before the next one is worth while; it also waits until they outnumber what is live."""


class JobJournal:
    """One ledger and its stream. For one event loop."""

    def __init__(self, journal: Journal, ledger: Ledger, clock: Clock, on_fenced: Callable[[Fenced], None]) -> None:
        """Read nothing yet.

        Args:
            journal: owned from now on; ``close`` closes it.
            ledger: empty; is filled by ``load`` and ``write``.
            clock: for retention.
            on_fenced: is told when another process has taken over: nothing can be written here any more.
        """
        self.ledger = ledger
        self._journal = journal
        self._clock = clock
        self._on_fenced = on_fenced
        self._commit: GroupCommit | None = None
        self._epoch = 0
        self._compaction: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Become the writer, and read what was written before.

        Raises:
            CorruptData: the journal cannot be read; nothing is taken for empty.
            Unavailable: it does not answer.
        """
        self._epoch = await asyncio.to_thread(self._load)
        self._commit = GroupCommit(self._journal, STREAM, epoch=self._epoch)

    async def write(self, record: Mapping[str, Any]) -> None:
        """Make a record durable, then apply it; a caller that is cancelled meanwhile does not come between the two.

        Raises:
            Unavailable: it was not applied. Whether it was written is not known, so it may be written again.
            Fenced: another process has taken over.
        """
        await asyncio.shield(asyncio.get_running_loop().create_task(self._write(record)))

    async def _write(self, record: Mapping[str, Any]) -> None:
        assert self._commit is not None
        try:
            number = await self._commit.append([record])
        except Fenced as error:
            self._on_fenced(error)
            raise
        self.ledger.apply(number, record)
        due = self.ledger.records_since_snapshot > max(MIN_RECORDS, 2 * self.ledger.size())
        if due and (self._compaction is None or self._compaction.done()):
            self._compaction = asyncio.get_running_loop().create_task(self._compact())

    async def compact(self) -> None:
        """Replace all records by a snapshot of the ledger. Raises what ``write`` raises."""
        assert self._commit is not None
        self.ledger.forget_old(self._clock.now_s())
        through, records = self.ledger.number, self.ledger.snapshot()
        self.ledger.records_since_snapshot = 0
        await self._commit.run(lambda: self._journal.compact(STREAM, through, list(records), epoch=self._epoch))

    async def close(self) -> None:
        """Write what is under way, and release the journal. Idempotent."""
        if self._compaction is not None:
            await asyncio.gather(self._compaction, return_exceptions=True)
        if self._commit is not None:
            await self._commit.close()
        self._journal.close()

    async def _compact(self) -> None:
        try:
            await self.compact()
        except QuantumDBError as error:
            logger.warning("the job journal was not compacted, and grows on: %s", error.detail)

    def _load(self) -> int:
        epoch = self._journal.begin_epoch(STREAM)
        for number, record in self._journal.read(STREAM):
            self.ledger.apply(number, record)
        return epoch
