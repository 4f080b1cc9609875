"""REST under /api/v2: routes, body limits, request ids and problems. Needs an ``Api``, not Ray."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Match, Route

from quantum_db.access.ports import KeyDesk, WatchDesk
from quantum_db.admission import Admission
from quantum_db.api import Api, JobCalls
from quantum_db.errors import FieldError, InvalidRequest, MethodNotAllowed, NotFound, QuantumDBError, Unauthenticated
from quantum_db.telemetry import CONTENT_TYPE
from serve_app.admission import AdmissionGate
from serve_app.exchange import batch_body as _batch_body
from serve_app.exchange import expected_version as _version
from serve_app.exchange import json_body as _json_body
from serve_app.exchange import json_response as _json
from serve_app.exchange import scope_of as _scope
from serve_app.gate import Gate
from serve_app.gated_route import behind
from serve_app.graphql import add_graphql
from serve_app.openapi import CIRCUITS, COLLECTION, KEY, QUERY, SCOPED, VERSION, WRITE, complete, documented, probe
from serve_app.problems import problem_response
from serve_app.request_log import Lines, RequestLog
from serve_app.routes_access import add_keys, add_watch
from serve_app.routes_collections import add_collections
from serve_app.routes_groups import add_groups
from serve_app.routes_states import add_states

KEY_HEADER = "idempotency-key"
WRITES = (*SCOPED, *WRITE)
UNANSWERED = {207: "Some were answered; ``items`` tells which, and what is wrong with the others."}
SOME = {207: "Some were written; ``items`` tells which, and what is wrong with the others."}
COMPRESSED_BYTES = 2_000
COMPRESSION_LEVEL = 1
"""An event loop compresses: level 9 takes four times as long for a tenth fewer bytes."""


class Cluster(Protocol):
    """What the HTTP layer asks of the cluster around it."""

    async def failing_parts(self) -> list[str]:
        """Return the names of the parts that are not ready."""

    async def exposition(self) -> bytes:
        """Return the metrics of all processes as Prometheus text."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Who is let in, the desks for keys and for what is watched, where a line for each request goes, and the room."""

    gate: Gate
    keys: KeyDesk
    watch: WatchDesk
    lines: Lines | None = None
    room: Admission | None = None


def build_app(api: Api, cluster: Cluster, registry: CollectorRegistry, max_body_bytes: int, doors: Doors) -> FastAPI:
    """Return the ASGI application. All routes but the docs are behind the gate."""
    app = FastAPIOffline(title="Quantum query cluster", version="2.0", redoc_url=None)
    app.router.route_class = behind(doors.gate)
    _add_vectors(app, api, max_body_bytes)
    _add_queries(app, api, max_body_bytes)
    _add_listing(app, api)
    _add_quantum(app, api, max_body_bytes)
    add_collections(app, api, max_body_bytes)
    add_groups(app, api, max_body_bytes)
    add_states(app, api)
    _add_jobs(app, api.jobs, max_body_bytes)
    add_keys(app, doors.keys, max_body_bytes)
    add_watch(app, doors.watch)
    add_graphql(app, api, doors.gate, max_body_bytes)
    _add_operations(app, cluster)
    _add_errors(app)
    app.add_middleware(GZipMiddleware, minimum_size=COMPRESSED_BYTES, compresslevel=COMPRESSION_LEVEL)
    if doors.room is not None:
        app.add_middleware(AdmissionGate, admission=doors.room, registry=registry)
    app.add_middleware(RequestLog, registry=registry, lines=doors.lines)
    complete(app)
    return app


