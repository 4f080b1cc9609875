"""Data in and out of a real cluster by the real command line: export, import, interruption, backup and restore."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from qdrant_client import QdrantClient, models

from cluster.settings import Settings, shared_settings
from quantum_db.transfer.formats import Row
from quantum_db.transfer.jsonl import JsonLinesSource, JsonLinesWriter
from quantum_db.transfer.parquet import ParquetSource
from tests.ray.conftest import ROOT, LiveCluster, admitted, live_cluster
from tests.ray.test_cluster import insert, ring

TIMEOUT_S = 180.0


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "cluster.cli", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def done(*arguments: object) -> str:
    result = run(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def lines(path: Path, rows: Iterable[Row]) -> Path:
    writer = JsonLinesWriter(path)
    for row in rows:
        writer.write(row)
    writer.finish()
    return path


def flat(prefix: str, count: int) -> Iterable[Row]:
    for i in range(count):
        angle = 0.001 * i
        yield {"id": f"{prefix}-{i}", "vector": [np.cos(angle), np.sin(angle)], "metadata": {"n": i}}


def listed(client: httpx.Client, prefix: str) -> dict[str, Any]:
    found, cursor = {}, None
    while True:
        parameters = {"limit": "1000"} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/v2/vectors", params=parameters).raise_for_status().json()
        for entity in page["vectors"]:
            assert entity["id"] not in found
            found[entity["id"]] = entity
        cursor = page["next"]
        if cursor is None:
            return {name: entity for name, entity in found.items() if name.startswith(f"{prefix}-")}


def without_versions(found: dict[str, Any]) -> dict[str, Any]:
    """Versions are commits' numbers: what is written again has another one."""
    return {name: {key: value for key, value in entity.items() if key != "version"} for name, entity in found.items()}


def test_what_is_exported_and_imported_is_the_same_to_the_last_bit(
    cluster: LiveCluster, client: httpx.Client, tmp_path: Path
) -> None:
    insert(client, *ring("moved", 200), *flat("moved-flat", 100))
    before = listed(client, "moved")
    assert len(before) == 300
    first, second, third = (tmp_path / name for name in ("first.jsonl", "second.parquet", "third.jsonl"))
    assert "entities are in" in done("export", first, "--url", cluster.url)
    done("export", second, "--url", cluster.url)
    for entity_id in before:
        client.delete(f"/api/v2/vectors/{entity_id}").raise_for_status()
    assert listed(client, "moved") == {}
    done("import", second, "--url", cluster.url)
    assert without_versions(listed(client, "moved")) == without_versions(before)
    done("export", third, "--url", cluster.url)
    rows = [[row | {"version": 0} for _, row in JsonLinesSource(path).rows(None)] for path in (first, third)]
    assert rows[0] == rows[1]
    assert ParquetSource(second).total == JsonLinesSource(first).total
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.jsonl", "second.parquet", "third.jsonl"]
    again = run("export", first, "--url", cluster.url)
    assert again.returncode == 2
    assert "exists; delete it" in again.stderr


def test_refused_rows_stop_an_import_or_are_listed(cluster: LiveCluster, client: httpx.Client, tmp_path: Path) -> None:
    rows = list(flat("some", 30))
    rows[6]["vector"] = [1.0, 2.0, 3.0]
    rows[11]["vector"] = [0.0, 0.0]
    rows[20]["metadata"] = {"long": "x" * 5_000_000}
    rows.append({**rows[3], "metadata": {"n": "again"}})
    path = lines(tmp_path / "some.jsonl", rows)
    stopped = run("import", path, "--url", cluster.url)
    assert stopped.returncode == 2
    assert "row 7 is refused: vector: has 3 numbers; the vectors of this collection have 2" in stopped.stderr
    assert "the 6 rows before it are written" in stopped.stderr
    assert {f"some-{i}" for i in range(6)} <= listed(client, "some").keys()
    told = done("import", path, "--url", cluster.url, "--skip-refused")
    assert "28 entities are written" in told
    assert "3 rows were refused" in told
    refused = [json.loads(line) for line in (tmp_path / "some.jsonl.refused.jsonl").read_text().splitlines()]
    assert [item["row"] for item in refused] == [7, 12, 21]
    assert "zero vector" in refused[1]["why"]
    assert "larger than 4000000 bytes" in refused[2]["why"]
    assert client.get("/api/v2/vectors/some-3").json()["metadata"] == {"n": "again"}
    assert listed(client, "some").keys() == {f"some-{i}" for i in range(30)} - {"some-6", "some-11", "some-20"}


