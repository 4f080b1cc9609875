"""Fault plans: which request is struck."""

from __future__ import annotations

from typing import Any

import pytest

from quantum_db.errors import InvalidRequest
from quantum_db.ionq.emulated_faults import FaultPlan, FaultRule, RequestKind, kind_of


def strikes(plan: FaultPlan, kind: RequestKind, count: int) -> list[bool]:
    return [plan.next(kind) is not None for _ in range(count)]


def test_from_the_nth_call_and_so_many_times() -> None:
    plan = FaultPlan((FaultRule("status", "submit", from_call=3, times=2),))
    assert strikes(plan, "status", 5) == [False] * 5
    assert strikes(plan, "submit", 6) == [False, False, True, True, False, False]


def test_a_rule_for_every_kind_counts_all_requests() -> None:
    plan = FaultPlan((FaultRule("cut", from_call=3),))
    assert [plan.next(kind) is not None for kind in ("submit", "list", "status", "submit")] == [
        False,
        False,
        True,
        True,
    ]


def test_the_first_rule_that_fits_decides() -> None:
    plan = FaultPlan((FaultRule("status", "submit", times=1, status=504), FaultRule("cut", "submit")))
    assert [rule.effect for rule in (plan.next("submit"), plan.next("submit")) if rule] == ["status", "cut"]


def test_probabilities_are_seeded() -> None:
    def some(seed: int) -> list[bool]:
        return strikes(FaultPlan((FaultRule("status", probability=0.3),), seed=seed), "status", 400)

    assert some(1) == some(1) != some(2)
    assert 80 < sum(some(1)) < 160  # 120 expected, 9 standard deviations of 4.6 either way


def test_a_plan_from_json_describes_itself() -> None:
    rules = [{"effect": "hang", "hang_s": 2.5, "request": "results"}, {"effect": "fail_job", "request": "submit"}]
    plan = FaultPlan.parse({"seed": 5, "rules": rules})
    plan.next("submit")
    described = plan.describe()
    assert described["calls"] == {"submit": 1}
    assert described["struck"] == [0, 1]
    again = FaultPlan.parse({"seed": described["seed"], "rules": described["rules"]})
    assert again.describe()["rules"] == described["rules"]


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ({}, "with an effect"),
        ("cut", "with an effect"),
        ({"effect": "explode"}, "effect: must be one of"),
        ({"effect": ["cut"]}, "effect: must be one of"),
        ({"effect": "cut", "when": 1}, "has no when"),
        ({"effect": "cut", "request": "post"}, "request: must be null"),
        ({"effect": "status", "status": 200}, "from 400 to 599"),
        ({"effect": "status", "status": "500"}, "from 400 to 599"),
        ({"effect": "status", "retry_after_s": -1}, "retry_after_s"),
        ({"effect": "hang", "hang_s": 601}, "from 0 to 600"),
        ({"effect": "cut", "from_call": 0}, "from_call"),
        ({"effect": "cut", "times": 0}, "times"),
        ({"effect": "cut", "times": True}, "times"),
        ({"effect": "cut", "probability": 1.5}, "from 0 to 1"),
        ({"effect": "cut", "carried_out": 1}, "true or false"),
        ({"effect": "fail_job"}, "must be 'submit'"),
    ],
)
def test_rules_that_mean_nothing_are_refused(rule: Any, what: str) -> None:
    with pytest.raises(InvalidRequest, match=what):
        FaultPlan.parse({"rules": [rule]})


@pytest.mark.parametrize("plan", [[], {"rules": {}}, {"rules": [], "x": 1}, {"seed": -1}, {"rules": [{}] * 101}])
def test_plans_that_mean_nothing_are_refused(plan: Any) -> None:
    with pytest.raises(InvalidRequest):
        FaultPlan.parse(plan)


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/jobs", "submit"),
        ("GET", "/jobs", "list"),
        ("GET", "/jobs/estimate", "estimate"),
        ("GET", "/jobs/1", "status"),
        ("GET", "/jobs/1/results/probabilities", "results"),
        ("GET", "/jobs/1/results/probabilities/aggregated", "results"),
        ("GET", "/jobs/1/artifacts/2", "results"),
        ("PUT", "/jobs/1/status/cancel", "cancel"),
        ("DELETE", "/jobs/1", "delete"),
        ("GET", "/backends", "backends"),
        ("GET", "/backends/simulator", "backends"),
        ("POST", "/sessions/1/end", "sessions"),
        ("GET", "/nothing", "other"),
    ],
)
def test_kinds_of_requests(method: str, path: str, kind: str) -> None:
    assert kind_of(method, path) == kind
