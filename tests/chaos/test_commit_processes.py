"""The writing process, with all its real parts, killed again and again under load: the checker finds nothing wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.commit_process import STEPS
from tests.chaos.commit_trials import Trial
from tests.chaos.runs import runs
from tests.redis_server import DURABLE, running_redis

KILLS = 10
PLANTED_TRIALS = 8
TRIALS = runs(short=3, long=24)
REDIS_TRIALS = runs(short=1, long=8)
KILLED: Counter[str] = Counter()


@pytest.mark.parametrize("seed", range(TRIALS))
def test_a_killed_process_comes_back_with_what_was_acknowledged(tmp_path: Path, seed: int) -> None:
    trial = Trial(tmp_path, seed)
    trial.run(KILLS)
    _judge(trial)


@pytest.mark.parametrize("seed", range(REDIS_TRIALS))
def test_so_it_does_with_a_journal_in_redis(tmp_path: Path, seed: int) -> None:
    with running_redis(*DURABLE, folder=tmp_path) as redis:
        trial = Trial(tmp_path, 1_000 + seed, f"{redis.url}/0?name=commits")
        trial.run(KILLS)
    _judge(trial)


def test_the_trials_reached_the_steps_at_which_they_were_to_be_killed() -> None:
    reached = {step for step in STEPS if KILLED[step]}
    print(dict(KILLED))
    assert len(reached) >= runs(short=6, long=len(STEPS)), f"not reached: {set(STEPS) - reached}"


def test_a_journal_that_writes_no_intents_is_caught(tmp_path: Path) -> None:
    """In a few trials at most: a kill has to come between two parts of a transaction."""
    problems: list[str] = []
    for seed in range(PLANTED_TRIALS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        trial = Trial(folder, 5_000 + seed, plant="intents are not written")
        trial.run(KILLS)
        problems += trial.problems
        if any(problem.startswith(("half-applied", "duplicate", "phantom")) for problem in trial.problems):
            return
    raise AssertionError(f"not caught; found was {problems[:5]}")


def _judge(trial: Trial) -> None:
    assert not trial.problems, trial.problems[:5]
    assert trial.log["done"] > KILLS
    assert trial.log["looked"] > KILLS
    assert sum(trial.log[step] for step in (*STEPS, "at a random moment")) == KILLS
    KILLED.update(trial.log)