def _add_vectors(app: FastAPI, api: Api, max_body_bytes: int) -> None:
    async def body(request: Request) -> object:
        return await _json_body(request, max_body_bytes)

    @app.post("/api/v2/vectors", **documented("insert", 201, WRITES, [KEY, COLLECTION]))
    async def insert(request: Request) -> Response:
        """Write one entity, replacing one with the same id."""
        key = request.headers.get(KEY_HEADER)
        return _json(await api.insert(await body(request), key, scope=_scope(request)), 201)

    @app.post("/api/v2/vectors/batch", **documented("insert_batch", 201, WRITES, [KEY, COLLECTION], SOME))
    async def insert_batch(request: Request) -> Response:
        """Write up to 1,000 entities: each for itself (207 when some are refused), or all or none as a transaction."""
        raw, key = await _batch_body(request, max_body_bytes), request.headers.get(KEY_HEADER)
        answer = await api.insert_batch(raw, key, scope=_scope(request))
        return _json(answer, 207 if answer.get("refused") else 201)

    @app.get("/api/v2/vectors/{entity_id:path}", **documented(parameters=[COLLECTION]))
    async def fetch(request: Request, entity_id: str) -> Response:
        """Return an entity. Its vectors are unit vectors."""
        entity = await api.fetch(entity_id, scope=_scope(request))
        return _json(entity, headers={"ETag": f'"{entity["version"]}"'})

    @app.patch(
        "/api/v2/vectors/{entity_id:path}", **documented("update", errors=WRITES, parameters=[KEY, VERSION, COLLECTION])
    )
    async def update(request: Request, entity_id: str) -> Response:
        """Replace fields of an entity; with If-Match, only one of that version."""
        key = request.headers.get(KEY_HEADER)
        answer = await api.update(entity_id, await body(request), _version(request), key, scope=_scope(request))
        return _json(answer, headers={"ETag": f'"{answer["version"]}"'})

    @app.delete("/api/v2/vectors/{entity_id:path}", **documented(errors=WRITES, parameters=[VERSION, COLLECTION]))
    async def delete(request: Request, entity_id: str) -> Response:
        """Delete an entity, of the version that If-Match says if it is there."""
        return _json(await api.delete(entity_id, _version(request), scope=_scope(request)))

    @app.post("/api/v2/transactions", **documented("transact", 201, WRITES, [KEY, COLLECTION]))
    async def transact(request: Request) -> Response:
        """Insert, update, delete and entangle, all or nothing: nobody sees a part of it."""
        return _json(
            await api.transact(await body(request), request.headers.get(KEY_HEADER), scope=_scope(request)), 201
        )


def _add_queries(app: FastAPI, api: Api, max_body_bytes: int) -> None:
    async def body(request: Request) -> object:
        return await _json_body(request, max_body_bytes)

    @app.post("/api/v2/query", **documented("query", errors=[*SCOPED, *QUERY], parameters=[COLLECTION]))
    async def query(request: Request) -> Response:
        """Find the entities nearest to a vector, in a context or in none."""
        return _json(await api.query(await body(request), scope=_scope(request)))

    @app.post(
        "/api/v2/query/batch", **documented("query_batch", errors=SCOPED, parameters=[COLLECTION], also=UNANSWERED)
    )
    async def query_batch(request: Request) -> Response:
        """Answer up to 1,000 queries, each for itself (207 when some are not answered)."""
        answer = await api.query_batch(await body(request), scope=_scope(request))
        return _json(answer, 207 if answer["failed"] else 200)

    @app.post(
        "/api/v2/transactions/query", **documented("query_under", errors=[*SCOPED, *QUERY], parameters=[COLLECTION])
    )
    async def query_under(request: Request) -> Response:
        """Answer a query as if operations had taken place. Nothing is written."""
        return _json(await api.query_under(await body(request), scope=_scope(request)))


def _add_listing(app: FastAPI, api: Api) -> None:
    @app.get("/api/v2/vectors", **documented(parameters=[COLLECTION]))
    async def scroll(request: Request, cursor: str | None = None, limit: int = 100, vectors: bool = True) -> Response:
        """List all entities; ``next`` is the cursor of the next page. An entity that stays comes exactly once."""
        page = {"cursor": cursor, "limit": limit, "vectors": vectors}
        return _json(await api.scroll(page, scope=_scope(request)))


def _add_quantum(app: FastAPI, api: Api, max_body_bytes: int) -> None:
    @app.post("/api/v2/batch", **documented("execute_batch", errors=[*SCOPED, *CIRCUITS]))
    async def execute_batch(request: Request) -> Response:
        """Encode, entangle and measure in one circuit where the qubits allow, and tell the saving."""
        return _json(await api.execute_batch(await _json_body(request, max_body_bytes), scope=_scope(request)))

    @app.get("/api/v2/circuits/{key}", **documented())
    async def circuit(key: str, format: str = "text") -> Response:  # noqa: A002 - the name that callers use
        """Return the structure of circuits that a query has run: as text, svg or qasm3."""
        text, media_type = await api.circuit(key, format)
        return Response(text, media_type=media_type)


