"""What all routes share: reading a JSON body within its limit, who asks, and JSON answers."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson
from fastapi import Request, Response

from quantum_db.access.principal import Principal
from quantum_db.access.sizes import check_sizes
from quantum_db.errors import BodyTooLarge, InvalidRequest
from quantum_db.scope import DEFAULT_COLLECTION, Scope

_MANY: Final = ("vectors", "operations", "circuits")


async def json_body(request: Request, max_bytes: int) -> object:
    """Read and decode the body, never holding more than ``max_bytes`` of it, nor more than the caller is granted.

    Raises:
        BodyTooLarge: it is longer.
        InvalidRequest: it is no JSON, or asks for more than the caller is granted.
    """
    sizes = principal_of(request).sizes
    max_bytes = max_bytes if sizes.body_bytes is None else min(max_bytes, sizes.body_bytes)
    too_large = BodyTooLarge(f"the body is larger than {max_bytes} bytes; send fewer vectors at a time")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise too_large
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise too_large
        chunks.append(chunk)
    try:
        raw: object = orjson.loads(b"".join(chunks))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    request.state.about = about_body(raw)
    check_sizes(request.state.action, raw, sizes)
    return raw


def about_body(raw: object) -> str:
    """Return what a body is about, for the audit log: an id, or of how many things it is."""
    if not isinstance(raw, dict):
        return ""
    for name in ("id", "group_id", "name"):
        if isinstance(raw.get(name), str):
            return str(raw[name])
    return next((f"{len(raw[name])} {name}" for name in _MANY if isinstance(raw.get(name), list)), "")


def principal_of(request: Request) -> Principal:
    """Return who asks, as the gate found."""
    found: Principal = request.state.principal
    return found


def scope_of(request: Request) -> Scope:
    """Return the collection that a request is about (``?collection=``), of the tenant who asks."""
    return Scope(principal_of(request).tenant, request.query_params.get("collection", DEFAULT_COLLECTION))


def expected_version(request: Request) -> int | None:
    """Return the version that the caller expects (``If-Match``), if any."""
    given = request.headers.get("if-match")
    if given is None or given == "*":
        return None
    if not re.fullmatch(r'"[0-9]{1,18}"', given):
        raise InvalidRequest.at("if-match", 'must be a version in quotes, as the ETag says: "17"')
    return int(given[1:-1])


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON response."""
    return Response(orjson.dumps(value), status, headers, media_type="application/json")
