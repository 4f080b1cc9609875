"""Concurrent callers share calls; nobody gets another one's result, and nobody's trouble is another one's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.batching import Batcher
from quantum_db.errors import InvalidRequest, QuantumDBError, Unavailable


class Server:
    """Doubles numbers when it is let; odd ones above 100 are refused."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.open = asyncio.Event()
        self.now = self.most_at_once = 0

    async def send(self, items: Sequence[int]) -> Sequence[int | QuantumDBError]:
        self.calls.append(list(items))
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        await self.open.wait()
        self.now -= 1
        if 13 in items:
            raise Unavailable("the server has gone")
        return [InvalidRequest("odd") if item > 100 and item % 2 else 2 * item for item in items]


async def test_who_is_alone_is_sent_at_once_and_who_comes_meanwhile_goes_together() -> None:
    server = Server()
    batcher = Batcher(server.send, in_flight=1, most=4)
    first = asyncio.create_task(batcher.do(1))
    await asyncio.sleep(0.01)
    assert server.calls == [[1]]
    later = [asyncio.create_task(batcher.do(n)) for n in range(2, 9)]
    await asyncio.sleep(0.01)
    server.open.set()
    assert await asyncio.gather(first, *later) == [2 * n for n in range(1, 9)]
    assert server.calls == [[1], [2, 3, 4, 5], [6, 7, 8]]


async def test_each_gets_its_own_error() -> None:
    server = Server()
    server.open.set()
    batcher = Batcher(server.send)
    told = await asyncio.gather(*(batcher.do(n) for n in (100, 101, 102)), return_exceptions=True)
    assert told[0] == 200
    assert isinstance(told[1], InvalidRequest)
    assert told[2] == 204
    with pytest.raises(Unavailable):
        await batcher.do(13)
    assert await batcher.do(7) == 14, "a call that failed blocks none"


async def test_a_caller_that_leaves_takes_nobody_with_it() -> None:
    server = Server()
    batcher = Batcher(server.send, in_flight=1)
    first = asyncio.create_task(batcher.do(1))
    await asyncio.sleep(0.01)
    leaving, staying = (asyncio.create_task(batcher.do(n)) for n in (2, 3))
    await asyncio.sleep(0.01)
    leaving.cancel()
    first.cancel()
    await asyncio.sleep(0)
    server.open.set()
    assert await staying == 6
    assert server.calls == [[1], [3]], "who has gone is not asked for"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=60), st.integers(1, 3), st.integers(1, 5))
def test_every_caller_gets_the_result_of_its_item(items: list[int], in_flight: int, most: int) -> None:
    async def run() -> None:
        server = Server()
        batcher = Batcher(server.send, in_flight=in_flight, most=most)
        tasks = [asyncio.create_task(batcher.do(item)) for item in items]
        await asyncio.sleep(0)
        server.open.set()
        assert await asyncio.gather(*tasks) == [2 * item for item in items]
        assert server.most_at_once <= in_flight
        assert all(len(call) <= most for call in server.calls)
        assert sorted(item for call in server.calls for item in call) == sorted(items)

    asyncio.run(run())
