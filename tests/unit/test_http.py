"""The HTTP layer without a socket: bodies, statuses, problems, request ids, limits."""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from prometheus_client import CollectorRegistry, Counter

from quantum_db.errors import Overloaded
from quantum_db.frames import frame_of
from quantum_db.refinement import Policy
from quantum_db.telemetry import exposition, snapshot
from serve_app.http import build_app
from serve_app.request_log import Lines
from tests.open_gate import OPEN_DOORS
from tests.unit.fakes import FakeJobs
from tests.unit.test_database import Bench, query
from tests.unit.test_requests import ENTITY, GROUP, QUERY

MAX_BODY = 20_000


class FakeCluster:
    def __init__(self) -> None:
        self.failing: list[str] = []
        self.registry = CollectorRegistry()

    async def failing_parts(self) -> list[str]:
        return self.failing

    async def exposition(self) -> bytes:
        return exposition([snapshot(self.registry, "ingress-1")])


class Http:
    def __init__(self, jobs: FakeJobs | None = None, policy: Policy | None = None, lines: Lines | None = None) -> None:
        self.bench, self.cluster = Bench(policy, jobs), FakeCluster()
        doors = replace(OPEN_DOORS, lines=lines)
        app = build_app(self.bench.api, self.cluster, self.cluster.registry, MAX_BODY, doors)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    http = Http()
    async with http.client:
        yield http


def problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["type"] == f"urn:quantum-db:problem:{slug}"
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    return body


async def test_the_documented_requests_work_as_they_stand(http: Http) -> None:
    assert (await http.client.post("/api/v2/vectors", json=ENTITY)).status_code == 201
    answer = await http.client.post("/api/v2/query", json=QUERY)
    assert answer.status_code == 200
    assert answer.json()["hits"][0]["id"] == "doc_123"
    vectors = [{"id": f"doc_{i}", "vector": [0.3, 0.1 * i]} for i in (1, 2, 3)]
    batch = await http.client.post("/api/v2/vectors/batch", json={"vectors": vectors, "transaction": True})
    assert batch.status_code == 201
    results = [{"op": "insert", "id": f"doc_{i}", "version": 2} for i in (1, 2, 3)]
    assert batch.json() == {"written": 3, "transaction": True, "commit": 2, "results": results}
    group = await http.client.post("/api/v2/entanglement/groups", json=GROUP)
    assert group.status_code == 201
    assert (await http.client.get("/api/v2/entanglement/groups/related_docs")).json()["correlation_strength"] == 0.85
    measured = await http.client.post("/api/v2/entanglement/groups/related_docs/measure", json={"shots": 1000})
    assert len(measured.json()["pairs"]) == 3
    assert (await http.client.get("/api/v2/vectors/doc_123")).json()["metadata"] == {"source": "arxiv"}
    assert (await http.client.delete("/api/v2/vectors/doc_123")).json()["deleted"]
    problem(await http.client.get("/api/v2/vectors/doc_123"), 404, "not-found")


