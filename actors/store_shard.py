"""The process that writes the collection: it owns the embedded store, and numbers and keeps apart all writes."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import numpy as np
import ray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from ray.actor import ActorHandle

from actors.group_client import RemoteCommitGroups
from actors.kept_shard import KeptShard
from actors.shell import ask, named
from actors.state_client import ShardedStateLog
from quantum_db.batching import Batcher
from quantum_db.clock import SystemClock
from quantum_db.collection_keeper import CollectionKeeper
from quantum_db.collection_table import Collection, CollectionTable, Metric
from quantum_db.commits.changes import Changes, ChangeTeller, FollowedChanges, Place
from quantum_db.commits.coordinator import Coordinator
from quantum_db.commits.operations import Request
from quantum_db.commits.showing import FollowedSnapshots, ShownCommits
from quantum_db.commits.visibility import Told
from quantum_db.errors import Fenced, InvalidRequest, QuantumDBError, Unavailable
from quantum_db.journals.keeper import Keeper
from quantum_db.journals.layout import ShardPlace
from quantum_db.journals.open import open_journal
from quantum_db.model import Candidates, Entity, Search
from quantum_db.ports import Snapshots
from quantum_db.scope import Scope
from quantum_db.states.events import EventBatch
from quantum_db.stores.copies import CaughtUp, Copied, CopiedStores
from quantum_db.stores.index_upkeep import IndexUpkeep
from quantum_db.stores.places import EmbeddedPlace, OpenStores, StorePlace
from quantum_db.stores.qdrant_edge import QdrantEdgeStore
from quantum_db.telemetry import Snapshot, snapshot
from quantum_db.transfer.backup import copy_all

logger = logging.getLogger(__name__)

BULK_TIMEOUT_S = 3600.0
COLLECTION_CALLS = frozenset({"resolve", "create", "drop", "describe", "page"})
READS = frozenset({"dimension", "fetch", "scroll", "search", "context_names", "count", "optimize"})


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where the collections are.

    Attributes:
        place: a data folder for embedded stores, or a server that the replicas search by themselves.
        journal_url: where transactions are written down; see ``quantum_db.journals.open``.
        collections_url: where the collections are written down.
        state_shards, group_shards: how many actors keep the states, and the groups.
        max_collections: of one tenant.
        max_open: embedded stores that are open at the same time.
        flush_interval_s: how often what was written is flushed, against a crash of the machine.
        tells_changes: whether others keep what they read, and have to know of each write before it ends.
    """

    place: StorePlace
    journal_url: str
    collections_url: str
    state_shards: int
    group_shards: int
    max_collections: int
    max_open: int
    flush_interval_s: float
    tells_changes: bool


