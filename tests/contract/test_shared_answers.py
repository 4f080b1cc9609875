"""Answers on a real Redis: they are there for the others, for their time; and without Redis all goes on."""

from __future__ import annotations

import asyncio

from quantum_db.clock import SystemClock
from quantum_db.shared_answers import PAUSE_S, PREFIX, RedisAnswers
from tests.redis_server import running_redis
from tests.unit.fakes import FakeClock


async def test_what_one_replica_keeps_another_finds_for_the_rest_of_its_time() -> None:
    with running_redis() as server:
        first, second = (RedisAnswers(server.url, SystemClock()) for _ in range(2))
        assert await second.get(b"key") is None
        first.put(b"key", b'{"a":1}', 5.0)
        first.put(b"short", b"{}", 0.001)
        await first.close()
        found = await second.get(b"key")
        assert found is not None
        answer, left_s = found
        assert answer == b'{"a":1}'
        assert 0.0 < left_s <= 5.0
        await asyncio.sleep(0.01)
        assert await second.get(b"short") is None
        with server.client() as client:
            assert client.keys() == [PREFIX + b"key"]
        await second.close()


async def test_a_redis_that_ends_is_left_alone_for_a_while() -> None:
    clock = FakeClock()
    with running_redis() as server:
        answers = RedisAnswers(server.url, clock)
        answers.put(b"key", b"{}", 60.0)
        await asyncio.sleep(0.02)
        assert await answers.get(b"key") is not None
    assert await answers.get(b"key") is None
    answers.put(b"key", b"{}", 60.0)
    assert not answers._writes, "it is not asked at all"
    clock.time_s += PAUSE_S + 1.0
    answers.put(b"key", b"{}", 60.0)
    assert answers._writes
    await answers.close()
    assert await answers.get(b"key") is None
