"""What /openapi.json says of bodies and problems. Bodies are read by hand, so their schemas are added by hand too."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from quantum_db.access.policy import RULES
from quantum_db.api import BODIES

_REF = "#/components/schemas/{model}"
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:quantum-db:problem:invalid-request"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


_SCHEMES: dict[str, Any] = {
    "key": {"type": "apiKey", "in": "header", "name": "api-key"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "a key, or a token of the identity provider"},
}


def _tell_access(operation: dict[str, Any]) -> None:
    """Add who may call an operation."""
    action = str(operation.get("x-action"))
    if action in RULES:
        operation["security"] = [{"key": []}, {"bearer": []}]
        operation["x-role"] = RULES[action].role.label


def documented(body: str | None = None, status: int = 200) -> dict[str, Any]:
    """Return the route arguments that document a route with the body of API call ``body``."""
    extra: dict[str, Any] = {}
    if body is not None:
        schema = {"$ref": _REF.format(model=BODIES[body].__name__)}
        extra = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
    problem = {"content": {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}}}
    return {
        "status_code": status,
        "openapi_extra": extra,
        "responses": {"default": {"description": "A problem", **problem}},
    }


def complete(app: FastAPI) -> None:
    """Make ``app.openapi()`` return the schema with the components that ``documented`` refers to."""

    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            components = app.openapi_schema.setdefault("components", {}).setdefault("schemas", {})
            components["Problem"] = _PROBLEM
            app.openapi_schema["components"]["securitySchemes"] = _SCHEMES
            for path in app.openapi_schema["paths"].values():
                for operation in path.values():
                    _tell_access(operation)
            for kind in BODIES.values():
                own = kind.model_json_schema(ref_template=_REF)
                components.update(own.pop("$defs", {}))
                components[kind.__name__] = own
        return app.openapi_schema

    app.openapi = schema  # type: ignore[method-assign]
