"""What is kept of archived instances, and how snapshots of states move between shards."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.lifecycle import Happening, Phase, State, StateEvent
from quantum_db.resharding import resharded
from quantum_db.sharding import shard_of
from quantum_db.states.events import EventBatch
from quantum_db.states.history import History, Instances, Retention
from quantum_db.states.records import record_of
from quantum_db.states.table import StateTable


def ended(name: str, generation: int, at_s: float = 0.0) -> State:
    return State(name, generation, Phase.ARCHIVED, at_s, 1_000.0, None, 0)


def generations(found: Instances | None) -> list[int]:
    return [] if found is None else [found.current.generation, *(state.generation for state in found.earlier)]


def test_the_current_instance_comes_first_and_then_the_latest_archived() -> None:
    history = History(Retention(per_entity=3))
    history.add([ended("a", number) for number in range(1, 6)], 0.0)
    current = State("a", 6, Phase.ACTIVE, 0.0, 1_000.0, 1.0)
    assert generations(history.of("a", current, 0.0)) == [6, 5, 4, 3]
    assert generations(history.of("a", None, 0.0)) == [5, 4, 3]
    assert history.of("b", None, 0.0) is None
    assert history.of("b", current, 0.0) == Instances(current)


def test_age_and_number_bound_it() -> None:
    history = History(Retention(per_entity=2, max_age_s=10.0, instances=3))
    history.add([ended("a", 1, 1.0), ended("b", 1, 2.0), ended("a", 2, 3.0)], 3.0)
    assert len(history) == 3
    history.add([ended("c", 1, 4.0)], 4.0)
    assert (len(history), history.of("b", None, 4.0)) == (3, None), "archived longest ago"
    assert generations(history.of("a", None, 12.0)) == [2], "its first is too old"
    assert [record["generation"] for record in history.snapshot(12.0)] == [2, 1]
    history.add([ended("d", 1, 30.0)], 30.0)
    assert (len(history), generations(history.of("d", None, 30.0))) == (1, [1])


@given(
    archived=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=30),
    per_entity=st.integers(1, 3),
    instances=st.integers(1, 6),
)
def test_a_restart_keeps_what_was_kept_and_a_record_twice_is_one(
    archived: list[tuple[str, int]], per_entity: int, instances: int
) -> None:
    retention = Retention(per_entity, 5.0, instances)
    history, last, now_s = History(retention), dict.fromkeys("abc", 0), 0.0
    for name, seconds in archived:
        now_s += seconds
        last[name] += 1
        history.add([ended(name, last[name], now_s)], now_s)
        assert len(history) <= instances
    records = [json.loads(json.dumps(record)) for record in history.snapshot(now_s)]
    again = History(retention)
    again.restore([*records, record_of(State("z", 1, Phase.ACTIVE, 0.0, 1.0, 1.0))], now_s)
    again.restore(records, now_s)
    for name in "abcz":
        assert again.of(name, None, now_s) == history.of(name, None, now_s)


@settings(deadline=None, max_examples=30)
@given(
    drawn=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(Happening)), max_size=80),
    before=st.integers(1, 4),
    after=st.integers(1, 4),
)
def test_another_number_of_shards_loses_nothing(drawn: list[tuple[int, Happening]], before: int, after: int) -> None:
    events = [StateEvent(f"e{number}", what, float(at_s), 1e6) for at_s, (number, what) in enumerate(drawn)]
    old = [StateTable(50) for _ in range(before)]
    for event in events:
        old[shard_of(event.entity_id, before)].apply(EventBatch.of([event]))
    records: list[list[object]] = [[] for _ in range(after)]
    for shard, record in resharded([table.snapshot() for table in old], after, lambda record: record["entity_id"]):
        records[shard].append(json.loads(json.dumps(record)))
    new = [StateTable(50) for _ in range(after)]
    for table, given_records in zip(new, records, strict=True):
        table.restore(given_records)
        table.validate()
    assert sum(map(len, new)) == sum(map(len, old))
    for name in {event.entity_id for event in events}:
        mine, theirs = new[shard_of(name, after)], old[shard_of(name, before)]
        assert mine.get(name, 50.0) == theirs.get(name, 50.0)
        prepare = EventBatch.of([StateEvent(name, Happening.CREATED, 1e9, 1.0)])
        assert [*mine.apply(prepare).transitions] == [*theirs.apply(prepare).transitions], "generations go on"
