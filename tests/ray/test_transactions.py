"""Transactions on a whole cluster: over HTTP and by handle, and with the store's process killed in between."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import Any

import httpx
import psutil
import pytest

from tests.ray.conftest import ROOT, LiveCluster, actors_below, admitted
from tests.ray.test_served_states import until

PATH = "/api/v2/transactions"


def body(prefix: str, n: int) -> dict[str, Any]:
    """Two entities and their group: all of it is there, or nothing."""
    ids = [f"{prefix}-{n}-{side}" for side in ("left", "right")]
    inserts = [{"insert": {"id": one, "vector": [1.0, 0.1 * n], "metadata": {"kind": prefix, "n": n}}} for one in ids]
    group = {"group_id": f"{prefix}-{n}", "entity_ids": ids, "correlation_strength": 0.5}
    return {"operations": [*inserts, {"create_entanglement": group}]}


def found(client: httpx.Client, prefix: str, n: int) -> tuple[bool, bool, bool]:
    paths = [f"/api/v2/vectors/{prefix}-{n}-left", f"/api/v2/vectors/{prefix}-{n}-right"]
    statuses = [client.get(path).status_code for path in [*paths, f"/api/v2/entanglement/groups/{prefix}-{n}"]]
    assert set(statuses) <= {200, 404}, statuses
    left, right, group = (status == 200 for status in statuses)
    return left, right, group


def test_a_transaction_is_there_as_a_whole_and_answered_the_same_by_its_key(client: httpx.Client) -> None:
    done = client.post(PATH, json=body("whole", 0), headers={"idempotency-key": "whole-0"})
    assert done.status_code == 201, done.text
    assert found(client, "whole", 0) == (True, True, True)
    answer = done.json()
    stored = client.get("/api/v2/vectors/whole-0-left")
    assert stored.json()["version"] == answer["commit"] == answer["results"][0]["version"]
    assert stored.headers["etag"] == f'"{answer["commit"]}"'
    again = client.post(PATH, json=body("whole", 0), headers={"idempotency-key": "whole-0"})
    assert again.json() == answer
    other = client.post(PATH, json=body("whole", 1), headers={"idempotency-key": "whole-0"})
    assert other.status_code == 409
    assert "stands for another transaction" in other.json()["detail"]
    assert found(client, "whole", 1) == (False, False, False)


def test_a_conflict_leaves_nothing_behind_and_names_the_operation(client: httpx.Client) -> None:
    client.post("/api/v2/vectors", json={"id": "stock", "vector": [1.0, 0.0], "metadata": {"left": 3}})
    version = client.get("/api/v2/vectors/stock").json()["version"]
    path = "/api/v2/vectors/stock"
    changed = client.patch(path, json={"metadata": {"left": 2}}, headers={"if-match": f'"{version}"'})
    assert changed.status_code == 200, changed.text
    stale = client.patch(path, json={"metadata": {"left": 2}}, headers={"if-match": f'"{version}"'})
    assert stale.status_code == 409
    operations = body("conflict", 0)["operations"]
    operations.append({"update": {"id": "stock", "metadata": {"left": 0}, "expected_version": version}})
    refused = client.post(PATH, json={"operations": operations})
    assert refused.status_code == 409
    problem = refused.json()
    assert problem["errors"][0]["path"] == "operations[3].update"
    assert f"is at version {changed.json()['version']}, not {version}" in problem["detail"]
    assert found(client, "conflict", 0) == (False, False, False)
    assert client.get(path).json()["metadata"] == {"left": 2}


def test_a_group_that_contradicts_another_refuses_the_whole_transaction(client: httpx.Client) -> None:
    assert client.post(PATH, json=body("group", 0)).status_code == 201
    operations = body("group", 1)["operations"]
    operations[2]["create_entanglement"]["group_id"] = "group-0"
    refused = client.post(PATH, json={"operations": operations})
    assert refused.status_code == 409, refused.text
    assert found(client, "group", 1) == (False, False, False)
    assert client.post(PATH, json=body("group", 1)).status_code == 201, "what was refused holds nothing up"


def test_partners_follow_an_update_in_the_same_commit(client: httpx.Client) -> None:
    vectors = [{"id": f"follow-{n}", "vector": [1.0, 0.0], "metadata": {"n": n}} for n in range(4)]
    client.post("/api/v2/vectors/batch", json={"vectors": vectors, "transaction": True}).raise_for_status()
    for n, strength in enumerate((0.5, 1.0, 0.0)):
        group = {"group_id": f"follow-{n}", "entity_ids": ["follow-0", f"follow-{n + 1}"]}
        client.post("/api/v2/entanglement/groups", json={**group, "correlation_strength": strength}).raise_for_status()
    change, key = {"vector": [0.0, 1.0], "propagate": True}, {"idempotency-key": "follow"}
    answer = client.patch("/api/v2/vectors/follow-0", json=change, headers=key)
    assert answer.status_code == 200, answer.text
    assert answer.json()["moved"] == ["follow-1", "follow-2"]
    again = client.patch("/api/v2/vectors/follow-0", json=change, headers=key)
    assert again.json() == answer.json()
    found = [client.get(f"/api/v2/vectors/follow-{n}").json() for n in range(4)]
    assert [one["version"] == answer.json()["version"] for one in found] == [True, True, True, False]
    for one, expected in zip(found, ([0.0, 1.0], [0.5**0.5, 0.5**0.5], [0.0, 1.0], [1.0, 0.0]), strict=True):
        assert one["vector"] == pytest.approx(expected, abs=1e-6)
    assert [one["metadata"]["n"] for one in found] == list(range(4))
    stale = {"id": "follow-1", "metadata": {}, "expected_version": answer.json()["version"] - 1}
    assert client.post(PATH, json={"operations": [{"update": stale}]}).status_code == 409, "a partner has a new version"


def test_a_batch_tells_what_became_of_each_item(client: httpx.Client) -> None:
    vectors = [{"id": "batch-0", "vector": [1.0, 0.0]}, {"id": "batch-1", "vector": [1.0, 0.0, 0.0]}]
    mixed = client.post("/api/v2/vectors/batch", json={"vectors": vectors})
    assert mixed.status_code == 207, mixed.text
    written, refused = mixed.json()["items"]
    assert (written["id"], written["status"]) == ("batch-0", "written")
    assert client.get("/api/v2/vectors/batch-0").json()["version"] == written["version"]
    assert (refused["id"], refused["status"], refused["problem"]["status"]) == ("batch-1", "refused", 422)
    together = client.post("/api/v2/vectors/batch", json={"vectors": vectors, "transaction": True})
    assert together.status_code == 422
    assert together.json()["errors"][0]["path"] == "vectors[1].vector"


def test_blocks_see_their_own_writes_and_lose_no_update(cluster: LiveCluster, client: httpx.Client) -> None:
    client.post("/api/v2/vectors", json={"id": "counter", "vector": [0.0, 1.0], "metadata": {"n": 0}})
    program = f"""
