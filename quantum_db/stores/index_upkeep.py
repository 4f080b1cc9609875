"""When the indexes of embedded stores are built: those that are due, one at a time in a process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from quantum_db.errors import QuantumDBError
from quantum_db.ports import Clock
from quantum_db.stores.edge_rebuild import Phase
from quantum_db.stores.places import OpenStores
from quantum_db.stores.point_store import PointStore
from quantum_db.stores.qdrant_edge import QdrantEdgeStore

logger = logging.getLogger(__name__)

Built = Callable[[QdrantEdgeStore], Awaitable[None]]

LOOK_S: Final = 1.0
RETRY_S: Final = 60.0
"""Between a build that failed and the next of the same store that nobody asked for."""
_SECONDS: Final = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0)


class IndexUpkeep:
    """Looks after the stores that are open. For one event loop."""

    def __init__(self, stores: OpenStores, clock: Clock, registry: CollectorRegistry, built: Built) -> None:
        """Build nothing before ``run``, or ``optimize``. ``built`` is told of each store that has a new index."""
        self._stores = stores
        self._clock = clock
        self._built = built
        self._building = asyncio.Lock()
        self._not_before_s: WeakKeyDictionary[PointStore, float] = WeakKeyDictionary()
        self._ended = Counter("store_index_builds", "Indexes built, by outcome", ["outcome"], registry=registry)
        self._times = Histogram(
            "store_index_build_seconds", "Time of a build, copies included", buckets=_SECONDS, registry=registry
        )
        self._unindexed = Gauge("store_unindexed_points", "Points written since an index was built", registry=registry)
        self._phase = Gauge(
            "store_index_phase", "0 none is built, 1 copying, 2 building, 3 taking over", registry=registry
        )

    async def run(self) -> None:
        """Build what is due, for ever. What fails is tried again later."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Build the indexes that are due."""
        for store in self._embedded():
            try:
                if self._may_begin(store):
                    await self.optimize(store)
            except QuantumDBError as error:
                self._not_before_s[store] = self._clock.monotonic_s() + RETRY_S
                logger.warning("an index was not built, and is tried again later: %s", error.detail)

    async def optimize(self, store: PointStore) -> None:
        """Have a store optimised, an embedded one once no other is being. Raises as ``VectorStore.optimize``."""
        if not isinstance(store, QdrantEdgeStore):
            await store.optimize()
            return
        async with self._building:
            begin_s = self._clock.monotonic_s()
            try:
                await store.optimize()
            except QuantumDBError:
                self._ended.labels("failed").inc()
                raise
            self._ended.labels("done").inc()
            await self._built(store)
            self._times.observe(self._clock.monotonic_s() - begin_s)

    def measure(self) -> None:
        """Set the gauges."""
        stores = self._embedded()
        self._unindexed.set(sum(store.unindexed for store in stores))
        self._phase.set(max((store.phase for store in stores), default=Phase.NONE))

    def _embedded(self) -> list[QdrantEdgeStore]:
        return [store for store in self._stores.opened() if isinstance(store, QdrantEdgeStore)]

    def _may_begin(self, store: QdrantEdgeStore) -> bool:
        if not store.is_index_due():
            return False
        return self._not_before_s.get(store, 0.0) <= self._clock.monotonic_s()
