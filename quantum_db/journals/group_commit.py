"""Group commit: the appends of many concurrent callers as few durable writes, from one asyncio event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from quantum_db.errors import Unavailable
from quantum_db.ports import Journal

T = TypeVar("T")
Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Append:
    records: Records
    waiter: asyncio.Future[int]


@dataclass(frozen=True, slots=True)
class _Call:
    function: Callable[[], Any]
    waiter: asyncio.Future[Any]


class GroupCommit:
    """Appends to one stream of a journal from a thread of its own, in the order of the calls.

    What comes in while a write is under way goes together into the next one. All methods are called from one event
    loop; the journal is not called from elsewhere meanwhile, and is closed by its owner.
    """

    def __init__(self, journal: Journal, stream: str, *, epoch: int | None = None) -> None:
        self._journal = journal
        self._stream = stream
        self._epoch = epoch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._waiting: list[_Append | _Call] = []
        self._busy = False
        self._end: asyncio.Future[None] | None = None

    async def append(self, records: Records) -> int:
        """Append the records; return the number of the last one when all of them are durable.

        A caller that is cancelled meanwhile leaves its records to be written, once. Appending nothing returns the
        number of the last record before it. One who gets Unavailable and appends again may write twice, as the next
        write has other callers' records too: what matters once needs an id in the record.

        Raises:
            Unavailable: this is closed.
            Exception: what ``Journal.append`` raised; all callers of one write get it.
        """
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._enqueue(_Append(tuple(records), waiter))
        return await waiter

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function in the writing thread, after what was asked for before; return its result.

        Raises:
            Unavailable: this is closed.
            Exception: what the function raised.
        """
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._enqueue(_Call(lambda: function(*args), waiter))
        return await waiter

    async def close(self) -> None:
        """Take no more calls, and wait for those that are under way or waiting. Idempotent."""
        if self._end is None:
            end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._enqueue(_Call(lambda: None, end))
            self._end = end
        await asyncio.shield(self._end)
        self._thread.shutdown(wait=False)

    def _enqueue(self, item: _Append | _Call) -> None:
        if self._end is not None:
            raise Unavailable(f"the writer of stream {self._stream!r} is closed")
        self._waiting.append(item)
        if not self._busy:
            self._start_next()

    def _start_next(self) -> None:
        """Hand what is waiting to the thread: all appends before the first other call, or that call."""
        self._busy = bool(self._waiting)
        if not self._busy:
            return
        first = self._waiting[0]
        if isinstance(first, _Call):
            del self._waiting[0]
            self._hand_over(first.function, lambda result: _settle_call(first, result))
            return
        batch: list[_Append] = []
        for item in self._waiting:
            if not isinstance(item, _Append):
                break
            batch.append(item)
        del self._waiting[: len(batch)]
        records = [record for item in batch for record in item.records]
        self._hand_over(
            lambda: self._journal.append(self._stream, records, epoch=self._epoch),
            lambda result: _settle_batch(batch, result),
        )

    def _hand_over(self, function: Callable[[], Any], settle: Callable[[Future[Any]], None]) -> None:
        loop = asyncio.get_running_loop()

        def done(result: Future[Any]) -> None:
            loop.call_soon_threadsafe(self._go_on, settle, result)

        self._thread.submit(function).add_done_callback(done)

    def _go_on(self, settle: Callable[[Future[Any]], None], result: Future[Any]) -> None:
        self._start_next()
        settle(result)


def _settle_batch(batch: Sequence[_Append], result: Future[int]) -> None:
    error = result.exception()
    number = 0 if error else result.result() - sum(len(item.records) for item in batch)
    for item in batch:
        number += len(item.records)
        _settle(item.waiter, number, error)


def _settle_call(call: _Call, result: Future[Any]) -> None:
    error = result.exception()
    _settle(call.waiter, None if error else result.result(), error)


def _settle(waiter: asyncio.Future[T], value: T, error: BaseException | None) -> None:
    if waiter.done():  # its caller has gone
        return
    if error is None:
        waiter.set_result(value)
    elif isinstance(error, StopIteration):  # a future cannot hold it
        waiter.set_exception(RuntimeError(f"the call raised {error!r}"))
    else:
        waiter.set_exception(error)
