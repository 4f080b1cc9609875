"""The embedded store: one Qdrant Edge shard in a folder, in this process.

The library's calls are synchronous and keep the GIL. The store belongs in a process of its own, on whose event loop
its methods run without ever suspending; concurrent coroutines are thereby served one after another.

    folder/owner.lock        held while the store is open
    folder/data/manifest.json
    folder/data/shard/       the shard

A write is in the shard's log when it returns, and survives the process being killed. ``flush`` also makes it survive
the machine; it happens when the owner asks for it, every 8,192 points and at ``close``. The library takes lost files
for a shard that never had them; the manifest tells the store what must be there.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import qdrant_edge as edge

from quantum_db import filters
from quantum_db.errors import CorruptData, QuantumDBError, Unavailable
from quantum_db.model import Search
from quantum_db.stores.copying import copy_folder, size_of
from quantum_db.stores.decoding import RECORD, SLOT, Decoder, Found, found
from quantum_db.stores.point_store import PointStore
from quantum_db.stores.points import CONTEXTS, ENTITY, HIGH, SEARCH_EF, Place, Point, high_of, payload_key, point_id

_FORMAT: Final = 1
_POINTS_A_FLUSH: Final = 8192
_ALL: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class _Manifest:
    """What must be in the folder.

    Attributes:
        segments: the shard's segments; None while ``optimize`` replaces them.
        points: their number; None from opening to closing.

    """

    format: int
    dimension: int
    segments: list[str] | None
    points: int | None


class QdrantEdgeStore(PointStore):
    """A ``VectorStore`` over an embedded shard. See the module's docstring for what it promises.

    Args:
        path: the folder, which is made if need be. It belongs to the store alone.

    Raises:
        Unavailable: the folder is open in another store, or cannot be used (permissions, space).
        CorruptData: the folder holds something else, or a store that is damaged.

    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self._path = Path(path)
        self._data = self._path / "data"
        self._shard: edge.EdgeShard | None = None
        self._dimension: int | None = None
        self._closed = False
        self._unflushed = 0
        self._decoder = Decoder()
        self._lock = _own(self._path)
        try:
            self._open()
        except BaseException:
            os.close(self._lock)
            raise

    async def dimension(self) -> int | None:
        """Return the length of the stored vectors, or None before the first write."""
        self._check_open()
        return self._dimension

    async def context_names(self) -> list[str]:
        """Return the names of all contexts that some entity has, sorted."""
        self._check_open()
        self.check_whole()
        if self._shard is None:
            return []
        with self._failing_as(CorruptData, "count contexts in"):
            hits = self._shard.facet(edge.FacetRequest(CONTEXTS, limit=_ALL, exact=True)).hits
        return sorted(str(hit.value) for hit in hits if hit.count > 0)

    async def count(self) -> int:
        """Return the number of entities."""
        self._check_open()
        self.check_whole()
        if self._shard is None:
            return 0
        first = edge.Filter(must=[edge.FieldCondition(SLOT, match=edge.MatchValue(0))])
        with self._failing_as(CorruptData, "count entities in"):
            return int(self._shard.count(edge.CountRequest(exact=True, filter=first)))

    async def flush(self) -> None:
        """See ``VectorStore.flush``. Some milliseconds, and up to a second for thousands of points."""
        self._check_open()
        if self._shard is not None and self._unflushed:
            with self._failing_as(Unavailable, "flush"):
                self._shard.flush()
            self._unflushed = 0

    async def newest_commit(self) -> int:
        """Return 0: one process reads, and needs no marks."""
        return 0

    async def sweep(self, through: int) -> None:
        """Nothing is to be dropped: one process reads, and no older versions are kept for it."""

    async def optimize(self) -> None:
        """Build the vector index. Keeps this process (GIL and all) busy until it is done: 6 s for 25,000 points.

        Shards below some 10 MB of vectors stay without an index, which is the faster way to search them.
        """
        self._check_open()
        if self._shard is None:
            return
        self._note(segments=None, points=None)
        with self._failing_as(Unavailable, "optimize"):
            self._shard.optimize()
            self._shard.flush()
        self._note(segments=self._segments(), points=None)

    async def close(self) -> None:
        """Flush and release the folder. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._shard is not None:
                with self._failing_as(Unavailable, "close"):
                    points = self._shard.count(edge.CountRequest(exact=True))
                    self._shard.flush()
                    self._shard.close()
                self._note(segments=self._segments(), points=points)
        finally:
            self._shard = None
            os.close(self._lock)

    @contextmanager
    def at_rest(self) -> Iterator[Path | None]:
        """Flush and close the shard, yield the folder that a copy is to hold, and open the shard again at the end.

        The folder is None before the first write. Nothing else is served inside the block, which must not await:
        the event loop stands still. A shard that does not open again leaves the store closed.

        Raises:
            Unavailable, CorruptData: the shard cannot be flushed, or opened again.
        """
        self._check_open()
        if self._shard is None:
            yield None
            return
        with self._failing_as(Unavailable, "flush"):
            points = self._shard.count(edge.CountRequest(exact=True))
            self._shard.flush()
        self._closed = True
        with self._failing_as(Unavailable, "close"):
            self._shard.close()
        self._shard, self._unflushed = None, 0
        try:
            self._note(segments=self._segments(), points=points)
            yield self._data
        finally:
            self._open()
            self._closed = False

    @property
    def bytes(self) -> int:
        """What the store takes on disk."""
        return size_of(self._data) if self._data.exists() else 0

    async def copy_to(self, folder: Path) -> int:
        """Flush, and copy all into a folder that is not there yet, for another store to open; return the bytes.

        The shard stays open, and nothing else is served meanwhile: 20 ms for 10,000 vectors of 128 numbers.

        Raises:
            Unavailable: nothing was written yet, something is written in part, or the folder cannot be written.
        """
        self._open_shard()
        await self.flush()
        self.check_whole()
        try:
            return copy_folder(self._data, folder / self._data.name)
        except OSError as error:
            raise Unavailable(f"The store in {self._path} cannot be copied to {folder}: {error}") from error

    def discard(self) -> None:
        """Release the folder of a copy that nobody needs any more, without a flush. Idempotent."""
        if not self._closed:
            self._closed = True
            self._shard = None
            os.close(self._lock)

    # What PointStore asks for

    async def _create(self, dimension: int) -> int:
        if self._shard is None:
            with self._failing_as(Unavailable, "create"):
                _build(self._path / "data.new", dimension)
                (self._path / "data.new").rename(self._data)
                _sync(self._path)
            self._open()
        return dimension

    async def _write(self, points: Sequence[Point]) -> None:
        self._change(
            edge.UpdateOperation.upsert_points([edge.Point(p.id, p.vector.tolist(), p.payload) for p in points])
        )
        self._unflushed += len(points)
        if self._unflushed >= _POINTS_A_FLUSH:
            await self.flush()

    async def _erase(self, point_ids: Sequence[str]) -> None:
        self._change(edge.UpdateOperation.delete_points(list(point_ids)))
        self._unflushed += len(point_ids)

    async def _places(self, entity_ids: Sequence[str]) -> dict[str, Place]:
        return {i: Place(0, high_of(payload)) for i, payload in self._payloads(entity_ids, HIGH).items()}

    async def _records(self, entity_ids: Sequence[str], at: int) -> dict[str, object]:  # noqa: ARG002
        return {i: (payload or {}).get(RECORD) for i, payload in self._payloads(entity_ids, RECORD).items()}

    def _payloads(self, entity_ids: Sequence[str], field: str) -> dict[str, dict[str, Any] | None]:
        heads = {point_id(i, 0): i for i in entity_ids}
        with self._failing_as(CorruptData, "read"):
            records = self._open_shard().retrieve(list(heads), with_payload=[field], with_vector=False)
        return {heads[str(record.id)]: record.payload for record in records}

    async def _firsts(self, entity_ids: Sequence[str], at: int) -> list[Found]:  # noqa: ARG002
        return list((await self._read([point_id(i, 0) for i in entity_ids])).values())

    async def _read(self, point_ids: Sequence[str]) -> dict[str, Found]:
        with self._failing_as(CorruptData, "read"):
            records = self._open_shard().retrieve(list(point_ids), with_payload=[RECORD, SLOT], with_vector=True)
        return {str(record.id): found(record.payload, 0.0, record.vector) for record in records}

    async def _heads(self, first: str | None, limit: int, at: int) -> tuple[list[Found], str | None]:  # noqa: ARG002
        request = edge.ScrollRequest(
            offset=first,
            limit=limit,
            filter=edge.Filter(must=[edge.FieldCondition(SLOT, match=edge.MatchValue(0))]),
            with_payload=[RECORD, SLOT],
            with_vector=True,
        )
        with self._failing_as(CorruptData, "read"):
            records, following = self._open_shard().scroll(request)
        heads = [found(record.payload, 0.0, record.vector) for record in records]
        return heads, None if following is None else str(following)

    async def _nearest(self, asked: Sequence[tuple[Search, int]], at: int) -> list[list[Found]]:  # noqa: ARG002
        requests = [
            edge.QueryRequest(
                limit=limit,
                query=edge.Query.Nearest(search.vector.tolist()),
                filter=_search_filter(search),
                with_payload=[RECORD, SLOT],
                with_vector=True,
                params=edge.SearchParams(hnsw_ef=max(limit, SEARCH_EF)),
            )
            for search, limit in asked
        ]
        with self._failing_as(CorruptData, "search"):
            answers = self._open_shard().query_batch(edge.QueryBatchRequest(requests))
        return [[self._decoder.found(point) for point in answer] for answer in answers]

    def _change(self, operation: edge.UpdateOperation) -> None:
        with self._failing_as(Unavailable, "write to"):
            self._open_shard().update(operation)

    def _open_shard(self) -> edge.EdgeShard:
        self._check_open()
        if self._shard is None:
            raise Unavailable(f"The store in {self._path} has no shard yet")
        return self._shard

    # The folder

    def _open(self) -> None:
        if not self._data.exists():
            strangers = [entry.name for entry in self._path.iterdir() if entry.name not in {"owner.lock", "data.new"}]
            if strangers:
                raise CorruptData(f"{self._path} holds no store, but {sorted(strangers)[0]!r}")
            return
        manifest = self._manifest()
        for segment in manifest.segments or []:
            for name in ("segment.json", "version.info"):
                if not (self._data / "shard" / "segments" / segment / name).is_file():
                    raise CorruptData(f"The store in {self._path} is damaged: {segment}/{name} is missing")
        with self._failing_as(CorruptData, "open"):
            shard = edge.EdgeShard.load(str(self._data / "shard"))
            points = shard.count(edge.CountRequest(exact=True))
        if manifest.points is not None and manifest.points != points:
            shard.close()
            raise CorruptData(f"The store in {self._path} is damaged: {points} of {manifest.points} points are left")
        self._shard, self._dimension = shard, manifest.dimension
        self._unflushed = 1  # an owner before may not have come to it
        self._note(segments=self._segments(), points=None)

    def _manifest(self) -> _Manifest:
        try:
            manifest = _Manifest(**json.loads((self._data / "manifest.json").read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise CorruptData(f"The store in {self._path} has no readable manifest: {error}") from error
        if manifest.format != _FORMAT:
            raise CorruptData(f"The store in {self._path} has format {manifest.format}, this program reads {_FORMAT}")
        return manifest

    def _note(self, segments: list[str] | None, points: int | None) -> None:
        if self._dimension is not None:
            _write_manifest(self._data, _Manifest(_FORMAT, self._dimension, segments, points))

    def _segments(self) -> list[str]:
        return _segments_in(self._data)

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(f"The store in {self._path} has been closed")

    @contextmanager
    def _failing_as(self, kind: type[QuantumDBError], doing: str) -> Iterator[None]:
        try:
            yield
        except (QuantumDBError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises bare Exception, and panics are BaseException
            text = str(error)
            if "No space left" in text or "Permission denied" in text:
                kind = Unavailable
            raise kind(f"Could not {doing} the store in {self._path}: {text}") from error


def _own(path: Path) -> int:
    """Return a locked descriptor, which keeps every other owner out for as long as this process holds it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / "owner.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise Unavailable(f"The store in {path} cannot be opened: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise Unavailable(f"The store in {path} is open elsewhere; a folder has one owner") from error
    return lock


