"""Copies of embedded stores, from which a reader in another process of the same machine answers by itself.

A copy is used only while it holds all that was acknowledged: its place is not before the last change that the reader
knows of (``commits.changes``; a write is not acknowledged before all readers know). A copy that is behind fetches who
has changed since its mark (``commits.changed_ids``) and writes them into itself; one that is too far behind is made
anew. Meanwhile, and for stores that are too large, the original answers.

    the original    ... change 7 ........ change 8 ................... change 9
    the copy        made at 7, used       behind: fetches, at 8, used  behind ...
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from quantum_db.commits.changes import ChangeTeller, Place
from quantum_db.errors import CorruptData, QuantumDBError, Unavailable
from quantum_db.model import Candidates, Entity, Search
from quantum_db.ports import Clock, ScrollableReader
from quantum_db.stores.edge_folder import own
from quantum_db.stores.qdrant_edge import QdrantEdgeStore

logger = logging.getLogger(__name__)

ReadFrom = Literal["copy", "original"]

MOST_CHANGES: Final = 500
"""A copy that is further behind is made anew: each change stops the event loop for some 0.05 ms."""

WORTH: Final = 20
"""So many reads of a collection make a copy worth while."""

REFUSED_S: Final = 10.0
"""Until what could not be copied is asked for again."""

QUIET_S: Final = 2.0
"""A collection is first copied when it has not changed for so long."""

COPYING_SHARE: Final = 0.02
FOLLOWING_SHARE: Final = 0.1
"""What making copies, and bringing them up to date, may take of a reader's time: opening one stops its event loop."""

_SLICE: Final = 50
_MOST_WATCHED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that was made: the last change that is in it, its mark, and its size."""

    place: Place
    mark: int
    bytes: int


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What brings a copy up to a place and mark: the entities that may have changed, None for deleted ones."""

    place: Place
    mark: int
    entities: dict[str, Entity | None]


class Original(Protocol):
    """The store that is written. Raises ``Unavailable`` and ``CorruptData``."""

    async def copy(self, collection: str, folder: str, most_bytes: int) -> Copied | None:
        """Copy a collection's store into a folder that is not there yet; None where there is nothing to copy, or more.

        ``most_bytes`` is how large it may be.
        """

    async def changes(self, collection: str, place: Place, mark: int, most: int) -> CaughtUp | None:
        """Return what has changed since a copy was made; None where that is not known, or more than ``most``."""


class CopiedStores:
    """The side of the writes: what ``Original`` needs of a store in this process. For one event loop."""

    def __init__(self, teller: ChangeTeller) -> None:
        """Take who is told of all changes before they are acknowledged."""
        self._teller = teller

    async def copy(self, collection: str, store: QdrantEdgeStore, folder: str, most_bytes: int) -> Copied | None:
        """See ``Original.copy``."""
        if await store.dimension() is None or store.bytes > most_bytes:
            return None
        place, mark = self._teller.place(collection), self._teller.ids.mark(collection)
        return Copied(place, mark, await store.copy_to(Path(folder)))

    async def changes(
        self, collection: str, store: QdrantEdgeStore, place: Place, mark: int, most: int
    ) -> CaughtUp | None:
        """See ``Original.changes``."""
        now, marked = self._teller.place(collection), self._teller.ids.mark(collection)
        ids = self._teller.ids.since(collection, mark) if now[0] == place[0] else None
        if ids is None or len(ids) > most:
            return None
        entities = await store.fetch(ids)  # all at one moment: an embedded store's reads do not suspend
        return CaughtUp(now, marked, dict(zip(ids, entities, strict=True)))


class Places(Protocol):
    """Knows of changes; see ``FollowedChanges``."""

    def place(self, collection: str) -> Place | None:
        """Return the last change of a collection that has been acknowledged; None where that is not known."""


@dataclass(slots=True)
class _Held:
    place: Place
    mark: int
    store: QdrantEdgeStore
    folder: Path
    bytes: int
    moving: bool = False

    def holds(self, place: Place) -> bool:
        """Return whether all is in it up to a place."""
        return not self.moving and self.place[0] == place[0] and self.place[1] >= place[1]


@dataclass(slots=True)
class _Asked:
    place: Place
    since_s: float
    times: int = 0