import asyncio, json
from cluster import connect_ray
from quantum_db.errors import Conflict, NotFound

db = connect_ray(data_dir={str(cluster.data_dir)!r})
told = []
with db.quantum_transaction() as qtx:
    qtx.insert(id="block-a", vector=[1.0, 0.0], contexts=[{{"name": "block", "weight": 1.0}}])
    qtx.insert(id="block-b", vector=[0.0, 1.0], contexts=[{{"name": "block", "weight": 1.0}}])
    qtx.create_entanglement(group_id="block", entity_ids=["block-a", "block-b"], correlation_strength=0.9)
    told.append([hit.id for hit in qtx.query([1.0, 0.0], context="block", mode="classical")])
    told.append(qtx.fetch("block-a").vector.tolist())
    try:
        db.fetch_sync("block-a")
    except NotFound:
        told.append("nobody else sees it")
told.append(db.fetch_sync("block-a").id)
try:
    with db.quantum_transaction() as qtx:
        qtx.delete("block-a")
        raise RuntimeError("changed my mind")
except RuntimeError:
    told.append(db.fetch_sync("block-a").id)
try:
    with db.quantum_transaction() as qtx:
        n = qtx.fetch("counter").metadata["n"]
        db.update_sync("counter", metadata={{"n": n + 10}})
        qtx.update("counter", metadata={{"n": n + 1}})
