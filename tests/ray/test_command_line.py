"""The commands on a real cluster: what people and programs see, and how each ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.ray.conftest import ROOT, LiveCluster

TIMEOUT_S = 120.0


def run(cluster: LiveCluster, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cluster.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, "QUANTUM_DB_DATA_DIR": str(cluster.data_dir)},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def told(cluster: LiveCluster, *arguments: str, stdin: str = "") -> str:
    result = run(cluster, *arguments, stdin=stdin)
    assert result.returncode == 0, result.stderr
    return result.stdout


def value(cluster: LiveCluster, *arguments: str, stdin: str = "") -> Any:
    return json.loads(told(cluster, *arguments, "--json", stdin=stdin))


def test_entities_and_groups(cluster: LiveCluster) -> None:
    options = ["--context", "cli=0.75", "--context", "other=0.25", "--metadata", '{"kind": "cli"}']
    assert "cli-1 is written, version" in told(cluster, "insert", "cli-1", "--vector", "0.6,0.8", *options)
    assert value(cluster, "insert", "cli-2", "--vector", "-1,0", "--context", "cli=1")["id"] == "cli-2"
    asked = ["query", "--vector", "0.6,0.8", "--context", "cli", "--always"]
    table = told(cluster, *asked)
    assert "2 of 2 candidates, simulated shots" in table
    assert table.index("cli-1") < table.index("cli-2")
    found = value(cluster, *asked, "--filter", '{"must": [{"key": "kind", "match": {"value": "cli"}}]}')
    assert [(hit["id"], hit["context_probability"]) for hit in found["hits"]] == [("cli-1", 0.75)]
    refused = run(cluster, "query", "--vector", "0.6,0.8", "--context", "clo")
    assert (refused.returncode, "cli" in refused.stderr) == (2, True)

    assert "cli-g entangles 2 entities" in told(
        cluster, "groups", "create", "cli-g", "cli-1", "cli-2", "--strength", "0.5"
    )
    assert value(cluster, "groups", "show", "cli-g")["entity_ids"] == ["cli-1", "cli-2"]
    assert "cli-g" in told(cluster, "groups", "list", "--member", "cli-1")
    measured = value(cluster, "groups", "measure", "cli-g", "--shots", "400", "--chsh")
    assert (measured["shots"], len(measured["pairs"])) == (5 * 400, 1), "its circuit and four of the test"
    assert "simulated shots" in told(cluster, "groups", "measure", "cli-g", "--chsh")
    assert "cli-g is deleted" in told(cluster, "groups", "delete", "cli-g")
    gone = run(cluster, "groups", "show", "cli-g")
    assert (gone.returncode, gone.stdout) == (2, "")
    assert "there is no" in gone.stderr


def test_jobs_and_costs(cluster: LiveCluster, tmp_path: Path) -> None:
    source = 'OPENQASM 3; include "stdgates.inc"; qubit[1] q; h q[0];'
    body = {"shots": 100, "circuits": [{"format": "qasm3", "source": source}], "name": "by command"}
    (tmp_path / "job.json").write_text(json.dumps(body))
    job = value(cluster, "jobs", "submit", str(tmp_path / "job.json"))
    again = told(cluster, "jobs", "submit", "-", stdin=json.dumps(body))
    assert "quantum-db jobs show" in again
    assert value(cluster, "jobs", "show", job["id"])["name"] == "by command"
    assert value(cluster, "jobs", "cancel", job["id"])["status"] in ("completed", "canceled")
    assert job["id"] in told(cluster, "jobs", "list")
    assert value(cluster, "jobs", "list", "--limit", "1")["next"]
    assert value(cluster, "costs")["total_usd"] >= 0.0
    assert "simulator" in told(cluster, "costs")
    wrong = run(cluster, "jobs", "submit", "-", stdin="{}")
    assert (wrong.returncode, "shots" in wrong.stderr) == (2, True)


def test_status_and_up_of_a_cluster_that_runs(cluster: LiveCluster) -> None:
    found = value(cluster, "status")
    assert (found["ready"], found["url"], found["failing"]) == (True, cluster.url, [])
    assert {"simulator", "ionq", "dead"} <= {*found["backends"]}
    assert found["counts"]["entities"] >= 0
    table = told(cluster, "status")
    assert "is ready" in table
    assert "closed" in table
    assert f"{cluster.url} (try {cluster.url}/docs); it ran already" in told(cluster, "up")
    up = value(cluster, "up")
    assert (up["started"], up["pid"]) == (False, cluster.process.pid)


def test_the_doctor_finds_the_backend_that_is_dead_and_the_emulator_well(cluster: LiveCluster) -> None:
    result = run(cluster, "doctor", "--json", "--config", str(cluster.data_dir.parent / "config.yaml"))
    assert result.returncode == 2
    found = {one["name"]: one for one in json.loads(result.stdout)["findings"]}
    assert found["jobs.backends.dead"]["state"] == "failed"
    assert found["jobs.backends.dead"]["remedy"]
    assert found["jobs.backends.ionq"]["state"] == "ok"
