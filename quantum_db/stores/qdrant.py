"""The store on a Qdrant server, over its REST interface.

Every call to the server ends within the store's timeout. What the server or the network does wrong becomes
``Unavailable``, with a sentence that names the server.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar

from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from quantum_db import filters
from quantum_db.errors import DeadlineExceeded, InvalidRequest, InvalidSettings, Unavailable
from quantum_db.model import Search
from quantum_db.stores.point_store import PointStore
from quantum_db.stores.points import (
    CONTEXTS,
    ENTITY,
    HIGH,
    RECORD,
    SEARCH_EF,
    SLOT,
    Found,
    Point,
    found,
    high_of,
    payload_key,
)

T = TypeVar("T")

_ALL: Final = 1_000_000
_POLL_S: Final = 0.5
_OPTIMIZE_S: Final = 3600.0
_CONFLICT: Final = 409

# No graph for each value where no search of the hot path is filtered by one: it only makes indexing longer.
_INDEXES: Final[dict[str, models.PayloadSchemaType | models.KeywordIndexParams | models.IntegerIndexParams]] = {
    CONTEXTS: models.PayloadSchemaType.KEYWORD,
    ENTITY: models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, enable_hnsw=False),
    SLOT: models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=False, enable_hnsw=False),
}


def connect(url: str, api_key: str | None, collection: str, timeout_s: float) -> QdrantStore:
    """Return the store in a collection of the server at ``url``. Nothing is sent before the first call.

    Args:
        url: with scheme and port, such as ``http://qdrant:6333``.
        api_key: of the server, if it has one.
        collection: made by the first write if it does not exist.
        timeout_s: bound of every single call to the server.

    """
    client = AsyncQdrantClient(url=url, api_key=api_key, timeout=math.ceil(timeout_s), check_compatibility=False)
    return QdrantStore(client, collection, timeout_s=timeout_s, name=f"Qdrant at {url}")


class QdrantStore(PointStore):
    """A ``VectorStore`` in one collection of a Qdrant server. One writer for an entity; see ``PointStore``.

    Args:
        client: a REST client. The store closes it.
        collection: made by the first write if it does not exist. One with other vectors raises InvalidSettings.
        timeout_s: bound of every single call to the server.
        name: what errors call the server.

    """

    def __init__(
        self, client: AsyncQdrantClient, collection: str, *, timeout_s: float = 10.0, name: str = "Qdrant"
    ) -> None:
        super().__init__()
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
        answer = await self._answer(
            "count contexts", self._client.facet(self._collection, CONTEXTS, limit=_ALL, exact=True)
        )
        return sorted(str(hit.value) for hit in answer.hits if hit.count > 0)

    async def count(self) -> int:
        """Return the number of entities."""
        if await self.dimension() is None:
            return 0
        first = models.Filter(must=[models.FieldCondition(key=SLOT, match=models.MatchValue(value=0))])
        answer = await self._answer(
            "count entities", self._client.count(self._collection, count_filter=first, exact=True)
        )
        return answer.count

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

    # What PointStore asks for

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

    async def _highs(self, point_ids: Sequence[str]) -> dict[str, int]:
        records = await self._answer(
            "read points", self._client.retrieve(self._collection, list(point_ids), with_payload=[HIGH])
        )
        return {str(record.id): high_of(record.payload) for record in records}

    async def _records(self, point_ids: Sequence[str]) -> dict[str, object]:
        records = await self._answer(
            "read points", self._client.retrieve(self._collection, list(point_ids), with_payload=[RECORD])
        )
        return {str(record.id): (record.payload or {}).get(RECORD) for record in records}

    def check_transactions(self) -> None:
        """Raise InvalidRequest: other processes search the server directly, and would see a part of several writes."""
        raise InvalidRequest(
            f"{self._name} cannot show several changes at once to all who search it; transactions need the store of "
            "kind qdrant_edge"
        )

    async def _read(self, point_ids: Sequence[str]) -> dict[str, Found]:
        records = await self._answer(
            "read points",
            self._client.retrieve(self._collection, list(point_ids), with_payload=[RECORD, SLOT], with_vectors=True),
        )
        return {str(record.id): found(record.payload, 0.0, record.vector) for record in records}

    async def _heads(self, first: str | None, limit: int) -> tuple[list[Found], str | None]:
        records, following = await self._answer(
            "read points",
            self._client.scroll(
                self._collection,
                scroll_filter=models.Filter(must=[models.FieldCondition(key=SLOT, match=models.MatchValue(value=0))]),
                limit=limit,
                offset=first,
                with_payload=[RECORD, SLOT],
                with_vectors=True,
            ),
        )
        heads = [found(record.payload, 0.0, record.vector) for record in records]
        return heads, None if following is None else str(following)

    async def _nearest(self, asked: Sequence[tuple[Search, int]]) -> list[list[Found]]:
        requests = [
            models.QueryRequest(
                query=search.vector.tolist(),
                limit=limit,
                filter=_search_filter(search),
                with_payload=[RECORD, SLOT],
                with_vector=True,
                params=models.SearchParams(hnsw_ef=max(limit, SEARCH_EF)),
            )
            for search, limit in asked
        ]
        answers = await self._answer("search", self._client.query_batch_points(self._collection, requests))
        return [[found(point.payload, point.score, point.vector) for point in answer.points] for answer in answers]


def _search_filter(search: Search) -> models.Filter | None:
    must: list[models.Condition] = []
    if len(search.contexts) == 1:
        must.append(models.FieldCondition(key=CONTEXTS, match=models.MatchValue(value=search.contexts[0])))
    elif search.contexts:
        must.append(models.FieldCondition(key=CONTEXTS, match=models.MatchAny(any=list(search.contexts))))
    if search.filter is not None:
        must.append(_filter(search.filter))
    return models.Filter(must=must) if must else None


def _filter(given: filters.Filter) -> models.Filter:
    return models.Filter(
        must=[_condition(condition) for condition in given.must],
        should=[_condition(condition) for condition in given.should] or None,
        must_not=[_condition(condition) for condition in given.must_not],
    )


def _condition(given: filters.Condition) -> models.Condition:
    if isinstance(given, filters.Filter):
        return _filter(given)
    if isinstance(given, filters.HasId):
        return models.FieldCondition(key=ENTITY, match=models.MatchAny(any=list(given.has_id)))
    if isinstance(given, filters.IsEmpty):
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=payload_key(given.is_empty.key)))
    if isinstance(given, filters.IsNull):
        return models.IsNullCondition(is_null=models.PayloadField(key=payload_key(given.is_null.key)))
    return models.FieldCondition(
        key=payload_key(given.key),
        match=_match(given.match) if given.match is not None else None,
        range=models.Range(**dict(given.range)) if given.range is not None else None,
        values_count=models.ValuesCount(**dict(given.values_count)) if given.values_count is not None else None,
    )


def _match(given: filters.Match) -> models.Match:
    if given.text is not None:
        return models.MatchText(text=given.text)
    if given.any is not None:
        return models.MatchAny.model_validate({"any": given.any})
    if given.except_ is not None:
        return models.MatchExcept.model_validate({"except": given.except_})
    return models.MatchValue.model_validate({"value": given.value})
