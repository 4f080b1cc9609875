"""States, groups and sessions of a whole cluster: over HTTP, and after their actors were killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.ray.conftest import LiveCluster, actors_below, admitted, live_cluster
from tests.ray.test_cluster import insert, ring

WAIT_S = 60.0
PARTNERS = "/api/v2/entanglement/groups"


def until(found: Callable[[], Any], wait_s: float = WAIT_S) -> Any:
    """Return the first true value, asked for until then."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if value := found():
                return value
        time.sleep(0.05)
    raise AssertionError("it did not come true in time")


def kill_all(cluster: LiveCluster, actor: str) -> None:
    """SIGKILL every process of an actor class; return when they are gone."""
    killed = actors_below(cluster.process.pid, actor)
    assert len(killed) == 2, "one for each shard"
    for one in killed:
        os.kill(one.pid, signal.SIGKILL)
    psutil.wait_procs(killed, timeout=10.0)


def answered(client: httpx.Client, path: str) -> Iterator[httpx.Response]:
    """Ask until the answer is not 503; each 503 must say when to come back."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        response = client.get(path)
        yield response
        if response.status_code != 503:
            return
        assert int(response.headers["Retry-After"]) >= 1, response.text
        time.sleep(0.1)


def state(client: httpx.Client, entity_id: str) -> dict[str, Any]:
    *_, last = answered(client, f"/api/v2/states/{entity_id}")
    return dict(last.json())


def series(client: httpx.Client, name: str) -> dict[str, float]:
    """Return the value of a metric in each replica."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {one.labels["source"]: one.value for one in samples if one.labels["source"].startswith("ingress-")}


def test_states_are_what_they_were_after_their_actors_were_killed(cluster: LiveCluster, client: httpx.Client) -> None:
    bodies = [{**body, "coherence_time_ms": 3_600_000.0} for body in ring("kill", 12)]
    insert(client, *bodies)
    body = {"vector": [1.0, 0.0], "context": "kill-near", "refine": "always"}
    client.post("/api/v2/query", json=body).raise_for_status()
    until(lambda: all(state(client, f"kill-{i}").get("phase") == "measured" for i in range(12)))
    insert(client, *bodies[:3])  # written anew: a second instance, and history
    until(lambda: all(state(client, f"kill-{i}").get("phase") == "created" for i in range(3)))
    before = [state(client, f"kill-{i}") for i in range(12)]
    kill_all(cluster, "StateManager")
    after = [state(client, f"kill-{i}") for i in range(12)]
    assert after == before
    assert [len(one["history"]) for one in after] == [1] * 3 + [0] * 9
    client.delete("/api/v2/vectors/kill-4").raise_for_status()
    until(lambda: state(client, "kill-4")["phase"] == "archived")


def test_states_decohere_when_nobody_asks(client: httpx.Client) -> None:
    insert(client, *({**body, "coherence_time_ms": 50.0} for body in ring("fade", 3)))
    body = {"vector": [1.0, 0.0], "context": "fade-near", "refine": "always"}

    def decohered() -> float:
        found = text_string_to_metric_families(client.get("/metrics").text)
        return sum(
            sample.value
            for family in found
            for sample in family.samples
            if sample.name == "state_transitions_total" and sample.labels["to"] == "decohered"
        )

    before = decohered()
    client.post("/api/v2/query", json=body).raise_for_status()
    until(lambda: decohered() >= before + 3)


def test_groups_change_by_version_and_survive_their_actors(cluster: LiveCluster, client: httpx.Client) -> None:
    insert(client, *ring("tie", 8))
    for number in range(6):
        group = {"group_id": f"tie/{number}", "entity_ids": ["tie-0", f"tie-{number + 1}"], "correlation_strength": 0.5}
        created = client.post(PARTNERS, json=group)
        assert created.headers["ETag"] == f'"{created.json()["version"]}"'
    version = client.get(f"{PARTNERS}/tie/0").headers["ETag"]
    wider = client.patch(
        f"{PARTNERS}/tie/0", json={"add": ["tie-7"], "correlation_strength": 0.25}, headers={"If-Match": version}
    )
    assert wider.status_code == 200, wider.text
    assert (wider.json()["entity_ids"], wider.json()["correlation_strength"]) == (["tie-0", "tie-1", "tie-7"], 0.25)
    stale = client.patch(f"{PARTNERS}/tie/0", json={"remove": ["tie-1"]}, headers={"If-Match": version})
    assert stale.status_code == 409, stale.text
    assert client.delete(f"{PARTNERS}/tie/1").json()["deleted"]
    kill_all(cluster, "EntanglementRegistry")
    *_, kept = answered(client, f"{PARTNERS}/tie/0")
    assert kept.json() == wider.json()
    *_, deleted = answered(client, f"{PARTNERS}/tie/1")
    assert deleted.status_code == 404
    first = client.get(PARTNERS, params={"member": "tie-0", "limit": 3}).json()
    rest = client.get(PARTNERS, params={"member": "tie-0", "limit": 3, "cursor": first["next"]}).json()
    assert [one["group_id"] for one in (*first["groups"], *rest["groups"])] == [f"tie/{n}" for n in (0, 2, 3, 4, 5)]
    client.delete("/api/v2/vectors/tie-0").raise_for_status()
    assert client.get(PARTNERS, params={"member": "tie-0"}).json() == {"groups": [], "next": None}
    assert client.get(f"{PARTNERS}/tie/0").json()["entity_ids"] == ["tie-1", "tie-7"]
    assert client.get(f"{PARTNERS}/tie/2").status_code == 404, "one member is no group"


