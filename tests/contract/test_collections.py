"""Collections with real journals and real embedded stores: what is created is there again, what is dropped is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from quantum_db.clock import SystemClock
from quantum_db.collection_keeper import CollectionKeeper
from quantum_db.collection_table import CollectionTable
from quantum_db.errors import Conflict, Fenced, InvalidRequest, NoSuchCollection, TooMany, Unavailable
from quantum_db.journals.keeper import Keeper
from quantum_db.journals.open import open_journal
from quantum_db.model import Entity
from quantum_db.scope import DEFAULT_SCOPE, Scope
from quantum_db.stores.places import EmbeddedPlace, OpenStores
from tests.contract.journals import Place

PAPERS = Scope("a", "papers")


class World:
    """What a process has of the collections, and what it is told of the rest."""

    def __init__(self, keeper: Keeper[CollectionTable], folder: Path, most_open: int) -> None:
        self.busy: set[str] = set()
        self.forgotten: list[str] = []
        self.failing = False
        self.stores = OpenStores(EmbeddedPlace(str(folder)), most_open)
        self.folder = folder
        self.collections = CollectionKeeper(
            keeper,
            self.stores,
            most=3,
            clock=SystemClock(),
            is_busy=self.busy.__contains__,
            forget_groups=self.forget,
        )

    async def forget(self, key: str) -> None:
        if self.failing:
            raise Unavailable("the registry is away")
        self.forgotten.append(key)

    async def write(self, key: str, entity_id: str, dimension: int = 2) -> None:
        vector = np.eye(dimension, dtype=np.float32)[0]
        await self.collections.of(key).upsert([Entity(entity_id, vector, (), 1.0, {}, version=1)])

    async def has(self, key: str, entity_id: str) -> bool:
        return (await self.collections.of(key).fetch([entity_id]))[0] is not None

    def folders(self) -> list[str]:
        return sorted(one.name for one in (self.folder / "collections").iterdir())


@asynccontextmanager
async def world(place: Place, folder: Path, most_open: int = 8) -> AsyncIterator[World]:
    def fenced(error: Fenced) -> None:
        raise AssertionError(error)

    keeper = Keeper(CollectionTable(), await asyncio.to_thread(open_journal, place.url), "collections", fenced)
    await keeper.load()
    made = World(keeper, folder, most_open)
    try:
        yield made
    finally:
        await made.collections.close()
        await made.stores.close()


async def until_erased(one: World) -> None:
    async with asyncio.timeout(20.0):
        while one.collections.table.going:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.02)


async def test_collections_and_what_is_in_them_are_there_again(place: Place, tmp_path: Path) -> None:
    async with world(place, tmp_path) as one:
        made = await one.collections.create(PAPERS, 3, "cosine")
        assert await one.collections.create(PAPERS, 3, "cosine") == made
        default = await one.collections.resolve(Scope("b"))
        assert await one.collections.resolve(Scope("b")) == default
        with pytest.raises(NoSuchCollection):
            await one.collections.resolve(Scope("b", "papers"))
        await one.write(made.key, "e", 3)
        await one.write(default.key, "e")
        await one.write("", "e", 5)
        with pytest.raises(InvalidRequest, match="3"):
            await one.write(made.key, "f", 2)
    async with world(place, tmp_path) as other:
        assert await other.collections.resolve(PAPERS) == made
        assert await other.collections.describe(PAPERS) == (made, 3, 1)
        assert (await other.collections.describe(DEFAULT_SCOPE))[1:] == (5, 1)
        assert await other.collections.page("a", "", 9) == ([made], None)
        assert [await other.has(key, "e") for key in (made.key, default.key, "")] == [True, True, True]


async def test_a_declared_dimension_holds_before_the_first_write(place: Place, tmp_path: Path) -> None:
    async with world(place, tmp_path) as one:
        made = await one.collections.create(PAPERS, 3, "cosine")
        assert (await one.collections.describe(PAPERS))[1:] == (3, 0)
        with pytest.raises(InvalidRequest):
            await one.write(made.key, "e", 2)


async def test_a_dropped_collection_is_gone_and_its_name_is_free(place: Place, tmp_path: Path) -> None:
    async with world(place, tmp_path) as one:
        made = await one.collections.create(PAPERS, None, "cosine")
        await one.write(made.key, "e")
        await one.collections.drop(PAPERS)
        with pytest.raises(NoSuchCollection):
            await one.collections.drop(PAPERS)
        again = await one.collections.create(PAPERS, None, "cosine")
        assert again.key != made.key
        assert not await one.has(again.key, "e")
        await until_erased(one)
        assert one.forgotten == [made.key]
        await one.write(again.key, "e")
        assert one.folders() == ["a~papers~2"]
        with pytest.raises(NoSuchCollection):
            one.collections.of(made.key)
        for scope in (DEFAULT_SCOPE, Scope("a")):
            await one.collections.resolve(scope)
            with pytest.raises(Conflict, match="always there"):
                await one.collections.drop(scope)


async def test_a_drop_waits_for_writes_and_goes_on_after_a_restart(place: Place, tmp_path: Path) -> None:
    async with world(place, tmp_path) as one:
        made = await one.collections.create(PAPERS, None, "cosine")
        await one.write(made.key, "e")
        one.busy.add(made.key)
        await one.collections.drop(PAPERS)
        await asyncio.sleep(0.5)
        assert await one.has(made.key, "e"), "a transaction that is written down can still be applied"
    async with world(place, tmp_path) as other:
        other.failing = True
        await asyncio.sleep(0.5)
        assert other.folders() == ["a~papers~1"], "its groups come first"
        other.failing = False
        await until_erased(other)
        assert other.folders() == []
    async with world(place, tmp_path) as third:
        assert third.forgotten == []


async def test_what_a_crash_left_under_a_key_is_not_found_by_the_next_collection(place: Place, tmp_path: Path) -> None:
    async with world(place, tmp_path) as one:
        await one.stores.of("a/papers/1").prepare(7)
        await one.write("", "e")
    async with world(place, tmp_path) as other:
        made = await other.collections.create(PAPERS, 2, "cosine")
        assert made.key == "a/papers/1"
        assert (await other.collections.describe(PAPERS))[1:] == (2, 0)


async def test_a_tenant_has_only_so_many(place: Place, tmp_path: Path) -> None:
    async with world(place, tmp_path) as one:
        for name in ("x", "y", "z"):
            await one.collections.create(Scope("a", name), None, "cosine")
        with pytest.raises(TooMany, match="3 collections"):
            await one.collections.create(Scope("a", "one-more"), None, "cosine")
        await one.collections.create(Scope("b", "x"), None, "cosine")
        await one.collections.drop(Scope("a", "y"))
        await one.collections.create(Scope("a", "one-more"), None, "cosine")


async def test_only_so_many_stores_are_open_and_all_are_found(place: Place, tmp_path: Path) -> None:
    async with world(place, tmp_path, most_open=2) as one:
        made = [await one.collections.create(Scope("a", name), None, "cosine") for name in ("x", "y", "z")]
        for collection in made:
            await one.write(collection.key, "e")
            await one.stores.trim()
            assert len(one.stores.opened()) <= 2
        assert [await one.has(collection.key, "e") for collection in made] == [True, True, True]
        await one.stores.trim()
        assert len(one.stores.opened()) == 2


async def test_a_store_that_is_written_in_part_stays_open(place: Place, tmp_path: Path) -> None:
    async with world(place, tmp_path, most_open=1) as one:
        made = [await one.collections.create(Scope("a", name), 2, "cosine") for name in ("x", "y")]
        half = one.stores.of(made[0].key)
        half._torn.add(frozenset({"e"}))
        one.stores.of(made[1].key)
        await one.stores.trim()
        assert half in one.stores.opened(), "closed and opened again, it would let readers in"
        half._torn.clear()
        one.stores.of(made[1].key)
        await one.stores.trim()
        assert len(one.stores.opened()) == 1
