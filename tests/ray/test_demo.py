"""The main job, as a user runs it, and interrupted in the middle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from cluster.demo import QUESTIONS
from tests.ray.conftest import ROOT, descendants

COMMAND = [sys.executable, "-m", "cluster.cli", "demo"]


def test_the_demo_answers_its_questions_and_ends_by_itself() -> None:
    result = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "9891/9891" in result.stdout
    for question in QUESTIONS:
        assert question.text in result.stdout
    assert result.stdout.count("in the context noun.") == len(QUESTIONS)
    assert result.stdout.count("without a context") == len(QUESTIONS)
    assert "emulator" in result.stdout
    assert "simulated shots" in result.stdout
    assert re.search(r"right word first: [0-5] of 5 in context, [0-5] without", result.stdout)
    assert "the state of bank: measured, generation 1" in result.stdout
    assert re.search(r"│\s+1 │ bank\s+│ noun\.group: a financial institution", result.stdout)
    assert result.stdout.rstrip().endswith("done; everything has been stopped")


def test_ctrl_c_stops_everything_that_the_demo_started(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(COMMAND, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
        try:
            deadline = time.monotonic() + 120
            while "the cluster answers" not in log.read_text() and time.monotonic() < deadline:
                time.sleep(0.2)
            below = descendants(process.pid)
            assert len(below) > 5
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of the group
            assert process.wait(60) == 130
        finally:
            process.kill()
    psutil.wait_procs(below, timeout=5)
    assert not [child for child in below if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert "interrupted; everything has been stopped" in log.read_text()
    assert "Traceback" not in log.read_text()
