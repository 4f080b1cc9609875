"""QAOA: circuits against exact linear algebra, gradients against differences, answers against all selections."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit.library import XXPlusYYGate
from qiskit.quantum_info import Operator, Statevector

from quantum_db import tunneling
from quantum_db.circuits import qaoa
from quantum_db.circuits.qaoa import plan_qaoa, read_counts, run_qaoa
from quantum_db.circuits.qaoa_ansatz import Mixer, Qubo, diverse_selection, qaoa_ansatz, ring
from quantum_db.circuits.simulator import SimulatorBackend, probabilities, simulate
from quantum_db.circuits.template import CircuitBatch, Gate
from quantum_db.errors import InvalidRequest


def as_qiskit(gates: list[Gate], qubits: int) -> QuantumCircuit:
    circuit = QuantumCircuit(qubits)
    for gate in gates:
        angle = () if gate.name in ("h", "cx") else (gate.angle,)
        getattr(circuit, gate.name)(*angle, *gate.qubits)
    return circuit


def random_qubo(seed: int, n: int, k: int | None) -> Qubo:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.normal(size=(n, n)), 1)
    return Qubo(rng.normal(size=n), upper + upper.T, k)


def instance(seed: int, n: int = 8) -> tuple[np.ndarray, np.ndarray]:
    vectors = np.random.default_rng(seed).normal(size=(n + 1, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return ((1 + vectors[1:] @ vectors[0]) / 2) ** 2, (vectors[1:] @ vectors[1:].T) ** 2


@pytest.mark.parametrize(("n", "k"), [(n, k) for n in range(1, 8) for k in range(1, n + 1)])
def test_the_start_is_the_dicke_state(n: int, k: int) -> None:
    ansatz = qaoa_ansatz(Qubo(np.zeros(n), np.zeros((n, n)), k), 0, "xy-ring", 1.0)
    state = simulate(ansatz.bind(np.zeros((1, 0))))[0]
    expected = (np.bitwise_count(np.arange(1 << n)) == k) / math.sqrt(math.comb(n, k))
    np.testing.assert_allclose(state, expected, atol=1e-12)


@pytest.mark.parametrize("mixer", ["xy-ring", "x"])
def test_a_layer_is_the_stated_unitary(mixer: Mixer) -> None:
    """exp(-i g H), then the mixer's pairs as qiskit's own gate; equal up to a global phase."""
    n, scale, g, b = 4, 1.7, 0.6, 0.4
    problem = random_qubo(1, n, 2 if mixer == "xy-ring" else None)
    ansatz = qaoa_ansatz(problem, 1, mixer, scale)
    start = qaoa_ansatz(problem, 0, mixer, scale)
    with_start = as_qiskit(next(ansatz.template.gates(ansatz.bind(np.array([[g, b]])).angles)), n)
    only_start = as_qiskit(next(start.template.gates(start.bind(np.zeros((1, 0))).angles)), n)
    layer = Operator(with_start) @ Operator(only_start).adjoint()
    expected = QuantumCircuit(n)
    for qubit in range(n):
        if mixer == "x":
            expected.rx(2 * b, qubit)
    for pair in ring(n) if mixer == "xy-ring" else []:
        expected.append(XXPlusYYGate(2 * b), pair)
    phases = np.diag(np.exp(1j * g * problem.values(np.arange(1 << n)) / scale))
    assert layer.equiv(Operator(Operator(expected).data @ phases))


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 6), layers=st.integers(1, 3), seed=st.integers(0, 10_000), data=st.data())
def test_the_circuit_gives_what_the_landscape_says(n: int, layers: int, seed: int, data: st.DataObject) -> None:
    """The gates, run by qiskit, against the amplitudes in the reduced space that the angles were found in."""
    k = data.draw(st.one_of(st.none(), st.integers(1, n)))
    mixer: Mixer = data.draw(st.sampled_from(["x"] if k is None else ["x", "xy-ring"]))
    problem = random_qubo(seed, n, k)
    landscape = qaoa._Landscape.build(problem, mixer)
    parameters = np.random.default_rng(seed).uniform(-1.5, 1.5, size=(1, 2 * layers))
    ansatz = qaoa_ansatz(problem, layers, mixer, landscape.scale)
    batch = ansatz.bind(parameters)
    expected = np.zeros(1 << n)
    expected[landscape.outcomes] = np.abs(landscape.state(parameters)[:, 0]) ** 2
    np.testing.assert_allclose(probabilities(batch)[0], expected, atol=1e-10)
    gates = next(ansatz.template.gates(batch.angles))
    np.testing.assert_allclose(Statevector(as_qiskit(gates, n)).probabilities(), expected, atol=1e-10)


@pytest.mark.parametrize(("mixer", "k"), [("x", None), ("x", 2), ("xy-ring", 2)])
def test_the_gradient_is_that_of_the_expectation(mixer: Mixer, k: int | None) -> None:
    landscape = qaoa._Landscape.build(random_qubo(5, 5, k), mixer)
    parameters = np.random.default_rng(6).uniform(-1, 1, size=(3, 4))
    _, gradient = landscape.gradient(parameters)
    for column in range(4):
        step = np.zeros(4)
        step[column] = 1e-6
        difference = landscape.gradient(parameters + step)[0] - landscape.gradient(parameters - step)[0]
        np.testing.assert_allclose(gradient[:, column], difference / 2e-6, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 7), seed=st.integers(0, 10_000), data=st.data())
def test_a_penalty_moves_no_optimum(n: int, seed: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    problem = random_qubo(seed, n, k)
    everything = np.arange(1 << n)
    penalised = problem.penalised().values(everything)
    feasible = problem.feasible(everything)
    shift = penalised[feasible] - problem.values(everything[feasible])
    np.testing.assert_allclose(shift, shift[0], atol=1e-9)
    assert penalised.max() <= penalised[feasible].max() + 1e-9


def test_the_objective_is_that_of_tunneling() -> None:
    relevance, similarity = instance(3)
    problem = diverse_selection(relevance, similarity, 3, 0.4)
    for chosen in combinations(range(8), 3):
        value = problem.values(np.array([sum(1 << i for i in chosen)]))[0]
        assert value == pytest.approx(tunneling.objective(relevance, similarity, chosen, 0.4))


@pytest.mark.parametrize("mixer", ["xy-ring", "x"])
def test_angles_beat_uniform_draws_and_the_answer_is_the_best_shot(mixer: Mixer) -> None:
    relevance, similarity = instance(4)
    problem = diverse_selection(relevance, similarity, 3, 0.8)
    plan = plan_qaoa(problem, 3, np.random.default_rng(0), mixer)
    exact = tunneling.exact(relevance, similarity, 3, 0.8)
    row = probabilities(plan.batch)[0]
    everything = np.arange(len(row))
    feasible = problem.feasible(everything)
    values = problem.values(everything)
    assert plan.feasible_probability == pytest.approx(row[feasible].sum())
    assert plan.feasible_probability == pytest.approx(1.0) if mixer == "xy-ring" else plan.feasible_probability > 0.3
    assert plan.optimum_probability == pytest.approx(row[sum(1 << i for i in exact.indices)])
    assert plan.expectation == pytest.approx(row[feasible] @ values[feasible] / row[feasible].sum())
    assert plan.expectation > values[feasible].mean()
    if mixer == "xy-ring":
        assert plan.optimum_probability > 2.0 * plan.uniform_probability
    assert plan.uniform_probability == pytest.approx(1 / math.comb(8, 3))
    result, raw = run_qaoa(plan, SimulatorBackend(np.random.default_rng(1)), 2_000, job_key="k", timeout_s=1.0)
    assert raw.provenance == "simulated shots"
    assert result.selection is not None
    assert result.selection.value == pytest.approx(
        tunneling.objective(relevance, similarity, result.selection.indices, 0.8)
    )
    sampled = [outcome for outcome in raw.counts[0] if feasible[outcome]]
    assert result.selection.value == pytest.approx(values[sampled].max())
    spread = 5 * math.sqrt(2_000 * plan.optimum_probability)
    assert abs(result.optimum_shots - 2_000 * plan.optimum_probability) < spread
    if mixer == "xy-ring":
        assert result.selection.indices == exact.indices


def test_equal_generators_give_equal_angles() -> None:
    problem = random_qubo(8, 5, 2)
    first, second = (plan_qaoa(problem, 2, np.random.default_rng(9)).parameters for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_more_layers_reach_more() -> None:
    problem = diverse_selection(*instance(11), 4, 0.8)
    reached = [plan_qaoa(problem, layers, np.random.default_rng(2)).expectation for layers in (1, 3, 6)]
    assert reached == sorted(reached)


def test_infeasible_shots_are_no_answer() -> None:
    """Planted: noise that leaves the cardinality, with a higher f than any feasible selection."""
    problem = Qubo(np.ones(4), np.zeros((4, 4)), 2)
    plan = plan_qaoa(problem, 1, np.random.default_rng(0))
    result = read_counts(plan, {0b1111: 90, 0b0011: 1, 0b0001: 9})
    assert result.selection is not None
    assert (result.selection.indices, result.selection.value, result.feasible_shots) == ((0, 1), 2.0, 1)
    nothing = read_counts(plan, {0b1111: 90})
    assert (nothing.selection, nothing.feasible_shots, nothing.optimum_shots) == (None, 0, 0)
    with pytest.raises(InvalidRequest, match="no shots"):
        read_counts(plan, {})


def test_flat_and_tiny_problems_have_a_plan() -> None:
    flat = plan_qaoa(Qubo(np.zeros(3), np.zeros((3, 3)), 1), 1, np.random.default_rng(0))
    assert (flat.uniform_probability, flat.optimum_probability) == (1.0, pytest.approx(1.0))
    single = plan_qaoa(Qubo(np.array([2.0]), np.zeros((1, 1))), 2, np.random.default_rng(0))
    assert single.optimum_probability > 0.99


def test_the_gates_are_counted_as_stated() -> None:
    n, k, layers = 10, 3, 2
    plan = plan_qaoa(random_qubo(1, n, k), layers, np.random.default_rng(0))
    structure = [name for name, _ in plan.batch.template.structure]
    assert structure.count("rzz") == layers * (n * (n - 1) // 2 + 2 * n)
    dicke = sum(2 + (2 if ones == 1 else 4) for m in range(2, n + 1) for ones in range(1, min(k, m - 1) + 1))
    assert structure.count("cx") == dicke
    assert isinstance(plan.batch, CircuitBatch)


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: Qubo(np.ones(17), np.zeros((17, 17))), "linear"),
        (lambda: Qubo(np.ones(2), np.zeros((3, 3))), "quadratic"),
        (lambda: Qubo(np.ones(2), np.array([[0.0, 1.0], [2.0, 0.0]])), "quadratic"),
        (lambda: Qubo(np.array([1.0, np.inf]), np.zeros((2, 2))), "quadratic"),
        (lambda: Qubo(np.ones(2), np.zeros((2, 2)), 3), "cardinality"),
        (lambda: diverse_selection(np.ones(2), np.ones(2), 1, 0.1), "similarity"),
        (lambda: plan_qaoa(random_qubo(0, 3, None), 0, np.random.default_rng(0)), "layers"),
        (lambda: plan_qaoa(random_qubo(0, 3, None), 1, np.random.default_rng(0), "xy-ring"), "mixer"),
    ],
)
def test_what_cannot_run_is_refused(make: object, path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make()  # type: ignore[operator]
    assert caught.value.errors[0].path == path


def test_sectors_keep_the_ones_of_each_part() -> None:
    """The start is the product of Dicke states, and no layer leaves the outcomes that have each part's ones."""
    parts = (((0, 3, 4), 1), ((1, 2, 5, 6), 2))
    free = random_qubo(5, 7, None)
    problem = Qubo(free.linear, free.quadratic, sectors=parts)
    outcomes = np.arange(1 << 7)
    feasible = problem.feasible(outcomes)
    assert feasible.sum() == 3 * 6
    start = simulate(qaoa_ansatz(problem, 0, "xy-ring", 1.0).bind(np.zeros((1, 0))))[0]
    np.testing.assert_allclose(start, feasible / math.sqrt(18), atol=1e-12)
    plan = plan_qaoa(problem, 2, np.random.default_rng(0))
    shares = probabilities(plan.batch)[0]
    assert shares[~feasible].sum() == pytest.approx(0.0, abs=1e-12)
    optimum = int(outcomes[feasible][problem.values(outcomes[feasible]).argmax()])
    assert shares[optimum] == pytest.approx(plan.optimum_probability)
    assert plan.optimum_probability > plan.uniform_probability == 1 / 18
    best = problem.penalised().values(outcomes)
    assert feasible[int(best.argmax())]


@pytest.mark.parametrize(
    ("sectors", "message"),
    [
        ((((0, 1), 1),), "each of 3 variables once"),
        ((((0, 1), 1), ((1, 2), 1)), "each of 3 variables once"),
        ((((0, 1), 3), ((2,), 1)), "from 1 to all"),
    ],
)
def test_sectors_that_do_not_fit_are_refused(sectors: tuple, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        Qubo(np.ones(3), np.zeros((3, 3)), sectors=sectors)
    with pytest.raises(InvalidRequest, match="beside a cardinality"):
        Qubo(np.ones(3), np.zeros((3, 3)), 1, (((0, 1, 2), 1),))
