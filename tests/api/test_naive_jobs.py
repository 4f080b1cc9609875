"""The peers of the job pool: that what is counted against them is what they did."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from benchmarks.naive_jobs import (
    overlap_work,
    run_serial,
    run_threads,
    run_under_faults,
    run_within_budget,
    wait_for_dead_provider,
)
from quantum_db.circuits.simulator import probabilities
from quantum_db.circuits.verification import verify_distribution
from quantum_db.errors import JobFailed
from tests.api.emulator_server import Emulator, emulator_process


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with emulator_process("--control", quiet=True) as running:
        yield running


def test_both_run_each_circuit_once_and_return_its_counts(emulator: Emulator) -> None:
    work = overlap_work(5, shots=2_000)
    before = dict(os.environ)
    for found in (run_serial(emulator, work), run_threads(emulator, work, threads=3)):
        assert found.jobs == 5
        assert found.wall_s > 0.0
        verify_distribution(found.counts, probabilities(work.batch))
        with pytest.raises(JobFailed, match="do not come from its distribution"):
            verify_distribution(found.counts[::-1], probabilities(work.batch))
    assert dict(os.environ) == before


def test_every_lost_answer_is_a_duplicate(emulator: Emulator) -> None:
    work = overlap_work(20)
    fair = run_under_faults(emulator, work, lost_504=0.0, cut=0.0)
    assert (fair.jobs, fair.duplicates, fair.lost) == (20, 0, 0)
    assert fair.paid_usd == pytest.approx(fair.fair_usd)
    for lost_504, cut in ((0.3, 0.0), (0.0, 0.3)):
        found = run_under_faults(emulator, work, lost_504=lost_504, cut=cut)
        assert found.jobs == 20 + found.duplicates
        assert found.duplicates == sum(emulator.struck()) - found.lost > 0
        assert found.paid_usd == pytest.approx(found.fair_usd * found.jobs / 20)


def test_callers_at_the_same_time_overshoot_a_budget_and_one_alone_does_not(emulator: Emulator) -> None:
    work = overlap_work(20)
    together = run_within_budget(emulator, work, 0.1 * work.cost_usd)
    assert together.overshoot > 0.0
    assert together.paid_usd > together.budget_usd
    alone = overlap_work(1)
    assert run_within_budget(emulator, alone, 0.9 * alone.cost_usd).paid_usd == 0.0
    assert run_within_budget(emulator, alone, alone.cost_usd).overshoot == pytest.approx(0.0)


def test_a_client_of_a_dead_provider_does_not_give_up() -> None:
    found = wait_for_dead_provider(bound_s=3.0)
    assert not found.gave_up
    assert found.waited_s >= 3.0
