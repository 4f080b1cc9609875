"""Budgets and breakers: as machines, and through the pool under many callers."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quantum_db.backend_ports import AdaptiveAim, BackendLimits
from quantum_db.circuits.template import CircuitBatch
from quantum_db.errors import (
    BreakerOpen,
    BudgetExceeded,
    DeadlineExceeded,
    InvalidSettings,
    JobFailed,
    OutcomeUnclear,
    Unavailable,
)
from quantum_db.jobs.assembly import PoolPolicy, TenantPolicy
from quantum_db.jobs.breaker import Breaker, BreakerPolicy
from quantum_db.jobs.budget import Account, Allowance, Budgets, Charge, SpendingLimit, day_of, micro_of
from quantum_db.jobs.flight import shares
from quantum_db.jobs.retry import RetryPolicy
from tests.unit.fake_workers import PAID, Bench, labelled, outcomes_of, request

NEVER = RetryPolicy(attempts=1)


# --- budgets


def charge(micro_usd: int, shots: int = 0, backend: str = "b", tenant: str = "t") -> Charge:
    return Charge(Account(tenant, "2026-11-25", backend), micro_usd, shots, 1)


def test_a_refusal_names_the_estimate_and_what_is_left() -> None:
    budgets = Budgets(lambda tenant: Allowance(usd_per_day=10.0, shots_per_day=1_000))
    budgets.reserve("1", charge(6_000_000, 100))
    budgets.settle("1", charge(7_500_000, 100))
    with pytest.raises(BudgetExceeded, match=r"estimated at \$3\.00; \$2\.50 is left of today's \$10\.00"):
        budgets.reserve("2", charge(3_000_000, 100, "c"))
    with pytest.raises(BudgetExceeded, match=r"takes 901 shots; 900 are left of today's 1,000"):
        budgets.reserve("2", charge(1, 901))
    budgets.reserve("2", charge(2_500_000, 900))
    budgets.validate()
    with pytest.raises(ValueError, match="reservation already"):
        budgets.reserve("2", charge(0))


def test_the_limit_of_one_request_is_told_by_its_field() -> None:
    limit = SpendingLimit(max_usd=1.0, max_shots=50)
    with pytest.raises(BudgetExceeded, match=r"budget.max_usd: the work is estimated at \$1\.10; \$1\.00 is left"):
        limit.check(1.1, 10)
    with pytest.raises(BudgetExceeded, match=r"budget.max_shots: the work takes 51 shots; 50 are left"):
        limit.check(0.0, 51)
    limit.less(0.4, 10).check(0.6, 40)
    with pytest.raises(BudgetExceeded):
        limit.less(0.4, 10).check(0.61, 40)


def test_days_and_tenants_are_apart_and_old_days_are_forgotten() -> None:
    budgets = Budgets(lambda tenant: Allowance(usd_per_day=1.0))
    budgets.settle("1", charge(1_000_000))
    budgets.reserve("2", charge(1_000_000, tenant="other"))
    budgets.reserve("3", Charge(Account("t", "2026-11-26", "b"), 1_000_000, 0, 1))
    budgets.forget_before("2026-11-26")
    assert {(a.tenant, a.day) for a in budgets.accounts()} == {("other", "2026-11-25"), ("t", "2026-11-26")}
    assert day_of(1_795_564_799.0) == "2026-11-24"
    assert day_of(1_795_564_800.0) == "2026-11-25"


@given(st.integers(0, 10**12), st.dictionaries(st.text(max_size=3), st.integers(0, 10**9), min_size=1, max_size=20))
def test_shares_sum_to_the_whole_and_are_in_proportion(total: int, by: dict[str, int]) -> None:
    parts = shares(total, by)
    assert sum(parts.values()) == total
    assert parts.keys() == by.keys()
    whole = sum(by.values())
    for key, part in parts.items():
        fair = total * by[key] / whole if whole else total / len(by)
        assert abs(part - fair) <= 1.0 + 1e-9 * total


@given(st.floats(0.0, 1e6))
def test_micro_dollars_are_never_below_the_price(usd: float) -> None:
    assert micro_of(usd) >= usd * 1e6 - 2e-6 - 1e-9 * usd * 1e6
    assert micro_of(usd) <= usd * 1e6 + 1.0


class BudgetMachine(RuleBasedStateMachine):
    """The day's allowance is never overshot by reservations, whatever is released and settled in between."""

    def __init__(self) -> None:
        super().__init__()
        self.budgets = Budgets(lambda tenant: Allowance(usd_per_day=1.0, shots_per_day=100))
        self.held: dict[str, Charge] = {}
        self.settled = 0
        self.number = 0

    @rule(micro_usd=st.integers(0, 700_000), shots=st.integers(0, 70), backend=st.sampled_from("bc"))
    def reserve(self, micro_usd: int, shots: int, backend: str) -> None:
        self.number += 1
        wanted = charge(micro_usd, shots, backend)
        used = self.budgets.used("t", "2026-11-25")
        try:
            self.budgets.reserve(f"{self.number}", wanted)
        except BudgetExceeded:
            assert used[0] + micro_usd > 1_000_000 or used[1] + shots > 100
        else:
            self.held[f"{self.number}"] = wanted

    @rule(data=st.data(), settle=st.booleans(), part=st.floats(0.0, 1.0))
    def end(self, data: st.DataObject, settle: bool, part: float) -> None:
        if not self.held:
            return
        key = data.draw(st.sampled_from(sorted(self.held)))
        own = self.held.pop(key)
        if settle:
            cost = Charge(own.account, int(own.micro_usd * part), own.shots, 1)
            self.settled += cost.micro_usd
            self.budgets.settle(key, cost)
        else:
            self.budgets.release(key)
            self.budgets.release(key)

    @invariant()
    def holds(self) -> None:
        self.budgets.validate()
        micro_usd, shots = self.budgets.used("t", "2026-11-25")
        assert micro_usd == self.settled + sum(own.micro_usd for own in self.held.values())
        assert micro_usd <= 1_000_000
        assert shots <= 100


