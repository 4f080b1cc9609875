"""What a process takes on: a bound of calls, and a bound of how long what is ready waits for its turn."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import httpx
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from cluster.haproxy_on_loopback import with_bound
from quantum_db.admission import Admission, AdmissionPolicy
from quantum_db.errors import Overloaded
from serve_app.admission import AdmissionGate, watch_the_loop
from serve_app.request_log import RequestLog

BACKENDS = (
    "frontend http_frontend\n    bind 127.0.0.1:80\n"
    "backend default_backend\n    http-request return status 404\n"
    "backend http-app\n    log global\n    server a 127.0.0.1:1 check\n    server spare 127.0.0.1:2 check backup\n"
)


def taken(admission: Admission, calls: int) -> int:
    """Return how many of so many calls that come together are let in."""
    count, pauses = 0, list[float]()
    for _ in range(calls):
        try:
            admission.enter()
        except Overloaded as error:
            pauses.append(error.retry_after_s or 0.0)
        else:
            count += 1
    assert all(pause_s >= 1.0 for pause_s in pauses)
    return count


def test_calls_are_bounded_and_places_are_given_back() -> None:
    admission = Admission(AdmissionPolicy(max_running=10))
    assert taken(admission, 25) == admission.running == 10
    for _ in range(4):
        admission.leave()
    assert taken(admission, 25) == 4


def test_a_process_that_is_late_takes_on_little_until_it_is_not() -> None:
    admission = Admission(AdmissionPolicy(max_running=80, max_wait_s=0.5))
    admission.waited(0.8)
    assert taken(admission, 30) == 30, "one late turn is no overload"
    for _ in range(5):
        admission.waited(0.8)
    assert taken(admission, 30) == 0
    for _ in range(25):
        admission.leave()
    assert taken(admission, 30) == 5, "with few calls it is not they that keep it busy"
    for _ in range(3):
        admission.waited(-0.01)
    assert taken(admission, 30) == 30


class Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


async def test_what_is_too_much_is_a_problem_with_a_time_to_come_back() -> None:
    registry, slow = CollectorRegistry(), Slow()
    gate = AdmissionGate(slow, Admission(AdmissionPolicy(max_running=2)), registry)
    transport = httpx.ASGITransport(RequestLog(gate, registry, None))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        begun = [asyncio.create_task(client.post("/api/v2/query")) for _ in range(2)]
        await asyncio.sleep(0.01)
        answer = await client.post("/api/v2/query", headers={"x-request-id": "mine"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = answer.json()
        assert problem["type"] == "urn:quantum-db:problem:overloaded"
        assert (problem["instance"], problem["request_id"]) == ("/api/v2/query", "mine")
        probe = asyncio.create_task(client.get("/healthz"))
        slow.go.set()
        assert [one.status_code for one in await asyncio.gather(*begun, probe)] == [200, 200, 200]
        assert (await client.post("/api/v2/query")).status_code == 200
    assert registry.get_sample_value("http_requests_shed_total") == 1.0
    assert registry.get_sample_value("http_requests_running") == 0.0


async def test_the_wait_is_measured_where_somebody_keeps_the_loop_busy() -> None:
    admission = Admission(AdmissionPolicy())
    watching = asyncio.create_task(watch_the_loop(admission))
    await asyncio.sleep(0.05)
    time.sleep(0.3)  # noqa: ASYNC251 - what nobody should do
    await asyncio.sleep(0.001)
    assert admission.wait_s > 0.1
    watching.cancel()


def test_haproxy_has_a_bound_for_each_replica_and_refuses_by_itself() -> None:
    config = with_bound(BACKENDS, 256)
    assert "    server a 127.0.0.1:1 check maxconn 256\n" in config
    assert "    server spare 127.0.0.1:2 check backup\n" in config
    assert config.count("be_conn_free(http-app) eq 0") == 1
    assert config.index("backend http-app") < config.index("be_conn_free"), "not for what is no replica's"
    assert with_bound(config, 256) == config, "a configuration may be given its bound twice"
    assert with_bound(BACKENDS, 0) == BACKENDS


def test_haproxys_refusal_is_the_problem_of_the_error_tree() -> None:
    problem = Overloaded("").problem()
    told = re.search(r"lf-string '(.*)' if", with_bound(BACKENDS, 1))
    assert told is not None
    body = json.loads(told[1])
    assert all(body[key] == problem[key] for key in ("type", "title", "status"))
    assert set(body) == {*problem, "instance", "request_id"}
