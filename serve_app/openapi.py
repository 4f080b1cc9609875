"""What /openapi.json says of bodies and problems. Bodies are read by hand, so their schemas are added by hand too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from quantum_db.access.policy import RULES
from quantum_db.api import BODIES
from quantum_db.errors import (
    BodyTooLarge,
    BreakerOpen,
    BudgetExceeded,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    InvalidCircuit,
    InvalidRequest,
    JobCanceled,
    JobFailed,
    NoSuchCollection,
    NotFound,
    OutcomeUnclear,
    Overloaded,
    QuantumDBError,
    TooMany,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnknownContext,
    UnsupportedMediaType,
)
from quantum_db.frames import FRAME
from serve_app.answer_schemas import REF, describe
from serve_app.openapi_links import link

Errors = Sequence[type[QuantumDBError]]
Json = dict[str, Any]

PROBLEM: Final = "application/problem+json"
EXAMPLE_ID: Final = "5f0c8e1f6d1b4b6c8a3d2e4f5a6b7c8d"
ALWAYS: Errors = (QuantumDBError, Overloaded)
GATED: Errors = (Unauthenticated, Forbidden, TooManyRequests, InvalidRequest, Unavailable)
"""What the gate answers, and with it every call that passes it."""
SCOPED: Errors = (NoSuchCollection, NotFound, TooMany)
"""What every call about something stored may answer: the first one makes the tenant's collection ``default``."""
CIRCUITS: Errors = (
    *(BudgetExceeded, InvalidCircuit, JobCanceled, JobFailed, OutcomeUnclear),
    *(BreakerOpen, DeadlineExceeded),
)
"""What a call that runs circuits may answer, besides."""
QUERY: Errors = (UnknownContext, Conflict, *CIRCUITS)
WRITE: Errors = (Conflict,)
NOTHING_ELSE: Final[Mapping[int, str]] = {}
CREATE: Errors = (Conflict, TooMany)

FRAMES: Final = frozenset({"insert_batch"})
"""Calls whose body may also be bytes; see ``quantum_db.frames``."""

KEY: Final[Json] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key and body again is answered as the first time, and done once; another body is refused.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
VERSION: Final[Json] = {
    "name": "If-Match",
    "in": "header",
    "description": "The version that is expected, as the ETag says it; * for any.",
    "schema": {"type": "string", "pattern": r'^(\*|"[0-9]{1,18}")$'},
}
COLLECTION: Final[Json] = {
    "name": "collection",
    "in": "query",
    "description": "The collection that the call is about.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 64, "default": "default"},
}
_SCHEMES: Final[Json] = {
    "key": {"type": "apiKey", "in": "header", "name": "api-key"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "a key, or a token of the identity provider"},
}


def _tell_access(operation: Json) -> None:
    """Add who may call an operation."""
    action = str(operation.get("x-action"))
    if action in RULES:
        operation["security"] = [{"key": []}, {"bearer": []}]
        operation["x-role"] = RULES[action].role.label


def documented(
    body: str | None = None,
    status: int = 200,
    errors: Errors = SCOPED,
    parameters: Sequence[Json] = (),
    also: Mapping[int, str] = NOTHING_ELSE,
) -> Json:
    """Return the route arguments that document a route.

    Args:
        body: the API call whose body it takes, of ``BODIES``.
        status: of its usual answer.
        errors: what it may answer beside what the gate does, and what any body may lead to.
        parameters: headers and query parameters that are read by hand.
        also: further answers that are none of a fault, and what they mean.
    """
    extra: Json = {"parameters": list(parameters)} if parameters else {}
    own = [*ALWAYS, *GATED, *errors]
    if body is not None:
        kind = BODIES[body]
        given: Json = {"schema": {"$ref": REF.format(model=kind.__name__)}}
        example = kind.model_config.get("json_schema_extra")
        if isinstance(example, dict):
            given["example"] = example["example"]
        extra["requestBody"] = {"required": True, "content": {"application/json": given}}
        if body in FRAMES:
            extra["requestBody"]["content"][FRAME] = {"schema": {"type": "string", "format": "binary"}}
        own += [BodyTooLarge, UnsupportedMediaType]
    return {
        "status_code": status,
        "openapi_extra": extra,
        "responses": {
            **{number: _told(meaning) for number, meaning in also.items()},
            **{number: _problems(number, own) for number in sorted({kind.status for kind in own})},
        },
    }


def _told(meaning: str) -> Json:
    return {"description": meaning}


def probe() -> Json:
    """Return the route arguments of what load balancers ask, who show no credential: it may be answered with 503."""
    return {"responses": {503: _told("A part is not ready.")}}


def example_of(kind: type[QuantumDBError]) -> Json:
    """Return a problem as it would be told."""
    told = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    error = kind.at("vector", "is the zero vector, which has no direction") if kind is InvalidRequest else kind(told)
    return {**error.problem(), "instance": "/api/v2/query", "request_id": EXAMPLE_ID}


def _problems(status: int, kinds: Errors) -> Json:
    here = [kind for kind in dict.fromkeys(kinds) if kind.status == status]
    examples = {kind.slug: {"summary": kind.title, "value": example_of(kind)} for kind in here}
    content = {PROBLEM: {"schema": {"$ref": REF.format(model="Problem")}, "examples": examples}}
    found: Json = {"description": "; ".join(kind.title for kind in here), "content": content}
    if status in (TooManyRequests.status, Unavailable.status):
        found["headers"] = {"Retry-After": {"description": "In seconds.", "schema": {"type": "integer", "minimum": 1}}}
    return found


def complete(app: FastAPI) -> None:
    """Make ``app.openapi()`` return the schema with the components that ``documented`` refers to."""

    def schema() -> Json:
        if app.openapi_schema is None:
            found = get_openapi(title=app.title, version=app.version, routes=app.routes)
            components = found.setdefault("components", {}).setdefault("schemas", {})
            for kind in BODIES.values():
                own = kind.model_json_schema(ref_template=REF)
                components.update(own.pop("$defs", {}))
                components[kind.__name__] = own
            describe(found, app.routes)
            link(found)
            found["components"]["securitySchemes"] = _SCHEMES
            for operation in (one for methods in found["paths"].values() for one in methods.values()):
                _tell_access(operation)
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = schema  # type: ignore[method-assign]
