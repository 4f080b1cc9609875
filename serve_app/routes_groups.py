"""The routes of entanglement groups."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from quantum_db.api import Api, Json
from quantum_db.errors import InvalidRequest
from serve_app.exchange import expected_version, json_body, json_response, scope_of
from serve_app.openapi import CIRCUITS, COLLECTION, KEY, SCOPED, VERSION, WRITE, documented

WRITES = (*SCOPED, *WRITE)


def add_groups(app: FastAPI, api: Api, max_body_bytes: int) -> None:
    """Add the routes. A group's version is its ``ETag``, and ``If-Match`` says which one a change is meant for."""

    @app.post("/api/v2/entanglement/groups", **documented("create_group", 201, WRITES, [KEY, COLLECTION]))
    async def create_group(request: Request) -> Response:
        """Write an entanglement group of stored entities."""
        body, key = await json_body(request, max_body_bytes), request.headers.get("idempotency-key")
        return _with_version(await api.create_group(body, key, scope=scope_of(request)), 201)

    @app.get("/api/v2/entanglement/groups", **documented(parameters=[COLLECTION]))
    async def list_groups(request: Request, member: str | None = None, cursor: str = "", limit: int = 100) -> Response:
        """List groups by id, those of a member or all; ``next`` is the cursor of the next page."""
        page = {"member": member, "cursor": cursor, "limit": limit}
        return json_response(await api.list_groups(page, scope=scope_of(request)))

    @app.get("/api/v2/entanglement/groups/{group_id:path}", **documented(parameters=[COLLECTION]))
    async def group(request: Request, group_id: str) -> Response:
        """Return an entanglement group."""
        return _with_version(await api.group(group_id, scope=scope_of(request)))

    @app.patch(
        "/api/v2/entanglement/groups/{group_id:path}",
        **documented("update_group", errors=WRITES, parameters=[VERSION, COLLECTION]),
    )
    async def update_group(request: Request, group_id: str) -> Response:
        """Take members in, let members go, set the strength: as one, of the version that If-Match or the body says."""
        body = await json_body(request, max_body_bytes)
        version = expected_version(request)
        if isinstance(body, dict) and version is not None:
            body = {"expected_version": version, **body}
            if body["expected_version"] != version:
                raise InvalidRequest.at("expected_version", "contradicts If-Match; one of them is enough")
        return _with_version(await api.update_group(group_id, body, scope=scope_of(request)))

    @app.delete(
        "/api/v2/entanglement/groups/{group_id:path}", **documented(errors=WRITES, parameters=[VERSION, COLLECTION])
    )
    async def delete_group(request: Request, group_id: str) -> Response:
        """Delete a group, of the version that If-Match says if it is there."""
        return json_response(await api.delete_group(group_id, expected_version(request), scope=scope_of(request)))

    @app.post(
        "/api/v2/entanglement/groups/{group_id:path}/measure",
        **documented("measure_group", errors=[*SCOPED, *CIRCUITS], parameters=[COLLECTION]),
    )
    async def measure_group(request: Request, group_id: str) -> Response:
        """Run a group's circuit and return the correlations of its members."""
        body = await json_body(request, max_body_bytes)
        return json_response(await api.measure_group(group_id, body, scope=scope_of(request)))


def _with_version(group: Json, status: int = 200) -> Response:
    return json_response(group, status, {"ETag": f'"{group["version"]}"'})
