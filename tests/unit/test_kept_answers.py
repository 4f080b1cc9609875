"""Kept answers: what is asked once is answered once, what may not be kept is not, and nothing grows without bound."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_db.api import Api
from quantum_db.backend_ports import JobRequest
from quantum_db.caching import BoundedCache
from quantum_db.errors import InvalidRequest, Unavailable
from quantum_db.kept_answers import CachePolicy, KeptAnswers, Made, Outcome
from quantum_db.model import Answer, Refinement, StageTimes
from quantum_db.requests import QueryBody
from quantum_db.scope import Scope
from tests.unit.fakes import FakeClock, FakeJobs
from tests.unit.test_database import Bench, query

STAGES = StageTimes(0.0, 0.0, 0.0, 0.0)


class Versions:
    def __init__(self) -> None:
        self.now: str | None = "1"

    def version(self, collection: str) -> str | None:
        return self.now


class Shared:
    """What two replicas keep together."""

    def __init__(self) -> None:
        self.kept: dict[bytes, tuple[bytes, float]] = {}

    async def get(self, key: bytes) -> tuple[bytes, float] | None:
        return self.kept.get(key)

    def put(self, key: bytes, answer: bytes, keep_s: float) -> None:
        self.kept[key] = (answer, keep_s)


class Room:
    def __init__(self, max_bytes: int = 10_000, shared: Shared | None = None) -> None:
        self.clock, self.versions, self.made = FakeClock(), Versions(), 0
        self.outcomes: list[Outcome] = []
        policy = CachePolicy(max_bytes, 60.0)
        self.cache = KeptAnswers(policy, self.versions, self.clock, self.outcomes.append, shared)

    def answer(self, **refinement: Any) -> Answer:
        report = Refinement(False, "", "exact", **refinement)
        return Answer((), "classical", 0, report, STAGES)

    async def ask(self, question: Any, answer: Answer | None = None, tenant: str = "t", collection: str = "c") -> Any:
        async def make() -> Made:
            self.made += 1
            await asyncio.sleep(0)
            return Made(answer or self.answer(), {"number": self.made})

        found = await self.cache.answer(tenant, collection, question, make)
        return found["number"], found["cached"]


async def test_an_answer_is_given_again_until_something_changes_or_it_is_too_old() -> None:
    room = Room()
    question = {"vector": np.array([0.1, 0.2], np.float32), "top_k": 3}
    assert await room.ask(question) == (1, False)
    again = {"top_k": 3, "vector": np.array([0.1, 0.2], np.float32)}
    assert await room.ask(again) == (1, True)
    room.versions.now = "2"
    assert await room.ask(question) == (2, False)
    room.clock.time_s += 61.0
    assert await room.ask(question) == (3, False)
    assert room.outcomes == ["computed", "local", "computed", "computed"]


async def test_tenants_collections_and_questions_do_not_share() -> None:
    room = Room()
    asked = [
        await room.ask({"top_k": 1}),
        await room.ask({"top_k": 2}),
        await room.ask({"top_k": 1}, tenant="other"),
        await room.ask({"top_k": 1}, collection="other"),
        await room.ask({"top_k": 1}, tenant="tc", collection=""),
    ]
    assert asked == [(i, False) for i in range(1, 6)]


async def test_the_same_question_at_the_same_time_is_answered_once() -> None:
    room = Room()
    found = await asyncio.gather(*(room.ask({"top_k": 1}) for _ in range(10)))
    assert found == [(1, False)] + [(1, True)] * 9
    assert room.outcomes.count("joined") == 9


async def test_one_who_leaves_takes_nothing_from_the_others() -> None:
    room = Room()
    first = asyncio.create_task(room.ask({"top_k": 1}))
    second = asyncio.create_task(room.ask({"top_k": 1}))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == (1, True)
    assert await room.ask({"top_k": 1}) == (1, True)


async def test_errors_are_told_to_all_and_not_kept() -> None:
    room = Room()
    made = 0

    async def fail() -> Made:
        nonlocal made
        made += 1
        await asyncio.sleep(0)
        raise Unavailable("no store")

    found = await asyncio.gather(*(room.cache.answer("t", "c", {}, fail) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in found] == [Unavailable] * 3
    assert made == 1
    assert await room.ask({}) == (1, False)


async def test_what_stands_for_another_answer_is_not_kept() -> None:
    room = Room()
    fallen = room.answer(fell_back=True)
    assert [await room.ask({}, fallen) for _ in range(2)] == [(1, False), (2, False)]


async def test_what_was_measured_is_kept_while_the_states_are_coherent() -> None:
    room = Room()
    answer = Answer((), "balanced", 1, Refinement(True, "", "simulated shots"), STAGES, coherence_time_ms=2_000.0)
    assert await room.ask({}, answer) == (1, False)
    room.clock.time_s += 1.9
    assert await room.ask({}, answer) == (1, True)
    room.clock.time_s += 0.2
    assert await room.ask({}, answer) == (2, False)


async def test_replicas_share_for_as_long_as_the_first_would_keep() -> None:
    shared = Shared()
    first, second = Room(shared=shared), Room(shared=shared)
    assert await first.ask({"top_k": 1}) == (1, False)
    ((key, (answer, _)),) = shared.kept.items()
    shared.kept[key] = (answer, 5.0)
    assert await second.ask({"top_k": 1}) == (1, True)
    assert second.outcomes == ["shared"]
    second.clock.time_s += 6.0
    shared.kept.clear()
    assert await second.ask({"top_k": 1}) == (1, False)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 60)), max_size=60))
def test_a_cache_stays_within_its_size_and_drops_what_was_used_longest_ago(puts: list[tuple[int, int]]) -> None:
    cache: BoundedCache[int] = BoundedCache(100, FakeClock())
    order: list[tuple[bytes, int, int]] = []
    for number, (name, size) in enumerate(puts):
        key = bytes([name])
        cache.put(key, number, size, 1e6)
        order = [one for one in order if one[0] != key] + [(key, number, size)]
        while sum(one[2] for one in order) > 100:
            del order[0]
        assert (len(cache), cache.size) == (len(order), sum(one[2] for one in order))
    assert [cache.get(key) for key, _, _ in order] == [number for _, number, _ in order]


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache: BoundedCache[int] = BoundedCache(10, FakeClock())
    cache.put(b"a", 1, 5, 1.0)
    cache.put(b"b", 2, 11, 1.0)
    assert (cache.get(b"a"), cache.get(b"b"), cache.evictions) == (1, None, 0)


class Kept:
    """The API of a bench, with a cache."""

    def __init__(self) -> None:
        self.bench, self.versions = Bench(), Versions()
        self.outcomes: list[Outcome] = []
        cache = KeptAnswers(CachePolicy(100_000, 60.0), self.versions, self.bench.clock, self.outcomes.append)
        self.api: Api = self.bench.api
        self.api._kept = cache


async def test_a_query_is_kept_and_one_that_is_more_than_a_question_is_not() -> None:
    kept = Kept()
    await kept.bench.filled(5)
    body = query(mode="classical")
    first, second = [await kept.api.query(body) for _ in range(2)]
    assert (first["cached"], second["cached"]) == (False, True)
    assert first["hits"] == second["hits"]
    assert len(kept.bench.answers) == 1
    for more in ({"fresh": True}, {"explain": True}, {"session_id": "s"}):
        assert [(await kept.api.query({**body, **more}))["cached"] for _ in range(2)] == [False, False]
    with pytest.raises(InvalidRequest):
        await kept.api.query({**body, "top_k": 0})
    with pytest.raises(InvalidRequest):
        await kept.api.query([])
    other = await kept.api.query(body, scope=Scope("default", "default"))
    assert other["cached"]


async def test_what_is_no_json_is_told_as_without_a_cache() -> None:
    kept = Kept()
    await kept.bench.filled(5)
    for wrong in ({"top_k": {3}}, {"filter": {1: 2}}):
        with pytest.raises(InvalidRequest):
            await kept.api.query({**query(mode="classical"), **wrong})


async def test_an_answer_that_fell_back_is_made_again() -> None:
    def fail(_: JobRequest) -> None:
        raise Unavailable("the backend is away")

    bench = Bench(None, FakeJobs(before=fail))
    versions = Versions()
    bench.api._kept = KeptAnswers(CachePolicy(100_000, 60.0), versions, bench.clock, lambda _: None)
    await bench.filled(5)
    body = query(refine="always")
    found = [await bench.api.query(body) for _ in range(2)]
    assert [one["refinement"]["fell_back"] for one in found] == [True, True]
    assert [one["cached"] for one in found] == [False, False]


def test_fresh_is_a_field_of_a_query() -> None:
    assert QueryBody(vector=[1.0], fresh=True).fresh
