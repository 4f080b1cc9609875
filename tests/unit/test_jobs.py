"""The job queue as a machine, and the pool's flow of control."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prometheus_client import CollectorRegistry

from quantum_db.circuits.overlap import overlap_template
from quantum_db.circuits.template import CircuitBatch
from quantum_db.clock import SystemClock
from quantum_db.errors import DeadlineExceeded, InvalidRequest, JobFailed, Overloaded
from quantum_db.jobs.pool import QueuedJobPool
from quantum_db.jobs.queue import JobQueue
from quantum_db.ports import BackendLimits, BackendResult, JobRequest

RESULT = BackendResult(counts=({0: 1},), provenance="simulated shots", backend="b", cost_usd=0.5)
LIMITS = BackendLimits(8, 10, 1_000, 1_000)


def test_interactive_jobs_overtake_batch_jobs() -> None:
    queue = JobQueue({"b": 1}, max_waiting=10)
    assert queue.submit("running", "b") == ["running"]
    queue.submit("slow", "b", "batch")
    queue.submit("quick", "b")
    assert queue.finish("running") == ["quick"]
    assert queue.finish("quick") == ["slow"]


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    queue = JobQueue({"b": 1}, max_waiting=1)
    queue.submit("1", "b")
    queue.submit("2", "b")
    with pytest.raises(Overloaded, match="1 quantum jobs wait for b") as caught:
        queue.submit("3", "b")
    assert caught.value.retry_after_s == 1.0
    queue.validate()
    with pytest.raises(ValueError, match="twice"):
        queue.submit("1", "b")


def test_validate_catches_a_job_over_the_limit() -> None:
    queue = JobQueue({"b": 1}, max_waiting=1)
    queue.submit("1", "b")
    queue._lanes["b"].in_flight.add("smuggled")
    with pytest.raises(AssertionError, match="more jobs in flight"):
        queue.validate()


class QueueMachine(RuleBasedStateMachine):
    """Whatever happens, limits hold and no job is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = JobQueue({"a": 2, "b": 1}, max_waiting=3)
        self.waiting: list[str] = []
        self.in_flight: list[str] = []
        self.number = 0

    @rule(backend=st.sampled_from(["a", "b"]), priority=st.sampled_from(["interactive", "batch"]))
    def submit(self, backend: str, priority: str) -> None:
        self.number += 1
        key = f"{backend}{self.number}"
        try:
            started = self.queue.submit(key, backend, priority)
        except Overloaded:
            return
        self.waiting.append(key)
        self.start(started)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.in_flight))
        self.in_flight.remove(key)
        self.start(self.queue.finish(key))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.waiting))
        assert self.queue.withdraw(key)
        self.waiting.remove(key)

    @rule()
    def strangers_change_nothing(self) -> None:
        assert self.queue.finish("stranger") == []
        assert not self.queue.withdraw("stranger")

    def start(self, keys: list[str]) -> None:
        for key in keys:
            self.waiting.remove(key)
            self.in_flight.append(key)

    @invariant()
    def holds(self) -> None:
        self.queue.validate()
        depths = self.queue.depths()
        assert sum(running for running, _ in depths.values()) == len(self.in_flight)
        assert sum(waiting for _, waiting in depths.values()) == len(self.waiting)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, deadline=None)


def request(key: str, timeout_s: float = 5.0, backend: str = "b") -> JobRequest:
    template = overlap_template(1)
    return JobRequest(key, backend, CircuitBatch(template, np.zeros((1, 1))), 10, timeout_s)


class Bench:
    """A pool of limit 2 whose jobs end when the test says so."""

    def __init__(self, limit: int = 2) -> None:
        self.running: dict[str, asyncio.Future[BackendResult]] = {}
        self.most = 0
        self.registry = CollectorRegistry()
        self.queue = JobQueue({"b": limit}, max_waiting=100)
        self.pool = QueuedJobPool(
            self.queue,
            backends=("b",),
            execute=self.execute,
            limits_of=self.limits_of,
            clock=SystemClock(),
            registry=self.registry,
        )

    async def execute(self, job: JobRequest) -> BackendResult:
        self.running[job.key] = asyncio.get_running_loop().create_future()
        self.most = max(self.most, len(self.running))
        try:
            return await self.running[job.key]
        finally:
            del self.running[job.key]

    async def limits_of(self, backend: str) -> BackendLimits:
        return LIMITS

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(1_000):
            if condition():
                return
            await asyncio.sleep(0.001)
        raise AssertionError("the condition never came true")


async def test_no_more_jobs_run_than_the_limit_and_all_end() -> None:
    bench = Bench()
    callers = [asyncio.create_task(bench.pool.run(request(str(i)))) for i in range(20)]
    for _ in range(20):
        await bench.until(lambda: bool(bench.running))
        next(iter(bench.running.values())).set_result(RESULT)
        await asyncio.sleep(0)
    assert await asyncio.gather(*callers) == [RESULT] * 20
    assert bench.most == 2
    assert bench.pool.depths() == {"b": (0, 0)}
    assert bench.registry.get_sample_value("quantum_cost_usd_total", {"backend": "b"}) == 10.0


async def test_a_caller_that_leaves_frees_no_place_before_its_job_ends() -> None:
    bench = Bench(limit=1)
    first = asyncio.create_task(bench.pool.run(request("first")))
    await bench.until(lambda: "first" in bench.running)
    second = asyncio.create_task(bench.pool.run(request("second")))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert bench.pool.depths() == {"b": (1, 1)}
    bench.running["first"].set_result(RESULT)
    await bench.until(lambda: "second" in bench.running)
    bench.running["second"].set_result(RESULT)
    assert await second == RESULT
    assert bench.most == 1


async def test_a_waiting_caller_that_leaves_is_forgotten() -> None:
    bench = Bench(limit=1)
    first = asyncio.create_task(bench.pool.run(request("first")))
    await bench.until(lambda: "first" in bench.running)
    second = asyncio.create_task(bench.pool.run(request("second")))
    await bench.until(lambda: bench.pool.depths() == {"b": (1, 1)})
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    bench.running["first"].set_result(RESULT)
    assert await first == RESULT
    assert bench.pool.depths() == {"b": (0, 0)}


async def test_the_deadline_covers_waiting_and_running() -> None:
    bench = Bench(limit=1)
    first = asyncio.create_task(bench.pool.run(request("first", 0.05)))
    second = asyncio.create_task(bench.pool.run(request("second", 0.05)))
    for caller in (first, second):
        with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
            await caller
    assert bench.pool.depths() == {"b": (1, 0)}, "the first still runs at the worker, and keeps its place"
    bench.running["first"].set_exception(JobFailed("late"))
    await bench.until(lambda: bench.pool.depths() == {"b": (0, 0)})


async def test_a_failed_job_frees_its_place_and_is_counted() -> None:
    bench = Bench(limit=1)
    caller = asyncio.create_task(bench.pool.run(request("1")))
    await bench.until(lambda: "1" in bench.running)
    bench.running["1"].set_exception(JobFailed("the provider said no"))
    with pytest.raises(JobFailed, match="said no"):
        await caller
    assert bench.pool.depths() == {"b": (0, 0)}
    labels = {"backend": "b", "outcome": "job-failed"}
    assert bench.registry.get_sample_value("quantum_jobs_total", labels) == 1.0


async def test_an_unknown_backend_is_told_with_the_near_name() -> None:
    with pytest.raises(InvalidRequest, match="there is no backend 'bb'; there are b"):
        await Bench().pool.run(request("1", backend="bb"))