def test_an_interrupted_import_goes_on_where_it_was(cluster: LiveCluster, client: httpx.Client, tmp_path: Path) -> None:
    path = lines(tmp_path / "long.jsonl", flat("long", 20_000))
    state = tmp_path / "long.jsonl.import-state"
    importing = subprocess.Popen(
        command("import", path, "--url", cluster.url),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + TIMEOUT_S
    while not state.exists():
        assert importing.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    importing.send_signal(signal.SIGINT)
    told, errors = importing.communicate(timeout=TIMEOUT_S)
    assert importing.returncode == 130, errors
    written = json.loads(state.read_text())["progress"]["written"]
    assert 0 < written < 20_000
    assert f"{written:,} rows are written; the same command goes on after them" in told
    client.delete("/api/v2/vectors/long-0").raise_for_status()
    other = run("import", path, "--url", "http://localhost:1")
    assert other.returncode == 2, "another cluster does not go on from there"
    assert "delete it to begin anew" in other.stderr
    assert "20,000 entities are written" in done("import", path, "--url", cluster.url)
    assert not state.exists()
    assert listed(client, "long").keys() == {f"long-{i}" for i in range(1, 20_000)}, "what was written was not again"


def test_numpy_files_and_qdrant_collections_are_imported(
    cluster: LiveCluster, client: httpx.Client, tmp_path: Path
) -> None:
    np.save(tmp_path / "v.npy", np.array([[3.0, 4.0], [0.0, 2.0]]))
    (tmp_path / "ids.json").write_text('["np-a", "np-b"]')
    done("import", tmp_path / "v.npy", "--ids", tmp_path / "ids.json", "--url", cluster.url)
    assert client.get("/api/v2/vectors/np-a").json()["vector"] == pytest.approx([0.6, 0.8], abs=1e-7)
    np.savez(
        tmp_path / "v.npz", vectors=np.eye(2), ids=np.array(["np-c", "np-d"]), metadata=np.array(['{"n": 1}', "{}"])
    )
    done("import", tmp_path / "v.npz", "--url", cluster.url)
    assert client.get("/api/v2/vectors/np-c").json()["metadata"] == {"n": 1}

    local = QdrantClient(path=str(tmp_path / "qdrant"))
    plain = models.VectorParams(size=2, distance=models.Distance.COSINE)
    local.create_collection("named", vectors_config={"title": plain, "body": plain})
    vectors = {"title": [1.0, 0.0], "body": [0.0, 1.0]}
    local.upsert("named", [models.PointStruct(id=i, vector=vectors, payload={"n": i}) for i in range(900_000, 900_300)])
    local.close()
    source = ("--from-qdrant", tmp_path / "qdrant", "--collection", "named", "--state", tmp_path / "state")
    without = run("import", *source, "--url", cluster.url)
    assert without.returncode == 2
    assert "--contexts-from named-vectors" in without.stderr
    told = done("import", *source, "--contexts-from", "named-vectors", "--url", cluster.url)
    assert "300 entities are written" in told
    entity = client.get("/api/v2/vectors/900299").json()
    assert entity["metadata"] == {"n": 900_299}
    assert {c["name"]: (c["weight"], c["vector"]) for c in entity["contexts"]} == {
        "title": (0.5, [1.0, 0.0]),
        "body": (0.5, [0.0, 1.0]),
    }


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("import", "{tmp}/nothing.jsonl", "--url", "http://127.0.0.1:9"), 2, "is not a file"),
        (("import", "{tmp}/cut.jsonl", "--url", "http://127.0.0.1:9"), 2, "cut.jsonl is cut: line 3 is its last one"),
        (("import", "{tmp}/one.jsonl", "--url", "http://127.0.0.1:9"), 3, "no cluster answers at http://127.0.0.1:9"),
        (("import", "{tmp}/one.jsonl", "--url", "nonsense"), 2, "is not a URL"),
        (("import", "--url", "http://127.0.0.1:9"), 2, "name a file, or --from-qdrant with --collection"),
        (("export", "{tmp}/all.jsonl", "--url", "http://127.0.0.1:9"), 3, "no cluster answers"),
        (("export", "{tmp}/all.csv", "--url", "http://127.0.0.1:9"), 2, "must end in .jsonl"),
        (("export", "{tmp}/all.jsonl", "--config", "{tmp}/config.yaml"), 3, "no cluster runs with data in"),
        (("backup", "{tmp}/new", "--config", "{tmp}/config.yaml"), 3, "no cluster runs with data in"),
        (("backup", "{tmp}/new", "--config", "{tmp}/killed.yaml"), 3, "cluster.json tells of does not answer"),
        (("restore", "{tmp}/none", "--config", "{tmp}/config.yaml"), 2, "holds no backup"),
        (("restore", "{tmp}/none", "--config", "configs/production.yaml"), 2, "have snapshots of their own"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    lines(tmp_path / "one.jsonl", flat("one", 1))
    content = lines(tmp_path / "cut.jsonl", flat("cut", 5)).read_bytes().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_bytes(b"".join(content[:3]))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data_dir": str(tmp_path / "data")}))
    (tmp_path / "killed.yaml").write_text(yaml.safe_dump({"data_dir": str(tmp_path / "killed")}))
    (tmp_path / "killed").mkdir()
    left = {"url": "http://127.0.0.1:9", "ray_address": "127.0.0.1:9", "settings": shared_settings(Settings())}
    (tmp_path / "killed" / "cluster.json").write_text(json.dumps(left))
    before = sorted(tmp_path.iterdir())
    result = run(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


# Backup and restore


class Writers:
    """Clients that write without end, two entities and their group at a time, and remember what was acknowledged."""

    def __init__(self, url: str) -> None:
        self.acknowledged: list[tuple[float, str]] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(url, k)) for k in range(2)]
        for thread in self._threads:
            thread.start()

    def _write(self, url: str, writer: int) -> None:
        with admitted(url) as client:
            number = 0
            while not self._stop.is_set():
                number += 1
                ids = [f"w{writer}-{number}-{k}" for k in range(2)]
                inserts: list[Any] = [{"insert": {"id": i, "vector": [1.0, number / 50]}} for i in ids]
                group = {"group_id": f"w{writer}-{number}", "entity_ids": ids, "correlation_strength": 0.5}
                operations = [*inserts, {"create_entanglement": group}]
                response = client.post("/api/v2/transactions", json={"operations": operations})
                if response.is_success:
                    self.acknowledged.append((time.monotonic(), f"w{writer}-{number}"))
                else:
                    self.failures.append(response.text)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def config_in(folder: Path, data_dir: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"data_dir": str(data_dir), "http": {"port": 0}, "states": {"shards": 2}}))
    return path


