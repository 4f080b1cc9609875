"""The file of the SQLite journal: made whole or not at all, migrated in one transaction, refused when it is damaged.

Format 2, kept in ``user_version``: a table of stream heads, one of records and one of snapshot records. Pages that a
compaction frees are used again by the next appends and are not given back: a journal grows to the same size before its
next compaction, and moving its pages (auto_vacuum) would write more than the compaction itself.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from quantum_db.errors import CorruptData, Unavailable
from quantum_db.journals.records import Head, checksum, damaged, head_checksum

FORMAT_VERSION = 2
BUSY_TIMEOUT_S = 10.0
"""How long a call waits for another process's write."""

_HEADER_BYTES = 100
_WAL_LIMIT_BYTES = 16 * 1024 * 1024
_TABLES = (
    "CREATE TABLE streams (stream TEXT PRIMARY KEY, epoch INTEGER NOT NULL, last INTEGER NOT NULL, "
    "through INTEGER NOT NULL, snapshot_records INTEGER NOT NULL, compactions INTEGER NOT NULL, "
    "checksum INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE records (stream TEXT, number INTEGER, checksum INTEGER NOT NULL, body TEXT NOT NULL, "
    "PRIMARY KEY (stream, number)) WITHOUT ROWID",
    "CREATE TABLE snapshots (stream TEXT, position INTEGER, checksum INTEGER NOT NULL, body TEXT NOT NULL, "
    "PRIMARY KEY (stream, position)) WITHOUT ROWID",
)
_DAMAGE = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,  # a table or column is missing
    sqlite3.SQLITE_CONSTRAINT,  # a record is where the next one should go
    sqlite3.SQLITE_MISMATCH,
}