TestBudgetMachine = BudgetMachine.TestCase
TestBudgetMachine.settings = settings(max_examples=60, deadline=None)


async def test_a_hundred_callers_do_not_overshoot_a_day() -> None:
    """Each circuit costs 8.30: a day of 50 pays for six."""
    policy = PoolPolicy(window_s=0.001, tenants={"poor": TenantPolicy(usd_per_day=50.0)})
    bench = await Bench(policy).start()
    asked = [bench.ask(i % 8, shots=100, tenant="poor", parts=parts_of(i)) for i in range(100)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(result, BudgetExceeded) for result in found) == 94
    assert all(isinstance(result, BudgetExceeded) or outcomes_of(result) for result in found)
    assert bench.spent("poor") == (pytest.approx(6 * 8.3), 0.0)
    circuits = sum(len(part) for job in bench.workers.jobs for part in job.parts)
    assert circuits == 6, "what was refused was not submitted"
    bench.parts.journal.ledger.budgets.validate()


def parts_of(number: int) -> tuple[Any, ...]:
    return (labelled(number % 128, qubits=7),)


async def test_failures_give_reservations_back() -> None:
    policy = PoolPolicy(window_s=0.001, retry=NEVER, default_tenant=TenantPolicy(usd_per_day=10.0))
    bench = await Bench(policy).start()
    for error in (Unavailable("429"), JobFailed("no")):
        bench.workers.on_submit = lambda key, error=error: fail(error)
        with pytest.raises(type(error)):
            await bench.ask(1)
    bench.workers.on_submit = lambda key: None
    assert (await bench.ask(1)).cost_usd == pytest.approx(8.3)
    with pytest.raises(BudgetExceeded, match=r"\$1\.70 is left of today's \$10\.00"):
        await bench.ask(2)


async def test_a_requests_own_limit_is_kept_before_anything_is_submitted() -> None:
    bench = await Bench().start()
    with pytest.raises(BudgetExceeded, match=r"budget.max_usd: the work is estimated at \$16\.60; \$10\.00 is left"):
        await bench.ask(1, 2, limit=SpendingLimit(max_usd=10.0))
    assert bench.workers.calls["submit"] == 0
    await bench.ask(1, limit=SpendingLimit(max_usd=10.0, max_shots=100))


async def test_adaptive_rounds_stop_where_the_limit_does() -> None:
    bench = await Bench().start()
    aim = AdaptiveAim(top_k=1, epsilon=0.0, confidence=0.95, max_shots=1_000_000)
    limit = SpendingLimit(max_usd=100.0)
    result = await bench.pool.run(request("r", 0, 1, 2, adaptive=aim, limit=limit, parts=(near_circuits(),)))
    assert result.selection is not None
    assert not result.selection.decided
    assert result.cost_usd <= 100.0


