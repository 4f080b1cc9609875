"""An open loop over HTTP/1.1: ``python -m benchmarks.open_loop``, in a process of its own.

Requests are sent when a schedule says so, whether others have been answered or not, each on a connection that is free,
or else on a new one: what a flood of independent callers does. Latency counts from the scheduled time. Reads one JSON
object from standard input: ``{"url", "headers", "asks", "rate", "seconds", "connections"}``, where ``asks`` are pairs
of path and body that are sent in turn, and writes what ``Answers`` holds to standard output.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import orjson

from benchmarks.light_client import content_length, requests_of

LAST_ANSWER_S = 20.0
NO_ANSWER = 0


@dataclass
class Answers:
    """What one run found, each list by request in the order of the schedule.

    Attributes:
        seconds: of the schedule.
        statuses: ``NO_ANSWER`` where the connection broke, or nothing came in ``LAST_ANSWER_S``.
        retry_after: whether the answer says when to come back.
        late: how many were sent more than 0.1 s after their time: the client was too slow.
    """

    seconds: float = 0.0
    ms: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    retry_after: list[bool] = field(default_factory=list)
    late: int = 0

    def rate(self, within_s: float = float("inf")) -> float:
        """Return good answers a second, of those that came so soon after their scheduled time."""
        good = sum(200 <= s < 300 and ms <= within_s * 1000.0 for s, ms in zip(self.statuses, self.ms, strict=True))
        return good / self.seconds

    def p99_ms(self) -> float:
        """Return the 99th percentile of the latencies of good answers; NaN where there are none."""
        good = [ms for status, ms in zip(self.statuses, self.ms, strict=True) if 200 <= status < 300]
        return float(np.percentile(good, 99)) if good else float("nan")

    def count(self, status: int) -> int:
        """Return how many answers had a status."""
        return self.statuses.count(status)

    def told_share(self, status: int) -> float:
        """Return the share of answers with a status that say when to come back; 1 where there are none."""
        told = [after for one, after in zip(self.statuses, self.retry_after, strict=True) if one == status]
        return sum(told) / len(told) if told else 1.0


class Connection(asyncio.Protocol):
    """One connection: one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._parts = bytearray()
        self._answer: asyncio.Future[tuple[int, bool]] | None = None
        self.closes = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._parts += data
        head_end = self._parts.find(b"\r\n\r\n")
        if head_end < 0 or self._answer is None or self._answer.done():
            return
        head = bytes(self._parts[:head_end]).lower()
        end = head_end + 4 + content_length(head)
        if len(self._parts) >= end:
            self.closes = b"connection: close" in head
            self._answer.set_result((int(head[9:12]), b"\r\nretry-after:" in head))
            del self._parts[:end]

    def connection_lost(self, error: Exception | None) -> None:
        self.closes = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the server closed the connection"))

    async def send(self, request: bytes) -> tuple[int, bool]:
        """Send a request; return the status, and whether the answer says when to come back."""
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer


class Caller:
    """Sends requests on connections that it keeps."""

    def __init__(self, host: str, port: int, connections: int) -> None:
        self._host, self._port = host, port
        self._free: deque[Connection] = deque()
        self._room = asyncio.Semaphore(connections)

    async def ask(self, request: bytes) -> tuple[int, bool]:
        """Return what ``Connection.send`` does; ``NO_ANSWER`` where there is none."""
        connection: Connection | None = None
        async with self._room:
            try:
                async with asyncio.timeout(LAST_ANSWER_S):
                    connection = await self._connection()
                    return await connection.send(request)
            except (OSError, TimeoutError):
                if connection is not None and connection.transport is not None:
                    connection.transport.abort()
                return NO_ANSWER, False
            finally:
                if connection is not None and not connection.closes:
                    self._free.append(connection)

    async def _connection(self) -> Connection:
        while self._free:
            found = self._free.pop()
            if not found.closes:
                return found
        _, made = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
        return made

    def close(self) -> None:
        for connection in self._free:
            if connection.transport is not None:
                connection.transport.close()


async def run(url: str, requests: Sequence[bytes], rate: float, seconds: float, connections: int) -> Answers:
    """Send requests in turn, from the first again after the last, ``rate`` of them a second."""
    address = urlsplit(url)
    caller, count = Caller(str(address.hostname), address.port or 80, connections), round(rate * seconds)
    found = Answers(seconds, [0.0] * count, [NO_ANSWER] * count, [False] * count)
    start_s = time.perf_counter() + 0.1

    async def one(number: int) -> None:
        due_s = start_s + number / rate
        found.late += time.perf_counter() - due_s > 0.1
        found.statuses[number], found.retry_after[number] = await caller.ask(requests[number % len(requests)])
        found.ms[number] = (time.perf_counter() - due_s) * 1000.0

    tasks = []
    for number in range(count):
        pause_s = start_s + number / rate - time.perf_counter()
        if pause_s > 0.0 or number % 20 == 0:  # else it would never let the answers in
            await asyncio.sleep(max(0.0, pause_s))
        tasks.append(asyncio.create_task(one(number)))
    await asyncio.gather(*tasks)
    caller.close()
    return found


def in_a_process(
    url: str,
    key: str,
    asks: Sequence[tuple[str, bytes]],
    rate: float,
    seconds: float,
    connections: int = 4_000,
) -> Answers:
    """Run this module as a child. Raises ``subprocess.CalledProcessError`` where it fails."""
    wanted = {"url": url, "headers": {"api-key": key}, "rate": rate, "seconds": seconds, "connections": connections}
    wanted["asks"] = [(path, body.decode()) for path, body in asks]
    command = [sys.executable, "-m", "benchmarks.open_loop"]
    done = subprocess.run(command, input=orjson.dumps(wanted), stdout=subprocess.PIPE, check=True)  # noqa: S603
    return Answers(**orjson.loads(done.stdout))


def whole(host: str, headers: Mapping[str, str], asks: Sequence[Sequence[str]]) -> list[bytes]:
    """Return whole requests, ready to be written to a socket."""
    return [requests_of(path, host, headers, [body.encode()])[0] for path, body in asks]


def main() -> None:
    wanted: dict[str, Any] = orjson.loads(sys.stdin.buffer.read())
    requests = whole(urlsplit(wanted["url"]).netloc, wanted["headers"], wanted["asks"])
    found = asyncio.run(run(wanted["url"], requests, wanted["rate"], wanted["seconds"], wanted["connections"]))
    sys.stdout.buffer.write(orjson.dumps(asdict(found)))


if __name__ == "__main__":
    main()
