"""One call of the client: its repetitions, its time, its place, its cache, and its way over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_db.client.cache import AnswerCache
from quantum_db.client.http import HttpTransport
from quantum_db.client.request import Request, Unreached
from quantum_db.client.routes import ROUTES
from quantum_db.errors import (
    BodyTooLarge,
    BudgetExceeded,
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    QuantumDBError,
    Unavailable,
)
from serve_app.http import build_app
from tests.open_gate import OPEN_DOORS
from tests.unit.fakes import FakeClock
from tests.unit.sdk import Scripted, answering, caller_of
from tests.unit.test_database import Bench
from tests.unit.test_http import FakeCluster
from tests.unit.test_requests import every_error

ANSWER = {"hits": [], "mode": "balanced", "candidates": 0, "refinement": {}}
BODY = {"vector": [1.0, 0.0]}


async def test_what_may_be_repeated_is_repeated_under_one_key() -> None:
    way, clock = Scripted(Unavailable("cut"), Unreached("no"), {"id": "a", "version": 3}), FakeClock()
    assert (await caller_of(way, clock).call("insert", {"id": "a"}))["version"] == 3
    assert len(way.asked) == 3
    assert len({request.key for request in way.asked}) == 1
    assert way.asked[0].key
    assert way.opened == 1


async def test_the_pause_is_what_the_cluster_asks_for() -> None:
    way, clock = Scripted(Overloaded("full", retry_after_s=7.0), ANSWER), FakeClock()
    start_s = clock.time_s
    await caller_of(way, clock).call("query", BODY)
    assert 7.0 <= clock.time_s - start_s < 7.1


@pytest.mark.parametrize("method", ["delete", "measure_group", "execute_batch"])
async def test_what_may_have_taken_place_is_not_done_twice(method: str) -> None:
    arguments: tuple[Any, ...] = ({},) if method != "measure_group" else ("g", {})
    way = Scripted(Unavailable("cut after it was sent"))
    with pytest.raises(Unavailable):
        await caller_of(way, FakeClock()).call(method, *arguments)
    assert len(way.asked) == 1
    way = Scripted(Unreached("never sent"), Overloaded("not taken"), {})
    await caller_of(way, FakeClock()).call(method, *arguments)
    assert len(way.asked) == 3


async def test_a_job_whose_answer_was_lost_is_asked_for_under_the_same_key() -> None:
    way = Scripted(Unavailable("cut after it was sent"), {})
    await caller_of(way, FakeClock()).call("jobs.submit", {})
    first, second = way.asked
    assert first.key == second.key
    assert first.key


async def test_what_may_be_done_again_has_no_key() -> None:
    way = Scripted(Unavailable("cut after it was sent"), {})
    await caller_of(way, FakeClock()).call("insert_batch", {"vectors": []}, once=False)
    assert [one.key for one in way.asked] == [None, None]


@pytest.mark.parametrize("error", [InvalidRequest("wrong"), Conflict("other"), BudgetExceeded("no money")])
async def test_what_is_refused_is_not_asked_again(error: QuantumDBError) -> None:
    way = Scripted(error)
    with pytest.raises(type(error)):
        await caller_of(way, FakeClock()).call("query", BODY)
    assert len(way.asked) == 1


async def test_all_attempts_together_take_no_longer_than_the_call_may() -> None:
    clock = FakeClock()

    def slow() -> Unavailable:
        clock.time_s += 3.0
        return Unavailable("cut")

    way = Scripted(*[slow] * 10)
    start_s = clock.time_s
    with pytest.raises(Unavailable):
        await caller_of(way, clock, timeout_s=8.0).call("query", BODY)
    assert clock.time_s - start_s < 8.0 + 3.0
    assert all(request.timeout_s <= 8.0 for request in way.asked)
    way = Scripted(Overloaded("full", retry_after_s=60.0))
    with pytest.raises(Overloaded):
        await caller_of(way, clock, timeout_s=8.0).call("query", BODY)
    assert len(way.asked) == 1, "it would be too late"


async def test_a_request_of_its_own_time_is_not_waited_for_much_longer() -> None:
    way = Scripted(ANSWER)
    await caller_of(way, FakeClock()).call("query", {**BODY, "timeout_ms": 500})
    assert way.asked[0].timeout_s == pytest.approx(2.5, abs=0.1)


async def test_no_more_calls_are_in_flight_than_there_are_places() -> None:
    now, most = 0, 0

    class Counting(Scripted):
        async def call(self, request: Request) -> Any:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.01)
            now -= 1
            return ANSWER

    caller = caller_of(Counting(), FakeClock(), max_pool_size=3)
    await asyncio.gather(*(caller.call("query", BODY) for _ in range(12)))
    assert most == 3


async def test_a_call_that_gets_no_place_in_time_says_so() -> None:
    class Stuck(Scripted):
        async def call(self, request: Request) -> Any:
            await asyncio.sleep(0.2)
            return ANSWER

    caller = caller_of(Stuck(), FakeClock(), max_pool_size=1, timeout_s=0.05)
    answers = await asyncio.gather(*(caller.call("query", BODY) for _ in range(2)), return_exceptions=True)
    assert isinstance(answers[1], DeadlineExceeded)


async def test_a_question_asked_again_is_answered_from_the_cache_until_a_write() -> None:
    way, clock = Scripted(ANSWER, {"version": 1}, ANSWER, ANSWER, ANSWER), FakeClock()
    caller = caller_of(way, clock, enable_cache=True, cache_ttl=10.0)
    vector = np.array([1.0, 0.0], dtype=np.float32)
    told = [(await caller.call("query", {"vector": vector, "top_k": 3}))["cached"] for _ in range(3)]
    assert told == [False, True, True]
    await caller.call("insert", {"id": "a"})
    assert not (await caller.call("query", {"vector": vector, "top_k": 3}))["cached"]
    assert not (await caller.call("query", {"vector": vector, "top_k": 4}))["cached"]
    clock.time_s += 10.0
    assert not (await caller.call("query", {"vector": vector, "top_k": 3}))["cached"], "it is too old"


async def test_an_answer_from_before_a_write_is_not_kept() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Scripted):
        async def call(self, request: Request) -> Any:
            if request.method == "query" and not asked.is_set():
                asked.set()
                await go_on.wait()
            return await super().call(request)

    caller = caller_of(Slow({"version": 1}, ANSWER, ANSWER), FakeClock(), enable_cache=True)
    early = asyncio.create_task(caller.call("query", BODY))
    await asked.wait()
    await caller.call("insert", {"id": "a"})
    go_on.set()
    await early
    assert not (await caller.call("query", BODY))["cached"]


async def test_a_write_that_failed_may_have_been_written_and_a_session_is_more_than_a_question() -> None:
    way = Scripted(ANSWER, InvalidRequest("no"), ANSWER, ANSWER, ANSWER)
    caller = caller_of(way, FakeClock(), enable_cache=True)
    await caller.call("query", BODY)
    with pytest.raises(InvalidRequest):
        await caller.call("insert", {"id": "a"})
    assert not (await caller.call("query", BODY))["cached"]
    for _ in range(2):
        assert not (await caller.call("query", {**BODY, "session_id": "s"}))["cached"]


@given(st.lists(st.tuples(st.sampled_from(["put", "get", "forget", "wait"]), st.integers(0, 6)), max_size=60))
def test_the_cache_holds_what_was_put_last_and_nothing_else(steps: list[tuple[str, int]]) -> None:
    clock = FakeClock()
    cache = AnswerCache(3, 10.0, clock)
    model: dict[bytes, float] = {}
    for step, n in steps:
        key = b"%d" % n
        if step == "put":
            cache.put(key, key, cache.generation)
            model.pop(key, None)
            model[key] = clock.time_s + 10.0
        elif step == "get":
            found = cache.get(key)
            assert found in (None, key)
            if found is not None:
                assert clock.time_s < model[key] + 1e-3
                model[key] = model.pop(key)
        elif step == "forget":
            cache.forget()
            model.clear()
        else:
            clock.time_s += n
        model = dict(list(model.items())[-3:])
        assert len(cache) <= 3
    for key, until_s in model.items():
        assert (cache.get(key) == key) == (clock.time_s < until_s)


def asking(method: str, *arguments: Any, key: str | None = None, timeout_s: float = 5.0) -> Request:
    return Request(method, ROUTES[method], arguments, "articles", key, timeout_s)


def told(handler: Callable[[httpx.Request], httpx.Response], method: str, *arguments: Any, **more: Any) -> Any:
    async def ask() -> Any:
        way = answering(handler, **more)
        await way.open()
        try:
            return await way.call(asking(method, *arguments, key="k1"))
        finally:
            await way.close()

    return asyncio.run(ask())


def test_a_call_is_the_request_of_its_route(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUANTUM_DB_KEY", raising=False)
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/healthz":
            seen.append(request)
        return httpx.Response(200, json={})

    told(handler, "update", "a/b?c", {"metadata": {}}, 7, api_key="secret")
    told(handler, "scroll", {"cursor": None, "limit": 5, "vectors": False})
    update, scroll = seen
    assert update.url.raw_path == b"/api/v2/vectors/a%2Fb%3Fc?collection=articles"
    assert (update.method, orjson.loads(update.content)) == ("PATCH", {"metadata": {}})
    names = ("if-match", "idempotency-key", "api-key", "content-type")
    assert [update.headers[name] for name in names] == ['"7"', "k1", "secret", "application/json"]
    assert dict(scroll.url.params) == {"limit": "5", "vectors": "false", "collection": "articles"}
    assert "api-key" not in scroll.headers
    monkeypatch.setenv("QUANTUM_DB_KEY", "from-outside")
    told(handler, "jobs.backends")
    assert seen[-1].headers["api-key"] == "from-outside"


@pytest.mark.parametrize("kind", every_error())
def test_every_problem_becomes_the_error_that_it_was(kind: type[QuantumDBError]) -> None:
    error = kind("what was wrong", errors=InvalidRequest.at("a[0].b", "is missing").errors)

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/healthz":
            return httpx.Response(200, json={})
        return httpx.Response(kind.status, json=error.problem(), headers={"Retry-After": "3"})

    with pytest.raises(kind) as found:
        told(handler, "query", BODY)
    assert type(found.value) is kind
    assert (found.value.detail, found.value.errors) == ("what was wrong", error.errors)
    assert found.value.retry_after_s == 3.0


@pytest.mark.parametrize(
    ("status", "kind"),
    [(502, Unavailable), (503, Unavailable), (408, DeadlineExceeded), (413, BodyTooLarge), (418, QuantumDBError)],
)
def test_an_answer_that_is_no_problem_is_told_by_its_status(status: int, kind: type[QuantumDBError]) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if request.url.path == "/healthz" else status, text="<html>gone</html>")

    with pytest.raises(kind, match="gone"):
        told(handler, "query", BODY)


def test_what_is_no_cluster_is_told() -> None:
    with pytest.raises(Unavailable, match="is no cluster: its answer is not JSON"):
        told(lambda request: httpx.Response(200, text="hello"), "query", BODY)
    with pytest.raises(Unreached, match="no cluster, or not well: 404"):
        told(lambda request: httpx.Response(404), "query", BODY)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectError("refused"), Unreached),
        (httpx.ReadError("cut"), Unavailable),
        (httpx.ReadTimeout(""), Unavailable),
    ],
)
def test_only_what_was_never_sent_is_called_unreached(error: httpx.HTTPError, kind: type[QuantumDBError]) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/healthz":
            raise error
        return httpx.Response(200, json={})

    with pytest.raises(Unavailable) as found:
        told(handler, "query", BODY)
    assert type(found.value) is kind


async def test_connections_are_warmed_and_looked_at_again() -> None:
    looks = 0
    looked_again = asyncio.Event()

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal looks
        looks += 1
        if looks == 12:
            looked_again.set()
        return httpx.Response(200 if looks != 5 else 503)

    way = answering(handler, min_pool_size=4, health_check_s=0.01)
    await way.open()
    assert looks == 4
    await asyncio.wait_for(looked_again.wait(), 10.0)
    await way.close()
    with pytest.raises(Unavailable, match="are closed"):
        await way.call(asking("fetch", "a"))


async def test_an_answer_that_does_not_come_is_not_waited_for() -> None:
    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path != "/healthz":
                await asyncio.sleep(60.0)
            return httpx.Response(200, json={})

    way = HttpTransport(answering(lambda request: httpx.Response(200))._config, "http://a", Silent())
    await way.open()
    with pytest.raises(DeadlineExceeded, match=r"within 0\.1 s"):
        await way.call(asking("fetch", "a", timeout_s=0.05))
    await way.close()


def test_the_table_of_calls_is_that_of_the_application() -> None:
    app = build_app(Bench().api, FakeCluster(), FakeCluster().registry, 1_000, OPEN_DOORS)
    served = {(verb.upper(), path) for path, verbs in app.openapi()["paths"].items() for verb in verbs}
    for method, route in ROUTES.items():
        assert (route.verb, f"/api/v2{route.path}") in served, method
