"""The process that writes the collection: it owns the embedded store, and numbers and keeps apart all writes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from ray.actor import ActorHandle

from actors.group_client import RemoteCommitGroups
from actors.shell import CALL_TIMEOUT_S, ask, named
from actors.state_client import ShardedStateLog
from quantum_db.clock import SystemClock
from quantum_db.commits.coordinator import Coordinator
from quantum_db.commits.operations import Request
from quantum_db.commits.showing import FollowedSnapshots, ShownCommits
from quantum_db.commits.visibility import Told
from quantum_db.errors import Fenced, InvalidRequest, Unavailable
from quantum_db.journals.open import open_journal
from quantum_db.model import Candidates, Entity, Search
from quantum_db.ports import Snapshots, VectorStore
from quantum_db.states.events import EventBatch
from quantum_db.stores.qdrant import connect
from quantum_db.stores.qdrant_edge import QdrantEdgeStore
from quantum_db.telemetry import Snapshot, snapshot
from quantum_db.transfer.backup import copy_all

logger = logging.getLogger(__name__)

BULK_TIMEOUT_S = 3600.0
READS = frozenset({"dimension", "fetch", "scroll", "search", "context_names", "count", "optimize"})


@dataclass(frozen=True, slots=True)
class QdrantServer:
    """A collection of a Qdrant server. Its key is in the environment variable ``key_env``."""

    url: str
    collection: str
    key_env: str

    def connect(self, snapshots: Snapshots | None) -> VectorStore:
        """Return the store for a reader, or (None) for the writer; nothing is sent before the first call."""
        key = os.environ.get(self.key_env)
        return connect(self.url, key, self.collection, CALL_TIMEOUT_S, snapshots)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where the collection is.

    Attributes:
        place: the folder of an embedded store, or a server that the replicas search by themselves.
        journal_url: where transactions are written down; see ``quantum_db.journals.open``.
        state_shards, group_shards: how many actors keep the states, and the groups.
    """

    place: str | QdrantServer
    journal_url: str
    state_shards: int
    group_shards: int


class StoreShard:
    """A ``VectorStore`` and its ``Coordinator``, in a process of their own."""

    def __init__(self, settings: StoreSettings) -> None:
        place = settings.place
        embedded = isinstance(place, str)
        self._store: VectorStore = QdrantEdgeStore(Path(place)) if isinstance(place, str) else place.connect(None)
        self._registry = CollectorRegistry()
        self._times = Histogram("store_seconds", "Time of store calls", ["call"], registry=self._registry)
        self._entities = Gauge("store_entities", "Entities in the store", registry=self._registry)
        self._open = Gauge("commits_open", "Transactions written down, not yet applied", registry=self._registry)
        self._coordinator = Coordinator(
            store=self._store,
            groups=RemoteCommitGroups(settings.group_shards),
            states=_LateStateLog(settings.state_shards, self._registry),
            open_journal=lambda: open_journal(settings.journal_url),
            clock=SystemClock(),
            rng=np.random.default_rng(),
            on_fenced=_give_way,
            shown=None if embedded else ShownCommits(SystemClock()),
        )
        self._coordinator.start()

    async def ready(self) -> bool:
        """Return True once all transactions that were left open are applied. Raises what ``readable`` raises."""
        await self._coordinator.readable()
        return True

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call a method that changes nothing of the ``VectorStore`` port: one of ``READS``."""
        assert method in READS, f"{method} is not among {sorted(READS)}"
        await self._coordinator.readable()
        with self._times.labels(method).time():
            return await getattr(self._store, method)(*arguments)

    async def do(self, request: Request) -> Mapping[str, Any]:
        """See ``Writes.do``."""
        with self._times.labels(type(request).__name__.lower()).time():
            return await self._coordinator.do(request)

    async def follow(self, reader: str, commit: int | None, hold_s: float) -> Told:
        """Tell a reader of the server which commit is visible; see ``Coordinator.follow``."""
        return await self._coordinator.follow(reader, commit, hold_s)

    async def metrics(self) -> Snapshot:
        """Return this process's metrics."""
        self._entities.set(await self._store.count())
        self._open.set(self._coordinator.open_commits)
        return snapshot(self._registry, "store")

    async def backup(self, folder: str, journals: Sequence[str]) -> float:
        """Copy the store and journals into a folder; return for how many seconds nothing else was served.

        See ``quantum_db.transfer.backup.copy_all`` for what makes the copies fit together.
        """
        if not isinstance(self._store, QdrantEdgeStore):
            raise InvalidRequest("a Qdrant server copies itself; only the embedded store is copied here")
        await self._coordinator.readable()
        start = time.perf_counter()
        with self._store.at_rest() as data:
            copy_all(data, [Path(journal) for journal in journals], Path(folder))
        return time.perf_counter() - start

    async def close(self) -> None:
        """Flush and release the store. Transactions that are open are applied at the next start."""
        await self._coordinator.close()
        await self._store.close()


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
    """Implements ``ScrollableReader`` by calls to a ``StoreShard``."""

    def __init__(self, actor: ActorHandle[Any]) -> None:
        self._actor = actor

    async def dimension(self) -> int | None:
        return cast(int | None, await ask(self._actor.call.remote("dimension")))

    async def fetch(self, ids: Sequence[str]) -> list[Entity | None]:
        return cast(list[Entity | None], await ask(self._actor.call.remote("fetch", list(ids))))

    async def scroll(self, after: str | None, limit: int) -> tuple[list[Entity], str | None]:
        return cast(tuple[list[Entity], str | None], await ask(self._actor.call.remote("scroll", after, limit)))

    async def search(self, searches: Sequence[Search]) -> list[Candidates]:
        return cast(list[Candidates], await ask(self._actor.call.remote("search", list(searches))))

    async def context_names(self) -> list[str]:
        return cast(list[str], await ask(self._actor.call.remote("context_names")))

    async def optimize(self) -> None:
        """See ``VectorStore.optimize``."""
        await ask(self._actor.call.remote("optimize"), BULK_TIMEOUT_S)


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


def _give_way(error: Fenced) -> None:
    """End this process at once: another has become the coordinator, and this one must not write anything more."""
    logger.error("the coordinator ends: %s", error.detail)
    logging.shutdown()
    os._exit(1)
