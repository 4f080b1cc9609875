"""Who calls, by metadata and peer, and the codes and trailers that tell of errors."""

from __future__ import annotations

import base64
from urllib.parse import quote

import grpc
import orjson
import pytest

from quantum_db.errors import (
    BudgetExceeded,
    Conflict,
    FieldError,
    InvalidRequest,
    NotFound,
    QuantumDBError,
    TooMany,
    TooManyRequests,
)
from serve_app.rpc.callers import CODES, Caller, address_of, code_of, detail_of, trailers_of
from tests.unit.test_requests import every_error

METADATA = (("api-key", "one"), ("Api-Key", "two"), ("x-request-id", "r-1"), ("trace-bin", b"\0"), ("x-tenant", "a"))


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:5000", "127.0.0.1"),
        ("ipv6:[::1]:5000", "::1"),
        ("ipv6:%5B2001:db8::7%5D:5000", "2001:db8::7"),
        ("unix:/tmp/socket", "unix"),
        ("unix:", "unix"),
        ("", ""),
    ],
)
def test_the_address_of_a_peer_is_without_its_port(peer: str, address: str) -> None:
    assert address_of(peer) == address


def test_a_caller_is_what_its_metadata_tells() -> None:
    caller = Caller.of(METADATA, "ipv4:127.0.0.1:5000", behind_proxy=False)
    assert caller.headers == {"api-key": "one", "x-request-id": "r-1", "x-tenant": "a"}
    assert (caller.peer, caller.request_id, caller.key) == ("127.0.0.1", "r-1", None)
    assert Caller.of([("idempotency-key", "k")], "", behind_proxy=False).key == "k"


@pytest.mark.parametrize("given", ["", "x" * 129, "two\nlines", "ö"])
def test_a_request_id_that_cannot_be_one_is_replaced(given: str) -> None:
    assert len(Caller.of([("x-request-id", given)], "", behind_proxy=False).request_id) == 32


def test_only_a_proxy_in_front_is_believed_where_a_call_comes_from() -> None:
    metadata = [("x-forwarded-for", "10.0.0.9, 10.0.0.1")]
    assert Caller.of(metadata, "ipv4:127.0.0.1:5000", behind_proxy=True).peer == "10.0.0.1"
    assert Caller.of([], "ipv4:127.0.0.1:5000", behind_proxy=True).peer == "127.0.0.1"
    assert Caller.of(metadata, "ipv4:127.0.0.1:5000", behind_proxy=False).peer == "127.0.0.1", "a caller's own word"


def test_every_error_has_a_code() -> None:
    for kind in every_error():
        assert kind.status in CODES, kind
        assert code_of(kind("so")) not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN), kind


def test_codes_say_what_a_caller_may_do() -> None:
    assert code_of(NotFound("")) is grpc.StatusCode.NOT_FOUND
    assert code_of(Conflict("")) is grpc.StatusCode.ABORTED, "read again, and try again"
    assert code_of(TooMany("")) is code_of(BudgetExceeded("")) is grpc.StatusCode.FAILED_PRECONDITION
    assert code_of(TooManyRequests("")) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_trailers_hold_the_problem_of_rest_and_when_to_come_again() -> None:
    caller = Caller({}, "127.0.0.1", "r-1", {"written": 7})
    trailers = dict(trailers_of(TooManyRequests("slower", retry_after_s=1.2), caller))
    assert (trailers["x-request-id"], trailers["retry-after"]) == ("r-1", "2")
    assert orjson.loads(trailers["problem-bin"]) == {
        "type": "urn:quantum-db:problem:too-many-requests",
        "title": "Too many requests",
        "status": 429,
        "detail": "slower",
        "request_id": "r-1",
        "written": 7,
    }
    assert "retry-after" not in dict(trailers_of(NotFound("no"), caller))


@pytest.mark.parametrize("letter", ["x", "ö", "\U0001f600", '"'])
def test_trailers_of_any_error_are_smaller_than_what_clients_take(letter: str) -> None:
    errors = [FieldError(f"vectors[{n}].contexts[0].{letter * 100}", letter * 200) for n in range(20)]
    error = InvalidRequest(letter * 5_000, errors=errors)
    trailers = dict(trailers_of(error, Caller({}, "", "r" * 128)))
    told = orjson.loads(trailers["problem-bin"])
    assert 0 < len(told["errors"]) < 20
    assert told["errors"][0] == {"path": errors[0].path, "message": errors[0].message}
    sent = len(quote(detail_of(error))) + sum(len(name) + 32 for name in trailers)
    sent += sum(len(base64.b64encode(v)) if isinstance(v, bytes) else len(v) for v in trailers.values())
    assert sent < 8_192


def test_the_whole_detail_is_told_where_it_fits() -> None:
    assert detail_of(QuantumDBError("ö" * 300)) == "ö" * 300
    assert detail_of(QuantumDBError("ö" * 301)) == "ö" * 300
