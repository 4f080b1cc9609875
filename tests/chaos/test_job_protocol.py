"""Thousands of seeded runs of the protocol of paid jobs: nothing is paid for twice, nothing is lost."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.job_world import Faults, World
from tests.chaos.runs import runs

RUNS = runs(short=1_500, long=20_000)
PLANTED_RUNS = 150


def test_no_work_is_paid_for_twice_and_none_is_lost() -> None:
    seen: Counter[str] = Counter()
    for seed in range(RUNS):
        world = World(seed)
        world.run()
        assert not world.check(), f"seed {seed}: {world.check()}"
        world.ledger.budgets.validate()
        seen["deaths"] += world.deaths
        seen.update(world.log)
    assert seen["deaths"] > RUNS / 2, "the process dies often enough for this to say something"
    assert seen["clock jumped"] > 0
    assert seen["ended: Unavailable"] > 0


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = World(7), World(7)
    first.run()
    second.run()
    assert (first.provider.jobs, first.disk, first.now_s) == (second.provider.jobs, second.disk, second.now_s)


@pytest.mark.parametrize("plant", ["submit again after a 504", "submit before the intent is durable"])
def test_a_planted_bug_is_caught(plant: str) -> None:
    caught = 0
    for seed in range(PLANTED_RUNS):
        world = World(seed, plant=plant, faults=Faults(process_dies=0.02))
        world.run()
        caught += any("paid for" in problem for problem in world.check())
    assert caught > PLANTED_RUNS / 20


def test_a_settling_time_that_is_too_short_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing lags up to 8 s and an acceptance up to 15 s: to trust "not found" at once is a fault."""
    limits = type("Impatient", (), {"unclear_s": 0.0, "longest_pause_s": 30.0, "begin_s": 5.0})()
    monkeypatch.setattr("tests.chaos.job_world.PROTOCOL", limits)
    problems = []
    for seed in range(PLANTED_RUNS):
        world = World(seed)
        world.run()
        problems += world.check()
    assert any("paid for" in problem for problem in problems)


def test_a_search_that_trusts_the_wall_clock_is_caught() -> None:
    problems = []
    for seed in range(3 * PLANTED_RUNS):
        world = World(seed, faults=Faults(clock_jumps=0.05, process_dies=0.02))
        world.search_margin_s = 0.0
        world.run()
        problems += world.check()
    assert any("paid for" in problem for problem in problems)


def test_a_lost_job_is_seen_by_the_check() -> None:
    world = World(0)
    world.run()
    del world.results[0]
    assert world.check() == ["work 0 was lost"]