def answers(client: httpx.Client) -> list[Any]:
    found = []
    for angle in np.linspace(0, 6, 13):
        body = {"vector": [np.cos(angle), np.sin(angle)], "context": "kept-near", "mode": "classical", "top_k": 7}
        found.append(client.post("/api/v2/query", json=body).raise_for_status().json()["hits"])
    return found


def test_a_backup_under_writes_restores_to_the_same_answers(tmp_path: Path) -> None:
    data_dir, backup = tmp_path / "data", tmp_path / "backup"
    config = config_in(tmp_path, data_dir)
    group = {"group_id": "pair", "entity_ids": ["kept-0", "kept-1"], "correlation_strength": 0.5}
    with live_cluster(config, data_dir) as live, admitted(live.url) as client:
        insert(client, *ring("kept", 24))
        client.post("/api/v2/entanglement/groups", json=group).raise_for_status()
        before = answers(client)
        writers = Writers(live.url)
        while len(writers.acknowledged) < 5:
            time.sleep(0.05)
        asked_at = time.monotonic()
        told = done("backup", backup, "--config", config)
        ended_at = time.monotonic()
        writers.stop()
        assert "queries and writes waited" in told
        assert writers.failures == [], "writes that came in meanwhile waited"
        assert any(at > ended_at for at, _ in writers.acknowledged), "the cluster goes on"
        client.delete("/api/v2/vectors/kept-3").raise_for_status()
        refused = run("restore", backup, "--config", config)
        assert refused.returncode == 2
        assert "is not empty" in refused.stderr
    shutil.rmtree(data_dir)

    damaged = tmp_path / "damaged"
    shutil.copytree(backup, damaged)
    victim = max((damaged / "store").rglob("*.mmap"), key=lambda path: path.stat().st_size)
    with victim.open("r+b") as file:
        file.seek(100)
        byte = file.read(1)[0]
        file.seek(100)
        file.write(bytes([byte ^ 1]))
    refused = run("restore", damaged, "--config", config)
    assert refused.returncode == 2
    assert f"{victim.name} is not what was written" in refused.stderr
    other = run_with({"QUANTUM_DB_STATES__SHARDS": "3"}, "restore", backup, "--config", config)
    assert other.returncode == 2
    assert "states.shards must be 2" in other.stderr
    assert not data_dir.exists()

    assert "is restored in" in done("restore", backup, "--config", config)
    with live_cluster(config, data_dir) as live, admitted(live.url) as client:
        assert answers(client) == before
        assert client.get("/api/v2/entanglement/groups/pair").json()["entity_ids"] == ["kept-0", "kept-1"]
        there = {**listed(client, "w0"), **listed(client, "w1")}
        batches = {name.rpartition("-")[0] for name in there}
        assert {name for at, name in writers.acknowledged if at < asked_at} <= batches
        assert batches <= {name for _, name in writers.acknowledged}
        assert len(there) == 2 * len(batches), "no transaction is there in part"
        for at, name in writers.acknowledged:
            status = client.get(f"/api/v2/entanglement/groups/{name}").status_code
            assert status == (200 if name in batches else 404), (name, at - asked_at)


def run_with(environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
