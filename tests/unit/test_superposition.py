"""Contexts in superposition: closed form, exact circuits, density matrices and shots must tell the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.circuits.encoding import encode_span, lift
from quantum_db.circuits.overlap import overlap_template
from quantum_db.circuits.simulator import SimulatorBackend, probabilities
from quantum_db.circuits.superposition import (
    ContextEstimate,
    Superposition,
    asked_states,
    asked_weights,
    coherence,
    context_scores,
    create_superposition,
    estimate_context_score,
    measured_states,
    register_states,
    superposition_circuits,
    superposition_cx,
    superposition_template,
    traced_scores,
)
from quantum_db.circuits.template import CircuitBatch
from quantum_db.errors import InvalidCircuit, InvalidRequest, UnknownContext


def unit(rng: np.random.Generator, rows: int, dimension: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Rows:
    """E entities with some contexts each, all encoded with one query; u_c is asked of every row."""

    def __init__(self, seed: int, counts: list[int], dimension: int = 12, lifted: bool = True) -> None:
        rng = np.random.default_rng(seed)
        self.entities = len(counts)
        self.owner = np.repeat(np.arange(self.entities), counts)
        raw = rng.uniform(0.1, 1.0, size=len(self.owner))
        self.weights = raw / np.bincount(self.owner, raw)[self.owner]
        self.asked = rng.uniform(0.05, 1.0, size=len(self.owner))
        query, vectors = unit(rng, 1, dimension), unit(rng, len(self.owner), dimension)
        if lifted:
            query, vectors = lift(query), lift(vectors)
        self.overlaps = vectors @ query[0]
        self.encoding = encode_span(query[0], vectors, max_qubits=10)
        self.states = register_states(self.encoding.candidates, self.weights, self.owner, self.entities)
        self.context_qubits = self.states.shape[1].bit_length() - 1
        self.data_qubits = self.encoding.num_qubits

    def circuits(self, contexts: np.ndarray) -> CircuitBatch:
        return superposition_circuits(self.states, self.encoding.query, contexts)

    def coherent(self) -> CircuitBatch:
        return self.circuits(asked_states(self.asked, self.owner, self.entities))

    def measured(self) -> CircuitBatch:
        return self.circuits(measured_states(self.entities, self.context_qubits))

    def scores(self, coherences: np.ndarray) -> np.ndarray:
        arguments = (self.overlaps, self.weights, self.asked, self.owner, self.entities)
        return context_scores(*arguments, coherences).values


def two_contexts(**changes: object) -> Superposition:
    arguments = {"vectors": [[1.0, 0.0], [0.6, 0.8]], "contexts": ["c1", "c2"], **changes}
    return create_superposition(**arguments)  # type: ignore[arg-type]


def test_a_superposition_is_made_from_vectors_and_contexts_alone() -> None:
    made = create_superposition(vectors=[[3.0, 4.0], [0.0, 2.0]], contexts=["c1", "c2"])
    np.testing.assert_allclose(made.weights, [0.5, 0.5])
    np.testing.assert_allclose(made.state_vector(), np.sqrt(0.5) * np.array([0.6, 0.8, 0.0, 1.0]))
    assert made.is_coherent(now_s=1.0)


def test_the_state_is_sum_of_sqrt_w_c_and_v_with_contexts_above_the_data() -> None:
    made = create_superposition(
        vectors=[[1, 0, 0], [0, 1, 0], [0, 0, 1]], contexts=["a", "b", "c"], weights=[0.2, 0.3, 0.5]
    )
    expected = np.zeros((4, 4))
    expected[0, 0], expected[1, 1], expected[2, 2] = np.sqrt([0.2, 0.3, 0.5])
    np.testing.assert_allclose(made.state_vector(), expected.ravel())
    projection = made.project("c")
    assert projection.probability == pytest.approx(0.5)
    np.testing.assert_allclose(projection.state, [0, 0, 1])
    assert np.linalg.norm(made.state_vector()[8:12]) ** 2 == pytest.approx(projection.probability)


def test_coherence_decays_by_age_and_ends_with_its_time() -> None:
    made = two_contexts(coherence_time_ms=2_000.0, prepared_at_s=100.0)
    assert made.coherence(100.0) == 1.0
    assert made.coherence(102.0) == pytest.approx(np.exp(-1.0))
    assert made.is_coherent(101.999)
    assert not made.is_coherent(102.0)
    assert made.coherence(99.0) == 1.0  # a clock that stepped back
    np.testing.assert_allclose(coherence([0.0, 1.0], [1_000.0, 500.0]), [1.0, np.exp(-2.0)])


def test_scores_follow_the_formulas_written_out() -> None:
    made = two_contexts(weights=[0.7, 0.3], coherence_time_ms=1_000.0)
    query = np.array([0.8, 0.6])
    s1, s2 = 0.8, 0.96
    w1, w2, u1, u2 = 0.7, 0.3, 0.25, 0.75
    a1, a2 = np.sqrt(w1 * u1), np.sqrt(w2 * u2)
    c = (a1 * s1 + a2 * s2) ** 2 / (a1 + a2) ** 2
    i = (w1 * u1 * s1**2 + w2 * u2 * s2**2) / (w1 * u1 + w2 * u2)
    for age in (0.0, 0.4, 30.0):
        scores = made.score(query, {"c1": 1.0, "c2": 3.0}, now_s=age)
        lam = np.exp(-age)
        np.testing.assert_allclose(scores.values, lam * c + (1 - lam) * i, atol=1e-12)
    assert scores.coherent[0] == pytest.approx(c)
    assert scores.incoherent[0] == pytest.approx(i)
    assert made.traced(query) == pytest.approx(w1 * s1**2 + w2 * s2**2)
    single = made.score(query, {"c2": 1.0}, now_s=0.0)  # one context: the conditional fidelity, whatever the age
    assert single.values[0] == pytest.approx(s2**2) == pytest.approx(single.incoherent[0])


def test_amplitudes_of_opposite_sign_interfere() -> None:
    made = create_superposition(vectors=[[1.0, 0.0], [-1.0, 0.0]], contexts=["a", "b"])
    scores = made.score(np.array([1.0, 0.0]), {"a": 1.0, "b": 1.0}, now_s=0.0)
    assert scores.coherent[0] == pytest.approx(0.0, abs=1e-15)
    assert scores.incoherent[0] == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), counts=st.lists(st.integers(1, 5), min_size=1, max_size=4), lam=st.floats(0, 1))
def test_identical_vectors_leave_no_context_effect(seed: int, counts: list[int], lam: float) -> None:
    """With v_c = v for all c every rule gives F(v, q): the context shows in the outcome's probability alone."""
    rows = Rows(seed, counts)
    same = rows.overlaps[np.searchsorted(rows.owner, rows.owner)]
    fidelity = same[np.searchsorted(rows.owner, np.arange(rows.entities))] ** 2
    lams = np.full(rows.entities, lam)
    scores = context_scores(same, rows.weights, rows.asked, rows.owner, rows.entities, lams)
    for found in (scores.values, scores.coherent, scores.incoherent):
        np.testing.assert_allclose(found, fidelity, atol=1e-12)
    np.testing.assert_allclose(traced_scores(same, rows.weights, rows.owner, rows.entities), fidelity, atol=1e-12)
    np.testing.assert_allclose(
        scores.incoherent_probability, np.bincount(rows.owner, rows.weights * rows.asked), atol=1e-12
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    counts=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    lifted=st.booleans(),
)
def test_closed_form_and_circuits_agree(seed: int, counts: list[int], lifted: bool) -> None:
    rows = Rows(seed, counts, lifted=lifted)
    lams = np.random.default_rng(seed).uniform(size=rows.entities)
    closed = context_scores(rows.overlaps, rows.weights, rows.asked, rows.owner, rows.entities, lams)
    asked_sum = np.bincount(rows.owner, rows.asked)
    zero = probabilities(rows.coherent())[:, 0] * asked_sum  # the circuit has u normalised over the entity's contexts
    np.testing.assert_allclose(zero / closed.coherent_probability, closed.coherent, atol=1e-9)

    table = probabilities(rows.measured()).reshape(rows.entities, 1 << rows.context_qubits, -1)
    place = np.arange(len(rows.owner)) - np.searchsorted(rows.owner, rows.owner)
    joint = table[rows.owner, place, 0]
    np.testing.assert_allclose(joint, rows.weights * rows.overlaps**2, atol=1e-9)
    np.testing.assert_allclose(table.sum(axis=2)[rows.owner, place], rows.weights, atol=1e-9)
    traced = np.bincount(rows.owner, joint)
    expected = traced_scores(rows.overlaps, rows.weights, rows.owner, rows.entities)
    np.testing.assert_allclose(traced, expected, atol=1e-9)
    incoherent = np.bincount(rows.owner, joint * rows.asked) / closed.incoherent_probability
    np.testing.assert_allclose(incoherent, closed.incoherent, atol=1e-9)
    mixed = lams * zero / closed.coherent_probability + (1 - lams) * incoherent
    np.testing.assert_allclose(mixed, closed.values, atol=1e-9)


