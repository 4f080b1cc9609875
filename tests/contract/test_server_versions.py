"""The server's versions: between any two calls of a write, every reader sees all of a transaction or nothing of it.

Readers look at the present commit and, as those do whose look began earlier, at the one before.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import AsyncQdrantClient, models

from quantum_db.commits.overlay import OverlayStore
from quantum_db.errors import CorruptData
from quantum_db.filters import Filter
from quantum_db.model import Context, Entity, Search
from quantum_db.stores.points import DIED, lay_out
from quantum_db.stores.qdrant import QdrantStore
from tests.contract.vector_stores import AtCommit, axis, with_store

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]
NAMES = ("a", "b", "c", "d")
State = Mapping[str, int]
"""Of each entity that is there the number of the write."""


class Watched:
    """A client that calls back before and after each of its calls."""

    def __init__(self, client: AsyncQdrantClient, look: Callable[[], Awaitable[None]]) -> None:
        self._client, self._look = client, look

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*arguments: Any, **named: Any) -> Any:
            await self._look()
            answer = await method(*arguments, **named)
            await self._look()
            return answer

        return call


def entity(name: str, n: int) -> Entity:
    """Writes differ in metadata and in their number of vectors."""
    contexts = tuple(Context(f"c{i}", 1.0 / (n % 3 + 1), axis(i, 0.05 * n)) for i in range(n % 3 + 1))
    return Entity(name, None, contexts, metadata={"n": n}, version=n)


class Bench:
    """One collection with its writer and two readers, and what each of them must see."""

    def __init__(self, kind: type[QdrantStore] = QdrantStore) -> None:
        self.client = AsyncQdrantClient(":memory:")
        watched: Any = Watched(self.client, self.look)
        self.writer = kind(watched, "things")
        self.now, self.before = AtCommit(), AtCommit()
        self.reader = QdrantStore(self.client, "things", self.now)
        self.late = QdrantStore(self.client, "things", self.before)
        self.model: dict[str, int] = {}
        self.allowed: list[State] = [{}]
        self.may: dict[str, set[int | None]] | None = None
        self.wrong: list[str] = []
        self.looks = 0
        self.number = 0

    async def transaction(self, upserts: Sequence[str], deletes: Sequence[str], *, raised_early: bool = False) -> None:
        self.number += 1
        before = dict(self.model)
        self.before.commit, self.may = self.now.commit, {name: {before.get(name)} for name in NAMES}
        if raised_early:
            self.now.commit = self.number
        await self.writer.apply(self.number, [entity(name, self.number) for name in upserts], deletes)
        self.model |= dict.fromkeys(upserts, self.number)
        for name in deletes:
            self.model.pop(name, None)
        self.now.commit = self.number
        self.allowed = [dict(self.model)]
        await self.look()

    async def plain(self, upserts: Sequence[str], deletes: Sequence[str]) -> None:
        """Each entity changes for itself; a late reader sees it as it was at its commit, or as it is."""
        self.number += 1
        for name in (*upserts, *deletes):
            old = dict(self.model)
            if name in upserts:
                self.model[name] = self.number
            else:
                self.model.pop(name, None)
            self.allowed = [old, dict(self.model)]
            if self.may is not None:
                self.may[name].add(self.model.get(name))
            if name in upserts:
                await self.writer.upsert([entity(name, self.number)])
            else:
                assert await self.writer.delete([name]) == [name in old]
            self.allowed = [dict(self.model)]
        await self.look()

    async def sweep(self) -> None:
        """A sweep comes when nobody looks at an earlier commit any more."""
        self.before.commit, self.may = self.now.commit, None
        await self.writer.sweep(self.now.commit)

    async def look(self) -> None:
        """Look in every way, and note what is neither as before nor as after."""
        self.looks += 1
        if not await self.client.collection_exists("things"):
            return
        for way in (self._searched, self._searched_whole, self._fetched, self._scrolled, self._versions):
            try:
                await self._judge(way)
            except CorruptData as error:
                self.wrong.append(error.detail)
        if await self.reader.count() not in {len(state) for state in self.allowed}:
            self.wrong.append(f"count: {await self.reader.count()}, where {self.allowed} is right")

    async def _judge(self, way: Callable[[QdrantStore], Awaitable[State]]) -> None:
        seen = await way(self.reader)
        if seen not in self.allowed:
            self.wrong.append(f"{way.__name__}: {seen}, where {self.allowed} is right")
        if self.may is not None:
            late = await way(self.late)
            if any(late.get(name) not in numbers for name, numbers in self.may.items()):
                self.wrong.append(f"{way.__name__} of a late reader: {late}, where {self.may} is right")

    async def _searched(self, reader: QdrantStore) -> State:
        """Every entity by a search for what only its present state fulfils."""
        numbers = [{"key": "n", "match": {"value": n}} for n in range(self.number + 1)]
        [found] = await reader.search([Search(axis(0), 50, filter=Filter.parse({"should": numbers}))])
        return {i: metadata["n"] for i, metadata in zip(found.entity_ids, found.metadata, strict=True)}

    async def _searched_whole(self, reader: QdrantStore) -> State:
        [found] = await reader.search([Search(axis(0), 50, all_contexts=True)])
        seen = {i: metadata["n"] for i, metadata in zip(found.entity_ids, found.metadata, strict=True)}
        rows = sum(n % 3 + 1 for n in seen.values())
        return seen if len(found.contexts) == rows else {"rows are missing": rows}

    async def _fetched(self, reader: QdrantStore) -> State:
        return {one.id: one.version for one in await reader.fetch(NAMES) if one is not None}

    async def _versions(self, reader: QdrantStore) -> State:
        versions = zip(NAMES, await reader.versions(NAMES), strict=True)
        return {name: version for name, version in versions if version is not None}

    async def _scrolled(self, reader: QdrantStore) -> State:
        seen: dict[str, int] = {}
        cursor = None
        while True:
            page, cursor = await reader.scroll(cursor, 2)
            for one in page:
                seen[f"{one.id} again" if one.id in seen else one.id] = one.version
            if cursor is None:
                return seen


some = st.sets(st.sampled_from(NAMES), max_size=3)
steps = st.lists(st.tuples(st.sampled_from(["transaction", "transaction", "plain", "sweep"]), some, some), max_size=8)


@with_store
@given(steps=steps)
async def test_every_look_between_two_calls_sees_all_or_nothing(
    steps: list[tuple[str, set[str], set[str]]],
) -> None:
    bench = Bench()
    for kind, upserts, deletes in steps:
        written, gone = sorted(upserts), sorted(deletes - upserts)
        if kind == "sweep":
            await bench.sweep()
        elif kind == "plain":
            await bench.plain(written, gone)
        else:
            await bench.transaction(written, gone)
    assert not bench.wrong
    names = await bench.reader.context_names() if bench.model else []
    assert names == [f"c{i}" for i in range(max((n % 3 + 1 for n in bench.model.values()), default=0))]
    await bench.sweep()
    if await bench.reader.dimension() is not None:
        points = await bench.client.count("things")
        assert points.count == sum(n % 3 + 1 for n in bench.model.values()), "nothing is left of older versions"
    await bench.client.close()


async def replaced(bench: Bench, *, raised_early: bool = False) -> Bench:
    """Replace a pair twice, together."""
    await bench.transaction(["a", "b"], [])
    await bench.transaction(["a", "b"], ["c"], raised_early=raised_early)
    assert bench.looks > 5
    await bench.client.close()
    return bench


async def test_nothing_is_wrong_with_the_replaced_pair() -> None:
    assert not (await replaced(Bench())).wrong


async def test_the_check_sees_a_commit_that_becomes_visible_too_early() -> None:
    assert (await replaced(Bench(), raised_early=True)).wrong


class EndsFirst(QdrantStore):
    """Ends the older versions before the commit at which the others are seen."""

    async def apply(self, commit: int, upserts: Sequence[Entity], deletes: Sequence[str]) -> None:
        if await self.dimension() is not None:
            await self._client.set_payload("things", {DIED: commit - 1}, models.Filter(), wait=True)
        await super().apply(commit, upserts, deletes)


class Unborn(QdrantStore):
    """Writes the versions without their birth."""

    async def _write(self, points: Sequence[Any]) -> None:
        for point in points:
            point.payload.pop("born", None)
        await super()._write(points)


class NeverEnds(QdrantStore):
    """Leaves the older versions alive."""

    async def apply(self, commit: int, upserts: Sequence[Entity], deletes: Sequence[str]) -> None:
        await self._put_versions(commit, upserts)


@pytest.mark.parametrize("planted", [EndsFirst, Unborn, NeverEnds])
async def test_the_check_sees_an_adapter_that_marks_wrongly(planted: type[QdrantStore]) -> None:
    assert (await replaced(Bench(planted))).wrong


async def test_a_repeated_apply_changes_nothing_for_anybody() -> None:
    bench = Bench()
    await bench.transaction(["a", "b"], [])
    await bench.transaction(["a"], ["b"])
    for _ in range(2):
        await bench.writer.apply(2, [entity("a", 2)], ["b"])
    assert not bench.wrong
    await bench.client.close()


async def test_an_overlay_lies_over_what_is_seen() -> None:
    bench = Bench()
    await bench.transaction(["a", "b"], [])
    bench.now.commit = 0  # as for a reader who has not been told yet
    overlay = OverlayStore(bench.reader, {"c": entity("c", 7), "a": None})
    assert [one and one.id for one in await overlay.fetch(NAMES)] == [None, None, "c", None]
    bench.now.commit = 1
    assert [one and one.id for one in await overlay.fetch(NAMES)] == [None, "b", "c", None]
    [found] = await overlay.search([Search(axis(0), 5)])
    assert sorted(found.entity_ids) == ["b", "c"]
    await bench.client.close()


async def test_a_scroll_over_entities_that_transactions_rewrite_gives_each_once() -> None:
    bench = Bench()
    names = [f"e{n}" for n in range(12)]
    await bench.writer.upsert([entity(name, 0) for name in names])
    seen: list[str] = []
    cursor, number = None, 0
    while True:
        page, cursor = await bench.reader.scroll(cursor, 3)
        seen += [one.id for one in page]
        if cursor is None:
            break
        number += 1
        await bench.writer.apply(number, [entity(name, number) for name in names], [])
        bench.now.commit = number
        await bench.writer.sweep(number)
    assert sorted(seen) == sorted(names)
    assert number >= 3
    await bench.client.close()


async def test_the_newest_commit_is_known_also_from_a_deletion() -> None:
    bench = Bench()
    assert await bench.writer.newest_commit() == 0
    await bench.plain(["a", "b"], [])
    assert await bench.writer.newest_commit() == 0, "plain writes leave no marks"
    await bench.transaction(["a"], [])
    await bench.transaction([], ["b"])
    assert await bench.writer.newest_commit() == 3
    await bench.client.close()


async def test_a_write_that_arrives_after_a_later_one_is_removed_by_the_next() -> None:
    bench = Bench()
    await bench.writer.upsert([entity("a", 1), entity("b", 1)])
    points = lay_out(entity("a", 1), "")
    late = [models.PointStruct(id=one.id, vector=one.vector.tolist(), payload=one.payload) for one in points]
    await bench.writer.apply(2, [entity("a", 2)], [])
    bench.now.commit = 2
    await bench.client.upsert("things", late)
    assert [one and one.version for one in await bench.reader.fetch(["a", "b"])] == [2, 1]
    assert await bench.reader.versions(["a", "b"]) == [2, 1]
    assert await bench.writer.delete(["a"]) == [True]
    assert await bench.reader.fetch(["a"]) == [None]
    assert (await bench.client.count("things")).count == len(lay_out(entity("b", 1), ""))
    await bench.client.close()
