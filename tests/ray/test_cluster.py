"""A whole cluster over real HTTP and by real Ray handles."""

from __future__ import annotations

import concurrent.futures
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from cluster.emulator import running_emulator
from tests.ray.conftest import ADMIN_KEY, ROOT, LiveCluster, admitted, alive, descendants, live_cluster, write_config
from tests.redis_server import running_redis
from tests.unit.test_requests import ENTITY, GROUP, QUERY

DIMENSION = 2


def insert(client: httpx.Client, *bodies: dict[str, Any]) -> None:
    response = client.post("/api/v2/vectors/batch", json={"vectors": list(bodies)})
    assert response.status_code == 201, response.text


def ring(prefix: str, count: int = 12) -> list[dict[str, Any]]:
    """Return entities on the unit circle, each with two contexts half a turn apart."""
    bodies = []
    for i in range(count):
        angle = 2 * np.pi * i / count
        contexts = [
            {"name": f"{prefix}-near", "weight": 0.75, "vector": [np.cos(angle), np.sin(angle)]},
            {"name": f"{prefix}-far", "weight": 0.25, "vector": [-np.cos(angle), -np.sin(angle)]},
        ]
        bodies.append({"id": f"{prefix}-{i}", "contexts": contexts, "metadata": {"place": i, "kind": prefix}})
    return bodies


def fidelity(i: int, count: int = 12) -> float:
    return ((1 + float(np.cos(2 * np.pi * i / count))) / 2) ** 2


def test_the_documented_requests_work_as_they_stand(client: httpx.Client) -> None:
    assert client.post("/api/v2/vectors", json=ENTITY).status_code == 201
    insert(client, *({"id": f"doc_{i}", "vector": [0.3, 0.1 * i]} for i in (1, 2, 3)))
    answer = client.post("/api/v2/query", json=QUERY)
    assert answer.status_code == 200, answer.text
    assert answer.json()["hits"][0]["id"] == "doc_123"
    assert client.post("/api/v2/entanglement/groups", json=GROUP).status_code == 201
    assert client.get("/api/v2/entanglement/groups/related_docs").json()["entity_ids"] == GROUP["entity_ids"]
    assert client.get("/api/v2/vectors/doc_123").json()["metadata"] == {"source": "arxiv"}
    assert client.delete("/api/v2/vectors/doc_123").status_code == 200
    assert client.get("/api/v2/vectors/doc_123").status_code == 404


@pytest.mark.parametrize("backend", ["simulator", "ionq"])
def test_both_backends_agree_with_exact_linear_algebra(client: httpx.Client, backend: str) -> None:
    """12 scores at 20,000 shots: one lies 4.5 standard errors off with probability 8e-5."""
    insert(client, *ring(f"exact-{backend}"))
    body = {"vector": [1.0, 0.0], "context": f"exact-{backend}-near", "top_k": 12, "backend": backend, "shots": 20_000}
    body["refine"] = "always"
    answer = client.post("/api/v2/query", json={**body, "explain": True}).json()
    refinement = answer["refinement"]
    assert refinement["ran"], refinement
    assert refinement["provenance"] == {"simulator": "simulated shots", "ionq": "emulator"}[backend]
    assert len(refinement["provider_job_ids"]) == (backend == "ionq")
    assert len(answer["hits"]) == 12
    for hit in answer["hits"]:
        exact = fidelity(hit["metadata"]["place"])
        assert hit["classical_score"] == pytest.approx(exact, abs=1e-5)
        assert abs(hit["score"] - exact) <= 4.5 * np.sqrt(exact * (1 - exact) / 20_000) + 1e-4
        assert hit["context_probability"] == 0.75
    assert all(answer["stages"][stage] >= 0 for stage in ("parse_ms", "filter_ms", "refine_ms", "rank_ms"))


def test_adaptive_shots_on_ionq_are_rounds_of_jobs(client: httpx.Client) -> None:
    insert(client, *ring("rounds", 40))
    body = {"vector": [1.0, 0.0], "context": "rounds-near", "top_k": 5, "backend": "ionq", "timeout_ms": 30_000}
    answer = client.post("/api/v2/query", json={**body, "epsilon": 0.02, "refine": "always"}).json()
    refinement = answer["refinement"]
    assert refinement["ran"], refinement
    assert refinement["rounds"] == len(refinement["provider_job_ids"]) > 1
    assert refinement["confidence"] == 0.95
    assert answer["hits"][0]["metadata"]["place"] in (39, 0, 1)


