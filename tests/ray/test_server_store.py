"""A cluster over a Qdrant server, as in production.yaml: transactions on replicas that search it by themselves."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.qdrant_server import QdrantProcess, running_qdrant
from tests.ray.conftest import LiveCluster, actors_below, admitted, live_cluster
from tests.redis_server import DURABLE, RedisServer, running_redis

PATH = "/api/v2/transactions"
PAIR = ("left", "right")


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[QdrantProcess, RedisServer]]:
    with (
        running_redis(*DURABLE, folder=tmp_path) as redis,
        running_qdrant() as qdrant,
        tempfile.TemporaryDirectory(prefix="q") as short,
    ):
        monkeypatch.setenv("TMPDIR", short)
        yield qdrant, redis


def config(path: Path, data_dir: Path, qdrant: QdrantProcess, redis: RedisServer) -> Path:
    content = {
        "data_dir": str(data_dir),
        "http": {"port": 0},
        "ray": {"replicas": 2},
        "store": {"kind": "qdrant", "url": qdrant.url, "journal_url": redis.url},
        "states": {"journal_url": redis.url},
        "groups": {"journal_url": redis.url},
        "jobs": {"journal_url": redis.url},
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def pair(n: int) -> dict[str, Any]:
    return {"operations": [{"insert": {"id": one, "vector": [1.0, 0.0], "metadata": {"n": n}}} for one in PAIR]}


def seen(client: httpx.Client) -> list[int] | None:
    """Return the numbers of the pair, as one query sees them; None where the cluster asks to wait."""
    body = {"vector": [1.0, 0.0], "top_k": 2, "mode": "classical"}
    answer = client.post("/api/v2/query", json=body)
    if answer.status_code == 503:
        assert int(answer.headers["retry-after"]) >= 1
        return None
    assert answer.status_code == 200, answer.text
    hits = answer.json()["hits"]
    assert sorted(hit["id"] for hit in hits) == sorted(PAIR)
    return [hit["metadata"]["n"] for hit in hits]


def watch(url: str, ended: threading.Event) -> list[list[int]]:
    """Look again and again until told to end; return what was seen."""
    found = []
    with admitted(url) as client:
        while not ended.is_set():
            numbers = seen(client)
            if numbers is not None:
                found.append(numbers)
    return found


def commit(client: httpx.Client, n: int, within_s: float = 60.0) -> None:
    """Commit a round under its own key, asking again while the cluster says so."""
    deadline = time.monotonic() + within_s
    while True:
        done = client.post(PATH, json=pair(n), headers={"idempotency-key": f"pair-{n}"})
        if done.status_code == 201:
            return
        assert done.status_code == 503, done.text
        assert time.monotonic() < deadline, done.text
        time.sleep(0.2)


def store_process(cluster: LiveCluster) -> Any:
    deadline = time.monotonic() + 60.0
    while True:
        found = actors_below(cluster.process.pid, "StoreShard")
        if found:
            return found[0]
        assert time.monotonic() < deadline, "the store's process has not come back"
        time.sleep(0.1)


@pytest.mark.timeout(400)
def test_transactions_are_whole_on_all_replicas_over_kills_and_in_the_next_cluster(
    parts: tuple[QdrantProcess, RedisServer], tmp_path: Path
) -> None:
    qdrant, redis = parts
    first_config = config(tmp_path / "first.yaml", tmp_path / "first", qdrant, redis)
    with (
        live_cluster(first_config, tmp_path / "first") as first,
        admitted(first.url) as client,
        ThreadPoolExecutor(3) as threads,
    ):
        commit(client, 0)
        ended = threading.Event()
        watchers = [threads.submit(watch, first.url, ended) for _ in range(3)]
        took_s, answered = [], 0
        for n in range(1, 25):
            if n in (8, 16):
                store_process(first).kill()
            began_s = time.monotonic()
            commit(client, n)
            took_s.append(time.monotonic() - began_s)
            looks = [seen(client) for _ in range(4)]  # by one replica or the other
            assert all(numbers in (None, [n, n]) for numbers in looks), looks
            answered += sum(numbers is not None for numbers in looks)
        ended.set()
        numbers = [one for watcher in watchers for one in watcher.result(60.0)]
        assert all(left == right for left, right in numbers), "a half was seen"
        assert len(numbers) > 24
        assert answered > 80, "looks are refused while the coordinator is away, and only then"
        print(f"a transaction took {sorted(took_s)[len(took_s) // 2] * 1000:.1f} ms, at most {max(took_s):.1f} s")

        path = f"/api/v2/vectors/{PAIR[0]}"
        version = client.get(path).json()["version"]
        changed = client.patch(path, json={"metadata": {"n": 100}}, headers={"if-match": f'"{version}"'})
        assert changed.status_code == 200, changed.text
        batch = {"vectors": [{"id": one, "vector": [1.0, 0.0], "metadata": {"n": 101}} for one in PAIR]}
        done = client.post("/api/v2/vectors/batch", json={**batch, "transaction": True})
        assert done.status_code == 201, done.text
        assert seen(client) == [101, 101]
        assert client.post("/api/v2/vectors", json=batch["vectors"][0]).status_code == 201
        deleted = client.post(PATH, json={"operations": [{"delete": {"id": PAIR[1]}}]})
        assert deleted.status_code == 201, deleted.text
        assert client.get(f"/api/v2/vectors/{PAIR[1]}").status_code == 404
        commit(client, 102)
    second_config = config(tmp_path / "second.yaml", tmp_path / "second", qdrant, redis)
    with (
        live_cluster(second_config, tmp_path / "second") as second,
        admitted(second.url) as client,
    ):
        assert seen(client) == [102, 102], "another machine with another data_dir sees the same"
        commit(client, 103)
        assert seen(client) == [103, 103]