async def test_transactions_versions_and_keys(http: Http) -> None:
    made = await http.client.post("/api/v2/vectors", json={"id": "a", "vector": [1, 2], "metadata": {"n": 0}})
    version = made.json()["version"]
    fetched = await http.client.get("/api/v2/vectors/a")
    assert (fetched.json()["version"], fetched.headers["etag"]) == (version, f'"{version}"')
    change = {"metadata": {"n": 1}}
    done = await http.client.patch("/api/v2/vectors/a", json=change, headers={"if-match": f'"{version}"'})
    assert done.status_code == 200
    assert done.json()["version"] > version
    stale = await http.client.patch("/api/v2/vectors/a", json=change, headers={"if-match": f'"{version}"'})
    problem(stale, 409, "conflict")
    for wrong in ("17", "W/x", '"a"'):
        refused = await http.client.patch("/api/v2/vectors/a", json=change, headers={"if-match": wrong})
        assert problem(refused, 422, "invalid-request")["errors"][0]["path"] == "if-match"
    problem(await http.client.patch("/api/v2/vectors/none", json=change), 404, "not-found")
    assert problem(await http.client.patch("/api/v2/vectors/a", json={}), 422, "invalid-request")
    body = {"operations": [{"delete": {"id": "a"}}]}
    headers = {"idempotency-key": "k"}
    first = await http.client.post("/api/v2/transactions", json=body, headers=headers)
    assert first.status_code == 201
    assert (await http.client.post("/api/v2/transactions", json=body, headers=headers)).json() == first.json()
    other = {"operations": [{"insert": {"id": "a", "vector": [1, 2]}}]}
    problem(await http.client.post("/api/v2/transactions", json=other, headers=headers), 409, "conflict")
    theirs = {**headers, "x-tenant": "other"}
    assert (await http.client.post("/api/v2/transactions", json=other, headers=theirs)).status_code == 201
    long = await http.client.post("/api/v2/transactions", json=body, headers={"idempotency-key": "k" * 256})
    assert problem(long, 422, "invalid-request")["errors"][0]["path"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("operation", "path"),
    [
        ({}, "operations[0]"),
        ({"insert": {"id": "a", "vector": [1]}, "delete": {"id": "a"}}, "operations[0]"),
        (
            {"insert": {"id": "a", "vector": [1, 2], "if_absent": True, "expected_version": 1}},
            "operations[0].insert.if_absent",
        ),
        ({"insert": {"id": "a", "vector": [1, 2, 3]}}, "operations[0].insert.vector"),
        ({"update": {"id": "z", "vector": [1, 2, 3]}}, "operations[0].update.vector"),
        ({"delete": {"id": "a", "version": 3}}, "operations[0].delete.version"),
        (
            {"create_entanglement": {"group_id": "g", "entity_ids": ["z", "y"], "correlation_strength": 1}},
            "operations[0].create_entanglement.entity_ids[1]",
        ),
    ],
)
async def test_a_wrong_operation_is_told_by_its_path(http: Http, operation: dict[str, Any], path: str) -> None:
    await http.client.post("/api/v2/vectors", json={"id": "z", "vector": [1, 2]})
    refused = await http.client.post("/api/v2/transactions", json={"operations": [operation]})
    assert problem(refused, 422, "invalid-request")["errors"][0]["path"] == path


async def test_a_batch_tells_of_each_item_what_became_of_it(http: Http) -> None:
    vectors = [{"id": "a", "vector": [1, 2]}, {"id": "a", "vector": [2, 1]}, {"vector": [1, 2]}, 7]
    vectors += [
        {"id": "b", "vector": [1, 2, 3]},
        {"id": "c", "vector": [2, 1], "metadata": {"deep": json.loads("[" * 70 + "]" * 70)}},
    ]
    answer = await http.client.post("/api/v2/vectors/batch", json={"vectors": vectors})
    assert answer.status_code == 207
    body = answer.json()
    assert (body["written"], body["refused"], body["transaction"]) == (1, 5, False)
    assert [item["status"] for item in body["items"]] == ["written", *["refused"] * 5]
    paths = [item["problem"]["errors"][0]["path"] for item in body["items"][1:]]
    assert paths == ["id", "id", "", "vector", "metadata"]
    assert [item["id"] for item in body["items"]] == ["a", "a", None, None, "b", "c"]
    assert (await http.client.get("/api/v2/vectors/a")).json()["version"] == body["items"][0]["version"]
    problem(await http.client.get("/api/v2/vectors/c"), 404, "not-found")


async def test_a_query_sees_operations_that_have_not_taken_place(http: Http) -> None:
    await http.client.post("/api/v2/vectors", json={"id": "old", "vector": [1, 0]})
    operations = [{"insert": {"id": "new", "vector": [0, 1]}}, {"delete": {"id": "old"}}]
    body = {"query": {"vector": [1, 0], "mode": "classical"}, "operations": operations}
    answer = await http.client.post("/api/v2/transactions/query", json=body)
    assert [hit["id"] for hit in answer.json()["hits"]] == ["new"]
    problem(await http.client.get("/api/v2/vectors/new"), 404, "not-found")


async def test_ids_may_hold_slashes_and_spaces(http: Http) -> None:
    await http.client.post("/api/v2/vectors", json={"id": "a/b c", "vector": [1, 2]})
    assert (await http.client.get("/api/v2/vectors/a/b%20c")).json()["id"] == "a/b c"


async def test_a_wrong_body_is_a_problem_with_the_fields_path(http: Http) -> None:
    response = await http.client.post("/api/v2/vectors", json={**ENTITY, "vector": [0.0, 0.0]})
    body = problem(response, 422, "invalid-request")
    assert body["errors"] == [{"path": "vector", "message": "is the zero vector, which has no direction"}]
    assert body["instance"] == "/api/v2/vectors"
    assert http.bench.store.entities == {}


