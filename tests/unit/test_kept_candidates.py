"""Candidates that are kept: one search for the same question while nothing changes, and another one for any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantum_db.caching import BoundedCache
from quantum_db.filters import Filter
from quantum_db.kept_candidates import CandidateReader, Looked
from quantum_db.model import Candidates, Context, Entity, Search
from quantum_db.stores.qdrant_edge import QdrantEdgeStore
from tests.unit.fakes import FakeClock

UP = np.array([1.0, 0.0], dtype=np.float32)
SEARCH = Search(UP, 2)


class Versions:
    now: str | None = "1"

    def version(self, collection: str) -> str | None:
        return self.now


class Counted(QdrantEdgeStore):
    calls = 0

    async def search(self, searches: Sequence[Search]) -> list[Candidates]:
        self.calls += 1
        return await super().search(searches)


class Room:
    def __init__(self, folder: Path, most: int = 100_000) -> None:
        self.store, self.versions, self.noted = Counted(folder / "store"), Versions(), list[Looked]()
        self.kept: BoundedCache[Candidates] = BoundedCache(most, FakeClock())
        self.reader = CandidateReader(self.store, self.versions, "c", self.kept, self.noted.append)
        self.other = CandidateReader(self.store, self.versions, "d", self.kept, self.noted.append)

    async def filled(self) -> Room:
        for number, name in enumerate(("a", "b", "c")):
            vector = np.array([1.0, number], dtype=np.float32)
            entity = Entity(name, vector / np.linalg.norm(vector), (Context("x", 1.0),), metadata={"n": number})
            await self.store.upsert([entity])
        return self


async def test_the_same_search_is_made_once(tmp_path: Path) -> None:
    room = await Room(tmp_path).filled()
    first, again = await room.reader.search([SEARCH]), await room.reader.search([replace(SEARCH, vector=UP.copy())])
    assert first[0].entity_ids == again[0].entity_ids == ("a", "b")
    assert (room.store.calls, room.noted) == (1, ["searched", "kept"])


@pytest.mark.parametrize(
    "other",
    [
        replace(SEARCH, limit=3),
        replace(SEARCH, contexts=("x",)),
        replace(SEARCH, all_contexts=True),
        replace(SEARCH, vector=np.array([0.0, 1.0], dtype=np.float32)),
        replace(SEARCH, filter=Filter.model_validate({"must": [{"key": "n", "match": {"value": 1}}]})),
    ],
    ids=["limit", "contexts", "all contexts", "vector", "filter"],
)
async def test_another_search_is_another(other: Search, tmp_path: Path) -> None:
    room = await Room(tmp_path).filled()
    await room.reader.search([SEARCH])
    direct = await room.store.search([other])
    found = await room.reader.search([other])
    assert found[0].entity_ids == direct[0].entity_ids
    assert room.noted == ["searched", "searched"]


async def test_what_has_changed_is_searched_anew_and_nothing_is_used_while_that_is_not_known(tmp_path: Path) -> None:
    room = await Room(tmp_path).filled()
    await room.reader.search([SEARCH])
    await room.store.delete(["a"])
    room.versions.now = "2"
    assert (await room.reader.search([SEARCH]))[0].entity_ids == ("b", "c")
    room.versions.now = None
    await room.reader.search([SEARCH])
    assert (room.store.calls, room.noted) == (3, ["searched", "searched"])


async def test_collections_are_kept_apart_and_of_several_searches_only_the_unknown_are_made(tmp_path: Path) -> None:
    room = await Room(tmp_path).filled()
    await room.reader.search([SEARCH])
    await room.other.search([SEARCH])
    both = await room.reader.search([SEARCH, replace(SEARCH, limit=1)])
    assert [one.entity_ids for one in both] == [("a", "b"), ("a",)]
    assert room.noted == ["searched", "searched", "kept", "searched"]
    assert room.store.calls == 3


async def test_what_is_kept_is_bounded_and_all_else_is_the_stores(tmp_path: Path) -> None:
    room = await Room(tmp_path, most=10).filled()
    for _ in range(2):
        await room.reader.search([SEARCH])
    assert (room.store.calls, len(room.kept)) == (2, 0)
    assert await room.reader.dimension() == 2
    assert (await room.reader.fetch(["a"]))[0] is not None
    assert len((await room.reader.scroll(None, 10))[0]) == 3
    assert await room.reader.context_names() == ["x"]
