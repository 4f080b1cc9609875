"""``quantum_transaction()``: a block whose writes take place together when it ends, or not at all.

::

    with db.quantum_transaction() as qtx:
        stock = qtx.fetch("stock")
        qtx.update("stock", metadata={"left": stock.metadata["left"] - 1})

Leaving the block commits; an exception rolls back. Inside, reads see the block's own writes. Each transaction has a
key of its own, so a commit whose answer was lost is asked for again, and is done once. In ``async with`` each call is
awaited.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from numpy.typing import ArrayLike

from quantum_db.client.bodies import ContextLike, changes_body, entity_body, query_body
from quantum_db.client.buffer import TransactionBuffer
from quantum_db.client.loop import LoopThread
from quantum_db.client.results import Results, entity_of, results_of
from quantum_db.errors import Conflict, NotFound
from quantum_db.model import Entity

Json = dict[str, Any]
P = ParamSpec("P")
R = TypeVar("R")


class Calls(Protocol):
    """What a transaction needs of a client."""

    @property
    def loop(self) -> LoopThread:
        """The loop that blocking calls run on."""

    async def call(self, method: str, *arguments: Any, key: str | None = None) -> Any:
        """Make a call of the API and return its answer. Raises ``QuantumDBError``s."""


class AsyncQuantumTransaction:
    """A transaction of asynchronous code. Operations wait here until ``commit``."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._buffer = TransactionBuffer()
        self._answer: Json | None = None
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether it was committed or rolled back."""
        return self._ended

    async def insert(
        self,
        /,
        *,
        id: str,  # noqa: A002 - the API's name
        vector: ArrayLike | None = None,
        contexts: Iterable[ContextLike] | None = None,
        coherence_time_ms: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        **expected: Any,
    ) -> None:
        """Write an entity, replacing one with the same id; ``expected_version`` or ``if_absent`` say what is there."""
        body = entity_body(
            id=id,
            vector=vector,
            contexts=contexts,
            coherence_time_ms=coherence_time_ms,
            metadata=metadata,
            **expected,
        )
        self._open().insert(body)

    async def update(
        self,
        entity_id: str,
        *,
        vector: ArrayLike | None = None,
        contexts: Iterable[ContextLike] | None = None,
        coherence_time_ms: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        expected_version: int | None = None,
    ) -> None:
        """Replace those fields of an entity that are given, each as a whole."""
        changes = changes_body(vector, contexts, coherence_time_ms, metadata)
        if expected_version is not None:
            changes["expected_version"] = expected_version
        self._open().update(entity_id, changes)

    async def delete(self, entity_id: str) -> None:
        """Delete an entity."""
        self._open().delete(entity_id)

    async def create_entanglement(self, group_id: str, entity_ids: Iterable[str], correlation_strength: float) -> None:
        """Write an entanglement group."""
        body = {"group_id": group_id, "entity_ids": list(entity_ids), "correlation_strength": correlation_strength}
        self._open().create_entanglement(body)

    async def fetch(self, entity_id: str) -> Entity:
        """Return an entity as this transaction sees it. Raises NotFound."""
        buffer = self._open()
        stored = None
        if buffer.needs_stored(entity_id):
            try:
                stored = await self._calls.call("fetch", entity_id)
            except NotFound:
                stored = None
            buffer.note_read(entity_id, stored)
        return entity_of(buffer.seen(entity_id, stored))

    async def query(self, /, vector: ArrayLike, *, contexts: Iterable[Any] | None = None, **options: Any) -> Results:
        """Answer a query on what this transaction sees; ``options`` as for the client's ``query``."""
        body = self._open().query_body(query_body(vector, contexts, options))
        return results_of(await self._calls.call("query_under", body))

    async def commit(self) -> Json:
        """Do all operations together; return the number of the commit and the result of each. Idempotent.

        Raises:
            Conflict: an entity has changed since it was read; nothing was written.
            Unavailable: the cluster did not answer. All may have been written, or nothing; ``commit`` again tells.
        """
        if self._answer is None:
            buffer = self._open()
            empty: Json = {"commit": None, "results": []}
            self._answer = await self._calls.call("transact", buffer.body(), key=buffer.key) if len(buffer) else empty
            self._ended = True
        return self._answer

    async def rollback(self) -> None:
        """Forget all operations. Nothing was written. Idempotent; Conflict after a commit."""
        if self._answer is not None:
            raise Conflict("the transaction is committed, and cannot be rolled back")
        self._ended = True

    def _open(self) -> TransactionBuffer:
        if self._ended:
            raise Conflict("the transaction has ended; begin another one")
        return self._buffer


def _through(
    method: Callable[Concatenate[AsyncQuantumTransaction, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[QuantumTransaction, P], R]:
    """Return the blocking form of a method."""

    @wraps(method)
    def call(self: QuantumTransaction, /, *arguments: P.args, **named: P.kwargs) -> R:
        return self.calls.loop.run(method(self.inner, *arguments, **named))

    return call


class QuantumTransaction:
    """A transaction of synchronous code: the calls of ``AsyncQuantumTransaction``, each waited for."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.inner = AsyncQuantumTransaction(calls)

    @property
    def ended(self) -> bool:
        """Whether it was committed or rolled back."""
        return self.inner.ended

    insert = _through(AsyncQuantumTransaction.insert)
    update = _through(AsyncQuantumTransaction.update)
    delete = _through(AsyncQuantumTransaction.delete)
    create_entanglement = _through(AsyncQuantumTransaction.create_entanglement)
    fetch = _through(AsyncQuantumTransaction.fetch)
    query = _through(AsyncQuantumTransaction.query)
    commit = _through(AsyncQuantumTransaction.commit)
    rollback = _through(AsyncQuantumTransaction.rollback)


class TransactionBlock:
    """What ``with`` and ``async with`` are given; each use of it is a transaction of its own."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._sync: QuantumTransaction | None = None
        self._async: AsyncQuantumTransaction | None = None

    def __enter__(self) -> QuantumTransaction:
        self._sync = QuantumTransaction(self._calls)
        return self._sync

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._sync is not None
        if not self._sync.ended:
            self._sync.commit() if error is None else self._sync.rollback()

    async def __aenter__(self) -> AsyncQuantumTransaction:
        self._async = AsyncQuantumTransaction(self._calls)
        return self._async

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._async is not None
        if not self._async.ended:
            await (self._async.commit() if error is None else self._async.rollback())
