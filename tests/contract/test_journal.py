"""The contract of Journal, over SQLite and over a real Redis."""

from __future__ import annotations

import itertools
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from quantum_db.errors import CorruptData, Fenced, Unavailable
from quantum_db.journals.records import BATCH
from quantum_db.ports import Journal
from tests.contract.journals import STREAM, Place, held, numbered, opened, rows

SNAPSHOT = [{"s": 1}, {"s": 2}]


# Appending and reading


def test_records_are_numbered_from_one_and_come_back_as_they_were(place: Place, journal: Journal) -> None:
    records = [{"n": 1, "deep": {"x": [0.1 + 0.2, None, True, -(2**70)]}}, {"text": 'ü "\\\n\x00 😀', "": []}]
    assert journal.last(STREAM) == 0
    assert held(journal) == []
    assert journal.append(STREAM, records) == 2
    assert journal.append(STREAM, [{}]) == 3
    with opened(place) as again:
        assert held(again) == [(1, records[0]), (2, records[1]), (3, {})]
        assert held(again, after=2) == [(3, {})]
        assert held(again, after=3) == []
        assert again.last(STREAM) == 3


def test_streams_are_apart(journal: Journal) -> None:
    names = [STREAM, f"{STREAM}:records", "", "weird {name}: ü"]
    for count, name in enumerate(names, 1):
        assert journal.append(name, numbered(1, count)) == count
        assert journal.begin_epoch(name) == 1
    for count, name in enumerate(names, 1):
        assert list(journal.read(name)) == rows(1, count)
    journal.compact(names[1], 2, [])
    assert journal.last(STREAM) == 1
    assert held(journal) == rows(1, 1)


def test_appending_nothing_returns_the_last_number(journal: Journal) -> None:
    assert journal.append(STREAM, []) == 0
    journal.append(STREAM, numbered(1, 2))
    assert journal.append(STREAM, []) == 2
    assert held(journal) == rows(1, 2)


@pytest.mark.parametrize("bad", [{"n": object()}, {"n": float("nan")}, {("a",): 1}, ["no mapping"], None])
def test_what_is_not_json_is_refused_and_nothing_is_written(journal: Journal, bad: Any) -> None:
    journal.append(STREAM, numbered(1, 1))
    with pytest.raises((TypeError, ValueError)):
        journal.append(STREAM, [{"n": 2}, bad])
    with pytest.raises((TypeError, ValueError)):
        journal.compact(STREAM, 1, [bad])
    assert held(journal) == rows(1, 1)


def test_another_object_sees_what_was_appended(place: Place, journal: Journal) -> None:
    with opened(place) as reader:
        journal.append(STREAM, numbered(1, 1))
        assert held(reader) == rows(1, 1)
        reader.append(STREAM, numbered(2, 2))
        journal.append(STREAM, numbered(3, 3))
        assert held(reader, after=1) == rows(2, 3)


def test_a_closed_journal_says_so(journal: Journal) -> None:
    journal.append(STREAM, numbered(1, 1))
    reading = journal.read(STREAM)
    journal.close()
    journal.close()
    for call in (
        lambda: next(reading),
        lambda: journal.append(STREAM, [{}]),
        lambda: journal.last(STREAM),
        lambda: journal.begin_epoch(STREAM),
        lambda: journal.compact(STREAM, 1, []),
    ):
        with pytest.raises(Unavailable, match="is closed"):
            call()


# Epochs


def test_a_new_epoch_fences_the_writers_before_it(place: Place, journal: Journal) -> None:
    old = journal.begin_epoch(STREAM)
    assert old == 1
    journal.append(STREAM, numbered(1, 1), epoch=old)
    with opened(place) as successor:
        new = successor.begin_epoch(STREAM)
        assert new == 2
        for epoch in (old, new + 1, 0, -1):
            with pytest.raises(Fenced, match=rf"is epoch 2 now; epoch {epoch} may not write"):
                journal.append(STREAM, numbered(2, 3), epoch=epoch)
            with pytest.raises(Fenced):
                journal.append(STREAM, [], epoch=epoch)
            with pytest.raises(Fenced):
                journal.compact(STREAM, 1, SNAPSHOT, epoch=epoch)
        assert held(successor) == rows(1, 1)
        assert successor.append(STREAM, numbered(2, 2), epoch=new) == 2
        successor.compact(STREAM, 1, SNAPSHOT, epoch=new)
    assert journal.append(STREAM, numbered(3, 3)) == 3
    assert held(journal, after=1) == rows(2, 3)
    with opened(place) as later:
        assert later.begin_epoch(STREAM) == 3
        assert later.begin_epoch("another") == 1


# Compaction


