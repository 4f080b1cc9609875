"""The schema of each operation's usual answer, for /openapi.json. Nothing here runs when a request is answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.routing import BaseRoute

from quantum_db.circuits.drawing import FORMS
from quantum_db.telemetry import CONTENT_TYPE
from serve_app import answers as stored
from serve_app import answers_of_sql as sql
from serve_app import answers_of_work as work

Json = dict[str, Any]

REF: Final = "#/components/schemas/{model}"
ANSWERS: Final[Mapping[str, Any]] = {
    "insert": stored.Written,
    "insert_batch": stored.BatchWritten,
    "fetch": stored.StoredEntity,
    "update": stored.Updated,
    "delete": stored.Deleted,
    "query": work.QueryAnswered,
    "query_batch": work.BatchAnswered,
    "transact": stored.Committed,
    "query_under": work.QueryAnswer,
    "scroll": stored.EntityPage,
    "execute_batch": work.CircuitsRun,
    "submit_job": work.JobSeen,
    "estimate_job": work.JobEstimated,
    "list_jobs": work.JobList,
    "job": work.JobSeen,
    "cancel_job": work.JobSeen,
    "costs": work.Costs,
    "backends": dict[str, work.BackendSeen],
    "set_breaker": dict[str, work.BackendSeen],
    "healthz": work.Health,
    "readyz": work.Readiness,
    "create_key": work.KeyMade,
    "list_keys": work.KeyList,
    "revoke_key": work.KeySettled,
    "rotate_key": work.KeyMade,
    "list_blocks": work.BlockList,
    "lift_block": work.BlockLifted,
    "audit_head": work.AuditHead,
    "create_collection": stored.CollectionSeen,
    "list_collections": stored.CollectionPage,
    "collection": stored.CollectionCounted,
    "drop_collection": stored.CollectionGone,
    "create_group": stored.Group,
    "list_groups": stored.GroupPage,
    "group": stored.Group,
    "update_group": stored.Group | stored.GroupGone,
    "delete_group": stored.GroupGone,
    "measure_group": work.GroupMeasured,
    "state": stored.StateSeen,
    "session": stored.SessionSeen,
    "end_session": stored.SessionEnded,
    "graphql": work.GraphQLAnswered,
    "sql_query": sql.SqlAnswered,
    "sql_asked": sql.SqlAnswered,
    "sql_asked_by_url": sql.SqlAnswered,
    "sql_explain": sql.SqlExplained,
    "sql_schema": sql.SqlSchemaSeen,
    "sql_batch": sql.SqlBatchAnswered,
}
"""By the name of the route's function. A route of JSON that is not here fails when the schema is made."""
TEXTS: Final[Mapping[str, frozenset[str]]] = {
    "circuit": frozenset(FORMS.values()),
    "metrics": frozenset({CONTENT_TYPE}),
}
"""The media types of what is no JSON."""
SOMETIMES: Final[Mapping[str, frozenset[str]]] = {"Refinement": frozenset({"plan"})}
"""Of the dataclasses that are shown as they are and have defaults: the fields that answers may leave out."""


def describe(found: Json, routes: list[BaseRoute]) -> None:
    """Add the schemas of answers, and of what they are made of, and name operations as the calls are named."""
    known = found["components"]["schemas"]
    _own(stored.Problem, known)
    for route, operation in _operations(found, routes):
        operation["operationId"] = route.name
        content = _content(route.name, known)
        for status, answer in operation["responses"].items():
            if not any(kind.endswith("problem+json") for kind in answer.get("content", {})):
                answer["content"] = content
                assert int(status) < 400 or route.name == "readyz", f"{route.name} has no problem of {status}"


def _operations(found: Json, routes: list[BaseRoute]) -> Iterator[tuple[APIRoute, Json]]:
    for route in routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                yield route, found["paths"][route.path_format][method.lower()]


def _content(name: str, known: Json) -> Json:
    if name in TEXTS:
        return {kind: {"schema": {"type": "string"}} for kind in sorted(TEXTS[name])}
    return {"application/json": {"schema": _own(ANSWERS[name], known)}}


def _own(kind: Any, known: Json) -> Json:
    """Return the schema of a type; those that it refers to become known."""
    own = TypeAdapter(kind).json_schema(ref_template=REF)
    for name, inner in own.pop("$defs", {}).items():
        known[name] = _whole(name, inner)
    title = own.get("title")
    if title is None or "properties" not in own:
        return own
    known[title] = own
    return {"$ref": REF.format(model=title)}


def _whole(name: str, schema: Json) -> Json:
    """Return a schema, with the fields required that have defaults where they are arguments."""
    if name not in SOMETIMES:
        return schema
    return {**schema, "required": [one for one in schema["properties"] if one not in SOMETIMES[name]]}
