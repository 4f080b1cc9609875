"""The locust side: a pool of users that send what a schedule says, when it says so. Run by ``loadtests.run``.

What is sent stands in the environment: ``LOADTEST_MIX``, ``_SHAPE``, ``_RATE``, ``_DURATION_S``, ``_REQUESTS`` and
``_SAMPLES`` (the file that the samples go to). The key is in ``QUANTUM_DB_KEY``. Never import Ray here: locust replaces
parts of the standard library that Ray's threads use.
"""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

import gevent
import orjson
from locust import FastHttpUser, LoadTestShape, events, task
from locust.env import Environment

from loadtests.mixes import Ask, asks
from loadtests.schedule import Sample, arrivals
from loadtests.target import check_target
from quantum_db.client.config import KEY_ENV

POOL: Final = 64
"""Requests that can be on their way together. What arrives beyond waits here, and its waiting is counted."""

ANSWER_S: Final = 35.0
"""How long the last answers are waited for."""

LOOK_S: Final = 0.005


def _given(name: str) -> str:
    return os.environ[f"LOADTEST_{name}"]


class Feed:
    """The schedule of this run: gives each user the next request when its time has come."""

    def __init__(self) -> None:
        shape, mix = _given("SHAPE"), _given("MIX")
        self.times = arrivals(shape, float(_given("RATE")), float(_given("DURATION_S")), int(_given("REQUESTS")))
        self._left = deque(zip(self.times.tolist(), asks(mix, len(self.times)), strict=True))
        self.samples: list[Sample] = []
        self._start: float | None = None
        self.started_at_s = 0.0

    @property
    def over(self) -> bool:
        """Whether all requests are answered, or have had their time."""
        done = len(self.samples) == len(self.times)
        return done or self.now_s() > float(self.times[-1]) + ANSWER_S

    def begin(self) -> None:
        """Let the schedule begin now."""
        self._start = time.perf_counter()
        self.started_at_s = time.time()  # for those who look at the cluster meanwhile, in another process

    def now_s(self) -> float:
        """Return the seconds since the schedule began; negative before."""
        return -1.0 if self._start is None else time.perf_counter() - self._start

    def due(self) -> tuple[float, Ask] | None:
        """Return a request whose time has come, None if there is none yet."""
        return self._left.popleft() if self._left and self._left[0][0] <= self.now_s() else None


FEED = Feed()


class ScheduledUser(FastHttpUser):
    """One of the pool. It has no pace of its own."""

    network_timeout = ANSWER_S
    connection_timeout = ANSWER_S

    @task
    def send_what_is_due(self) -> None:
        """Send the next request when its time has come; its latency is from that time."""
        found = FEED.due()
        if found is None:
            gevent.sleep(LOOK_S)
            return
        scheduled_s, ask = found
        headers = {"api-key": os.environ[KEY_ENV], "Content-Type": "application/json"}
        body = None if ask.body is None else orjson.dumps(ask.body)
        sent_s = FEED.now_s()
        options: dict[str, Any] = {"name": ask.name, "data": body, "headers": headers, "catch_response": True}
        with self.client.request(ask.method, ask.path, **options) as response:
            sample = Sample(ask.name, scheduled_s, sent_s, FEED.now_s(), 200 <= response.status_code < 300)
            response.request_meta["response_time"] = sample.latency_ms
            FEED.samples.append(sample)


class Scheduled(LoadTestShape):
    """The whole pool from the start to the last answer: what changes with time is the schedule, not the users."""

    def tick(self) -> tuple[int, float] | None:
        """Return the size of the pool, None at the end."""
        if FEED.now_s() < 0.0 and self.runner is not None and self.runner.user_count == POOL:
            FEED.begin()
        return None if FEED.over else (POOL, POOL)


def _refuse_others(environment: Environment, **_: Any) -> None:
    check_target(environment.host or "")


def _keep_samples(**_: Any) -> None:
    kept = {"planned": len(FEED.times), "started_at_s": FEED.started_at_s, "samples": FEED.samples}
    Path(_given("SAMPLES")).write_bytes(orjson.dumps(kept))


events.init.add_listener(_refuse_others)
events.test_stop.add_listener(_keep_samples)
