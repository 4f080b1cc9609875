"""Requests and answers of the writing process as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from quantum_db import errors
from quantum_db.commits.operations import (
    CreateGroup,
    Delete,
    Deletes,
    Insert,
    Operation,
    Request,
    Transaction,
    Update,
    Upserts,
    operation_record,
)
from quantum_db.commits.records import entity_of, entity_record, group_of, group_record
from quantum_db.errors import QuantumDBError
from quantum_db.model import EntanglementGroup, Entity

Json = dict[str, Any]
MAX_LINE: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything that is there: entities and groups by id, None where there is none; how many the store counts."""

    entities: dict[str, Entity | None]
    groups: dict[str, EntanglementGroup | None]
    count: int


Asked = Request | str
"""A request to write, or ``read``, or ``open``."""
Answer = Mapping[str, Any] | Shown | int | QuantumDBError
"""Of a write; of ``read``; of ``open``; or what was raised."""


def request_line(request: Asked) -> bytes:
    """Return a request as a line."""
    match request:
        case Transaction():
            body: Any = {"operations": [operation_record(one) for one in request.operations], "key": request.key}
        case Upserts():
            body = {"upserts": [entity_record(one) for one in request.entities]}
        case Deletes():
            body = {"deletes": list(request.ids)}
        case _:
            body = request
    return _line(body)


def request_of(line: bytes) -> Asked:
    """Return what ``request_line`` made a line of."""
    body = json.loads(line)
    if isinstance(body, str):
        return body
    if "upserts" in body:
        return Upserts(tuple(entity_of(one) for one in body["upserts"]))
    if "deletes" in body:
        return Deletes(tuple(body["deletes"]))
    return Transaction(tuple(_operation_of(one) for one in body["operations"]), body["key"])


def answer_line(answer: Answer) -> bytes:
    """Return an answer as a line."""
    match answer:
        case QuantumDBError():
            return _line({"error": type(answer).__name__, "detail": answer.detail})
        case Shown():
            entities = {name: None if one is None else entity_record(one) for name, one in answer.entities.items()}
            groups = {name: None if one is None else group_record(one) for name, one in answer.groups.items()}
            return _line({"entities": entities, "groups": groups, "count": answer.count})
    return _line({"answer": answer})


def answer_of(line: bytes) -> Answer:
    """Return what ``answer_line`` made a line of."""
    body = json.loads(line)
    if "error" in body:
        error: QuantumDBError = getattr(errors, body["error"])(body["detail"])
        return error
    if "entities" in body:
        entities = {name: None if one is None else entity_of(one) for name, one in body["entities"].items()}
        groups = {name: None if one is None else group_of(one) for name, one in body["groups"].items()}
        return Shown(entities, groups, body["count"])
    answer: Answer = body["answer"]
    return answer


def _operation_of(record: Json) -> Operation:
    expected = record.get("expected_version")
    match record["op"]:
        case "insert":
            return Insert(entity_of(record["entity"]), "", expected, record["if_absent"])
        case "update":
            return Update(record["id"], _changes_of(record["changes"]), "", expected, record.get("propagate", False))
        case "delete":
            return Delete(record["id"], "", expected)
    return CreateGroup(group_of(record["group"]))


def _changes_of(record: Json) -> Json:
    """Return the fields of an update, by way of an entity that has them."""
    empty = {"id": "", "vector": None, "contexts": [], "coherence_time_ms": 1.0, "metadata": {}, "version": 0}
    found = entity_of({**empty, **record})
    return {name: getattr(found, name) for name in record}


def _line(body: Any) -> bytes:
    return json.dumps(body).encode() + b"\n"
