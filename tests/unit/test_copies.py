"""Copies of embedded stores: never older than an acknowledged write, and never with a part of a transaction."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from quantum_db.clock import SystemClock
from quantum_db.commits.changed_ids import ChangedIds
from quantum_db.commits.changes import Changes, ChangeTeller, FollowedChanges, Place
from quantum_db.errors import NoSuchCollection, Unavailable
from quantum_db.model import Candidates, Entity, Search
from quantum_db.stores import copies as module
from quantum_db.stores.copies import CaughtUp, Copied, CopiedReader, CopiedStores, Copies, ReadFrom
from quantum_db.stores.copying import copy_folder, size_of
from quantum_db.stores.qdrant_edge import QdrantEdgeStore

CLOCK = SystemClock()
LEASE_S = 0.3
LIMIT_S = 60.0
LARGE = 1 << 30
PAIR = ("left", "right")
UP = np.array([1.0, 0.0], dtype=np.float32)
SEARCH = Search(UP, 2, (), None, all_contexts=False)


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_S", 0.0)
    monkeypatch.setattr(module, "WORTH", 2)
    monkeypatch.setattr(module, "COPYING_SHARE", 1e9)
    monkeypatch.setattr(module, "FOLLOWING_SHARE", 1e9)


def pair(number: int) -> list[Entity]:
    return [Entity(one, UP, (), metadata={"number": number}, version=number) for one in PAIR]


def numbers(found: Candidates) -> set[int]:
    return {int(metadata["number"]) for metadata in found.metadata}


class Hasty(ChangeTeller):
    """A planted fault: a write does not wait for those who have copies."""

    async def changed(self, collection: str) -> None:
        asyncio.get_running_loop().create_task(super().changed(collection))
        await asyncio.sleep(0)


class Careless(ChangeTeller):
    """A planted fault: what is under way counts as done."""

    def __init__(self, teller: str, clock: SystemClock, *, lease_s: float) -> None:
        super().__init__(teller, clock, lease_s=lease_s)

        class Ids(ChangedIds):
            def mark(self, collection: str) -> int:
                log = self._logs.get(collection)
                return 0 if log is None else log.newest

        self.ids = Ids()


class World:
    """A store that is written by transactions of a pair, and readers with copies of it."""

    def __init__(self, kind: type[ChangeTeller], folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.teller = kind("teller", CLOCK, lease_s=LEASE_S)
        self.source = CopiedStores(self.teller)
        self.store = QdrantEdgeStore(folder / "store")
        self.acknowledged = 0
        self.reads: list[ReadFrom] = []
        self.faults: list[str] = []
        self.readers = [self.reader(folder / "copies" / name) for name in ("r0", "r1")]

    def reader(self, folder: Path) -> tuple[FollowedChanges, Copies, CopiedReader]:
        async def asked(follower: str, known: Place | None, hold_s: float) -> Changes:
            await self.pause()
            found = await self.teller.follow(follower, known, min(hold_s, 0.02))
            await self.pause()
            return found

        changes = FollowedChanges(folder.name, asked, CLOCK)
        copies = Copies(folder, LARGE, changes, self, CLOCK)
        return changes, copies, CopiedReader(self.store, copies, "", self.reads.append)

    async def copy(self, collection: str, folder: str, most_bytes: int) -> Copied | None:
        await self.pause()
        copied = await self.source.copy(collection, self.store, folder, most_bytes)
        await self.pause()
        return copied

    async def changes(self, collection: str, place: Place, mark: int, most: int) -> CaughtUp | None:
        await self.pause()
        if self.rng.random() < 0.05:
            raise Unavailable("the question was lost")
        found = await self.source.changes(collection, self.store, place, mark, most)
        await self.pause()
        return found

    async def pause(self) -> None:
        await asyncio.sleep(self.rng.choice([0.0, 0.0, 0.001, 0.004]))

    async def write(self, number: int) -> None:
        with self.teller.changing("", PAIR):
            await self.pause()
            await self.store.apply(number, pair(number), ())
            await self.pause()
        await self.teller.changed("")
        self.acknowledged = max(self.acknowledged, number)

    async def read(self, reader: CopiedReader) -> None:
        least = self.acknowledged
        (found,) = await reader.search([SEARCH])
        if len(numbers(found)) != 1:
            self.faults.append(f"a part of a transaction: {numbers(found)}")
        elif min(numbers(found)) < least:
            self.faults.append(f"{numbers(found)} after {least} was acknowledged")

    async def run(self, writes: int) -> None:
        await self.store.apply(0, pair(0), ())

        async def read_on(reader: CopiedReader) -> None:
            while True:
                await self.read(reader)
                await self.pause()

        for changes, _, _ in self.readers:
            changes.start()
        reading = [asyncio.create_task(read_on(reader)) for _, _, reader in self.readers for _ in range(2)]
        try:
            async with asyncio.timeout(LIMIT_S):
                for number in range(1, writes + 1):
                    await self.write(number)
                    if number % 4 == 0:
                        await asyncio.sleep(0.05)
        finally:
            for one in reading:
                one.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
            for changes, copies, _ in self.readers:
                await changes.stop()
                await copies.close()
            await self.store.close()


async def test_a_copy_is_never_older_than_an_acknowledged_write_and_never_torn(tmp_path: Path) -> None:
    world = World(ChangeTeller, tmp_path, 0)
    await world.run(40)
    assert world.faults == []
    assert world.reads.count("copy") > 20
    assert world.reads.count("original") > 0
    assert list((tmp_path / "copies").iterdir()) == []


@pytest.mark.parametrize("plant", [Hasty, Careless])
async def test_the_check_sees_planted_faults(plant: type[ChangeTeller], tmp_path: Path) -> None:
    for seed in range(10):
        world = World(plant, tmp_path / str(seed), seed)
        await world.run(40)
        if world.faults:
            return
    pytest.fail(f"{plant.__name__} was not found out")


class Here:
    """All changes are known at once; the original is counted, and may refuse."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.teller = ChangeTeller("t", CLOCK, lease_s=0.0)
        self.stores: dict[str, QdrantEdgeStore] = {}
        self.source = CopiedStores(self.teller)
        self.calls: list[str] = []
        self.most = LARGE

    def place(self, collection: str) -> Place:
        return self.teller.place(collection)

    async def filled(self, collection: str, entities: int = 3) -> QdrantEdgeStore:
        store = self.stores[collection] = QdrantEdgeStore(self.folder / f"store-{collection}")
        await store.upsert([Entity(f"e{i}", UP, ()) for i in range(entities)])
        return store

    async def copy(self, collection: str, folder: str, most_bytes: int) -> Copied | None:
        self.calls.append("copy")
        return await self.source.copy(collection, self.stores[collection], folder, min(most_bytes, self.most))

    async def changes(self, collection: str, place: Place, mark: int, most: int) -> CaughtUp | None:
        self.calls.append("changes")
        if collection not in self.stores:
            raise NoSuchCollection("it has been deleted")
        return await self.source.changes(collection, self.stores[collection], place, mark, most)

    async def write(self, collection: str, entities: Sequence[Entity], deletes: Sequence[str] = ()) -> None:
        with self.teller.changing(collection, [*(one.id for one in entities), *deletes]):
            await self.stores[collection].apply(1, entities, deletes)
        await self.teller.changed(collection)

    async def got(self, copies: Copies, collection: str) -> QdrantEdgeStore | None:
        for _ in range(200):
            found = copies.current(collection)
            if found is not None:
                return found
            await asyncio.sleep(0.005)
        return None


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def copies_of(here: Here, most: int = LARGE, name: str = "r") -> Copies:
    return Copies(here.folder / "copies" / name, most, here, here, CLOCK)


