"""The client that measures: it counts each answer once, however it arrives, and errors as errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks.light_client import Load, content_length, requests_of, run
from benchmarks.serving import Peer, checked

Answer = Callable[[bytes], list[bytes]]


def whole(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nx-request-id: 7\r\n\r\n".encode() + body


@asynccontextmanager
async def server(answer: Answer, seen: list[bytes]) -> AsyncIterator[str]:
    """Answer each request with pieces that are sent one after another."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            body = await reader.readexactly(content_length(head[:-4]))
            seen.append(body)
            for piece in answer(body):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)

    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    listening = await asyncio.start_server(quiet, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def in_pieces(body: bytes) -> list[bytes]:
    text = whole(body * 3)
    return [text[:5], text[5:40], text[40:-2], text[-2:]]


@pytest.mark.parametrize("clients", [1, 3])
async def test_each_request_is_sent_and_counted_once(clients: int) -> None:
    seen: list[bytes] = []
    bodies = [f'{{"n":{i}}}'.encode() for i in range(20)]
    async with server(in_pieces, seen) as url:
        found = await run(url, requests_of("/x", "h", {"api-key": "k"}, bodies), clients, 10.0, len(bodies))
    assert sorted(seen) == sorted(bodies)
    assert (len(found.ms), found.errors) == (20, 0)
    assert found.bytes == sum(len(whole(body * 3)) for body in bodies)
    assert min(found.ms) > 0.0
    assert found.rate == pytest.approx(20 / found.seconds)


async def test_errors_are_counted_and_make_a_measurement_void() -> None:
    peer = Peer("one", "", "", "", {})
    async with server(lambda body: [whole(b"no", "503 Service Unavailable" if body == b"2" else "200 OK")], []) as url:
        found = await run(url, requests_of("/x", "h", {}, [b"1", b"2", b"3"]), 1, 10.0, 3)
    assert (len(found.ms), found.errors) == (3, 1)
    with pytest.raises(RuntimeError, match="1 of 3 answers of one were errors"):
        checked(found, peer)
    with pytest.raises(RuntimeError, match="errors"):
        checked(Load(), peer)


async def test_a_server_that_goes_away_is_an_error() -> None:
    async def leave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listening = await asyncio.start_server(leave, "127.0.0.1", 0)
    async with listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        with pytest.raises(ConnectionError):
            await run(url, requests_of("/x", "h", {}, [b"1"]), 1, 10.0, 1)


def test_an_answer_without_a_length_is_no_answer_that_can_be_counted() -> None:
    assert content_length(b"HTTP/1.1 200 OK\r\ncontent-length: 12") == 12
    with pytest.raises(ValueError, match="content-length"):
        content_length(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked")