def _build(data: Path, dimension: int) -> None:
    """Make an empty shard and its manifest in a folder that is then renamed, so that no half of it is ever found."""
    shutil.rmtree(data, ignore_errors=True)
    (data / "shard").mkdir(parents=True)
    vectors = edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Cosine)
    shard = edge.EdgeShard.create(str(data / "shard"), edge.EdgeConfig(vectors=vectors, wal_enabled=True))
    # Made now, the indexes slow inserts by 7% and optimize not at all. A graph for each value only helps searches that
    # are filtered by it; with graphs for the other two, optimize takes a third longer at 25,000 points.
    for field, schema in (
        (CONTEXTS, edge.KeywordIndexParams()),
        (ENTITY, edge.KeywordIndexParams(enable_hnsw=False)),
        (SLOT, edge.IntegerIndexParams(lookup=True, range=False, enable_hnsw=False)),
    ):
        shard.update(edge.UpdateOperation.create_field_index(field, schema))
    shard.flush()
    shard.close()
    _write_manifest(data, _Manifest(_FORMAT, dimension, _segments_in(data), 0))


def _segments_in(data: Path) -> list[str]:
    folder = data / "shard" / "segments"
    return sorted(entry.name for entry in folder.iterdir() if (entry / "segment.json").is_file())


