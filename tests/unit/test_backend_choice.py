"""Choosing a backend: by error, cost, waiting time, limit and health; and what a query does when one fails."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from quantum_db.backend_choice import BackendOption, choose, options_for
from quantum_db.backend_ports import BackendLimits, Condition, JobRequest
from quantum_db.circuits.encoding import encode_span, lift
from quantum_db.errors import BreakerOpen, BudgetExceeded, JobFailed, Overloaded
from quantum_db.jobs.budget import SpendingLimit
from quantum_db.refinement import Policy
from quantum_db.scope import Scope
from tests.unit.fakes import FakeJobs
from tests.unit.test_database import Bench, query

SIMULATOR = Condition(BackendLimits(12, 5_000, 50_000_000, 10**9), "simulated shots", "closed", 0.0, 0.01)
FORTE = Condition(
    BackendLimits(36, 5_000, 150_000, 10_000, "braket-forte", 0.9999, 0.996), "hardware", "closed", 600.0, 30.0
)
NO_LIMIT = SpendingLimit()


def options(conditions: dict[str, Condition], candidates: int = 10) -> list[BackendOption]:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(candidates + 1, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    encodings = {
        name: encode_span(lift(vectors[:1])[0], lift(vectors[1:]), condition.limits.max_qubits)
        for name, condition in conditions.items()
    }
    return options_for(encodings, conditions, 1_000)


def test_a_free_exact_simulator_leads() -> None:
    choice = choose(options({"forte": FORTE, "sim": SIMULATOR}), NO_LIMIT, time_s=10_000.0)
    assert choice.backend == "sim"
    assert "sim is the cheapest of 2" in choice.why
    forte = choice.options[0]
    assert forte.backend == "forte"
    assert forte.cost_usd > 100.0
    assert forte.problem == ""


@pytest.mark.parametrize(
    ("change", "limit", "time_s", "problem"),
    [
        ({"breaker": "open"}, NO_LIMIT, 1e4, "its breaker is open"),
        ({}, NO_LIMIT, 10.0, "it would take about 630 s, and there are 10 s"),
        ({}, SpendingLimit(max_usd=5.0), 1e4, r"is estimated at \$"),
        ({"limits": replace(FORTE.limits, max_gates=10)}, NO_LIMIT, 1e4, "no circuit family fits"),
    ],
)
def test_what_cannot_be_is_told_and_the_classical_order_is_left(
    change: dict[str, Any], limit: SpendingLimit, time_s: float, problem: str
) -> None:
    choice = choose(options({"forte": replace(FORTE, **change)}), limit, time_s)
    assert choice.backend is None
    assert "the order is the classical one (forte: " in choice.why
    assert re.search(problem, choice.options[0].problem)


def test_hardware_is_chosen_where_nothing_else_answers() -> None:
    broken = replace(SIMULATOR, breaker="open")
    assert choose(options({"forte": FORTE, "sim": broken}), NO_LIMIT, 1e4).backend == "forte"


def test_of_equals_the_one_that_answers_first_leads() -> None:
    busy = replace(SIMULATOR, wait_s=3.0)
    assert choose(options({"a": busy, "b": SIMULATOR}), NO_LIMIT, 10.0).backend == "b"


def test_without_backends_the_order_is_classical() -> None:
    assert choose([], NO_LIMIT, 10.0).why.endswith("(no backend answers)")


# --- queries


class TwoBackends(FakeJobs):
    """``ionq`` raises what it is told to; ``simulator`` works."""

    def __init__(self, error: Exception | None = None, breaker: Any = "closed") -> None:
        super().__init__()
        self.error, self.breaker = error, breaker

    async def conditions(self) -> dict[str, Condition]:
        return {"ionq": replace(FORTE, breaker=self.breaker), "simulator": SIMULATOR}

    async def run(self, request: JobRequest) -> Any:
        if request.backend == "ionq" and self.error is not None:
            raise self.error
        return await super().run(request)


async def test_a_query_that_leaves_it_open_is_told_how_it_was_chosen() -> None:
    bench = await Bench(jobs=TwoBackends()).filled()
    answer = await bench.api.query(query(backend="auto", explain=True, timeout_ms=60_000))
    routing = answer["refinement"]["routing"]
    assert (routing["chosen"], answer["refinement"]["backend"]) == ("simulator", "simulator")
    assert {option["backend"] for option in routing["options"]} == {"ionq", "simulator"}
    short = await bench.api.query(query(backend="auto"))
    assert "options" not in short["refinement"]["routing"], "only explain tells all"


@pytest.mark.parametrize("error", [BreakerOpen("ionq failed 5 times"), Overloaded("full"), JobFailed("no")])
async def test_the_stated_fallback_answers_at_once_and_says_so(error: Exception) -> None:
    bench = await Bench(Policy(on_backend_failure="simulator"), TwoBackends(error)).filled()
    refinement = (await bench.api.query(query(backend="ionq")))["refinement"]
    assert (refinement["ran"], refinement["backend"]) == (True, "simulator")
    assert refinement["why"] == f"ionq failed, so simulator ran instead: {error}"
    assert bench.answers[-1].refinement.backend == "simulator"

    bench = await Bench(Policy(on_backend_failure="classical"), TwoBackends(error)).filled()
    refinement = (await bench.api.query(query(backend="ionq")))["refinement"]
    assert (refinement["ran"], refinement["provenance"]) == (False, "exact")
    assert "the order is the classical one" in refinement["why"]

    bench = await Bench(Policy(on_backend_failure="fail"), TwoBackends(error)).filled()
    with pytest.raises(type(error)):
        await bench.api.query(query(backend="ionq"))


async def test_a_budget_that_is_too_small_is_an_error_and_no_fallback() -> None:
    bench = await Bench(jobs=TwoBackends(BudgetExceeded("too dear"))).filled()
    with pytest.raises(BudgetExceeded, match="too dear"):
        await bench.api.query(query(backend="ionq", budget={"max_usd": 0.01}))


async def test_a_querys_budget_and_tenant_reach_the_pool() -> None:
    bench = await Bench().filled()
    await bench.api.query(query(budget={"max_usd": 1.5, "max_shots": 7}), scope=Scope("someone"))
    (request,) = bench.jobs.requests
    assert (request.tenant, request.limit) == ("someone", SpendingLimit(1.5, 7))
