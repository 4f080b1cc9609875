"""The contract of every VectorStore: a scroll over all entities, while others write."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_db.errors import Unavailable
from quantum_db.model import Context, Entity
from quantum_db.stores import points
from quantum_db.stores.point_store import PointStore
from tests.contract.vector_stores import D, assert_same, axis, store, unit, with_store

__all__ = ["store"]  # a fixture

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]


def spread(name: str, vectors: int) -> Entity:
    """An entity of several vectors, all of them its own."""
    rng = np.random.default_rng(len(name) + vectors)
    contexts = [Context(f"c{i}", 1.0 / vectors, unit(*rng.standard_normal(D))) for i in range(vectors)]
    return Entity(name, None, tuple(contexts), metadata={"vectors": vectors})


async def pages(store: PointStore, limit: int) -> list[list[Entity]]:
    found, cursor = [], None
    while True:
        page, cursor = await store.scroll(cursor, limit)
        found.append(page)
        if cursor is None:
            return found


async def test_a_store_without_data_has_one_empty_page(store: PointStore) -> None:
    assert await store.scroll(None, 10) == ([], None)
    await store.upsert([Entity("a", axis(0))])
    await store.delete(["a"])
    assert await store.scroll(None, 10) == ([], None)


@pytest.mark.parametrize("limit", [1, 4, 12, 13, 1000])
async def test_every_entity_comes_once_and_as_it_was_written(store: PointStore, limit: int) -> None:
    written = {f"e{i}": spread(f"e{i}", i % 3 + 1) for i in range(11)} | {"flat": Entity("flat", axis(1))}
    await store.upsert([spread("e0", 5), spread("e7", 4)])  # older versions with more vectors
    await store.upsert(list(written.values()))
    found = await pages(store, limit)
    assert all(len(page) <= limit for page in found)
    assert sorted(entity.id for page in found for entity in page) == sorted(written)
    for page in found:
        for entity in page:
            assert_same(entity, written[entity.id])


async def test_a_page_of_large_entities_is_cut(store: PointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.upsert([spread(f"e{i}", 4) for i in range(9)])
    monkeypatch.setattr(points, "_FLOATS_A_READ", 2 * 4 * D)
    found = await pages(store, 1000)
    assert [len(page) for page in found] == [2, 2, 2, 2, 1]
    assert len({entity.id for page in found for entity in page}) == 9
    monkeypatch.setattr(points, "_FLOATS_A_READ", 1)
    assert [len(page) for page in await pages(store, 1000)] == [1] * 9


changes = st.lists(st.tuples(st.sampled_from(["write", "delete"]), st.integers(0, 39)), max_size=12)


@with_store
@given(steps=st.lists(changes, min_size=1, max_size=12), limit=st.integers(1, 7))
async def test_what_stays_comes_exactly_once_whatever_else_changes(
    store: PointStore, steps: list[list[tuple[str, int]]], limit: int
) -> None:
    """The entities 0 to 19 stay, also where they are replaced; 20 to 39 come and go between the pages."""
    await store.delete([f"e{i}" for i in range(40)])
    await store.upsert([spread(f"e{i}", i % 2 + 1) for i in range(30)])
    seen: Counter[str] = Counter()
    cursor, pending = None, list(steps)
    while True:
        page, cursor = await store.scroll(cursor, limit)
        seen.update(entity.id for entity in page)
        if cursor is None:
            break
        for what, number in pending.pop(0) if pending else []:
            if what == "write":
                await store.upsert([spread(f"e{number}", 3)])
            elif number >= 20:
                await store.delete([f"e{number}"])
    assert max(seen.values()) == 1
    assert {f"e{i}" for i in range(20)} <= set(seen)


async def test_a_closed_store_does_not_scroll(store: PointStore) -> None:
    await store.upsert([Entity("a", axis(0))])
    await store.close()
    with pytest.raises(Unavailable):
        await store.scroll(None, 1)
