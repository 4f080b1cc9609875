"""The client on a real cluster by each of its ways: over HTTP, by Ray handle, and on a local cluster of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from cluster.background import LOG_FILE, found
from quantum_db import Config, QuantumDB
from quantum_db.client.routes import ROUTES
from quantum_db.errors import Unavailable
from serve_app.ingress import HANDLE_CALLS, JOB_CALLS, SQL_CALLS
from tests.ray.conftest import ROOT, LiveCluster

TIMEOUT_S = 200.0


def program(code: str, data_dir: Path, **more: str) -> list[str]:
    """Run a program and return the lines that it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "QUANTUM_DB_DATA_DIR": str(data_dir), **more}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()


EVERYTHING = """
import asyncio, json
import numpy as np
from quantum_db import Config, QuantumDB
from quantum_db.errors import Conflict, NotFound, UnknownContext

def tell(db, name):
    told = []
    async def main():
        async with db.connect() as conn:
            await conn.insert(id=f"{name}-1", vector=np.array([0.6, 0.8]), contexts=[(name, 0.7), ("other", 0.3)])
            outcome = await conn.insert_batch(ids=[f"{name}-2", f"{name}-3"], vectors=np.eye(2, dtype=np.float32),
                                              contexts=[[(name, 1.0)]] * 2)
            told.append(outcome.check().written)
            found = await conn.query(vector=[0.6, 0.8], context=name, top_k=10)
            told.append([hit.id for hit in found])
            searches = (db.quantum_search(vector, context=name) for vector in ([0, 1], [1, 0]))
            both = await asyncio.gather(*searches)
            told.append([answer[0].id for answer in both])
            told.append(both[0].refinement.provenance)
            for call in (db.fetch("nobody"), db.query([1, 0], context=name + "x")):
                try:
                    await call
                except (NotFound, UnknownContext) as error:
                    told.append(type(error).__name__)
            group = await db.create_entangled_group(f"{name}-group", [f"{name}-1", f"{name}-2"], 0.5)
            measured = await db.measure_correlation(group.group_id, shots=500)
            told.append(measured.shots)
            async with db.quantum_transaction() as qtx:
                stored = await qtx.fetch(f"{name}-1")
                await qtx.update(f"{name}-1", metadata={"seen": len(stored.contexts)})
            told.append((await db.fetch(f"{name}-1")).metadata)
            told.append((await db.state(f"{name}-1"))["entity_id"])
            told.append("simulator" in await db.backends())
    asyncio.run(main())
    told.append(db.query_sync(vector=[1.0, 0.0], context=name)[0].id)
    db.close_sync()
    return told
"""

EXPECTED = [
    2,
    ["{}-1", "{}-3", "{}-2"],
    ["{}-3", "{}-2"],
    "simulated shots",
    "NotFound",
    "UnknownContext",
    500,
    {"seen": 2},
    "{}-1",
    True,
    "{}-2",
]


def expected(name: str) -> object:
    return json.loads(json.dumps(EXPECTED).replace("{}", name))


def test_all_calls_work_over_http_and_by_handle_alike(cluster: LiveCluster) -> None:
    address = json.loads((cluster.data_dir / "cluster.json").read_text())["ray_address"]
    code = f"""{EVERYTHING}
from cluster import connect_ray
print(json.dumps([tell(QuantumDB(Config(url={cluster.url!r})), "by-http"),
                  tell(QuantumDB(Config(ray_address={address!r})), "by-handle"),
                  tell(connect_ray(), "by-connect"),
                  tell(QuantumDB(), "by-joining")]))
"""
    told = json.loads(program(code, cluster.data_dir)[-1])
    assert told == [expected(name) for name in ("by-http", "by-handle", "by-connect", "by-joining")]
    assert found(cluster.data_dir.resolve()) is not None, "what was joined is not stopped"


def test_ray_get_takes_the_answer_of_a_call(cluster: LiveCluster) -> None:
    code = """
import numpy as np, ray
from cluster import connect_ray, remote
from quantum_db.errors import NotFound

connect_ray().insert_sync(id="by-ref", vector=[0.6, 0.8], contexts=[("ref", 1.0)])
first, second = remote("query", {"vector": np.array([0.6, 0.8]), "context": "ref"}), remote("fetch", "by-ref")
rows = ray.get(remote("sql.query", {"database": "chinook", "sql": "SELECT 2 AS two"}), timeout=60)["rows"]
print(rows, ray.get(first, timeout=60)["hits"][0]["id"], ray.get(second, timeout=60)["version"] > 0)
try:
    ray.get(remote("fetch", "nobody"), timeout=60)
except ray.exceptions.RayTaskError as error:
    print(type(error.cause).__name__)
"""
    assert program(code, cluster.data_dir)[-2:] == ["[[2]] by-ref True", "NotFound"]


