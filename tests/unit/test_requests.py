"""Bodies: what is taken, and the one clear sentence for what is not."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantum_db.commits.bodies import BatchBody
from quantum_db.errors import InvalidRequest, QuantumDBError
from quantum_db.group_bodies import GroupBody
from quantum_db.requests import Body, EntityBody, QueryBody, parse

ENTITY = {
    "id": "doc_123",
    "vector": [0.1, 0.2],
    "contexts": [{"name": "technical", "weight": 0.7}, {"name": "general", "weight": 0.3}],
    "coherence_time_ms": 1000,
    "metadata": {"source": "arxiv"},
}
QUERY = {
    "vector": [0.1, 0.2],
    "context": "technical",
    "mode": "balanced",
    "enable_tunneling": True,
    "top_k": 10,
    "timeout_ms": 5000,
}
GROUP = {"group_id": "related_docs", "entity_ids": ["doc_1", "doc_2", "doc_3"], "correlation_strength": 0.85}


def refused(kind: type[Body], body: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(kind, body)
    return caught.value


def test_the_documented_bodies_are_taken_as_they_stand() -> None:
    entity = parse(EntityBody, ENTITY).to_entity()
    assert entity.vector is not None
    np.testing.assert_allclose(entity.vector, np.array([1, 2]) / np.sqrt(5), rtol=1e-6)
    assert [(c.name, pytest.approx(c.weight)) for c in entity.contexts] == [("technical", 0.7), ("general", 0.3)]
    assert (entity.coherence_time_ms, entity.metadata) == (1000.0, {"source": "arxiv"})
    query = parse(QueryBody, QUERY).to_query("t")
    assert (query.contexts, query.top_k, query.timeout_s, query.enable_tunneling) == (
        (("technical", 1.0),),
        10,
        5.0,
        True,
    )
    assert parse(BatchBody, {"vectors": [ENTITY], "transaction": True}).transaction
    assert parse(GroupBody, GROUP).to_group().correlation_strength == 0.85


@given(array=st.lists(st.floats(-1e30, 1e30), min_size=1))
def test_a_stored_vector_written_again_is_the_same_to_the_last_bit(array: list[float]) -> None:
    assume(any(array))
    stored = parse(EntityBody, {"id": "a", "vector": array}).vector
    assert stored is not None
    again = parse(EntityBody, {"id": "a", "vector": stored.tolist()}).vector
    assert again is not None
    assert again.tobytes() == stored.tobytes()


@given(weights=st.lists(st.floats(0.0, 1e300), min_size=1, max_size=64).filter(any))
def test_stored_weights_written_again_are_the_same_to_the_last_bit(weights: list[float]) -> None:
    def written(weights: list[float]) -> list[float]:
        contexts = [{"name": str(i), "weight": weight, "vector": [1.0]} for i, weight in enumerate(weights)]
        return [c.weight for c in parse(EntityBody, {"id": "a", "contexts": contexts}).to_entity().contexts]

    stored = written(weights)
    assert written(stored) == stored


def test_weights_are_normalised_also_when_huge() -> None:
    contexts = [{"name": "a", "weight": 1e308}, {"name": "b", "weight": 1e308}]
    entity = parse(EntityBody, {"id": "e", "vector": [1.0], "contexts": contexts}).to_entity()
    assert [context.weight for context in entity.contexts] == [0.5, 0.5]


@given(arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e300, 1e300)))
def test_every_nonzero_vector_becomes_a_unit_vector(array: np.ndarray) -> None:
    body = {"id": "e", "vector": array.tolist()}
    if not array.any():
        assert refused(EntityBody, body).errors[0].path == "vector"
        return
    vector = parse(EntityBody, body).vector
    assert vector is not None
    assert vector.dtype == np.float32
    assert abs(float(np.linalg.norm(vector)) - 1.0) < 1e-6


def entity(**changes: Any) -> dict[str, Any]:
    return {**ENTITY, **changes}


@pytest.mark.parametrize(
    ("body", "path", "message"),
    [
        (entity(vector=[0.0, 0.0]), "vector", "is the zero vector"),
        (entity(vector=[1.0, float("nan")]), "vector", "not finite at position 1"),
        (entity(vector=[float("inf"), 1.0]), "vector", "not finite at position 0"),
        (entity(vector=[]), "vector", "is empty"),
        (entity(vector="0.1"), "vector", "must be a list of numbers"),
        (entity(vector=["0.1", "0.2"]), "vector", "must be a flat list of numbers"),
        (entity(vector=[[0.1], [0.2]]), "vector", "must be a flat list of numbers"),
        (entity(vector=[[0.1], [0.2, 0.3]]), "vector", "must be a flat list of numbers"),
        (entity(vector=[True, False]), "vector", "must be a flat list of numbers"),
        (entity(vector=[0.1] * 5000), "vector", "has 5000 numbers; the limit is 4096"),
        (entity(vector=None), "vector", "is missing, and the context 'technical' has none of its own"),
        (entity(vector=None, contexts=[]), "vector", "is missing, and there are no contexts"),
        (entity(contexts=[{"name": "a", "weight": -1}]), "contexts[0].weight", "must be greater than or equal to 0"),
        (entity(contexts=[{"name": "a", "weight": 0}]), "contexts", "all weights are zero"),
        (entity(contexts=[{"name": "a", "weight": float("inf")}]), "contexts[0].weight", "must be a finite number"),
        (entity(contexts=[{"name": "a", "weight": 1}] * 2), "contexts", "names the context 'a' twice"),
        (entity(contexts=[{"name": "", "weight": 1}]), "contexts[0].name", "at least 1 character"),
        (entity(contexts=[{"name": "a", "weight": 1, "vector": [1, 2, 3]}]), "vectors", "different dimensions (2, 3)"),
        (entity(id=7), "id", "must be a valid string, not 7"),
        (entity(id=""), "id", "at least 1 character"),
        (entity(coherence_time_ms=0), "coherence_time_ms", "must be greater than 0"),
        (entity(metadata={"x": "y" * 70_000}), "metadata", "the limit is 65536"),
        (entity(vektor=[1]), "vektor", "is not a known field; did you mean 'vector'?"),
        ("text", "", "must be a valid dictionary"),
    ],
)
def test_wrong_entities_are_told_by_field(body: object, path: str, message: str) -> None:
    error = refused(EntityBody, body)
    assert error.errors[0].path == path
    assert message in error.errors[0].message
    assert message in error.detail


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"mode": "balansed"}, "mode", "must be one of classical, balanced, precise, exploratory, not 'balansed'"),
        ({"mode": 3}, "mode", "must be one of"),
        ({"top_k": 0}, "top_k", "must be greater than or equal to 1, not 0"),
        ({"top_k": 101}, "top_k", "must be less than or equal to 100, not 101"),
        ({"top_k": "3"}, "top_k", "must be a valid integer"),
        ({"timeout_ms": 0}, "timeout_ms", "must be greater than or equal to 1"),
        ({"shots": 0}, "shots", "must be greater than or equal to 1"),
        ({"epsilon": 0.02, "shots": 100}, "shots", "and epsilon exclude each other"),
        ({"epsilon": 0.02, "context": None}, "epsilon", "needs a context, or the rule best"),
        ({"epsilon": 0.9}, "epsilon", "must be less than or equal to 0.5"),
        ({"contexts": [{"name": "a"}]}, "context", "and contexts exclude each other"),
        ({"context": None, "contexts": [{"name": "a"}, {"name": "a"}]}, "contexts", "names a context twice"),
        ({"context": None, "contexts": [{"name": "a", "weight": 0}]}, "contexts[0].weight", "must be greater than 0"),
        ({"context": None, "contexts": [{"name": "a"}, {"name": "b"}], "epsilon": 0.1}, "epsilon", "a single context"),
        ({"age_ms": -1}, "age_ms", "must be greater than or equal to 0"),
        ({"tunneling_solver": "qaoa"}, "top_k", "may be at most 5 with the solver qaoa"),
        ({"mitigation": "zne", "epsilon": 0.1}, "mitigation", "goes with neither epsilon nor several contexts"),
        ({"refine": "never"}, "refine", "must be 'auto' or 'always'"),
        ({"no_context_rule": "worst"}, "no_context_rule", "must be 'soft', 'best' or 'traced'"),
        ({"filter": {"must": [{"key": "a"}]}}, "filter.must[0]", "needs exactly one of"),
    ],
)
def test_wrong_queries_are_told_by_field(changes: dict[str, Any], path: str, message: str) -> None:
    error = refused(QueryBody, {**QUERY, **changes})
    assert error.errors[0].path == path
    assert message in error.errors[0].message


def test_wrong_batches_and_groups_are_told_by_field() -> None:
    wrong = entity(vector=[0.0, 0.0])
    assert refused(BatchBody, {"vectors": [ENTITY, wrong]}).errors[0].path == "vectors[1].vector"
    assert "positions 0 and 1" in refused(BatchBody, {"vectors": [ENTITY, ENTITY]}).detail
    assert refused(BatchBody, {"vectors": []}).errors[0].path == "vectors"
    assert "twice" in refused(GroupBody, {**GROUP, "entity_ids": ["a", "a"]}).detail
    assert refused(GroupBody, {**GROUP, "entity_ids": ["a"]}).errors[0].path == "entity_ids"
    assert refused(GroupBody, {**GROUP, "correlation_strength": 1.5}).errors[0].path == "correlation_strength"


def test_many_errors_are_counted() -> None:
    contexts = [{"name": str(i), "weight": -1} for i in range(30)]
    error = refused(EntityBody, entity(contexts=contexts))
    assert len(error.errors) == 20
    assert error.detail.endswith("(and 27 more)")


def every_error(kind: type[QuantumDBError] = QuantumDBError) -> list[type[QuantumDBError]]:
    """The error tree as callers meet it; what a shell derives to tell its own causes apart has its parent's type."""
    subs = [sub for sub in kind.__subclasses__() if sub.__module__ == QuantumDBError.__module__]
    return [kind, *(found for sub in subs for found in every_error(sub))]


@pytest.mark.parametrize("kind", every_error())
def test_every_error_pickles_and_is_one_problem_type(kind: type[QuantumDBError]) -> None:
    error = kind("what was wrong", errors=refused(EntityBody, {}).errors, retry_after_s=2.5)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.detail, again.errors, again.retry_after_s) == (error.detail, error.errors, 2.5)
    assert again.problem()["status"] == kind.status
    assert str(again) == "what was wrong"


def test_problem_types_are_distinct() -> None:
    slugs = [kind.slug for kind in every_error()]
    assert len(slugs) == len(set(slugs))
