"""Real processes that are killed at every step of a paid job: nothing is paid for twice, nothing is lost.

The journals are real (SQLite, and Redis for a part of the trials); the provider is the emulator, also a process.
``python -m tests.chaos.job_trials SEED`` runs a trial again.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.job_process import STEPS, Plant, Work
from tests.chaos.job_trials import (
    Ground,
    check,
    grounds,
    paid_entries,
    plan_of,
    run_all,
    run_sleeper,
    run_trial,
    run_without_redis,
)
from tests.chaos.runs import runs

ROUNDS = runs(short=2, long=12)
"""How often each step is the first to die at."""

LOST_ANSWER = {"effect": "status", "status": 504, "carried_out": True, "request": "submit", "times": 1}
REFUSAL = {"effect": "status", "status": 429, "retry_after_s": 0.5, "request": "submit", "times": 1}
NOT_TAKEN = {"effect": "status", "status": 503, "request": "submit", "times": 1}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Ground]]:
    with grounds(tmp_path_factory.mktemp("trials")) as found:
        yield found


@pytest.fixture
def ground(found: list[Ground]) -> Ground:
    return found[0]


@pytest.mark.timeout(1_800)
def test_no_work_is_paid_for_twice_and_none_is_lost(found: list[Ground]) -> None:
    trials = run_all([plan_of(seed) for seed in range(ROUNDS * len(STEPS))], found)
    died_at = Counter(step for trial in trials for step in trial.died_at)
    for step in STEPS:
        print(f"{died_at[step]:4} died {step}")
    print(f"{died_at.total():4} in {len(trials)} trials, with {sum(trial.struck for trial in trials)} faults")
    assert not [trial.told() for trial in trials if trial.problems]
    assert not [trial.told() for trial in trials if not trial.died_at], "each has one death at least"
    assert min(died_at[step] for step in STEPS) >= ROUNDS
    assert sum(trial.struck for trial in trials) > len(trials)
    assert any(trial.plan.on_redis for trial in trials)


def test_one_seed_gives_one_plan() -> None:
    assert plan_of(7) == plan_of(7) != plan_of(8)


@pytest.mark.parametrize(
    ("step", "rules"),
    [
        ("after the intent is durable", ()),
        ("while waiting to submit again", (REFUSAL,)),
        ("while searching", (NOT_TAKEN,)),
        ("while polling", ()),
        ("before the result is durable", ()),
    ],
)
def test_who_sleeps_through_its_replacement_submits_nothing(
    ground: Ground, step: str, rules: tuple[dict[str, Any], ...]
) -> None:
    """It has one job, so that none is stopped between its last look at the clock and its first byte to the provider."""
    alone = (Work("alone", 100, (1, 2)),)
    plan = replace(plan_of(1), works=alone, deaths=((step, 1),), rules=rules, compacts=False, on_redis=True)
    assert not run_sleeper(plan, ground).problems


def test_a_journal_that_dies_and_comes_back_loses_nothing(ground: Ground) -> None:
    for seed in (4, 6):
        plan = replace(plan_of(seed), deaths=(), rules=(LOST_ANSWER, REFUSAL), compacts=False, on_redis=True)
        assert not run_without_redis(plan, ground).problems


@pytest.mark.parametrize(
    ("plant", "step", "rules"),
    [
        ("submits again after a 504", None, (LOST_ANSWER,)),
        ("submits before the intent is durable", "before the intent is durable", ()),
        ("forgets open intents", "after the submission", ()),
    ],
)
def test_a_planted_fault_is_caught(
    ground: Ground, plant: Plant, step: str | None, rules: tuple[dict[str, Any], ...]
) -> None:
    deaths = () if step is None else ((step, 1),)
    plan = replace(plan_of(0), deaths=deaths, rules=rules, compacts=False, on_redis=False)
    assert not run_trial(plan, ground).problems
    assert any("were paid for" in problem for problem in run_trial(plan, ground, plant).problems)


def test_the_check_sees_what_is_lost_or_does_not_add_up(ground: Ground, tmp_path: Path) -> None:
    plan = replace(plan_of(2), deaths=(), rules=(), compacts=False, on_redis=False)
    assert not run_trial(plan, ground).problems
    (path,) = [path for path in ground.folder.glob("trial-2-*.sqlite") if path.stat().st_mtime == newest(ground.folder)]
    paid = paid_entries(ground.emulator)

    def problems(
        works: tuple[Work, ...] = plan.works, entries: list[Any] = paid, url: Path = path, **times: int
    ) -> str:
        return "; ".join(check(works, entries, times, f"sqlite:///{url}", ground.emulator.url))

    assert problems() == ""
    assert problems(key=2) == "key key was accepted 2 times"
    assert "were paid for" in problems(entries=[*paid, paid[0]])
    assert "the provider has billed" in problems(entries=paid[1:])
    assert "the results of more are not kept" in problems((*plan.works, Work("more", 500, (1,), "question")))
    assert "more is None" in problems((*plan.works, Work("more", 100, plan.works[0].outcomes)))
    broken = tmp_path / "broken.sqlite"
    shutil.copy(path, broken)
    broken.write_bytes(broken.read_bytes().replace(b'"t":"done"', b'"t":"dune"'))
    assert "the journal cannot be read" in problems(url=broken)


def newest(folder: Path) -> float:
    return max(path.stat().st_mtime for path in folder.glob("trial-2-*.sqlite"))