class Copies:
    """The copies of one reader, least recently used first out. For one event loop."""

    def __init__(self, folder: Path, max_bytes: int, places: Places, original: Original, clock: Clock) -> None:
        """Take a folder that belongs to this reader alone; remove those of readers that have ended beside it.

        Raises Unavailable where the folder is another reader's, or cannot be made.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        self._places = places
        self._original = original
        self._clock = clock
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._asked: OrderedDict[str, _Asked] = OrderedDict()
        self._refused: dict[str, float] = {}
        self._numbers = itertools.count()
        self._free_at_s = 0.0
        self._working: asyncio.Task[None] | None = None
        _remove_ended(folder.parent)
        self._lock = own(folder)

    def __len__(self) -> int:
        """Return the number of copies."""
        return len(self._held)

    @property
    def bytes(self) -> int:
        """What the copies take on disk."""
        return sum(held.bytes for held in self._held.values())

    def current(self, collection: str) -> QdrantEdgeStore | None:
        """Return a copy that holds all that was acknowledged, if there is one; else begin to see to it, if need be."""
        place = self._places.place(collection)
        if place is None:
            return None
        held = self._held.get(collection)
        if held is not None and held.holds(place):
            self._held.move_to_end(collection)
            return held.store
        if self._working is None or self._working.done():
            self._see_to(collection, place, held)
        return None

    def drop(self, collection: str) -> None:
        """Let go of a copy. Idempotent."""
        held = self._held.pop(collection, None)
        if held is not None:
            held.store.discard()
            asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, held.folder, True)

    async def close(self) -> None:
        """Let go of all, and of the folder. Idempotent."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
        for collection in list(self._held):
            self._held.pop(collection).store.discard()
        if self._folder.exists():
            os.close(self._lock)
            await asyncio.to_thread(shutil.rmtree, self._folder, True)

    def _see_to(self, collection: str, place: Place, held: _Held | None) -> None:
        now_s = self._clock.monotonic_s()
        if now_s < self._free_at_s:
            return
        work = None
        if held is not None and held.place[0] == place[0]:
            work = self._follow(collection, held)
        elif self._is_wanted(collection, place, now_s):
            work = self._copy(collection)
        if work is not None:
            self._working = asyncio.get_running_loop().create_task(work)

    def _is_wanted(self, collection: str, place: Place, now_s: float) -> bool:
        asked = self._asked.get(collection)
        if asked is None or asked.place != place:
            asked = self._asked[collection] = _Asked(place, now_s)
            while len(self._asked) > _MOST_WATCHED:
                gone, _ = self._asked.popitem(last=False)
                self._refused.pop(gone, None)
        self._asked.move_to_end(collection)
        asked.times += 1
        if now_s < self._refused.get(collection, now_s):
            return False
        return asked.times >= WORTH and now_s - asked.since_s >= QUIET_S

    async def _copy(self, collection: str) -> None:
        began_s, folder = self._clock.monotonic_s(), self._folder / str(next(self._numbers))
        try:
            copied = await self._original.copy(collection, str(folder), self._max_bytes)
            if copied is not None:
                store = await asyncio.to_thread(QdrantEdgeStore, folder)
                self.drop(collection)
                self._held[collection] = _Held(copied.place, copied.mark, store, folder, copied.bytes)
                self._make_room()
        except QuantumDBError as error:
            copied = None
            logger.info("a store could not be copied, and is read where it is: %s", error.detail)
        if copied is None:
            self._refused[collection] = self._clock.monotonic_s() + REFUSED_S
            await asyncio.to_thread(shutil.rmtree, folder, True)
        self._rest(began_s, COPYING_SHARE)

    async def _follow(self, collection: str, held: _Held) -> None:
        try:
            found = await self._original.changes(collection, held.place, held.mark, MOST_CHANGES)
        except Unavailable:
            return  # the next read tries again
        except QuantumDBError:
            found = None  # the collection has been deleted
        if found is None:
            self.drop(collection)
            return
        began_s = self._clock.monotonic_s()
        held.moving = True
        try:
            await _write(held.store, found.entities)
        except QuantumDBError as error:
            logger.warning("a copy could not be brought up to date, and is given up: %s", error.detail)
            self.drop(collection)
        held.place, held.mark, held.moving = found.place, found.mark, False
        self._rest(began_s, FOLLOWING_SHARE)

    def _rest(self, began_s: float, share: float) -> None:
        """Do no more of what has just taken its time until that is no more than this share of it."""
        now_s = self._clock.monotonic_s()
        self._free_at_s = now_s + (now_s - began_s) / share

    def _make_room(self) -> None:
        while self.bytes > self._max_bytes and len(self._held) > 1:
            self.drop(next(iter(self._held)))


async def _write(store: QdrantEdgeStore, entities: dict[str, Entity | None]) -> None:
    """Bring entities of a copy to what they are; let others run in between, who must not look at it."""
    changed = list(entities.items())
    for start in range(0, len(changed), _SLICE):
        some = changed[start : start + _SLICE]
        await store.upsert([entity for _, entity in some if entity is not None])
        await store.delete([entity_id for entity_id, entity in some if entity is None])
        await asyncio.sleep(0)


class CopiedReader:
    """Implements ``ScrollableReader`` for a collection: by a copy where there is a current one."""

    def __init__(
        self, original: ScrollableReader, copies: Copies, collection: str, note: Callable[[ReadFrom], None]
    ) -> None:
        """Join the parts. ``note`` is told of each search from where it was answered."""
        self._original = original
        self._copies = copies
        self._collection = collection
        self._note = note

    async def dimension(self) -> int | None:
        """See ``VectorReader.dimension``."""
        return await self._original.dimension()

    async def fetch(self, ids: Sequence[str]) -> list[Entity | None]:
        """See ``VectorReader.fetch``."""
        copy = self._copies.current(self._collection)
        if copy is not None:
            try:
                return await copy.fetch(ids)
            except (CorruptData, Unavailable) as error:
                self._give_up(error)
        return await self._original.fetch(ids)

    async def scroll(self, after: str | None, limit: int) -> tuple[list[Entity], str | None]:
        """See ``ScrollableReader.scroll``: long reads would keep queries waiting here."""
        return await self._original.scroll(after, limit)

    async def search(self, searches: Sequence[Search]) -> list[Candidates]:
        """See ``VectorReader.search``."""
        copy = self._copies.current(self._collection)
        if copy is not None:
            try:
                found = await copy.search(searches)
            except (CorruptData, Unavailable) as error:
                self._give_up(error)
            else:
                self._note("copy")
                return found
        self._note("original")
        return await self._original.search(searches)

    async def context_names(self) -> list[str]:
        """See ``VectorReader.context_names``."""
        return await self._original.context_names()

    def _give_up(self, error: QuantumDBError) -> None:
        logger.warning("a copy does not answer, and is given up: %s", error.detail)
        self._copies.drop(self._collection)


def _remove_ended(folder: Path) -> None:
    """Remove the folders of readers that have ended without a word."""
    for one in folder.iterdir() if folder.is_dir() else ():
        with suppress(Unavailable, OSError):  # its reader lives, or another one has removed it
            os.close(own(one))
            shutil.rmtree(one)