def test_the_measured_circuit_is_the_average_over_strings_of_z() -> None:
    """Complete dephasing as stochastic Z: each string flips signs of sqrt(w_c); the coherent circuits are averaged."""
    rows = Rows(4, [4])
    u = asked_states(rows.asked, rows.owner, 1)
    found = []
    for string in range(4):
        signs = (-1.0) ** np.bitwise_count(np.arange(4) & string)
        flipped = rows.states * signs[None, :, None]
        found.append(probabilities(superposition_circuits(flipped, rows.encoding.query, u))[0, 0])
    incoherent = (rows.weights * rows.asked * rows.overlaps**2).sum() / rows.asked.sum()
    assert np.mean(found) == pytest.approx(incoherent, abs=1e-12)
    assert np.std(found) > 0.01


def test_the_parts_are_what_a_density_matrix_gives() -> None:
    """Unnormalised, lambda C + (1 - lambda) I is <u, q| rho |u, q> of the state dephased in the context register."""
    rows = Rows(9, [3])
    psi = rows.states[0].ravel()
    rho = np.outer(psi, psi)
    size = rows.states.shape[2]
    same_context = np.kron(np.eye(rows.states.shape[1]), np.ones((size, size)))
    lam = 0.37
    dephased = lam * rho + (1 - lam) * rho * same_context
    u = np.zeros(rows.states.shape[1])
    u[:3] = np.sqrt(rows.asked)
    effect = np.kron(u, rows.encoding.query)
    scores = context_scores(rows.overlaps, rows.weights, rows.asked, rows.owner, 1, np.array([lam]))
    expected = lam * scores.coherent * scores.coherent_probability
    expected += (1 - lam) * scores.incoherent * scores.incoherent_probability
    assert effect @ dephased @ effect == pytest.approx(expected[0], abs=1e-12)