def test_several_contexts_are_asked_in_superposition(client: httpx.Client) -> None:
    """The two contexts of an entity lie half a turn apart: asked alike, the heavier one decides where it points."""
    insert(client, *ring("both"))
    asked = [{"name": "both-near"}, {"name": "both-far"}]
    body = {"vector": [1.0, 0.0], "contexts": asked, "top_k": 12, "shots": 100_000}
    answer = client.post("/api/v2/query", json=body).json()
    assert answer["refinement"]["circuits"] == 24
    shown = client.get(f"/api/v2/circuits/{answer['refinement']['circuit_key']}", params={"format": "qasm3"})
    assert shown.text.startswith("OPENQASM 3")
    root = np.sqrt([0.75, 0.25])
    for hit in answer["hits"]:
        cosine = float(np.cos(2 * np.pi * hit["metadata"]["place"] / 12))
        coherent = float((root @ [(1 + cosine) / 2, (1 - cosine) / 2]) ** 2 / root.sum() ** 2)
        assert hit["classical_score"] == pytest.approx(coherent, abs=1e-5)
        assert abs(hit["score"] - coherent) < 0.02


def test_groups_are_measured_and_batches_run(client: httpx.Client) -> None:
    insert(client, *ring("tied", 3))
    group = {"group_id": "tied/group", "entity_ids": ["tied-0", "tied-1", "tied-2"], "correlation_strength": 0.6}
    client.post("/api/v2/entanglement/groups", json=group).raise_for_status()
    path = "/api/v2/entanglement/groups/tied/group/measure"
    found = client.post(path, json={"shots": 50_000, "backend": "ionq", "timeout_ms": 30_000, "chsh": True}).json()
    assert found["provenance"] == "emulator"
    assert abs(found["mean"]["value"] - 0.6) < 0.025
    assert found["chsh"]["violates"]
    operations = [{"op": "encode", "id": "a", "vector": [0.6, 0.8]}, {"op": "measure", "shots": 20_000}]
    ran = client.post("/api/v2/batch", json={"operations": operations}).json()
    assert ran["results"][0]["vectors"][0]["shares"] == pytest.approx([0.36, 0.64], abs=0.02)


def test_the_circuits_of_an_answer_are_shown(client: httpx.Client) -> None:
    insert(client, *ring("shown"))
    body = {"vector": [1.0, 0.0], "context": "shown-near", "refine": "always"}
    key = client.post("/api/v2/query", json=body).json()["refinement"]["circuit_key"]
    assert "<svg" in client.get(f"/api/v2/circuits/{key}", params={"format": "svg"}).text
    assert client.get(f"/api/v2/circuits/{key}?format=qasm3").text.startswith("OPENQASM 3")


def test_contexts_change_the_answer_and_filters_narrow_it(client: httpx.Client) -> None:
    insert(client, *ring("turn"))
    body = {"vector": [1.0, 0.0], "top_k": 1, "filter": {"must": [{"key": "kind", "match": {"value": "turn"}}]}}
    near = client.post("/api/v2/query", json={**body, "context": "turn-near"}).json()["hits"][0]
    far = client.post("/api/v2/query", json={**body, "context": "turn-far"}).json()["hits"][0]
    assert (near["id"], far["id"]) == ("turn-0", "turn-6")
    narrow = {"must": [{"key": "kind", "match": {"value": "turn"}}, {"key": "place", "range": {"gte": 3, "lte": 4}}]}
    hits = client.post("/api/v2/query", json={**body, "top_k": 10, "context": "turn-near", "filter": narrow}).json()[
        "hits"
    ]
    assert {hit["id"] for hit in hits} == {"turn-3", "turn-4"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "slug", "message"),
    [
        ("POST", "vectors", {"id": "x", "vector": [1, 2, 3]}, 422, "invalid-request", "vector: has 3 numbers"),
        ("POST", "vectors", {"id": "x", "vector": [0, 0]}, 422, "invalid-request", "zero vector"),
        ("POST", "vectors", {"id": "x", "vector": []}, 422, "invalid-request", "is empty"),
        ("POST", "query", {"vector": [1, 0], "context": "turn-nearr"}, 422, "unknown-context", "did you mean"),
        ("POST", "query", {"vector": [1, 0], "mode": "fast"}, 422, "invalid-request", "mode: must be one of"),
        ("POST", "query", {"vector": [1, 0], "top_k": 1000}, 422, "invalid-request", "top_k"),
        ("POST", "query", {"vector": [1, 0], "backend": "ibm"}, 422, "invalid-request", "there is no backend 'ibm'"),
        ("GET", "vectors/nobody", None, 404, "not-found", "there is no entity 'nobody'"),
        ("DELETE", "vectors/nobody", None, 404, "not-found", "there is no entity 'nobody'"),
        ("GET", "entanglement/groups/none", None, 404, "not-found", "there is no entanglement group 'none'"),
    ],
)
def test_what_is_wrong_is_told(
    client: httpx.Client, method: str, path: str, body: dict[str, Any] | None, status: int, slug: str, message: str
) -> None:
    insert(client, *ring("turn"))
    response = client.request(method, f"/api/v2/{path}", json=body)
    assert response.status_code == status, response.text
    assert response.json()["type"].endswith(slug)
    assert message in response.json()["detail"]
    assert client.get("/api/v2/vectors/x").status_code == 404, "nothing was written"