def near_circuits() -> Any:
    """Three circuits whose shares of zeros differ by 0.001: undecided for a long time."""
    template = labelled(0).template
    angles = np.zeros((3, 3))
    angles[:, 0] = 2.0 * np.arccos(np.sqrt([0.5, 0.501, 0.502]))
    return CircuitBatch(template, angles)


# --- breakers


def test_it_opens_after_five_failures_in_a_row_and_probes_once() -> None:
    breaker = Breaker("b", BreakerPolicy())
    for _ in range(4):
        breaker.failed("x", 0.0)
    breaker.succeeded("x")
    for _ in range(5):
        breaker.admit("x", 0.0)
        breaker.failed("x", 0.0)
    assert breaker.state == "open"
    with pytest.raises(BreakerOpen, match="b failed 5 times in a row; it is tried again in 20 s") as caught:
        breaker.admit("y", 40.0)
    assert caught.value.retry_after_s == 20.0
    breaker.succeeded("late word of x")
    assert breaker.state == "open"
    breaker.admit("probe", 60.0)
    for number in range(100):
        with pytest.raises(BreakerOpen, match="one probe is under way"):
            breaker.admit(f"{number}", 60.0)
    breaker.failed("probe", 61.0)
    with pytest.raises(BreakerOpen):
        breaker.admit("again", 120.0)
    breaker.admit("probe2", 121.0)
    breaker.withdrawn("probe2")
    breaker.admit("probe3", 121.0)
    breaker.succeeded("probe3")
    assert breaker.state == "closed"
    breaker.validate()


def test_an_operator_stands_above_it() -> None:
    breaker = Breaker("b", BreakerPolicy(failures=1))
    breaker.force("open")
    with pytest.raises(BreakerOpen, match="switched off by an operator"):
        breaker.admit("x", 0.0)
    breaker.force("closed")
    breaker.failed("x", 0.0)
    breaker.admit("x", 0.0)
    breaker.force("auto")
    assert (breaker.state, breaker.override) == ("closed", "auto")


