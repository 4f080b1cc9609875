"""``quantum_transaction()``: a block whose writes take place together when it ends, or not at all.

::

    with db.quantum_transaction() as qtx:
        stock = qtx.fetch("stock")
        qtx.update("stock", metadata={"left": stock["metadata"]["left"] - 1})

Leaving the block commits; an exception rolls back. Inside, reads see the block's own writes. Each transaction has a
key of its own, so a commit whose answer was lost is asked for again, and is done once.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Final, Protocol

from quantum_db.client.buffer import TransactionBuffer
from quantum_db.errors import Conflict, NotFound, QuantumDBError, Unavailable

Json = dict[str, Any]

ATTEMPTS: Final = 5
"""How often a commit is asked for when the cluster does not answer."""

LONGEST_PAUSE_S: Final = 5.0


class Calls(Protocol):
    """The calls that a transaction makes, each in two forms. They raise ``QuantumDBError``s."""

    def call(self, method: str, *arguments: Any) -> Json:
        """Make a call of the API and return its answer."""

    async def call_async(self, method: str, *arguments: Any) -> Json:
        """Make a call of the API and return its answer."""


class _Operations:
    """What both kinds of transactions share: operations wait here until ``commit``."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._buffer = TransactionBuffer()
        self._answer: Json | None = None
        self._ended = False

    def rollback(self) -> None:
        """Forget all operations. Nothing was written. Idempotent; Conflict after a commit."""
        if self._answer is not None:
            raise Conflict("the transaction is committed, and cannot be rolled back")
        self._ended = True

    @property
    def ended(self) -> bool:
        """Whether it was committed or rolled back."""
        return self._ended

    def _end(self, answer: Json) -> Json:
        self._answer, self._ended = answer, True
        return answer

    def _open(self) -> TransactionBuffer:
        if self._ended:
            raise Conflict("the transaction has ended; begin another one")
        return self._buffer


class QuantumTransaction(_Operations):
    """A transaction of synchronous code."""

    def insert(self, **body: Any) -> None:
        """Write an entity; the fields are those of ``POST /api/v2/vectors``."""
        self._open().insert(body)

    def update(self, entity_id: str, **changes: Any) -> None:
        """Replace fields of an entity: ``vector``, ``contexts``, ``coherence_time_ms``, ``metadata``."""
        self._open().update(entity_id, changes)

    def delete(self, entity_id: str) -> None:
        """Delete an entity."""
        self._open().delete(entity_id)

    def create_entanglement(self, **body: Any) -> None:
        """Write an entanglement group; the fields are those of ``POST /api/v2/entanglement/groups``."""
        self._open().create_entanglement(body)

    def fetch(self, entity_id: str) -> Json:
        """Return an entity as this transaction sees it. Raises NotFound."""
        buffer = self._open()
        stored = None
        if buffer.needs_stored(entity_id):
            try:
                stored = self._calls.call("fetch", entity_id)
            except NotFound:
                stored = None
            buffer.note_read(entity_id, stored)
        return buffer.seen(entity_id, stored)

    def query(self, **body: Any) -> Json:
        """Answer a query, as ``POST /api/v2/query``, on what this transaction sees."""
        return self._calls.call("query_under", self._open().query_body(body))

    def commit(self) -> Json:
        """Do all operations together; return the number of the commit and the result of each. Idempotent.

        Raises:
            Conflict: an entity has changed since it was read; nothing was written.
            Unavailable: the cluster did not answer. All may have been written, or nothing; ``commit`` again tells.
        """
        if self._answer is not None:
            return self._answer
        buffer = self._open()
        if not len(buffer):
            return self._end({"commit": None, "results": []})
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._end(self._calls.call("transact", buffer.body(), buffer.key))
            except Unavailable as error:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(_pause_s(error))
        raise AssertionError("unreachable")


class AsyncQuantumTransaction(_Operations):
    """A transaction of asynchronous code."""

    async def insert(self, **body: Any) -> None:
        """See ``QuantumTransaction.insert``."""
        self._open().insert(body)

    async def update(self, entity_id: str, **changes: Any) -> None:
        """See ``QuantumTransaction.update``."""
        self._open().update(entity_id, changes)

    async def delete(self, entity_id: str) -> None:
        """See ``QuantumTransaction.delete``."""
        self._open().delete(entity_id)

    async def create_entanglement(self, **body: Any) -> None:
        """See ``QuantumTransaction.create_entanglement``."""
        self._open().create_entanglement(body)

    async def fetch(self, entity_id: str) -> Json:
        """See ``QuantumTransaction.fetch``."""
        buffer = self._open()
        stored = None
        if buffer.needs_stored(entity_id):
            try:
                stored = await self._calls.call_async("fetch", entity_id)
            except NotFound:
                stored = None
            buffer.note_read(entity_id, stored)
        return buffer.seen(entity_id, stored)

    async def query(self, **body: Any) -> Json:
        """See ``QuantumTransaction.query``."""
        return await self._calls.call_async("query_under", self._open().query_body(body))

    async def commit(self) -> Json:
        """See ``QuantumTransaction.commit``."""
        if self._answer is not None:
            return self._answer
        buffer = self._open()
        if not len(buffer):
            return self._end({"commit": None, "results": []})
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._end(await self._calls.call_async("transact", buffer.body(), buffer.key))
            except Unavailable as error:
                if attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(_pause_s(error))
        raise AssertionError("unreachable")


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
        if self._sync.ended:
            return
        if error is None:
            self._sync.commit()
        else:
            self._sync.rollback()

    async def __aenter__(self) -> AsyncQuantumTransaction:
        self._async = AsyncQuantumTransaction(self._calls)
        return self._async

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._async is not None
        if self._async.ended:
            return
        if error is None:
            await self._async.commit()
        else:
            self._async.rollback()


def _pause_s(error: QuantumDBError) -> float:
    return min(LONGEST_PAUSE_S, 1.0 if error.retry_after_s is None else error.retry_after_s)
