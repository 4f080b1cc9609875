"""Group circuits against exact linear algebra; their estimates against drawn counts."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp, Statevector

from quantum_db.circuits.entanglement import (
    CLASSICAL_BOUND,
    QUANTUM_BOUND,
    chsh_circuits,
    correlation_angles,
    correlation_circuit,
    correlation_template,
    estimate_chsh,
    estimate_correlation,
    estimate_group,
)
from quantum_db.circuits.simulator import SimulatorBackend, probabilities
from quantum_db.circuits.template import CircuitBatch
from quantum_db.errors import InvalidRequest


def statevector(batch: CircuitBatch, row: int = 0) -> Statevector:
    circuit = QuantumCircuit(batch.template.num_qubits)
    for gate in list(batch.template.gates(batch.angles))[row]:
        if gate.name == "ry":
            circuit.ry(gate.angle, *gate.qubits)
        else:
            circuit.cx(*gate.qubits)
    return Statevector(circuit)


def pauli_value(state: Statevector, kind: str, qubits: tuple[int, ...]) -> float:
    operator = SparsePauliOp.from_sparse_list([(kind * len(qubits), list(qubits), 1.0)], num_qubits=state.num_qubits)
    return float(state.expectation_value(operator).real)


def correlations(row: np.ndarray, members: int) -> dict[tuple[int, int], float]:
    basis = np.arange(len(row))
    signs = 1 - 2 * ((basis[:, None] >> np.arange(members)) & 1)
    return {(i, j): float((signs[:, i] * signs[:, j]) @ row) for i, j in combinations(range(members), 2)}


@settings(max_examples=120, deadline=None)
@given(members=st.integers(2, 8), strength=st.floats(0.0, 1.0))
def test_every_pair_has_the_strength_and_every_member_is_fair(members: int, strength: float) -> None:
    row = probabilities(correlation_circuit(members, strength))[0]
    assert list(correlations(row, members).values()) == pytest.approx([strength] * (members * (members - 1) // 2))
    ones = (np.arange(len(row))[:, None] >> np.arange(members)) & 1
    np.testing.assert_allclose(row @ ones, 0.5, atol=1e-12)


@pytest.mark.parametrize("members", range(2, 9))
@pytest.mark.parametrize("strength", [0.0, 0.37, 0.85, 1.0])
def test_qiskit_agrees_gate_by_gate_on_pairs_and_on_the_whole_group(members: int, strength: float) -> None:
    state = statevector(correlation_circuit(members, strength))
    for pair in combinations(range(members), 2):
        assert pauli_value(state, "Z", pair) == pytest.approx(strength, abs=1e-12)
    if members > 2:  # the stated limit: at strength 0 the group's parity is still fixed
        t = math.acos(math.sqrt(strength))
        expected = (members % 2 == 0) * math.cos(t) ** members + (-math.sin(t)) ** members
        assert pauli_value(state, "Z", tuple(range(members))) == pytest.approx(expected, abs=1e-12)


def test_the_rule_of_many_members_would_be_wrong_for_two() -> None:
    """Planted: equal angles leave <ZZ> of a Bell state at 1, so the check above does tell the families apart."""
    angles = np.array([[math.pi / 2, math.acos(math.sqrt(0.3)), math.acos(math.sqrt(0.3))]])
    row = probabilities(CircuitBatch(correlation_template(2), angles))[0]
    assert correlations(row, 2)[0, 1] == pytest.approx(1.0)


@pytest.mark.parametrize("members", range(2, 13))
def test_the_fan_out_has_m_minus_1_cx_in_log_depth(members: int) -> None:
    template = correlation_template(members)
    assert template.two_qubit_gates == members - 1
    ready = [0] * members
    for name, qubits in template.structure:
        if name == "cx":
            layer = 1 + max(ready[q] for q in qubits)
            for q in qubits:
                ready[q] = layer
    assert max(ready) == math.ceil(math.log2(members))


@pytest.mark.parametrize(
    ("members", "strength", "path"),
    [
        (1, 0.5, "entity_ids"),
        (3, -0.1, "correlation_strength"),
        (3, 1.1, "correlation_strength"),
        (2, math.nan, "correlation_strength"),
    ],
)
def test_what_is_outside_the_family_is_refused(members: int, strength: float, path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        correlation_circuit(members, strength)
    assert caught.value.errors[0].path == path


def test_counts_become_estimates() -> None:
    counts = {0b000: 40, 0b111: 40, 0b001: 10, 0b100: 10}  # bits 0 and 1 agree in 90, 0 and 2 in 80, 1 and 2 in 90
    group = estimate_group(counts, 3)
    assert {pair: round(one.value, 12) for pair, one in group.pairs.items()} == {(0, 1): 0.8, (0, 2): 0.6, (1, 2): 0.8}
    assert group.mean.value == pytest.approx((0.8 + 0.6 + 0.8) / 3)
    assert group.mean.shots == 100
    assert estimate_correlation(counts, (0, 2)).interval.low < 0.6 < estimate_correlation(counts, (0, 2)).interval.high
    with pytest.raises(InvalidRequest, match="hold no shots"):
        estimate_correlation({}, (0, 1))
    with pytest.raises(InvalidRequest, match="two different members"):
        estimate_correlation(counts, (1, 1))


@pytest.mark.parametrize(("members", "strength"), [(2, 0.3), (2, 0.97), (4, 0.0), (5, 0.85), (8, 0.5), (3, 0.99)])
def test_intervals_hold_in_95_percent(members: int, strength: float) -> None:
    """4,000 groups of 300 shots: coverage of a true 95% is within 1.4 points in 4 sigma; Wilson may be 1 point off."""
    row = probabilities(correlation_circuit(members, strength))[0]
    held = {"pair": 0, "mean": 0}
    for drawn in np.random.default_rng([members, round(100 * strength)]).multinomial(300, row, size=4_000):
        counts = {int(outcome): int(drawn[outcome]) for outcome in np.flatnonzero(drawn)}
        pair = estimate_correlation(counts, (0, members - 1)).interval
        held["pair"] += pair.low <= strength <= pair.high
    for drawn in np.random.default_rng([members, 7]).multinomial(300, row, size=1_500):
        counts = {int(outcome): int(drawn[outcome]) for outcome in np.flatnonzero(drawn)}
        mean = estimate_group(counts, members).mean.interval
        held["mean"] += mean.low <= strength <= mean.high
    assert held["pair"] / 4_000 >= 0.925
    assert held["mean"] / 1_500 >= 0.925
    assert held["mean"] / 1_500 <= 0.99 or strength > 0.95  # near the end the imagined shots make it wider


def test_intervals_do_not_collapse_where_all_shots_agree() -> None:
    group = estimate_group({0: 50, 7: 50}, 3)
    assert group.mean.value == 1.0
    assert group.mean.interval.low < 1.0
    assert group.pairs[0, 1].interval.low < 1.0


def exact_s(test_batch: CircuitBatch, scale: int = 10**9) -> tuple[dict[int, int], ...]:
    return tuple(
        {int(o): round(scale * p) for o, p in enumerate(row) if p > 1e-12} for row in probabilities(test_batch)
    )


@settings(max_examples=40, deadline=None)
@given(data=st.data(), members=st.integers(2, 6), strength=st.floats(0.0, 1.0))
def test_chsh_reaches_the_stated_values(data: st.DataObject, members: int, strength: float) -> None:
    pair = tuple(data.draw(st.permutations(range(members)))[:2])
    witness = chsh_circuits(members, strength, pair)
    assert witness.expected == QUANTUM_BOUND
    assert estimate_chsh(witness, exact_s(witness.batch)).value == pytest.approx(QUANTUM_BOUND, abs=1e-6)
    fixed = chsh_circuits(members, strength, pair, axes="computational")
    assert fixed.expected == pytest.approx(QUANTUM_BOUND * strength if members == 2 else math.sqrt(2.0))
    assert estimate_chsh(fixed, exact_s(fixed.batch)).value == pytest.approx(fixed.expected, abs=1e-6)


def test_no_local_strategy_passes_the_assisted_test() -> None:
    """Every deterministic strategy of three parties, with the others' sign in a': S never exceeds 2."""
    test = chsh_circuits(3, 0.5, (0, 2))
    values = []
    for strategy in np.ndindex(2, 2, 2, 2, 2):
        a, a_prime, b, b_prime, other = (int(bit) for bit in strategy)
        counts = tuple(
            {first | (other << 1) | (second << 2): 1000}
            for first, second in ((a, b), (a, b_prime), (a_prime, b), (a_prime, b_prime))
        )
        estimate = estimate_chsh(test, counts)
        values.append(estimate.value)
        assert not estimate.violates
    assert max(values) == CLASSICAL_BOUND


def test_a_dephased_pair_is_caught() -> None:
    """Planted: the same circuits on a classical mixture of |00> and |11>, as if all coherence were lost."""
    test = chsh_circuits(2, 0.8)
    angles = test.batch.angles
    mixture = np.zeros((4, 4))
    for flipped in (0.0, math.pi):  # RY(0) or RY(pi) first: |00> or |11>, without a superposition
        mixed = angles.copy()
        mixed[:, 0] = flipped
        mixture += probabilities(CircuitBatch(test.batch.template, mixed)) / 2
    counts = tuple({o: round(20_000 * p) for o, p in enumerate(row)} for row in mixture)
    estimate = estimate_chsh(test, counts)
    assert estimate.value == pytest.approx(math.sqrt(2.0), abs=1e-3)
    assert not estimate.violates
    backend = SimulatorBackend(np.random.default_rng(3))
    true = estimate_chsh(test, backend.run(test.batch, 20_000, job_key="k", timeout_s=1.0).counts)
    assert true.violates
    assert abs(true.value - QUANTUM_BOUND) < 5 * true.standard_error


@pytest.mark.parametrize("shots", [50, 1_000])
def test_chsh_intervals_and_errors_are_right(shots: int) -> None:
    """1,500 tests each; coverage of a true 95% is within 2.3 points in 4 sigma."""
    test = chsh_circuits(2, 0.9, axes="computational")
    rows, rng = probabilities(test.batch), np.random.default_rng(shots)
    held, values, errors = 0, [], []
    for _ in range(1_500):
        drawn = rng.multinomial(shots, rows)
        one = estimate_chsh(test, tuple({o: int(n) for o, n in enumerate(row) if n} for row in drawn))
        held += one.interval.low <= test.expected <= one.interval.high
        values.append(one.value)
        errors.append(one.standard_error)
    assert abs(held / 1_500 - 0.95) < 0.025
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.1)


def test_wrong_pairs_and_counts_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="two different members below 3"):
        chsh_circuits(3, 0.5, (0, 3))
    with pytest.raises(InvalidRequest, match="four circuits"):
        estimate_chsh(chsh_circuits(2, 0.5), ({0: 1},))
    assert correlation_angles(4, 1.0) == pytest.approx([math.pi / 2, 0, 0, 0, 0])
