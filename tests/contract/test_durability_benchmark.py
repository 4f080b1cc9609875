"""The benchmark of durable transactions runs: its parts fit those of the product."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.durability import commits


async def test_all_ways_to_write_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await commits(tmp_path, 1, 64, False)
    told = capsys.readouterr().out
    for way in ("ours", "logged", "bare"):
        assert told.count(f"| {way} |") >= 3, told
