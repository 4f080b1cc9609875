"""Collections and tenants over HTTP and by handle, on the real cluster: nobody sees what is another one's."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import httpx
import pytest

from tests.ray.conftest import LiveCluster, actors_below, admitted


def body(entity_id: str, *vector: float) -> dict[str, Any]:
    return {"id": entity_id, "vector": list(vector)}


def as_tenant(cluster: LiveCluster, tenant: str) -> httpx.Client:
    client = admitted(cluster.url)
    client.headers["x-tenant"] = tenant
    return client


def ok(response: httpx.Response) -> Any:
    assert response.is_success, response.text
    return response.json()


def test_two_tenants_with_the_same_names_do_not_meet(cluster: LiveCluster) -> None:
    with as_tenant(cluster, "left") as left, as_tenant(cluster, "right") as right:
        for client, vector in ((left, (1.0, 0.0, 0.0)), (right, (0.0, 1.0, 0.0, 0.0))):
            for n in range(2):
                ok(client.post("/api/v2/vectors", json=body(f"doc{n}", *vector)))
            group = {"group_id": "g", "entity_ids": ["doc0", "doc1"], "correlation_strength": 0.9}
            ok(client.post("/api/v2/entanglement/groups", json=group))
        ok(left.post("/api/v2/vectors", json=body("mine", 1.0, 0.0, 0.0)))
        hits = ok(left.post("/api/v2/query", json={"vector": [1.0, 0.0, 0.0], "mode": "classical"}))["hits"]
        assert {hit["id"] for hit in hits} == {"doc0", "doc1", "mine"}
        absent, theirs = right.get("/api/v2/vectors/nobody"), right.get("/api/v2/vectors/mine")
        assert absent.status_code == theirs.status_code == 404
        assert absent.json()["detail"].replace("nobody", "mine") == theirs.json()["detail"]
        assert right.delete("/api/v2/vectors/mine").status_code == 404
        assert right.patch("/api/v2/vectors/mine", json={"metadata": {}}).status_code == 404
        ok(left.delete("/api/v2/entanglement/groups/g"))
        assert ok(right.get("/api/v2/entanglement/groups/g"))["entity_ids"] == ["doc0", "doc1"]
        assert [one["id"] for one in ok(right.get("/api/v2/vectors"))["vectors"]].count("mine") == 0
        assert ok(right.get("/api/v2/collections"))["collections"][0]["dimension"] is None
        assert ok(right.get("/api/v2/collections/default"))["dimension"] == 4


def test_a_collection_from_its_creation_to_its_end(cluster: LiveCluster, client: httpx.Client) -> None:
    made = client.post("/api/v2/collections", json={"name": "papers", "dimension": 3})
    assert made.status_code == 201
    inside = {"collection": "papers"}
    assert client.post("/api/v2/vectors", json=body("p", 1.0, 0.0), params=inside).status_code == 422
    operations = [
        {"insert": body("p", 1.0, 0.0, 0.0)},
        {"insert": body("q", 0.0, 1.0, 0.0)},
        {"create_entanglement": {"group_id": "pq", "entity_ids": ["p", "q"], "correlation_strength": 0.5}},
    ]
    ok(client.post("/api/v2/transactions", json={"operations": operations}, params=inside))
    ok(client.post("/api/v2/vectors/batch", json={"vectors": [body("r", 0.0, 0.0, 1.0)]}, params=inside))
    assert ok(client.get("/api/v2/collections/papers"))["entities"] == 3
    asked = {"vector": [1.0, 0.1, 0.0], "top_k": 1, "refine": "always"}
    answer = ok(client.post("/api/v2/query", json=asked, params=inside))
    assert answer["hits"][0]["id"] == "p"
    assert ok(client.post("/api/v2/entanglement/groups/pq/measure", json={}, params=inside))["pairs"]
    assert client.get("/api/v2/vectors/p").status_code == 404, "the default collection has none of it"
    assert client.get("/api/v2/entanglement/groups/pq").status_code == 404
    ok(client.delete("/api/v2/vectors/q", params=inside))
    assert client.get("/api/v2/entanglement/groups/pq", params=inside).status_code == 404, "it fell below two"
    ok(client.delete("/api/v2/collections/papers"))
    gone = client.get("/api/v2/vectors/p", params=inside)
    assert gone.status_code == 404
    assert gone.json()["type"].endswith("no-such-collection")
    ok(client.post("/api/v2/collections", json={"name": "papers"}))
    assert ok(client.post("/api/v2/vectors", json=body("x", 1.0, 0.0), params=inside))["dimension"] == 2
    assert client.get("/api/v2/vectors/p", params=inside).status_code == 404
    ok(client.delete("/api/v2/collections/papers"))
    assert client.delete("/api/v2/collections/default").status_code == 409


def test_collections_survive_the_death_of_their_process(cluster: LiveCluster, client: httpx.Client) -> None:
    ok(client.post("/api/v2/collections", json={"name": "kept", "dimension": 2}))
    ok(client.post("/api/v2/vectors", json=body("k", 1.0, 0.0), params={"collection": "kept"}))
    (store,) = actors_below(cluster.process.pid, "StoreShard")
    os.kill(store.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60.0
    while (found := client.get("/api/v2/vectors/k", params={"collection": "kept"})).status_code != 200:
        assert found.status_code == 503, found.text
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found.json()["vector"] == pytest.approx([1.0, 0.0])
    ok(client.delete("/api/v2/collections/kept"))
