"""What the tests of state snapshots run in a process of its own, and kill: events, while snapshots are written."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from quantum_db.errors import Fenced
from quantum_db.journals.keeper import Json, Keeper
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.lifecycle import Happening
from quantum_db.state_store import StateShard, events_record
from quantum_db.states.batches import happened

HOT = 20_000
FOR_EVER_MS = 1e12


class Planted(Keeper[StateShard]):
    """A keeper whose snapshots are not of the number that they stand for."""

    async def later(self) -> None:
        """Return after five more steps."""
        number = self._number
        while self._number < number + 5:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)

    async def replace(self, through: int, copied: Iterator[Json]) -> None:
        assert self._commit is not None
        records = await asyncio.to_thread(list, copied)
        await self._commit.run(lambda: self._journal.compact(self._stream, through, records, epoch=self.epoch))


class LosesEvents(Planted):
    """It stands for what was written after the copy, too."""

    async def compact(self) -> None:
        copied = self.kept.snapshot()
        await self.later()
        await self.replace(self._number, copied)


class DoublesEvents(Planted):
    """It has what was written after the number that it stands for."""

    async def compact(self) -> None:
        through = self._number
        await self.later()
        await self.replace(through, self.kept.snapshot())


KINDS: dict[str, type[Keeper[StateShard]]] = {"right": Keeper, "loses": LosesEvents, "doubles": DoublesEvents}


def opened(path: Path, kind: str = "right") -> Keeper[StateShard]:
    """Return a keeper of the shard whose journal is there; it has read nothing yet."""

    def fail(error: Fenced) -> None:
        raise error

    return KINDS[kind](StateShard(2 * HOT), SqliteJournal(path), "states", fail)


async def main(path: Path, kind: str) -> None:
    """Measure the state ``a`` once in each step, and say the number of each step that is acknowledged."""
    keeper = opened(path, kind)
    await keeper.load()
    found = keeper.kept.instances("a", 1.0)
    done = 0 if found is None else found.current.measurements
    if not done:
        names = ["a", *(f"e{number}" for number in range(HOT))]
        await keeper.write([events_record(happened(Happening.PREPARED, names, 1.0, FOR_EVER_MS), 1.0)])

    async def snapshots() -> None:
        while True:
            await keeper.compact()

    task = asyncio.create_task(snapshots())
    while not task.done():
        done += 1
        await keeper.write([events_record(happened(Happening.MEASURED, ["a"], 1.0), 1.0)])
        print(done, flush=True)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
