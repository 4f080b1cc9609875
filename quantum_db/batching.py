"""Calls of concurrent callers, made together: what comes while earlier calls are under way waits for the next one.

A caller who is alone waits for nobody, so batches cost no time where there is no load, and grow with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from quantum_db.errors import QuantumDBError

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT: Final = 2
"""Batches under way: one is worked on while the next is on its way."""

MOST: Final = 64


class Batcher(Generic[Item, Result]):
    """Makes one call for the items of many callers. For one event loop."""

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Result | QuantumDBError]]],
        *,
        in_flight: int = IN_FLIGHT,
        most: int = MOST,
    ) -> None:
        """Start idle.

        Args:
            send: makes the call; it returns a result or an error for each item, and what it raises is for all of them.
            in_flight: calls at a time.
            most: items in a call.
        """
        self._send = send
        self._free = in_flight
        self._most = most
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def do(self, item: Item) -> Result:
        """Return the result of an item. Raises its error. A caller that is cancelled leaves the others alone."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if self._free:
            loop.call_soon(self._start)  # with those who come in the same turn of the loop
        return await future

    def _start(self) -> None:
        while self._free and self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            batch = [one for one in batch if not one[1].done()]  # its caller has gone
            if batch:
                self._free -= 1
                task = asyncio.get_running_loop().create_task(self._make(batch))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _make(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        results: Sequence[Result | Exception]
        try:
            results = await self._send([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - it is each caller's to raise
            results = [error] * len(batch)
        finally:
            self._free += 1
            self._start()
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
