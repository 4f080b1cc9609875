"""Plan selection: against all choices, against greedy, and the sampler against the law that it claims to draw from."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.annealing import QuantumSchedule, ThermalSchedule
from quantum_db.errors import InvalidRequest
from sql_synthesizer.quantum import onehot
from sql_synthesizer.quantum.bounding import prove
from sql_synthesizer.quantum.selection import PlanChoice, anneal, exact, greedy, select, separate

QUICK = ThermalSchedule(chains=4, sweeps=30, start=0.6, end=0.01)
RING = QuantumSchedule(restarts=4, slices=8, sweeps=60)


def instance(seed: int, statements: int, plans: int, density: float = 0.4, loss: float = 0.0) -> PlanChoice:
    rng = np.random.default_rng(seed)
    costs = [rng.uniform(1.0, 10.0, plans).tolist() for _ in range(statements)]
    savings = {
        ((a, i), (b, j)): float(rng.uniform(-loss, 6.0))
        for a, b in itertools.combinations(range(statements), 2)
        for i, j in itertools.product(range(plans), repeat=2)
        if rng.random() < density
    }
    return PlanChoice.build(costs, savings)


def least(problem: PlanChoice) -> float:
    rows = [range(a, b) for a, b in itertools.pairwise(problem.starts.tolist())]
    return min(problem.cost(np.array(chosen)) for chosen in itertools.product(*rows))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 4), st.sampled_from([0.0, 6.0]))
def test_the_exact_choice_is_the_least_of_all(seed: int, statements: int, plans: int, loss: float) -> None:
    problem = instance(seed, statements, plans, loss=loss)
    found = exact(problem, np.random.default_rng(seed))
    assert found.cost == pytest.approx(least(problem), abs=1e-9)
    assert problem.cost(problem.numbered(found.plans)) == found.cost


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([QUICK, RING]))
def test_the_result_is_never_above_greedy_or_separate(seed: int, schedule: ThermalSchedule | QuantumSchedule) -> None:
    result = select(instance(seed, 7, 3, loss=3.0), np.random.default_rng(seed), schedule)
    assert result.choice.cost <= min(result.greedy.cost, result.separate.cost) + 1e-9
    assert result.reduction >= 0.0


@pytest.mark.parametrize("schedule", [QUICK, RING])
def test_annealing_finds_what_greedy_misses(schedule: ThermalSchedule | QuantumSchedule) -> None:
    problem = instance(3, 10, 5)
    best = exact(problem, np.random.default_rng(0))
    found, ran = anneal(problem, np.random.default_rng(1), schedule)
    assert found.cost == pytest.approx(best.cost)
    assert greedy(problem).cost > best.cost + 0.1
    assert ran == 4


def test_equal_generators_give_equal_choices() -> None:
    problem = instance(5, 40, 4, density=0.02)
    one, other = (select(problem, np.random.default_rng(9), QUICK) for _ in range(2))
    assert (one.choice, one.proven) == (other.choice, other.proven)


def test_a_shared_part_draws_statements_to_plans_that_are_dearer_alone() -> None:
    problem = PlanChoice.build([[5.0, 6.0], [5.0, 6.0]], {((0, 1), (1, 1)): 4.0})
    result = select(problem, np.random.default_rng(0), QUICK)
    assert (result.separate.plans, result.separate.cost) == ((0, 0), 10.0)
    assert (result.choice.plans, result.choice.cost, result.proven) == ((1, 1), 8.0, True)
    assert result.reduction == pytest.approx(0.2)


def test_a_proof_replaces_a_planted_worse_incumbent_and_is_not_claimed_without_nodes() -> None:
    problem = instance(2, 6, 4)
    worst = problem.starts[:-1] + 3
    chosen, proven = prove(problem.terms, worst, problem.cost(worst), problem.tolerance, 100_000)
    assert proven
    assert problem.cost(chosen) == pytest.approx(least(problem))
    kept, proven = prove(problem.terms, worst, problem.cost(worst), problem.tolerance, 3)
    assert not proven
    assert problem.cost(kept) <= problem.cost(worst)
    with pytest.raises(InvalidRequest, match="no proof within 2 "):
        exact(problem, np.random.default_rng(0), max_nodes=2)


def test_the_bond_is_that_of_the_hopping_matrix() -> None:
    for plans, step in itertools.product((2, 3, 5), (0.1, 0.7, 2.0)):
        values, vectors = np.linalg.eigh(np.ones((plans, plans)) - np.eye(plans))
        matrix = (vectors * np.exp(step * values)) @ vectors.T
        assert onehot.bond(plans, step) == pytest.approx(math.log(matrix[0, 0] / matrix[0, 1]))
    assert onehot.bond(2, 0.3) == pytest.approx(-math.log(math.tanh(0.3)))


def test_a_ring_draws_from_its_law() -> None:
    """Frequencies of all states of 3 slices of 2 statements at one field, against their exact weights."""
    problem = PlanChoice.build([[0.0, 0.4], [0.0, 0.3, 0.1]], {((0, 1), (1, 1)): 0.8})
    slices, step, beta, sweeps = 3, 0.5, 1.3, 30_000
    bonds = np.array([onehot.bond(2, step), onehot.bond(3, step)])
    states = list(itertools.product(itertools.product((0, 1), (2, 3, 4)), repeat=slices))
    weights = np.array(
        [
            math.exp(
                sum(-beta * problem.cost(np.array(one)) for one in state)
                + sum(bonds[g] for k in range(slices) for g in range(2) if state[k][g] == state[k - 1][g])
            )
            for state in states
        ]
    )
    weights /= weights.sum()
    rings = np.array(states[0])
    fields = np.array([onehot.marginal_costs(problem.terms, row) for row in rings])
    counts = dict.fromkeys(states, 0)
    for sweep in range(sweeps):
        onehot._slice_sweep(problem.terms, rings, fields, sweep % slices, bonds, beta)
        counts[tuple(map(tuple, rings.tolist()))] += 1
    drawn = np.array([counts[state] for state in states]) / sweeps
    assert 0.5 * np.abs(drawn - weights).sum() < 0.06
    for row, field in zip(rings, fields, strict=True):
        np.testing.assert_allclose(field, onehot.marginal_costs(problem.terms, row), atol=1e-9)


def test_statements_without_a_choice_or_without_sharing_need_no_search() -> None:
    alone = PlanChoice.build([[3.0], [1.0, 2.0]], {})
    result = select(alone, np.random.default_rng(0), RING)
    assert (result.choice.plans, result.choice.cost, result.proven) == ((0, 0), separate(alone).cost, True)


@pytest.mark.parametrize(
    ("costs", "savings", "message"),
    [
        ([], {}, "at least one statement"),
        ([[1.0], []], {}, "at least one plan"),
        ([[1.0], [math.nan]], {}, "finite"),
        ([[1.0], [1.0]], {((0, 0), (1, 1)): 1.0}, "no plan 1 of a statement 1"),
        ([[1.0, 2.0]], {((0, 0), (0, 1)): 1.0}, "one plan only"),
    ],
)
def test_bad_input_is_told(costs: list[list[float]], savings: dict, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        PlanChoice.build(costs, savings)