@pytest.mark.parametrize("text", ['{"vector": [NaN]}', '{"vector": [1e999]}', "{", "", '{"vector": [Infinity]}'])
async def test_what_is_not_json_is_told(http: Http, text: str) -> None:
    response = await http.client.post("/api/v2/query", content=text)
    assert problem(response, 422, "invalid-request")["detail"].startswith(
        ("the body is not valid JSON", "vector: holds")
    )


async def test_all_entities_are_listed_page_by_page(http: Http) -> None:
    bodies = [{"id": f"e{i}", "vector": [1.0, float(i)], "metadata": {"n": i}} for i in range(5)]
    (await http.client.post("/api/v2/vectors/batch", json={"vectors": bodies})).raise_for_status()
    found, cursor = [], None
    for left in (3, 1, 0):
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await http.client.get("/api/v2/vectors", params=params)).raise_for_status().json()
        found += page["vectors"]
        cursor = page["next"]
        assert (cursor is None) == (left == 0)
    assert sorted(entity["id"] for entity in found) == [f"e{i}" for i in range(5)]
    one = (await http.client.get("/api/v2/vectors/e3")).json()
    assert next(entity for entity in found if entity["id"] == "e3") == one
    bare = (await http.client.get("/api/v2/vectors", params={"vectors": "false"})).json()
    assert [entity["metadata"]["n"] for entity in bare["vectors"]] == [entity["metadata"]["n"] for entity in found]
    assert all("vector" not in entity for entity in bare["vectors"])


@pytest.mark.parametrize(("name", "value"), [("cursor", "not-a-cursor"), ("limit", "0"), ("limit", "1001")])
async def test_a_wrong_page_is_refused(http: Http, name: str, value: str) -> None:
    body = problem(await http.client.get("/api/v2/vectors", params={name: value}), 422, "invalid-request")
    assert body["errors"][0]["path"] == name


async def test_bodies_above_the_limit_are_refused_declared_or_not(http: Http) -> None:
    large = orjson.dumps({"id": "x", "vector": [0.5] * 10_000})

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 1_000):
            yield large[start : start + 1_000]

    for content in (large, chunks()):
        response = await http.client.post("/api/v2/vectors", content=content)
        body = problem(response, 413, "body-too-large")
        assert "larger than 20000 bytes" in body["detail"]


async def test_overload_tells_when_to_come_back() -> None:
    def full(request: object) -> None:
        raise Overloaded("5 quantum jobs wait for simulator", retry_after_s=1.0)

    http = Http(FakeJobs(before=full), Policy(on_backend_failure="fail"))
    await http.bench.filled()
    async with http.client:
        response = await http.client.post("/api/v2/query", json=query())
    problem(response, 503, "overloaded")
    assert response.headers["retry-after"] == "1"


async def test_unknown_routes_and_methods_are_problems(http: Http) -> None:
    problem(await http.client.get("/nope"), 404, "not-found")
    response = await http.client.put("/api/v2/query")
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "POST"
    response = await http.client.put("/api/v2/vectors")
    assert response.headers["allow"] == "GET, POST", "of both routes with this path"
    assert "it has GET, POST" in problem(response, 405, "method-not-allowed")["detail"]


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("POST", "/api/v2/vectors?colection=x", "colection: is no query parameter of this call; did you mean 'coll"),
        ("GET", "/api/v2/vectors?limit=1&limit=2", "limit: stands 2 times in the query; give it once"),
        ("GET", "/api/v2/vectors/a?limt=1", "limt: is no query parameter of this call"),
        ("GET", "/api/v2/jobs?qqqq=", "qqqq: is no query parameter of this call; there are collection, cursor, limit"),
        ("GET", "/api/v2/vectors?=1", ": is no query parameter of this call"),
    ],
)
async def test_unknown_and_repeated_query_parameters_are_refused(http: Http, method: str, path: str, told: str) -> None:
    options: dict[str, Any] = {"json": ENTITY} if method == "POST" else {}
    found = problem(await http.client.request(method, path, **options), 422, "invalid-request")
    assert found["detail"].startswith(told)
    assert (await http.client.get("/api/v2/vectors/doc_123")).status_code == 404, "nothing was written"


