"""Requests, cost units, calls at once and sizes: what is granted to a key and to a tenant; and blocked addresses."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quantum_db.access.blocking import MAX_ADDRESSES, BlockPolicy, Blocks, normal_address
from quantum_db.access.limits import CallLimits, Limiter, LimitTable
from quantum_db.access.principal import Principal, Role
from quantum_db.access.sizes import UNLIMITED, SizeLimits, check_sizes
from quantum_db.clock import SystemClock
from quantum_db.errors import InvalidRequest, InvalidSettings, TooManyRequests, Unavailable

KEY, SIBLING = Principal("key:1", "a", Role.READER), Principal("key:2", "a", Role.READER)
STRANGER = Principal("key:3", "b", Role.READER)


async def let_in(limiter: Limiter, principal: Principal, times: int, cost: int = 1) -> int:
    """Return how many of so many calls are let in."""
    count, pauses = 0, list[float]()
    for _ in range(times):
        try:
            async with limiter.admitted(principal, cost):
                count += 1
        except TooManyRequests as error:
            pauses.append(error.retry_after_s or 0.0)
    assert all(0.0 < pause_s <= 60.0 for pause_s in pauses)
    return count


async def test_without_limits_everything_is_let_in() -> None:
    assert await let_in(Limiter(LimitTable(), SystemClock()), KEY, 1_000) == 1_000


async def test_requests_of_a_key_are_counted_apart_from_others() -> None:
    limiter = Limiter(LimitTable(per_key=CallLimits(requests_per_minute=5)), SystemClock())
    assert await let_in(limiter, KEY, 9) == 5
    assert await let_in(limiter, SIBLING, 9) == 5
    assert await let_in(limiter, STRANGER, 9) == 5


async def test_a_tenants_keys_share_what_is_granted_to_the_tenant() -> None:
    five, two = CallLimits(requests_per_minute=5), CallLimits(requests_per_minute=2)
    table = LimitTable(default_tenant=five, tenants={"b": two})
    limiter = Limiter(table, SystemClock())
    assert await let_in(limiter, KEY, 3) + await let_in(limiter, SIBLING, 9) == 5
    assert await let_in(limiter, STRANGER, 9) == 2


async def test_dear_calls_use_up_more() -> None:
    limiter = Limiter(LimitTable(per_key=CallLimits(cost_units_per_minute=20)), SystemClock())
    assert await let_in(limiter, KEY, 9, cost=6) == 3
    assert await let_in(limiter, KEY, 9, cost=1) == 2


async def test_replicas_that_count_by_themselves_grant_their_share() -> None:
    table = LimitTable(per_key=CallLimits(requests_per_minute=8))
    replicas = [Limiter(table, SystemClock(), replicas=4) for _ in range(4)]
    assert [await let_in(replica, KEY, 9) for replica in replicas] == [2] * 4


@pytest.mark.parametrize(("granted", "replicas"), [(10, 3), (10, 4), (7, 7), (1_000, 64)])
async def test_replicas_never_grant_more_than_the_limit_in_all(granted: int, replicas: int) -> None:
    limits = CallLimits(requests_per_minute=granted, concurrent=granted)
    each = [Limiter(LimitTable(per_key=limits), SystemClock(), replicas=replicas) for _ in range(replicas)]
    assert granted - replicas < sum([await let_in(one, KEY, granted) for one in each]) <= granted
    async with AsyncExitStack() as stack:
        at_once = 0
        for one in [Limiter(LimitTable(per_key=limits), SystemClock(), replicas=replicas) for _ in range(replicas)]:
            with suppress(TooManyRequests):
                for _ in range(granted):
                    await stack.enter_async_context(one.admitted(KEY, 1))
                    at_once += 1
        assert granted - replicas < at_once <= granted


async def test_calls_at_once_are_bounded_and_their_places_given_back() -> None:
    table = LimitTable(per_key=CallLimits(concurrent=2), default_tenant=CallLimits(concurrent=3))
    limiter = Limiter(table, SystemClock())
    async with AsyncExitStack() as stack:
        for principal in (KEY, KEY, SIBLING):
            await stack.enter_async_context(limiter.admitted(principal, 1))
        for principal, told in ((KEY, "the key has 2"), (SIBLING, "the tenant has 3")):
            with pytest.raises(TooManyRequests, match=told):
                await stack.enter_async_context(limiter.admitted(principal, 1))
        assert await let_in(limiter, STRANGER, 1) == 1
    assert await let_in(limiter, KEY, 1) == 1
    assert not limiter._running

    async def cancelled() -> None:
        async with limiter.admitted(KEY, 1):
            await asyncio.sleep(60)

    task = asyncio.create_task(cancelled())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not limiter._running, "a caller who left gives his place back"


async def test_counters_that_do_not_answer_let_nobody_in() -> None:
    table = LimitTable(per_key=CallLimits(requests_per_s=5))
    limiter = Limiter(table, SystemClock(), redis_url="redis://127.0.0.1:9")
    with pytest.raises(Unavailable):
        await let_in(limiter, KEY, 1)
    with pytest.raises(InvalidSettings):
        Limiter(table, SystemClock(), redis_url="memcached://127.0.0.1")


@pytest.mark.parametrize(
    ("action", "body", "limits", "path"),
    [
        ("insert", {"vector": [0.0] * 5}, SizeLimits(dimension=4), "vector"),
        ("insert", {"contexts": [{}, {"vector": [0.0] * 5}]}, SizeLimits(dimension=4), "contexts[1].vector"),
        ("insert_batch", {"vectors": [{}] * 5}, SizeLimits(batch=4), "vectors"),
        ("insert_batch", {"vectors": [{}, {"vector": [0.0] * 5}]}, SizeLimits(dimension=4), "vectors[1].vector"),
        ("transact", {"operations": [{}] * 5}, SizeLimits(batch=4), "operations"),
        (
            "transact",
            {"operations": [{"insert": {"vector": [0.0] * 5}}]},
            SizeLimits(dimension=4),
            "operations[0].insert.vector",
        ),
        ("query", {"top_k": 5}, SizeLimits(top_k=4), "top_k"),
        ("query", {"shots": 5_000}, SizeLimits(shots=4_000), "shots"),
        ("query", {}, SizeLimits(shots=4_000), "shots"),
        ("query", {"mode": "precise"}, SizeLimits(shots=10_000), "shots"),
        ("query", {"epsilon": 0.1}, SizeLimits(shots=10_000), "max_shots"),
        ("query_under", {"query": {"top_k": 5}}, SizeLimits(top_k=4), "query.top_k"),
        ("query_under", {"query": {}}, SizeLimits(shots=4_000), "query.shots"),
        ("query_batch", {"queries": [{"shots": 1}, {"shots": 1, "top_k": 5}]}, SizeLimits(top_k=4), "queries[1].top_k"),
        ("query_batch", {"queries": [{"shots": 1}, {}]}, SizeLimits(shots=4_000), "queries[1].shots"),
        ("query_batch", {"queries": [{"shots": 1}] * 5}, SizeLimits(batch=4, shots=1), "queries"),
        ("jobs.submit", {"shots": 5_000}, SizeLimits(shots=4_000), "shots"),
        ("jobs.submit", {"shots": 1, "circuits": [{}] * 5}, SizeLimits(batch=4), "circuits"),
        ("execute_batch", {"operations": [{"shots": 5_000}]}, SizeLimits(shots=4_000), "operations[0].shots"),
        ("create_group", {"entity_ids": ["a"] * 5}, SizeLimits(batch=4), "entity_ids"),
    ],
)
def test_what_is_larger_than_granted_is_told_by_its_path(
    action: str, body: dict[str, Any], limits: SizeLimits, path: str
) -> None:
    with pytest.raises(InvalidRequest) as told:
        check_sizes(action, body, limits)
    assert [error.path for error in told.value.errors] == [path]
    check_sizes(action, body, UNLIMITED)


@pytest.mark.parametrize(
    "body", [{"top_k": 4, "vector": [0.0] * 4, "shots": 4_096}, {"mode": "classical"}, {"mode": "no such"}, [], None, 7]
)
def test_what_is_within_the_bounds_or_no_body_is_let_pass(body: object) -> None:
    check_sizes("query", body, SizeLimits(dimension=4, top_k=4, shots=4_096, batch=4))


FIELDS = st.sampled_from(["vector", "vectors", "contexts", "query", "shots", "top_k", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(FIELDS, inner),
)


@given(JSON, st.sampled_from(["query", "query_under", "insert", "transact"]))
def test_no_body_breaks_the_check(body: object, action: str) -> None:
    with suppress(InvalidRequest):
        check_sizes(action, body, SizeLimits(dimension=1, batch=1, top_k=1, shots=1))


AMOUNT = st.none() | st.integers(1, 100)
SIZES = st.builds(SizeLimits, AMOUNT, AMOUNT, AMOUNT, AMOUNT, AMOUNT)


@given(SIZES, SIZES)
def test_both_limits_hold(one: SizeLimits, other: SizeLimits) -> None:
    both = one.and_also(other)
    assert both == other.and_also(one)
    assert both.and_also(one) == both
    assert one.and_also(UNLIMITED) == one


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("no address", "no address"),
        ("x" * 1000, "x" * 64),
    ],
)
def test_addresses(peer: str, address: str) -> None:
    assert normal_address(peer) == address


class BlocksMachine(RuleBasedStateMachine):
    """Blocks beside a list of all that ever happened."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = BlockPolicy(failures=3, window_s=10.0, block_s=20.0)
        self.blocks, self.now = Blocks(self.policy), 100.0
        self.until: dict[str, float] = {}
        self.times: dict[str, list[float]] = {}

    @rule(address=st.sampled_from("ab"), count=st.integers(1, 3))
    def fail(self, address: str, count: int) -> None:
        blocked = self.now < self.until.get(address, 0.0)
        times = self.times.setdefault(address, [])
        if times and self.now - times[0] > self.policy.window_s and not blocked:
            times.clear()
        times += [self.now] * count
        begins = not blocked and len(times) >= self.policy.failures
        assert self.blocks.failed(address, count, self.now) == begins
        if begins:
            self.until[address] = self.now + self.policy.block_s

    @rule(seconds=st.sampled_from([0.5, 4.0, 11.0, 25.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(address=st.sampled_from("ab"))
    def lift(self, address: str) -> None:
        assert self.blocks.lift(address, self.now) == (self.now < self.until.get(address, 0.0))
        self.until.pop(address, None)
        self.times.pop(address, None)

    @invariant()
    def the_same_are_blocked(self) -> None:
        wanted = {address: until for address, until in self.until.items() if self.now < until}
        assert self.blocks.active(self.now) == wanted


TestBlocks = BlocksMachine.TestCase


def test_the_addresses_that_are_remembered_are_bounded() -> None:
    blocks = Blocks(BlockPolicy())
    for n in range(MAX_ADDRESSES + 100):
        blocks.failed(str(n), 1, 0.0)
    assert len(blocks._attempts) == MAX_ADDRESSES