@pytest.mark.parametrize(("m", "n"), [(0, 3), (1, 1), (1, 4), (2, 3), (3, 2)])
def test_the_number_of_cx_is_as_stated(m: int, n: int) -> None:
    assert superposition_template(m, n).two_qubit_gates == superposition_cx(m, n)


def test_without_a_context_register_it_is_the_overlap_circuit() -> None:
    assert superposition_template(0, 4) == overlap_template(4)
    rows = Rows(3, [1, 1, 1])
    np.testing.assert_allclose(probabilities(rows.measured())[:, 0], rows.overlaps**2, atol=1e-12)


def sampled(rows: Rows, lams: np.ndarray, shots: int, rng: np.random.Generator) -> list[ContextEstimate]:
    """Both circuits of every entity as one job, then the estimates."""
    contexts = [
        asked_states(rows.asked, rows.owner, rows.entities),
        measured_states(rows.entities, rows.context_qubits),
    ]
    batch = superposition_circuits(
        np.concatenate([rows.states, rows.states]), rows.encoding.query, np.concatenate(contexts)
    )
    counts = SimulatorBackend(rng).run(batch, shots, job_key="k", timeout_s=1.0).counts
    return [
        estimate_context_score(
            counts[e],
            counts[rows.entities + e],
            rows.weights[rows.owner == e],
            rows.asked[rows.owner == e],
            context_qubits=rows.context_qubits,
            data_qubits=rows.data_qubits,
            coherence=float(lams[e]),
        )
        for e in range(rows.entities)
    ]


def test_estimates_converge_with_shots() -> None:
    """200 entities: the mean error falls tenfold for a hundredfold of shots; a ratio below 6 has odds below 1e-9."""
    rows = Rows(7, [2, 3] * 100, dimension=6)
    rng = np.random.default_rng(0)
    lams = rng.uniform(size=rows.entities)
    errors = []
    for shots in (100, 10_000, 1_000_000):
        values = np.array([estimate.value for estimate in sampled(rows, lams, shots, rng)])
        errors.append(np.abs(values - rows.scores(lams)).mean())
    assert errors[0] > 6 * errors[1] > 36 * errors[2]
    assert errors[2] < 2e-3


