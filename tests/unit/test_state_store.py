"""A shard of states and sessions: read back from its journal, after crashes, and split over other shards."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.errors import CorruptData, Fenced, Unavailable
from quantum_db.group_store import GroupShard, split_groups
from quantum_db.groups import GroupTable
from quantum_db.journals.keeper import Keeper, Kept, load
from quantum_db.journals.layout import Kind, Layout, Places, settle
from quantum_db.journals.open import open_journal
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.lifecycle import Happening, StateEvent
from quantum_db.model import EntanglementGroup
from quantum_db.sessions import Observation, SessionKey
from quantum_db.sharding import shard_of
from quantum_db.state_store import StateShard, ended_record, events_record, observed_record, split_shard
from quantum_db.states.batches import batch_of_record, happened, joined, record_of_batch, split
from quantum_db.states.events import EventBatch
from quantum_db.states.history import Instances
from quantum_db.states.packing import pack, unpack

NAMES = [f"e{number}" for number in range(12)]
GROUP = EntanglementGroup("g", ("e0", "e1", "e2"), 0.5)
KEY = SessionKey("tenant", "session")
CAPACITY = 6

TIMES = st.integers(0, 50).map(float)
COHERENCE_MS = st.sampled_from([1_000.0, 5_000.0, 1e9])
TELLING = st.builds(
    StateEvent,
    st.sampled_from(NAMES),
    st.sampled_from([Happening.CREATED, Happening.ARCHIVED]),
    TIMES,
    COHERENCE_MS,
    st.integers(1, 30),
)
EVENT = st.one_of(
    st.builds(StateEvent, st.sampled_from(NAMES), st.sampled_from(list(Happening)[:3]), TIMES, COHERENCE_MS),
    TELLING,
)
BATCHES = st.lists(st.lists(EVENT, min_size=1, max_size=8).map(EventBatch.of), max_size=8)


def shard(capacity: int = CAPACITY) -> StateShard:
    return StateShard(capacity)


def fed(batches: Iterable[EventBatch], capacity: int = CAPACITY) -> StateShard:
    found = shard(capacity)
    for number, batch in enumerate(batches, 1):
        found.apply(number, events_record(batch, float(batch.at_s.max())))
    return found


def restored(records: Iterable[Mapping[str, Any]], capacity: int = CAPACITY) -> StateShard:
    found = shard(capacity)
    for record in json.loads(json.dumps(list(records))):
        found.apply(1, record)
    found.check()
    found.table.validate()
    return found


def everything(found: StateShard, now_s: float = 60.0) -> dict[str, Instances | None]:
    return {name: found.instances(name, now_s) for name in NAMES}


@settings(deadline=None)
@given(BATCHES)
def test_a_batch_is_the_same_from_its_record_and_from_its_parts(batches: list[EventBatch]) -> None:
    for batch in batches:
        again = batch_of_record(json.loads(json.dumps(record_of_batch(batch))))
        for name in ("ids", "codes", "at_s", "coherence_ms", "commits"):
            assert (getattr(again, name) == getattr(batch, name)).all()
        parts = [part for _, part in split(batch, 3)]
        assert sorted(map(str, joined(parts).ids)) == sorted(map(str, batch.ids))


@settings(deadline=None)
@given(st.lists(TELLING, max_size=15), st.randoms(use_true_random=False))
def test_a_write_that_is_told_again_and_late_changes_nothing(tellings: list[StateEvent], random: Random) -> None:
    """Each write of an entity once, in the order of the numbers, with repetitions anywhere behind the first time."""
    writes = sorted({(one.commit, one.entity_id): one for one in tellings}.values(), key=lambda one: one.commit)
    once = fed([EventBatch.of([one]) for one in writes], capacity=len(NAMES))
    told: list[StateEvent] = []
    for place, one in enumerate(writes):
        told += [one, *(again for again in writes[: place + 1] if random.random() < 0.5)]
    ends = sorted(random.sample(range(len(told) + 1), min(3, len(told) + 1)))
    parts = [told[start:end] for start, end in zip([0, *ends], [*ends, len(told)], strict=True) if start < end]
    assert everything(fed(map(EventBatch.of, parts), capacity=len(NAMES))) == everything(once)
    one_by_one = [EventBatch.of([one]) for one in told]
    assert everything(restored(fed(one_by_one, capacity=len(NAMES)).snapshot(), len(NAMES))) == everything(once)


def test_an_evicted_state_is_not_created_anew_by_a_telling_that_comes_again() -> None:
    created = [happened(Happening.CREATED, [name], 1.0, 5.0, commit) for commit, name in enumerate(NAMES, 1)]
    found, again = fed(created), fed([*created, *created])
    assert found.table.get("e0", 1.0) is None, "evicted"
    assert everything(again) == everything(found)


@pytest.mark.parametrize(
    "wrong",
    [{"ids": [1]}, {"codes": "!"}, {"at_s": ""}, {"codes": "/w=="}, {"coherence_ms": None}, {"ids": ["a", "b"]}],
)
def test_a_damaged_record_of_events_is_refused(wrong: dict[str, Any]) -> None:
    record = events_record(happened(Happening.CREATED, ["a"], 1.0, 5.0), 1.0)
    shard().apply(1, record)
    with pytest.raises(CorruptData):
        shard().apply(1, {**record, **wrong})


def test_a_damaged_snapshot_is_refused() -> None:
    (record,) = [one for one in fed([happened(Happening.CREATED, ["a"], 1.0, 5.0)]).snapshot() if "states" in one]
    for wrong in ({"states": ["a", "b"]}, {"phase": "/w=="}, {"generation": "!"}, {"since_s": ""}):
        with pytest.raises(CorruptData):
            shard().apply(1, {**record, **wrong})
    with pytest.raises(CorruptData, match="no known kind"):
        shard().apply(1, {"something": 1})


@settings(deadline=None)
@given(BATCHES)
def test_a_snapshot_makes_the_same_shard_and_goes_on_alike(batches: list[EventBatch]) -> None:
    found = fed(batches)
    again = restored(found.snapshot())
    assert everything(again) == everything(found)
    more = happened(Happening.PREPARED, NAMES, 70.0, 1e6)  # makes the table evict: the least recently touched
    for one in (found, again):
        one.apply(100, events_record(more, 70.0))
    assert everything(again, 71.0) == everything(found, 71.0)


def test_states_are_packed_in_runs_and_unpacked() -> None:
    records = list(fed([happened(Happening.PREPARED, NAMES[:5], 1.0, 1e3)]).records())
    runs = [record for record in pack(records) if "states" in record]
    assert len(runs) == 1
    assert unpack(runs[0]) == [record for record in records if "phase" in record]


@settings(deadline=None)
@given(BATCHES, st.integers(1, 4), st.integers(1, 4))
def test_another_number_of_shards_keeps_every_state_and_session(
    batches: list[EventBatch], before: int, after: int
) -> None:
    old = [shard(100) for _ in range(before)]
    for batch in batches:
        for place, part in split(batch, before):
            old[place].apply(1, events_record(part, float(part.at_s.max())))
    old[0].apply(1, observed_record(KEY, Observation("m", "e0", "red"), [GROUP], {"e1": ["red"]}, 50.0))
    new = [shard(100) for _ in range(after)]
    for one in old:
        for place, record in split_shard(one, after):
            new[place].apply(1, json.loads(json.dumps(record)))
    kept = {name: found for one in old for name, found in everything(one).items() if found}
    now = {name: found for one in new for name, found in everything(one).items() if found}
    assert now == kept
    assert [one.sessions.get(KEY, 60.0) for one in new if one.sessions.get(KEY, 60.0)] == [old[0].sessions.get(KEY, 60)]


# The keeper


class Cut(SqliteJournal):
    """Dies at an append: before it is written, or after."""

    def __init__(self, path: Path, at: int, written: bool) -> None:
        super().__init__(path)
        self.left, self.written = at, written

    def append(self, stream: str, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None) -> int:
        self.left -= 1
        if self.left < 0:
            if self.written:
                super().append(stream, records, epoch=epoch)
            raise Unavailable("the process was killed here")
        return super().append(stream, records, epoch=epoch)


def never(error: Fenced) -> None:
    raise AssertionError(error)


async def kept_by(journal: SqliteJournal) -> Keeper[StateShard]:
    keeper = Keeper(shard(), journal, "states", never)
    await keeper.load()
    return keeper


@settings(max_examples=25, deadline=None)
@given(batches=BATCHES, at=st.integers(0, 8), written=st.booleans(), compact=st.booleans())
def test_what_was_acknowledged_is_there_after_a_crash(
    tmp_path_factory: pytest.TempPathFactory, batches: list[EventBatch], at: int, written: bool, compact: bool
) -> None:
    path = tmp_path_factory.mktemp("kept") / "states.sqlite"

    async def run() -> None:
        journal = Cut(path, at, written)
        keeper, acknowledged = await kept_by(journal), []
        for number, batch in enumerate(batches):
            try:
                await keeper.write([events_record(batch, float(batch.at_s.max()))])
            except Unavailable:
                assert number == at
                break
            acknowledged.append(batch)
            if compact and number == 2:
                await keeper.compact()
        assert everything(keeper.kept) == everything(fed(acknowledged)), "what is not acknowledged is not seen"
        journal.close()
        again = await kept_by(SqliteJournal(path))
        allowed = [acknowledged]
        if written and len(acknowledged) < len(batches):
            allowed = [batches[: at + 1]]
        assert everything(again.kept) in [everything(fed(one)) for one in allowed]
        again.kept.table.validate()
        await again.close()

    asyncio.run(run())


async def test_a_torn_last_record_is_refused_and_never_taken_for_less(tmp_path: Path) -> None:
    path = tmp_path / "states.sqlite"
    keeper = await kept_by(SqliteJournal(path))
    for second in (1.0, 2.0):
        await keeper.write([events_record(happened(Happening.CREATED, ["a"], second, 5.0), second)])
    await keeper.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE records SET body = substr(body, 1, length(body) / 2) WHERE number = 2")
    with pytest.raises(CorruptData, match="record 2 of stream 'states' does not match its checksum"):
        await kept_by(SqliteJournal(path))


async def test_concurrent_writers_are_applied_in_the_order_of_the_journal(tmp_path: Path) -> None:
    keeper = await kept_by(SqliteJournal(tmp_path / "a.sqlite"))
    batches = [happened(Happening.CREATED, ["a"], float(second), 5.0) for second in range(50)]
    await asyncio.gather(
        keeper.compact(), *(keeper.write([events_record(one, float(one.at_s[0]))]) for one in batches), keeper.compact()
    )
    found = everything(keeper.kept) | {"a": keeper.kept.instances("a", 60.0)}
    await keeper.close()
    again = await kept_by(SqliteJournal(tmp_path / "a.sqlite"))
    assert found["a"] == again.kept.instances("a", 60.0)
    assert found["a"] is not None
    assert (found["a"].current.generation, found["a"].current.since_s) == (50, 49.0)
    await again.close()


async def test_a_writer_that_was_taken_over_is_told_and_applies_nothing(tmp_path: Path) -> None:
    told: list[Fenced] = []
    keeper = Keeper(shard(), SqliteJournal(tmp_path / "a.sqlite"), "states", told.append)
    await keeper.load()
    other = await kept_by(SqliteJournal(tmp_path / "a.sqlite"))
    with pytest.raises(Fenced):
        await keeper.write([events_record(happened(Happening.CREATED, ["e0"], 1.0, 5.0), 1.0)])
    assert len(told) == 1
    assert keeper.kept.instances("e0", 2.0) is None
    await keeper.close()
    await other.close()


async def test_a_journal_that_grows_is_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantum_db.journals.keeper.MIN_TAKEN", 10)
    keeper = await kept_by(SqliteJournal(tmp_path / "a.sqlite"))
    for second in range(200):
        await keeper.write([events_record(happened(Happening.PREPARED, ["a"], float(second), 1e6), float(second))])
    await keeper.write([observed_record(KEY, Observation("m", "e0", "red"), [GROUP], {"e1": ["red"]}, 50.0)])
    found = keeper.kept.instances("a", 201.0), keeper.kept.sessions.get(KEY, 60.0)
    await keeper.close()
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as connection:
        (records,) = connection.execute("SELECT count(*) FROM records").fetchone()
    assert records < 50
    again = await kept_by(SqliteJournal(tmp_path / "a.sqlite"))
    assert (again.kept.instances("a", 201.0), again.kept.sessions.get(KEY, 60.0)) == found
    await again.write([ended_record(KEY)])
    assert again.kept.sessions.get(KEY, 60.0) is None
    await again.close()


def test_contradictions_are_found() -> None:
    found = fed([happened(Happening.CREATED, NAMES[:3], 1.0, 5.0)])
    found.check()
    found.table._states.phase[0] = 4
    with pytest.raises(CorruptData, match="contradict"):
        found.check()
    groups = GroupShard()
    groups.apply(1, {"group_id": "g", "entity_ids": ["a", "b"], "correlation_strength": 0.5, "version": 1})
    groups.check()
    groups.table._of_member["c"] = {"g"}
    with pytest.raises(CorruptData, match="contradict"):
        groups.check()


# Layouts


def states_of(places: Places, layout: Layout) -> dict[str, Instances]:
    found: dict[str, Instances] = {}
    for number in range(layout.shards):
        kept, place = shard(100), places.shard(layout, number)
        with closing(open_journal(place.url)) as journal:
            load(kept, journal, place.stream)
        found |= {name: one for name, one in everything(kept).items() if one}
    return found


STATES = Kind(lambda: StateShard(100), split_shard)


def filled(places: Places, shards: int) -> dict[str, Instances]:
    layout = settle(places, shards, STATES)
    for at, batch in enumerate(
        [happened(Happening.CREATED, NAMES, 1.0, 1e6), happened(Happening.PREPARED, NAMES, 2.0)]
    ):
        for number, part in split(batch, shards):
            place = places.shard(layout, number)
            with closing(open_journal(place.url)) as journal:
                journal.append(place.stream, [events_record(part, float(at))])
    return states_of(places, layout)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 4), (4, 3)])
def test_the_number_of_shards_may_change_between_starts(tmp_path: Path, before: int, after: int) -> None:
    places = Places("states", tmp_path)
    kept = filled(places, before)
    assert len(kept) == len(NAMES)
    layout = settle(places, after, STATES)
    assert (layout.generation, layout.shards) == (2, after)
    assert states_of(places, layout) == kept
    assert states_of(places, Layout(1, before)) == {}, "the old journals are emptied"
    assert settle(places, after, STATES) == layout
    assert states_of(places, settle(places, before, STATES)) == kept


@pytest.mark.parametrize("step", range(40))
def test_a_crash_in_the_middle_of_resharding_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Every write of the way from 2 to 3 shards is the last one before a crash, once."""
    places = Places("states", tmp_path)
    kept = filled(places, 2)
    left = step

    def cut(patched: pytest.MonkeyPatch, name: str) -> None:
        original = getattr(SqliteJournal, name)

        def method(self: SqliteJournal, *arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Unavailable("the process was killed here")
            return original(self, *arguments, **options)

        patched.setattr(SqliteJournal, name, method)

    with monkeypatch.context() as patched:
        for name in ("append", "compact", "begin_epoch"):
            cut(patched, name)
        try:
            settle(places, 3, STATES)
        except Unavailable:
            pass
        else:
            assert left >= 0
    layout = settle(places, 3 if step % 2 else 2, STATES)  # finished, or another change of mind
    assert layout.shards == (3 if step % 2 else 2)
    assert states_of(places, layout) == kept


def test_groups_are_split_with_their_versions(tmp_path: Path) -> None:
    places, kind = Places("groups", tmp_path), Kind(GroupShard, split_groups)
    layout = settle(places, 1, kind)
    table, records = GroupTable(), []
    for number in range(30):
        change = table.plan_create(EntanglementGroup(f"g{number}", ("a", f"b{number}"), 0.5))
        assert change is not None
        table.apply(change)
        records.append(change.record())
    for number in range(5):
        change = table.plan_delete(f"g{number}", version=1)
        table.apply(change)
        records.append(change.record())
    place = places.shard(layout, 0)
    with closing(open_journal(place.url)) as journal:
        journal.append(place.stream, records)
    layout = settle(places, 4, kind)
    found: list[EntanglementGroup] = []
    for number in range(4):
        kept, place = GroupShard(), places.shard(layout, number)
        with closing(open_journal(place.url)) as journal:
            load(kept, journal, place.stream)
        found += kept.table.of_member("a")
        for deleted in (f"g{one}" for one in range(5) if shard_of(f"g{one}", 4) == number):
            again = kept.table.plan_create(EntanglementGroup(deleted, ("a", "z"), 0.5))
            assert again is not None
            assert again.version == 3, "after its creation and its deletion"
    assert sorted(found, key=lambda one: one.group_id) == table.of_member("a")


def test_a_shard_is_kept(tmp_path: Path) -> None:
    for kept in (shard(), GroupShard()):
        one: Kept = kept
        with closing(open_journal(f"sqlite:///{tmp_path / type(one).__name__}.sqlite")) as journal:
            assert load(one, journal, "s") == 1