def test_every_replica_learns_of_a_change(client: httpx.Client, record_property: Callable[[str, object], None]) -> None:
    insert(client, *ring("told", 3))
    group = {"group_id": "told", "entity_ids": ["told-0", "told-1"], "correlation_strength": 0.5}
    client.post(PARTNERS, json=group).raise_for_status()
    last = "invalidation_last_at_seconds"
    until(lambda: len(series(client, last)) == 2)
    delays = []
    for write in (
        lambda: client.patch(f"{PARTNERS}/told", json={"add": ["told-2"], "expected_version": 1}),
        lambda: insert(client, *ring("told", 1)),
        lambda: client.delete("/api/v2/vectors/told-0"),
    ):
        start_s = time.time()
        write()
        told = until(lambda start_s=start_s: min(series(client, last).values()) > start_s and series(client, last))
        assert len(told) == 2
        delays.append(max(told.values()) - start_s)
    print("from write to the last replica's invalidation, s:", [round(one, 4) for one in delays])
    record_property("invalidation_s", delays)
    assert max(delays) < 5.0


def test_a_session_moves_weights_for_itself_and_outlives_its_actor(cluster: LiveCluster, client: httpx.Client) -> None:
    insert(client, *ring("ses", 6))
    group = {"group_id": "ses", "entity_ids": ["ses-0", "ses-1"], "correlation_strength": 0.5}
    client.post(PARTNERS, json=group).raise_for_status()
    body = {"vector": [1.0, 0.0], "context": "ses-far", "top_k": 6, "mode": "classical"}

    def weight(**more: Any) -> float:
        hits = client.post("/api/v2/query", json={**body, **more}).json()["hits"]
        return float(next(hit["context_probability"] for hit in hits if hit["id"] == "ses-1"))

    measuring = {"vector": [-1.0, 0.0], "context": "ses-far", "top_k": 1, "observe": True, "session_id": "mine"}
    top = client.post("/api/v2/query", json={**measuring}).json()["hits"][0]["id"]
    assert top == "ses-0"
    assert weight(session_id="mine") == pytest.approx(0.5 * 0.25 + 0.5)
    assert weight() == weight(session_id="other") == pytest.approx(0.25)
    theirs = {"x-tenant": "else"}
    for one in ring("ses", 6):
        client.post("/api/v2/vectors", json=one, headers=theirs).raise_for_status()
    other = client.post("/api/v2/query", json={**body, "session_id": "mine"}, headers=theirs).json()
    assert next(hit for hit in other["hits"] if hit["id"] == "ses-1")["context_probability"] == pytest.approx(0.25)
    before = client.get("/api/v2/sessions/mine").json()
    assert client.get("/api/v2/sessions/mine", headers={"x-tenant": "else"}).status_code == 404
    kill_all(cluster, "StateManager")
    *_, kept = answered(client, "/api/v2/sessions/mine")
    assert kept.json()["moves"] == before["moves"]
    client.delete("/api/v2/sessions/mine").raise_for_status()
    assert client.get("/api/v2/sessions/mine").status_code == 404
    assert weight(session_id="mine") == pytest.approx(0.25)


def test_the_number_of_shards_changes_between_starts(tmp_path: Path) -> None:
    """One shard, then three, of states and groups: nothing is lost."""
    path, data_dir = tmp_path / "config.yaml", tmp_path / "data"

    def configured(shards: int) -> Path:
        split = {"shards": shards}
        content = {"data_dir": str(data_dir), "http": {"port": 0}, "states": split, "groups": split}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    groups = [{"group_id": f"n{i}", "entity_ids": ["n-0", f"n-{i}"], "correlation_strength": 0.5} for i in (1, 2, 3)]
    with (
        live_cluster(configured(1), data_dir) as first,
        admitted(first.url) as client,
    ):
        insert(client, *({**body, "coherence_time_ms": 3_600_000.0} for body in ring("n", 12)))
        for group in groups:
            client.post(PARTNERS, json=group).raise_for_status()
        until(lambda: all(state(client, f"n-{i}").get("phase") == "created" for i in range(12)))
        before = [state(client, f"n-{i}") for i in range(12)]
    with (
        live_cluster(configured(3), data_dir) as second,
        admitted(second.url) as client,
    ):
        assert [state(client, f"n-{i}") for i in range(12)] == before
        found = client.get(PARTNERS, params={"member": "n-0"}).json()["groups"]
        assert [{name: one[name] for name in groups[0]} for one in found] == groups
