"""The checker of a soak: a planted leak is caught, and what only moves or fills up is not called one."""

from __future__ import annotations

import time

import numpy as np
import psutil
import pytest

from benchmarks.growth import trend
from benchmarks.soak import Reader, Readings, mixed, table, trends

TIMES = np.arange(0.0, 900.0, 5.0)


def noisy(level: float, an_hour: float, noise: float, seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    found = level + an_hour * TIMES / 3600.0 + rng.normal(scale=noise, size=len(TIMES))
    return list(found.tolist())


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_leak_of_memory_is_caught(seed: int) -> None:
    """40 MB an hour, 10 in the quarter of an hour, in a process of 120 MB whose readings move by 2."""
    found = trend(TIMES.tolist(), noisy(120.0, 40.0, 2.0, seed), "memory_mb")
    assert found.grows
    assert found.low <= 40.0 <= found.high


@pytest.mark.parametrize("kind", ["threads", "files"])
def test_a_planted_leak_of_one_every_five_minutes_is_caught(kind: str) -> None:
    held = [20.0 + time // 300.0 * 1.0 + time // 150.0 for time in TIMES]
    assert trend(TIMES.tolist(), held, kind).grows


@pytest.mark.parametrize("seed", range(5))
def test_what_moves_about_a_level_does_not_grow(seed: int) -> None:
    assert not trend(TIMES.tolist(), noisy(400.0, 0.0, 10.0, seed), "memory_mb").grows
    swings = [15.0 + (step % 7) for step in range(len(TIMES))]
    assert not trend(TIMES.tolist(), swings, "threads").grows


def test_a_cache_that_fills_at_first_does_not_grow() -> None:
    held = [100.0 + min(80.0, time / 3.0) for time in TIMES]
    assert not trend(TIMES.tolist(), held, "memory_mb").grows


def test_one_peak_moves_nothing() -> None:
    held = noisy(100.0, 0.0, 0.5)
    held[-20:-10] = [500.0] * 10
    assert not trend(TIMES.tolist(), held, "memory_mb").grows


def test_too_few_readings_tell_nothing() -> None:
    with pytest.raises(ValueError, match="there must be 10"):
        trend([0.0, 1.0, 2.0], [1.0, 1.0, 1.0], "files")


def test_a_process_that_leaks_is_named() -> None:
    leaking = Readings("ray::Leaky", TIMES.tolist(), noisy(120.0, 60.0, 1.0), [9.0] * len(TIMES), [30.0] * len(TIMES))
    told = table([(leaking.name, trends(leaking))])
    assert told.splitlines()[-1].startswith("| ray::Leaky | 1")
    assert told.endswith("| memory_mb |")


def test_the_reader_reads_this_process() -> None:
    with Reader([psutil.Process()], every_s=0.02) as reader:
        until_s = time.monotonic() + 5.0
        while len(reader.found[psutil.Process().pid].files) < 3 and time.monotonic() < until_s:
            time.sleep(0.01)
    (found,) = reader.found.values()
    assert min(found.memory_mb) > 1.0
    assert min(found.threads) >= 2
    assert len(found.at_s) == len(found.threads) == len(found.files)


def test_the_mixes_stand_in_their_shares() -> None:
    found = mixed(1_000)
    assert len(found) == 1_000
    halves = [[ask.name for ask in half] for half in (found[:500], found[500:])]
    for name in ("query classical", "insert", "query precise"):
        counts = [half.count(name) for half in halves]
        assert min(counts) > 0.5 * max(counts) > 0, "they are sent at the same time"
