"""The calls of the API as HTTP requests, and which of them may be repeated. One table for all transports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

API: Final = "/api/v2"


@dataclass(frozen=True, slots=True)
class Route:
    """A call of ``quantum_db.api`` as an HTTP request.

    Attributes:
        verb: GET, POST, PATCH, PUT or DELETE.
        path: below ``/api/v2``; names in braces are arguments.
        arguments: the call's positional arguments by name. Of those that are not in the path, ``body`` is sent as the
            body, ``page`` as query parameters, and ``expected_version`` as ``If-Match``.
        takes_key: its last argument is an idempotency key, under which it is done once.
        repeatable: it may be made again when it is not known whether it took place. Others are made again only when
            they certainly did not.
        writes: what queries answer may be another thing afterwards.
    """

    verb: str
    path: str
    arguments: tuple[str, ...] = ()
    takes_key: bool = False
    repeatable: bool = True
    writes: bool = False


ROUTES: Final[Mapping[str, Route]] = MappingProxyType(
    {
        "insert": Route("POST", "/vectors", ("body",), writes=True),
        "insert_batch": Route("POST", "/vectors/batch", ("body",), takes_key=True, writes=True),
        "fetch": Route("GET", "/vectors/{entity_id}", ("entity_id",)),
        "scroll": Route("GET", "/vectors", ("page",)),
        "update": Route(
            "PATCH",
            "/vectors/{entity_id}",
            ("entity_id", "body", "expected_version"),
            takes_key=True,
            writes=True,
        ),
        "delete": Route("DELETE", "/vectors/{entity_id}", ("entity_id",), repeatable=False, writes=True),
        "query": Route("POST", "/query", ("body",)),
        "query_batch": Route("POST", "/query/batch", ("body",)),
        "transact": Route("POST", "/transactions", ("body",), takes_key=True, writes=True),
        "query_under": Route("POST", "/transactions/query", ("body",)),
        "execute_batch": Route("POST", "/batch", ("body",), repeatable=False),
        "create_group": Route("POST", "/entanglement/groups", ("body",), writes=True),
        "list_groups": Route("GET", "/entanglement/groups", ("page",)),
        "group": Route("GET", "/entanglement/groups/{group_id}", ("group_id",)),
        "update_group": Route(
            "PATCH", "/entanglement/groups/{group_id}", ("group_id", "body"), repeatable=False, writes=True
        ),
        "delete_group": Route(
            "DELETE",
            "/entanglement/groups/{group_id}",
            ("group_id", "expected_version"),
            repeatable=False,
            writes=True,
        ),
        "measure_group": Route(
            "POST", "/entanglement/groups/{group_id}/measure", ("group_id", "body"), repeatable=False
        ),
        "create_collection": Route("POST", "/collections", ("body",)),
        "list_collections": Route("GET", "/collections", ("page",)),
        "collection": Route("GET", "/collections/{name}", ("name",)),
        "drop_collection": Route("DELETE", "/collections/{name}", ("name",), repeatable=False, writes=True),
        "state": Route("GET", "/states/{entity_id}", ("entity_id",)),
        "session": Route("GET", "/sessions/{session_id}", ("session_id",)),
        "end_session": Route("DELETE", "/sessions/{session_id}", ("session_id",)),
        "jobs.submit": Route("POST", "/jobs", ("body",), takes_key=True),
        "jobs.estimate": Route("POST", "/jobs/estimate", ("body",)),
        "jobs.list": Route("GET", "/jobs", ("page",)),
        "jobs.get": Route("GET", "/jobs/{job_id}", ("job_id",)),
        "jobs.cancel": Route("POST", "/jobs/{job_id}/cancel", ("job_id",)),
        "jobs.costs": Route("GET", "/costs", ("page",)),
        "jobs.backends": Route("GET", "/backends"),
        "sql.query": Route("POST", "/sql/query", ("body",)),
        "sql.explain": Route("POST", "/sql/explain", ("body",)),
        "sql.schema": Route("GET", "/sql/schema", ("page",)),
        "sql.batch": Route("POST", "/sql/batch", ("body",)),
        "jobs.set_breaker": Route("PUT", "/backends/{name}/breaker", ("name", "body")),
    }
)
