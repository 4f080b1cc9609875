"""Batches of operations: their circuits against exact states, their packing, and their results."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.backend_ports import BackendLimits
from quantum_db.circuits.batch import BatchPlan, plan_batch
from quantum_db.circuits.batch_results import EncodeResult, EntangleResult, MeasureResult, read_batch
from quantum_db.circuits.simulator import SimulatorBackend, probabilities, simulate
from quantum_db.errors import InvalidCircuit, InvalidRequest, JobFailed
from quantum_db.ionq.pricing import AZURE, BRAKET_FORTE, PriceModel
from tests.unit.test_database import Bench


def limits(qubits: int) -> BackendLimits:
    return BackendLimits(max_qubits=qubits, max_circuits=100, max_gates=150_000, max_shots=10_000_000)


def plan(operations: list[dict[str, Any]], qubits: int = 12) -> BatchPlan:
    return plan_batch(operations, "simulator", limits(qubits))


def exact_counts(made: BatchPlan) -> list[list[dict[int, int]]]:
    """Return histograms that hold the exact probabilities, each to one shot."""
    jobs = []
    for batch in made.batches:
        rows = []
        for row in probabilities(batch):
            numbers = np.floor(row * made.shots).astype(int)
            rest = np.argsort(numbers - row * made.shots)[: made.shots - numbers.sum()]
            numbers[rest] += 1
            rows.append({int(o): int(numbers[o]) for o in np.flatnonzero(numbers)})
        jobs.append(rows)
    return jobs


def encode(name: str, *vectors: np.ndarray, weights: tuple[float, ...] = (1.0, 1.0)) -> dict[str, Any]:
    if len(vectors) == 1:
        return {"op": "encode", "id": name, "vector": vectors[0].tolist()}
    contexts = [{"name": f"c{i}", "vector": v.tolist(), "weight": weights[i]} for i, v in enumerate(vectors)]
    return {"op": "encode", "id": name, "contexts": contexts}


def entangle(strength: float, *names: str) -> dict[str, Any]:
    return {"op": "entangle", "entity_ids": list(names), "correlation_strength": strength}


def measure(shots: int, *names: str) -> dict[str, Any]:
    return {"op": "measure", "shots": shots, **({"entity_ids": list(names)} if names else {})}


def saved_usd(made: BatchPlan, price: PriceModel) -> float:
    return made.separate.price_usd(price) - made.effort.price_usd(price)


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_encode_entangle_measure_is_one_circuit() -> None:
    rng = np.random.default_rng(1)
    a, b0, b1 = rng.normal(size=4), rng.normal(size=3), rng.normal(size=3)
    made = plan(
        [encode("a", a), encode("b", b0, b1), entangle(0.7, "b", "c", "d"), measure(1_000), measure(1_000_000, "a")]
    )
    assert (made.effort.jobs, made.effort.circuits, made.effort.qubits) == (1, 1, 7)
    assert (made.separate.jobs, made.separate.circuits) == (3, 3)
    assert (made.effort.shots, made.separate.shots) == (1_000_000, 3_000_000)
    assert saved_usd(made, BRAKET_FORTE) == pytest.approx(2 * (0.30 + 0.08 * 1_000_000))
    first, second, third, everything, only_a = read_batch(made, exact_counts(made))
    assert isinstance(first, EncodeResult)
    np.testing.assert_allclose(first.vectors[0].shares, unit(a) ** 2, atol=1e-3)
    assert isinstance(second, EncodeResult)
    for shares, vector, name in zip(second.vectors, (b0, b1), ("c0", "c1"), strict=True):
        np.testing.assert_allclose(shares.shares, unit(vector) ** 2, atol=1e-3)
        assert shares.context == name
        assert shares.shots == pytest.approx(500_000, abs=100)
    assert isinstance(third, EntangleResult)
    assert {p: round(c.value, 3) for p, c in third.correlation.pairs.items()} == {(0, 1): 0.7, (0, 2): 0.7, (1, 2): 0.7}
    assert isinstance(everything, MeasureResult)
    assert everything.counts.keys() == {"a", "b", "c", "d"}
    assert everything.counts["c"] == pytest.approx({0: 500_000, 1: 500_000}, abs=100)
    assert isinstance(only_a, MeasureResult)
    assert only_a.counts.keys() == {"a"}


@settings(max_examples=40, deadline=None)
@given(dimension=st.integers(1, 9), weight=st.floats(0.05, 0.95), seed=st.integers(0, 10_000))
def test_the_state_is_the_stated_superposition(dimension: int, weight: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(2, dimension))
    made = plan([encode("a", *vectors, weights=(weight, 1 - weight)), measure(1)])
    amplitudes = simulate(made.batches[0])[0]
    width = max(1, math.ceil(math.log2(dimension)))
    expected = np.zeros((2, 1 << width))
    expected[:, :dimension] = [unit(v) * math.sqrt(w) for v, w in zip(vectors, (weight, 1 - weight), strict=True)]
    np.testing.assert_allclose(amplitudes, expected.ravel(), atol=1e-6)  # the vectors come as float32


def test_two_entangled_entities_share_their_contexts() -> None:
    """At strength 1, reading one in a context leaves the other in the same: sum_c |cc>|v_c>|u_c> / sqrt(2)."""
    rng = np.random.default_rng(3)
    v, u = rng.normal(size=(2, 2)), rng.normal(size=(2, 4))
    made = plan([encode("a", *v), encode("b", *u), entangle(1.0, "a", "b"), measure(1)])
    amplitudes = simulate(made.batches[0])[0].reshape(4, 2, 2, 2)  # b's register, a's register, b's and a's context
    for context in (0, 1):
        expected = np.outer(unit(u[context]), unit(v[context])) / math.sqrt(2)
        np.testing.assert_allclose(amplitudes[:, :, context, context], expected, atol=1e-6)
        np.testing.assert_allclose(amplitudes[:, :, context, 1 - context], 0.0, atol=1e-7)


def test_equal_circuits_are_one_job_and_an_idle_block_completes_the_last() -> None:
    vectors = np.random.default_rng(4).normal(size=(7, 16))
    operations = [*(encode(f"e{i}", v) for i, v in enumerate(vectors)), measure(1_000_000)]
    made = plan(operations)
    assert (made.effort.jobs, made.effort.circuits, made.idle_blocks) == (1, 3, 2)
    assert 7 * made.effort.two_qubit_gates == 9 * made.separate.two_qubit_gates  # idle blocks run
    bare = plan_batch(operations, "simulator", limits(12), fill=False)
    assert (bare.effort.jobs, bare.effort.circuits, bare.idle_blocks) == (2, 3, 0)
    assert bare.effort.two_qubit_gates == bare.separate.two_qubit_gates
    for result, vector in zip(read_batch(made, exact_counts(made)), vectors, strict=False):
        assert isinstance(result, EncodeResult)
        np.testing.assert_allclose(result.vectors[0].shares, unit(vector) ** 2, atol=1e-3)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("one"), st.integers(1, 9)),
        st.tuples(st.just("two"), st.integers(1, 5)),
        st.tuples(st.just("group"), st.integers(2, 4)),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=60, deadline=None)
@given(shapes=OPERATIONS, qubits=st.integers(6, 12), seed=st.integers(0, 1000), order=st.randoms(use_true_random=False))
def test_any_packing_gives_every_operation_what_it_would_get_alone(
    shapes: list[tuple[str, int]], qubits: int, seed: int, order: Any
) -> None:
    rng = np.random.default_rng(seed)
    vectors: dict[str, list[np.ndarray]] = {}
    operations, strengths = [], {}
    for number, (kind, size) in enumerate(shapes):
        if kind == "group":
            strengths[number] = float(rng.uniform())
            members = [f"m{number}_{i}" for i in range(size)]
            operations.append(entangle(strengths[number], *members))
            if size == 2:  # its first member has contexts
                vectors[members[0]] = list(rng.normal(size=(2, 3)))
                operations.append(encode(members[0], *vectors[members[0]]))
        else:
            vectors[f"e{number}"] = list(rng.normal(size=(1 if kind == "one" else 2, size)))
            operations.append(encode(f"e{number}", *vectors[f"e{number}"]))
    order.shuffle(operations)
    made = plan([*operations, measure(1_000_000)], qubits)
    assert all(batch.template.num_qubits <= qubits for batch in made.batches)
    assert made.effort.circuits <= made.separate.circuits
    assert made.effort.jobs <= made.separate.jobs
    for operation, result in zip(operations, read_batch(made, exact_counts(made)), strict=False):
        if isinstance(result, EntangleResult):
            for pair in combinations(range(len(operation["entity_ids"])), 2):
                estimate = result.correlation.pairs[pair].value
                assert estimate == pytest.approx(operation["correlation_strength"], abs=0.01)
        else:
            assert isinstance(result, EncodeResult)
            for shares, vector in zip(result.vectors, vectors[operation["id"]], strict=True):
                np.testing.assert_allclose(shares.shares, unit(vector) ** 2, atol=0.01)


def test_a_vector_and_a_group_qubit_of_one_entity_are_independent() -> None:
    made = plan([encode("a", np.array([0.6, 0.8])), entangle(1.0, "a", "b"), measure(1_000_000)])
    encoded, group, _ = read_batch(made, exact_counts(made))
    assert isinstance(encoded, EncodeResult)
    np.testing.assert_allclose(encoded.vectors[0].shares, [0.36, 0.64], atol=1e-5)
    assert isinstance(group, EntangleResult)
    assert group.correlation.mean.value == pytest.approx(1.0)
    assert made.effort.circuits == 1


def test_what_is_not_measured_has_no_result() -> None:
    made = plan([encode("a", np.ones(2)), entangle(0.5, "b", "c"), measure(100, "a", "b")])
    first, second, third = read_batch(made, exact_counts(made))
    assert isinstance(first, EncodeResult)
    assert second is None  # c is not read, so no pair is known
    assert isinstance(third, MeasureResult)


def test_sampled_results_carry_intervals_that_hold() -> None:
    made = plan([entangle(0.85, "a", "b", "c"), measure(4_000)])
    backend = SimulatorBackend(np.random.default_rng(6))
    counts = [backend.run(b, made.shots, job_key="k", timeout_s=1.0).counts for b in made.batches]
    result = read_batch(made, counts)[0]
    assert isinstance(result, EntangleResult)
    assert result.correlation.mean.interval.low < 0.85 < result.correlation.mean.interval.high


def test_wrong_counts_are_caught() -> None:
    """Planted: a backend that loses shots, and one that answers for another circuit."""
    made = plan([encode("a", np.ones(2)), measure(10)])
    with pytest.raises(JobFailed, match="9 shots came back of 10"):
        read_batch(made, [[{0: 9}]])
    with pytest.raises(JobFailed, match="no outcome of 1 qubits"):
        read_batch(made, [[{2: 10}]])


def test_packing_does_not_save_gate_shots() -> None:
    """The saving is in jobs and shots; what is billed by gates and shots is only saved where a minimum is."""
    operations = [encode(f"e{i}", v) for i, v in enumerate(np.random.default_rng(8).normal(size=(3, 16)))]
    made = plan([*operations, measure(100_000)])
    assert made.effort.two_qubit_gates == made.separate.two_qubit_gates
    assert saved_usd(made, AZURE) == pytest.approx(0.0, abs=1e-6)
    assert saved_usd(plan([*operations, measure(10)]), AZURE) == pytest.approx(2 * AZURE.minimum_usd)


V = [1.0, 2.0]


@pytest.mark.parametrize(
    ("operations", "path"),
    [
        ("nothing", "operations"),
        ([], "operations"),
        ([{"op": "teleport"}], "operations[0]"),
        ([{"op": "measure", "shots": 0}], "operations[0].shots"),
        ([{"op": "encode", "id": "a", "vector": [1.0, "x"]}, {"op": "measure"}], "operations[0].vector"),
        ([{"op": "encode", "id": "a", "vektor": V}, {"op": "measure"}], "operations[0].vektor"),
        ([{"op": "encode", "id": "a"}, {"op": "measure"}], "operations[0].vector"),
        ([{"op": "encode", "id": "a", "vector": V}], "operations"),
        ([{"op": "encode", "id": "a", "vector": V}] * 2 + [{"op": "measure"}], "operations[1].id"),
        ([{"op": "measure"}, {"op": "encode", "id": "a", "vector": V}], "operations[1].op"),
        ([{"op": "encode", "id": "a", "vector": V}, {"op": "measure", "entity_ids": ["b"]}],
         "operations[1].entity_ids[0]"),
        ([entangle(0.5, "a", "b"), entangle(0.5, "c", "a"), {"op": "measure"}], "operations[1].entity_ids[1]"),
        ([entangle(0.5, "a", "a"), {"op": "measure"}], "operations[0].entity_ids[1]"),
        ([entangle(1.5, "a", "b"), {"op": "measure"}], "operations[0].correlation_strength"),
        ([{"op": "encode", "id": "a", "contexts": [{"name": "x", "vector": V}]}, {"op": "measure"}],
         "operations[0].contexts"),
        ([{"op": "encode", "id": "a", "contexts": [{"name": "x", "vector": V}] * 2}, {"op": "measure"}],
         "operations[0].contexts[1].name"),
        ([{"op": "encode", "id": "a", "contexts": [{"name": "x", "vector": V}, {"name": "y", "vector": [1.0]}]},
          {"op": "measure"}], "operations[0].contexts[1].vector"),
        ([encode("a", np.ones(2), np.ones(2), weights=(0.3, 0.7)), entangle(0.5, "a", "b"), {"op": "measure"}],
         "operations[0].contexts[1].weight"),
        ([encode("a", np.ones(2**13 // 2)), {"op": "measure"}], "operations[0]"),
        ([entangle(0.5, *(f"m{i}" for i in range(12))), {"op": "measure"}], "operations[0]"),
    ],
)  # fmt: skip
def test_wrong_operations_are_refused_with_their_path(operations: Any, path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        plan(operations, qubits=11)
    assert caught.value.errors[0].path == path


def test_a_job_above_the_limits_is_refused_before_it_is_sent() -> None:
    few = BackendLimits(max_qubits=4, max_circuits=100, max_gates=100, max_shots=50)
    with pytest.raises(InvalidCircuit, match="51 shots in one job, and qpu takes 50"):
        plan_batch([encode("a", np.ones(4)), measure(51)], "qpu", few)


async def test_a_measure_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="must encode or entangle something"):
        await Bench().api.execute_batch({"operations": [{"op": "measure"}]})
