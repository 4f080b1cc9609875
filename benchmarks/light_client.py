"""A light HTTP/1.1 client for measuring: ``python -m benchmarks.light_client``, in a process of its own.

Reads one JSON object from standard input: ``{"url", "path", "headers", "bodies", "clients", "seconds", "requests"}``
and writes one to standard output: ``{"seconds", "ms", "errors", "bytes"}``. Each client has a connection that it keeps,
sends one body, waits for the answer, and sends the next (a closed loop), until the seconds or the requests are over.
Answers are only counted, not read: a client that decodes JSON takes the processor from what it measures.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

GIVE_UP_S = 60.0


@dataclass
class Load:
    """What one run found.

    Attributes:
        ms: of each answer, in the order in which they came.
        errors: how many answers had a status other than 2xx.
    """

    seconds: float = 0.0
    ms: list[float] = field(default_factory=list)
    errors: int = 0
    bytes: int = 0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.ms) / self.seconds


class Connection(asyncio.Protocol):
    """One connection that is kept: one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parts = bytearray()
        self._end: int | None = None
        self._answer: asyncio.Future[tuple[int, int]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parts += data
        if self._end is None:
            head_end = self._parts.find(b"\r\n\r\n")
            if head_end < 0:
                return
            self._end = head_end + 4 + content_length(bytes(self._parts[:head_end]))
        if len(self._parts) >= self._end and self._answer is not None and not self._answer.done():
            status = int(self._parts[9:12])
            self._answer.set_result((status, self._end))
            del self._parts[: self._end]
            self._end = None

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the server closed the connection"))

    async def send(self, request: bytes) -> tuple[int, int]:
        """Send a request; return the status and the length of the answer."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


def content_length(head: bytes) -> int:
    """Return the length of the body that a head announces. Raises ValueError where it announces none."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    raise ValueError("the answer has no content-length")


def requests_of(path: str, host: str, headers: Mapping[str, str], bodies: Sequence[bytes]) -> list[bytes]:
    """Return whole POST requests, ready to be written to a socket."""
    shared = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n{shared}content-length: "
    return [head.encode() + str(len(body)).encode() + b"\r\n\r\n" + body for body in bodies]


async def run(url: str, requests: Sequence[bytes], clients: int, seconds: float, most: int | None) -> Load:
    """Send requests in turn, from the first again after the last."""
    address = urlsplit(url)
    loop, found, sent = asyncio.get_running_loop(), Load(), 0
    port = address.port or 80

    async def work(connection: Connection, until_s: float) -> None:
        nonlocal sent
        while (most is None or sent < most) and time.perf_counter() < until_s:
            request = requests[sent % len(requests)]
            sent += 1
            start = time.perf_counter()
            status, size = await connection.send(request)
            found.ms.append((time.perf_counter() - start) * 1000.0)
            found.errors += not 200 <= status < 300
            found.bytes += size

    connections = []
    for _ in range(clients):
        _, connection = await loop.create_connection(Connection, address.hostname, port)
        connections.append(connection)
    try:
        start = time.perf_counter()
        async with asyncio.timeout(seconds + GIVE_UP_S):
            await asyncio.gather(*(work(connection, start + seconds) for connection in connections))
        found.seconds = time.perf_counter() - start
    finally:
        for connection in connections:
            connection.close()
    return found


def in_a_process(url: str, path: str, key: str, bodies: Sequence[bytes], clients: int, seconds: float) -> Load:
    """Run this module as a child; it ends when each body has been sent once, or the seconds are over.

    Raises ``subprocess.CalledProcessError`` where the child fails.
    """
    wanted = {
        "url": url,
        "path": path,
        "headers": {"api-key": key},
        "bodies": [body.decode() for body in bodies],
        "clients": clients,
        "seconds": seconds,
        "requests": len(bodies),
    }
    command = [sys.executable, "-m", "benchmarks.light_client"]
    done = subprocess.run(command, input=orjson.dumps(wanted), stdout=subprocess.PIPE, check=True)  # noqa: S603
    return Load(**orjson.loads(done.stdout))


def main() -> None:
    wanted: dict[str, Any] = orjson.loads(sys.stdin.buffer.read())
    bodies = [body.encode() for body in wanted["bodies"]]
    host = urlsplit(wanted["url"]).netloc
    requests = requests_of(wanted["path"], host, wanted["headers"], bodies)
    found = asyncio.run(run(wanted["url"], requests, wanted["clients"], wanted["seconds"], wanted.get("requests")))
    sys.stdout.buffer.write(orjson.dumps(asdict(found)))


if __name__ == "__main__":
    main()
