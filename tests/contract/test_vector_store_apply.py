"""The contract of VectorStore for changes that belong together: all are seen or none, and versions are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from quantum_db.errors import InvalidRequest, Unavailable
from quantum_db.model import Context, Entity, Search
from quantum_db.stores.point_store import PointStore
from quantum_db.stores.points import Point, lay_out
from quantum_db.stores.qdrant_edge import QdrantEdgeStore
from tests.contract.vector_stores import AtCommit, D, Shared, assert_same, axis, shared, store

__all__ = ["shared", "store"]  # fixtures

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]
PAIR = ("left", "right")
ROUNDS = 30


@pytest.fixture
async def edge(tmp_path: Path) -> QdrantEdgeStore:
    return QdrantEdgeStore(tmp_path / "edge")


def of_round(name: str, n: int) -> Entity:
    """Rounds differ in version, metadata and number of vectors, so that a replacement writes and erases."""
    contexts = tuple(Context(f"c{i}", 1.0 / (n % 3 + 1), axis(i, 0.1 * n)) for i in range(n % 3 + 1))
    return Entity(name, None, contexts, metadata={"n": n}, version=n)


async def parts_seen(shared: Shared) -> tuple[set[tuple[object, ...]], int]:
    """Change the pair together, round after round, while others look; return what was seen of parts, and how much."""
    parts: set[tuple[object, ...]] = set()
    looks = 0
    done = asyncio.Event()

    async def look() -> None:
        nonlocal looks
        while not done.is_set():
            for pair in [await search_pair(shared.reader), await fetch_pair(shared.reader)]:
                looks += 1
                if len(set(pair)) > 1:
                    parts.add(pair)
            await asyncio.sleep(0)

    watchers = [asyncio.create_task(look()) for _ in range(3)]
    for n in range(1, ROUNDS):
        if n % 5 == 0:
            await shared.apply(n, [], PAIR)
        else:
            await shared.apply(n, [of_round(name, n) for name in PAIR], [])
        await asyncio.sleep(0)
    done.set()
    await asyncio.gather(*watchers)
    return parts, looks


async def search_pair(store: PointStore) -> tuple[object, ...]:
    [found] = await store.search([Search(axis(0), 5, all_contexts=True)])
    by_id = {name: metadata["n"] for name, metadata in zip(found.entity_ids, found.metadata, strict=True)}
    return tuple(by_id.get(name) for name in PAIR)


async def fetch_pair(store: PointStore) -> tuple[object, ...]:
    return tuple(None if entity is None else entity.metadata["n"] for entity in await store.fetch(PAIR))


async def test_nobody_sees_a_part_of_what_is_applied_together(shared: Shared) -> None:
    parts, looks = await parts_seen(shared)
    assert not parts
    assert looks > ROUNDS


class WritesOneByOne(QdrantEdgeStore):
    """Lets others in between its writes, as an adapter does that awaits a server."""

    async def _write(self, points: Sequence[Point]) -> None:
        for name in PAIR:
            await super()._write([point for point in points if point.payload["entity"] == name])
            await asyncio.sleep(0)


async def test_the_check_sees_an_adapter_that_lets_others_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PointStore, "check_whole", lambda self: None)
    planted = WritesOneByOne(tmp_path / "planted")
    parts, _ = await parts_seen(Shared(planted, planted, AtCommit()))
    assert parts
    await planted.close()


async def test_apply_replaces_writes_and_deletes_and_may_be_repeated(shared: Shared) -> None:
    await shared.writer.upsert([of_round("left", 2), of_round("old", 1)])
    for _ in range(2):
        await shared.apply(9, [of_round("left", 4), of_round("new", 3)], ["old", "never"])
        for looking in (shared.reader, shared.writer):
            left, new, old, never = await looking.fetch(["left", "new", "old", "never"])
            assert_same(left, of_round("left", 4))
            assert_same(new, of_round("new", 3))
            assert (old, never) == (None, None)
            assert await looking.count() == 2
            assert await looking.versions(["new", "never", "left", "old"]) == [3, None, 4, None]
            assert await looking.context_names() == ["c0", "c1"]
            assert sorted(entity.id for entity in (await looking.scroll(None, 9))[0]) == ["left", "new"]


async def test_apply_on_an_empty_store(shared: Shared) -> None:
    await shared.apply(1, [], ["never"])
    assert await shared.reader.dimension() is None
    await shared.apply(2, [of_round("left", 1)], ["never"])
    assert await shared.reader.dimension() == D


async def test_what_is_wrong_is_refused_before_anything_is_written(shared: Shared) -> None:
    await shared.writer.upsert([of_round("left", 1)])
    wrong = Entity("right", axis(0)[:3])
    unstorable = Entity("right", axis(0), metadata={"x": float("nan")})
    for entity in (wrong, unstorable):
        with pytest.raises(InvalidRequest):
            await shared.apply(2, [of_round("left", 2), entity], [])
    shared.at.commit = 2
    assert await fetch_pair(shared.reader) == (1, None)


async def test_what_failed_midway_is_hidden_until_it_is_whole(
    edge: QdrantEdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await edge.apply(9, [of_round(name, 2) for name in PAIR], [])
    with monkeypatch.context() as broken:

        async def full(point_ids: Sequence[str]) -> None:
            raise Unavailable("no space left")

        broken.setattr(edge, "_erase", full)
        with pytest.raises(Unavailable, match="no space left"):
            await edge.apply(9, [of_round("left", 3)], ["right"])
        for call in (
            edge.fetch(PAIR),
            edge.search([Search(axis(0), 5)]),
            edge.count(),
            edge.upsert([of_round("x", 1)]),
        ):
            with pytest.raises(Unavailable, match="in part") as held_up:
                await call
            assert held_up.value.retry_after_s == 1.0
        with pytest.raises(Unavailable):
            await edge.apply(9, [of_round("left", 3)], ["right"])
    await edge.apply(9, [of_round("other", 1)], [])
    with pytest.raises(Unavailable, match="in part"):
        await edge.fetch(PAIR)
    await edge.apply(9, [of_round("left", 3)], ["right"])
    assert await fetch_pair(edge) == (3, None)
    await edge.close()


async def test_what_was_made_ready_for_a_write_that_failed_is_not_written_later(
    edge: QdrantEdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await edge.apply(1, [of_round("left", 2)], [])
    with monkeypatch.context() as broken:

        async def full(points: Sequence[Point]) -> None:
            raise Unavailable("no space left")

        broken.setattr(edge, "_write", full)
        with pytest.raises(Unavailable, match="no space left"):
            await edge.apply(2, [of_round("left", 3)], [])
    edge._torn.clear()
    await edge.upsert([of_round("left", 4)])
    assert await edge.count() == 1
    assert_same((await edge.fetch(["left"]))[0], of_round("left", 4))
    await edge.close()


async def test_what_was_killed_midway_is_completed_by_the_same_call(tmp_path: Path) -> None:
    """The first portion of a large change is in the log, the second is not."""
    folder = tmp_path / "edge"
    first = QdrantEdgeStore(folder)
    await first.upsert([of_round(name, 2) for name in PAIR])
    await first._write(lay_out(of_round("left", 3), ""))
    await first.close()
    again = QdrantEdgeStore(folder)
    await again.apply(9, [of_round("left", 3)], ["right"])
    assert await fetch_pair(again) == (3, None)
    await again.close()


async def test_versions_are_kept_and_cost_no_vectors(store: PointStore) -> None:
    assert await store.versions(["a"]) == [None]
    await store.upsert([Entity("a", axis(0), version=7), Entity("b", axis(1))])
    assert await store.versions(["b", "a", "c", "a"]) == [0, 7, None, 7]
    (entity,) = await store.fetch(["a"])
    assert entity is not None
    assert entity.version == 7


async def test_records_from_before_versions_are_at_version_0(edge: QdrantEdgeStore) -> None:
    (point,) = lay_out(Entity("a", axis(0), version=9), "")
    await edge._create(D)
    point.payload["record"] = point.payload["record"].removesuffix(",9]") + "]"
    await edge._write([point])
    assert await edge.versions(["a"]) == [0]
    (entity,) = await edge.fetch(["a"])
    assert entity is not None
    assert entity.version == 0
    await edge.close()
