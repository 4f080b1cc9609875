"""The store on a Qdrant server, over its REST interface.

Every call to the server ends within the store's timeout. What the server or the network does wrong becomes
``Unavailable``, with a sentence that names the server.

The server cannot change several points at once for all who search it. So a transaction writes versions of its own,
and ends those before, none of which anybody sees yet; see ``points``. All readers see it once they look at its commit.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from quantum_db.errors import DeadlineExceeded, InvalidSettings, Unavailable
from quantum_db.model import Entity, Search
from quantum_db.ports import Snapshots
from quantum_db.stores.decoding import BORN, RECORD, SLOT, Found, found
from quantum_db.stores.point_store import PointStore
from quantum_db.stores.points import (
    CONTEXTS,
    DIED,
    ENTITY,
    HIGH,
    SEARCH_EF,
    Place,
    Point,
    check_dimensions,
    in_writes,
    latest,
    lay_out,
    place_of,
    point_id,
    scroll_start,
)
from quantum_db.stores.qdrant_filters import dead_by, first_slot, of_entities, search_filter, seen_at, superseded_by

T = TypeVar("T")

_ALL: Final = 1_000_000
_POLL_S: Final = 0.5
_OPTIMIZE_S: Final = 3600.0
_CONFLICT: Final = 409
_FIELDS: Final = [RECORD, SLOT, BORN]
_FIRSTS_A_READ: Final = 10_000
_LATEST: Final = 1 << 53
"""Above every commit, and still exact where the server compares floats."""

# No graph for each value where no search of the hot path is filtered by one: it only makes indexing longer.
_INDEXES: Final[dict[str, models.PayloadSchemaType | models.KeywordIndexParams | models.IntegerIndexParams]] = {
    CONTEXTS: models.PayloadSchemaType.KEYWORD,
    ENTITY: models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, enable_hnsw=False),
    SLOT: models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=False, enable_hnsw=False),
    BORN: models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=False, range=True, enable_hnsw=False),
    DIED: models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=False, range=True, enable_hnsw=False),
}


def connect(
    url: str, api_key: str | None, collection: str, timeout_s: float, snapshots: Snapshots | None = None
) -> QdrantStore:
    """Return the store in a collection of the server at ``url``. Nothing is sent before the first call.

    Args:
        url: with scheme and port, such as ``http://qdrant:6333``.
        api_key: of the server, if it has one.
        collection: made by the first write if it does not exist.
        timeout_s: bound of every single call to the server.
        snapshots: see ``QdrantStore``.

    """
    client = AsyncQdrantClient(url=url, api_key=api_key, timeout=math.ceil(timeout_s), check_compatibility=False)
    return QdrantStore(client, collection, snapshots, timeout_s=timeout_s, name=f"Qdrant at {url}")


class QdrantStore(PointStore):
    """A ``VectorStore`` in one collection of a Qdrant server. One writer for an entity; see ``PointStore``.

    Args:
        client: a REST client. The store closes it.
        collection: made by the first write if it does not exist. One with other vectors raises InvalidSettings.
        snapshots: tell at which commit a reader looks. None is for the writer: it sees the latest versions, also of
            transactions that are under way.
        timeout_s: bound of every single call to the server.
        name: what errors call the server.

    """

    def __init__(
        self,
        client: AsyncQdrantClient,
        collection: str,
        snapshots: Snapshots | None = None,
        *,
        timeout_s: float = 10.0,
        name: str = "Qdrant",
    ) -> None:
        super().__init__()
        self._snapshots = snapshots
        self._client = client
        self._collection = collection
        self._timeout_s = timeout_s
        self._name = name
        self._dimension: int | None = None
        self._closed = False

    async def dimension(self) -> int | None:
        """Return the length of the stored vectors, or None before the first write. Asks the server only until then."""
        if self._closed:
            raise Unavailable(f"The connection to {self._name} has been closed")
        if self._dimension is None:
            self._dimension = await self._attach()
        return self._dimension

    async def context_names(self) -> list[str]:
        """Return the names of all contexts that some entity has, sorted."""
        if await self.dimension() is None:
            return []
        async with self._look() as at:
            answer = await self._answer(
                "count contexts",
                self._client.facet(self._collection, CONTEXTS, facet_filter=seen_at(at), limit=_ALL, exact=True),
            )
        return sorted(str(hit.value) for hit in answer.hits if hit.count > 0)

    async def count(self) -> int:
        """Return the number of entities."""
        if await self.dimension() is None:
            return 0
        async with self._look() as at:
            first = seen_at(at, first_slot())
            answer = await self._answer(
                "count entities", self._client.count(self._collection, count_filter=first, exact=True)
            )
        return answer.count

    async def apply(self, commit: int, upserts: Sequence[Entity], deletes: Sequence[str]) -> None:
        """Write versions of some entities, and end those that others have: seen by who looks at the commit. Idempotent.

        Whoever looks at an earlier commit sees nothing of it, also when it fails midway.

        Raises:
            InvalidRequest: a dimension or an entity's metadata is wrong; nothing was written.
            Unavailable: the server does not answer.

        """
        async with self._writing:
            if not await self._is_change(upserts):
                return
            if upserts:
                await self._put_versions(commit, upserts)
            # Afterwards only: a version must not end before its successor is there.
            ended = superseded_by(commit, [*(entity.id for entity in upserts), *deletes])
            await self._answer(
                "end older versions", self._client.set_payload(self._collection, {DIED: commit}, ended, wait=True)
            )

    async def newest_commit(self) -> int:
        """Return the highest commit that an entity was born or died with, 0 if there is none."""
        if await self.dimension() is None:
            return 0
        return max(await self._highest(BORN), await self._highest(DIED))

    async def sweep(self, through: int) -> None:
        """Drop the versions that nobody sees any more who looks at commit ``through`` or a later one. Idempotent."""
        if await self.dimension() is not None:
            selector = models.FilterSelector(filter=dead_by(through))
            await self._answer("drop old versions", self._client.delete(self._collection, selector, wait=True))

    async def optimize(self) -> None:
        """Wait until the server, which indexes by itself, has nothing left to do.

        Raises DeadlineExceeded when that takes more than an hour.
        """
        if await self.dimension() is None:
            return
        try:
            async with asyncio.timeout(_OPTIMIZE_S):
                while await self._is_optimizing():  # noqa: ASYNC110 - the server sends no event to wait for
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise DeadlineExceeded(f"{self._name} was still indexing after {_OPTIMIZE_S:g} s") from error

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        if not self._closed:
            self._closed = True
            await self._client.close()

    async def destroy(self) -> None:
        """Delete the collection on the server, with all that is in it. Idempotent."""
        if await self._answer("look for the collection", self._client.collection_exists(self._collection)):
            await self._answer("delete the collection", self._client.delete_collection(self._collection))
        self._dimension = None

    async def _is_optimizing(self) -> bool:
        info = await self._answer("describe the collection", self._client.get_collection(self._collection))
        return info.status == models.CollectionStatus.YELLOW

    async def _attach(self) -> int | None:
        """Return the dimension of the collection if it exists, with its indexes made."""
        if not await self._answer("look for the collection", self._client.collection_exists(self._collection)):
            return None
        info = await self._answer("describe the collection", self._client.get_collection(self._collection))
        vectors = info.config.params.vectors
        if not isinstance(vectors, models.VectorParams) or vectors.distance != models.Distance.COSINE:
            raise InvalidSettings(
                f"The collection {self._collection!r} was made by something else: this store needs one unnamed vector "
                "with cosine distance"
            )
        # Not only when the collection is made: its maker may have been killed before it came to the indexes.
        for field, schema in _INDEXES.items():
            if field not in info.payload_schema:
                await self._answer(
                    "make an index",
                    self._client.create_payload_index(self._collection, field, field_schema=schema, wait=True),
                )
        return vectors.size

    async def _answer(self, doing: str, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except TimeoutError as error:
            raise Unavailable(f"{self._name} did not {doing} within {self._timeout_s:g} s") from error
        except UnexpectedResponse as error:
            text = error.content.decode(errors="replace")[:200]
            raise Unavailable(f"{self._name} refused to {doing}: {error.status_code} {text}") from error
        except QdrantException as error:
            after = getattr(error, "retry_after_s", None)
            raise Unavailable(f"{self._name} is too busy to {doing}", retry_after_s=after) from error
        except ResponseHandlingException as error:
            raise Unavailable(f"{self._name} does not answer (to {doing}): {error.source}") from error
        except (json.JSONDecodeError, AssertionError) as error:
            # The client lets the JSON decoder's own error through, and asserts that an answer has a result.
            raise Unavailable(f"{self._name} does not answer with a result (to {doing}): {error}") from error

    async def _highest(self, mark: str) -> int:
        order = models.OrderBy(key=mark, direction=models.Direction.DESC)
        call = self._client.scroll(self._collection, order_by=order, limit=1, with_payload=[mark])
        records, _ = await self._answer("look for the newest commit", call)
        return max((int((record.payload or {}).get(mark, 0)) for record in records), default=0)

    async def _put_versions(self, commit: int, entities: Sequence[Entity]) -> None:
        stored = await self.dimension()
        dimension = check_dimensions(entities, stored)
        if stored is None:
            # Another process may have been first, with another dimension.
            check_dimensions(entities, await self._create(dimension))
        place = Place(commit, 0)
        for portion in in_writes([lay_out(entity, entity.id, place) for entity in entities], dimension):
            await self._write(portion)

    # What PointStore asks for

    @asynccontextmanager
    async def _look(self) -> AsyncIterator[int]:
        if self._snapshots is None:
            yield _LATEST
            return
        async with self._snapshots.taken() as commit:
            yield commit

    async def _create(self, dimension: int) -> int:
        vectors = models.VectorParams(size=dimension, distance=models.Distance.COSINE)
        try:
            await self._answer(
                "make the collection", self._client.create_collection(self._collection, vectors_config=vectors)
            )
        except Unavailable as error:
            # Another process was first; its dimension counts.
            cause = error.__cause__
            if not isinstance(cause, UnexpectedResponse) or cause.status_code != _CONFLICT:
                raise
        self._dimension = await self._attach()
        return self._dimension or dimension

    async def _write(self, points: Sequence[Point]) -> None:
        given = [models.PointStruct(id=p.id, vector=p.vector.tolist(), payload=p.payload) for p in points]
        await self._answer("write points", self._client.upsert(self._collection, given, wait=True))

    async def _erase(self, point_ids: Sequence[str]) -> None:
        selector = models.PointIdsList(points=list(point_ids))
        await self._answer("delete points", self._client.delete(self._collection, selector, wait=True))

    async def _places(self, entity_ids: Sequence[str]) -> dict[str, Place]:
        versions: dict[str, list[Place]] = {}
        for record in await self._first_slots(entity_ids, None, [ENTITY, HIGH, BORN, DIED]):
            versions.setdefault(str((record.payload or {}).get(ENTITY)), []).append(place_of(record.payload))
        last = {entity_id: latest(places) for entity_id, places in versions.items()}
        # A write that was given up may have reached the server after a later one, and lies beside it.
        strays = [
            point_id(entity_id, slot, place.born)
            for entity_id, places in versions.items()
            for place in places
            if place != last[entity_id]
            for slot in range(place.high)
        ]
        if strays:
            await self._erase(strays)
        return last

    async def _records(self, entity_ids: Sequence[str], at: int) -> dict[str, object]:
        records = await self._first_slots(entity_ids, at, [ENTITY, RECORD, BORN])
        payloads = [record.payload or {} for record in records]
        return {str(payload.get(ENTITY)): payload.get(RECORD) for payload in payloads}

    async def _firsts(self, entity_ids: Sequence[str], at: int) -> list[Found]:
        records = await self._first_slots(entity_ids, at, _FIELDS, vectors=True)
        return [found(record.payload, 0.0, record.vector) for record in records]

    async def _first_slots(
        self, entity_ids: Sequence[str], at: int | None, fields: list[str], *, vectors: bool = False
    ) -> list[models.Record]:
        """Return the first slots of entities, by birth: of the versions seen at a commit, or (None) of all."""
        wanted = [of_entities(entity_ids), first_slot()]
        chosen = models.Filter(must=list(wanted)) if at is None else seen_at(at, *wanted)
        firsts: list[models.Record] = []
        following = None
        while True:
            records, following = await self._page(chosen, following, _FIRSTS_A_READ, fields, vectors=vectors)
            firsts += records
            if following is None:
                return sorted(firsts, key=lambda record: (record.payload or {}).get(BORN) or 0)

    async def _read(self, point_ids: Sequence[str]) -> dict[str, Found]:
        records = await self._answer(
            "read points",
            self._client.retrieve(self._collection, list(point_ids), with_payload=_FIELDS, with_vectors=True),
        )
        return {str(record.id): found(record.payload, 0.0, record.vector) for record in records}

    async def _heads(self, first: str | None, limit: int, at: int) -> tuple[list[Found], str | None]:
        records, following = await self._page(seen_at(at, first_slot()), first, limit, _FIELDS, vectors=True)
        heads = [found(record.payload, 0.0, record.vector) for record in records]
        return heads, None if following is None else scroll_start(following)

    async def _page(
        self, wanted: models.Filter, first: str | None, limit: int, fields: list[str], *, vectors: bool = False
    ) -> tuple[list[models.Record], str | None]:
        """Return points in the order of ids, and the id of the next one."""
        records, following = await self._answer(
            "read points",
            self._client.scroll(
                self._collection,
                scroll_filter=wanted,
                limit=limit,
                offset=first,
                with_payload=fields,
                with_vectors=vectors,
            ),
        )
        return records, None if following is None else str(following)

    async def _nearest(self, asked: Sequence[tuple[Search, int]], at: int) -> list[list[Found]]:
        requests = [
            models.QueryRequest(
                query=search.vector.tolist(),
                limit=limit,
                filter=search_filter(search, at),
                with_payload=_FIELDS,
                with_vector=True,
                params=models.SearchParams(hnsw_ef=max(limit, SEARCH_EF)),
            )
            for search, limit in asked
        ]
        answers = await self._answer("search", self._client.query_batch_points(self._collection, requests))
        return [[found(point.payload, point.score, point.vector) for point in answer.points] for answer in answers]
