"""A cluster whose replicas and workers follow the load: up, down, and every request answered meanwhile.

Queries wait half a second for the emulator's machine, so that a few clients make a load of them.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from cluster.emulator import Emulator, running_emulator
from loadtests.watch import Counts, counts_of
from tests.chaos.runs import runs
from tests.ray.conftest import LiveCluster, admitted, live_cluster
from tests.ray.test_cluster import insert, ring

MOST, WAIT_S = 40, 90.0

pytestmark = pytest.mark.skipif(runs(0, 1) == 0, reason="takes two minutes; make chaos runs it")


def config(folder: Path, emulator_url: str, token_env: str) -> Path:
    spec = {"kind": "ionq", "url": emulator_url, "token_env": token_env}
    content = {
        "data_dir": str(folder / "data"),
        "http": {"port": 0},
        "ray": {"max_replicas": 2, "target_ongoing_requests": 6, "scale_down_s": 1, "max_ongoing_requests": MOST},
        "jobs": {
            "max_workers": 3,
            "jobs_per_worker": 3,
            "scale_cooldown_s": 1.5,
            "backends": {"simulator": {"kind": "simulator"}, "ionq": spec},
        },
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


class Askers:
    """Clients that ask one query after another until they are told to stop; what they are answered is counted."""

    def __init__(self, live: LiveCluster, clients: int) -> None:
        self.statuses: Counter[int] = Counter()
        self.told: list[httpx.Response] = []
        self._live = live
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._lock = threading.Lock()
        self._asking = [self._pool.submit(self._ask, seed) for seed in range(clients)]

    def stop(self) -> None:
        self._stop.set()
        for asking in self._asking:
            asking.result(WAIT_S)
        self._pool.shutdown()

    def _ask(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        body = {"context": "e-near", "backend": "ionq", "refine": "always", "timeout_ms": 30_000, "shots": 100}
        with admitted(self._live.url) as client:
            while not self._stop.is_set():
                answer = client.post("/api/v2/query", json={**body, "vector": rng.normal(size=2).tolist()})
                with self._lock:
                    self.statuses[answer.status_code] += 1
                    if answer.status_code != 200:
                        self.told.append(answer)


def accepted(emulator: Emulator) -> dict[str, int]:
    """Return how often the emulator accepted each job."""
    headers = {"Authorization": f"apiKey {os.environ[emulator.token_env]}"}
    answer = httpx.get(emulator.url.replace("/v0.4", "/emulator/ledger"), headers=headers)
    times: dict[str, int] = answer.raise_for_status().json()["times_accepted"]
    return times


def until(client: httpx.Client, condition: Callable[[Counts], bool]) -> Counts:
    """Return the first counts that are so."""
    end_s = time.monotonic() + WAIT_S
    while not condition(found := counts_of(client.get("/metrics").text)):
        assert time.monotonic() < end_s, found
        time.sleep(0.2)
    return found


@pytest.mark.timeout(240)
def test_replicas_and_workers_follow_the_load_and_no_request_is_lost(tmp_path: Path) -> None:
    with (
        running_emulator(["--started-s", "0.5", "--control"]) as emulator,
        live_cluster(config(tmp_path, emulator.url, emulator.token_env), tmp_path / "data") as live,
        admitted(live.url) as client,
    ):
        insert(client, *ring("e"))
        assert until(client, lambda one: one.workers > 0) == Counts(1, 1.0, 0.0, 0.0)

        many, few = Askers(live, 24), Askers(live, 2)
        until(client, lambda one: one.replicas == 2 and one.workers >= 2.0)
        many.stop()
        until(client, lambda one: one.replicas == 1 and one.workers == 1.0)
        few.stop()
        assert set(many.statuses) == set(few.statuses) == {200}, (many.told + few.told)[:1]
        metrics = client.get("/metrics").text
        assert set(accepted(emulator).values()) == {1}, "a job was paid for twice"
        for way in ("up", "down"):
            assert f'quantum_worker_changes_total{{direction="{way}",source="jobs"}}' in metrics

        flood = Askers(live, 3 * MOST)
        time.sleep(1.5)
        assert client.get("/healthz").status_code == 200
        flood.stop()
        assert set(flood.statuses) == {200, 503}
        for answer in flood.told:
            problem = answer.json()
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["content-type"] == "application/problem+json"
            assert problem["type"] == "urn:quantum-db:problem:overloaded"
            assert (problem["instance"], problem["request_id"]) == ("/api/v2/query", answer.headers["x-request-id"])
        again = Askers(live, 4)
        time.sleep(1.0)
        again.stop()
        assert set(again.statuses) == {200}
