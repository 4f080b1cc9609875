"""The routes of collections."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from quantum_db.api import Api
from serve_app.exchange import json_body, json_response, scope_of
from serve_app.openapi import CREATE, SCOPED, WRITE, documented


def add_collections(app: FastAPI, api: Api, max_body_bytes: int) -> None:
    """Add the routes. A tenant sees its own collections, and no other one's."""

    @app.post("/api/v2/collections", **documented("create_collection", 201, [*SCOPED, *CREATE]))
    async def create_collection(request: Request) -> Response:
        """Create a collection, of a fixed dimension or of that of its first vector."""
        body = await json_body(request, max_body_bytes)
        return json_response(await api.create_collection(body, scope=scope_of(request)), 201)

    @app.get("/api/v2/collections", **documented())
    async def list_collections(request: Request, cursor: str = "", limit: int = 100) -> Response:
        """List collections by name; ``next`` is the cursor of the next page."""
        return json_response(await api.list_collections({"cursor": cursor, "limit": limit}, scope=scope_of(request)))

    @app.get("/api/v2/collections/{name}", **documented())
    async def collection(request: Request, name: str) -> Response:
        """Return a collection, with the number of its entities."""
        return json_response(await api.collection(name, scope=scope_of(request)))

    @app.delete("/api/v2/collections/{name}", **documented(errors=[*SCOPED, *WRITE]))
    async def drop_collection(request: Request, name: str) -> Response:
        """Delete a collection with all that is in it: vectors, groups and sessions."""
        return json_response(await api.drop_collection(name, scope=scope_of(request)))