async def test_every_call_takes_the_collection_and_probes_take_anything(http: Http) -> None:
    assert (await http.client.get("/api/v2/collections?collection=default")).status_code == 200
    assert (await http.client.get("/healthz?at=12")).status_code == 200


async def test_bodies_said_to_be_something_else_are_refused(http: Http) -> None:
    text = orjson.dumps(ENTITY)
    for kind in (
        "application/json; charset=utf-8",
        "application/x-www-form-urlencoded",
        "application/merge-patch+json",
    ):
        answer = await http.client.post("/api/v2/vectors", content=text, headers={"content-type": kind})
        assert answer.status_code == 201, kind
    assert (await http.client.post("/api/v2/vectors", content=text)).status_code == 201, "told nothing"
    xml = {"content-type": "text/xml"}
    refused = problem(
        await http.client.post("/api/v2/vectors", content=text, headers=xml), 415, "unsupported-media-type"
    )
    assert refused["detail"] == "content-type 'text/xml' is not read here; send application/json"
    refused = problem(
        await http.client.post("/api/v2/vectors/batch", content=text, headers=xml), 415, "unsupported-media-type"
    )
    assert refused["detail"].endswith("send application/json or application/octet-stream")


async def test_a_fault_of_ours_is_logged_whole_and_told_without_details(
    http: Http, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(ids: object) -> None:
        raise RuntimeError("a detail that is nobody's business")

    monkeypatch.setattr(http.bench.store, "fetch", broken)
    with caplog.at_level(logging.ERROR):
        response = await http.client.get("/api/v2/vectors/x", headers={"x-request-id": "my-id"})
    body = problem(response, 500, "internal")
    assert "nobody's business" not in response.text
    assert body["request_id"] == "my-id"
    assert "nobody's business" in caplog.text
    assert "my-id" in caplog.text


async def test_request_ids_that_cannot_be_headers_are_replaced(http: Http) -> None:
    response = await http.client.get("/healthz", headers={"x-request-id": "x" * 500})
    assert len(response.headers["x-request-id"]) == 32


async def test_health_and_readiness(http: Http) -> None:
    assert (await http.client.get("/healthz")).json() == {"status": "ok"}
    assert (await http.client.get("/readyz")).json() == {"status": "ready", "failing": []}
    http.cluster.failing = ["store: died"]
    response = await http.client.get("/readyz")
    assert (response.status_code, response.json()["failing"]) == (503, ["store: died"])


async def test_states_are_shown(http: Http) -> None:
    for _ in range(2):
        await http.client.post("/api/v2/vectors", json=ENTITY)
    body = (await http.client.get("/api/v2/states/doc_123")).json()
    assert (body["phase"], body["generation"], body["measurements"]) == ("created", 2, 0)
    version = (await http.client.get("/api/v2/vectors/doc_123")).json()["version"]
    assert body["commit"] == version
    assert [(one["phase"], one["generation"], one["expires_at_s"]) for one in body["history"]] == [
        ("archived", 1, None)
    ]
    assert await http.bench.api.state("doc_123") == body
    problem(await http.client.get("/api/v2/states/other"), 404, "not-found")


async def test_the_circuits_of_an_answer_can_be_seen(http: Http) -> None:
    await http.bench.filled()
    key = (await http.client.post("/api/v2/query", json=query())).json()["refinement"]["circuit_key"]
    response = await http.client.get(f"/api/v2/circuits/{key}", params={"format": "qasm3"})
    assert response.text.startswith("OPENQASM 3")
    assert (await http.client.get(f"/api/v2/circuits/{key}")).headers["content-type"].startswith("text/plain")
    problem(await http.client.get(f"/api/v2/circuits/{key}?format=gif"), 422, "invalid-request")
    problem(await http.client.get("/api/v2/circuits/none"), 404, "not-found")


async def test_requests_are_counted_by_route_and_status(http: Http) -> None:
    await http.client.get("/api/v2/vectors/a")
    await http.client.get("/api/v2/vectors/b")
    text = (await http.client.get("/metrics")).text
    line = 'http_requests_total{route="/api/v2/vectors/{entity_id:path}",source="ingress-1",status="404"} 2.0'
    assert line in text


async def test_openapi_names_every_body_and_every_problem(http: Http) -> None:
    schema = (await http.client.get("/openapi.json")).json()
    assert schema["openapi"].startswith("3.1")
    known = schema["components"]["schemas"]
    references = {part.split('"')[0] for part in orjson.dumps(schema).decode().split("#/components/schemas/")[1:]}
    assert references <= set(known), "every reference is there"
    assert {
        "EntityBody",
        "BatchBody",
        "QueryBody",
        "GroupBody",
        "MeasureBody",
        "RunBatchBody",
        "Problem",
        "Filter",
    } <= set(known)
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert "default" not in operation["responses"], (path, method)
            for status, told in operation["responses"].items():
                if int(status) >= 400 and path != "/readyz":
                    assert told["content"]["application/problem+json"]["examples"], (path, method, status)
            takes_a_body = method in ("post", "put", "patch") and not path.endswith("/cancel")
            assert ("requestBody" in operation) == takes_a_body, (path, method)
            if takes_a_body:
                assert operation["requestBody"]["content"]["application/json"]["example"] is not None, (path, method)
                assert "415" in operation["responses"], (path, method)
    taken = schema["paths"]["/api/v2/vectors/batch"]["post"]["requestBody"]["content"]
    assert set(taken) == {"application/json", "application/octet-stream"}


async def test_links_lead_to_calls_and_paths_have_examples(http: Http) -> None:
    paths = (await http.client.get("/openapi.json")).json()["paths"]
    operations = [(path, one) for path, methods in paths.items() for one in methods.values()]
    named = {one["operationId"]: {part["name"] for part in one.get("parameters", ())} for _, one in operations}
    assert len(named) == len(operations), "each has a name of its own"
    links = [
        link for _, one in operations for told in one["responses"].values() for link in told.get("links", {}).values()
    ]
    assert len(links) > 15
    for link in links:
        assert set(link["parameters"]) <= named[link["operationId"]], link
    for path, one in operations:
        places = [part for part in one.get("parameters", ()) if part["in"] == "path"]
        assert all(part["example"] for part in places), path


async def test_the_docs_page_needs_nothing_from_outside(http: Http) -> None:
    page = (await http.client.get("/docs")).text
    assets = [part.split('"')[0] for part in page.split('src="')[1:]]
    assert assets
    for asset in assets:
        assert asset.startswith("/")
        assert (await http.client.get(asset)).status_code == 200


def test_metrics_of_several_processes_are_one_exposition() -> None:
    snapshots = []
    for source, value in (("a", 1), ("b", 2)):
        registry = CollectorRegistry()
        Counter("jobs", "Jobs", registry=registry).inc(value)
        snapshots.append(snapshot(registry, source))
    text = exposition(snapshots).decode()
    assert text.count("# TYPE jobs_total counter") == 1
    assert 'jobs_total{source="a"} 1.0' in text
    assert 'jobs_total{source="b"} 2.0' in text
    assert "_created" not in text


def frame_of_two() -> bytes:
    frame = frame_of({"vectors": [{"id": one, "vector": np.array([0.6, 0.8], np.float32)} for one in ("a", "b")]})
    assert frame is not None
    return frame


async def test_a_batch_may_be_bytes(http: Http) -> None:
    headers = {"content-type": "application/octet-stream"}
    answer = await http.client.post("/api/v2/vectors/batch", content=frame_of_two(), headers=headers)
    assert (answer.status_code, answer.json()["written"]) == (201, 2)
    fetched = (await http.client.get("/api/v2/vectors/b")).json()
    np.testing.assert_array_equal(np.array(fetched["vector"], np.float32), np.array([0.6, 0.8], np.float32))
    cut = await http.client.post("/api/v2/vectors/batch", content=frame_of_two()[:-1], headers=headers)
    assert "15 bytes follow" in problem(cut, 422, "invalid-request")["detail"]


async def test_bodies_may_be_compressed_and_the_limit_holds_for_what_is_in_them(http: Http) -> None:
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    body = gzip.compress(orjson.dumps(ENTITY))
    assert (await http.client.post("/api/v2/vectors", content=body, headers=headers)).status_code == 201
    bomb = gzip.compress(b" " * 50_000_000)
    problem(await http.client.post("/api/v2/vectors", content=bomb, headers=headers), 413, "body-too-large")
    for wrong, told in ((body[:-4], "one whole gzip"), (body + b"x", "one whole gzip"), (b"{}", "not valid gzip")):
        refused = await http.client.post("/api/v2/vectors", content=wrong, headers=headers)
        assert told in problem(refused, 422, "invalid-request")["detail"]
    other = await http.client.post("/api/v2/vectors", content=body, headers={**headers, "content-encoding": "br"})
    assert "send gzip" in problem(other, 415, "unsupported-media-type")["detail"]


async def test_large_answers_are_compressed_for_who_asks(http: Http) -> None:
    vectors = [{"id": f"e{i}", "vector": [1.0, i], "metadata": {"n": "x" * 50}} for i in range(100)]
    await http.client.post("/api/v2/vectors/batch", json={"vectors": vectors})
    asked = [await http.client.get("/api/v2/vectors", headers={"accept-encoding": one}) for one in ("gzip", "identity")]
    assert [one.headers.get("content-encoding") for one in asked] == ["gzip", None]
    assert asked[0].json()["vectors"] == asked[1].json()["vectors"]
    assert "content-encoding" not in (await http.client.get("/healthz")).headers


async def test_each_request_has_a_line_with_its_id_and_no_secret(tmp_path: Path) -> None:
    lines = Lines(tmp_path, "replica")
    http = Http(lines=lines)
    async with http.client:
        answer = await http.client.get("/api/v2/vectors/none", headers={"api-key": "qdb_secret", "x-request-id": "r-1"})
        assert answer.headers["x-request-id"] == "r-1"
        await http.client.get("/nowhere")
    text = (tmp_path / "requests-replica.jsonl").read_text()
    lines.close()
    first, second = map(orjson.loads, text.splitlines())
    assert first["request_id"] == "r-1"
    assert (first["route"], first["status"]) == ("GET /api/v2/vectors/{entity_id:path}", 404)
    assert (first["tenant"], first["caller"]) == ("default", "anybody")
    assert first["ms"] > 0.0
    assert (second["route"], second["status"], second["caller"]) == ("GET unmatched", 404, None)
    assert "secret" not in text


def test_a_full_file_of_lines_is_put_aside_and_old_ones_are_removed(tmp_path: Path) -> None:
    old, recent = tmp_path / "requests-old.jsonl", tmp_path / "requests-recent.jsonl"
    for path in (old, recent):
        path.write_text("{}\n")
    os.utime(old, (0.0, 0.0))
    lines = Lines(tmp_path, "replica", file_bytes=100)
    for number in range(25):
        lines.write({"number": number})
    lines.close()
    assert [old.exists(), recent.exists()] == [False, True]
    aside, current = tmp_path / "requests-replica.jsonl.1", tmp_path / "requests-replica.jsonl"
    numbers = [orjson.loads(line)["number"] for path in (aside, current) for line in path.read_text().splitlines()]
    assert numbers == list(range(25 - len(numbers), 25)), "whole lines, the last ones, in their order"
    assert len(numbers) > 6
    assert max(aside.stat().st_size, current.stat().st_size) <= 100


async def test_each_query_of_a_batch_is_answered_for_itself(http: Http) -> None:
    vectors = [{"id": f"e{i}", "vector": [1.0, i], "metadata": {"n": i}} for i in range(5)]
    await http.client.post("/api/v2/vectors/batch", json={"vectors": vectors})
    good = [{"vector": [1.0, i], "mode": "classical", "top_k": 1} for i in range(100)]
    answer = await http.client.post("/api/v2/query/batch", json={"queries": good})
    assert answer.status_code == 200
    told = answer.json()
    assert (told["answered"], told["failed"]) == (100, 0)
    assert [item["answer"]["hits"][0]["id"] for item in told["items"][:5]] == [f"e{i}" for i in range(5)]
    mixed = [*good[:2], {"vector": [1.0, 0.0], "top_k": 0}, {"vector": [1.0]}, good[3]]
    answer = await http.client.post("/api/v2/query/batch", json={"queries": mixed})
    assert answer.status_code == 207
    items = answer.json()["items"]
    assert [item["status"] for item in items] == ["answered", "answered", "failed", "failed", "answered"]
    assert items[2]["problem"]["errors"][0]["path"] == "top_k"
    assert items[4]["answer"]["hits"][0]["id"] == "e3"
    for wrong in ({"queries": []}, {"queries": [0] * 1_001}, {}):
        refused = await http.client.post("/api/v2/query/batch", json=wrong)
        assert problem(refused, 422, "invalid-request")["errors"][0]["path"] == "queries"
