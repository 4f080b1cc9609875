"""How many workers the job pool should have: a decision from its load, with the clock passed in.

A state machine: loads in, numbers out. One load asks for as many workers as its work fills. More are taken at once,
fewer only when all loads of a whole cooldown could have done with fewer, and no two changes are closer together than a
cooldown: a load that swings faster than that is served by what its peaks need, and moves nothing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SLACK: Final = 0.7
"""Fewer workers are enough when they would be filled to this share: else a load at the edge would go up and down."""


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """The bounds of the number of workers.

    Attributes:
        floor, ceiling: it is never outside; equal, it is fixed.
        jobs_per_worker: jobs that run or wait, for each of which a worker is wanted.
        cooldown_s: between two changes, and how long less must have been enough before there are fewer.

    Raises:
        ValueError: 1 <= floor <= ceiling does not hold, or a number is not positive.
    """

    floor: int = 1
    ceiling: int = 1
    jobs_per_worker: float = 4.0
    cooldown_s: float = 10.0

    def __post_init__(self) -> None:
        """Check the bounds."""
        if not 1 <= self.floor <= self.ceiling:
            raise ValueError(f"1 <= floor <= ceiling must hold, not floor {self.floor} and ceiling {self.ceiling}")
        if not (self.jobs_per_worker > 0.0 and self.cooldown_s > 0.0):
            raise ValueError("jobs_per_worker and cooldown_s must be positive")


@dataclass(frozen=True, slots=True)
class LaneLoad:
    """What one backend asks of the workers.

    Attributes:
        in_flight: jobs.
        waiting: callers that wait for a place.
        runs_per_job: how many of them go into a job, on average.
        mean_s: time of its jobs, on average; 0 while none has ended.
        provider_queue_s: how long of it a job waits at the provider, where no worker can help.
    """

    in_flight: int
    waiting: int
    runs_per_job: float = 1.0
    mean_s: float = 0.0
    provider_queue_s: float = 0.0

    @property
    def jobs(self) -> float:
        """Jobs that keep a worker busy: less the share of their time that they spend in the provider's queue."""
        share = 1.0
        if self.mean_s > 0.0:
            share = max(0.0, 1.0 - self.provider_queue_s / self.mean_s)
        elif self.provider_queue_s > 0.0:
            share = 0.0
        return share * (self.in_flight + self.waiting / max(1.0, self.runs_per_job))


class WorkerScaling:
    """Decides the number of workers."""

    def __init__(self, policy: ScalingPolicy, workers: int) -> None:
        """Start with a number that is within the bounds, or else with the nearest one that is."""
        self._policy = policy
        self._workers = min(policy.ceiling, max(policy.floor, workers))
        self._changed_s = -math.inf
        self._since_s: float | None = None
        self._needs: deque[tuple[float, int]] = deque()

    @property
    def workers(self) -> int:
        """How many there should be by the last decision."""
        return self._workers

    def decide(self, lanes: Mapping[str, LaneLoad], now_s: float) -> int:
        """Return how many workers there should be, from what each backend asks now.

        Args:
            lanes: backend -> its load.
            now_s: of a monotonic clock; never less than before.
        """
        policy, jobs = self._policy, sum(load.jobs for load in lanes.values())
        wanted, enough = (
            self._within(jobs / policy.jobs_per_worker),
            self._within(jobs / policy.jobs_per_worker / SLACK),
        )
        self._since_s = now_s if self._since_s is None else self._since_s
        while self._needs and self._needs[-1][1] <= enough:  # what a later load needs as well, no earlier one decides
            self._needs.pop()
        self._needs.append((now_s, enough))
        while self._needs[0][0] < now_s - policy.cooldown_s:
            self._needs.popleft()
        if now_s - self._changed_s < policy.cooldown_s:
            return self._workers
        if wanted > self._workers:
            self._change(wanted, now_s)
        elif now_s - self._since_s >= policy.cooldown_s and self._needs[0][1] < self._workers:
            self._change(self._needs[0][1], now_s)
        return self._workers

    def _within(self, workers: float) -> int:
        return min(self._policy.ceiling, max(self._policy.floor, math.ceil(workers)))

    def _change(self, workers: int, now_s: float) -> None:
        self._workers, self._changed_s = workers, now_s
