"""Events that come in while a snapshot of the states is made and written: neither lost nor doubled by a SIGKILL."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.contract.state_child import HOT, opened

ROOT = Path(__file__).parents[2]


def acknowledged_by(path: Path, kind: str, after_s: float) -> int:
    """Run the child for a while and kill it; return the last step that it acknowledged."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.contract.state_child", str(path), kind],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    return int((first + rest).split("\n")[-2])


async def killed(path: Path, kind: str, after_s: float) -> tuple[int, int]:
    """Return what a child had acknowledged when it was killed, and how many steps its journal has."""
    acknowledged = await asyncio.to_thread(acknowledged_by, path, kind, after_s)
    keeper = opened(path)
    await keeper.load()
    found = keeper.kept.instances("a", 1.0)
    assert found is not None
    assert len(keeper.kept.table) == HOT + 1
    await keeper.close()
    return acknowledged, found.current.measurements


async def test_a_kill_at_any_time_loses_no_event_and_doubles_none(tmp_path: Path) -> None:
    rng = random.Random(5)
    for _ in range(6):
        acknowledged, kept = await killed(tmp_path / "journal.sqlite", "right", rng.uniform(0.0, 0.5))
        assert kept - acknowledged in (0, 1), "the last one may have been written and not yet acknowledged"


@pytest.mark.parametrize(("kind", "sign"), [("loses", -1), ("doubles", 1)])
async def test_a_snapshot_that_stands_for_the_wrong_number_is_caught(tmp_path: Path, kind: str, sign: int) -> None:
    acknowledged, kept = await killed(tmp_path / "journal.sqlite", kind, 1.0)
    assert sign * (kept - acknowledged) > 1
