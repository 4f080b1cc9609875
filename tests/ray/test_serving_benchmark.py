"""The serving comparison runs to its end and compares the same answers; its figures here mean nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.ray.conftest import ROOT


@pytest.mark.timeout(180)
def test_the_comparison_runs_on_tiny_sizes() -> None:
    command = [sys.executable, "-m", "benchmarks.serving", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stderr
    assert "100% of the bare server's hits are classical's, too" in done.stdout
    for peer in ("bare server", "classical", "balanced", "balanced, always refined"):
        assert f"\n| {peer} | " in done.stdout
    assert "the naive quantum way: " in done.stdout
    assert done.stdout.count("| yes |\n") + done.stdout.count("| no |\n") >= 5