except Conflict as error:
    told.append(error.errors[0].path)

async def main():
    async with db.quantum_transaction() as qtx:
        stored = await qtx.fetch("counter")
        await qtx.update("counter", metadata={{"n": stored.metadata["n"] + 1}})
        return (await qtx.fetch("counter")).metadata["n"]

told.append(asyncio.run(main()))
told.append(db.fetch_sync("counter").metadata["n"])
print(json.dumps(told))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == [
        ["block-a", "block-b"],
        [1.0, 0.0],
        "nobody else sees it",
        "block-a",
        "block-a",
        "operations[0].update",
        11,
        11,
    ]


def store_process(cluster: LiveCluster) -> psutil.Process:
    (found,) = actors_below(cluster.process.pid, "StoreShard")
    return found


class Stream:
    """Two clients that send one transaction after the other, until they are stopped."""

    def __init__(self, url: str, prefix: str) -> None:
        self.url, self.prefix = url, prefix
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        self.wrong: list[str] = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.send, args=(first,)) for first in (0, 1)]
        for thread in self.threads:
            thread.start()

    def send(self, first: int) -> None:
        with admitted(self.url) as client:
            for n in range(first, 10_000, 2):
                if self.stopped.is_set():
                    return
                response = post(client, self.prefix, n)
                if response.status_code == 201:
                    self.acknowledged.add(n)
                    continue
                if response.status_code != 503 or "retry-after" not in response.headers:
                    self.wrong.append(response.text)
                self.refused.add(n)
                time.sleep(0.1)

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 60.0
        while len(self.acknowledged) < count:
            assert time.monotonic() < deadline, f"only {len(self.acknowledged)} of {count} were acknowledged in time"
            time.sleep(0.01)

    def stop(self) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        assert not self.wrong, self.wrong[0]


def seen(client: httpx.Client, entity_id: str) -> dict[str, Any] | None:
    response = client.get(f"/api/v2/states/{entity_id}")
    return dict(response.json()) if response.status_code == 200 else None


def post(client: httpx.Client, prefix: str, n: int) -> httpx.Response:
    return client.post(PATH, json=body(prefix, n), headers={"idempotency-key": f"{prefix}-{n}"})


@pytest.mark.parametrize("round_", range(2))
def test_a_killed_store_leaves_no_half_and_loses_nothing_acknowledged(
    cluster: LiveCluster, client: httpx.Client, round_: int
) -> None:
    prefix = f"kill{round_}"
    stream = Stream(cluster.url, prefix)
    try:
        stream.wait_for(10)
        store_process(cluster).kill()
        stream.wait_for(len(stream.acknowledged) + 10)
    finally:
        stream.stop()
    assert stream.refused, "somebody was in between"
    for n in sorted(stream.acknowledged | stream.refused):
        there = found(client, prefix, n)
        assert len(set(there)) == 1, f"half of {n}: {there}"
        assert n not in stream.acknowledged or all(there)
    for n in sorted(stream.acknowledged):  # states are told in the background, and again after a crash: once in effect
        for side in ("left", "right"):
            told = until(lambda one=f"{prefix}-{n}-{side}": seen(client, one))
            assert (told["generation"], told["history"]) == (1, []), told
    paths = [f"/api/v2/vectors/{prefix}-{n}-left" for n in stream.acknowledged]
    versions = [client.get(path).json()["version"] for path in paths]
    assert len(set(versions)) == len(versions), "no number comes twice"
    for n in sorted(stream.refused):
        again = post(client, prefix, n)
        assert again.status_code == 201, again.text
        assert found(client, prefix, n) == (True, True, True)
