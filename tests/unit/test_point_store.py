from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from quantum_db.errors import CorruptData
from quantum_db.model import Context, Entity, Search, Vector
from quantum_db.stores.decoding import RECORD, Found, found
from quantum_db.stores.point_store import PointStore
from quantum_db.stores.points import Place, Point, place_of, point_id


class Shelf(PointStore):
    """Points in a dictionary; ``between`` is done before each read but the first, as another process would."""

    def __init__(self, between: Callable[[Shelf], None] = lambda shelf: None) -> None:
        super().__init__()
        self.points: dict[str, Point] = {}
        self.between = between
        self.asked: list[int] = []
        self.reads = 0

    async def dimension(self) -> int | None:
        return 2 if self.points else None

    async def count(self) -> int:
        raise NotImplementedError

    async def context_names(self) -> list[str]:
        raise NotImplementedError

    async def optimize(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        return

    async def _create(self, dimension: int) -> int:
        return dimension

    async def _write(self, points: Sequence[Point]) -> None:
        self.points |= {point.id: point for point in points}

    async def _erase(self, point_ids: Sequence[str]) -> None:
        for key in point_ids:
            self.points.pop(key, None)

    async def _places(self, entity_ids: Sequence[str]) -> dict[str, Place]:
        return {i: place_of(self.points[point_id(i, 0)].payload) for i in self._there(entity_ids)}

    async def _records(self, entity_ids: Sequence[str], at: int) -> dict[str, object]:
        return {i: self.points[point_id(i, 0)].payload[RECORD] for i in self._there(entity_ids)}

    async def _firsts(self, entity_ids: Sequence[str], at: int) -> list[Found]:
        return list((await self._read([point_id(i, 0) for i in entity_ids])).values())

    async def newest_commit(self) -> int:
        raise NotImplementedError

    async def sweep(self, through: int) -> None:
        raise NotImplementedError

    def _there(self, entity_ids: Sequence[str]) -> list[str]:
        return [i for i in entity_ids if point_id(i, 0) in self.points]

    async def _read(self, point_ids: Sequence[str]) -> dict[str, Found]:
        if self.reads:
            self.between(self)
        self.reads += 1
        return {
            key: found(self.points[key].payload, 0.0, self.points[key].vector.tolist())
            for key in point_ids
            if key in self.points
        }

    async def _heads(self, first: str | None, limit: int, at: int) -> tuple[list[Found], str | None]:
        raise NotImplementedError

    async def _nearest(self, asked: Sequence[tuple[Search, int]], at: int) -> list[list[Found]]:
        self.reads += 1
        answers = []
        for search, limit in asked:
            self.asked.append(limit)
            scored = [
                found(point.payload, float(point.vector @ search.vector), point.vector.tolist())
                for point in self.points.values()
            ]
            answers.append(sorted(scored, key=lambda p: -p.score)[:limit])
        return answers


def vec(angle: float) -> Vector:
    return np.asarray([np.cos(angle), np.sin(angle)], dtype=np.float32)


def version(n: int) -> Entity:
    """Versions differ in nothing but their vectors."""
    return Entity("a", vec(n), (Context("x", 0.5), Context("y", 0.5, vec(n + 0.5))))


async def shelf_with(entity: Entity) -> Shelf:
    shelf = Shelf()
    await shelf.upsert([entity, Entity("b", vec(3))])
    shelf.reads = 0
    return shelf


def replace_once(shelf: Shelf) -> None:
    fresh = Shelf()
    drive(fresh.upsert([version(2)]))
    shelf.points |= fresh.points
    shelf.between = lambda _: None


def delete_once(shelf: Shelf) -> None:
    for slot in (0, 1):
        shelf.points.pop(point_id("a", slot), None)
    shelf.between = lambda _: None


def drive(call: object) -> None:
    with pytest.raises(StopIteration):
        call.send(None)  # type: ignore[attr-defined] # a coroutine that never waits


async def test_an_entity_that_is_replaced_between_two_reads_is_read_anew() -> None:
    shelf = await shelf_with(version(1))
    shelf.between = replace_once
    [got] = await shelf.fetch(["a"])
    assert got is not None
    assert got.contexts[1].vector is not None
    np.testing.assert_array_equal([got.vector, got.contexts[1].vector], [vec(2), vec(2.5)])

    shelf = await shelf_with(version(1))
    shelf.between = replace_once
    [answer] = await shelf.search([Search(vec(1), 1, all_contexts=True)])
    assert answer.contexts == ("x", "y")
    np.testing.assert_array_equal(answer.vectors, [vec(2), vec(2.5)])


async def test_an_entity_that_is_deleted_between_two_reads_is_gone() -> None:
    shelf = await shelf_with(version(1))
    shelf.between = delete_once
    assert await shelf.fetch(["a"]) == [None]
    shelf = await shelf_with(version(1))
    shelf.between = delete_once
    [answer] = await shelf.search([Search(vec(1), 2, all_contexts=True)])
    assert answer.entity_ids == ("b",)


async def test_an_entity_that_lacks_a_vector_is_corrupt() -> None:
    shelf = await shelf_with(version(1))
    del shelf.points[point_id("a", 1)]
    with pytest.raises(CorruptData, match="Not all vectors of the entity 'a'"):
        await shelf.fetch(["b", "a"])


async def test_a_fetch_is_two_reads_at_most() -> None:
    shelf = await shelf_with(version(1))
    await shelf.fetch(["b", "nothing"])
    assert shelf.reads == 1
    await shelf.fetch(["b", "a", "a"])
    assert shelf.reads == 3


async def test_the_number_of_points_asked_for_is_learnt() -> None:
    shelf = Shelf()
    many = [
        Entity(f"e{i:03}", None, tuple(Context(f"c{j}", 1 / 3, vec(i / 100 + j / 1000)) for j in range(3)))
        for i in range(100)
    ]
    await shelf.upsert(many)
    for _ in range(60):
        shelf.asked = []
        [answer] = await shelf.search([Search(vec(0), 10)])
        assert answer.entity_ids == tuple(f"e{i:03}" for i in range(10))
    assert len(shelf.asked) == 1, "in the end one question is enough"
    assert shelf.asked[0] < 60
    shelf.asked = []
    await shelf.search([Search(vec(0), 10, contexts=("c0",))])
    assert shelf.asked[0] == 11, "a context has one point an entity at most"
