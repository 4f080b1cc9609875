"""The examples of /openapi.json, each sent as it stands to the live cluster: they do what they are said to do."""

from __future__ import annotations

from typing import Any

import httpx

from tests.documented import undocumented
from tests.ray.conftest import LiveCluster, admitted

TENANT = "examples"
ORDER = (
    *("healthz", "readyz", "metrics", "audit_head", "list_blocks"),
    *("create_collection", "list_collections", "collection", "drop_collection"),
    *("insert", "insert_batch", "fetch", "update", "scroll", "query", "query_batch", "circuit", "execute_batch"),
    *("transact", "query_under", "state"),
    *("create_group", "list_groups", "group", "update_group", "measure_group", "delete_group"),
    *("session", "end_session", "delete"),
    *("estimate_job", "submit_job", "list_jobs", "job", "cancel_job", "costs", "backends", "set_breaker"),
    *("create_key", "list_keys", "rotate_key", "revoke_key", "graphql"),
    *("sql_schema", "sql_query", "sql_asked", "sql_asked_by_url", "sql_explain", "sql_batch"),
)
"""By operation: what is there before it is asked for."""
NOT_ASKED = {"lift_block"}
"""No address is blocked here, and blocking one would shut out the tests beside this one."""
CHOSEN_BY_THE_CLUSTER = {
    "circuit": ("query", "key"),
    "job": ("submit_job", "job_id"),
    "cancel_job": ("submit_job", "job_id"),
    "rotate_key": ("create_key", "key_id"),
    "revoke_key": ("create_key", "key_id"),
}
"""Operation -> the operation whose answer links to it, and the path parameter that the link gives."""

_ASKED = {"vector": [0.1, 0.2], "context": "technical"}
BEFORE = {
    "circuit": {**_ASKED, "refine": "always"},
    "session": {**_ASKED, "session_id": "reading-1", "observe": True},
}
"""Queries before an operation: one that runs circuits though the hits are few, and one that begins the session."""


class Examples:
    """The operations by name, and what each has answered."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.schema: dict[str, Any] = client.get("/openapi.json").json()
        self.operations = {
            operation["operationId"]: (method, path, operation)
            for path, methods in self.schema["paths"].items()
            for method, operation in methods.items()
        }
        self.answers: dict[str, Any] = {}

    def send(self, name: str) -> str | None:
        """Send an operation's example; return what is wrong with the answer."""
        method, path, operation = self.operations[name]
        places = {one["name"]: one["example"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        if name in CHOSEN_BY_THE_CLUSTER:
            before, place = CHOSEN_BY_THE_CLUSTER[name]
            places[place] = self.linked(before, name, place)
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        options = {} if body is None else {"json": body["example"]}
        asked = [one for one in operation.get("parameters", ()) if one["in"] == "query" and "example" in one]
        options["params"] = {one["name"]: one["example"] for one in asked}
        response = self.client.request(method, path.format(**places), **options)
        self.answers[name] = response
        if str(response.status_code) != min(operation["responses"]):
            return f"{name}: {response.status_code} {response.text}"
        return undocumented(self.schema, method.upper(), path.format(**places), response)

    def linked(self, before: str, name: str, place: str) -> str:
        """Return what the link from one operation's answer to another says of a parameter."""
        responses = self.operations[before][2]["responses"]
        pointer = responses[min(responses)]["links"][name]["parameters"][place].partition("#/")[2]
        found = self.answers[before].json()
        for part in pointer.split("/"):
            found = found.get(part) or {}
        return str(found)


def test_every_example_works_as_it_stands(cluster: LiveCluster) -> None:
    with admitted(cluster.url) as client:
        client.headers["x-tenant"] = TENANT
        examples = Examples(client)
        assert set(ORDER) | NOT_ASKED == set(examples.operations), "each operation has a place in the order"
        try:
            wrong = []
            for name in ORDER:
                if name in BEFORE:
                    examples.answers["query"] = client.post("/api/v2/query", json=BEFORE[name])
                wrong.append(examples.send(name))
        finally:
            restored = client.put("/api/v2/backends/simulator/breaker", json={"state": "auto"})
        assert restored.status_code == 200
    assert not any(wrong), "\n".join(filter(None, wrong))
    assert examples.answers["graphql"].json().get("errors") is None
