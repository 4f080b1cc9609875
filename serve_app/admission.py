"""Refuses requests above what a replica can answer, before anything is read of them."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Final

from fastapi import Request
from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.types import ASGIApp, Receive, Scope, Send

from quantum_db.admission import Admission
from quantum_db.errors import Overloaded
from serve_app.problems import problem_response

ALWAYS: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""What tells about a replica is answered also when it is overloaded: the proxy in front does not refuse it either."""
LOOK_S: Final = 0.02


class AdmissionGate:
    """ASGI middleware, inside ``RequestLog``, which counts what is refused, too."""

    def __init__(self, app: ASGIApp, admission: Admission, registry: CollectorRegistry) -> None:
        self._app = app
        self._admission = admission
        self._refused = Counter("http_requests_shed", "Requests refused for want of room", registry=registry)
        running = Gauge("http_requests_running", "Requests being answered", registry=registry)
        running.set_function(lambda: float(admission.running))
        waiting = Gauge("event_loop_wait_seconds", "How long what is ready waits for its turn", registry=registry)
        waiting.set_function(lambda: admission.wait_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with 503 and ``Retry-After``."""
        if scope["type"] != "http" or scope["path"] in ALWAYS:
            await self._app(scope, receive, send)
            return
        try:
            self._admission.enter()
        except Overloaded as error:
            self._refused.inc()
            headers = {"Retry-After": str(math.ceil(error.retry_after_s or 1.0))}
            await problem_response(Request(scope), error.problem(), headers)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._admission.leave()


async def watch_the_loop(admission: Admission) -> None:
    """Measure, for as long as it runs, how late this event loop comes to what is ready."""
    while True:
        due_s = time.perf_counter() + LOOK_S
        await asyncio.sleep(LOOK_S)
        admission.waited(time.perf_counter() - due_s)