async def test_a_copy_follows_writes_and_deletions_without_being_made_anew(here: Here) -> None:
    await here.filled("a")
    copies = copies_of(here)
    assert await here.got(copies, "a") is not None
    await here.write("a", [Entity("new", UP, (), metadata={"x": 1})], ["e0"])
    assert copies.current("a") is None, "it is behind"
    copy = await here.got(copies, "a")
    assert copy is not None
    found = await copy.fetch(["new", "e0", "e1"])
    assert [one is not None for one in found] == [True, False, True]
    assert here.calls == ["copy", "changes"]
    await copies.close()


async def test_a_copy_that_is_too_far_behind_is_made_anew(here: Here) -> None:
    await here.filled("a")
    copies = copies_of(here)
    await here.got(copies, "a")
    many = [Entity(f"n{i}", UP, ()) for i in range(module.MOST_CHANGES + 1)]
    await here.write("a", many)
    copy = await here.got(copies, "a")
    assert copy is not None
    assert await copy.count() == len(many) + 3
    assert here.calls == ["copy", "changes", "copy"]
    await copies.close()


async def test_an_index_that_was_built_is_copied(here: Here) -> None:
    await here.filled("a")
    copies = copies_of(here)
    await here.got(copies, "a")
    here.teller.ids.renew("a")
    await here.teller.changed("a")
    assert await here.got(copies, "a") is not None
    assert here.calls == ["copy", "changes", "copy"]
    await copies.close()


