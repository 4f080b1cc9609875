"""Two clusters, one after the other, on the same journals in Redis: the second knows what the first was doing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.api.emulator_server import TOKEN, emulator_process
from tests.ray.conftest import LiveCluster, admitted, alive, descendants, live_cluster, write_config
from tests.ray.test_cluster import insert, ring
from tests.ray.test_jobs import BELL, ended
from tests.ray.test_served_states import until
from tests.ray.test_transactions import seen
from tests.redis_server import DURABLE, RedisServer, running_redis

TOKEN_ENV = "QQC_TWO_CLUSTERS_TOKEN"
SMALL = {"x-tenant": "small"}
JOB_S = 2.0
ONCE = {"idempotency-key": "pair"}
PAIR = {
    "operations": [
        {"insert": {"id": "pair-0", "vector": [1.0, 0.0], "coherence_time_ms": 3_600_000.0}},
        {"insert": {"id": "pair-1", "vector": [0.0, 1.0], "coherence_time_ms": 3_600_000.0}},
        {
            "create_entanglement": {
                "group_id": "pair",
                "entity_ids": ["pair-0", "pair-1"],
                "correlation_strength": 0.5,
            }
        },
    ]
}


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """The settings of production.yaml that come from the environment; and a place for what a killed Ray leaves."""
    with running_redis(*DURABLE, folder=tmp_path) as server, tempfile.TemporaryDirectory(prefix="q") as short:
        for section in ("JOBS", "STATES", "GROUPS"):
            monkeypatch.setenv(f"QUANTUM_DB_{section}__JOURNAL_URL", server.url)
        monkeypatch.setenv("TMPDIR", short)
        monkeypatch.setenv(TOKEN_ENV, TOKEN)
        yield server


def kill_all(cluster: LiveCluster) -> list[psutil.Process]:
    """SIGKILL every process of a cluster; return them."""
    processes = [*descendants(cluster.process.pid), psutil.Process(cluster.process.pid)]
    for process in processes:
        process.suspend()  # so that nobody sees another die, and does something about it
    for process in processes:
        process.kill()
    cluster.process.wait(10)
    psutil.wait_procs(processes, timeout=10)
    return processes


def submit(client: httpx.Client, shots: int) -> str:
    taken = client.post("/api/v2/jobs", json={"backend": "forte", "shots": shots, "circuits": [BELL]}, headers=SMALL)
    assert taken.status_code == 202, taken.text
    return taken.headers["location"]


@pytest.mark.timeout(400)
def test_a_second_cluster_finds_jobs_results_budgets_and_data(redis: RedisServer, tmp_path: Path) -> None:
    """$8.30 and $8.38 of a day's $20: the first is paid, the second is at the provider when everything is killed."""
    data_dir = tmp_path / "data"
    with emulator_process("--control", "--started-s", str(JOB_S), "--qpu-price", "braket-forte") as emulator:
        config = write_config(tmp_path / "config.yaml", data_dir, emulator.url, TOKEN_ENV)

        def accepted() -> list[int]:
            return list(emulator.ledger()["times_accepted"].values())

        with live_cluster(config, data_dir) as first, admitted(first.url) as client:
            insert(client, *ring("moved"))
            client.post("/api/v2/transactions", json=PAIR, headers=ONCE).raise_for_status()
            done = client.post("/api/v2/transactions", json=PAIR, headers=ONCE).json()
            group = client.get("/api/v2/entanglement/groups/pair").json()
            states = [until(lambda name=name: seen(client, name)) for name in ("pair-0", "pair-1")]
            one = submit(client, 100)
            job = ended(client, one, "small")
            spent: dict[str, Any] = client.get("/api/v2/costs", headers=SMALL).json()
            other = submit(client, 101)
            deadline = time.monotonic() + 30.0
            while len(accepted()) < 2 and time.monotonic() < deadline:
                time.sleep(0.02)
            assert accepted() == [1, 1]
            assert not alive(kill_all(first))
        beside_the_store = {"access.sqlite", "collections.sqlite", "commits.sqlite"}
        assert {path.name for path in data_dir.glob("*.sqlite")} == beside_the_store, "the rest is in Redis alone"
        began_s = time.monotonic()
        with live_cluster(config, data_dir) as second, admitted(second.url) as client:
            print(f"the second cluster was ready after {time.monotonic() - began_s:.1f} s")
            assert client.get(one, headers=SMALL).json() == job
            taken_up = ended(client, other, "small")
            assert taken_up["status"] == "completed"
            assert taken_up["cost_usd"] == pytest.approx(8.38)
            costs = client.get("/api/v2/costs", headers=SMALL).json()
            assert costs["total_usd"] == pytest.approx(spent["total_usd"] + 8.38) == pytest.approx(16.68)
            refused = client.post(
                "/api/v2/jobs", json={"backend": "forte", "shots": 102, "circuits": [BELL]}, headers=SMALL
            )
            assert refused.json()["detail"] == "the work is estimated at $8.46; $3.32 is left of today's $20.00"
            assert ended(client, submit(client, 100), "small")["cost_usd"] == 0.0, "its result is known"
            assert accepted() == [1, 1], "nothing was submitted again"
            assert client.post("/api/v2/transactions", json=PAIR, headers=ONCE).json() == done
            assert client.get("/api/v2/entanglement/groups/pair").json() == group
            assert [seen(client, name) for name in ("pair-0", "pair-1")] == states
            body = {"vector": [1.0, 0.0], "context": "moved-near", "top_k": 1}
            assert client.post("/api/v2/query", json=body).json()["hits"][0]["id"] == "moved-0"
