"""When requests arrive, and how long each took from then on. Plain Python: neither locust nor Ray.

Arrivals are fixed beforehand (an open loop). A client that waits for one answer before it asks again slows down with
the server, and leaves out just the requests that would have waited: *coordinated omission*. Here a request that could
not be sent at its time has its waiting counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SHAPES: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "soak": ((0.0, 1.0), (1.0, 1.0)),
    "ramp": ((0.0, 0.1), (0.8, 2.0), (1.0, 2.0)),
    "spike": ((0.0, 0.5), (0.4, 0.5), (0.4, 3.0), (0.6, 3.0), (0.6, 0.5), (1.0, 0.5)),
}
"""Corners (share of the duration, share of the rate) with straight lines between: steady, rising, and one burst."""


def arrivals(shape: str, rate: float, duration_s: float, most: int) -> NDArray[np.float64]:
    """Return when requests arrive, in seconds from the start, ascending.

    Args:
        shape: one of ``SHAPES``.
        rate: requests a second, where the shape is 1.
        most: there are no more than so many.

    Raises:
        ValueError: no such shape, or a number is not positive.
    """
    if shape not in SHAPES or not (rate > 0.0 and duration_s > 0.0 and most > 0):
        raise ValueError(f"shape is one of {', '.join(SHAPES)}; rate, duration and the most are positive")
    times, shares = np.array(SHAPES[shape]).T
    times, rates = times * duration_s, shares * rate
    done = np.concatenate([[0.0], np.cumsum(np.diff(times) * (rates[1:] + rates[:-1]) / 2.0)])
    wanted = np.arange(min(most, math.floor(done[-1] + 1e-9))) + 0.5
    piece = np.searchsorted(done, wanted, side="right") - 1
    start, slope = rates[piece], (rates[piece + 1] - rates[piece]) / np.maximum(np.diff(times)[piece], 1e-12)
    left = wanted - done[piece]  # = start t + slope t^2 / 2, solved for t so that a slope of 0 is no division by it
    within = 2.0 * left / (start + np.sqrt(np.maximum(start**2 + 2.0 * slope * left, 0.0)))
    found: NDArray[np.float64] = times[piece] + within
    return found


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. Times are seconds from the start of the schedule."""

    name: str
    scheduled_s: float
    sent_s: float
    ended_s: float
    ok: bool

    @property
    def latency_ms(self) -> float:
        """From when it should have been sent: what a caller who comes at that time waits."""
        return (self.ended_s - self.scheduled_s) * 1000.0

    @property
    def service_ms(self) -> float:
        """From when it was sent; leaves out the waiting before, and is no latency."""
        return (self.ended_s - self.sent_s) * 1000.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run found. Latencies are from the scheduled time."""

    planned: int
    answered: int
    failed: int
    p50_ms: float
    p99_ms: float
    longest_ms: float
    late_share: float
    """Of requests, that were sent more than ``LATE_S`` after their time: the pool of clients was too small, or busy."""


LATE_S: Final = 0.1


def summary(samples: Sequence[Sample], planned: int) -> Summary:
    """Sum a run up. Requests that were planned and never answered count as failed.

    Raises:
        ValueError: there are no samples, or more than were planned.
    """
    if not samples or len(samples) > planned:
        raise ValueError(f"{len(samples)} samples of {planned} planned requests")
    latencies = np.array([sample.latency_ms for sample in samples])
    answered = sum(sample.ok for sample in samples)
    late = sum(sample.sent_s - sample.scheduled_s > LATE_S for sample in samples)
    p50, p99 = np.percentile(latencies, (50, 99))
    longest = float(latencies.max())
    return Summary(planned, answered, planned - answered, float(p50), float(p99), longest, late / len(samples))


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """By second of the schedule, all of shape (S,): arrivals and answers in it, and the latencies of its arrivals.

    ``backlog`` is how many requests had arrived and were not answered at the end of the second.
    """

    arrived: NDArray[np.float64]
    answered: NDArray[np.float64]
    p50_ms: NDArray[np.float64]
    p99_ms: NDArray[np.float64]
    backlog: NDArray[np.float64]


def timeline(samples: Sequence[Sample]) -> Timeline:
    """Return what happened second by second; NaN where nothing arrived. ``samples`` is not empty."""
    scheduled = np.array([sample.scheduled_s for sample in samples])
    ended = np.array([sample.ended_s for sample in samples])
    latency = np.array([sample.latency_ms for sample in samples])
    seconds = int(ended.max()) + 1
    edges = np.arange(seconds + 1)
    arrived, answered = (np.histogram(times, edges)[0].astype(float) for times in (scheduled, ended))
    within = [latency[scheduled.astype(int) == second] for second in range(seconds)]
    p50, p99 = (
        np.array([np.percentile(some, share) if some.size else np.nan for some in within]) for share in (50, 99)
    )
    return Timeline(arrived, answered, p50, p99, np.cumsum(arrived) - np.cumsum(answered))
