"""A Qdrant server for tests: its REST interface, as far as the store uses it, over qdrant-client's local mode.

``python -m tests.qdrant_server PORT`` serves collections in memory until it is terminated.
"""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from qdrant_client import AsyncQdrantClient, models

from cluster.runtime import free_port

Json = dict[str, Any]


@dataclass(frozen=True)
class QdrantProcess:
    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def running_qdrant() -> Iterator[QdrantProcess]:
    """Run the server in a process of its own."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.qdrant_server", str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30.0
        while True:
            try:
                httpx.get(f"{url}/collections/x/exists").raise_for_status()
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, "it does not answer"
                time.sleep(0.1)
        yield QdrantProcess(url, process)
    finally:
        process.terminate()
        process.wait(10)


client = AsyncQdrantClient(":memory:")
router = APIRouter(prefix="/collections/{name}")


def answer(result: Any) -> JSONResponse:
    if isinstance(result, BaseModel):
        result = result.model_dump(mode="json")
    elif isinstance(result, list):
        result = [one.model_dump(mode="json") for one in result]
    return JSONResponse({"result": result, "status": "ok", "time": 0.0})


def filter_of(body: Json, name: str = "filter") -> models.Filter | None:
    return models.Filter.model_validate(body[name]) if body.get(name) else None


@router.get("/exists")
async def exists(name: str) -> JSONResponse:
    return answer({"exists": await client.collection_exists(name)})


@router.get("")
async def describe(name: str) -> JSONResponse:
    return answer(await client.get_collection(name))


@router.put("")
async def create(name: str, request: Request) -> JSONResponse:
    if await client.collection_exists(name):
        return JSONResponse({"status": {"error": f"Collection `{name}` already exists!"}}, 409)
    vectors = models.VectorParams.model_validate((await request.json())["vectors"])
    return answer(await client.create_collection(name, vectors_config=vectors))


@router.put("/index")
async def index(name: str) -> JSONResponse:
    return answer({"operation_id": 1, "status": "completed"})


@router.put("/points")
async def upsert(name: str, request: Request) -> JSONResponse:
    points = [models.PointStruct.model_validate(point) for point in (await request.json())["points"]]
    return answer(await client.upsert(name, points))


@router.post("/points")
async def retrieve(name: str, request: Request) -> JSONResponse:
    body = await request.json()
    return answer(
        await client.retrieve(name, body["ids"], with_payload=body["with_payload"], with_vectors=body["with_vector"])
    )


@router.post("/points/delete")
async def delete(name: str, request: Request) -> JSONResponse:
    body = await request.json()
    chosen = filter_of(body)
    selector = models.PointIdsList(points=body["points"]) if chosen is None else models.FilterSelector(filter=chosen)
    return answer(await client.delete(name, selector))


@router.post("/points/payload")
async def set_payload(name: str, request: Request) -> JSONResponse:
    body = await request.json()
    chosen = filter_of(body)
    assert chosen is not None
    return answer(await client.set_payload(name, body["payload"], chosen))


@router.post("/points/scroll")
async def scroll(name: str, request: Request) -> JSONResponse:
    body = await request.json()
    points, following = await client.scroll(
        name,
        filter_of(body),
        limit=body["limit"],
        offset=body.get("offset"),
        order_by=models.OrderBy.model_validate(body["order_by"]) if body.get("order_by") else None,
        with_payload=body["with_payload"],
        with_vectors=body.get("with_vector", False),
    )
    return answer({"points": [one.model_dump(mode="json") for one in points], "next_page_offset": following})


@router.post("/points/query/batch")
async def query(name: str, request: Request) -> JSONResponse:
    asked = [models.QueryRequest.model_validate(one) for one in (await request.json())["searches"]]
    return answer(await client.query_batch_points(name, asked))


@router.post("/points/count")
async def count(name: str, request: Request) -> JSONResponse:
    return answer(await client.count(name, filter_of(await request.json())))


@router.post("/facet")
async def facet(name: str, request: Request) -> JSONResponse:
    body = await request.json()
    return answer(await client.facet(name, body["key"], filter_of(body), limit=body["limit"]))


def app() -> FastAPI:
    """Return the server."""
    made = FastAPI()
    made.include_router(router)
    return made


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    uvicorn.run(app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
