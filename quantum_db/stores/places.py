"""Where the stores of collections are: each collection has one of its own, found by the collection's key."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from quantum_db.errors import NoSuchCollection, Unavailable
from quantum_db.ports import Snapshots, VectorStore
from quantum_db.stores.edge_index import IndexSettings
from quantum_db.stores.point_store import PointStore
from quantum_db.stores.qdrant import QdrantStore, connect
from quantum_db.stores.qdrant_edge import QdrantEdgeStore

STORE: Final = "store"
OTHERS: Final = "collections"
GONE: Final = ".gone"


class StorePlace(Protocol):
    """Where stores are opened and erased. Frozen, and made of plain values: it crosses processes."""

    def open(self, key: str, snapshots: Snapshots | None = None) -> PointStore:
        """Return the store of a collection for a reader at ``snapshots``, or (None) for the writer.

        Raises:
            Unavailable, CorruptData: an embedded store cannot be opened.
        """

    async def erase(self, key: str) -> None:
        """Delete all that is stored under a key; no store of it is open. Idempotent. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class EmbeddedPlace:
    """A data folder on this machine: ``store`` for the collection that is always there, ``collections/`` for others."""

    data_dir: str
    index: IndexSettings = field(default_factory=IndexSettings)

    def open(self, key: str, snapshots: Snapshots | None = None) -> QdrantEdgeStore:  # noqa: ARG002 - one reads it
        """See ``StorePlace.open``."""
        return QdrantEdgeStore(self._folder(key), self.index)

    async def erase(self, key: str) -> None:
        """See ``StorePlace.erase``."""
        await asyncio.to_thread(self._remove, self._folder(key))

    def folders(self) -> Iterator[Path]:
        """Yield the folder of each store that is there."""
        yield Path(self.data_dir) / STORE
        others = Path(self.data_dir) / OTHERS
        if others.is_dir():
            yield from sorted(one for one in others.iterdir() if one.suffix != GONE)

    def _folder(self, key: str) -> Path:
        root = Path(self.data_dir)
        return root / OTHERS / key.replace("/", "~") if key else root / STORE

    def _remove(self, folder: Path) -> None:
        gone = folder.with_name(folder.name + GONE)
        try:
            shutil.rmtree(gone, ignore_errors=True)
            if folder.exists():
                folder.rename(gone)  # as one step: no half of it is ever opened
                shutil.rmtree(gone)
        except OSError as error:
            raise Unavailable(f"{folder} cannot be deleted: {error}") from error


@dataclass(frozen=True, slots=True)
class QdrantServer:
    """Collections of a Qdrant server. Its key is in the environment variable ``key_env``.

    Attributes:
        collection: of the collection that is always there; the names of others begin with it.
        timeout_s: bound of every call.
    """

    url: str
    collection: str
    key_env: str
    timeout_s: float

    def open(self, key: str, snapshots: Snapshots | None = None) -> QdrantStore:
        """See ``StorePlace.open``. Nothing is sent before the first call."""
        name = f"{self.collection}~{key.replace('/', '~')}" if key else self.collection
        return connect(self.url, os.environ.get(self.key_env), name, self.timeout_s, snapshots)

    async def erase(self, key: str) -> None:
        """See ``StorePlace.erase``."""
        store = self.open(key)
        try:
            await store.destroy()
        finally:
            await store.close()


class OneStore:
    """Implements ``commits.ports.Stores`` for a process that has no collection but the one that is always there."""

    def __init__(self, store: VectorStore) -> None:
        """Take the store, which stays the caller's to close."""
        self._store = store

    def of(self, collection: str) -> VectorStore:
        """See ``Stores.of``."""
        if collection:
            raise NoSuchCollection("there is no collection but the default one")
        return self._store

    async def flush(self) -> None:
        """See ``Stores.flush``."""
        await self._store.flush()

    async def newest_commit(self) -> int:
        """See ``Stores.newest_commit``."""
        return await self._store.newest_commit()

    async def sweep(self, through: int) -> None:
        """See ``Stores.sweep``."""
        await self._store.sweep(through)


class OpenStores:
    """The stores that are open, by key; those of an embedded place at most so many, as each keeps threads and memory.

    For one event loop. A store of an embedded place is closed only while nothing is written in it, or in part, and no
    index of it is being built; its reads do not suspend.

    Attributes:
        embedded: whether this process alone reads the stores.
    """

    def __init__(self, place: StorePlace, most: int) -> None:
        """Open nothing yet."""
        self._place = place
        self.embedded = isinstance(place, EmbeddedPlace)
        self._most = most if self.embedded else None
        self._open: OrderedDict[str, PointStore] = OrderedDict()

    def of(self, key: str) -> PointStore:
        """Return the store of a collection, opened if need be. Raises what ``StorePlace.open`` raises."""
        store = self._open.get(key)
        if store is None:
            store = self._open[key] = self._place.open(key)
        self._open.move_to_end(key)
        return store

    def key_of(self, store: PointStore) -> str | None:
        """Return of which collection a store is, None if it is not open any more."""
        return next((key for key, one in self._open.items() if one is store), None)

    def opened(self) -> list[PointStore]:
        """Return the stores that are open."""
        return list(self._open.values())

    async def flush(self) -> None:
        """Bring what was written to the disk. Those that were closed are on it. Raises Unavailable."""
        for store in self.opened():
            await store.flush()

    async def sweep(self, through: int) -> None:
        """See ``Stores.sweep``; those that are not open are swept once they are."""
        for store in self.opened():
            await store.sweep(through)

    async def trim(self) -> None:
        """Close those that have not been used for longest, until no more than ``most`` are open."""
        for key in list(self._open) if self._most is not None else ():
            if self._most is None or len(self._open) <= self._most:
                return
            if self._open[key].is_at_rest():
                await self._open.pop(key).close()

    async def erase(self, key: str) -> None:
        """Close a store and delete all of it. Idempotent. Raises Unavailable."""
        store = self._open.pop(key, None)
        if store is not None:
            await store.close()
        await self._place.erase(key)

    async def close(self) -> None:
        """Flush and release all. Idempotent."""
        while self._open:
            _, store = self._open.popitem()
            await store.close()