def open_file(path: Path) -> None:
    """Make the file if there is none, or check it and bring it to the current format.

    Raises:
        CorruptData: the file is empty, damaged, no journal, or of a format that this version does not know.
        Unavailable: the file cannot be opened or written, or another process keeps it busy.
    """
    with told(path):
        if not path.exists():
            _make(path)
        elif path.is_file() and (size := path.stat().st_size) < _HEADER_BYTES:
            raise damaged(str(path), f"the file has {size} bytes")  # SQLite would take it for a new one
        with closing(connect(path)) as connection:
            version = _version(connection)
            if version == 1:
                _migrate(path, connection)
            elif version != FORMAT_VERSION:
                known = f"this version reads {FORMAT_VERSION} and migrates 1"
                raise CorruptData(
                    f"{path} is not a journal or one of another version: it has format {version}; {known}"
                )
            made = connection.execute("SELECT CAST(sql AS BLOB) FROM sqlite_master WHERE type = 'table'").fetchall()
            if not {(statement.encode(),) for statement in _TABLES}.issubset(made):
                raise damaged(str(path), "its tables are gone or are others")
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise Unavailable(f"the journal {path} is on a file system that cannot keep a write-ahead log")


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to a file that is there. Usable from any thread, by one at a time."""
    uri = f"file:{quote(str(path.absolute()))}?mode=rw"  # never makes an empty file
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        for pragma in ("synchronous = FULL", "cell_size_check = ON", f"journal_size_limit = {_WAL_LIMIT_BYTES}"):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str) -> Iterator[sqlite3.Connection]:
    """Run the block in a transaction (``IMMEDIATE`` to write, ``DEFERRED`` to read); roll back when it raises."""
    if connection.in_transaction:  # an earlier rollback failed too
        connection.execute("ROLLBACK")
    connection.execute(f"BEGIN {kind}")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite ends it by itself on some errors
            connection.execute("ROLLBACK")
        raise


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of files into CorruptData (damage) and Unavailable (full, busy, no rights)."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"the journal {path} cannot be opened: {error.strerror}") from error
    except UnicodeDecodeError as error:  # in a message of SQLite that quotes damaged text
        raise damaged(str(path), "a text in it is not UTF-8") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:  # a wrong call, not a state of the file
            raise
        if code & 0xFF in _DAMAGE or code == sqlite3.SQLITE_IOERR_SHORT_READ:
            raise damaged(str(path), str(error)) from error
        verb = "opened" if code & 0xFF == sqlite3.SQLITE_CANTOPEN else "used"
        raise Unavailable(f"the journal {path} cannot be {verb}: {error}", retry_after_s=1.0) from error


def put_head(connection: sqlite3.Connection, stream: str, head: Head) -> None:
    """Write the head of a stream."""
    numbers = (head.epoch, head.last, head.through, head.snapshot_records, int(head.snapshot_id))
    row = (stream, *numbers, head_checksum(stream, head))
    connection.execute("INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def get_head(place: str, connection: sqlite3.Connection, stream: str) -> Head:
    """Return the head of a stream, that of a new one if there is none. Raises CorruptData."""
    columns = connection.execute(
        "SELECT epoch, last, through, snapshot_records, compactions, checksum FROM streams WHERE stream = ?", (stream,)
    ).fetchone()
    if columns is None:
        held = (
            "SELECT EXISTS (SELECT 1 FROM records WHERE stream = ?), EXISTS (SELECT 1 FROM snapshots WHERE stream = ?)"
        )
        if any(connection.execute(held, (stream, stream)).fetchone()):
            raise damaged(place, f"stream {stream!r} has records, but no head")
        return Head(snapshot_id="0")
    epoch, last, through, snapshot_records, compactions, crc = columns
    head = Head(epoch, last, through, snapshot_records, str(compactions))
    if crc != head_checksum(stream, head):
        raise damaged(place, f"the head of stream {stream!r} does not match its checksum")
    return head


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")


def _make(path: Path) -> None:
    """Make the file elsewhere and link it in its place, so that a file of this name is never a part of one."""
    if (left := path.with_name(f"{path.name}-wal")).exists():
        raise damaged(str(path), f"the file is gone and its write-ahead log {left.name} is left")
    new_folders = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.new-", dir=path.parent) as folder:
        made = Path(folder) / path.name
        made.touch()
        with closing(connect(made)) as connection:
            with transaction(connection, "IMMEDIATE"):
                _make_tables(connection)
            connection.execute("PRAGMA journal_mode = WAL")
        with suppress(FileExistsError):  # another process was first
            path.hardlink_to(made)
    for folder_with_news in (path.parent, *(folder.parent for folder in new_folders)):
        _sync(folder_with_news)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _migrate(path: Path, connection: sqlite3.Connection) -> None:
    """Bring format 1 to format 2: streams numbered by themselves, checksums. In one transaction."""
    with transaction(connection, "IMMEDIATE"):
        if _version(connection) != 1:
            return  # another process was first
        count, last = connection.execute("SELECT count(*), coalesce(max(number), 0) FROM records").fetchone()
        row = connection.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'records'").fetchone()
        if not count == last == row[0]:
            raise damaged(str(path), f"it has {count} records of {row[0]}")
        connection.execute("ALTER TABLE records RENAME TO records_1")
        _make_tables(connection)
        connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?)", _renumbered(path, connection))
        for stream, last in connection.execute("SELECT stream, max(number) FROM records GROUP BY stream").fetchall():
            put_head(connection, stream, Head(last=last, snapshot_id="0"))
        connection.execute("DROP TABLE records_1")


def _renumbered(path: Path, connection: sqlite3.Connection) -> Iterator[tuple[str, int, int, str]]:
    counted: dict[str, int] = {}
    rows = connection.execute(  # as bytes: damaged text cannot be fetched as text
        "SELECT CAST(stream AS BLOB), number, CAST(record AS BLOB) FROM records_1 ORDER BY stream, number"
    )
    for stream_name, old_number, record in rows:
        try:
            stream, body = stream_name.decode(), record.decode()
            readable = isinstance(json.loads(body), dict)
        except ValueError:
            readable = False
        if not readable:
            raise damaged(str(path), f"record {old_number} cannot be read")
        number = counted[stream] = counted.get(stream, 0) + 1
        yield stream, number, checksum(stream, str(number), record), body
