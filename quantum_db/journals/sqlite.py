"""A journal in one SQLite file: WAL with synchronous FULL, so a record is on disk when ``append`` returns."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from quantum_db.errors import Unavailable
from quantum_db.journals.records import (
    BATCH,
    Head,
    Row,
    Seen,
    check_epoch,
    check_through,
    checksum,
    encode,
    lost,
    read,
)
from quantum_db.journals.sqlite_file import connect, get_head, open_file, put_head, told, transaction


class SqliteJournal:
    """Implements ``Journal``, and ``Source`` for its reading.

    Other processes may open the same file; epochs decide who writes. One connection writes and one reads, so that a
    reader never sees an append that is not committed.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file; a file of format 1 is migrated.

        Raises:
            CorruptData: the file is damaged, is not a journal, or has a format that this version does not know.
            Unavailable: the file cannot be opened or written.
        """
        self._path = path
        self._seen = Seen()
        self._closed = False
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()
        open_file(path)
        with told(path):
            self._writer = connect(path)
            self._reader = connect(path)
            self._reader.execute("PRAGMA query_only = ON")

    @property
    def place(self) -> str:
        """See ``Source.place``."""
        return str(self._path)

    def begin_epoch(self, stream: str) -> int:
        """See ``Journal.begin_epoch``."""
        with self._write(stream) as (connection, head):
            begun = replace(head, epoch=head.epoch + 1)
            put_head(connection, stream, begun)
        self._seen.note(stream, begun)
        return begun.epoch

    def append(self, stream: str, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None) -> int:
        """See ``Journal.append``."""
        bodies = [encode(record) for record in records]
        with self._write(stream) as (connection, head):
            check_epoch(stream, head, epoch)
            if not bodies:
                return head.last
            rows = (
                (stream, number, checksum(stream, str(number), body.encode()), body)
                for number, body in enumerate(bodies, head.last + 1)
            )
            connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?)", rows)
            grown = replace(head, last=head.last + len(bodies))
            put_head(connection, stream, grown)
        self._seen.note(stream, grown)
        return grown.last

    def read(self, stream: str, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """See ``Journal.read``."""
        return read(self, stream, after)

    def last(self, stream: str) -> int:
        """See ``Journal.last``."""
        return self.head(stream).last

    def compact(
        self, stream: str, through: int, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None
    ) -> None:
        """See ``Journal.compact``."""
        bodies = [encode(record) for record in records]
        with self._write(stream) as (connection, head):
            check_epoch(stream, head, epoch)
            check_through(stream, head, through, len(bodies))
            connection.execute("DELETE FROM records WHERE stream = ? AND number <= ?", (stream, through))
            connection.execute("DELETE FROM snapshots WHERE stream = ?", (stream,))
            rows = (
                (stream, position, checksum(stream, f"{through}.{position}", body.encode()), body)
                for position, body in enumerate(bodies, 1)
            )
            connection.executemany("INSERT INTO snapshots VALUES (?, ?, ?, ?)", rows)
            identity = str(int(head.snapshot_id) + 1)
            compacted = replace(head, through=through, snapshot_records=len(bodies), snapshot_id=identity)
            put_head(connection, stream, compacted)

    def close(self) -> None:
        """See ``Journal.close``. The write-ahead log goes into the file."""
        with self._write_lock, self._read_lock:
            self._closed = True
            self._reader.close()
            self._writer.close()

    def head(self, stream: str) -> Head:
        """See ``Source.head``."""
        with self._read(stream) as (_, head):
            return head

    def records(self, stream: str, after: int, through: int) -> tuple[Head, Sequence[Row]]:
        """See ``Source.records``."""
        with self._read(stream) as (connection, head):
            return head, connection.execute(
                "SELECT number, checksum, CAST(body AS BLOB) FROM records "
                "WHERE stream = ? AND number > ? AND number <= ? ORDER BY number LIMIT ?",
                (stream, after, through, BATCH),
            ).fetchall()

    def snapshot(self, stream: str, after: int) -> tuple[Head, Sequence[Row]]:
        """See ``Source.snapshot``."""
        with self._read(stream) as (connection, head):
            return head, connection.execute(
                "SELECT position, checksum, CAST(body AS BLOB) FROM snapshots "
                "WHERE stream = ? AND position > ? ORDER BY position LIMIT ?",
                (stream, after, BATCH),
            ).fetchall()

    @contextmanager
    def _write(self, stream: str) -> Iterator[tuple[sqlite3.Connection, Head]]:
        with self._write_lock:
            self._check_open()
            with told(self._path), transaction(self._writer, "IMMEDIATE") as connection:
                yield connection, self._checked_head(connection, stream, self._seen.bound(stream))

    @contextmanager
    def _read(self, stream: str) -> Iterator[tuple[sqlite3.Connection, Head]]:
        bound = self._seen.bound(stream)
        with self._read_lock:
            self._check_open()
            with told(self._path), transaction(self._reader, "DEFERRED") as connection:
                head = self._checked_head(connection, stream, bound)
                self._seen.note(stream, head)
                yield connection, head

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(f"the journal {self._path} is closed")

    def _checked_head(self, connection: sqlite3.Connection, stream: str, bound: tuple[int, int]) -> Head:
        head = get_head(self.place, connection, stream)
        if head.epoch < bound[0] or head.last < bound[1]:
            raise lost(self.place)
        return head