def test_a_snapshot_stands_for_what_it_replaced(place: Place, journal: Journal) -> None:
    journal.append(STREAM, numbered(1, 5))
    journal.compact(STREAM, 3, SNAPSHOT)
    wanted = [(3, SNAPSHOT[0]), (3, SNAPSHOT[1]), *rows(4, 5)]
    with opened(place) as again:
        for one in (journal, again):
            assert held(one) == wanted
            assert held(one, after=2) == wanted
            assert held(one, after=3) == rows(4, 5)
            assert one.last(STREAM) == 5
        assert again.append(STREAM, numbered(6, 6)) == 6
    journal.compact(STREAM, 6, [{"s": 3}])
    assert held(journal) == [(6, {"s": 3})]
    assert held(journal, after=6) == []
    assert journal.append(STREAM, numbered(7, 7)) == 7
    assert held(journal) == [(6, {"s": 3}), *rows(7, 7)]


def test_compacting_again_changes_nothing(journal: Journal) -> None:
    journal.append(STREAM, numbered(1, 4))
    for _ in range(2):
        journal.compact(STREAM, 2, SNAPSHOT)
        assert held(journal) == [(2, SNAPSHOT[0]), (2, SNAPSHOT[1]), *rows(3, 4)]
    journal.compact(STREAM, 2, [{"s": "other"}])
    assert held(journal) == [(2, {"s": "other"}), *rows(3, 4)]


def test_an_empty_snapshot_forgets(journal: Journal) -> None:
    journal.compact(STREAM, 0, [])
    journal.append(STREAM, numbered(1, 3))
    journal.compact(STREAM, 3, [])
    assert held(journal) == []
    assert journal.last(STREAM) == 3
    assert journal.append(STREAM, numbered(4, 4)) == 4
    assert held(journal) == rows(4, 4)


def test_a_compaction_out_of_range_is_refused(journal: Journal) -> None:
    with pytest.raises(ValueError, match="cannot be compacted through 0"):
        journal.compact(STREAM, 0, SNAPSHOT)
    journal.append(STREAM, numbered(1, 3))
    journal.compact(STREAM, 2, SNAPSHOT)
    before = held(journal)
    for through in (1, 4, -1):
        with pytest.raises(ValueError, match="its last record is 3 and its snapshot stands for those through 2"):
            journal.compact(STREAM, through, [])
    assert held(journal) == before


def test_a_snapshot_may_be_large(place: Place, journal: Journal) -> None:
    large = [{"s": n} for n in range(2 * BATCH + 1)]
    journal.append(STREAM, numbered(1, 2))
    journal.compact(STREAM, 1, large)
    with opened(place) as again:
        assert held(again) == [*((1, record) for record in large), *rows(2, 2)]


# Large streams


def test_a_long_stream_is_read_in_bounded_memory(journal: Journal) -> None:
    padding = "x" * 100
    for first in range(1, 100_001, 20_000):
        journal.append(STREAM, [{"n": n, "padding": padding} for n in range(first, first + 20_000)])
    reading = enumerate(journal.read(STREAM), 1)
    tracemalloc.start()
    try:
        for wanted, (number, record) in itertools.islice(reading, 20_000):
            assert number == record["n"] == wanted
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000, "at most a few batches of 1,000 records of about 130 bytes"
    for wanted, (number, record) in reading:
        assert number == record["n"] == wanted
    assert wanted == 100_000


def test_a_reading_ends_where_the_stream_ended_when_it_began(place: Place, journal: Journal) -> None:
    journal.append(STREAM, numbered(1, 2 * BATCH))
    reading = journal.read(STREAM)
    first = next(reading)
    journal.append(STREAM, numbered(2 * BATCH + 1, 4 * BATCH))
    assert [first, *reading] == rows(1, 2 * BATCH)


