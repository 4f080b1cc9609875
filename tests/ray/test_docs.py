"""The docs are true: their commands and snippets run, and what they name exists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.settings import load
from quantum_db.circuits.overlap import overlap_template
from quantum_db.ionq.pricing import PRICE_MODELS
from quantum_db.modes import MODES
from tests.ray.conftest import ROOT, LiveCluster
from tests.unit.test_requests import every_error

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*/README.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_the_curl_commands_of_the_readme_work(cluster: LiveCluster) -> None:
    (script,) = blocks(ROOT / "README.md", "bash")
    script = script.replace("localhost:8000", cluster.url)
    result = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    decoder, text, answers = json.JSONDecoder(), result.stdout.strip(), []
    while text:
        answer, end = decoder.raw_decode(text)
        answers.append(answer)
        text = text[end:].strip()
    written, answer = answers
    assert written["contexts"] == ["technical", "general"]
    assert answer["hits"][0]["id"] == "doc_123"
    assert answer["stages"]["refine_ms"] > 0


def test_the_python_snippets_work(cluster: LiveCluster) -> None:
    (snippet,) = blocks(ROOT / "README.md", "python")
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
    assert result.stdout.split() == ["doc_7", "simulated", "shots"]


def test_every_code_block_is_of_a_kind_that_is_tested() -> None:
    for page in PAGES:
        kinds = set(re.findall(r"^```(\w+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE))
        assert kinds <= ({"bash", "python"} if page.name == "README.md" and page.parent == ROOT else set()), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_the_docs_name_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for target in re.findall(r"`(?:[A-Z_]+=\S+ )?make ([a-z-]+)`", text):
        assert target in targets, target
    for path in re.findall(
        r"`((?:quantum_db|actors|serve_app|cluster|configs|scripts|benchmarks)/[\w./]+\.\w+)`", text
    ):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"--config (\S+?\.yaml)", text):
        load(ROOT / path)


def test_the_settings_table_names_real_keys_and_defaults() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    settings = load()
    keys = re.findall(r"`((?:data_dir|(?:http|ray|store|jobs|states)\.\w+))`", text)
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
