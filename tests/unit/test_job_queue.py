"""The fair queue as a machine: limits hold, nothing is lost, tenants share by weight, interactive goes first."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quantum_db.errors import Overloaded
from quantum_db.jobs.queue import Ask, FairQueue, JobCaps, Priority, QueueLimits

CAPS = JobCaps(circuits=10, gates=100)
ALONE = JobCaps(circuits=1, gates=100)


def ask(key: str, tenant: str = "t", priority: Priority = "interactive", circuits: int = 1, group: object = 1) -> Ask:
    return Ask(key, tenant, priority, group, circuits, circuits * 5, circuits * 100.0)  # type: ignore[arg-type]


def queue(
    in_flight: int = 10_000, waiting: int = 10_000, of_tenant: int = 10_000, weights: dict[str, float] | None = None
) -> FairQueue:
    return FairQueue({"b": QueueLimits(in_flight, waiting, of_tenant)}, lambda t: (weights or {}).get(t, 1.0))


def served(found: FairQueue, jobs: int, caps: JobCaps = ALONE) -> list[str]:
    """Return the asks of the next jobs, in order."""
    return [a.key for number in range(jobs) for a in found.start("b", f"job{number}-{id(found)}", caps)]


def test_interactive_asks_overtake_batch_asks_of_everybody() -> None:
    found = queue()
    for number in range(3):
        found.add("b", ask(f"slow{number}", "a", "batch"))
    found.add("b", ask("quick", "z"))
    assert served(found, 2) == ["quick", "slow0"]


def test_tenants_share_by_weight() -> None:
    found = queue(weights={"heavy": 3.0})
    for number in range(400):
        found.add("b", ask(f"heavy{number}", "heavy"))
        found.add("b", ask(f"light{number}", "light"))
    shares = Counter(key[:5] for key in served(found, 200))
    assert shares["heavy"] == pytest.approx(150, abs=1)


def test_a_flood_delays_another_tenant_by_one_job_at_most() -> None:
    found = queue()
    for number in range(1_000):
        found.add("b", ask(f"flood{number}", "flood"))
    served(found, 50)
    found.add("b", ask("late", "other"))
    assert "late" in served(found, 2)


def test_a_tenant_that_was_away_has_saved_nothing_up() -> None:
    found = queue()
    for number in range(100):
        found.add("b", ask(f"a{number}", "a"))
    served(found, 50)
    for number in range(50):
        found.add("b", ask(f"b{number}", "b"))
    assert Counter(key[0] for key in served(found, 40)) == {"a": 20, "b": 20}


def test_withdrawn_asks_cost_their_tenant_nothing() -> None:
    found = queue()
    for number in range(20):
        found.add("b", ask(f"x{number}", "x"))
        found.add("b", ask(f"y{number}", "y"))
    for number in range(10):
        assert found.withdraw(f"x{number}")
    assert not found.withdraw("x0")
    assert Counter(key[0] for key in served(found, 20)) == {"x": 10, "y": 10}


def test_a_job_is_filled_in_fair_order_with_asks_of_its_group() -> None:
    found = queue()
    found.add("b", ask("a1", "a", circuits=4))
    found.add("b", ask("a2", "a", circuits=4))
    found.add("b", ask("b1", "b", circuits=4, group=2))
    found.add("b", ask("c1", "c", circuits=4))
    found.add("b", ask("d1", "d", "batch", circuits=2))
    assert [a.key for a in found.start("b", "job", CAPS)] == ["a1", "c1", "d1"]
    assert [a.key for a in found.start("b", "job2", CAPS)] == ["b1"]
    assert [a.key for a in found.start("b", "job3", CAPS)] == ["a2"]


def test_an_ask_without_a_group_goes_alone_even_above_the_caps() -> None:
    found = queue()
    found.add("b", ask("big", circuits=50, group=None))
    found.add("b", ask("small", group=None))
    assert [a.key for a in found.start("b", "job", CAPS)] == ["big"]


def test_bounds_are_told_with_when_to_come_back() -> None:
    found = queue(waiting=3, of_tenant=2)
    found.add("b", ask("1", "a"))
    found.add("b", ask("2", "a"))
    with pytest.raises(Overloaded, match="2 pieces of your quantum work wait for b") as caught:
        found.add("b", ask("3", "a"))
    assert caught.value.retry_after_s == 1.0
    found.add("b", ask("3", "b"))
    with pytest.raises(Overloaded, match="3 pieces of quantum work wait for b"):
        found.add("b", ask("4", "c"))
    with pytest.raises(ValueError, match="waiting already"):
        queue_with("1").add("b", ask("1"))


def queue_with(key: str) -> FairQueue:
    found = queue()
    found.add("b", ask(key))
    return found


def test_idle_tenants_are_forgotten() -> None:
    found = queue()
    for number in range(5_000):
        found.add("b", ask(f"k{number}", f"tenant{number}"))
        served(found, 1)
        found.finish(f"job0-{id(found)}")
    assert len(found._lanes["b"].classes["interactive"]._tenants) < 200


def test_validate_catches_a_lost_ask() -> None:
    found = queue_with("1")
    del found._backend_of["1"]
    with pytest.raises(AssertionError, match="lost or stands twice"):
        found.validate()


class QueueMachine(RuleBasedStateMachine):
    """Whatever happens, limits hold and no ask is lost."""

    def __init__(self) -> None:
        super().__init__()
        limits = {"a": QueueLimits(2, 6, 4), "b": QueueLimits(1, 3, 3)}
        self.queue = FairQueue(limits, lambda tenant: 1.0 + len(tenant))
        self.waiting: dict[str, str] = {}
        self.flights: dict[str, str] = {}
        self.number = 0

    @rule(
        backend=st.sampled_from(["a", "b"]),
        tenant=st.sampled_from(["x", "yy", "zzz"]),
        priority=st.sampled_from(["interactive", "batch"]),
        circuits=st.integers(1, 12),
        group=st.sampled_from([1, 2, None]),
    )
    def add(self, backend: str, tenant: str, priority: Priority, circuits: int, group: int | None) -> None:
        self.number += 1
        key = f"{self.number}"
        try:
            self.queue.add(backend, ask(key, tenant, priority, circuits, group))
        except Overloaded:
            return
        self.waiting[key] = backend

    @rule(backend=st.sampled_from(["a", "b"]))
    def start(self, backend: str) -> None:
        self.number += 1
        had_place = self.queue.has_place(backend)
        head = self.queue.head(backend)
        job = self.queue.start(backend, f"job{self.number}", CAPS)
        assert bool(job) == (had_place and head is not None)
        if job:
            assert job[0] == head
            self.flights[f"job{self.number}"] = backend
            assert len({a.group for a in job}) == 1
            assert len(job) == 1 or (sum(a.circuits for a in job) <= CAPS.circuits and job[0].group is not None)
        for started in job:
            assert self.waiting.pop(started.key) == backend

    @precondition(lambda self: self.flights)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.flights)))
        assert self.queue.finish(key) == self.flights.pop(key)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), alone=st.booleans())
    def take_out(self, data: st.DataObject, alone: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.waiting)))
        backend = self.waiting.pop(key)
        if alone:
            self.number += 1
            assert self.queue.start_alone(key, f"job{self.number}").key == key
            self.flights[f"job{self.number}"] = backend
        else:
            assert self.queue.withdraw(key)

    @rule()
    def strangers_change_nothing(self) -> None:
        assert self.queue.finish("stranger") is None
        assert not self.queue.withdraw("stranger")

    @invariant()
    def holds(self) -> None:
        self.queue.validate()
        depths = self.queue.depths()
        assert sum(waiting for _, waiting in depths.values()) == len(self.waiting)
        assert sum(running for running, _ in depths.values()) == len(self.flights)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=80, deadline=None)
