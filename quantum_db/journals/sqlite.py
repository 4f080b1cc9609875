"""A journal in one SQLite file, for one owner process."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quantum_db.errors import CorruptData, Unavailable

FORMAT_VERSION = 1


class SqliteJournal:
    """Implements ``Journal``. WAL with synchronous FULL: a record is on disk when ``append`` returns."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            CorruptData: the file is not a journal, or of a format that this version does not know.
            Unavailable: the file cannot be opened.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, FORMAT_VERSION):
                raise CorruptData(f"the journal {path} has format {version}; this version reads {FORMAT_VERSION}")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY AUTOINCREMENT, "
                "stream TEXT NOT NULL, record TEXT NOT NULL)"
            )
            self._connection.execute("CREATE INDEX IF NOT EXISTS by_stream ON records (stream, number)")
            self._connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        except sqlite3.OperationalError as error:
            raise Unavailable(f"the journal {path} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            raise CorruptData(f"{path} is not a journal: {error}") from error

    def append(self, stream: str, records: Sequence[Mapping[str, Any]]) -> int:
        """See ``Journal.append``. Raises Unavailable when the disk refuses (full, read-only)."""
        rows = [(stream, json.dumps(record)) for record in records]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany("INSERT INTO records (stream, record) VALUES (?, ?)", rows)
                number = self._connection.execute("SELECT coalesce(max(number), 0) FROM records").fetchone()[0]
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise Unavailable(f"the journal cannot be written: {error}") from error
        return int(number)

    def read(self, stream: str, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """See ``Journal.read``."""
        try:
            rows = self._connection.execute(
                "SELECT number, record FROM records WHERE stream = ? AND number > ? ORDER BY number", (stream, after)
            )
            for number, record in rows:
                yield number, json.loads(record)
        except (sqlite3.DatabaseError, ValueError) as error:
            raise CorruptData(f"the journal cannot be read: {error}") from error

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._connection.close()
