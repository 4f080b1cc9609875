"""A few seconds of load on the shared cluster, by the driver that ``make loadtest`` runs."""

from __future__ import annotations

import time
from pathlib import Path

import orjson

from loadtests.mixes import MIXES
from loadtests.run import LOCUST_REPORT, REPORT, SAMPLES, Plan, Target, load_data, load_test
from tests.ray.conftest import ADMIN_KEY, LiveCluster, descendants

RATE, DURATION_S = 20.0, 5.0


def test_five_seconds_of_load_are_answered_and_reported(cluster: LiveCluster, tmp_path: Path) -> None:
    target = Target(cluster.url, ADMIN_KEY, descendants(cluster.process.pid))
    load_data(target)
    start = time.monotonic()
    found = load_test(target, Plan("quantum-heavy", "soak", RATE, DURATION_S, 1_000, tmp_path))
    assert found.planned == RATE * DURATION_S
    assert (found.answered, found.failed) == (found.planned, 0)
    assert time.monotonic() - start >= DURATION_S, "arrivals are not sent before their time"
    samples = orjson.loads((tmp_path / SAMPLES).read_bytes())["samples"]
    assert all(one["scheduled_s"] <= one["sent_s"] <= one["ended_s"] for one in samples)
    assert {one["name"] for one in samples} == set(MIXES["quantum-heavy"])
    page = (tmp_path / REPORT).read_text()
    assert "<svg" in page
    assert "query precise" in page
    assert (tmp_path / LOCUST_REPORT).stat().st_size > 10_000