def test_a_body_above_the_limit_is_refused(client: httpx.Client) -> None:
    response = client.post("/api/v2/vectors", content=b"[" + b"1," * 3_000_000 + b"1]")
    assert response.status_code == 413, response.text
    assert response.json()["type"].endswith("body-too-large")


def test_a_deadline_is_kept(client: httpx.Client) -> None:
    insert(client, *ring("late"))
    body = {"vector": [1.0, 0.0], "context": "late-near", "backend": "ionq", "timeout_ms": 1, "refine": "always"}
    response = client.post("/api/v2/query", json=body)
    assert response.status_code == 504, response.text
    assert "timeout_ms" in response.json()["detail"]


def test_a_dead_provider_gives_the_classical_answer_and_says_so(client: httpx.Client) -> None:
    insert(client, *ring("dead"))
    body = {"vector": [1.0, 0.0], "context": "dead-near", "backend": "dead", "timeout_ms": 20_000, "refine": "always"}
    answer = client.post("/api/v2/query", json=body).json()
    assert answer["hits"][0]["id"] == "dead-0"
    assert not answer["refinement"]["ran"]
    assert "dead failed" in answer["refinement"]["why"]
    assert answer["refinement"]["provenance"] == "exact"


def test_states_are_recorded_by_the_actors(client: httpx.Client) -> None:
    insert(client, *ring("alive", 3))
    client.post(
        "/api/v2/query", json={"vector": [1.0, 0.0], "context": "alive-near", "refine": "always"}
    ).raise_for_status()
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        states = [client.get(f"/api/v2/states/alive-{i}").json() for i in range(3)]
        if all(state.get("phase") == "measured" for state in states):
            break
        time.sleep(0.1)
    assert [state["phase"] for state in states] == ["measured"] * 3
    insert(client, *ring("alive", 3))  # written anew: the old instance ends
    deadline, state = time.monotonic() + 10.0, states[0]
    while time.monotonic() < deadline and state["phase"] == "measured":
        time.sleep(0.1)
        state = client.get("/api/v2/states/alive-0").json()
    assert (state["phase"], state["generation"]) == ("created", states[0]["generation"] + 1)
    assert [(one["phase"], one["generation"]) for one in state["history"]] == [("archived", states[0]["generation"])]


def test_many_clients_at_once_all_get_their_own_answer(cluster: LiveCluster, client: httpx.Client) -> None:
    insert(client, *ring("many", 24))

    def ask(i: int) -> bool:
        angle = 2 * np.pi * (i % 24) / 24
        body = {
            "vector": [np.cos(angle), np.sin(angle)],
            "context": "many-near",
            "top_k": 1,
            "shots": 100_000,
            "refine": "always",
        }
        headers = {"api-key": ADMIN_KEY}
        hits = httpx.post(f"{cluster.url}/api/v2/query", json=body, headers=headers, timeout=60.0).json()["hits"]
        return bool(hits[0]["id"] == f"many-{i % 24}")

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(96)))


def test_metrics_tell_of_every_part(client: httpx.Client) -> None:
    client.get("/healthz").raise_for_status()
    assert client.get("/readyz").json() == {"status": "ready", "failing": []}
    time.sleep(1.5)  # both replicas push within a second
    text = client.get("/metrics").text
    for name in ("http_requests_total", "quantum_jobs_total", "state_transitions_total", "store_seconds_count"):
        assert name in text
    assert text.count("# TYPE http_requests_total") == 1
    replicas = {line.split('source="')[1].split('"')[0] for line in text.splitlines() if "circuit_cache{" in line}
    assert len({source for source in replicas if source.startswith("ingress-")}) == 2


