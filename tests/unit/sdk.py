"""A client whose HTTP goes straight into the application, and one whose cluster answers what a test says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np

from quantum_db.client.caller import Caller
from quantum_db.client.config import Config
from quantum_db.client.database import QuantumDB
from quantum_db.client.http import HttpTransport
from quantum_db.client.request import Request
from serve_app.http import build_app
from tests.open_gate import OPEN_DOORS
from tests.unit.fakes import FakeClock
from tests.unit.test_database import Bench
from tests.unit.test_http import FakeCluster

URL = "http://cluster.test"
MAX_BODY = 20_000


def client_of(bench: Bench, max_body: int = MAX_BODY, **fields: Any) -> QuantumDB:
    """Return a client of an application in this process."""
    cluster = FakeCluster()
    app = build_app(bench.api, cluster, cluster.registry, max_body, OPEN_DOORS)
    config = Config(url=URL, **fields)
    return QuantumDB(config, transport=HttpTransport(config, URL, httpx.ASGITransport(app)))


class Scripted:
    """A transport that answers each call with the next of some answers; errors are raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Request] = []
        self.opened = 0

    async def open(self) -> None:
        self.opened += 1

    async def call(self, request: Request) -> Any:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.opened = 0


def caller_of(transport: Scripted, clock: FakeClock, **fields: Any) -> Caller:
    """Return a caller whose pauses take no time but on its clock."""

    async def sleep(pause_s: float) -> None:
        clock.time_s += pause_s

    config = Config(url=URL, **fields)
    return Caller(config, transport, clock=clock, rng=np.random.default_rng(0), sleep=sleep)


def answering(handler: Callable[[httpx.Request], httpx.Response], **fields: Any) -> HttpTransport:
    """Return the way over HTTP to a server that is one function."""
    config = Config(url=URL, **fields)
    return HttpTransport(config, URL, httpx.MockTransport(handler))