class BreakerMachine(RuleBasedStateMachine):
    """At most one probe, and nothing goes through an open breaker."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker("b", BreakerPolicy(failures=3, open_s=10.0))
        self.now_s = 0.0
        self.out: list[str] = []
        self.number = 0

    @rule(after_s=st.floats(0.0, 12.0))
    def admit(self, after_s: float) -> None:
        self.now_s += after_s
        self.number += 1
        key = f"{self.number}"
        before = self.breaker.state
        try:
            self.breaker.admit(key, self.now_s)
        except BreakerOpen:
            assert before != "closed"
            return
        assert before in ("closed", "open")
        if before == "open":
            assert self.breaker.probe == key
        self.out.append(key)

    @rule(data=st.data(), what=st.sampled_from(["succeeded", "failed", "withdrawn"]))
    def end(self, data: st.DataObject, what: str) -> None:
        if not self.out:
            return
        key = data.draw(st.sampled_from(self.out))
        self.out.remove(key)
        if what == "failed":
            self.breaker.failed(key, self.now_s)
        else:
            getattr(self.breaker, what)(key)

    @invariant()
    def holds(self) -> None:
        self.breaker.validate()


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, deadline=None)


async def test_an_open_breaker_answers_at_once_and_sends_exactly_one_probe() -> None:
    policy = PoolPolicy(window_s=0.001, retry=NEVER, breaker=BreakerPolicy(failures=5, open_s=0.2))
    bench = await Bench(policy).start()
    bench.workers.on_submit = lambda key: fail(Unavailable("dead"))
    for number in range(5):
        with pytest.raises(Unavailable, match="dead"):
            await bench.ask(1, shots=1 + number)
    assert bench.pool.lane("far").breaker.state == "open"
    with pytest.raises(BreakerOpen, match="tried again in"):
        await bench.ask(1)
    assert bench.workers.calls["submit"] == 5
    await asyncio.sleep(0.25)
    found = await asyncio.gather(*(bench.ask(1, shots=200 + i) for i in range(100)), return_exceptions=True)
    assert bench.workers.calls["submit"] == 6, "one probe of a hundred callers"
    assert sum(isinstance(error, BreakerOpen) for error in found) == 99
    bench.workers.on_submit = lambda key: None
    await asyncio.sleep(0.25)
    assert outcomes_of(await bench.ask(1)) == [1]
    assert bench.pool.lane("far").breaker.state == "closed"


async def test_a_provider_that_does_not_tell_its_limits_opens_the_breaker_and_a_question_is_its_probe() -> None:
    policy = PoolPolicy(window_s=0.001, retry=NEVER, breaker=BreakerPolicy(failures=2, open_s=0.2))
    bench = await Bench(policy).start()
    bench.workers.on_limits = lambda: fail(InvalidSettings("no such target"))
    for _ in range(3):
        with pytest.raises(InvalidSettings):
            await bench.ask(1)
    assert bench.pool.lane("far").breaker.state == "closed", "a wrong setting is not the provider's failure"
    bench.workers.on_limits = lambda: fail(Unavailable("dead"))
    for _ in range(2):
        with pytest.raises(Unavailable, match="dead"):
            await bench.ask(1)
    with pytest.raises(BreakerOpen, match="tried again in"):
        await bench.ask(1)
    assert bench.workers.calls["limits"] == 5
    await asyncio.sleep(0.25)
    with pytest.raises(Unavailable, match="dead"):
        await bench.ask(1)
    assert bench.pool.lane("far").breaker.state == "open", "the probe failed"
    bench.workers.on_limits = lambda: None
    await asyncio.sleep(0.25)
    assert outcomes_of(await bench.ask(1)) == [1]
    assert bench.pool.lane("far").breaker.state == "closed"


async def test_a_choice_among_backends_does_not_wait_for_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantum_db.jobs.pool.LIMITS_WAIT_S", 0.05)
    bench = await Bench(PoolPolicy(window_s=0.001)).start()
    bench.workers.hold_far = asyncio.Event()
    async with asyncio.timeout(5.0):
        assert set(await bench.pool.conditions()) == {"near"}
        bench.workers.hold_far.set()
        assert set(await bench.pool.conditions()) == {"near", "far"}
    assert bench.workers.calls["limits"] == 1, "the question went on meanwhile"


async def test_who_waits_for_a_place_is_told_when_the_breaker_opens() -> None:
    policy = PoolPolicy(max_in_flight=1, window_s=0.0, retry=NEVER, breaker=BreakerPolicy(failures=1, open_s=60.0))
    bench = await Bench(policy).start()
    bench.workers.on_submit = lambda key: fail(Unavailable("dead"))
    found = await asyncio.gather(*(bench.ask(1, shots=1 + i) for i in range(5)), return_exceptions=True)
    assert [type(error) for error in found] == [Unavailable, *[BreakerOpen] * 4]
    assert bench.spent() == (0.0, 0.0)


async def test_an_operator_opens_and_closes_a_backend() -> None:
    bench = await Bench().start()
    bench.pool.force_breaker("far", "open")
    with pytest.raises(BreakerOpen, match="operator"):
        await bench.ask(1)
    assert (await bench.pool.conditions())["far"].breaker == "open"
    patient = asyncio.create_task(bench.pool.run(request("p", 2), patient=True))
    await asyncio.sleep(0.02)
    bench.pool.force_breaker("far", "auto")
    assert outcomes_of(await patient) == [2]
    assert outcomes_of(await bench.ask(1)) == [1]


async def test_unclear_outcomes_open_the_breaker_too() -> None:
    policy = PoolPolicy(window_s=0.0, breaker=BreakerPolicy(failures=2, open_s=60.0))
    bench = await Bench(policy).start()
    bench.workers.on_submit = lambda key: fail(OutcomeUnclear("cut"))
    await asyncio.gather(*(bench.ask(1, shots=1 + i, timeout_s=1.0) for i in range(2)), return_exceptions=True)
    assert bench.pool.lane("far").breaker.state == "open"


def fail(error: Exception | None) -> None:
    if error is not None:
        raise error


async def test_a_backend_that_hangs_is_asked_for_its_limits_once_at_a_time() -> None:
    bench = await Bench().start()
    answers: list[asyncio.Future[BackendLimits]] = []

    async def limits(backend: str) -> BackendLimits:
        answers.append(asyncio.get_running_loop().create_future())
        return await answers[-1]

    bench.workers.limits = limits
    refused = await asyncio.gather(*(bench.ask(1, timeout_s=0.05) for _ in range(20)), return_exceptions=True)
    assert {type(error) for error in refused} == {DeadlineExceeded}
    waiting = [asyncio.create_task(bench.ask(1)) for _ in range(3)]
    await asyncio.sleep(0.01)
    answers[0].set_exception(Unavailable("it does not tell"))
    assert {type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)} == {Unavailable}
    again = asyncio.create_task(bench.ask(1))
    await bench.until(lambda: len(answers) == 2)
    answers[1].set_result(PAID)
    assert outcomes_of(await again) == outcomes_of(await bench.ask(1)) == [1]
    assert len(answers) == 2
