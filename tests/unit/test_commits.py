"""The parts around the commit protocol: claims, ledger, the coordinator, overlays and buffers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.client.buffer import TransactionBuffer
from quantum_db.client.loop import LoopThread
from quantum_db.client.transaction import TransactionBlock
from quantum_db.commits.claims import Claims
from quantum_db.commits.coordinator import CommitPolicy, Coordinator
from quantum_db.commits.ledger import CommitLedger, Intent, KeyRetention
from quantum_db.commits.operations import CreateGroup, Insert, Transaction, Upserts
from quantum_db.commits.overlay import OverlayStore
from quantum_db.commits.records import entity_of, entity_record
from quantum_db.errors import Conflict, CorruptData, NotFound, Unavailable
from quantum_db.lifecycle import Happening
from quantum_db.model import Context, EntanglementGroup, Entity, Search
from tests.unit.fakes import FakeGroups, FakeJournal, FakeStates, FakeStore, coordinator

VECTOR = np.array([1.0, 0.0], dtype=np.float32)
PAIR = EntanglementGroup("pair", ("a", "b"), 0.5)


# Claims


@settings(derandomize=True, deadline=None)
@given(data=st.data())
def test_claims_are_had_by_one_at_a_time_in_order_and_by_everybody_in_the_end(data: st.DataObject) -> None:
    claims, having, waiting = Claims(), {}, {}
    things = st.sets(st.sampled_from("abcd").map(lambda name: ("entity", name)), max_size=3)
    for owner in range(12):
        wanted = data.draw(things)
        if claims.claim(owner, wanted):
            having[owner] = wanted
        else:
            waiting[owner] = wanted
        if having and data.draw(st.booleans()):
            gone = data.draw(st.sampled_from(sorted({**having, **waiting})))
            having.pop(gone, None)
            waiting.pop(gone, None)
            for freed in claims.release(gone):
                having[freed] = waiting.pop(freed)
        taken = [thing for wanted in having.values() for thing in wanted]
        assert len(taken) == len(set(taken))
        there = {**having, **waiting}
        for owner_, wanted_ in waiting.items():
            assert any(wanted_ & there[other] for other in there if other < owner_), "nobody is waited for"
    while having:
        gone = min(having)
        del having[gone]
        for freed in claims.release(gone):
            having[freed] = waiting.pop(freed)
    assert not waiting
    assert len(claims) == 0
    assert claims.release(0) == []


# Records and the ledger


def test_entities_come_back_from_the_journal_bit_by_bit() -> None:
    vector = np.random.default_rng(0).normal(size=5).astype(np.float32)
    entity = Entity("é", vector, (Context("x", 0.1 + 0.2, -vector), Context("y", 0.7)), 3.25, {"k": [1, None]}, 8)
    back = entity_of(json.loads(json.dumps(entity_record(entity))))
    assert (back.id, back.coherence_time_ms, back.metadata, back.version) == ("é", 3.25, {"k": [1, None]}, 8)
    assert [(c.name, c.weight) for c in back.contexts] == [("x", 0.1 + 0.2), ("y", 0.7)]
    assert back.vector is not None
    assert back.vector.tobytes() == vector.tobytes()
    assert back.contexts[0].vector is not None
    assert back.contexts[0].vector.tobytes() == (-vector).tobytes()


def test_a_record_that_is_none_is_refused() -> None:
    for record in ({}, {"t": "nonsense"}, {"t": "intent", "commit": 1}, {"t": "intent", "commit": 1, "upserts": [{}]}):
        with pytest.raises(CorruptData):
            CommitLedger(KeyRetention()).apply(1, record)


def test_answers_are_kept_by_key_for_a_while_and_in_bounded_number() -> None:
    ledger = CommitLedger(KeyRetention(kept_s=10.0, answers=2))
    for commit in (1, 2, 3):
        intent = Intent(commit, float(commit), f"k{commit}", "digest", (), (), (), ())
        ledger.apply(2 * commit, intent.record())
        ledger.apply(2 * commit + 1, {"t": "receipt", "commit": commit})
    assert ledger.kept("k1", 4.0) is None
    found = ledger.kept("k3", 4.0)
    assert found is not None
    assert found.answer == {"commit": 3, "results": []}
    assert ledger.kept("k3", 14.0) is None
    copy = CommitLedger(KeyRetention())
    for record in ledger.snapshot(12.5):
        copy.apply(7, json.loads(json.dumps(record)))
    assert copy.kept("k3", 12.5) == found
    assert copy.kept("k2", 12.5) is None, "too old for a snapshot"


# The coordinator


class Bench:
    def __init__(self, journal: FakeJournal | None = None, store: FakeStore | None = None) -> None:
        self.store, self.groups, self.states = store or FakeStore(), FakeGroups(), FakeStates()
        self.journal = journal or FakeJournal()
        self.writes = coordinator(self.store, self.groups, self.states, self.journal)


def inserts(*names: str, key: str | None = None) -> Transaction:
    return Transaction(tuple(Insert(Entity(name, VECTOR)) for name in names), key)


async def test_a_transaction_changes_store_groups_and_states() -> None:
    bench = Bench()
    done = await bench.writes.do(Transaction((*inserts("a", "b").operations, CreateGroup(PAIR))))
    assert {entity.version for entity in bench.store.entities.values()} == {done["commit"]}
    assert done["results"][2] == {"op": "create_entanglement", "group_id": "pair", "version": 1}
    assert bench.groups.table.get("pair") == PAIR
    assert [(event.entity_id, event.what) for event in bench.states.events] == [
        ("a", Happening.CREATED),
        ("b", Happening.CREATED),
    ]
    async with asyncio.timeout(5.0):
        while await bench.groups.commits.sweep(0):  # noqa: ASYNC110 - nothing tells of this
            await asyncio.sleep(0.001)
    await bench.writes.close()


async def test_many_at_once_share_the_journal_and_are_numbered_apart() -> None:
    bench = Bench()
    done = await asyncio.gather(*(bench.writes.do(inserts(f"e{n % 20}")) for n in range(100)))
    assert len({answer["commit"] for answer in done}) == 100
    assert len(bench.store.entities) == 20
    await bench.writes.close()


async def test_what_was_left_open_is_applied_before_anybody_is_let_in() -> None:
    class Broken(FakeStore):
        async def apply(self, commit: int, upserts: Sequence[Entity], deletes: Sequence[str]) -> None:
            raise Unavailable("no space left")

    bench = Bench(store=Broken())
    bench.writes._policy = CommitPolicy(wait_s=0.05)
    with pytest.raises(Unavailable, match="was not done within"):
        await bench.writes.do(inserts("a", "b", key="k"))
    with pytest.raises(Unavailable) as held_up:
        await bench.writes.do(inserts("b"))
    assert held_up.value.retry_after_s == 1.0
    await bench.writes.close()
    again = Bench(bench.journal)
    await again.writes.readable()
    assert set(again.store.entities) == {"a", "b"}
    commit = again.store.entities["a"].version
    assert (await again.writes.do(inserts("a", "b", key="k")))["commit"] == commit, "done once"
    await again.writes.close()


async def test_what_cannot_be_written_down_does_not_take_place() -> None:
    bench = Bench()
    await bench.writes.do(Upserts((Entity("z", VECTOR),)))

    def full(records: Sequence[Mapping[str, Any]]) -> None:
        if any(record["t"] == "intent" for record in records):
            raise Unavailable("disk full")

    bench.journal.before = full
    with pytest.raises(Unavailable, match="could not be written down: disk full"):
        await bench.writes.do(inserts("a", "b"))
    bench.journal.before = lambda records: None
    await bench.writes.do(inserts("b"))
    assert set(bench.store.entities) == {"z", "b"}
    await bench.writes.close()


async def test_a_second_coordinator_fences_the_first() -> None:
    fenced: list[Exception] = []
    first = Bench()
    first.writes._on_fenced = fenced.append
    await first.writes.do(inserts("a"))
    second = Bench(first.journal)
    await second.writes.do(inserts("b"))
    first.writes._policy = CommitPolicy(wait_s=0.05)
    with pytest.raises(Unavailable):
        await first.writes.do(inserts("c"))
    assert fenced
    assert "c" not in first.store.entities
    for one in (first, second):
        await one.writes.close()


async def test_a_journal_that_cannot_be_read_is_told_and_nothing_is_taken_for_empty() -> None:
    journal = FakeJournal()
    journal.append("commits", [{"t": "nonsense"}])
    bench = Bench(journal)
    for _ in range(2):
        with pytest.raises(CorruptData):
            await bench.writes.do(inserts("a"))


# Overlays


@settings(derandomize=True, deadline=None, max_examples=60)
@given(seed=st.integers(0, 1 << 32), contexts=st.sampled_from([(), ("x",), ("x", "y")]), everything=st.booleans())
async def test_an_overlay_answers_as_the_store_would_after_the_commit(
    seed: int, contexts: tuple[str, ...], everything: bool
) -> None:
    rng = np.random.default_rng(seed)

    def unit() -> Any:
        vector = rng.normal(size=3).astype(np.float32)
        return vector / np.linalg.norm(vector)

    def entity(name: str) -> Entity:
        own = tuple(Context(c, 0.5, unit()) for c in ("x", "y"))[: int(rng.integers(3))]
        return Entity(name, None if own else unit(), own, metadata={"n": int(rng.integers(9))})

    before, after = FakeStore(), FakeStore()
    names = [f"e{n}" for n in range(8)]
    await before.upsert([entity(name) for name in names])
    after.entities, after.size = dict(before.entities), 3
    changed: dict[str, Entity | None] = {str(one): entity(str(one)) for one in rng.choice([*names, "new"], size=3)}
    changed[names[0]] = None
    await after.apply(
        1, [one for one in changed.values() if one], [name for name, one in changed.items() if one is None]
    )
    search = Search(unit(), 4, contexts, all_contexts=everything)
    overlay = OverlayStore(before, changed)
    ((found,), (wanted,)) = (await overlay.search([search]), await after.search([search]))
    assert found.entity_ids == wanted.entity_ids
    assert found.owner.tolist() == wanted.owner.tolist()
    assert found.contexts == wanted.contexts
    np.testing.assert_array_equal(found.vectors, wanted.vectors)
    assert found.metadata == wanted.metadata
    assert await overlay.fetch([*names, "new"]) == await after.fetch([*names, "new"])
    assert set(await overlay.context_names()) >= set(await after.context_names())


# Buffers and blocks


def test_a_buffer_expects_what_it_has_read_and_sees_what_it_has_changed() -> None:
    buffer = TransactionBuffer()
    stored = {"id": "a", "vector": [1.0], "metadata": {"n": 1}, "version": 5}
    assert buffer.needs_stored("a")
    buffer.note_read("a", stored)
    buffer.note_read("b", None)
    buffer.update("a", {"metadata": {"n": 2}})
    assert buffer.seen("a", stored) == {**stored, "metadata": {"n": 2}}
    buffer.insert({"id": "b", "vector": [0.5]})
    assert not buffer.needs_stored("b")
    buffer.update("b", {"metadata": {}})
    assert buffer.seen("b", None) == {"id": "b", "vector": [0.5], "metadata": {}}
    buffer.delete("a")
    with pytest.raises(NotFound):
        buffer.seen("a", stored)
    update, insert, second, delete = (next(iter(one.values())) for one in buffer.body()["operations"])
    assert (update["expected_version"], delete["expected_version"]) == (5, 5)
    assert insert["if_absent"]
    assert "expected_version" not in second
    buffer.note_read("c", None)
    with pytest.raises(Conflict, match="there is no entity 'c'"):
        buffer.delete("c")


class Server:
    """Answers a transaction with the number of a commit; knows no entity."""

    def __init__(self) -> None:
        self.loop = LoopThread()
        self.asked: list[tuple[Any, ...]] = []

    async def call(self, method: str, *arguments: Any, key: str | None = None) -> dict[str, Any]:
        self.asked.append((method, *arguments, key))
        if method == "fetch":
            raise NotFound("no")
        if len(self.asked) == 1:
            raise Unavailable("an actor died")
        return {"commit": 3, "results": []}


async def test_a_block_commits_once_and_an_exception_rolls_back() -> None:
    server = Server()
    with pytest.raises(Unavailable), TransactionBlock(server) as qtx:
        qtx.insert(id="a", vector=[1.0])
    assert qtx.commit() == {"commit": 3, "results": []}
    (first, second) = server.asked
    assert first == second, "the same key"
    assert first[-1]
    assert qtx.commit() == {"commit": 3, "results": []}
    with pytest.raises(Conflict, match="has ended"):
        qtx.delete("a")
    with pytest.raises(Conflict, match="cannot be rolled back"):
        qtx.rollback()
    with pytest.raises(ZeroDivisionError), TransactionBlock(server) as qtx:
        qtx.update("a", metadata={"share": 1 / len("")})
    async with TransactionBlock(server) as aqtx:
        await aqtx.delete("a")
        await aqtx.rollback()
    assert len(server.asked) == 2
    async with TransactionBlock(server) as aqtx:
        with pytest.raises(NotFound):
            await aqtx.fetch("a")
        await aqtx.insert(id="a", vector=[1.0])
    (operation,) = server.asked[-1][1]["operations"]
    assert (operation["insert"]["id"], operation["insert"]["if_absent"]) == ("a", True)
    server.loop.stop()


def test_the_coordinator_is_what_the_database_asks_for() -> None:
    from quantum_db.commits.ports import Writes  # noqa: PLC0415

    writes: Writes = Bench().writes
    assert isinstance(writes, Coordinator)