def test_another_ray_job_makes_the_same_calls_by_handle(cluster: LiveCluster, client: httpx.Client) -> None:
    insert(client, *ring("handle"))
    program = f"""
import json
import numpy as np
from cluster import connect_ray
from quantum_db.errors import NotFound, UnknownContext

db = connect_ray(data_dir={str(cluster.data_dir)!r})
db.insert_sync(id="from-ray", vector=np.array([0.0, 1.0]), metadata={{"who": "another job"}})
answer = db.query_sync(vector=np.array([1.0, 0.0]), context="handle-near", top_k=2, shots=100_000)
refused = []
for call in (lambda: db.fetch_sync("nobody"), lambda: db.query_sync([1, 0], context="handle-nearr")):
    try:
        call()
    except (NotFound, UnknownContext) as error:
        refused.append(type(error).__name__)
db.insert_sync(id="ray-partner", vector=[0.0, 1.0])
group = db.create_entangled_group_sync("ray-group", ["ray-partner", "from-ray"], 0.5)
changed = db.update_sync("from-ray", vector=[1.0, 0.0], propagate=True)
wider = db.update_group_sync("ray-group", expected_version=group.version, add=["handle-1"])
groups = [
    wider.version,
    db.group_sync("ray-group").entity_ids,
    [one.group_id for one in db.groups_sync(member="handle-1")[0]],
]
db.delete_group_sync("ray-group", expected_version=2)
db.query_sync(vector=[1.0, 0.0], context="handle-near", session_id="by-handle", observe=True, mode="classical")
session = db.session_sync("by-handle")["session_id"]
db.end_session_sync("by-handle")
made = db.state_sync("handle-0")["generation"] >= 1
print(json.dumps([db.fetch_sync("from-ray").metadata, answer[0].id, refused, group.version]))
print(json.dumps([changed.moved, groups, session, made]))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    told, more = (json.loads(line) for line in result.stdout.splitlines()[-2:])
    assert told == [{"who": "another job"}, "handle-0", ["NotFound", "UnknownContext"], 1]
    groups = [2, ["ray-partner", "from-ray", "handle-1"], ["ray-group"]]
    assert more == [["ray-partner"], groups, "by-handle", True]
    assert client.get("/api/v2/vectors/from-ray").json()["metadata"] == {"who": "another job"}


def listening_addresses(pids: set[int]) -> set[str]:
    """Return the local addresses on which these processes listen, as /proc writes them."""
    inodes = set()
    for pid in pids:
        folder = Path(f"/proc/{pid}/fd")
        try:
            links = [str(link.readlink()) for link in folder.iterdir()]
        except OSError:
            continue
        inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1].split(":")[0])
    return found


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_everything_listens_on_loopback_only(cluster: LiveCluster, client: httpx.Client) -> None:
    client.get("/healthz").raise_for_status()
    addresses = listening_addresses({cluster.process.pid, *(child.pid for child in descendants(cluster.process.pid))})
    assert addresses, "the check sees the listening sockets"
    assert addresses <= LOOPBACK


def test_the_listening_check_sees_a_planted_open_port() -> None:
    program = "import socket,time; s=socket.create_server(('0.0.0.0', 0)); print('up', flush=True); time.sleep(30)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert listening_addresses({process.pid}) == {"00000000"}
        process.kill()


def test_a_stopped_cluster_leaves_nothing_running_and_forgets_nothing(tmp_path: Path) -> None:
    """Start, write, SIGINT, start again on the same data with Ray's head on Redis, read; then SIGTERM."""
    data_dir, path = tmp_path / "data", tmp_path / "config.yaml"
    with running_emulator() as emulator, running_redis() as redis:
        config = write_config(path, data_dir, emulator.url, emulator.token_env)
        with live_cluster(config, data_dir) as first, admitted(first.url) as client:
            insert(client, *ring("kept"))
            group = {"group_id": "g", "entity_ids": ["kept-0", "kept-1"], "correlation_strength": 0.5}
            client.post("/api/v2/entanglement/groups", json=group).raise_for_status()
            below = descendants(first.process.pid)
            assert len(below) > 5
        assert first.process.returncode == 0
        assert not alive(below)
        assert redis.key_count() == 0
        config = write_config(path, data_dir, emulator.url, emulator.token_env, redis.url)
        with live_cluster(config, data_dir) as second, admitted(second.url) as client:
            assert redis.key_count() > 0, "Ray's head keeps its state there"
            kept = client.get("/api/v2/vectors/kept-3").json()
            assert kept["metadata"] == {"place": 3, "kind": "kept"}
            assert [context["weight"] for context in kept["contexts"]] == [0.75, 0.25]
            assert client.get("/api/v2/entanglement/groups/g").json()["version"] == 1
            body = {"vector": [1.0, 0.0], "context": "kept-near", "top_k": 1}
            assert client.post("/api/v2/query", json=body).json()["hits"][0]["id"] == "kept-0"
            below = descendants(second.process.pid)
            second.process.send_signal(signal.SIGTERM)
            second.process.wait(60)
        assert second.process.returncode == 128 + signal.SIGTERM
        assert not alive(below)
        assert redis.key_count() == 0, "what Ray kept there is gone with it"
