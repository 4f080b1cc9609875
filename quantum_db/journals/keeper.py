"""Keeps a table by a journal: what is written is durable before it is applied, and read back after a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from quantum_db.errors import Fenced, QuantumDBError
from quantum_db.journals.group_commit import GroupCommit
from quantum_db.ports import Journal

logger = logging.getLogger(__name__)

MIN_TAKEN: Final = 20_000
"""Items after a snapshot before the next one is worth while; it also waits until they outnumber what is held."""

Json = dict[str, Any]
Result = TypeVar("Result")


class Kept(Protocol):
    """What a journal keeps. The same ``apply`` runs when a record has become durable and after a restart.

    Attributes:
        taken: items that were applied, ever.
    """

    taken: int

    def apply(self, number: int, record: Mapping[str, Any]) -> Any:
        """Take in the record with this number; return what came of it. Raises CorruptData."""

    def size(self) -> int:
        """Return how many items are held."""

    def snapshot(self) -> Iterator[Json]:
        """Return the records that make the same of an empty one, as it is when this is called.

        It copies what it needs at once, in milliseconds; the records are made as they are asked for, in another
        thread, while records are applied here.
        """

    def check(self) -> None:
        """Raise CorruptData if what is held contradicts itself."""


Held = TypeVar("Held", bound=Kept)


def load(kept: Kept, journal: Journal, stream: str) -> int:
    """Become the stream's writer, read what was written before, and check it; return the epoch.

    Raises:
        CorruptData: it cannot be read, or contradicts itself; nothing is taken for empty.
        Unavailable: the journal does not answer.
    """
    epoch = journal.begin_epoch(stream)
    for number, record in journal.read(stream):
        kept.apply(number, record)
    kept.check()
    return epoch


class Keeper(Generic[Held]):
    """One table and its stream. For one event loop.

    Attributes:
        kept: the table. Whoever changes it beside ``write`` does so ``alone``.
        alone: held while records are applied or copied for a snapshot.
        epoch: of this writer.
    """

    def __init__(self, kept: Held, journal: Journal, stream: str, on_fenced: Callable[[Fenced], None]) -> None:
        """Read nothing yet.

        Args:
            kept: empty.
            journal: owned from now on; ``close`` closes it.
            on_fenced: is told when another process has taken over: nothing can be written here any more.
        """
        self.kept = kept
        self.alone = asyncio.Lock()
        self.epoch = 0
        self._journal = journal
        self._stream = stream
        self._on_fenced = on_fenced
        self._commit: GroupCommit | None = None
        self._number = 0
        self._taken_before = 0
        self._compaction: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Do what the function ``load`` does, in another thread. Raises what it raises."""
        self.epoch = await asyncio.to_thread(load, self.kept, self._journal, self._stream)
        self._number = await asyncio.to_thread(self._journal.last, self._stream)
        self._commit = GroupCommit(self._journal, self._stream, epoch=self.epoch)
        self._compact_if_due()

    async def write(self, records: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Make records durable, all or none, then apply them; return what came of each.

        A caller that is cancelled meanwhile does not come between the two.

        Raises:
            Unavailable: none was applied. Whether they were written is not known.
            Fenced: another process has taken over.
        """
        return await uncancelled(self._write(records))

    async def compact(self) -> None:
        """Replace all records by a snapshot. Raises what ``write`` raises."""
        assert self._commit is not None
        async with self.alone:
            through, self._taken_before = self._number, self.kept.taken
            if not through:
                return
            copied = self.kept.snapshot()
        records = await asyncio.to_thread(list, copied)
        await self._commit.run(lambda: self._journal.compact(self._stream, through, records, epoch=self.epoch))

    async def close(self) -> None:
        """Write what is under way, and release the journal. Idempotent."""
        if self._compaction is not None:
            await asyncio.gather(self._compaction, return_exceptions=True)
        if self._commit is not None:
            await self._commit.close()
        self._journal.close()

    async def _write(self, records: Sequence[Mapping[str, Any]]) -> list[Any]:
        assert self._commit is not None
        try:
            last = await self._commit.append(records)
        except Fenced as error:
            self._on_fenced(error)
            raise
        async with self.alone:  # taken in the order of the numbers: a lock is fair
            first = last - len(records) + 1
            results = [self.kept.apply(number, record) for number, record in enumerate(records, first)]
            self._number = last
        self._compact_if_due()
        return results

    def _compact_if_due(self) -> None:
        due = self.kept.taken - self._taken_before > max(MIN_TAKEN, 2 * self.kept.size())
        if due and (self._compaction is None or self._compaction.done()):
            self._compaction = asyncio.get_running_loop().create_task(self._try_to_compact())

    async def _try_to_compact(self) -> None:
        try:
            await self.compact()
        except QuantumDBError as error:
            logger.warning("the stream %s was not compacted, and grows on: %s", self._stream, error.detail)


async def uncancelled(work: Coroutine[Any, Any, Result]) -> Result:
    """Await work that goes on to its end when the caller is cancelled."""
    task: Awaitable[Result] = asyncio.get_running_loop().create_task(work)
    return await asyncio.shield(task)
