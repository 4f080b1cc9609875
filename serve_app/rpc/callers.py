"""Who calls, as gRPC tells it, and how a caller is told of errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import grpc
import orjson

from quantum_db.access.principal import Principal
from quantum_db.errors import Conflict, QuantumDBError
from serve_app.request_log import request_id_of

Json = dict[str, Any]

REQUEST_ID: Final = "x-request-id"
IDEMPOTENCY_KEY: Final = "idempotency-key"
FORWARDED: Final = "x-forwarded-for"
PROBLEM: Final = "problem-bin"
RETRY_AFTER: Final = "retry-after"

MAX_DETAIL_BYTES: Final = 600
MAX_PROBLEM_BYTES: Final = 3_072
"""Trailing metadata of more than 8 KiB is thrown away by clients, with the error in it. What is sent is a third more:
the problem is sent in base64, and each byte of the detail that is not ASCII as three."""

CODES: Final[Mapping[int, grpc.StatusCode]] = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    402: grpc.StatusCode.FAILED_PRECONDITION,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    502: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""By the status of the same problem over HTTP."""


@dataclass(slots=True)
class Caller:
    """One call from outside.

    Attributes:
        headers: the metadata, with names in lower case; of a name that is there twice, the first.
        peer: the caller's address, without its port.
        progress: what has been done by now of a call that is done in parts; an error tells it.
        principal: who it is, once the gate has found that.
    """

    headers: Mapping[str, str]
    peer: str
    request_id: str
    progress: Json = field(default_factory=dict)
    principal: Principal | None = None

    @classmethod
    def of(cls, metadata: Iterable[tuple[str, str | bytes]], peer: str, behind_proxy: bool) -> Caller:
        """Return the caller of a call.

        Args:
            metadata: of the call; what is binary is left out.
            peer: as gRPC writes it, ``ipv4:127.0.0.1:5000``.
            behind_proxy: whether a proxy stands in front, whose word on the address is taken; else nobody's is.
        """
        headers: dict[str, str] = {}
        for name, value in metadata:
            if isinstance(value, str):
                headers.setdefault(name.lower(), value)
        told = headers.get(FORWARDED, "").rpartition(",")[2].strip() if behind_proxy else ""
        return cls(headers, told or address_of(peer), request_id_of(headers.get(REQUEST_ID, "")))

    @property
    def key(self) -> str | None:
        """The idempotency key, if there is one."""
        return self.headers.get(IDEMPOTENCY_KEY)


def address_of(peer: str) -> str:
    """Return the address in what gRPC calls a peer: ``ipv4:127.0.0.1:5000``, ``ipv6:[::1]:5000``, brackets quoted."""
    kind, _, rest = unquote(peer).partition(":")
    if kind == "ipv4":
        return rest.rpartition(":")[0]
    if kind == "ipv6":
        return rest.rpartition("]")[0].removeprefix("[")
    return kind


def code_of(error: QuantumDBError) -> grpc.StatusCode:
    """Return the code that tells of an error. A conflict may be mended by reading anew, as ABORTED says."""
    if isinstance(error, Conflict):
        return grpc.StatusCode.ABORTED
    return CODES.get(error.status, grpc.StatusCode.UNKNOWN)


def detail_of(error: QuantumDBError) -> str:
    """Return the message of an error, as long as fits into trailing metadata."""
    return error.detail.encode()[:MAX_DETAIL_BYTES].decode(errors="ignore")


def trailers_of(error: QuantumDBError, caller: Caller) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata of a failed call: the problem that REST answers with, as far as there is room."""
    problem: Json = {**error.problem(), "request_id": caller.request_id, **caller.progress}
    problem["detail"] = detail_of(error)
    while len(encoded := orjson.dumps(problem)) > MAX_PROBLEM_BYTES and problem.get("errors"):
        problem["errors"] = problem["errors"][:-1]
    trailers: list[tuple[str, str | bytes]] = [(REQUEST_ID, caller.request_id), (PROBLEM, encoded)]
    if error.retry_after_s is not None:
        trailers.append((RETRY_AFTER, str(max(1, math.ceil(error.retry_after_s)))))
    return tuple(trailers)
