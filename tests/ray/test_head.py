"""Ray's control process is killed, with its state in Redis: it is started again, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from cluster.emulator import running_emulator
from tests.ray.conftest import (
    LiveCluster,
    actors_below,
    admitted,
    alive,
    descendants,
    live_cluster,
    name_of,
    write_config,
)
from tests.ray.test_cluster import insert, ring
from tests.redis_server import running_redis

WAIT_S = 60.0


def control_processes(cluster: LiveCluster) -> list[psutil.Process]:
    return [one for one in alive(descendants(cluster.process.pid)) if name_of(one) == "gcs_server"]


def until(condition: Callable[[], bool]) -> float:
    """Return after how many seconds the condition is true."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < WAIT_S
        time.sleep(0.1)
    return time.monotonic() - began_s


def test_the_control_process_is_started_again_and_restarts_actors(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with running_emulator() as emulator, running_redis() as redis:
        config = write_config(tmp_path / "c.yaml", data_dir, emulator.url, emulator.token_env, redis.url)
        with live_cluster(config, data_dir) as live, admitted(live.url) as client:
            insert(client, *ring("head"))

            def answers() -> bool:
                body = {"vector": [1.0, 0.0], "context": "head-near", "top_k": 1}
                response = client.post("/api/v2/query", json=body)
                return response.status_code == 200 and response.json()["hits"][0]["id"] == "head-0"

            assert answers()
            (old,) = control_processes(live)
            old.kill()
            back_s = until(lambda: control_processes(live) not in ([], [old]))
            answers_s = until(answers)
            (store,) = actors_below(live.process.pid, "StoreShard")
            store.kill()
            until(lambda: not alive([store]))
            restarted_s = until(answers)
            insert(client, *ring("later"))
            print(f"back after {back_s:.1f} s, queries {answers_s:.1f} s later; a killed store {restarted_s:.1f} s")
            below = descendants(live.process.pid)
        assert live.process.returncode == 0
        assert not alive(below)
        assert redis.key_count() == 0
