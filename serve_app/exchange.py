"""What all routes share: reading a JSON body within its limit, who asks, and JSON answers."""

from __future__ import annotations

import re
from typing import Any

import orjson
from fastapi import Request, Response

from quantum_db.access.principal import Principal
from quantum_db.errors import BodyTooLarge, InvalidRequest
from quantum_db.scope import DEFAULT_COLLECTION, Scope


async def json_body(request: Request, max_bytes: int) -> object:
    """Read and decode the body, never holding more than ``max_bytes`` of it."""
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
        return orjson.loads(b"".join(chunks))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None


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