@pytest.mark.parametrize("shots", [200, 4_000])
def test_intervals_hold_in_95_percent(shots: int) -> None:
    """2,000 cases, standard deviation 0.5 points: 93.5% to 97% is 3 deviations at the least."""
    rows = Rows(11, [1, 2, 3, 4] * 10, dimension=6)
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(50):
        lams = rng.uniform(size=rows.entities)
        truth = rows.scores(lams)
        for estimate, value in zip(sampled(rows, lams, shots, rng), truth, strict=True):
            held += estimate.low <= value <= estimate.high
    assert 0.935 < held / 2_000 < 0.97


def test_a_planted_fault_is_found() -> None:
    """Counts of the entity's neighbour: nearly no interval holds the truth."""
    rows = Rows(11, [2] * 40, dimension=6)
    ones = np.ones(rows.entities)
    estimates = sampled(rows, ones, 100_000, np.random.default_rng(2))
    truth = np.roll(rows.scores(ones), 1)
    held = [estimate.low <= value <= estimate.high for estimate, value in zip(estimates, truth, strict=True)]
    assert np.mean(held) < 0.2


def test_a_part_without_shots_is_unknown() -> None:
    weights, asked = np.array([0.5, 0.5]), np.array([0.5, 0.5])
    registers = {"context_qubits": 1, "data_qubits": 1}
    fresh = estimate_context_score({0: 90, 1: 10}, {}, weights, asked, **registers, coherence=1.0)
    assert fresh.value == pytest.approx(0.9)
    old = estimate_context_score({}, {0: 50}, weights, asked, **registers, coherence=0.0)
    assert (old.value, np.isnan(old.coherent)) == (0.75, True)  # context 1 may be anything
    assert old.low == pytest.approx(0.5, abs=0.01)
    with pytest.raises(InvalidCircuit, match="does not fit"):
        estimate_context_score({0: 1}, {4: 1}, weights, asked, **registers, coherence=0.5)


def test_an_entity_without_the_asked_contexts_is_no_candidate() -> None:
    owner = np.array([0, 0, 1])
    asked = asked_weights(["tech", "law", "art"], {"tech": 2.0, "law": 2.0})
    np.testing.assert_allclose(asked, [0.5, 0.5, 0.0])
    weights, overlaps = np.array([0.6, 0.4, 1.0]), np.array([0.9, 0.8, 0.7])
    scores = context_scores(overlaps, weights, asked, owner, 2, np.ones(2))
    assert np.isnan(scores.values).tolist() == [False, True]
    assert scores.incoherent_probability.tolist() == [0.5, 0.0]
    with pytest.raises(InvalidRequest, match="none of the asked contexts"):
        asked_states(asked, owner, 2)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("contexts", {"contexts": ["c1", "c1"]}),
        ("contexts", {"contexts": [], "vectors": []}),
        ("vectors", {"contexts": ["c1"]}),
        ("vectors", {"vectors": [[1.0, 0.0], [1.0]]}),
        ("vectors", {"vectors": [[1.0, 0.0], [0.0, 0.0]]}),
        ("vectors", {"vectors": [[1.0, 0.0], [np.nan, 0.0]]}),
        ("weights", {"weights": [1.0]}),
        ("weights", {"weights": [1.0, -0.1]}),
        ("weights", {"weights": [0.0, 0.0]}),
        ("coherence_time_ms", {"coherence_time_ms": 0.0}),
    ],
)
def test_what_is_wrong_is_named(field: str, changes: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as error:
        two_contexts(**changes)
    assert error.value.errors[0].path == field


def test_unknown_contexts_and_weights_are_refused() -> None:
    made = two_contexts(contexts=["technical", "general"])
    with pytest.raises(UnknownContext, match="technical"):
        made.project("tecnical")
    with pytest.raises(UnknownContext):
        made.score(np.array([1.0, 0.0]), {"technical": 1.0, "other": 1.0}, now_s=0.0)
    for asked in ({}, {"technical": 0.0}, {"technical": -1.0}, {"technical": float("nan")}):
        with pytest.raises(InvalidRequest):
            made.score(np.array([1.0, 0.0]), asked, now_s=0.0)
