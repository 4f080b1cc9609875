"""The open loop does not wait for answers, and tells what it was answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from benchmarks.open_loop import NO_ANSWER, run, whole

GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\nRetry-After: 1\r\n\r\n{}"
BARE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}"
REQUESTS = whole("test", {"api-key": "k"}, [("/a", "{}"), ("/b", "[]")])


@asynccontextmanager
async def server(answer: Callable[[int], tuple[float, bytes]]) -> AsyncIterator[str]:
    """Serve requests, each after a pause; the number of a request says what it is answered."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(2)
                pause_s, told = answer(count)
                count += 1
                await asyncio.sleep(pause_s)
                if not told:
                    break
                writer.write(told)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def test_what_is_answered_is_told() -> None:
    kinds = [GOOD, BUSY, BARE, b""]
    async with server(lambda number: (0.0, kinds[number % 4])) as url:
        found = await run(url, REQUESTS, rate=200.0, seconds=0.2, connections=50)
    assert [found.count(status) for status in (200, 503, NO_ANSWER)] == [10, 20, 10]
    assert found.told_share(503) == 0.5
    assert found.rate() == 10 / 0.2


async def test_a_server_that_stands_still_stops_nobody_and_its_time_counts() -> None:
    """A closed loop would ask once, wait, and see one slow answer; here each arrival has its own wait."""
    async with server(lambda number: (0.5 if number < 40 else 0.0, GOOD)) as url:
        found = await run(url, REQUESTS, rate=100.0, seconds=0.4, connections=50)
    assert len(found.ms) == found.count(200) == 40
    assert min(found.ms) >= 490.0
    assert found.rate(within_s=0.4) == 0.0


async def test_what_waits_for_a_connection_has_its_waiting_counted() -> None:
    async with server(lambda number: (0.05, GOOD)) as url:
        found = await run(url, REQUESTS, rate=100.0, seconds=0.2, connections=1)
    assert found.count(200) == 20
    assert found.ms[-1] > 20 * 50.0 - 200.0 - 50.0
