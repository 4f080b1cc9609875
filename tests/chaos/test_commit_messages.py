"""Requests and answers come back from their lines as they were."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantum_db.commits.operations import Deletes, Request, Transaction, Update, Upserts, operation_record
from quantum_db.commits.records import entity_record
from quantum_db.errors import Conflict
from tests.chaos.commit_history import entity_for, group_for
from tests.chaos.commit_messages import Shown, answer_line, answer_of, request_line, request_of
from tests.chaos.commit_requests import Requests


def record(request: Request | str) -> Any:
    match request:
        case Transaction():
            return request.key, request.digest, [operation_record(one) for one in request.operations]
        case Upserts():
            return [entity_record(one) for one in request.entities]
        case Deletes():
            return request.ids
    return request


def test_requests_come_back_as_they_were() -> None:
    requests = Requests(np.random.default_rng(0), 0, 1, entities=10, groups=5)
    moving = Transaction((Update("a", {"coherence_time_ms": 5.0}, propagate=True),))
    for request in [*(requests.next({"e1": 3})[1] for _ in range(300)), moving, "read"]:
        line = request_line(request)
        assert line.count(b"\n") == 1
        assert record(request_of(line)) == record(request)


def test_answers_come_back_as_they_were() -> None:
    assert answer_of(answer_line({"commit": 3, "existed": [True]})) == {"commit": 3, "existed": [True]}
    assert answer_of(answer_line(0)) == 0
    error = answer_of(answer_line(Conflict("no")))
    assert isinstance(error, Conflict)
    assert error.detail == "no"
    shown = Shown({"e0": entity_for("e0", 1), "e1": None}, {"g0": group_for("g0", ["e0", "e1"], 1), "g1": None}, 1)
    found = answer_of(answer_line(shown))
    assert isinstance(found, Shown)
    assert (found.groups, found.count, found.entities["e1"]) == (shown.groups, 1, None)
    assert found.entities["e0"] is not None
    assert shown.entities["e0"] is not None
    assert entity_record(found.entities["e0"]) == entity_record(shown.entities["e0"])