def _write_manifest(data: Path, manifest: _Manifest) -> None:
    fresh = data / "manifest.json.new"
    fresh.write_text(json.dumps(asdict(manifest)))
    _sync(fresh)
    fresh.replace(data / "manifest.json")
    _sync(data)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _search_filter(search: Search) -> edge.Filter | None:
    must: list[Any] = []
    if len(search.contexts) == 1:
        must.append(edge.FieldCondition(CONTEXTS, match=edge.MatchValue(search.contexts[0])))
    elif search.contexts:
        must.append(edge.FieldCondition(CONTEXTS, match=edge.MatchAny(list(search.contexts))))
    if search.filter is not None:
        must.append(_filter(search.filter))
    return edge.Filter(must=must) if must else None


def _filter(given: filters.Filter) -> edge.Filter:
    return edge.Filter(
        must=[_condition(condition) for condition in given.must],
        should=[_condition(condition) for condition in given.should] or None,
        must_not=[_condition(condition) for condition in given.must_not],
    )


def _condition(given: filters.Condition) -> Any:
    if isinstance(given, filters.Filter):
        return _filter(given)
    if isinstance(given, filters.HasId):
        return edge.FieldCondition(ENTITY, match=edge.MatchAny(list(given.has_id)))
    if isinstance(given, filters.IsEmpty):
        return edge.IsEmptyCondition(payload_key(given.is_empty.key))
    if isinstance(given, filters.IsNull):
        return edge.IsNullCondition(payload_key(given.is_null.key))
    return edge.FieldCondition(
        payload_key(given.key),
        match=_match(given.match) if given.match is not None else None,
        range=edge.RangeFloat(**dict(given.range)) if given.range is not None else None,
        values_count=edge.ValuesCount(**dict(given.values_count)) if given.values_count is not None else None,
    )


def _match(given: filters.Match) -> Any:
    if given.text is not None:
        return edge.MatchText(given.text)
    if given.any is not None:
        return edge.MatchAny(cast("list[str]", list(given.any)))
    if given.except_ is not None:
        return edge.MatchExcept(cast("list[str]", list(given.except_)))
    # The library reads Python's True as the number 1, but NumPy's as a boolean.
    value: Any = np.bool_(given.value) if isinstance(given.value, bool) else given.value
    return edge.MatchValue(value)
