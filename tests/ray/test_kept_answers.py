"""Kept answers and copies of stores: no answer is older than the last acknowledged write, over a kill of the writer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.ray.conftest import LiveCluster, actors_below, admitted, live_cluster
from tests.redis_server import running_redis

ASK: dict[str, Any] = {"vector": [1.0, 0.0], "mode": "classical", "top_k": 1}
RUN_S = 6.0
READERS = 4
KNOWN_AGAIN_S = 20.0


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    tmp_path = tmp_path_factory.mktemp("keeping")
    data_dir = tmp_path / "data"
    with running_redis() as redis:
        content = {
            "data_dir": str(data_dir),
            "http": {"port": 0},
            "ray": {"replicas": 2},
            "cache": {"max_bytes": 1_000_000, "ttl_s": 60.0, "redis_url": redis.url},
        }
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(content), encoding="utf-8")
        with live_cluster(config, data_dir) as cluster:
            yield cluster


def put(client: httpx.Client, number: int) -> bool:
    body = {"id": "one", "vector": [1.0, 0.0], "metadata": {"number": number}}
    return client.post("/api/v2/vectors", json=body).status_code == 201


def counted(client: httpx.Client, metric: str, label: str) -> dict[str, float]:
    """Return a counter's sums over all processes by one of its labels."""
    found: dict[str, float] = {}
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(f"{metric}{{"):
            name = line.partition(f'{label}="')[2].partition('"')[0]
            found[name] = found.get(name, 0.0) + float(line.rpartition(" ")[2])
    return found


def outcomes(client: httpx.Client) -> dict[str, float]:
    return counted(client, "query_cache_total", "outcome")


def copy_reads(client: httpx.Client) -> float:
    return counted(client, "store_reads_total", "where").get("copy", 0.0)


class Run:
    """Writers and readers of one entity, whose number grows."""

    def __init__(self, cluster: LiveCluster, ask: dict[str, Any], pause_s: float = 0.05) -> None:
        self.cluster = cluster
        self.ask = ask
        self.pause_s = pause_s
        self.acknowledged = self.hits = 0
        self.killed = False
        self.faults: list[str] = []
        self._ended = threading.Event()

    def read(self) -> None:
        with admitted(self.cluster.url) as client:
            while not self._ended.is_set():
                least = self.acknowledged
                answer = client.post("/api/v2/query", json=self.ask)
                if answer.status_code == 200:
                    self.hits += answer.json()["cached"]
                    number = answer.json()["hits"][0]["metadata"]["number"]
                    if number < least:
                        self.faults.append(f"{number} after {least} was acknowledged")

    def write(self, client: httpx.Client) -> None:
        number, end_s = 0, time.monotonic() + RUN_S
        while time.monotonic() < end_s:
            number += 1
            if put(client, number):
                self.acknowledged = number
            if not self.killed and time.monotonic() > end_s - RUN_S / 2:
                for process in actors_below(self.cluster.process.pid, "StoreShard"):
                    process.kill()
                    self.killed = True
            time.sleep(self.pause_s)

    def go(self, client: httpx.Client) -> None:
        readers = [threading.Thread(target=self.read) for _ in range(READERS)]
        for reader in readers:
            reader.start()
        try:
            self.write(client)
        finally:
            self._ended.set()
            for reader in readers:
                reader.join()


def test_no_answer_is_older_than_the_last_acknowledged_write(keeping: LiveCluster) -> None:
    run = Run(keeping, ASK)
    with admitted(keeping.url) as client:
        assert put(client, 0)
        run.go(client)
        assert run.faults == []
        assert run.killed
        assert run.acknowledged > 10
        assert run.hits > 10, "what is kept was used"
        deadline = time.monotonic() + KNOWN_AGAIN_S
        while not client.post("/api/v2/query", json=ASK).json()["cached"]:
            assert time.monotonic() < deadline, outcomes(client)
            time.sleep(0.05)
        assert not client.post("/api/v2/query", json={**ASK, "fresh": True}).json()["cached"]
        found = outcomes(client)
        assert found["local"] > 0
        assert found["shared"] > 0, "a replica was told by Redis what the other had answered"


def test_no_copy_of_a_store_is_older_than_the_last_acknowledged_write(keeping: LiveCluster) -> None:
    ask = {**ASK, "fresh": True}
    run = Run(keeping, ask, pause_s=0.5)
    with admitted(keeping.url) as client:
        assert put(client, 0)
        deadline = time.monotonic() + KNOWN_AGAIN_S
        while copy_reads(client) < 10:
            assert time.monotonic() < deadline, counted(client, "store_reads_total", "where")
            client.post("/api/v2/query/batch", json={"queries": [ask] * 30})
        before = copy_reads(client)
        run.go(client)
        assert run.faults == []
        assert run.killed
        assert run.acknowledged > 3
        assert copy_reads(client) > before + 3, "a copy that follows was used between writes"
        deadline = time.monotonic() + KNOWN_AGAIN_S
        known = copy_reads(client)
        while copy_reads(client) < known + 20:
            assert time.monotonic() < deadline, "the new writer's store was not copied"
            client.post("/api/v2/query/batch", json={"queries": [ask] * 30})