def _add_jobs(app: FastAPI, jobs: JobCalls, max_body_bytes: int) -> None:
    @app.post("/api/v2/jobs", **documented("submit_job", 202, [*SCOPED, *WRITE, *CIRCUITS], [KEY]))
    async def submit_job(request: Request) -> Response:
        """Take a quantum job. It is kept over restarts; ask for it at the Location."""
        body, key = await _json_body(request, max_body_bytes), request.headers.get(KEY_HEADER)
        job = await jobs.submit(body, key, scope=_scope(request))
        return _json(job, 202, {"Location": f"/api/v2/jobs/{job['id']}"})

    @app.post("/api/v2/jobs/estimate", **documented("submit_job", errors=[*SCOPED, *CIRCUITS]))
    async def estimate_job(request: Request) -> Response:
        """Tell what a job would cost, by published prices and by the provider's word. Nothing is submitted."""
        return _json(await jobs.estimate(await _json_body(request, max_body_bytes), scope=_scope(request)))

    @app.get("/api/v2/jobs", **documented())
    async def list_jobs(
        request: Request, cursor: str | None = None, limit: int = 100, status: str | None = None
    ) -> Response:
        """List jobs, newest first, without their results; ``next`` is the cursor of the next page."""
        asked = {"cursor": cursor, "limit": limit, "status": status}
        return _json(await jobs.list(asked, scope=_scope(request)))

    @app.get("/api/v2/jobs/{job_id}", **documented())
    async def job(request: Request, job_id: str) -> Response:
        """Return a job, with its result once it has one."""
        return _json(await jobs.get(job_id, scope=_scope(request)))

    @app.post("/api/v2/jobs/{job_id}/cancel", **documented(errors=[*SCOPED, *WRITE]))
    async def cancel_job(request: Request, job_id: str) -> Response:
        """Cancel a job, also at the provider. One that has ended stays as it is."""
        return _json(await jobs.cancel(job_id, scope=_scope(request)))

    @app.get("/api/v2/costs", **documented())
    async def costs(request: Request, since: str | None = None, until: str | None = None) -> Response:
        """Return what was spent, by day (UTC) and backend, and what is left of today."""
        return _json(await jobs.costs({"since": since, "until": until}, scope=_scope(request)))

    @app.get("/api/v2/backends", **documented())
    async def backends() -> Response:
        """Return the state of each backend: its breaker, jobs in flight, and the wait for a place."""
        return _json(await jobs.backends())

    @app.put("/api/v2/backends/{name}/breaker", **documented("set_breaker"))
    async def set_breaker(request: Request, name: str) -> Response:
        """Open or close a backend's breaker by hand, or give it back to itself."""
        return _json(await jobs.set_breaker(name, await _json_body(request, max_body_bytes)))


def _add_operations(app: FastAPI, cluster: Cluster) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        """Tell that this replica answers."""
        return _json({"status": "ok"})

    @app.get("/readyz", **probe())
    async def readyz() -> Response:
        """Tell whether every part of the cluster is ready."""
        failing = await cluster.failing_parts()
        return _json({"status": "not ready" if failing else "ready", "failing": failing}, 503 if failing else 200)

    @app.get("/metrics", **documented())
    async def metrics() -> Response:
        """Return the metrics of all processes as Prometheus text."""
        return Response(await cluster.exposition(), media_type=CONTENT_TYPE)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(QuantumDBError)
    async def known(request: Request, error: QuantumDBError) -> Response:
        headers = {} if error.retry_after_s is None else {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
        if isinstance(error, Unauthenticated):
            headers["WWW-Authenticate"] = "Bearer"
        return problem_response(request, error.problem(), headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        found = [FieldError(".".join(map(str, one["loc"][1:])), str(one["msg"])) for one in error.errors()[:20]]
        told = "; ".join(f"{one.path}: {one.message}" for one in found[:3])
        return problem_response(request, InvalidRequest(told, errors=found).problem(), {})

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        if error.status_code == NotFound.status:
            return problem_response(request, NotFound(f"there is no route {request.url.path!r}").problem(), {})
        if error.status_code == MethodNotAllowed.status:
            allow = ", ".join(_methods(request))
            told = MethodNotAllowed(f"{request.url.path!r} has no {request.method}; it has {allow}")
            return problem_response(request, told.problem(), {"Allow": allow})
        body = {"type": "about:blank", "title": str(error.detail), "status": error.status_code}
        return problem_response(request, body, dict(error.headers or {}))


def _methods(request: Request) -> list[str]:
    """Return the methods of a path, of all routes that it fits: the router itself tells of one route's alone."""
    fitting = [
        one for one in request.app.routes if isinstance(one, Route) and one.matches(request.scope)[0] != Match.NONE
    ]
    return sorted({method for one in fitting for method in one.methods or ()})
