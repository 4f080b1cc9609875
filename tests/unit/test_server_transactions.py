"""The coordinator over the server's adapter, with readers of their own: acknowledged means seen by all, whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient

from quantum_db.clock import SystemClock
from quantum_db.commits.coordinator import CommitPolicy, Coordinator
from quantum_db.commits.operations import Delete, Deletes, Insert, Transaction, Update, Upserts
from quantum_db.commits.showing import FollowedSnapshots, ShownCommits
from quantum_db.commits.visibility import KEEP_S
from quantum_db.errors import Conflict, CorruptData, Fenced, Unavailable
from quantum_db.model import Entity, Search
from quantum_db.stores.places import OneStore
from quantum_db.stores.qdrant import QdrantStore
from tests.unit.fakes import FakeGroups, FakeJournal, FakeStates

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]
VECTOR = np.array([1.0, 0.0], dtype=np.float32)
PAIR = ("a", "b")
LEASE_S = 0.3


class Server:
    """A collection that outlives its coordinators."""

    def __init__(self) -> None:
        self.client = AsyncQdrantClient(":memory:")
        self.journal = FakeJournal()


class Life:
    """A coordinator, and readers that look by themselves."""

    def __init__(
        self, server: Server, store: QdrantStore | None = None, wait_s: float = 10.0, keep_s: float = KEEP_S
    ) -> None:
        self.store = store or QdrantStore(server.client, "things")

        def fail(error: Fenced) -> None:
            raise AssertionError(error)

        self.writes = Coordinator(
            stores=OneStore(self.store),
            groups=FakeGroups().commits,
            states=FakeStates(),
            open_journal=lambda: server.journal,
            clock=SystemClock(),
            rng=np.random.default_rng(0),
            on_fenced=fail,
            shown=ShownCommits(SystemClock(), lease_s=LEASE_S, keep_s=keep_s),
            policy=CommitPolicy(wait_s=wait_s),
        )
        self.snapshots = [FollowedSnapshots(f"r{n}", self.writes.follow, SystemClock()) for n in range(3)]
        self.readers = [QdrantStore(server.client, "things", snapshots) for snapshots in self.snapshots]
        for snapshots in self.snapshots:
            snapshots.start()

    async def end(self) -> None:
        for snapshots in self.snapshots:
            await snapshots.stop()
        await self.writes.close()


def pair(n: int) -> Transaction:
    return Transaction(tuple(Insert(Entity(name, VECTOR, metadata={"n": n})) for name in PAIR))


async def looked(reader: QdrantStore) -> list[int | None]:
    """Return the numbers of the pair, as one search sees them."""
    [found] = await reader.search([Search(VECTOR, 5)])
    seen = {i: metadata["n"] for i, metadata in zip(found.entity_ids, found.metadata, strict=True)}
    return [seen.get(name) for name in PAIR]


async def test_readers_see_whole_transactions_and_each_one_that_was_acknowledged() -> None:
    life = Life(Server())
    halves: list[list[int | None]] = []
    looks = 0

    async def look(reader: QdrantStore) -> None:
        nonlocal looks
        while True:
            seen = await looked(reader)
            looks += 1
            if seen[0] != seen[1]:
                halves.append(seen)
            await asyncio.sleep(0)

    await life.writes.do(pair(0))
    watchers = [asyncio.create_task(look(reader)) for reader in life.readers]
    for n in range(1, 15):
        others = [
            life.writes.do(Transaction((Insert(Entity(f"other-{k}", -VECTOR, metadata={"n": n})),))) for k in range(3)
        ]
        await asyncio.gather(life.writes.do(pair(n)), *others)
        assert [await looked(reader) for reader in life.readers] == [[n, n]] * 3
    for watcher in watchers:
        watcher.cancel()
    assert not halves
    assert looks > 30
    await life.end()


async def test_plain_writes_and_transactions_take_turns() -> None:
    life = Life(Server())
    await life.writes.do(Upserts((Entity("a", VECTOR, metadata={"n": 1}),)))
    await life.writes.do(
        Transaction((Update("a", {"metadata": {"n": 2}}), Insert(Entity("b", VECTOR, metadata={"n": 2}))))
    )
    written = await life.writes.do(Upserts((Entity("a", VECTOR, metadata={"n": 3}),)))
    for reader in life.readers:
        assert await looked(reader) == [3, 2]
        assert await reader.versions(["a"]) == [written["commit"]]
    with pytest.raises(Conflict):
        await life.writes.do(Transaction((Update("a", {"metadata": {"n": 4}}, expected_version=1),)))
    await life.writes.do(Transaction((Delete("a"),)))
    assert (await life.writes.do(Deletes(("a", "b"))))["existed"] == [False, True]
    assert [await reader.count() for reader in life.readers] == [0, 0, 0]
    await life.end()


class Broken(QdrantStore):
    """Writes the new versions and no more."""

    async def apply(self, commit: int, upserts: Sequence[Entity], deletes: Sequence[str]) -> None:
        await self._put_versions(commit, upserts)
        raise Unavailable("the server has gone")


async def test_what_was_left_open_is_seen_by_nobody_until_it_is_whole_and_by_all_afterwards() -> None:
    server = Server()
    life = Life(server)
    await life.writes.do(pair(1))
    await life.end()
    life = Life(server, Broken(server.client, "things"), wait_s=0.2)
    with pytest.raises(Unavailable, match="was not done within"):
        await life.writes.do(pair(2))
    assert [await looked(reader) for reader in life.readers] == [[1, 1]] * 3
    await asyncio.sleep(0.25)
    with pytest.raises(Unavailable, match="all later ones wait for it; nothing was done"):
        await life.writes.do(Transaction((Insert(Entity("c", VECTOR)),)))
    await life.writes.do(Upserts((Entity("plain", -VECTOR, metadata={"n": 0}),)))
    await life.end()
    life = Life(server)
    assert [await looked(reader) for reader in life.readers] == [[2, 2]] * 3
    await life.writes.do(pair(3))
    assert [await looked(reader) for reader in life.readers] == [[3, 3]] * 3
    await life.end()


async def test_a_journal_of_another_store_is_refused() -> None:
    server = Server()
    life = Life(server)
    await life.writes.do(Transaction((Insert(Entity("a", VECTOR)),)))
    await life.end()
    server.journal = FakeJournal()
    life = Life(server)
    with pytest.raises(CorruptData, match="start with the journal that belongs to this store"):
        await life.writes.do(pair(1))
    await life.end()


async def test_old_versions_are_dropped_when_nobody_can_look_at_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantum_db.commits.coordinator.DROP_PAUSE_S", 0.02)
    server = Server()
    life = Life(server, keep_s=0.1)
    for n in range(4):
        await life.writes.do(pair(n))
    async with asyncio.timeout(10.0):
        while (await server.client.count("things")).count > len(PAIR):  # noqa: ASYNC110 - nothing tells of this
            await asyncio.sleep(0.02)
    assert [await looked(reader) for reader in life.readers] == [[3, 3]] * 3
    await life.end()
