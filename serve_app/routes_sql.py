"""The routes of SQL databases, which the administrator's configuration names."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request, Response

from quantum_db.api import Api
from serve_app.exchange import json_body, json_response, scope_of
from serve_app.openapi import SQL, documented

UNANSWERED: Final = {207: "Some were answered; ``items`` tells which, and what is wrong with the others."}


def _parameter(name: str, description: str, example: str | None = None, *, required: bool = False) -> dict[str, Any]:
    told = {"name": name, "in": "query", "description": description, "schema": {"type": "string"}}
    return {**told, **({"required": True} if required else {}), **({} if example is None else {"example": example})}


DATABASE: Final = _parameter("database", "The name of the database.", "chinook", required=True)
QUESTION: Final = _parameter("question", "In words; or ``sql``.", "how many artists are there?")
STATEMENT: Final = _parameter("sql", "A statement that reads; or ``question``.")


def add_sql(app: FastAPI, api: Api, max_body_bytes: int) -> None:
    """Add the routes. A database that the tenant may not use is one that there is not."""

    async def answered(request: Request) -> Response:
        return json_response(await api.sql.query(await json_body(request, max_body_bytes), scope=scope_of(request)))

    @app.post("/api/v2/sql/query", **documented("sql_query", errors=SQL))
    async def sql_query(request: Request) -> Response:
        """Answer a question in words, or run a statement that reads."""
        return await answered(request)

    @app.post("/api/query", **documented("sql_query", errors=SQL))
    async def sql_asked(request: Request) -> Response:
        """Do the same as POST /api/v2/sql/query."""
        return await answered(request)

    @app.get("/api/query", **documented(errors=SQL, parameters=[DATABASE, QUESTION, STATEMENT]))
    async def sql_asked_by_url(
        request: Request, timeout_ms: int | None = None, max_rows: int | None = None
    ) -> Response:
        """Answer a question, or run a statement, that the URL holds."""
        given = {name: request.query_params.get(name) for name in ("database", "question", "sql")}
        body = {**given, "timeout_ms": timeout_ms, "max_rows": max_rows}
        request.state.about = body["database"] or ""
        asked = {name: value for name, value in body.items() if value is not None}
        return json_response(await api.sql.query(asked, scope=scope_of(request)))

    @app.post("/api/v2/sql/explain", **documented("sql_explain", errors=SQL))
    async def sql_explain(request: Request) -> Response:
        """Tell what would be run, in which order of joins, and how the engine would do it by itself. Nothing is run."""
        return json_response(await api.sql.explain(await json_body(request, max_body_bytes), scope=scope_of(request)))

    @app.get("/api/v2/sql/schema", **documented(errors=SQL, parameters=[DATABASE]))
    async def sql_schema(request: Request) -> Response:
        """Return the tables, columns and keys of a database that may be seen."""
        request.state.about = name = request.query_params.get("database", "")
        return json_response(await api.sql.schema({"database": name}, scope=scope_of(request)))

    @app.post("/api/v2/sql/batch", **documented("sql_batch", errors=SQL, also=UNANSWERED))
    async def sql_batch(request: Request) -> Response:
        """Answer up to 50 texts, what they share computed once where that pays (207 when some are not answered)."""
        answer = await api.sql.batch(await json_body(request, max_body_bytes), scope=scope_of(request))
        return json_response(answer, 207 if answer["failed"] else 200)
