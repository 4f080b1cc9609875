"""Three nodes on one machine: who has a journal on Redis comes back elsewhere, who has files where they are.

The trials run once, as one program in namespaces of its own; the tests look at what it found.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.ray.conftest import ROOT

NAMESPACES = ("unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
TRIALS = ("lose_a_node", "wake_an_orphan", "lose_the_control_process", "kill_who_has_files", "lose_who_is_in_redis")
TIMEOUT_S = 400.0


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("a network and a process namespace cannot be made here; Ray's nodes would listen on all addresses")
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)  # it is for clusters of one node
    folder = tmp_path_factory.mktemp("n")  # short: Ray puts sockets below it
    report = folder / "found.json"
    program = f"ip link set lo up && exec {sys.executable} -m tests.ray.node_trials {report} {folder}"
    command = [*NAMESPACES, "sh", "-c", program]
    ran = subprocess.run(  # in its namespaces nothing outlives it, whatever ends it
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert ran.returncode == 0, f"{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}"
    told: dict[str, Any] = json.loads(report.read_text())
    assert list(told) == list(TRIALS), ran.stderr
    for name, one in told.items():
        print(f"{name}: ready again after {one['ready_s']:.1f} s")
    return told


def check_paid_once(told: dict[str, Any], shots: int) -> None:
    """The job has its counts, and no job of the pool was accepted twice by the provider."""
    assert set(told["counts"]) == {"0", "3"}
    assert sum(told["counts"].values()) == shots
    assert told["accepted"] == [1] * told["entries"], "each key once, and nothing without a key"


def test_the_coordinator_of_a_lost_node_comes_back_elsewhere(found: dict[str, Any]) -> None:
    trial = found["lose_a_node"]
    assert trial["moved"]
    assert trial["entries"] == 1
    check_paid_once(trial, 500)


def test_an_old_coordinator_that_wakes_up_is_fenced(found: dict[str, Any]) -> None:
    """It slept on a call that its successor has answered meanwhile: it may submit nothing, and ends."""
    trial = found["wake_an_orphan"]
    check_paid_once(trial["first"], 501)
    check_paid_once(trial["unheard"], 601)
    check_paid_once(trial["after"], 502)
    assert trial["after"]["entries"] == trial["unheard"]["entries"] + 1, "the orphan has submitted nothing"
    assert any(line.startswith("the job pool ends: ") and "epoch" in line for line in trial["last_words"]), trial[
        "last_words"
    ]


def test_without_its_control_process_the_cluster_works_on_and_restarts_actors_afterwards(found: dict[str, Any]) -> None:
    trial = found["lose_the_control_process"]
    check_paid_once(trial["begun_before"], 503)
    check_paid_once(trial["begun_while_dead"], 504)
    check_paid_once(trial["after"], 505)


def test_actors_with_files_come_back_where_the_files_are(found: dict[str, Any]) -> None:
    trial = found["kill_who_has_files"]
    assert trial["members"] == ["a", "b"]
    assert len(trial["at_home"]) == 6, "two actors, killed three times"
    assert all(trial["at_home"])


def test_what_is_kept_in_redis_comes_back_on_another_node(found: dict[str, Any]) -> None:
    trial = found["lose_who_is_in_redis"]
    print({name: round(took_s, 1) for name, took_s in trial["took_s"].items()})
    assert trial["moved"] == {"states-0": True, "groups-0": True, "store": True}
    assert trial["members"] == ["a", "b"]
    assert trial["same_state"]
    assert trial["files"] == ["access.sqlite", "jobs.sqlite"], "of keys and of the job pool, which are at home here"


def test_the_check_sees_a_job_that_was_paid_for_twice() -> None:
    told = {"counts": {"0": 3, "3": 2}, "accepted": [1, 2], "entries": 2}
    with pytest.raises(AssertionError, match="each key once"):
        check_paid_once(told, 5)
    with pytest.raises(AssertionError, match="each key once"):
        check_paid_once({**told, "accepted": [1]}, 5)
