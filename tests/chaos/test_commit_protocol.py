"""Thousands of seeded runs of the commit protocol: nothing acknowledged is lost, nothing is there by half."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.commit_world import REFUSED, Faults, World
from tests.chaos.runs import runs

RUNS = runs(short=1_500, long=12_000)
PLANTED_RUNS = 400
OFTEN = Faults(process_dies=0.02, store_fails=0.15)


@pytest.mark.timeout(1_800)
def test_nothing_is_lost_half_there_or_done_twice() -> None:
    seen: Counter[str] = Counter()
    for seed in range(RUNS):
        world = World(seed)
        world.run()
        assert not world.check(), f"seed {seed}: {world.check()}"
        seen.update(world.log)
    assert seen["the process died"] > RUNS
    assert seen["done"] > 10 * RUNS
    for fault in (
        "the last records were lost",
        "an append failed",
        "the journal was away",
        "the store failed",
        "the registry died",
        "a message was lost",
        "a message came late",
        "a message came twice",
        "clock jumped",
        "compacted",
        "flushed",
        "a reader was told to wait",
        "a caller gave up",
    ):
        assert seen[fault] > RUNS / 100, f"{fault}: {seen[fault]}"


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = World(7), World(7)
    first.run()
    second.run()
    assert (first.log, first.disk, first.now_s) == (second.log, second.disk, second.now_s)
    assert [seen.begun_at for seen in first.history.seen] == [seen.begun_at for seen in second.history.seen]


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        ("the disk lies", "missing"),
        (REFUSED, "phantom"),
        ("answers are forgotten", "duplicate"),
        ("what is open is forgotten", "half-applied"),
        ("half a transaction is shown", "half-applied"),
        ("readers do not wait", "half-applied"),
        ("an old change is repeated", "stale"),
        ("vectors change places", "malformed"),
        ("numbers start again", "number"),
        ("reads are old", "lost update"),
        ("a transaction is never ended", "stuck"),
    ],
)
def test_a_planted_fault_is_caught_for_what_it_is(plant: str, kind: str) -> None:
    assert any(problem.startswith(kind) for seed in range(PLANTED_RUNS) for problem in _problems_of(seed, plant)), (
        f"{plant} was never seen as {kind}"
    )


def _problems_of(seed: int, plant: str) -> list[str]:
    world = World(seed, plant=plant, faults=OFTEN)
    world.run()
    return world.check()
