"""The contract of every VectorStore: what is written, replaced, deleted and refused."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_db.errors import InvalidRequest, Unavailable
from quantum_db.model import Context, Entity, Search
from quantum_db.stores.point_store import PointStore
from quantum_db.stores.points import point_id
from tests.contract.vector_stores import D, assert_same, axis, rows, store, unit, with_store

__all__ = ["store"]  # a fixture

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]


async def test_an_empty_store(store: PointStore) -> None:
    assert await store.dimension() is None
    assert await store.count() == 0
    assert await store.context_names() == []
    assert await store.fetch(["a"]) == [None]
    assert await store.delete(["a", "b"]) == [False, False]
    await store.optimize()
    await store.upsert([])
    [found] = await store.search([Search(axis(0), 5)])
    assert found.entity_ids == ()
    assert found.vectors.shape == (0, D)
    assert found.owner.dtype == np.int32


# Round trips

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def entities(draw: st.DrawFn) -> Entity:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    names = draw(st.lists(st.text(min_size=1, max_size=5), max_size=4, unique=True))
    own = [draw(st.booleans()) for _ in names]
    weights = rng.random(len(names)) if draw(st.booleans()) else np.ones(len(names))
    weights = weights / weights.sum()
    contexts = tuple(
        Context(name, float(weight), unit(*rng.standard_normal(D)) if mine else None)
        for name, weight, mine in zip(names, weights, own, strict=True)
    )
    needed = not names or not all(own) or draw(st.booleans())
    vector = unit(*rng.standard_normal(D)) if needed else None
    metadata = draw(st.dictionaries(st.text(max_size=5), json_values, max_size=3))
    return Entity("é 1", vector, contexts, draw(st.floats(1e-3, 1e12)), metadata)


@with_store
@given(entity=entities())
async def test_an_entity_comes_back_as_it_was_whatever_was_there_before(store: PointStore, entity: Entity) -> None:
    await store.upsert([entity, Entity("other", axis(0))])
    unknown, got, other = await store.fetch(["unknown", entity.id, "other"])
    assert unknown is None
    assert_same(got, entity)
    assert_same(other, Entity("other", axis(0)))
    assert await store.count() == 2
    assert await store.context_names() == sorted(c.name for c in entity.contexts)
    [found] = await store.search([Search(axis(1), 2, all_contexts=True)])
    wanted = [(entity.id, c.name, c.weight) for c in entity.contexts] or [(entity.id, None, 1.0)]
    assert [row for row in rows(found) if row[0] == entity.id] == wanted


async def test_writing_the_same_again_changes_nothing(store: PointStore) -> None:
    entity = Entity("a", axis(0), (Context("x", 0.1 + 0.2), Context("y", 0.7, axis(1))), metadata={"n": 1})
    for _ in range(2):
        await store.upsert([entity])
        assert await store.count() == 1
        assert_same((await store.fetch(["a"]))[0], entity)


async def test_many_at_once_are_more_than_one_request(store: PointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantum_db.stores.points._FLOATS_A_WRITE", 5 * D)
    many = [Entity(f"e{i}", axis(0), (Context("x", 1.0, axis(1)),)) for i in range(23)]
    await store.upsert(many)
    assert await store.count() == 23
    assert all(await store.fetch([e.id for e in many]))


# Replacing and deleting


async def test_a_replaced_entity_leaves_nothing_behind(store: PointStore) -> None:
    old = Entity("a", axis(0), (Context("x", 0.5), Context("y", 0.3, axis(1)), Context("z", 0.2, axis(2))))
    new = Entity("a", axis(3), (Context("w", 1.0),))
    await store.upsert([old, Entity("b", axis(5), (Context("b", 1.0),))])
    await store.upsert([new])
    assert await store.context_names() == ["b", "w"]
    assert await store.count() == 2
    by_context = await store.search([Search(axis(1), 9, contexts=(c,)) for c in ("x", "y", "z", "w")])
    assert [found.entity_ids for found in by_context] == [(), (), (), ("a",)]
    [found] = await store.search([Search(axis(1), 9, all_contexts=True)])
    assert sorted(rows(found)) == [("a", "w", 1.0), ("b", "b", 1.0)]
    assert await store._read([point_id("a", slot) for slot in (1, 2)]) == {}
    await store.upsert([old])
    assert_same((await store.fetch(["a"]))[0], old)


async def test_a_replacement_that_was_cut_short_shows_the_new_version_alone(
    store: PointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut_short(_: object) -> None:
        raise Unavailable("killed")

    old = Entity("a", None, (Context("x", 0.5, axis(0)), Context("y", 0.3, axis(1)), Context("z", 0.2, axis(2))))
    new = Entity("a", axis(3), (Context("w", 1.0),), metadata={"version": 2})
    await store.upsert([old])
    monkeypatch.setattr(store, "_erase", cut_short)
    with pytest.raises(Unavailable, match="killed"):
        await store.upsert([new])
    monkeypatch.undo()
    for _ in range(2):
        assert_same((await store.fetch(["a"]))[0], new)
        assert await store.count() == 1
        assert await store.context_names() == ["w"]
        found, in_w, in_y = await store.search(
            [Search(axis(1), 3), Search(axis(1), 3, contexts=("w",)), Search(axis(1), 3, contexts=("y",))]
        )
        assert rows(found) == rows(in_w) == [("a", "w", 1.0)]
        assert rows(in_y) == []
        await store.upsert([new])
    assert await store._read([point_id("a", slot) for slot in (1, 2)]) == {}
    assert await store.delete(["a"]) == [True]
    assert rows((await store.search([Search(axis(1), 9)]))[0]) == []


async def test_delete_says_what_was_there(store: PointStore) -> None:
    await store.upsert([Entity("a", axis(0), (Context("x", 1.0, axis(1)),)), Entity("b", axis(1))])
    assert await store.delete(["b", "nothing", "a", "b"]) == [True, False, True, True]
    assert await store.delete(["a", "b"]) == [False, False]
    assert await store.count() == 0
    assert await store.context_names() == []
    assert await store.dimension() == D
    [found] = await store.search([Search(axis(0), 5)])
    assert found.entity_ids == ()


async def test_concurrent_writers_of_one_entity_leave_one_of_their_versions(store: PointStore) -> None:
    def version(n: int) -> Entity:
        contexts = tuple(Context(f"c{i}", 1 / (n + 1), axis(i)) for i in range(n + 1))
        return Entity("a", None, contexts, metadata={"n": n})

    await asyncio.gather(*(store.upsert([version(n)]) for n in (4, 1, 3, 0, 2)))
    [got] = await store.fetch(["a"])
    assert got is not None
    assert_same(got, version(got.metadata["n"]))
    assert await store.context_names() == [c.name for c in got.contexts]


# What is refused


@pytest.mark.parametrize(
    ("entity", "path"),
    [
        (Entity("b", unit(1, 2, 3)), "vectors[1].vector"),
        (Entity("b", axis(0), (Context("x", 0.5), Context("y", 0.5, unit(1, 1)))), "vectors[1].contexts[1].vector"),
        (Entity("b", np.ones((2, D), np.float32)), "vectors[1].vector"),
    ],
)
@pytest.mark.parametrize("filled", [False, True])
async def test_a_wrong_dimension_is_refused_and_nothing_written(
    store: PointStore, filled: bool, entity: Entity, path: str
) -> None:
    if filled:
        await store.upsert([Entity("first", axis(0))])
    with pytest.raises(InvalidRequest, match=f"{D}$") as error:
        await store.upsert([Entity("a", axis(0)), entity])
    assert [e.path for e in error.value.errors] == [path]
    assert await store.count() == filled
    assert await store.dimension() == (D if filled else None)


async def test_a_query_of_another_dimension_is_refused(store: PointStore) -> None:
    await store.upsert([Entity("a", axis(0))])
    with pytest.raises(InvalidRequest, match=f"has 3 numbers, the store's vectors have {D}"):
        await store.search([Search(axis(0), 1), Search(unit(1, 2, 3), 1)])


def nested(levels: int) -> Any:
    value: Any = 0
    for i in range(levels - 1):
        value = [value] if i % 2 else {"a": value}
    return {"deep": value}


@pytest.mark.parametrize(
    "metadata",
    [{"a": float("nan")}, {"a": [2**64]}, {"a": b"bytes"}, {"a": {1: 2}}, {"a": {1, 2}}, {"a": "\ud800"}, nested(65)],
    ids=["nan", "integer", "bytes", "key", "set", "surrogate", "depth"],
)
async def test_metadata_that_is_not_json_is_refused_and_nothing_written(
    store: PointStore, metadata: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest, match=r"^vectors\[1\].metadata: "):
        await store.upsert([Entity("a", axis(0)), Entity("b", axis(0), metadata=metadata)])
    assert await store.dimension() is None


async def test_metadata_may_be_nested_up_to_the_limit(store: PointStore) -> None:
    entity = Entity("a", axis(0), metadata=nested(64))
    await store.upsert([entity])
    assert_same((await store.fetch(["a"]))[0], entity)


async def test_a_closed_store_is_unavailable(store: PointStore) -> None:
    await store.upsert([Entity("a", axis(0))])
    await store.close()
    await store.close()
    for call in (store.fetch(["a"]), store.upsert([Entity("b", axis(0))]), store.count(), store.context_names()):
        with pytest.raises(Unavailable, match="closed"):
            await call
