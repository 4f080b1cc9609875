"""What all journals share: the form of a record, its checksum, the rules of a write, and reading in checked batches."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from quantum_db.errors import CorruptData, Fenced, Unavailable

BATCH = 1_000
"""Records that are loaded or sent at once."""

_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
Row = tuple[int, int, bytes]
"""Number (or, in a snapshot, position from 1), checksum and body of a stored record."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a journal keeps of a stream beside its records.

    Attributes:
        last: number of the last record ever appended.
        through: number up to which the snapshot stands for the stream; 0 without one.
        snapshot_records: how many records the snapshot has.
        snapshot_id: another one for each compaction.
    """

    epoch: int = 0
    last: int = 0
    through: int = 0
    snapshot_records: int = 0
    snapshot_id: str = ""


class Seen:
    """The highest epoch and last number that this process has seen of each stream. Thread-safe.

    A journal that holds less has lost data. Take the bound before asking the journal: others may write meanwhile.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def bound(self, stream: str) -> tuple[int, int]:
        """Return the highest epoch and the highest last number seen."""
        return self._seen.get(stream, (0, 0))

    def note(self, stream: str, head: Head) -> None:
        """Remember what the journal holds."""
        with self._lock:
            epoch, last = self.bound(stream)
            self._seen[stream] = (max(epoch, head.epoch), max(last, head.last))


class Source(Protocol):
    """Where ``read`` gets its batches. Each method answers from one consistent state."""

    @property
    def place(self) -> str:
        """Where the journal is, for messages; without passwords."""

    def head(self, stream: str) -> Head:
        """Return the head of a stream; that of a new stream if there is none."""

    def records(self, stream: str, after: int, through: int) -> tuple[Head, Sequence[Row]]:
        """Return the first ``BATCH`` records numbered above ``after``, at most ``through``, in order."""

    def snapshot(self, stream: str, after: int) -> tuple[Head, Sequence[Row]]:
        """Return the first ``BATCH`` snapshot records at positions above ``after``, in order."""


def encode(record: Mapping[str, Any]) -> str:
    """Return the record as JSON, all ASCII.

    Raises:
        TypeError, ValueError: the record is no mapping or holds what JSON has not.
    """
    if not isinstance(record, Mapping):
        raise TypeError(f"a journal record is a mapping, not {type(record).__name__}")
    return _ENCODER.encode(dict(record))


def unnumbered_checksum(stream: str, body: bytes) -> int:
    """Return the CRC-32 of stream and body; ``checksum`` goes on from there when the number is known."""
    return zlib.crc32(body, zlib.crc32(stream.encode() + b"\0"))


def checksum(stream: str, number: str, body: bytes) -> int:
    """Return the CRC-32 of stream, body and number; the number in a snapshot is ``through.position``."""
    return zlib.crc32(b"\0" + number.encode(), unnumbered_checksum(stream, body))


def head_checksum(stream: str, head: Head) -> int:
    """Return the CRC-32 of a head."""
    numbers = f"{head.epoch} {head.last} {head.through} {head.snapshot_records} {head.snapshot_id}"
    return checksum(stream, "head", numbers.encode())


def damaged(place: str, what: str) -> CorruptData:
    """Return the error that tells what is wrong with the journal at ``place`` and what to do."""
    return CorruptData(f"the journal {place} is damaged: {what}; stop its writers and restore it from a backup")


def lost(place: str) -> CorruptData:
    """Return the error of a journal that has less than what this process has seen in it."""
    return damaged(place, "it lost its data, for it holds less than this process has seen in it")


def check_epoch(stream: str, head: Head, epoch: int | None) -> None:
    """Raise Fenced unless ``epoch`` may write."""
    if epoch is not None and epoch != head.epoch:
        raise fenced(stream, head.epoch, epoch)


def fenced(stream: str, newest: int, epoch: object) -> Fenced:
    """Return the error of a writer whose epoch is not the newest."""
    return Fenced(f"the writer of stream {stream!r} is epoch {newest} now; epoch {epoch} may not write")


def check_through(stream: str, head: Head, through: int, records: int) -> None:
    """Raise ValueError unless a snapshot of so many records may stand for the stream up to ``through``."""
    if not max(head.through, min(records, 1)) <= through <= head.last:
        raise out_of_range(stream, head.last, head.through, through)


def out_of_range(stream: str, last: int, snapshot_through: int, through: object) -> ValueError:
    """Return the error of a compaction that would stand for records that are not there, or not any more."""
    return ValueError(
        f"stream {stream!r} cannot be compacted through {through}: its last record is {last} "
        f"and its snapshot stands for those through {snapshot_through}"
    )


def read(source: Source, stream: str, after: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Implement ``Journal.read`` on batches: what was there at the start, with every record checked."""
    start = source.head(stream)
    if after > start.last:
        raise damaged(source.place, f"stream {stream!r} ends at {start.last}, but was read up to {after} before")
    position = after
    if position < start.through:
        yield from _read_snapshot(source, stream, start)
        position = start.through
    while position < start.last:
        head, rows = source.records(stream, position, start.last)
        if head.through > position:
            raise _overtaken(source, stream)
        if not rows:
            raise damaged(source.place, f"record {position + 1} of stream {stream!r} is missing")
        for number, crc, body in rows:
            position += 1
            if number != position:
                raise damaged(source.place, f"record {position} of stream {stream!r} is missing")
            yield position, _decode(source, stream, str(position), crc, body)


def _read_snapshot(source: Source, stream: str, start: Head) -> Iterator[tuple[int, dict[str, Any]]]:
    position = 0
    while position < start.snapshot_records:
        head, rows = source.snapshot(stream, position)
        if head.snapshot_id != start.snapshot_id:
            raise _overtaken(source, stream)
        for number, crc, body in rows:
            position += 1
            if number != position:
                break
            yield start.through, _decode(source, stream, f"{start.through}.{position}", crc, body)
        if not rows or number != position or position > start.snapshot_records:
            raise damaged(source.place, f"the snapshot of stream {stream!r} lacks or repeats records")


def _decode(source: Source, stream: str, number: str, crc: int, body: bytes) -> dict[str, Any]:
    if not isinstance(body, bytes) or crc != checksum(stream, number, body):
        raise damaged(source.place, f"record {number} of stream {stream!r} does not match its checksum")
    try:
        record = json.loads(body)
    except ValueError as error:
        raise damaged(source.place, f"record {number} of stream {stream!r} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise damaged(source.place, f"record {number} of stream {stream!r} is not a JSON object")
    return record


def _overtaken(source: Source, stream: str) -> Unavailable:
    return Unavailable(
        f"stream {stream!r} of the journal {source.place} was compacted while it was read; read it again",
        retry_after_s=0.0,
    )
