"""The contract of every VectorStore: what searches and filters answer, against their plain definition."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.filters import Filter, matches
from quantum_db.model import Context, Entity, Search
from quantum_db.stores.point_store import PointStore
from tests.contract.vector_stores import D, axis, rows, store, unit, with_store

__all__ = ["store"]  # a fixture

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]


async def test_the_row_of_a_search_without_context(store: PointStore) -> None:
    await store.upsert(
        [
            Entity("plain", axis(0)),
            Entity("shared", axis(1), (Context("x", 0.3), Context("y", 0.5), Context("z", 0.2, axis(2)))),
            Entity("tie", axis(3), (Context("second", 0.5), Context("first", 0.5))),
            Entity("apart", axis(4), (Context("x", 1.0, axis(0, lean=2.0)),)),
        ]
    )
    nearest = await store.search([Search(axis(i), 1) for i in (0, 1, 2, 3, 4)])
    assert [rows(found) for found in nearest] == [
        [("plain", None, 1.0)],
        [("shared", "y", 0.5)],
        [("shared", "z", 0.2)],
        [("tie", "second", 0.5)],
        # A vector of its own that holds for no context is searched like any other.
        [("apart", None, 1.0)],
    ]
    np.testing.assert_allclose(nearest[2].vectors, [axis(2)], atol=1e-6)
    everything = await store.search([Search(axis(i), 1, all_contexts=True) for i in (0, 2, 4)])
    assert [rows(found) for found in everything] == [
        [("plain", None, 1.0)],
        [("shared", "x", 0.3), ("shared", "y", 0.5), ("shared", "z", 0.2)],
        [("apart", "x", 1.0)],
    ]
    np.testing.assert_allclose(everything[1].vectors, [axis(1), axis(1), axis(2)], atol=1e-6)


async def test_enough_entities_come_back_though_one_has_many_vectors(store: PointStore) -> None:
    crowd = Entity("crowd", None, tuple(Context(f"c{i}", 1 / 60, axis(0, lean=i / 1000)) for i in range(60)))
    others = [Entity(f"e{i}", axis(0, lean=0.1 + i / 100), (Context("x", 1.0),)) for i in range(9)]
    await store.upsert([crowd, *others])
    wanted = ["crowd", *(e.id for e in others)]
    for limit in (1, 4, 10, 12):
        found, with_all = await store.search(
            [Search(axis(0), limit), Search(axis(0), limit, all_contexts=True)],
        )
        assert list(found.entity_ids) == list(with_all.entity_ids) == wanted[:limit]
        assert list(found.owner) == list(range(min(limit, 10)))
        assert len(with_all.owner) == 60 + min(limit, 10) - 1


async def test_ties_are_broken_by_id(store: PointStore) -> None:
    ids = [f"e{i:02d}" for i in range(40)]
    random.Random(1).shuffle(ids)
    await store.upsert([Entity(i, unit(1, 2, 3, 4, 5, 6), (Context("x", 1.0),)) for i in ids])
    for search in (Search(axis(0), 7), Search(axis(0), 7, contexts=("x",))):
        [found] = await store.search([search])
        assert list(found.entity_ids) == [f"e{i:02d}" for i in range(7)]


# Searches and filters against their plain definition


def wanted(entities: list[Entity], search: Search) -> list[tuple[str, str | None, float]]:
    """Answer a search by looking at everything."""
    ranked: list[tuple[float, str, list[tuple[str, str | None, float]]]] = []
    for entity in entities:
        groups = [
            (float(vector.astype(np.float64) @ search.vector.astype(np.float64)), contexts)
            for vector, contexts in entity.distinct_vectors()
            if not search.contexts or set(search.contexts) & {c.name for c in contexts}
        ]
        if not groups or (search.filter is not None and not matches(search.filter, entity.id, entity.metadata)):
            continue
        score, here = max(groups, key=lambda group: group[0])
        if search.contexts:
            here = tuple(c for c in entity.contexts if c.name in search.contexts)
        elif search.all_contexts:
            here = entity.contexts
        else:
            here = tuple(sorted(here, key=lambda c: -c.weight)[:1])
        ranked.append((score, entity.id, [(entity.id, c.name, c.weight) for c in here] or [(entity.id, None, 1.0)]))
    ranked.sort(key=lambda r: (-r[0], r[1]))
    return [row for _, _, entity_rows in ranked[: search.limit] for row in entity_rows]


def random_entities(rng: np.random.Generator, number: int) -> list[Entity]:
    made = []
    for i in range(number):
        names = rng.permutation(["red", "green", "blue", "black"])[: rng.integers(0, 5)]
        weights = rng.dirichlet(np.ones(len(names))) if len(names) else []
        contexts = tuple(
            Context(str(name), float(weight), unit(*rng.standard_normal(D)) if rng.random() < 0.6 else None)
            for name, weight in zip(names, weights, strict=True)
        )
        year = int(rng.integers(1990, 2000))
        # A quarter are copies, so that ties and shared vectors are common.
        vector = made[i // 2].vector if i and rng.random() < 0.25 else None
        vector = unit(*rng.standard_normal(D)) if vector is None else vector
        made.append(Entity(f"e{rng.integers(1e9)}", vector, contexts, metadata={"year": year, "odd": bool(year % 2)}))
    return made


@pytest.mark.parametrize("seed", [1, 2])
async def test_searches_agree_with_looking_at_everything(store: PointStore, seed: int) -> None:
    rng = np.random.default_rng(seed)
    stored = random_entities(rng, 150)
    await store.upsert(stored)
    await store.delete([e.id for e in stored[100:]])
    filter_ = Filter.parse({"must": [{"key": "year", "range": {"lt": 1996}}, {"key": "odd", "match": {"value": True}}]})
    searches = [
        Search(unit(*rng.standard_normal(D)), limit, names, only, all_contexts)
        for limit in (1, 10, 60, 500)
        for names, all_contexts in (
            ((), False),
            ((), True),
            (("red",), False),
            (("red", "blue"), False),
            (("red", "unknown"), False),
            (("unknown",), False),
        )
        for only in (None, filter_)
    ]
    together = await store.search(searches)
    for search, found in zip(searches, together, strict=True):
        assert rows(found) == wanted(stored[:100], search)
        by_id = {e.id: e for e in stored}
        assert list(found.metadata) == [by_id[i].metadata for i in found.entity_ids]
        assert list(found.coherence_time_ms) == [by_id[i].coherence_time_ms for i in found.entity_ids]
        [alone] = await store.search([search])
        assert rows(alone) == rows(found)
        np.testing.assert_allclose(alone.vectors, found.vectors, atol=1e-6)
        assert found.vectors.shape == (len(found.weights), D)
        assert found.vectors.dtype == np.float32
        assert found.owner.tolist() == sorted(found.owner.tolist())


SCALARS = [None, True, False, 0, 1, 2, -1, 1.0, 2.5, -0.0, "", "a", "1", "Hello, World", "hello", "über Maß", 2**60]
DOCUMENTS: list[dict[str, Any]] = [
    *({"k": scalar} for scalar in SCALARS),
    *({"k": [scalar]} for scalar in SCALARS),
    *({"k": {"sub": scalar}} for scalar in SCALARS[:12]),
    *({"k": [{"sub": a}, {"sub": [b, a]}]} for a, b in zip(SCALARS[:8], SCALARS[3:11], strict=True)),
    {},
    {"k": []},
    {"k": {}},
    {"k": [[]]},
    {"k": [[1], "a", None]},
    {"k": [1, 2, "a", True]},
    {"k": "a", "with space": 1, "x.y": "dots"},
    {"x.y": [1], "k": {"sub": []}},
]
keys = st.sampled_from(["k", "k.sub", "k[]", "k[0]", "k[].sub", "k[1].sub", '"with space"', '"x.y"', "none.at.all"])
integers = st.integers(-1, 3)
bounds = st.sets(st.sampled_from(["gt", "gte", "lt", "lte"]), min_size=1)
conditions: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(
        lambda key, value: {"key": key, "match": {"value": value}},
        keys,
        st.sampled_from([s for s in SCALARS if s is not None and not isinstance(s, float)]),
    ),
    st.builds(
        lambda key, kind, values: {"key": key, "match": {kind: values}},
        keys,
        st.sampled_from(["any", "except"]),
        st.lists(integers, max_size=3) | st.lists(st.sampled_from(["a", "1", "hello", ""]), max_size=3),
    ),
    st.builds(
        lambda key, text: {"key": key, "match": {"text": text}},
        keys,
        st.sampled_from(["hello", "WORLD hello", "hell", "Maß", "a", "", "-"]),
    ),
    st.builds(
        lambda key, kind, names, number: {"key": key, kind: dict.fromkeys(sorted(names), number)},
        keys,
        st.sampled_from(["range", "values_count"]),
        bounds,
        st.integers(0, 3),
    ),
    st.builds(lambda kind, key: {kind: {"key": key}}, st.sampled_from(["is_empty", "is_null"]), keys),
    st.builds(lambda ids: {"has_id": [f"e{i}" for i in ids]}, st.lists(st.integers(0, 90), max_size=4)),
)
clauses = st.sets(st.sampled_from(["must", "should", "must_not"]))
raw_filters = st.recursive(
    conditions,
    lambda inner: st.builds(
        lambda names, lists: dict(zip(sorted(names), lists, strict=False)),
        clauses,
        st.lists(inner | st.lists(inner, max_size=3), min_size=3, max_size=3),
    ),
    max_leaves=5,
).map(lambda raw: raw if raw.keys() <= {"must", "should", "must_not"} else {"must": raw})


async def test_filters_mean_the_same_in_every_store(store: PointStore) -> None:
    stored = [Entity(f"e{i}", axis(i % 5), metadata=document) for i, document in enumerate(DOCUMENTS)]
    await store.upsert(stored)

    @settings(with_store, max_examples=250)
    @given(raw=st.lists(raw_filters, min_size=1, max_size=4))
    def agrees(raw: list[dict[str, Any]]) -> None:
        parsed = [Filter.parse(r) for r in raw]
        answers = run(store.search([Search(axis(0), 100, filter=f) for f in parsed]))
        for one, found in zip(parsed, answers, strict=True):
            assert set(found.entity_ids) == {e.id for e in stored if matches(one, e.id, e.metadata)}, one

    agrees()


def run(call: Any) -> Any:
    """Drive a coroutine that never waits for anything, within a loop that is already running."""
    try:
        call.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the store waited")
