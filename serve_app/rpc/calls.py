"""The methods of the service that take one message and answer with one: which call of the API each makes."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from google.protobuf.message import Message

from quantum_db.api import Api
from quantum_db.errors import InvalidRequest
from quantum_db.scope import DEFAULT_COLLECTION, Scope
from serve_app.exchange import about_body
from serve_app.rpc import quantum_db_pb2 as pb
from serve_app.rpc.messages import Json, body_of

COLLECTION: Final = "collection"
STREAM: Final = "InsertStream"
SERVICE: Final = pb.DESCRIPTOR.services_by_name["QuantumDB"]


class Parts(Protocol):
    """What the service asks of the cluster around it."""

    async def failing_parts(self) -> list[str]:
        """Return the names of the parts that are not ready."""


@dataclass(frozen=True, slots=True)
class Backed:
    """What calls are answered from."""

    api: Api
    parts: Parts


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call asks for.

    Attributes:
        body: as REST takes it; what stands in the path of a REST request or in its headers is in ``at`` instead.
        tenant: of the caller, as the gate found.
    """

    body: Json
    at: Json
    key: str | None
    tenant: str

    @property
    def scope(self) -> Scope:
        """The collection that the call is about."""
        return Scope(self.tenant, self.at.get(COLLECTION, DEFAULT_COLLECTION))

    @property
    def version(self) -> int | None:
        """The version that the caller expects, if any."""
        found: int | None = self.at.get("expected_version")
        return found

    def name(self, field: str) -> str:
        """Return the id that a call is about. Raises InvalidRequest where it is not there."""
        found = self.at.get(field)
        if found is None:
            raise InvalidRequest.at(field, "is missing")
        return str(found)

    def about(self) -> str:
        """Return what the call is about, for the audit log."""
        named = (self.at.get(field) for field in ("id", "group_id", "job_id"))
        return next((str(one) for one in named if one is not None), about_body(self.body))


Call = Callable[[Backed, Asked], Awaitable[Json]]


@dataclass(frozen=True, slots=True)
class Method:
    """One method.

    Attributes:
        at: the fields of its request that are not in the body of the call that it makes, beside ``collection``.
    """

    request: type[Message]
    response: type[Message]
    at: tuple[str, ...]
    call: Call

    def asked(self, message: Message, key: str | None, tenant: str) -> Asked:
        """Return what a request asks for. Raises InvalidRequest."""
        body = body_of(message)
        at = {name: body.pop(name) for name in (*self.at, COLLECTION) if name in body}
        return Asked(body, at, key, tenant)


async def _health(backed: Backed, _: Asked) -> Json:
    failing = await backed.parts.failing_parts()
    return {"status": "not ready" if failing else "ready", "failing": failing}


def _method(request: type[Message], response: type[Message], call: Call, *at: str) -> Method:
    return Method(request, response, at, call)


METHODS: Final[Mapping[str, Method]] = {
    "Health": _method(pb.HealthRequest, pb.HealthResponse, _health),
    "Query": _method(pb.QueryRequest, pb.QueryResponse, lambda to, a: to.api.query(a.body, scope=a.scope)),
    "Insert": _method(pb.InsertRequest, pb.InsertResponse, lambda to, a: to.api.insert(a.body, a.key, scope=a.scope)),
    "InsertBatch": _method(
        pb.InsertBatchRequest, pb.InsertBatchResponse, lambda to, a: to.api.insert_batch(a.body, a.key, scope=a.scope)
    ),
    "Fetch": _method(pb.FetchRequest, pb.Entity, lambda to, a: to.api.fetch(a.name("id"), scope=a.scope), "id"),
    "Update": _method(
        pb.UpdateRequest,
        pb.UpdateResponse,
        lambda to, a: to.api.update(a.name("id"), a.body, a.version, a.key, scope=a.scope),
        *("id", "expected_version"),
    ),
    "Delete": _method(
        pb.DeleteRequest,
        pb.DeleteResponse,
        lambda to, a: to.api.delete(a.name("id"), a.version, scope=a.scope),
        *("id", "expected_version"),
    ),
    "CreateGroup": _method(
        pb.CreateGroupRequest, pb.Group, lambda to, a: to.api.create_group(a.body, a.key, scope=a.scope)
    ),
    "GetGroup": _method(
        pb.GetGroupRequest, pb.Group, lambda to, a: to.api.group(a.name("group_id"), scope=a.scope), "group_id"
    ),
    "DeleteGroup": _method(
        pb.DeleteGroupRequest,
        pb.DeleteGroupResponse,
        lambda to, a: to.api.delete_group(a.name("group_id"), a.version, scope=a.scope),
        *("group_id", "expected_version"),
    ),
    "MeasureGroup": _method(
        pb.MeasureGroupRequest,
        pb.MeasureGroupResponse,
        lambda to, a: to.api.measure_group(a.name("group_id"), a.body, scope=a.scope),
        "group_id",
    ),
    "GetState": _method(pb.GetStateRequest, pb.State, lambda to, a: to.api.state(a.name("id"), scope=a.scope), "id"),
    "SubmitJob": _method(pb.SubmitJobRequest, pb.Job, lambda to, a: to.api.jobs.submit(a.body, a.key, scope=a.scope)),
    "GetJob": _method(
        pb.GetJobRequest, pb.Job, lambda to, a: to.api.jobs.get(a.name("job_id"), scope=a.scope), "job_id"
    ),
    "CancelJob": _method(
        pb.CancelJobRequest, pb.Job, lambda to, a: to.api.jobs.cancel(a.name("job_id"), scope=a.scope), "job_id"
    ),
    "Costs": _method(pb.CostsRequest, pb.CostsResponse, lambda to, a: to.api.jobs.costs(a.body, scope=a.scope)),
}
"""All methods but ``InsertStream``, by name."""


def operation_of(method: str) -> str:
    """Return a method's name in snake case, of which ``policy.action_of`` tells the action."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower()


def operations() -> list[str]:
    """Return all methods of the service in snake case; for the policy's test."""
    return [operation_of(method.name) for method in SERVICE.methods]


def without_work(methods: Mapping[str, Any]) -> list[str]:
    """Return what the service has and nothing does, or is done and the service has not."""
    return sorted({method.name for method in SERVICE.methods} ^ {*methods, STREAM})
