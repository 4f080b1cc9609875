"""The buckets in which states wait for their end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.states.timers import TICKS_PER_S, Timers


def row(number: int) -> np.ndarray:
    return np.array([number], dtype=np.int32)


@settings(deadline=None)
@given(
    expires=st.lists(st.floats(0.0, 1e9), min_size=1, max_size=50),
    start=st.sampled_from([0.0, 1e3, 1.7e9]),
    leap=st.sampled_from([0.001, 1.0, 1e4, 1e7]),
)
def test_every_row_moves_a_few_times_and_is_popped_in_time(expires: list[float], start: float, leap: float) -> None:
    timers, times = Timers(len(expires)), start + np.array(expires)
    assert timers.pop(start, 10).size == 0
    timers.set(np.arange(len(expires), dtype=np.int32), times)
    waiting, moves, now = set(range(len(expires))), np.zeros(len(expires), dtype=int), start
    while waiting:
        timers.validate(np.array(sorted(waiting), dtype=np.int32), times[sorted(waiting)])
        now = max(now + leap, timers._heap[0] / TICKS_PER_S)
        while timers.due(now):
            found = timers.pop(now, 7)
            assert found.size <= 7
            moves[found] += 1
            waiting -= set(found[times[found] <= now].tolist())
            timers.set(found[times[found] > now], times[found[times[found] > now]])
        assert not {one for one in waiting if times[one] <= now - 1 / TICKS_PER_S}
    assert moves.max() <= 8
    assert (len(timers._buckets), timers._entries) == (0, 0)


def test_buckets_are_few_however_many_times_there_are() -> None:
    timers, count = Timers(100_000), 100_000
    timers.pop(0.0, 1)
    timers.set(np.arange(count, dtype=np.int32), np.random.default_rng(0).uniform(0.0, 1e6, count))
    assert len(timers._buckets) <= 64 * 5
    assert timers.nbytes <= 13 * count


def test_a_row_set_earlier_is_popped_once_and_one_set_later_stays() -> None:
    timers = Timers(2)
    timers.pop(0.0, 1)
    timers.set(row(0), np.array([50.0]))
    timers.set(row(0), np.array([20.0]))
    timers.set(row(0), np.array([70.0]))
    assert timers.pop(21.0, 10).tolist() == [0]
    timers.set(row(0), np.array([50.0]))  # into the bucket where a stale entry of the row is
    assert timers.pop(60.0, 10).tolist() == [0]
    assert timers.pop(1e9, 10).tolist() == []
    assert timers._entries == 0


def test_a_time_in_the_past_or_beyond_all_bounds_is_one_too() -> None:
    timers = Timers(3)
    timers.pop(1_000.0, 1)
    timers.set(np.arange(3, dtype=np.int32), np.array([5.0, 1e300, -1e300]))
    assert sorted(timers.pop(1_000.0, 10).tolist()) == [0, 2]
    assert timers.pop(1e12, 10).tolist() == []


@pytest.mark.parametrize("fault", ["late", "lost", "miscounted"])
def test_validate_catches_a_broken_timer(fault: str) -> None:
    timers, expires = Timers(2), np.array([10.0])
    timers.pop(0.0, 1)
    timers.set(row(0), expires)
    timers.validate(row(0), expires)
    if fault == "late":
        timers._due[0] += 10_000
    elif fault == "lost":
        del next(iter(timers._buckets.values()))[:]
    else:
        timers._entries += 1
    with pytest.raises(AssertionError):
        timers.validate(row(0), expires)
