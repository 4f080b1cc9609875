"""The routes of states and sessions."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from quantum_db.api import Api
from serve_app.exchange import json_response, scope_of
from serve_app.openapi import COLLECTION, documented


def add_states(app: FastAPI, api: Api) -> None:
    """Add the routes."""

    @app.get("/api/v2/states/{entity_id:path}", **documented(parameters=[COLLECTION]))
    async def state(request: Request, entity_id: str) -> Response:
        """Return where the state of an entity stands in its lifecycle, and the instances before it."""
        return json_response(await api.state(entity_id, scope=scope_of(request)))

    @app.get("/api/v2/sessions/{session_id:path}", **documented(parameters=[COLLECTION]))
    async def session(request: Request, session_id: str) -> Response:
        """Return what a session of the tenant has measured, and how it sees the weights of moved entities."""
        return json_response(await api.session(session_id, scope=scope_of(request)))

    @app.delete("/api/v2/sessions/{session_id:path}", **documented(parameters=[COLLECTION]))
    async def end_session(request: Request, session_id: str) -> Response:
        """End a session of the tenant. One that has ended stays so."""
        return json_response(await api.end_session(session_id, scope=scope_of(request)))
