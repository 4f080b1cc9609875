"""The embedded store: one Qdrant Edge shard in a folder, in this process.

The library's calls are synchronous and keep the GIL. The store belongs in a process of its own, on whose event loop
its methods run. Reads never suspend, and a transaction is written without suspending; a large plain write lets others
in every few milliseconds. What a write and ``flush`` promise: see ``edge_shard``.

An index is built by a child on a copy (see ``edge_index``). What was written meanwhile is written again into the copy,
which then takes the place of the shard by a new manifest (see ``edge_folder``). A process that is killed at any point
leaves one whole shard.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import qdrant_edge as edge

from quantum_db.errors import CorruptData, Unavailable
from quantum_db.model import Search
from quantum_db.stores.copying import size_of
from quantum_db.stores.decoding import RECORD, SLOT, Decoder, Found, found
from quantum_db.stores.edge_index import IndexSettings
from quantum_db.stores.edge_rebuild import Phase, Rebuild, replay
from quantum_db.stores.edge_requests import first_points, first_slot, nearest_points
from quantum_db.stores.edge_shard import OpenShard
from quantum_db.stores.point_store import PointStore, let_others_in
from quantum_db.stores.points import CONTEXTS, HIGH, Place, Point, high_of, point_id

logger = logging.getLogger(__name__)

POINTS_A_SLICE: Final = 16
"""That are written, or made ready, before others get in between: 1 to 2 ms."""
REPLAYED_AT_LEAST: Final = 2_048
"""Points that are written into a new index, at least, while writes wait: half a second."""
_ALL: Final = 1_000_000


class QdrantEdgeStore(PointStore):
    """A ``VectorStore`` over an embedded shard. See the module's docstring for what it promises.

    Args:
        path: the folder, which is made if need be. It belongs to the store alone.
        index: how vectors are kept and indexed.

    Raises:
        Unavailable: the folder is open in another store, or cannot be used (permissions, space).
        CorruptData: the folder holds something else, or a store that is damaged.

    Attributes:
        phase: how far an index is that is being built.
    """

    points_a_slice = POINTS_A_SLICE

    def __init__(self, path: str | Path, index: IndexSettings | None = None) -> None:
        super().__init__()
        self.phase = Phase.NONE
        self._index = index or IndexSettings()
        self._open = OpenShard(Path(path), self._index)
        self._decoder = Decoder()
        self._entities: int | None = None
        self._made: dict[str, tuple[Point, edge.Point]] = {}
        self._building = asyncio.Lock()
        self._released = False

    async def dimension(self) -> int | None:
        """Return the length of the stored vectors, or None before the first write."""
        self._open.check_open()
        return self._open.dimension

    async def context_names(self) -> list[str]:
        """Return the names of all contexts that some entity has, sorted."""
        self._open.check_open()
        self.check_whole()
        if not self._open.is_made:
            return []
        with self._open.failing_as(CorruptData, "count contexts in"):
            hits = self._open.shard.facet(edge.FacetRequest(CONTEXTS, limit=_ALL, exact=True)).hits
        return sorted(str(hit.value) for hit in hits if hit.count > 0)

    async def count(self) -> int:
        """Return the number of entities. The store goes through all of them the first time, and after a failure."""
        self._open.check_open()
        self.check_whole()
        if not self._open.is_made:
            return 0
        if self._entities is None:
            with self._open.failing_as(CorruptData, "count entities in"):
                request = edge.CountRequest(exact=True, filter=first_slot())
                self._entities = int(self._open.shard.count(request))
        return self._entities

    async def flush(self) -> None:
        """See ``VectorStore.flush``. Others are served meanwhile, except when nothing was written since the last."""
        self._open.check_open()
        await self._open.sync(may_stand_still=not self._writing.locked())

    async def newest_commit(self) -> int:
        """Return 0: one process reads, and needs no marks."""
        return 0

    async def sweep(self, through: int) -> None:
        """Nothing is to be dropped: one process reads, and no older versions are kept for it."""

    def is_at_rest(self) -> bool:
        """Return whether nothing is being written, nor an index being built."""
        return super().is_at_rest() and not self._building.locked()

    async def close(self) -> None:
        """Flush and release the folder; an index that is being built is given up. Idempotent."""
        if self._released:
            return
        self._released = True
        self._give_up("the store was closed")
        try:
            self._open.close()
        finally:
            async with self._building:  # which still writes into the folder
                self._open.release()

    @contextmanager
    def at_rest(self) -> Iterator[Path | None]:
        """Flush and close the shard, yield the folder that a copy is to hold, and open the shard again at the end.

        The folder is None before the first write. Nothing else is served inside the block, which must not await:
        the event loop stands still. A shard that does not open again leaves the store closed.

        Raises:
            Unavailable, CorruptData: the shard cannot be flushed, or opened again.
        """
        self._open.check_open()
        if not self._open.is_made:
            yield None
            return
        if self.phase is Phase.COPYING:
            self._give_up("the store was copied meanwhile")
        self._open.close()
        try:
            yield self._open.data
        finally:
            self._open.reopen()

    # Copies

    @property
    def bytes(self) -> int:
        """What the store takes on disk."""
        return size_of(self._open.data) if self._open.is_made else 0

    async def copy_to(self, folder: Path) -> int:
        """Copy all into a folder that is not there yet, for another store to open; return the bytes.

        The shard stays open, and nothing else is served meanwhile: 20 ms for 10,000 vectors of 128 numbers. Another
        store opens what is copied as it opens what a killed process has left.

        Raises:
            Unavailable: nothing was written yet, something is written in part, the log is long, or the folder cannot
                be written.
        """
        self.check_whole()
        return self._open.copy_to(folder)

    def discard(self) -> None:
        """Release the folder of a copy that nobody needs any more, without a flush. Idempotent."""
        if not self._released:
            self._released = True
            self._open.discard()

    # The index

    @property
    def unindexed(self) -> int:
        """How many points have been written or erased since the index was built."""
        return self._open.unindexed

    def is_index_due(self) -> bool:
        """Return whether so much is in no index that one is worth building."""
        return self.unindexed >= self._index.after_points and self._open.gains_by_index

    async def optimize(self) -> None:
        """Build an index of all that is there by now; others are served meanwhile. Some 40 s for 100,000 points.

        Shards below some 10 MB of vectors stay without an index, which is the faster way to search them.

        Raises:
            Unavailable: it was not built; what was there is as it was.
        """
        self._open.check_open()
        async with self._building:
            if self._open.gains_by_index:
                await self._build_index()

    async def _build_index(self) -> None:
        assert self._open.dimension is not None
        build = Rebuild(self._open.path, self._open.folder, self._open.dimension, self._index)
        self._open.rebuild = build
        try:
            self.phase = Phase.COPYING
            await build.begin()
            async with self._writing:
                await build.follow()
            self.phase = Phase.BUILDING
            await build.finish()
            self._open.check_open()
            self.phase = Phase.TAKING_OVER
            await self._take_over(build)
        finally:
            self._open.rebuild = None
            self.phase = Phase.NONE
            await build.clean_up()

    async def _take_over(self, build: Rebuild) -> None:
        """Put the shard that was built in the place of the present one."""
        present = self._open.folder
        fresh, folder = self._open.adopt(build.copy)
        unused, left = fresh, folder
        try:
            unused = await self._catch_up(build, fresh, folder)
            left = present
        finally:
            try:
                with self._open.failing_as(Unavailable, "close a shard that is not used any more of"):
                    unused.close()
            except Unavailable as error:
                logger.warning("%s", error.detail)
            await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)

    async def _catch_up(self, build: Rebuild, fresh: edge.EdgeShard, folder: Path) -> edge.EdgeShard:
        """Write into a new shard what has changed since it was copied, and let it take over; return the old one.

        Each time that other writes have been let in, twice as many changes are made up for as they have brought.
        """
        changed = build.changed
        assert changed is not None
        replayed = 0
        while True:
            left_before = len(changed)
            async with self._writing:
                most = max(REPLAYED_AT_LEAST, 2 * (len(changed) - left_before))
                while most > 0 and (some := changed.take(min(most, self.points_a_slice))):
                    with self._open.failing_as(CorruptData, "read"):
                        replay(self._open.shard, fresh, some)
                    replayed += len(some)
                    most -= len(some)
                    await let_others_in()
                build.check()
                if not changed:
                    await self._open.sync_files()  # those of the old shard, which flushes when it is closed
                    return await self._open.replace_by(fresh, folder, replayed)

    def _give_up(self, why: str) -> None:
        if self._open.rebuild is not None:
            self._open.rebuild.give_up(why)

    # What PointStore asks for

    async def _create(self, dimension: int) -> int:
        if not self._open.is_made:
            self._open.make(dimension)
        return dimension

    async def _ready(self, points: Sequence[Point]) -> None:
        self._made = {}
        for start in range(0, len(points), POINTS_A_SLICE):
            if start:
                await let_others_in()
            self._made |= {point.id: (point, _as_edge(point)) for point in points[start : start + POINTS_A_SLICE]}

    async def _write(self, points: Sequence[Point]) -> None:
        made = [self._made_of(point) for point in points]
        self._open.change(edge.UpdateOperation.upsert_points(made), [point.id for point in points])

    def _made_of(self, point: Point) -> edge.Point:
        of, made = self._made.pop(point.id, (None, None))
        # What was made ready for a write that failed may be of an older version.
        return made if made is not None and of is point else _as_edge(point)

    async def _erase(self, point_ids: Sequence[str]) -> None:
        self._open.change(edge.UpdateOperation.delete_points(list(point_ids)), point_ids)

    async def _places(self, entity_ids: Sequence[str]) -> dict[str, Place]:
        return {i: Place(0, high_of(payload)) for i, payload in self._payloads(entity_ids, HIGH).items()}

    async def _records(self, entity_ids: Sequence[str], at: int) -> dict[str, object]:  # noqa: ARG002
        return {i: (payload or {}).get(RECORD) for i, payload in self._payloads(entity_ids, RECORD).items()}

    def _payloads(self, entity_ids: Sequence[str], field: str) -> dict[str, dict[str, Any] | None]:
        heads = {point_id(i, 0): i for i in entity_ids}
        with self._open.failing_as(CorruptData, "read"):
            records = self._open.shard.retrieve(list(heads), with_payload=[field], with_vector=False)
        return {heads[str(record.id)]: record.payload for record in records}

    async def _firsts(self, entity_ids: Sequence[str], at: int) -> list[Found]:  # noqa: ARG002
        return list((await self._read([point_id(i, 0) for i in entity_ids])).values())

    async def _read(self, point_ids: Sequence[str]) -> dict[str, Found]:
        with self._open.failing_as(CorruptData, "read"):
            records = self._open.shard.retrieve(list(point_ids), with_payload=[RECORD, SLOT], with_vector=True)
        return {str(record.id): found(record.payload, 0.0, record.vector) for record in records}

    async def _heads(self, first: str | None, limit: int, at: int) -> tuple[list[Found], str | None]:  # noqa: ARG002
        with self._open.failing_as(CorruptData, "read"):
            records, following = self._open.shard.scroll(first_points(first, limit))
        heads = [found(record.payload, 0.0, record.vector) for record in records]
        return heads, None if following is None else str(following)

    async def _nearest(self, asked: Sequence[tuple[Search, int]], at: int) -> list[list[Found]]:  # noqa: ARG002
        requests = [nearest_points(search, limit) for search, limit in asked]
        with self._open.failing_as(CorruptData, "search"):
            answers = self._open.shard.query_batch(edge.QueryBatchRequest(requests))
        return [[self._decoder.found(point) for point in answer] for answer in answers]

    def _counted(self, change: int | None) -> None:
        self._entities = None if self._entities is None or change is None else self._entities + change


def _as_edge(point: Point) -> edge.Point:
    return edge.Point(point.id, point.vector.tolist(), point.payload)
