"""The command line without a cluster: arguments, exit codes, completion, and processes in the background."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cluster import background
from cluster.commands.shared import cell, json_option, vector_option
from cluster.runtime import RUNTIME_FILE
from cluster.status import counts_in
from quantum_db.errors import InvalidRequest, Unavailable

ROOT = Path(__file__).parents[2]
COMMANDS = {
    *("serve", "up", "down", "status", "doctor", "demo"),
    *("insert", "query", "import", "export", "backup", "restore"),
    *("groups", "jobs", "costs", "keys", "audit", "decrypt"),
}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cluster.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_command_is_offered_by_help_and_by_completion() -> None:
    helped = run("--help")
    assert helped.returncode == 0
    offered = run(_QUANTUM_DB_COMPLETE="complete_bash", COMP_WORDS="quantum-db ", COMP_CWORD="1")
    assert {*offered.stdout.split()} == COMMANDS
    assert all(f"\n  {command}" in helped.stdout for command in COMMANDS)
    some = run(_QUANTUM_DB_COMPLETE="complete_bash", COMP_WORDS="quantum-db groups m", COMP_CWORD="2")
    assert some.stdout.split() == ["measure"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["query", "--vectr", "1"], 2, "No such option: --vectr"),
        (["quary"], 2, "No such command 'quary'"),
        (["query", "--vector", "1,x", "--url", "http://127.0.0.1:9"], 2, "--vector: must be numbers with commas"),
        (["query", "--vector", "1", "--url", "http://127.0.0.1:9"], 3, "no cluster answers at http://127.0.0.1:9"),
        (["insert", "a", "--vector", "1", "--context", "finance"], 2, "--context: must be name=weight"),
        (["insert", "a", "--vector", "1", "--metadata", "[]"], 2, "--metadata: must be a JSON object"),
        (["status", "--url", "http://127.0.0.1:9"], 3, "no cluster answers at"),
        (["keys", "list", "--url", "http://127.0.0.1:9"], 3, "no cluster answers at"),
        (["costs"], 3, "no cluster runs with data in"),
        (["serve", "--config", "nowhere.yaml"], 2, "nowhere.yaml: No such file"),
        (["up", "--config", "nowhere.yaml"], 2, "nowhere.yaml: No such file"),
        (["jobs", "submit", "nowhere.json"], 2, "nowhere.json cannot be read"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_a_code(arguments: list[str], code: int, told: str, tmp_path: Path) -> None:
    result = run(*arguments, QUANTUM_DB_DATA_DIR=str(tmp_path))
    assert (result.returncode, result.stdout) == (code, ""), result.stderr
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_where_nothing_runs_down_does_nothing_and_doctor_tells_faults(tmp_path: Path) -> None:
    down = run("down", "--json", QUANTUM_DB_DATA_DIR=str(tmp_path))
    assert (down.returncode, json.loads(down.stdout)) == (0, {"stopped": False})
    (tmp_path / "file").write_text("")
    fault = run("doctor", "--json", QUANTUM_DB_DATA_DIR=str(tmp_path / "file" / "x"), QUANTUM_DB_HTTP__PORT="0")
    assert fault.returncode == 2
    (failed,) = (one for one in json.loads(fault.stdout)["findings"] if one["state"] == "failed")
    assert failed["remedy"] == "set data_dir to a folder"


def test_a_cluster_that_cannot_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    """An unknown setting is only seen by the process that is started."""
    environment = background.environment_with({"QUANTUM_DB_NO_SUCH_SETTING": "1"})
    with pytest.raises(Unavailable, match=r"ended with exit code 2: .*QUANTUM_DB_NO_SUCH_SETTING is not a known"):
        background.start(tmp_path, [], environment, 60.0)


def test_a_key_in_the_log_is_told_once_and_taken_out(tmp_path: Path) -> None:
    log = tmp_path / background.LOG_FILE
    key = "qdb_0123456789ab_" + "f0" * 32
    text = f"starting\nthe administrator's key: {key}\nanswers"
    log.write_text(text)
    assert background.told_once(tmp_path) == [f"the administrator's key: {key}"]
    assert log.read_text() == text.replace(key, "*" * len(key))
    assert background.told_once(tmp_path) == []


@pytest.fixture
def sleeper(tmp_path: Path) -> subprocess.Popen[bytes]:
    """A process with a child, of whose runtime file the folder tells as of a cluster's."""
    code = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code])
    while not psutil.Process(process.pid).children():
        time.sleep(0.01)
    content = {"pid": process.pid, "url": "http://a", "ray_address": "a:1"}
    (tmp_path / RUNTIME_FILE).write_text(json.dumps(content))
    return process


def test_stop_ends_the_process_of_the_folder_and_those_below_it(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    (child,) = psutil.Process(sleeper.pid).children()
    cluster = background.found(tmp_path)
    assert cluster is not None
    assert cluster.pid == sleeper.pid
    assert background.stop(tmp_path)
    assert sleeper.wait(10.0) is not None
    psutil.wait_procs([child], timeout=10.0)
    assert not child.is_running()
    assert not background.stop(tmp_path)


def test_a_process_that_only_has_the_number_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """The runtime file is older than the process: its cluster has ended, and the number is another's."""
    os.utime(tmp_path / RUNTIME_FILE, (1_000_000_000, 1_000_000_000))
    assert background.found(tmp_path) is None
    assert not background.stop(tmp_path)
    assert sleeper.poll() is None
    assert not (tmp_path / RUNTIME_FILE).exists()
    for child in psutil.Process(sleeper.pid).children():
        child.kill()
    sleeper.kill()
    sleeper.wait()


def test_options_and_cells() -> None:
    assert vector_option("[0.5, -1]") == [0.5, -1.0]
    with pytest.raises(InvalidRequest, match="is not JSON"):
        json_option("{", "--filter")
    assert [cell(value) for value in (None, 1234, 0.5, ("a", 1), True)] == ["-", "1,234", "0.5000", "a, 1", "True"]


def test_counts_are_added_up_over_all_processes() -> None:
    text = (
        '# TYPE store_entities gauge\nstore_entities{source="store"} 5\n'
        '# TYPE states gauge\nstates{phase="active",source="a"} 2\nstates{phase="measured",source="b"} 3\n'
        "# TYPE other gauge\nother 9\n"
    )
    assert counts_in(text) == {"entities": 5, "states": 5}
