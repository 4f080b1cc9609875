"""One line and one count for each request, and the id that ties an answer to them. No body and no credential."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import orjson
from fastapi import Request
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quantum_db.access.principal import Principal
from quantum_db.errors import QuantumDBError
from serve_app.problems import problem_response

logger = logging.getLogger(__name__)

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CALLER_LEFT: Final = 499
"""Told of a request whose caller did not wait for the answer."""

FILE_BYTES: Final = 32 * 2**20
KEPT_S: Final = 7 * 86_400.0
"""How long the lines of a replica that has ended are kept."""


class Lines:
    """The lines of one process, in a file of its own. A file that is full is kept beside the next one."""

    def __init__(self, folder: Path, replica: str, file_bytes: int = FILE_BYTES) -> None:
        """Begin a file in a folder; remove files there that nobody writes any more."""
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("requests-*.jsonl*"):
            with suppress(FileNotFoundError):  # another replica that starts has removed it
                if time.time() - old.stat().st_mtime > KEPT_S:
                    old.unlink()
        self._path = folder / f"requests-{replica}.jsonl"
        self._file_bytes = file_bytes
        self._file = self._path.open("ab", buffering=0)
        self._size = self._file.tell()
        self._failing = False

    def note(self, request_id: str, route: str, status: int | str, seconds: float, principal: Principal | None) -> None:
        """Write the line of a request. ``status`` is that of HTTP, or the code of gRPC."""
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": request_id,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000.0, 3),
            "tenant": None if principal is None else principal.tenant,
            "caller": None if principal is None else principal.subject,
        }
        self.write(line)

    def write(self, line: Mapping[str, Any]) -> None:
        """Write a line. One that cannot be written, say on a full disk, is lost: the request was answered."""
        try:
            self._write(line)
        except OSError as error:
            if not self._failing:
                logger.warning("lines of requests are being lost: %s", error)
            self._failing = True
        else:
            self._failing = False

    def _write(self, line: Mapping[str, Any]) -> None:
        text = orjson.dumps(line) + b"\n"
        if self._size + len(text) > self._file_bytes:
            self._file.close()
            self._path.replace(self._path.with_suffix(".jsonl.1"))
            self._file = self._path.open("ab", buffering=0)
            self._size = 0
        self._file.write(text)
        self._size += len(text)

    def close(self) -> None:
        """Write no more."""
        self._file.close()


def request_id_of(given: str) -> str:
    """Return the caller's id for a request if it can be a header, else an own one."""
    return given if given.isascii() and given.isprintable() and 0 < len(given) <= 128 else uuid4().hex


class RequestLog:
    """ASGI middleware around all others."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry, lines: Lines | None) -> None:
        self._app = app
        self._lines = lines
        self._requests = Counter("http_requests", "Requests answered", ["route", "status"], registry=registry)
        self._seconds = Histogram(
            "http_request_seconds", "Time to answer", ["route"], registry=registry, buckets=BUCKETS_S
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; what fails without an answer is logged whole, and told to the caller without details."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request_id = request.state.request_id = request_id_of(request.headers.get("x-request-id", ""))
        status = CALLER_LEFT

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        start = time.perf_counter()
        try:
            await self._app(scope, receive, answer)
        except Exception:  # the last line of defence
            logger.exception("request %s failed", request_id)
            if status != CALLER_LEFT:  # a part of the answer is on its way
                raise
            told = QuantumDBError("an unexpected error; see the server's log").problem()
            await problem_response(request, told)(scope, receive, answer)
        finally:
            self._note(request, status, time.perf_counter() - start)

    def _note(self, request: Request, status: int, seconds: float) -> None:
        route = getattr(request.scope.get("route"), "path", "unmatched")
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)
        if self._lines is not None:
            principal: Principal | None = getattr(request.state, "principal", None)
            self._lines.note(request.state.request_id, f"{request.method} {route}", status, seconds, principal)