def test_the_table_of_calls_is_that_of_the_handle() -> None:
    assert {*HANDLE_CALLS, *(f"jobs.{name}" for name in JOB_CALLS), *(f"sql.{name}" for name in SQL_CALLS)} == {*ROUTES}


def test_many_entities_are_cut_to_what_the_cluster_takes(cluster: LiveCluster) -> None:
    """Its limit of a body is 4 MB; this is 9."""
    vectors = np.random.default_rng(0).normal(size=(3_000, 2)).astype(np.float32)
    told: list[tuple[int, int]] = []
    with QuantumDB(Config(url=cluster.url)).connect() as db:
        outcome = db.insert_batch_sync(
            ids=[f"many-{i}" for i in range(3_000)],
            vectors=vectors,
            metadata=[{"filler": "x" * 3_000, "n": i} for i in range(3_000)],
            progress=lambda done, total: told.append((done, total)),
        )
        assert outcome.check().written == 3_000
        assert told[-1] == (3_000, 3_000)
        assert db.fetch_sync("many-2999").metadata["n"] == 2_999


def test_the_pool_of_connections_is_warm_and_bounded(cluster: LiveCluster) -> None:
    config = Config(url=cluster.url, min_pool_size=6, max_pool_size=8)
    with QuantumDB(config).connect() as db:
        port = int(cluster.url.rsplit(":", 1)[1])
        assert connections_to(port) == 6
        db.insert_sync(id="pooled", vector=[1.0, 0.0], contexts=[("pooled", 1.0)])
        ids = {query.id for query in db.loop.run(asked(db, 40))}
        assert ids == {"pooled"}
        assert 6 <= connections_to(port) <= 8
    assert connections_to(port) == 0


async def asked(db: QuantumDB, count: int) -> list[object]:
    answers = await asyncio.gather(*(db.query([1.0, 0.0], context="pooled") for _ in range(count)))
    return [answer[0] for answer in answers]


def connections_to(port: int) -> int:
    own = psutil.Process().net_connections(kind="tcp")
    return sum(bool(c.raddr) and c.raddr.port == port and c.status == psutil.CONN_ESTABLISHED for c in own)


def test_nobody_answers_is_told_at_once() -> None:
    start_s = time.monotonic()
    with pytest.raises(Unavailable, match="no cluster answers at"):
        QuantumDB(Config(url="http://127.0.0.1:9")).query_sync([1.0])
    assert time.monotonic() - start_s < 30.0


def test_a_client_that_finds_no_cluster_starts_one_and_leaves_nothing_running(tmp_path: Path) -> None:
    """As the interface is asked for, with what configures the cluster: it is started with that, and stopped."""
    data_dir = tmp_path / "data"
    code = f"""{EVERYTHING}
import os, psutil
from cluster.background import found
from pathlib import Path

config = Config(ionq_api_key="a-key-for-nobody", ionq_url="http://127.0.0.1:9/v0.4", ionq_target="simulator",
                max_pool_size=50, enable_cache=True, cache_ttl=300)
db = QuantumDB(config)
with db.connect():
    running = found(Path({str(data_dir)!r}))
    backends = db.backends_sync()
    db.insert_sync(id="a", vector=[0.6, 0.8])
    answers = [db.query_sync([0.6, 0.8], mode="classical") for _ in range(2)]
    try:
        QuantumDB(Config(ionq_api_key="another-key")).query_sync([0.6, 0.8])
        told = "took another cluster"
    except Exception as error:
        told = type(error).__name__ + (" tells the key" if "key-for" in str(error) or "another" in str(error) else "")
print(json.dumps([sorted(backends), [answer.cached for answer in answers], told, running.pid]))
"""
    *_, last = program(code, data_dir, QUANTUM_DB_STATES__SHARDS="1")
    backends, cached, told, pid = json.loads(last)
    assert backends == ["ionq", "simulator"]
    assert cached == [False, True]
    assert told == "Conflict"
    assert not psutil.pid_exists(pid)
    assert found(data_dir) is None
    assert "a-key-for-nobody" not in (data_dir / LOG_FILE).read_text()
