"""How many workers: within the bounds, no two changes within a cooldown, down to the floor when nothing is asked."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_db.jobs.scaling import LaneLoad, ScalingPolicy, WorkerScaling

NOTHING = {"a": LaneLoad(0, 0)}

policies = st.builds(
    lambda floor, more, jobs, cooldown: ScalingPolicy(floor, floor + more, jobs, cooldown),
    st.integers(1, 5),
    st.integers(0, 10),
    st.floats(0.5, 20.0),
    st.floats(0.1, 60.0),
)
loads = st.builds(
    LaneLoad,
    st.integers(0, 50),
    st.integers(0, 2_000),
    st.floats(0.5, 20.0),
    st.floats(0.0, 30.0),
    st.floats(0.0, 60.0),
)
histories = st.lists(
    st.tuples(st.floats(0.0, 40.0), st.dictionaries(st.sampled_from("abc"), loads)), min_size=1, max_size=60
)


def busy(jobs: int) -> dict[str, LaneLoad]:
    return {"a": LaneLoad(min(jobs, 10), max(0, jobs - 10))}


def changes(policy: ScalingPolicy, start: int, history: list[tuple[float, dict[str, LaneLoad]]]) -> list[float]:
    """Return when the number changed; it is within the bounds all the time."""
    scaling, now_s, found = WorkerScaling(policy, start), 0.0, []
    before = scaling.workers
    for pause_s, lanes in history:
        now_s += pause_s
        after = scaling.decide(lanes, now_s)
        assert policy.floor <= after == scaling.workers <= policy.ceiling
        if after != before:
            found.append(now_s)
        before = after
    return found


@given(policies, st.integers(0, 20), histories)
def test_it_is_within_the_bounds_and_changes_at_most_once_in_a_cooldown(
    policy: ScalingPolicy, start: int, history: list[tuple[float, dict[str, LaneLoad]]]
) -> None:
    found = changes(policy, start, history)
    assert all(later - earlier >= policy.cooldown_s for earlier, later in itertools.pairwise(found))


@given(policies, histories, st.floats(0.01, 5.0))
def test_it_goes_to_the_floor_when_nothing_is_asked(
    policy: ScalingPolicy, history: list[tuple[float, dict[str, LaneLoad]]], every_s: float
) -> None:
    scaling, now_s = WorkerScaling(policy, policy.ceiling), 0.0
    for pause_s, lanes in history:
        now_s += pause_s
        scaling.decide(lanes, now_s)
    for _ in range(math.ceil(2.0 * policy.cooldown_s / every_s) + 2):
        now_s += every_s
        scaling.decide(NOTHING, now_s)
    assert scaling.workers == policy.floor


@given(policies, st.integers(0, 300))
def test_a_steady_load_has_the_workers_that_it_fills(policy: ScalingPolicy, jobs: int) -> None:
    scaling = WorkerScaling(policy, policy.floor)
    found = [scaling.decide(busy(jobs), step * policy.cooldown_s) for step in range(5)]
    wanted = max(policy.floor, min(policy.ceiling, math.ceil(jobs / policy.jobs_per_worker)))
    assert found == [wanted] * 5, "more at once, and none given back while it lasts"


def test_more_come_at_once_and_fewer_after_a_cooldown_of_less() -> None:
    scaling = WorkerScaling(ScalingPolicy(1, 8, jobs_per_worker=4, cooldown_s=10), 1)
    assert scaling.decide(busy(30), 0.0) == 8
    assert [scaling.decide(busy(4), now_s) for now_s in (1.0, 5.0, 9.9, 10.1)] == [8, 8, 8, 2]
    assert scaling.decide(busy(30), 12.0) == 2, "the cooldown holds for more, too"
    assert scaling.decide(busy(30), 20.2) == 8


def test_a_load_that_swings_faster_than_the_cooldown_moves_nothing() -> None:
    scaling = WorkerScaling(ScalingPolicy(1, 8, jobs_per_worker=4, cooldown_s=10), 1)
    seen = {scaling.decide(busy(30 if step % 8 == 0 else 0), float(step)) for step in range(1, 200)}
    assert seen == {1, 8}
    assert scaling.workers == 8


def test_a_load_at_the_edge_does_not_move_it_to_and_fro() -> None:
    scaling = WorkerScaling(ScalingPolicy(1, 8, jobs_per_worker=4, cooldown_s=10), 1)
    found = [scaling.decide(busy(9 if step // 20 % 2 else 8), float(step)) for step in range(400)]
    assert [later for earlier, later in itertools.pairwise(found) if earlier != later] == [3]


def test_work_that_waits_at_the_provider_fills_no_worker() -> None:
    """Jobs of 100 s, of which 98 are in the provider's queue: more workers would only wait with them."""
    policy = ScalingPolicy(1, 8, jobs_per_worker=4, cooldown_s=10)
    queued = LaneLoad(in_flight=10, waiting=200, mean_s=100.0, provider_queue_s=98.0)
    assert WorkerScaling(policy, 1).decide({"far": queued}, 0.0) == 2
    there = LaneLoad(in_flight=10, waiting=200, mean_s=100.0, provider_queue_s=1.0)
    assert WorkerScaling(policy, 1).decide({"far": there}, 0.0) == 8
    unknown = LaneLoad(in_flight=10, waiting=200, mean_s=0.0, provider_queue_s=60.0)
    assert WorkerScaling(policy, 1).decide({"far": unknown}, 0.0) == 1


def test_callers_that_share_a_job_count_as_one() -> None:
    assert LaneLoad(in_flight=2, waiting=100, runs_per_job=50.0).jobs == 4.0


@pytest.mark.parametrize(
    ("floor", "ceiling", "jobs", "cooldown"), [(0, 1, 1, 1), (3, 2, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0)]
)
def test_bounds_that_cannot_be_are_refused(floor: int, ceiling: int, jobs: float, cooldown: float) -> None:
    with pytest.raises(ValueError, match="must"):
        ScalingPolicy(floor, ceiling, jobs, cooldown)
