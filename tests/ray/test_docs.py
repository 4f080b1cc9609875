"""The docs are true: their commands and snippets run, and what they name exists."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from qdrant_client import QdrantClient, models

from cluster.runtime import free_port
from cluster.settings import ADMIN_KEY_ENV, load
from quantum_db import Config, QuantumDB
from quantum_db.circuits.overlap import overlap_template
from quantum_db.client.config import KEY_ENV
from quantum_db.ionq.pricing import PRICE_MODELS
from quantum_db.modes import MODES
from quantum_db.transfer.jsonl import JsonLinesSource
from quantum_db.transfer.parquet import ParquetSource
from serve_app.rpc.callers import code_of
from serve_app.rpc.calls import SERVICE
from tests.ray.conftest import ROOT, LiveCluster
from tests.unit.test_command_line import COMMANDS
from tests.unit.test_requests import every_error

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*/README.md"))]


README = ROOT / "README.md"
JOBS = ROOT / "docs" / "jobs.md"
TRANSACTIONS = ROOT / "docs" / "transactions.md"
GRAPHQL = ROOT / "docs" / "graphql.md"
GRPC = ROOT / "docs" / "grpc.md"
SECURITY = ROOT / "docs" / "security.md"
COLLECTIONS = ROOT / "docs" / "collections.md"
TRANSFER = ROOT / "docs" / "transfer.md"
QUICKSTART = ROOT / "docs" / "quickstart.md"
SDK = ROOT / "docs" / "sdk.md"
API = ROOT / "docs" / "api.md"
SQL = ROOT / "docs" / "sql.md"  # what of these four needs no cluster runs in tests/unit/test_sql_docs.py
SQL_QUANTUM = ROOT / "docs" / "sql-quantum.md"
JOIN_ORDER = ROOT / "docs" / "join-order.md"
WORDS = ROOT / "docs" / "words.md"
SCALING = ROOT / "docs" / "scaling.md"
COMMAND = ".venv/bin/quantum-db"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_the_curl_commands_of_the_readme_work(cluster: LiveCluster) -> None:
    (script,) = blocks(ROOT / "README.md", "bash")
    written, answer = answers_of(script, cluster)
    assert written["contexts"] == ["technical", "general"]
    assert answer["hits"][0]["id"] == "doc_123"
    assert answer["stages"]["refine_ms"] > 0


def answers_of(script: str, cluster: LiveCluster) -> list[Any]:
    """Run a script of curl commands and return what each was answered."""
    script = script.replace("localhost:8000", cluster.url)
    result = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    decoder, text, answers = json.JSONDecoder(), result.stdout.strip(), []
    while text:
        answer, end = decoder.raw_decode(text)
        answers.append(answer)
        text = text[end:].strip()
    return answers


def test_the_curl_commands_of_the_jobs_page_work(cluster: LiveCluster) -> None:
    (script,) = blocks(JOBS, "bash")
    taken, estimate, listed = answers_of(script, cluster)
    assert taken["name"] == "bell pair"
    assert (estimate["circuits"], estimate["shots"], estimate["cost_usd"]) == (2, 1000, 0.0)
    assert all(job["status"] == "completed" for job in listed["jobs"])


def test_the_curl_commands_of_the_graphql_page_work(cluster: LiveCluster) -> None:
    (script,) = blocks(GRAPHQL, "bash")
    written, asked = answers_of(script, cluster)
    assert "errors" not in written, written
    assert written["data"]["createGroup"]["version"] >= 1
    assert "errors" not in asked, asked
    assert asked["data"]["query"]["hits"][0]["id"] == "lamp"
    assert asked["data"]["group"]["entityIds"] == ["lamp", "desk"]


def test_the_settings_of_the_security_page_are_settings(tmp_path: Path) -> None:
    found = blocks(SECURITY, "yaml")
    for number, text in enumerate(found):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        assert load(path, {}).model_fields_set, "it sets something"
    assert len(found) == 2


def test_the_cluster_of_the_sql_page_works(cluster: LiveCluster, tmp_path: Path) -> None:
    (text,) = blocks(SQL, "yaml")
    (tmp_path / "sql.yaml").write_text(text, encoding="utf-8")
    assert load(tmp_path / "sql.yaml", {}).sql.databases["chinook"].hidden == ("Customer.Email", "Employee")
    _, script = blocks(SQL, "bash")
    words, sql, plan, schema, batch, alias = answers_of(script, cluster)
    assert (len(words["rows"]), words["truncated"], len(sql["rows"])) == (3, True, 2)
    assert plan["engine_plan"]
    assert schema["tables"][0]["name"] == "Album"
    assert (batch["answered"], alias["rows"]) == (2, [[275]])


def test_the_curl_commands_of_the_collections_page_work(cluster: LiveCluster) -> None:
    (script,) = blocks(COLLECTIONS, "bash")
    made, written, answer, found, deleted = answers_of(script, cluster)
    assert (made["dimension"], written["dimension"], found["entities"]) == (3, 3, 1)
    assert answer["hits"][0]["id"] == "doc_1"
    assert deleted["deleted"]


def test_the_curl_commands_of_the_transactions_page_work(cluster: LiveCluster) -> None:
    script, followers = blocks(TRANSACTIONS, "bash")
    done, shelf, patched = answers_of(script, cluster)
    assert [result["op"] for result in done["results"]] == ["insert", "insert", "update", "create_entanglement"]
    assert shelf["version"] == done["commit"] < patched["version"]
    _, sun, moon = answers_of(followers, cluster)
    assert (sun["id"], sun["moved"], sun["version"]) == ("sun", ["moon"], moon["version"])
    np.testing.assert_allclose(moon["vector"], [0.71, 0.71], atol=0.005)


def test_the_commands_of_the_transfer_page_work(cluster: LiveCluster, client: httpx.Client, tmp_path: Path) -> None:
    """In their order: out, in, from elsewhere, a backup, and its restoration beside the running cluster."""
    client.post("/api/v2/vectors", json={"id": "doc_123", "vector": [0.6, 0.8]}).raise_for_status()
    (script,) = blocks(TRANSFER, "bash")
    assert script.count(".venv/bin/quantum-db") == 8
    script = script.replace(".venv/bin/quantum-db", f"{sys.executable} -m cluster.cli")
    script = script.replace("http://localhost:6333", str(tmp_path / "qdrant"))
    np.save(tmp_path / "vectors.npy", np.eye(2))
    (tmp_path / "ids.json").write_text('["east", "north"]')
    made_by_hand = blocks(TRANSFER, "json")
    assert len(made_by_hand) == 1
    (tmp_path / "made-by-hand.jsonl").write_text(made_by_hand[0])
    local = QdrantClient(path=str(tmp_path / "qdrant"))
    vectors = models.VectorParams(size=2, distance=models.Distance.COSINE)
    local.create_collection("articles", vectors_config={"title": vectors, "body": vectors})
    local.upsert("articles", [models.PointStruct(id=1, vector={"title": [1.0, 0.0], "body": [0.0, 1.0]})])
    local.close()
    (tmp_path / "configs").mkdir()
    config = {"data_dir": str(tmp_path / "restored"), "states": {"shards": 2}}
    (tmp_path / "configs" / "local.yaml").write_text(yaml.safe_dump(config))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "QUANTUM_DB_DATA_DIR": str(cluster.data_dir)}
    restore = f"{sys.executable} -m cluster.cli restore"
    script = script.replace(restore, f"unset QUANTUM_DB_DATA_DIR\n{restore}")
    result = subprocess.run(
        ["bash", "-euc", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert JsonLinesSource(tmp_path / "entities.jsonl").total == ParquetSource(tmp_path / "entities.parquet").total
    assert client.get("/api/v2/vectors/north").json()["vector"] == [0.0, 1.0]
    assert client.get("/api/v2/vectors/from-a-script").json()["metadata"] == {"made": "by hand"}
    assert [context["weight"] for context in client.get("/api/v2/vectors/1").json()["contexts"]] == [0.5, 0.5]
    assert (tmp_path / "restored" / "store" / "data" / "manifest.json").exists()


def test_the_pool_serves_a_ray_job_without_the_database(tmp_path: Path) -> None:
    (snippet,) = blocks(JOBS, "python")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "disabled",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_TMPDIR": tempfile.mkdtemp(prefix="qqc-"),
    }
    snippet = snippet.replace("ray.init(", 'ray.init(address="local", num_cpus=2, include_dashboard=False, ')
    result = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    shutil.rmtree(environment["RAY_TMPDIR"], ignore_errors=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[0, 3]"
    assert (tmp_path / "jobs.sqlite").exists()


def test_the_python_snippets_work(cluster: LiveCluster) -> None:
    assert printed_by(ROOT / "README.md", cluster) == ["doc_7", "simulated", "shots"]


def test_the_snippet_of_the_transactions_page_works(cluster: LiveCluster) -> None:
    assert printed_by(TRANSACTIONS, cluster) == ["order", "operations[0].update", "1"]


def test_the_snippets_of_the_sdk_page_work(cluster: LiveCluster) -> None:
    told = ["doc_1", "True", "doc_1", "doc_2", "doc_2", "5000", "0", "5000", "ray_1", "ray_1"]
    assert printed_by(SDK, cluster) == told


def test_the_snippet_of_the_api_page_works(cluster: LiveCluster) -> None:
    assert printed_by(API, cluster) == ["2"]


def test_the_snippets_of_the_grpc_page_work(cluster: LiveCluster) -> None:
    """All but the last, which needs a cluster with a certificate: see ``test_access``."""
    told = [printed(snippet, cluster) for snippet in blocks(GRPC, "python")[:-1]]
    assert told == [
        ["moon", "1", "exact"],
        ["2499", "1", "3", "7", "tide-7"],
        ["INVALID_ARGUMENT", "422", "vector"],
    ]


KEPT = f"export {KEY_ENV}=$(grep -oE 'qdb_[0-9a-f]{{12}}_[0-9a-f]{{64}}' told)"
"""What a user does with the key that is shown."""


def test_the_quickstart_works_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    """As one session of a user, on a cluster of its own: the shell commands, the program, and the end."""
    start, ready, by_curl, by_command, end = blocks(QUICKSTART, "bash")
    (program,) = blocks(QUICKSTART, "python")
    (tmp_path / "program.py").write_text(program)
    port = free_port()
    script = "\n".join(
        [
            f"({start}) | tee told",
            KEPT,
            ready,
            by_curl,
            by_command,
            f"{sys.executable} program.py",
            end,
            f"{COMMAND} status || echo $?",
        ]
    )
    script = script.replace(COMMAND, f"{sys.executable} -m cluster.cli").replace(":8000", f":{port}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "QUANTUM_DB_HTTP__PORT": str(port)}
    del environment[ADMIN_KEY_ENV], environment[KEY_ENV]  # as for a user, it is made and shown
    result = subprocess.run(
        ["bash", "-euc", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    told = result.stdout
    assert f"the cluster answers at http://127.0.0.1:{port}" in told
    assert f"the cluster at http://127.0.0.1:{port} is ready" in told
    assert '"contexts":["finance","river"]' in told
    assert "shore is written, version" in told
    assert re.search(r"│\s+1 │ bank\s+│ river", told), told
    assert told.count('"id":"shore"') == 1
    assert told.endswith("teller 1.0\nbank 0.7\nthe cluster is stopped\n3\n")
    assert "no cluster runs with data in" in result.stderr
    data_dir = tmp_path / ".data" / "local"
    assert not (data_dir / "cluster.json").exists()
    key = re.search(r"qdb_[0-9a-f]{12}_([0-9a-f]{64})", told)
    assert key is not None
    kept = [path for path in data_dir.rglob("*") if path.is_file() and key[1].encode() in path.read_bytes()]
    assert kept == [], "the key is shown, and left nowhere"


def printed_by(page: Path, cluster: LiveCluster) -> list[str]:
    """Run the Python snippets of a page as programs on the cluster, and return the words that they print."""
    return [word for snippet in blocks(page, "python") for word in printed(snippet, cluster)]


def printed(snippet: str, cluster: LiveCluster) -> list[str]:
    grpc_address = str(json.loads((cluster.data_dir / "cluster.json").read_text())["grpc"])
    snippet = snippet.replace("http://localhost:8000", cluster.url).replace("localhost:8001", grpc_address)
    environment = {**os.environ, "QUANTUM_DB_DATA_DIR": str(cluster.data_dir)}
    result = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_the_command_of_scaling_works() -> None:
    (command,) = blocks(SCALING, "bash")
    done = subprocess.run(
        [sys.executable, *command.split()[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "replicas" in done.stdout
    assert "USD a day" in done.stdout


def test_every_code_block_is_of_a_kind_that_is_tested() -> None:
    for page in PAGES:
        kinds = set(re.findall(r"^```(\w+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE))
        tested = {
            README: {"bash", "python"},
            JOBS: {"bash", "python"},
            TRANSACTIONS: {"bash", "python"},
            TRANSFER: {"bash", "json"},
            COLLECTIONS: {"bash"},
            SECURITY: {"yaml"},
            GRAPHQL: {"bash"},
            GRPC: {"python"},
            QUICKSTART: {"bash", "python"},
            SDK: {"python"},
            API: {"python"},
            SQL: {"bash", "python", "text", "yaml"},
            SQL_QUANTUM: {"python", "text"},
            JOIN_ORDER: {"python"},
            WORDS: {"python"},
            SCALING: {"bash"},
        }
        assert kinds <= tested.get(page, set()), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_the_docs_name_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for target in re.findall(r"`(?:[A-Z_]+=\S+ )?make ([a-z-]+)`", text):
        assert target in targets, target
    for path in re.findall(
        r"`((?:quantum_db|sql_synthesizer|actors|serve_app|cluster|configs|scripts|benchmarks)/[\w./]+\.\w+)`", text
    ):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"--config (\S+?\.yaml)", text):
        load(ROOT / path)


def test_the_settings_table_names_real_keys_and_defaults() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    settings = load()
    keys = re.findall(r"`((?:data_dir|(?:http|grpc|ray|store|jobs|states|sql)\.\w+))`", text)
    assert len(keys) > 10
    for key in keys:
        value = settings
        for part in key.split("."):
            value = getattr(value, part)


def test_the_table_of_problems_is_the_error_tree() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    kinds = {kind.slug: kind.status for kind in every_error()}
    for status, slugs in re.findall(r"^\| (\d{3}) \| ([^|]+) \|", text, flags=re.MULTILINE):
        for slug in re.findall(r"`([\w-]+)`", slugs):
            assert kinds[slug] == int(status)


def test_the_tables_of_the_grpc_page_are_the_codes_and_the_methods() -> None:
    text = GRPC.read_text(encoding="utf-8")
    told = {
        (slug, code)
        for code, slugs in re.findall(r"^\| `([A-Z_]+)` \| ([^|]+) \|", text, flags=re.MULTILINE)
        for slug in re.findall(r"`([a-z-]+)`", slugs)
        if slug != "retry-after"
    }
    assert told == {(kind.slug, code_of(kind("so")).name) for kind in every_error()}
    rows = re.findall(r"^\| (`[A-Z][a-z][^|]+) \|", text, flags=re.MULTILINE)
    assert {name for row in rows for name in words(row)} == {method.name for method in SERVICE.methods}


def test_the_tables_of_the_sdk_page_name_real_fields_defaults_and_calls() -> None:
    text = SDK.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([^|]+) \|", text, flags=re.MULTILINE)
    told = {
        name: default
        for names, defaults in rows
        for name, default in zip(words(names), defaults.split(", "), strict=False)
    }
    config = Config()
    fields = {name: default for name, default in told.items() if hasattr(config, name)}
    assert len(fields) == 12
    for name, default in fields.items():
        if default.isdigit() and name != "retry":
            assert getattr(config, name) == int(default), name
    assert (config.retry.attempts, config.retry.first_s, config.retry.longest_s) == (6, 0.5, 5.0)
    table = text.split("## Calls")[1].split("## Many")[0]
    calls = [name for row in re.findall(r"^\| (`[^|]+) \|", table, flags=re.MULTILINE) for name in words(row)]
    assert len(calls) > 25
    for name in calls:
        assert callable(getattr(QuantumDB, name)), name


def words(row: str) -> list[str]:
    return re.findall(r"`(\w+)`", row)


def test_the_commands_of_the_operations_page_are_those_that_there_are() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = text.split("## The command line")[1].split("## Settings")[0]
    told = {name for row in re.findall(r"^\| (`[^|]+) \|", table, flags=re.MULTILINE) for name in words(row)}
    assert told == COMMANDS


def test_the_modes_table_has_the_real_knobs_and_prices() -> None:
    text = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)`[^|]*\| (\d+) \| ([\w,]+) \| [\d.]+ \| (?:\$([\d,]+)|-) \|", text, flags=re.MULTILINE
    )
    assert [row[0] for row in rows] == [*MODES]
    for name, candidates, shots, price in rows:
        mode = MODES[name]
        assert int(candidates) == mode.candidates
        assert shots == (f"{mode.shots:,}" if mode.shots else "none")
        if mode.shots:
            cost = PRICE_MODELS["braket-forte"].cost_usd(mode.candidates, mode.shots, 0, 0)
            assert price == f"{cost:,.0f}"


def test_the_circuit_table_is_the_circuits() -> None:
    text = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
    rows = re.findall(r"^   \| (\d+) \| (\d+) \| (\d+) \|$", text, flags=re.MULTILINE)
    assert len(rows) == 4
    for qubits, candidates, gates in rows:
        assert int(candidates) == 2 ** int(qubits) - 1
        assert int(gates) == overlap_template(int(qubits)).two_qubit_gates
