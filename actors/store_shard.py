"""The process that owns the embedded store: Qdrant Edge has one owner, and holds the GIL while it works."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry, Gauge, Histogram
from ray.actor import ActorHandle

from actors.shell import ask
from quantum_db.model import Candidates, Entity, Search
from quantum_db.stores.qdrant_edge import QdrantEdgeStore
from quantum_db.telemetry import Snapshot, snapshot
from quantum_db.transfer.backup import copy_all

BULK_TIMEOUT_S = 3600.0


class StoreShard:
    """A ``QdrantEdgeStore`` in a process of its own."""

    def __init__(self, path: str) -> None:
        self._store = QdrantEdgeStore(Path(path))
        self._registry = CollectorRegistry()
        self._times = Histogram("store_seconds", "Time of store calls", ["call"], registry=self._registry)
        self._entities = Gauge("store_entities", "Entities in the store", registry=self._registry)

    async def ready(self) -> bool:
        """Return True once the store is open."""
        return True

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call one method of the ``VectorStore`` port."""
        with self._times.labels(method).time():
            return await getattr(self._store, method)(*arguments)

    async def metrics(self) -> Snapshot:
        """Return this process's metrics."""
        self._entities.set(await self._store.count())
        return snapshot(self._registry, "store")

    async def backup(self, folder: str, journals: Sequence[str]) -> float:
        """Copy the store and journals into a folder; return for how many seconds nothing else was served.

        See ``quantum_db.transfer.backup.copy_all`` for what makes the copies fit together.
        """
        start = time.perf_counter()
        with self._store.at_rest() as data:
            copy_all(data, [Path(journal) for journal in journals], Path(folder))
        return time.perf_counter() - start

    async def close(self) -> None:
        """Flush and release the store."""
        await self._store.close()


class RemoteStore:
    """Implements ``VectorStore`` by calls to a ``StoreShard``."""

    def __init__(self, actor: ActorHandle[Any]) -> None:
        self._actor = actor

    async def dimension(self) -> int | None:
        return cast(int | None, await ask(self._actor.call.remote("dimension")))

    async def upsert(self, entities: Sequence[Entity]) -> None:
        await ask(self._actor.call.remote("upsert", list(entities)))

    async def fetch(self, ids: Sequence[str]) -> list[Entity | None]:
        return cast(list[Entity | None], await ask(self._actor.call.remote("fetch", list(ids))))

    async def delete(self, ids: Sequence[str]) -> list[bool]:
        return cast(list[bool], await ask(self._actor.call.remote("delete", list(ids))))

    async def scroll(self, after: str | None, limit: int) -> tuple[list[Entity], str | None]:
        return cast(tuple[list[Entity], str | None], await ask(self._actor.call.remote("scroll", after, limit)))

    async def search(self, searches: Sequence[Search]) -> list[Candidates]:
        return cast(list[Candidates], await ask(self._actor.call.remote("search", list(searches))))

    async def context_names(self) -> list[str]:
        return cast(list[str], await ask(self._actor.call.remote("context_names")))

    async def count(self) -> int:
        return cast(int, await ask(self._actor.call.remote("count")))

    async def optimize(self) -> None:
        await ask(self._actor.call.remote("optimize"), BULK_TIMEOUT_S)

    async def close(self) -> None:
        await ask(self._actor.close.remote())
