"""The limiter on a real Redis: all replicas count together, and one that does not answer lets nobody in."""

from __future__ import annotations

import pytest

from quantum_db.access.limits import CallLimits, Limiter, LimitTable
from quantum_db.access.principal import Principal, Role
from quantum_db.clock import SystemClock
from quantum_db.errors import TooManyRequests, Unavailable
from tests.redis_server import RedisServer, running_redis

KEY, SIBLING = Principal("key:1", "a", Role.READER), Principal("key:2", "a", Role.READER)


def replicas(server: RedisServer, limits: CallLimits, count: int = 3) -> list[Limiter]:
    table = LimitTable(default_tenant=limits)
    return [Limiter(table, SystemClock(), replicas=count, redis_url=server.url) for _ in range(count)]


async def let_in(limiter: Limiter, principal: Principal, cost: int = 1) -> bool:
    try:
        async with limiter.admitted(principal, cost):
            return True
    except TooManyRequests as error:
        assert error.retry_after_s is not None  # noqa: PT017
        return False


async def test_replicas_grant_together_what_is_granted() -> None:
    with running_redis() as server:
        found = [
            await let_in(replica, principal)
            for _ in range(4)
            for replica in replicas(server, CallLimits(requests_per_minute=10))
            for principal in (KEY, SIBLING)
        ]
    assert found == [True] * 10 + [False] * 14


async def test_costs_are_counted_together() -> None:
    with running_redis() as server:
        limiters = replicas(server, CallLimits(cost_units_per_minute=20))
        assert [await let_in(limiter, KEY, cost=8) for limiter in limiters] == [True, True, False]


async def test_a_redis_that_ends_lets_nobody_in() -> None:
    with running_redis() as server:
        (limiter,) = replicas(server, CallLimits(requests_per_minute=10), 1)
        assert await let_in(limiter, KEY)
    with pytest.raises(Unavailable, match="cannot be counted"):
        await let_in(limiter, KEY)
