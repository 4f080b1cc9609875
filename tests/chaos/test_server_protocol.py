"""Seeded runs of the commit protocol over a store that several readers search: no half is seen, nothing is missed."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.commit_world import Faults
from tests.chaos.runs import runs
from tests.chaos.server_world import ServerWorld

RUNS = runs(short=600, long=6_000)
PLANTED_RUNS = 150
OFTEN = Faults(process_dies=0.02, store_fails=0.15)


@pytest.mark.timeout(1_800)
def test_no_reader_sees_a_half_or_misses_what_was_acknowledged() -> None:
    seen: Counter[str] = Counter()
    for seed in range(RUNS):
        world = ServerWorld(seed)
        world.run()
        assert not world.check(), f"seed {seed}: {world.check()}"
        seen.update(world.log)
    assert seen["the process died"] > RUNS
    assert seen["done"] > 10 * RUNS
    assert seen["looked"] > 10 * RUNS
    for what in (
        "the store failed",
        "a message was lost",
        "a message came late",
        "a message came twice",
        "compacted",
        "dropped",
        "a reader had no lease",
        "a reader asked in vain",
        "a lease was waited for",
    ):
        assert seen[what] > RUNS / 100, f"{what}: {seen[what]}"


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        ("visible too early", "half-applied"),
        ("ended early", "half-applied"),
        ("readers are not waited for", "stale"),
        ("leases do not end", "stale"),
        ("earlier readers are forgotten", "stale"),
        ("dropped at once", "missing"),
    ],
)
def test_a_planted_fault_is_caught_for_what_it_is(plant: str, kind: str) -> None:
    assert any(problem.startswith(kind) for seed in range(PLANTED_RUNS) for problem in _problems_of(seed, plant)), (
        f"{plant} was never seen as {kind}"
    )


def _problems_of(seed: int, plant: str) -> list[str]:
    world = ServerWorld(seed, plant=plant, faults=OFTEN)
    world.run()
    return world.check()
