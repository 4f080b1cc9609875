"""Plans in superposition over their costs: amplitudes against theory, and the search against the classical minimum."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quantum_db.circuits.simulator import SimulatorBackend, probabilities
from quantum_db.errors import InvalidRequest
from sql_synthesizer.quantum.superposition import CostRegister, MinimumSearch, find_minimum


def costs(seed: int, plans: int) -> list[float]:
    return np.random.default_rng(seed).uniform(2.0, 9.0, plans).tolist()


def test_the_register_holds_each_plan_beside_its_cost() -> None:
    register = CostRegister.of([3.0, 1.0, 5.0, 2.0, 4.0], 7)
    shares = probabilities(register.circuit())[0]
    seen = {register.read(outcome): shares[outcome] for outcome in np.flatnonzero(shares > 1e-12)}
    assert set(seen) == {(0, 4), (1, 0), (2, 7), (3, 2), (4, 5)}
    assert sum(seen.values()) <= 1.0
    assert seen[1, 0] == pytest.approx(1 / 8)
    assert shares.sum() == pytest.approx(1.0)
    dearest = sum(shares[outcome] for outcome in range(len(shares)) if register.read(outcome) == (2, 7))
    assert dearest == pytest.approx(4 / 8)


@pytest.mark.parametrize("plans", [2, 5, 8, 16])
def test_amplitudes_turn_as_grover_says(plans: int) -> None:
    register = CostRegister.of(costs(plans, plans), 10)
    size = len(register.levels)
    for threshold in (1, 20):
        angle = math.asin(math.sqrt(register.marked(threshold) / size))
        for iterations in range(4):
            shares = probabilities(register.circuit(iterations, threshold))[0]
            below = sum(share for outcome, share in enumerate(shares) if register.read(outcome)[1] < threshold)
            assert below == pytest.approx(math.sin((2 * iterations + 1) * angle) ** 2)


def test_the_search_finds_the_minimum_mostly_and_counts_its_calls() -> None:
    backend, hits = SimulatorBackend(np.random.default_rng(0)), 0
    for seed in range(12):
        register = CostRegister.of(costs(seed, 8), 9)
        found = find_minimum(register, backend, np.random.default_rng(seed), key=f"s{seed}", timeout_s=5.0)
        hits += found.is_minimum
        assert found.classical_plan == int(np.argmin(register.costs))
        assert found.classical_calls == 8
        assert 0 <= found.calls_until_found <= found.oracle_calls <= math.ceil(22.5 * math.sqrt(8) + 1.4 * 9)
        assert found.provenance == "simulated shots"
    assert hits >= 10


def test_a_search_that_is_told_wrong_outcomes_does_not_claim_the_minimum() -> None:
    """Planted: a machine that measures nothing but the dearest plan."""
    register = CostRegister.of([4.0, 1.0, 9.0, 3.0], 8)
    search = MinimumSearch(register, np.random.default_rng(0), max_oracle_calls=30)
    dearest = 2 << register.cost_qubits
    while search.next_circuit() is not None:
        search.measured({dearest: 1})
    found = search.found("planted", 0.0)
    assert not found.is_minimum
    assert found.classical_plan == 1
    assert 0 < found.oracle_calls <= 30


def test_no_budget_runs_nothing() -> None:
    search = MinimumSearch(CostRegister.of([2.0, 1.0], 3), np.random.default_rng(0), max_oracle_calls=0)
    assert search.next_circuit() is None
    assert search.found("nothing was run", 0.0).runs == 0


def test_equal_costs_are_one_level() -> None:
    assert CostRegister.of([5.0, 5.0, 5.0], 6).marked(1) == 4


@pytest.mark.parametrize(
    ("given", "qubits", "message"),
    [([1.0], 8, "two finite"), ([1.0, math.inf], 8, "two finite"), ([1.0] * 9, 5, "at least 6, not 5")],
)
def test_bad_input_is_told(given: list[float], qubits: int, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        CostRegister.of(given, qubits)
