"""Creates, lists and drops collections, beside the coordinator of all writes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from quantum_db.collection_table import (
    BUILT_IN,
    Collection,
    CollectionTable,
    Metric,
    dropped_record,
    erased_record,
)
from quantum_db.errors import Conflict, NoSuchCollection, QuantumDBError
from quantum_db.journals.keeper import Keeper
from quantum_db.ports import Clock
from quantum_db.scope import DEFAULT_COLLECTION, Scope
from quantum_db.stores.places import OpenStores
from quantum_db.stores.point_store import PointStore

logger = logging.getLogger(__name__)

PAUSE_S: Final = 0.2
"""Between two looks at whether a dropped collection is at rest, and between two attempts to erase it."""


class CollectionKeeper:
    """The collections, durable when a method returns. Implements ``commits.ports.Stores``."""

    def __init__(
        self,
        keeper: Keeper[CollectionTable],
        stores: OpenStores,
        *,
        most: int,
        clock: Clock,
        is_busy: Callable[[str], bool],
        forget_groups: Callable[[str], Awaitable[None]],
    ) -> None:
        """Go on with what was being erased.

        Args:
            most: collections of one tenant.
            is_busy: tells whether writes of a collection are under way.
            forget_groups: deletes all groups of a collection; idempotent.
        """
        self._keeper = keeper
        self._stores = stores
        self._most = most
        self._clock = clock
        self._is_busy = is_busy
        self._forget_groups = forget_groups
        self._creating = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        for collection in keeper.kept.going.values():
            self._begin_to_erase(collection.key)

    @property
    def table(self) -> CollectionTable:
        """What there is."""
        return self._keeper.kept

    def of(self, key: str) -> PointStore:
        """Return the store of a collection, also of one that is going. Raises NoSuchCollection."""
        if not self.table.is_known(key):
            self.table.check_live(key)
        return self._stores.of(key)

    async def flush(self) -> None:
        """See ``Stores.flush``."""
        await self._stores.flush()

    async def newest_commit(self) -> int:
        """See ``Stores.newest_commit``."""
        if self._stores.embedded:  # which keeps no marks
            return 0
        return max([await self.of(key).newest_commit() for key in self.table.known_keys()])

    async def sweep(self, through: int) -> None:
        """See ``Stores.sweep``."""
        await self._stores.sweep(through)

    async def resolve(self, scope: Scope) -> Collection:
        """Return a collection; a tenant's default one is created by the first call. Raises NoSuchCollection."""
        try:
            return self.table.get(scope)
        except NoSuchCollection:
            if scope.collection != DEFAULT_COLLECTION:
                raise
        return await self.create(scope, None, "cosine")

    async def create(self, scope: Scope, dimension: int | None, metric: Metric) -> Collection:
        """Create a collection. Idempotent.

        Raises:
            InvalidRequest: the name is none.
            Conflict: the name stands for a collection with another dimension.
            TooMany: the tenant has as many as it may.
            Unavailable: it may have been created; the same call again tells.
        """
        async with self._creating:
            made, known = self.table.plan(scope, dimension, metric, at_s=self._clock.now_s(), most=self._most)
            if not known:
                # A crash may have left something under a key that was never written down.
                await self._stores.erase(made.key)
                if dimension is not None:
                    await self._stores.of(made.key).prepare(dimension)
                await self._keeper.write([made.record()])
            return made

    async def drop(self, scope: Scope) -> Collection:
        """Drop a collection with all that is in it; what was stored is erased in the background.

        Raises:
            NoSuchCollection: also for the second time.
            Conflict: it is the one that is always there.
        """
        collection = self.table.get(scope)
        if collection is BUILT_IN or scope.collection == DEFAULT_COLLECTION:
            raise Conflict("the collection 'default' is always there; delete its vectors instead")
        await self._keeper.write([dropped_record(collection.key)])
        self._begin_to_erase(collection.key)
        return collection

    async def describe(self, scope: Scope) -> tuple[Collection, int | None, int]:
        """Return a collection, the dimension of its vectors, and the number of its entities."""
        collection = await self.resolve(scope)
        store = self.of(collection.key)
        return collection, await store.dimension(), await store.count()

    async def page(self, tenant: str, after: str, limit: int) -> tuple[list[Collection], str | None]:
        """See ``CollectionTable.page``."""
        return self.table.page(tenant, after, limit)

    async def close(self) -> None:
        """Leave what is being erased to the next start, and release the journal. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._keeper.close()

    def _begin_to_erase(self, key: str) -> None:
        task = asyncio.get_running_loop().create_task(self._erase(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _erase(self, key: str) -> None:
        while True:
            try:
                if not self._is_busy(key):
                    await self._forget_groups(key)
                    await self._stores.erase(key)
                    await self._keeper.write([erased_record(key)])
                    return
            except QuantumDBError as error:
                logger.warning("a dropped collection is not erased yet: %s", error.detail)
            await asyncio.sleep(PAUSE_S)
