"""What all routes share: reading a body within its limit, who asks, and JSON answers."""

from __future__ import annotations

import re
import zlib
from typing import Any, Final

import orjson
from fastapi import Request, Response

from quantum_db.access.principal import Principal
from quantum_db.access.sizes import check_sizes
from quantum_db.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType
from quantum_db.frames import FRAME, batch_of
from quantum_db.scope import DEFAULT_COLLECTION, Scope

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
"""What ``curl -d`` says of any body unless it is told otherwise."""
_MANY: Final = ("vectors", "queries", "operations", "circuits")


async def json_body(request: Request, max_bytes: int) -> object:
    """Read and decode a JSON body, which may be compressed.

    Raises:
        BodyTooLarge: it is longer than ``max_bytes``, or than the caller is granted.
        InvalidRequest: it is no JSON, or asks for more than the caller is granted.
        UnsupportedMediaType: it is said to be something else, or compressed in a way that is not known here.
    """
    _check_kind(_kind(request), JSON)
    return _granted(request, _decoded(await _body(request, max_bytes)))


async def batch_body(request: Request, max_bytes: int) -> object:
    """Read and decode the body of a batch of entities: JSON, or a frame of bytes (``quantum_db.frames``).

    Raises what ``json_body`` raises.
    """
    kind = _kind(request)
    _check_kind(kind, JSON, FRAME)
    body = await _body(request, max_bytes)
    return _granted(request, batch_of(body) if kind == FRAME else _decoded(body))


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_kind(kind: str, *read: str) -> None:
    if kind not in (*read, FORM, "") and not kind.endswith("+json"):
        raise UnsupportedMediaType(f"content-type {kind[:40]!r} is not read here; send {' or '.join(read)}")


def _decoded(body: bytes) -> object:
    try:
        raw: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    return raw


def _granted(request: Request, raw: object) -> object:
    request.state.about = about_body(raw)
    check_sizes(request.state.action, raw, principal_of(request).sizes)
    return raw


async def _body(request: Request, max_bytes: int) -> bytes:
    """Return the body, uncompressed, never holding more than ``max_bytes`` of it, nor more than is granted."""
    granted = principal_of(request).sizes.body_bytes
    max_bytes = max_bytes if granted is None else min(max_bytes, granted)
    too_large = BodyTooLarge(f"the body is larger than {max_bytes} bytes; send fewer vectors at a time")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise too_large
    gunzip = _decompressor(request)
    chunks, size = [], 0
    async for chunk in request.stream():
        try:
            plain = chunk if gunzip is None else gunzip.decompress(chunk, max_bytes - size + 1)
        except zlib.error as error:
            raise InvalidRequest(f"the body is not valid gzip: {error}") from None
        size += len(plain)
        if size > max_bytes:
            raise too_large
        chunks.append(plain)
    if gunzip is not None and (not gunzip.eof or gunzip.unused_data):
        raise InvalidRequest("the body is not one whole gzip stream")
    return b"".join(chunks)


def _decompressor(request: Request) -> zlib._Decompress | None:
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding == "identity":
        return None
    if coding != "gzip":
        raise UnsupportedMediaType(f"content-encoding {coding[:40]!r} is not known here; send gzip, or leave it out")
    return zlib.decompressobj(zlib.MAX_WBITS | 16)


def about_body(raw: object) -> str:
    """Return what a body is about, for the audit log: an id, or of how many things it is."""
    if not isinstance(raw, dict):
        return ""
    for name in ("id", "group_id", "name", "database"):
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
