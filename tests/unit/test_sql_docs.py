"""docs/sql.md is true: its snippets run and print what it says, and its tables name what there is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from sql_synthesizer import cli
from sql_synthesizer.demo import CHINOOK
from sql_synthesizer.guard.detectors import DETECTORS
from sql_synthesizer.quantum.modes import JOINS
from sql_synthesizer.quantum.schedules import CHAINS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "sql.md").read_text(encoding="utf-8")


QUANTUM = (ROOT / "docs" / "sql-quantum.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data" / "sql").mkdir(parents=True)
    shutil.copyfile(CHINOOK, tmp_path / "data" / "sql" / CHINOOK.name)
    return tmp_path


def block(language: str, text: str = TEXT) -> str:
    """Return the first block of a language; the others are of a cluster, and run in tests/ray/test_docs.py."""
    return str(re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)[0])


def printed(command: list[str], folder: Path) -> str:
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "COLUMNS": "150"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("text", [TEXT, QUANTUM])
def test_the_program_prints_what_the_page_says(text: str, folder: Path) -> None:
    assert printed([sys.executable, "-c", block("python", text)], folder) == block("text", text)


@pytest.mark.parametrize(("page", "told"), [("join-order.md", "(0, (1, 2))"), ("words.md", "SELECT")])
def test_the_snippets_of_the_other_pages_run(page: str, told: str, folder: Path) -> None:
    snippet = block("python", (ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert told in printed([sys.executable, "-c", snippet], folder)


def test_the_modes_are_those_that_there_are() -> None:
    for mode, joins in JOINS.items():
        (row,) = re.findall(rf"^\| {mode}.*\|$", QUANTUM, flags=re.MULTILINE)
        told = [float(cell) for cell in row.split("|")[2:-1]]
        patience, counting, search = (1e3 * s for s in (joins.patience_s, joins.statistics_s, joins.search_s))
        assert told == pytest.approx([CHAINS[mode], patience, counting, search, joins.min_gain])


def test_the_commands_work(folder: Path) -> None:
    script = block("bash").replace(".venv/bin/query-agent", f"{sys.executable} -m sql_synthesizer.cli")
    told = printed(["bash", "-euc", script], folder)
    assert "Iron Maiden" in told
    assert "3 rows, and there are more" in told
    assert 'SELECT "Genre"."GenreId", "Genre"."Name" FROM "Genre" LIMIT 1001' in told


def test_the_flags_are_those_that_there_are() -> None:
    app = cli.program()
    options = [[*parameter.opts, *parameter.secondary_opts] for parameter in get_command(app).params]
    known = {name for names in options for name in names if name.startswith("--")}
    known -= {"--install-completion", "--show-completion", "--help"}
    table = TEXT.split("## The command line")[1].split("## On the cluster")[0]
    assert set(re.findall(r"`(--[a-z-]+)`", table)) == known


def test_there_are_as_many_detectors_as_it_says() -> None:
    assert f"{len(DETECTORS)} detectors" in TEXT
    for path in re.findall(r"`(sql_synthesizer/[\w./]+\.py)`", TEXT):
        assert (ROOT / path).is_file()