async def test_what_is_too_large_is_not_copied_and_not_asked_for_again_at_once(here: Here) -> None:
    await here.filled("a")
    copies = copies_of(here)
    here.most = 10
    assert await here.got(copies, "a") is None
    assert here.calls == ["copy"]
    await copies.close()


async def test_the_copy_that_was_not_used_for_longest_makes_room(here: Here) -> None:
    for name in "abc":
        await here.filled(name)
    first = copies_of(here, name="first")
    await here.got(first, "a")
    most = first.bytes * 5 // 2
    await first.close()
    copies = copies_of(here, most)
    for name in "abc":
        await here.got(copies, name)
    assert len(copies) == 2
    assert copies.current("a") is None
    assert 0 < copies.bytes <= most
    await copies.close()


async def test_a_copy_that_does_not_answer_is_given_up_and_the_original_answers(here: Here) -> None:
    store = await here.filled("a")
    copies = copies_of(here)
    copy = await here.got(copies, "a")
    assert copy is not None
    reads: list[ReadFrom] = []
    reader = CopiedReader(store, copies, "a", reads.append)
    copy.discard()
    assert len((await reader.search([SEARCH]))[0].entity_ids) == 2
    assert (reads, len(copies)) == (["original"], 0)
    assert (await reader.fetch(["e0"]))[0] is not None
    assert await reader.context_names() == []
    assert await reader.dimension() == 2
    assert len((await reader.scroll(None, 10))[0]) == 3
    await copies.close()


async def test_the_copy_of_a_collection_that_was_deleted_goes(here: Here) -> None:
    await here.filled("a")
    copies = copies_of(here)
    await here.got(copies, "a")
    del here.stores["a"]
    await here.teller.changed("a")
    here.teller.ids.forget("a")
    copies.current("a")
    for _ in range(100):
        await asyncio.sleep(0.005)
    assert len(copies) == 0
    await copies.close()


async def test_the_copies_of_readers_that_were_killed_are_removed(here: Here) -> None:
    await here.filled("a")
    dead, alive = copies_of(here, name="dead"), copies_of(here, name="alive")
    await here.got(dead, "a")
    await here.got(alive, "a")
    os.close(dead._lock)  # as when its process ends
    third = copies_of(here, name="third")
    assert {one.name for one in (here.folder / "copies").iterdir()} == {"alive", "third"}
    with pytest.raises(Unavailable, match="a folder has one owner"):
        copies_of(here, name="third")
    await alive.close()
    await third.close()


def test_changes_that_were_under_way_at_a_mark_come_after_it() -> None:
    ids = ChangedIds()
    with ids.changing("c", ["a"]):
        with ids.changing("c", ["b"]):
            during = ids.mark("c")
        assert ids.mark("c") == during
    assert sorted(ids.since("c", during) or []) == ["a", "b"]
    assert ids.since("c", ids.mark("c")) == []
    assert ids.since("another", 0) == []


def test_who_is_further_behind_than_is_known_copies_all() -> None:
    ids = ChangedIds(most=3)
    start = ids.mark("c")
    for name in "abc":
        with ids.changing("c", [name]):
            pass
    assert sorted(ids.since("c", start) or []) == ["a", "b", "c"]
    with ids.changing("c", ["d"]):
        pass
    assert ids.since("c", start) is None
    assert sorted(ids.since("c", start + 1) or []) == ["b", "c", "d"]


def test_sparse_files_stay_sparse(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    data = np.random.default_rng(0).bytes(70_000)
    with (tmp_path / "a" / "b" / "holes").open("wb") as file:
        file.truncate(50_000_000)
        file.seek(10_000_000)
        file.write(data)
    (tmp_path / "a" / "empty").touch()
    copied = copy_folder(tmp_path / "a", tmp_path / "c")
    assert len(data) <= copied < 1_000_000
    assert size_of(tmp_path / "c") < 1_000_000
    content = (tmp_path / "c" / "b" / "holes").read_bytes()
    assert content == (tmp_path / "a" / "b" / "holes").read_bytes()
    assert (tmp_path / "c" / "empty").read_bytes() == b""
    with pytest.raises(OSError, match="exist"):
        copy_folder(tmp_path / "a", tmp_path / "c")
