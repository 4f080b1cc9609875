"""QAOA for plans and join orders: encodings against all bits, shots against the simulator, planted wrong counts."""

from __future__ import annotations

import numpy as np
import pytest

from quantum_db.backend_ports import JobRequest
from quantum_db.errors import InvalidRequest
from sql_synthesizer.quantum import qaoa
from sql_synthesizer.quantum.prefix_qubo import anneal_prefixes
from sql_synthesizer.quantum.selection import exact
from sql_synthesizer.quantum.superposition import CostRegister, MinimumSearch, find_minimum_pooled
from tests.unit.fakes import FakeJobs
from tests.unit.test_plan_selection import instance
from tests.unit.test_prefix_qubo import graph


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_the_maximum_of_the_selection_qubo_is_the_cheapest_choice() -> None:
    problem = instance(4, 4, 3)
    encoding = qaoa.encode_selection(problem, exact(problem, rng()))
    outcomes = np.arange(1 << 12)
    outcomes = outcomes[encoding.qubo.feasible(outcomes)]
    assert len(outcomes) == encoding.answers == 81
    values = encoding.qubo.values(outcomes)
    for outcome, value in zip(outcomes.tolist(), values.tolist(), strict=True):
        answer = encoding.read(outcome)
        assert answer is not None
        assert encoding.cost(answer) == pytest.approx(-value)
    assert encoding.read(int(outcomes[values.argmax()])) == encoding.classical
    assert encoding.read(0b011_001_001_001) is None


def test_the_maximum_of_the_prefix_qubo_is_the_best_order() -> None:
    one = graph(2, 4)
    encoding = qaoa.encode_prefixes(one, anneal_prefixes(one, rng()))
    outcomes = np.arange(1 << 8)
    outcomes = outcomes[encoding.qubo.feasible(outcomes)]
    answers = {encoding.read(outcome) for outcome in outcomes.tolist()} - {None}
    assert len(answers) == encoding.answers == 12
    best = encoding.read(int(outcomes[encoding.qubo.values(outcomes).argmax()]))
    assert best is not None
    assert encoding.cost(best) == pytest.approx(encoding.classical_cost)


async def test_shots_come_through_the_pool_and_stand_beside_the_classical_answer() -> None:
    problem, pool = instance(1, 3, 3), FakeJobs()
    encoding = qaoa.encode_selection(problem, exact(problem, rng()))
    circuit = qaoa.plan(encoding, rng(), layers=3)
    found = await qaoa.sample_pooled(encoding, circuit, pool, JobRequest("q", "simulator", (), 500, 5.0))
    assert found.answer == found.classical == encoding.classical
    assert found.valid_shots == found.shots == 500
    assert found.optimum_shots / 500 == pytest.approx(found.optimum_probability, abs=0.1)
    assert found.optimum_probability > 3 * found.uniform_probability
    assert (found.provenance, found.cost_usd) == ("simulated shots", 0.0)
    assert pool.requests[0].parts[0] is circuit.batch


async def test_the_search_over_the_cost_register_takes_one_job_a_circuit() -> None:
    pool = FakeJobs()
    search = MinimumSearch(CostRegister.of([3.0, 1.0, 2.0, 4.0], 7), rng(), max_oracle_calls=12)
    found = await find_minimum_pooled(search, pool, JobRequest("m", "simulator", (), 1, 5.0))
    assert [request.key for request in pool.requests] == [f"m-{run}" for run in range(found.runs)]
    assert found.oracle_calls <= 12


def test_planted_counts_are_judged_by_their_answers_alone() -> None:
    problem = instance(1, 3, 3)
    encoding = qaoa.encode_selection(problem, exact(problem, rng()))
    circuit = qaoa.plan(encoding, rng(), layers=1)
    optimum = sum(1 << int(plan) for plan in problem.numbered(encoding.classical))
    worse = 0b100_100_100 if optimum != 0b100_100_100 else 0b001_001_001
    noise = qaoa.judge(encoding, circuit, {0b111_111_111: 7, 0: 3}, "planted", 0.0)
    assert (noise.answer, noise.cost, noise.valid_shots, noise.optimum_shots) == (None, None, 0, 0)
    mixed = qaoa.judge(encoding, circuit, {worse: 4, 0: 3, optimum: 2}, "planted", 0.0)
    assert (mixed.answer, mixed.valid_shots, mixed.optimum_shots, mixed.shots) == (encoding.classical, 6, 2, 9)
    with pytest.raises(InvalidRequest, match="no shots"):
        qaoa.judge(encoding, circuit, {}, "planted", 0.0)


def test_what_takes_too_many_bits_is_refused() -> None:
    problem = instance(1, 6, 3)
    with pytest.raises(InvalidRequest, match="takes 18 bits"):
        qaoa.encode_selection(problem, exact(problem, rng()))
    with pytest.raises(InvalidRequest, match="takes 24 bits"):
        qaoa.encode_prefixes(graph(0, 6), anneal_prefixes(graph(0, 6), rng()))