class StoreShard:
    """The stores of all collections and the ``Coordinator`` of all writes, in a process of their own."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._stores = OpenStores(settings.place, settings.max_open)
        self._groups = RemoteCommitGroups(settings.group_shards)
        self._kept = KeptShard("collections", ShardPlace(settings.collections_url, "collections"), CollectionTable)
        self._opened: tuple[CollectionKeeper, Coordinator] | None = None
        self._teller = ChangeTeller(uuid4().hex, SystemClock()) if settings.tells_changes else None
        self._copied = None if self._teller is None else CopiedStores(self._teller)
        self._registry = CollectorRegistry()
        self._times = Histogram("store_seconds", "Time of store calls", ["call"], registry=self._registry)
        self._entities = Gauge("store_entities", "Entities in the stores that are open", registry=self._registry)
        self._number = Gauge("collections", "Collections of all tenants", registry=self._registry)
        self._open = Gauge("commits_open", "Transactions written down, not yet applied", registry=self._registry)
        self._indexes = IndexUpkeep(self._stores, SystemClock(), self._registry, self._tell_of_index)
        loop = asyncio.get_running_loop()
        self._flushing = loop.create_task(self._flush_every(settings.flush_interval_s))
        self._indexing = loop.create_task(self._indexes.run())

    async def ready(self) -> bool:
        """Return True once all transactions that were left open are applied. Raises what ``readable`` raises."""
        await self._kept.ready()
        await self._readable()
        return True

    async def call(self, collection: str, method: str, *arguments: Any) -> Any:
        """Call a method that changes nothing of the ``VectorStore`` port, one of ``READS``, for a collection's key."""
        assert method in READS, f"{method} is not among {sorted(READS)}"
        collections, _ = await self._readable()
        collections.table.check_live(collection)
        with self._times.labels(method).time():
            store = collections.of(collection)
            answer = await (
                self._indexes.optimize(store) if method == "optimize" else getattr(store, method)(*arguments)
            )
        await self._stores.trim()
        return answer

    async def search_each(self, collection: str, searches: Sequence[Search]) -> list[Candidates | QuantumDBError]:
        """Answer searches of several callers: of each, its candidates or what is wrong with it."""
        try:
            return list(await self.call(collection, "search", searches))
        except InvalidRequest as error:
            if len(searches) == 1:
                return [error]
        return [answer for search in searches for answer in await self.search_each(collection, [search])]

    async def do(self, request: Request) -> Mapping[str, Any]:
        """See ``Writes.do``."""
        collections, coordinator = await self._readable()
        collections.table.check_live(request.collection)
        with self._times.labels(type(request).__name__.lower()).time():
            answer = await coordinator.do(request)
        await self._stores.trim()
        return answer

    async def collections(self, method: str, *arguments: Any) -> Any:
        """Call a method of the ``Collections`` port: one of ``COLLECTION_CALLS``."""
        assert method in COLLECTION_CALLS, f"{method} is not among {sorted(COLLECTION_CALLS)}"
        collections, _ = await self._readable()
        answer = await getattr(collections, method)(*arguments)
        if method == "drop" and self._teller is not None:
            await self._teller.changed(answer.key)
            self._teller.ids.forget(answer.key)
        return answer

    async def follow(self, reader: str, commit: int | None, hold_s: float) -> Told:
        """Tell a reader of the server which commit is visible; see ``Coordinator.follow``."""
        _, coordinator = await self._readable()
        return await coordinator.follow(reader, commit, hold_s)

    async def follow_changes(self, follower: str, known: Place | None, hold_s: float) -> Changes:
        """Tell who keeps what it read which collections have changed; see ``ChangeTeller.follow``."""
        assert self._teller is not None, "nobody is told here"
        await self._readable()
        return await self._teller.follow(follower, known, hold_s)

    async def copy(self, collection: str, folder: str, most_bytes: int, node: str) -> Copied | None:
        """See ``Original.copy``. ``node`` is where the folder is."""
        if self._copied is None or node != ray.get_runtime_context().get_node_id():
            return None
        with self._times.labels("copy").time():
            return await self._copied.copy(collection, await self._embedded(collection), folder, most_bytes)

    async def changes(self, collection: str, place: Place, mark: int, most: int) -> CaughtUp | None:
        """See ``Original.changes``."""
        if self._copied is None:
            return None
        return await self._copied.changes(collection, await self._embedded(collection), place, mark, most)

    async def metrics(self) -> Snapshot:
        """Return this process's metrics."""
        counts = [await store.count() for store in self._stores.opened() if store.is_whole()]
        self._entities.set(sum(counts))
        self._indexes.measure()
        if self._opened is not None:
            collections, coordinator = self._opened
            self._number.set(collections.table.size())
            self._open.set(coordinator.open_commits)
        return snapshot(self._registry, "store")

    async def backup(self, folder: str, journals: Sequence[str]) -> float:
        """Copy the stores and journals into a folder; return for how many seconds nothing else was served.

        See ``quantum_db.transfer.backup.copy_all`` for what makes the copies fit together.
        """
        place = self._settings.place
        if not isinstance(place, EmbeddedPlace):
            raise InvalidRequest("a Qdrant server copies itself; only the embedded store is copied here")
        await self._readable()
        start = time.perf_counter()
        with ExitStack() as rests:
            for store in self._stores.opened():
                assert isinstance(store, QdrantEdgeStore)
                rests.enter_context(store.at_rest())
            copy_all(Path(place.data_dir), place.folders(), [Path(journal) for journal in journals], Path(folder))
        return time.perf_counter() - start

    async def close(self) -> None:
        """Flush and release the stores. Transactions that are open are applied at the next start."""
        self._flushing.cancel()
        self._indexing.cancel()
        if self._opened is not None:
            collections, coordinator = self._opened
            await coordinator.close()
            await collections.close()
        await self._kept.close()
        await self._stores.close()

    async def _readable(self) -> tuple[CollectionKeeper, Coordinator]:
        """Return both once all that was left open is applied. Raises what ``Coordinator.readable`` raises."""
        keeper = await self._kept.opened()
        if self._opened is None:
            self._opened = self._open_all(keeper)
        _, coordinator = self._opened
        await coordinator.readable()
        return self._opened

    async def _tell_of_index(self, store: QdrantEdgeStore) -> None:
        """Let those who have copies of a store copy its new index."""
        collection = self._stores.key_of(store)
        if collection is not None and self._teller is not None:
            self._teller.ids.renew(collection)
            await self._teller.changed(collection)

    async def _embedded(self, collection: str) -> QdrantEdgeStore:
        """Return the embedded store of a collection. Raises NoSuchCollection."""
        collections, _ = await self._readable()
        collections.table.check_live(collection)
        store = collections.of(collection)
        assert isinstance(store, QdrantEdgeStore), "a server is searched by all"
        return store

    def _is_busy(self, collection: str) -> bool:
        return self._opened is None or self._opened[1].is_busy(collection)

    def _open_all(self, keeper: Keeper[CollectionTable]) -> tuple[CollectionKeeper, Coordinator]:
        url = self._settings.journal_url
        collections = CollectionKeeper(
            keeper,
            self._stores,
            most=self._settings.max_collections,
            clock=SystemClock(),
            is_busy=self._is_busy,
            forget_groups=self._groups.forget_all,
        )
        coordinator = Coordinator(
            stores=collections,
            groups=self._groups,
            states=_LateStateLog(self._settings.state_shards, self._registry),
            open_journal=lambda: open_journal(url),
            clock=SystemClock(),
            rng=np.random.default_rng(),
            on_fenced=_give_way,
            shown=None if self._stores.embedded else ShownCommits(SystemClock()),
            watch=self._teller,
        )
        return collections, coordinator

    async def _flush_every(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self._stores.flush()
            except QuantumDBError as error:
                logger.warning("the stores were not flushed: %s", error.detail)


class _LateStateLog:
    """Implements ``StateLog``; the shards are looked up when there is something to note. A lost note is counted."""

    def __init__(self, shards: int, registry: CollectorRegistry) -> None:
        self._names = [f"states-{shard}" for shard in range(shards)]
        self._registry = registry
        self._lost = Counter("commit_state_events_lost", "Events dropped: no shard to tell", registry=registry)
        self._log: ShardedStateLog | None = None

    def record(self, events: EventBatch) -> None:
        try:
            if self._log is None:
                self._log = ShardedStateLog([named(name) for name in self._names], self._registry)
        except Unavailable as error:
            self._lost.inc(len(events))
            logger.warning("%d state events were lost: %s", len(events), error.detail)
            return
        self._log.record(events)


class RemoteStore:
    """Implements ``ScrollableReader`` for a collection's key by calls to a ``StoreShard``.

    Searches of concurrent queries go together: a call to an actor costs more than most searches.
    """

    def __init__(self, actor: ActorHandle[Any], collection: str) -> None:
        self._actor = actor
        self._collection = collection
        self._searches = Batcher(self._search_each)

    async def dimension(self) -> int | None:
        return cast(int | None, await ask(self._actor.call.remote(self._collection, "dimension")))

    async def fetch(self, ids: Sequence[str]) -> list[Entity | None]:
        return cast(list[Entity | None], await ask(self._actor.call.remote(self._collection, "fetch", list(ids))))

    async def scroll(self, after: str | None, limit: int) -> tuple[list[Entity], str | None]:
        return cast(
            tuple[list[Entity], str | None],
            await ask(self._actor.call.remote(self._collection, "scroll", after, limit)),
        )

    async def search(self, searches: Sequence[Search]) -> list[Candidates]:
        if len(searches) == 1:
            return [await self._searches.do(searches[0])]
        return cast(list[Candidates], await ask(self._actor.call.remote(self._collection, "search", list(searches))))

    async def _search_each(self, searches: Sequence[Search]) -> Sequence[Candidates | QuantumDBError]:
        found = await ask(self._actor.search_each.remote(self._collection, list(searches)))
        return cast(list[Candidates | QuantumDBError], found)

    async def context_names(self) -> list[str]:
        return cast(list[str], await ask(self._actor.call.remote(self._collection, "context_names")))

    async def optimize(self) -> None:
        """See ``VectorStore.optimize``."""
        await ask(self._actor.call.remote(self._collection, "optimize"), BULK_TIMEOUT_S)


class RemoteOriginal:
    """Implements ``Original`` by calls to a ``StoreShard``."""

    def __init__(self, actor: ActorHandle[Any]) -> None:
        self._actor = actor
        self._node = ray.get_runtime_context().get_node_id()

    async def copy(self, collection: str, folder: str, most_bytes: int) -> Copied | None:
        return cast(Copied | None, await ask(self._actor.copy.remote(collection, folder, most_bytes, self._node)))

    async def changes(self, collection: str, place: Place, mark: int, most: int) -> CaughtUp | None:
        return cast(CaughtUp | None, await ask(self._actor.changes.remote(collection, place, mark, most)))


class RemoteCollections:
    """Implements ``Collections`` by calls to a ``StoreShard``."""

    def __init__(self, actor: ActorHandle[Any]) -> None:
        self._actor = actor

    async def resolve(self, scope: Scope) -> Collection:
        return cast(Collection, await ask(self._actor.collections.remote("resolve", scope)))

    async def create(self, scope: Scope, dimension: int | None, metric: Metric) -> Collection:
        return cast(Collection, await ask(self._actor.collections.remote("create", scope, dimension, metric)))

    async def drop(self, scope: Scope) -> Collection:
        return cast(Collection, await ask(self._actor.collections.remote("drop", scope)))

    async def describe(self, scope: Scope) -> tuple[Collection, int | None, int]:
        return cast(tuple[Collection, int | None, int], await ask(self._actor.collections.remote("describe", scope)))

    async def page(self, tenant: str, after: str, limit: int) -> tuple[list[Collection], str | None]:
        found = await ask(self._actor.collections.remote("page", tenant, after, limit))
        return cast(tuple[list[Collection], str | None], found)


class RemoteWrites:
    """Implements ``Writes`` by calls to a ``StoreShard``."""

    def __init__(self, actor: ActorHandle[Any]) -> None:
        self._actor = actor

    async def do(self, request: Request) -> Mapping[str, Any]:
        return cast(Mapping[str, Any], await ask(self._actor.do.remote(request)))


def followed(actor: ActorHandle[Any]) -> Snapshots:
    """Return the commits at which a replica looks at a Qdrant server, as a ``StoreShard`` tells them from now on."""

    async def ask_shard(reader: str, commit: int | None, hold_s: float) -> Told:
        return cast(Told, await ask(actor.follow.remote(reader, commit, hold_s)))

    snapshots = FollowedSnapshots(uuid4().hex, ask_shard, SystemClock())
    snapshots.start()
    return snapshots


def followed_changes(actor: ActorHandle[Any]) -> FollowedChanges:
    """Return the versions of all collections, as a ``StoreShard`` tells them from now on."""

    async def ask_shard(follower: str, known: Place | None, hold_s: float) -> Changes:
        return cast(Changes, await ask(actor.follow_changes.remote(follower, known, hold_s)))

    versions = FollowedChanges(uuid4().hex, ask_shard, SystemClock())
    versions.start()
    return versions


def _give_way(error: Fenced) -> None:
    """End this process at once: another has become the coordinator, and this one must not write anything more."""
    logger.error("the coordinator ends: %s", error.detail)
    logging.shutdown()
    os._exit(1)
