"""The calls about entities: write, read, list and query them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from numpy.typing import ArrayLike

from quantum_db.client.bodies import ContextLike, changes_body, entity_body, query_body
from quantum_db.client.bulk import Progress, ingest, rows_of
from quantum_db.client.calls import Calls
from quantum_db.client.http import error_of
from quantum_db.client.loop import blocking, iterating
from quantum_db.client.results import BatchOutcome, Item, Page, Results, Written, entity_of, page_of, results_of
from quantum_db.client.transaction import TransactionBlock
from quantum_db.errors import InvalidRequest, QuantumDBError
from quantum_db.model import Entity

PAGE = 250


class EntityCalls(Calls):
    """Each call is there twice: to be awaited, and with ``_sync`` behind its name to be waited for."""

    async def insert(
        self,
        *,
        id: str,  # noqa: A002 - the API's name
        vector: ArrayLike | None = None,
        contexts: Iterable[ContextLike] | None = None,
        coherence_time_ms: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Written:
        """Write an entity, replacing one with the same id. Idempotent but for the version.

        Args:
            id: of the entity.
            vector: of shape (d,); needed unless each context has its own. Its length does not matter, only its
                direction.
            contexts: names with weights, which are normalised: ``("finance", 0.7)``, or with a vector of its own
                ``("finance", 0.7, vector)``.
            coherence_time_ms: how long its coherent part lasts.
            metadata: what filters look at, as JSON.

        Raises:
            InvalidRequest: a field is wrong; the error's ``errors`` have its path.
        """
        body = entity_body(
            id=id, vector=vector, contexts=contexts, coherence_time_ms=coherence_time_ms, metadata=metadata
        )
        answer = await self.call("insert", body)
        return Written(answer["id"], answer["version"])

    async def insert_batch(
        self,
        entities: Sequence[Entity | Mapping[str, Any]] | None = None,
        *,
        ids: Sequence[str] | None = None,
        vectors: ArrayLike | None = None,
        contexts: Sequence[Sequence[ContextLike]] | None = None,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        transaction: bool = False,
        progress: Progress | None = None,
    ) -> BatchOutcome:
        """Write any number of entities, each for itself, in batches of which some are on their way at a time.

        A batch whose answer was lost is written again, over what others may have written meanwhile. Vectors in an
        array of float32 travel as bytes, others as text.

        Args:
            entities: as mappings with the fields of ``insert``; or else ``ids`` and ``vectors``.
            ids: N of them.
            vectors: of shape (N, d), one row for each id.
            contexts: N lists of contexts.
            metadata: N of them.
            transaction: write all or none, as one batch of at most 1,000.
            progress: called as ``progress(done, total)`` after each batch, on the client's thread.

        Returns:
            What became of each entity; ``check()`` raises the first error.

        Raises:
            InvalidRequest: the arguments do not go together; as a transaction, also if an entity is wrong.
        """
        total, rows = rows_of(entities, ids, vectors, contexts, metadata)
        if not transaction:
            write = partial(self.call, "insert_batch", once=False)
            return await self.work(ingest(write, rows, total, progress))
        bodies = []
        for row in rows:
            if isinstance(row, InvalidRequest):
                raise row
            bodies.append(row)
        answer = await self.call("insert_batch", {"vectors": bodies, "transaction": True})
        if progress is not None:
            progress(total, total)
        return BatchOutcome(tuple(Item(one["id"], one["version"]) for one in answer["results"]))

    async def query(
        self,
        /,
        vector: ArrayLike,
        *,
        context: str | None = None,
        contexts: Iterable[Any] | None = None,
        top_k: int | None = None,
        mode: str | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the API's name
        timeout_ms: int | None = None,
        enable_tunneling: bool | None = None,
        **options: Any,
    ) -> Results:
        """Find the entities nearest to a vector; what is left out is for the cluster to choose.

        Args:
            vector: of shape (d,).
            context: the one context that is asked.
            contexts: or several in superposition, as names or ``(name, weight)``.
            top_k: how many hits at most.
            mode: ``classical``, ``precise``, ``balanced`` or ``exploratory``.
            filter: on metadata, in Qdrant's shape.
            timeout_ms: for the cluster; the client waits a little longer.
            enable_tunneling: choose the hits as a diverse set.
            options: further fields of ``POST /api/v2/query``, like ``backend``, ``shots`` or ``explain``.

        Raises:
            UnknownContext: no entity has the context.
            InvalidRequest: a field is wrong.
            DeadlineExceeded: there was no answer in time.
        """
        named = {
            "context": context,
            "top_k": top_k,
            "mode": mode,
            "filter": filter,
            "timeout_ms": timeout_ms,
            "enable_tunneling": enable_tunneling,
        }
        return results_of(await self.call("query", query_body(vector, contexts, {**named, **options})))

    async def query_batch(self, queries: Sequence[Mapping[str, Any]]) -> list[Results | QuantumDBError]:
        """Answer up to 1,000 queries in one call; of each return its answer, or what is wrong with it.

        Args:
            queries: the arguments of ``query`` by name, of each.
        """
        bodies = [_query_body(**query) for query in queries]
        answer = await self.call("query_batch", {"queries": bodies})
        return [
            results_of(item["answer"]) if item["status"] == "answered" else error_of(item["problem"])
            for item in answer["items"]
        ]

    async def quantum_search(self, /, vector: ArrayLike, **options: Any) -> Results:
        """Answer a query whose quantum stage runs in any case, also where it cannot change the order.

        ``options`` are those of ``query``.
        """
        return await self.query(vector, **{"refine": "always", **options})

    async def fetch(self, entity_id: str) -> Entity:
        """Return an entity; its vectors are the stored unit vectors. Raises NotFound."""
        return entity_of(await self.call("fetch", entity_id))

    async def update(
        self,
        entity_id: str,
        *,
        vector: ArrayLike | None = None,
        contexts: Iterable[ContextLike] | None = None,
        coherence_time_ms: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        expected_version: int | None = None,
        propagate: bool = False,
    ) -> Written:
        """Replace those fields of an entity that are given, each as a whole; ``propagate`` moves its partners along.

        Raises:
            Conflict: it is not at ``expected_version``.
            NotFound: there is no such entity.
        """
        changes = changes_body(vector, contexts, coherence_time_ms, metadata)
        body = {**changes, "propagate": True} if propagate else changes
        answer = await self.call("update", entity_id, body, expected_version)
        return Written(answer["id"], answer["version"], tuple(answer.get("moved", ())))

    async def delete(self, entity_id: str) -> None:
        """Delete an entity. Raises NotFound."""
        await self.call("delete", entity_id)

    async def scroll(self, cursor: str | None = None, *, limit: int = PAGE, vectors: bool = True) -> Page:
        """Return a page of all entities, in an order that does not change; see ``iterate``."""
        return page_of(await self.call("scroll", {"cursor": cursor, "limit": limit, "vectors": vectors}))

    async def iterate(self, *, page: int = PAGE, vectors: bool = True) -> AsyncIterator[Entity]:
        """Yield all entities. One that is there all the time comes exactly once."""
        cursor = None
        while True:
            found = await self.scroll(cursor, limit=page, vectors=vectors)
            for entity in found.entities:
                yield entity
            cursor = found.next
            if cursor is None:
                return

    def quantum_transaction(self) -> TransactionBlock:
        """Return a block for ``with`` or ``async with``; see ``quantum_db.client.transaction``."""
        return TransactionBlock(self)

    insert_sync = blocking(insert)
    insert_batch_sync = blocking(insert_batch)
    query_sync = blocking(query)
    query_batch_sync = blocking(query_batch)
    quantum_search_sync = blocking(quantum_search)
    fetch_sync = blocking(fetch)
    update_sync = blocking(update)
    delete_sync = blocking(delete)
    scroll_sync = blocking(scroll)
    iterate_sync = iterating(iterate)


def _query_body(vector: ArrayLike, *, contexts: Iterable[Any] | None = None, **options: Any) -> dict[str, Any]:
    return query_body(vector, contexts, options)
