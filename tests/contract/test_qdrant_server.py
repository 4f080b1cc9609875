"""The server's adapter on the wire: a server that is away, silent, unwilling or scripted, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient, models

from quantum_db.errors import InvalidRequest, InvalidSettings, Unavailable
from quantum_db.filters import Filter
from quantum_db.model import Context, Entity, Search
from quantum_db.stores.points import point_id
from quantum_db.stores.qdrant import QdrantStore, connect
from tests.contract.vector_stores import AtCommit, D, axis, unit

pytestmark = pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection:UserWarning")

Reply = tuple[int, Any, dict[str, str]]
ENTITY = Entity("a", axis(0), (Context("x", 1.0),), metadata={"n": 1})


def calls(store: QdrantStore) -> list[Any]:
    return [
        store.dimension(),
        store.upsert([ENTITY]),
        store.fetch(["a"]),
        store.delete(["a"]),
        store.search([Search(axis(0), 1)]),
        store.context_names(),
        store.count(),
        store.optimize(),
    ]


@asynccontextmanager
async def server(answer: Callable[[str, str, Any], Reply]) -> AsyncIterator[tuple[str, list[tuple[str, str, Any]]]]:
    """Serve HTTP on a loopback port; yield its URL and the requests (method, path, body) as they come in."""
    heard: list[tuple[str, str, Any]] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while line := await reader.readline():
            method, path, _ = line.decode().split(" ", 2)
            headers = {}
            while (header := (await reader.readline()).decode().strip()) != "":
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            heard.append((method, path, json.loads(body) if body else headers))
            status, content, extra = answer(method, path, heard[-1][2])
            text = content if isinstance(content, bytes) else json.dumps(content).encode()
            fields = {"Content-Length": str(len(text)), "Content-Type": "application/json", **extra}
            head = f"HTTP/1.1 {status} x\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())
            writer.write(head.encode() + b"\r\n" + text)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", heard
    finally:
        listener.close()
        for writer in writers:
            writer.close()
            await writer.wait_closed()


def ok(result: Any) -> Reply:
    return 200, {"result": result, "status": "ok", "time": 0.0}, {}


async def test_a_server_that_is_away_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        store = connect(url, "secret", "things", timeout_s=2.0)
        for call in calls(store):
            with pytest.raises(Unavailable, match=f"^Qdrant at {url} does not answer") as error:
                await call
            assert "secret" not in str(error.value)
        await store.close()


async def test_a_server_that_says_nothing_is_unavailable() -> None:
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    store = connect(f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}", None, "things", timeout_s=0.05)
    for call in calls(store):
        with pytest.raises(Unavailable, match=r"did not look for the collection within 0\.05 s"):
            await call
    await store.close()
    silent.close()


@pytest.mark.parametrize(
    ("reply", "message", "retry_after_s"),
    [
        ((401, {"status": {"error": "no key"}}, {}), "refused to look for the collection: 401 .*no key", None),
        ((500, b"broken", {}), "refused to look for the collection: 500 broken", None),
        ((429, {"status": {"error": "slow"}}, {"Retry-After": "7"}), "is too busy", 7),
        ((200, b"<html>", {}), "does not answer", None),
        ((200, {"result": 3}, {}), "does not answer", None),
        ((200, {"result": None}, {}), "does not answer", None),
        ((429, {"status": {"error": "slow"}}, {"Retry-After": "tomorrow"}), "is too busy", None),
    ],
)
async def test_what_a_server_does_wrong_is_unavailable(reply: Reply, message: str, retry_after_s: float | None) -> None:
    async with server(lambda *_: reply) as (url, _):
        store = connect(url, None, "things", timeout_s=5.0)
        with pytest.raises(Unavailable, match=message) as error:
            await store.count()
        assert error.value.retry_after_s == retry_after_s
        await store.close()


async def test_a_server_that_goes_away_between_two_calls_is_unavailable() -> None:
    async with server(scripted({"made": True})) as (url, _):
        store = connect(url, None, "things", timeout_s=5.0)
        assert await store.dimension() == D
    for call in (store.search([Search(axis(0), 1)]), store.upsert([ENTITY])):
        with pytest.raises(Unavailable, match="does not answer"):
            await call
    await store.close()


def scripted(state: dict[str, Any]) -> Callable[[str, str, Any], Reply]:
    """Return what an empty Qdrant server answers, where another client makes the collection just before us."""

    def answer(method: str, path: str, body: Any) -> Reply:
        path = path.partition("?")[0]
        match method, path:
            case "GET", "/collections/things/exists":
                return ok({"exists": state["made"]})
            case "PUT", "/collections/things":
                state["made"] = True
                return 409, {"status": {"error": "Collection `things` already exists!"}}, {}
            case "GET", "/collections/things":
                return ok(
                    {
                        "status": "green",
                        "optimizer_status": "ok",
                        "segments_count": 1,
                        "config": {
                            "params": {"vectors": {"size": D, "distance": "Cosine"}},
                            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
                            "optimizer_config": {
                                "deleted_threshold": 0.2,
                                "vacuum_min_vector_number": 1000,
                                "default_segment_number": 0,
                                "flush_interval_sec": 5,
                            },
                        },
                        "payload_schema": {"contexts": {"data_type": "keyword", "points": 0}},
                    }
                )
            case "POST", "/collections/things/points/scroll":
                return ok({"points": [], "next_page_offset": None})
            case "POST", "/collections/things/points/query/batch":
                return ok([{"points": []} for _ in body["searches"]])
            case _:
                return ok({"operation_id": 1, "status": "completed"})

    return answer


async def test_what_is_sent_when_another_client_was_first() -> None:
    async with server(scripted({"made": False})) as (url, heard):
        store = connect(url, "key", "things", timeout_s=5.0)
        assert await store.dimension() is None
        assert heard[0][2]["api-key"] == "key"
        with pytest.raises(InvalidRequest, match=f"has 3 numbers, where the store's vectors have {D}"):
            await store.upsert([Entity("a", unit(1, 2, 3))])
        assert not [path for method, path, _ in heard if method == "PUT" and "/points" in path]
        await store.upsert([ENTITY])
        indexes = {body["field_name"]: body["field_schema"] for _, path, body in heard if "/index?" in path}
        assert indexes.keys() == {"entity", "slot", "born", "died"}, "only those that are missing"
        assert not any(schema["enable_hnsw"] for schema in indexes.values())
        [(_, _, body)] = [call for call in heard if call[:2] == ("PUT", "/collections/things/points?wait=true")]
        [point] = body["points"]
        assert point["id"] == point_id("a", 0)
        assert point["payload"]["metadata"] == {"n": 1}
        assert point["payload"]["contexts"] == ["x"]
        await store.close()


async def test_many_searches_are_one_request() -> None:
    async with server(scripted({"made": True})) as (url, heard):
        store = connect(url, None, "things", 5.0, AtCommit(17))
        only = Filter.parse({"must_not": [{"key": '"a b".c[0]', "match": {"value": True}}, {"has_id": ["q"]}]})
        await store.search([Search(axis(0), 3), Search(axis(1), 3, contexts=("x",), filter=only)])
        [(_, _, body)] = [call for call in heard if call[1].startswith("/collections/things/points/query")]
        plain, filtered = body["searches"]
        seen = [{"key": "born", "range": {"gt": 17}}, {"key": "died", "range": {"lte": 17}}]
        assert plain["filter"] == {"must_not": seen}
        assert filtered["filter"]["must_not"] == seen
        by_context, nested = filtered["filter"]["must"]
        assert by_context == {"key": "contexts", "match": {"value": "x"}}
        assert nested["must_not"] == [
            {"key": 'metadata."a b"."c"[0]', "match": {"value": True}},
            {"key": "entity", "match": {"any": ["q"]}},
        ]
        await store.close()


async def test_a_transaction_is_two_requests_in_this_order() -> None:
    async with server(scripted({"made": True})) as (url, heard):
        store = connect(url, None, "things", timeout_s=5.0)
        assert await store.dimension() == D
        before = len(heard)
        await store.apply(17, [ENTITY], ["b"])
        (_, _, written), (_, _, ended) = heard[before:]
        assert [path for _, path, _ in heard[before:]] == [
            "/collections/things/points?wait=true",
            "/collections/things/points/payload?wait=true",
        ]
        [point] = written["points"]
        assert point["id"] == point_id("a", 0, 17)
        assert point["payload"]["born"] == 17
        assert ended["payload"] == {"died": 17}
        assert ended["filter"]["must"] == [
            {"key": "entity", "match": {"any": ["a", "b"]}},
            {"is_empty": {"key": "died"}},
        ]
        assert ended["filter"]["must_not"] == [{"key": "born", "range": {"gte": 17}}]
        await store.sweep(17)
        assert heard[-1][1:] == (
            "/collections/things/points/delete?wait=true",
            {"filter": {"must": [{"key": "died", "range": {"lte": 17}}]}},
        )
        await store.close()


@pytest.mark.parametrize(
    "vectors",
    [
        models.VectorParams(size=D, distance=models.Distance.DOT),
        {"named": models.VectorParams(size=D, distance=models.Distance.COSINE)},
    ],
)
async def test_a_collection_of_something_else_is_refused(vectors: Any) -> None:
    client = AsyncQdrantClient(":memory:")
    await client.create_collection("things", vectors_config=vectors)
    store = QdrantStore(client, "things")
    with pytest.raises(InvalidSettings, match="'things' was made by something else"):
        await store.upsert([ENTITY])
    await store.close()