def test_readings_while_another_thread_appends_are_whole(place: Place, journal: Journal) -> None:
    done = threading.Event()
    size = 7

    def write() -> None:
        try:
            for batch in range(150):
                journal.append(STREAM, [{"batch": batch, "part": part} for part in range(size)])
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    lengths = []
    while not done.is_set():
        found = held(journal)
        assert [number for number, _ in found] == list(range(1, len(found) + 1))
        assert [record for _, record in found] == [{"batch": n // size, "part": n % size} for n in range(len(found))]
        assert len(found) % size == 0
        assert journal.last(STREAM) >= len(found)
        lengths.append(len(found))
    writer.join()
    assert len(held(journal)) == 150 * size
    assert len(set(lengths)) > 2


@pytest.mark.parametrize("into", ["records", "snapshot"])
def test_a_compaction_that_overtakes_a_reading_ends_it(journal: Journal, into: str) -> None:
    journal.append(STREAM, numbered(1, 3 * BATCH))
    if into == "snapshot":
        journal.compact(STREAM, 1, [{"s": n} for n in range(2 * BATCH)])
    reading = journal.read(STREAM)
    next(reading)
    journal.compact(STREAM, 2 * BATCH, SNAPSHOT)
    with pytest.raises(Unavailable, match="was compacted while it was read; read it again"):
        list(reading)
    assert len(held(journal)) == BATCH + 2


def test_a_reading_that_is_past_a_compaction_goes_on(journal: Journal) -> None:
    journal.append(STREAM, numbered(1, 3 * BATCH))
    reading = journal.read(STREAM, after=BATCH)
    first = next(reading)
    journal.compact(STREAM, BATCH, SNAPSHOT)
    assert [first, *reading] == rows(BATCH + 1, 3 * BATCH)


# Damage


def damages() -> Iterator[tuple[str, Callable[[Place], None], str]]:
    yield "flipped bit", lambda place: place.flip_bit(4), "record 4 of stream 'facts' does not match its checksum"
    yield "swapped", lambda place: place.swap(4, 5), "record 4 of stream 'facts' does not match its checksum"
    yield "gap", lambda place: place.remove(4), "record 4 of stream 'facts' is missing"
    yield "gap at the start", lambda place: place.remove(3), "record 3 of stream 'facts' is missing"
    yield "gap at the end", lambda place: place.remove(6), "record 6 of stream 'facts' is missing"
    yield "flipped bit in the snapshot", lambda place: place.flip_bit_of_snapshot(), r"record 2\.1 of stream 'facts'"
    yield "lost snapshot", lambda place: place.remove_snapshot(), "the snapshot of stream 'facts' lacks"
    yield "lost snapshot record", lambda place: place.remove_from_snapshot(), "the snapshot of stream 'facts' lacks|2.1"
    yield "lost head", lambda place: place.remove_head(), "stream 'facts' has .*records, but no head|lost its data"
    yield "damaged head", lambda place: place.damage_head(), "the head of stream 'facts'|has a head that does not match"
    yield "all streams lost", lambda place: place.go_back_to_nothing(), "ends at 0, but was read up to 2|lost its data"


@pytest.mark.parametrize(("damage", "message"), [pytest.param(d, m, id=i) for i, d, m in damages()])
def test_damage_is_told_with_the_place_and_what_to_do(
    place: Place, damage: Callable[[Place], None], message: str
) -> None:
    with opened(place) as before:
        before.append(STREAM, numbered(1, 6))
        before.compact(STREAM, 2, SNAPSHOT)
        assert len(held(before)) == 6
        damage(place)
        with pytest.raises(CorruptData, match=message) as error:
            held(before)
    with opened(place) as after, pytest.raises(CorruptData, match=message):
        held(after) or held(after, after=2)
    assert "restore it from a backup" in error.value.detail
    assert place.url.removeprefix("sqlite:///").rpartition("@")[2].partition("/0?")[0] in error.value.detail


def test_records_before_the_damage_are_read_and_nothing_after_it(place: Place, journal: Journal) -> None:
    journal.append(STREAM, numbered(1, 3))
    place.flip_bit(3)
    reading = journal.read(STREAM)
    assert [next(reading), next(reading)] == rows(1, 2)
    with pytest.raises(CorruptData):
        next(reading)


def test_a_reader_that_knows_more_than_the_journal_is_told(journal: Journal) -> None:
    journal.append(STREAM, numbered(1, 3))
    with pytest.raises(CorruptData, match="ends at 3, but was read up to 4 before"):
        list(journal.read(STREAM, after=4))


def test_a_process_notices_that_the_journal_lost_what_it_saw(place: Place, journal: Journal) -> None:
    epoch = journal.begin_epoch(STREAM)
    journal.append(STREAM, numbered(1, 3), epoch=epoch)
    place.go_back_to_nothing()
    for call in (
        lambda: journal.append(STREAM, numbered(4, 4), epoch=epoch),
        lambda: journal.append(STREAM, numbered(4, 4)),
        lambda: held(journal),
        lambda: journal.last(STREAM),
        lambda: journal.begin_epoch(STREAM),
        lambda: journal.compact(STREAM, 3, [], epoch=epoch),
    ):
        with pytest.raises(CorruptData, match="lost its data"):
            call()


def test_an_epoch_alone_is_missed_too(place: Place, journal: Journal) -> None:
    journal.begin_epoch(STREAM)
    place.go_back_to_nothing()
    with pytest.raises(CorruptData, match="lost its data"):
        journal.append(STREAM, numbered(1, 1))
