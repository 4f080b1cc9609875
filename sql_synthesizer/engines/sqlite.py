"""SQLite: a file, opened for reading, with an authorizer that lets nothing through but reading tables."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from quantum_db.errors import InvalidSettings, QuantumDBError, SqlInvalid, SqlRefused, SqlTimeout, Unavailable
from sql_synthesizer.engines.deadline import Stopper
from sql_synthesizer.engines.ports import Limits, Parameter, Plan, Rows
from sql_synthesizer.engines.reflection import Reflection, Reflector
from sql_synthesizer.engines.sqlite_catalogue import raw_tables
from sql_synthesizer.engines.values import collect, kind_of_values
from sql_synthesizer.engines.versions import sqlite_version
from sql_synthesizer.schema import Schema

STEPS: Final = 2_000
"""Of SQLite's machine between two looks at the clock: well below a millisecond."""
LOOKED_AT: Final = 100
"""Rows by which the kinds of columns are told: SQLite has none for the columns of a result."""
CELL_BYTES: Final = 8 * 2**20
BUSY_S: Final = 1.0
MAX_IDLE: Final = 8

BOUNDS: Final = (
    (sqlite3.SQLITE_LIMIT_LENGTH, CELL_BYTES),
    (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 1_000_000),
    (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 100),
    (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 500),
    (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
    (sqlite3.SQLITE_LIMIT_VDBE_OP, 1_000_000),
    (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
    (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 0),
    (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
)
ALLOWED: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
INNER_TABLES: Final = ("sqlite_", "pragma_", "dbstat", "bytecode", "tables_used")
DANGEROUS: Final = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit", "zeroblob"})


class SqliteEngine:
    """Implements ``Engine``. Connections are kept for the next statement; each runs one at a time."""

    dialect: Final = "sqlite"

    def __init__(self, path: Path, *, reflection: Reflection) -> None:
        """Open the file for reading. Other processes may write it meanwhile.

        Raises:
            InvalidSettings: there is no such file.
            Unavailable: it cannot be read, or is no SQLite database.
        """
        if not path.is_file():
            raise InvalidSettings(f"there is no SQLite database at {path}")
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        try:
            self._reader = _connect(path)
            self._reader.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise Unavailable(f"{path} cannot be opened: {error}") from error
        self._reflector = Reflector(self.dialect, self._ask, raw_tables, reflection)

    def schema(self) -> Schema:
        """See ``Engine.schema``."""
        return self._reflector.schema(self.data_version)

    def run(
        self, sql: str, parameters: Sequence[Parameter] = (), limits: Limits | None = None, *, force_order: bool = False
    ) -> Rows:
        """See ``Engine.run``. ``CROSS JOIN`` keeps its order always, so ``force_order`` changes nothing here."""
        del force_order
        limits = limits or Limits()
        begun = time.perf_counter()
        with self._connection() as connection, _bounded(connection, limits.timeout_s, limits.stopper):
            cursor = connection.execute(sql, _bindable(parameters))
            if cursor.description is None:
                raise SqlRefused.in_sql("the statement gives no rows: it is empty, or does not read")
            first = list(islice(cursor, min(LOOKED_AT, limits.max_rows + 1)))
            rows, truncated = collect(chain(first, cursor), limits)
            columns = tuple(str(column[0]) for column in cursor.description)
            cursor.close()
        kinds = tuple(kind_of_values(row[index] for row in first) for index in range(len(columns)))
        return Rows(columns, kinds, rows, truncated, (time.perf_counter() - begun) * 1e3)

    def explain(
        self, sql: str, parameters: Sequence[Parameter] = (), limits: Limits | None = None, *, force_order: bool = False
    ) -> Plan:
        """See ``Engine.explain``."""
        del force_order
        with self._connection() as connection, _bounded(connection, (limits or Limits()).timeout_s):
            steps = connection.execute(f"EXPLAIN QUERY PLAN {sql}", _bindable(parameters)).fetchall()
        depths = {0: -1}
        lines = []
        for number, parent, _, text in steps:
            depths[number] = depths.get(parent, -1) + 1
            lines.append("  " * depths[number] + text)
        return Plan("\n".join(lines))

    def data_version(self) -> str:
        """See ``Engine.data_version``."""
        return sqlite_version(self._path)

    def close(self) -> None:
        """See ``Engine.close``."""
        with self._lock:
            self._closed = True
            for connection in (*self._idle, self._reader):
                connection.close()
            self._idle.clear()

    def _ask(self, sql: str, parameters: Sequence[Parameter], timeout_s: float) -> list[tuple[Any, ...]]:
        with _told(timeout_s), _bounded(self._reader, timeout_s):
            return self._reader.execute(sql, _bindable(parameters)).fetchall()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._closed:
                raise Unavailable("the database is closed")
            connection = self._idle.pop() if self._idle else None
        try:
            connection = connection or _sandboxed(self._path)
            yield connection
        finally:
            if connection is not None:
                self._keep(connection)

    def _keep(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None, timeout=BUSY_S)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA temp_store = MEMORY")  # sorting writes no file
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return connection


def _sandboxed(path: Path) -> sqlite3.Connection:
    with _told(BUSY_S):
        connection = _connect(path)
        connection.execute(
            "SELECT COUNT(*) FROM sqlite_master"
        ).fetchone()  # reads the catalogue, while that may be done
    for limit, value in BOUNDS:
        connection.setlimit(limit, value)
    connection.set_authorizer(_authorize)
    return connection


def _authorize(action: int, first: str | None, second: str | None, _database: str | None, _by: str | None) -> int:
    if action not in ALLOWED:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_READ and (first or "").lower().startswith(INNER_TABLES):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in DANGEROUS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


@contextmanager
def _bounded(connection: sqlite3.Connection, timeout_s: float, stopper: Stopper | None = None) -> Iterator[None]:
    """Stop what the connection does once the time is over; tell its errors as the caller's."""
    end, stopper = time.monotonic() + timeout_s, stopper or Stopper()
    connection.set_progress_handler(lambda: stopper.asked or time.monotonic() > end, STEPS)
    try:
        with _told(timeout_s):
            yield
    finally:
        connection.set_progress_handler(None, 0)


@contextmanager
def _told(timeout_s: float) -> Iterator[None]:
    try:
        yield
    except sqlite3.Warning as error:  # more than one statement
        raise SqlRefused.in_sql(f"SQLite: {error}") from error
    except sqlite3.Error as error:
        raise _meant(error, timeout_s) from error


def _meant(error: sqlite3.Error, timeout_s: float) -> QuantumDBError:
    code = getattr(error, "sqlite_errorcode", None)
    base = code & 0xFF if code is not None else None
    if base == sqlite3.SQLITE_INTERRUPT:
        return SqlTimeout(f"the statement took longer than {timeout_s:g} s and was stopped")
    if base == sqlite3.SQLITE_AUTH or "one statement at a time" in str(error):
        return SqlRefused.in_sql(f"SQLite refuses: {error}")
    if base in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOTADB):
        return Unavailable(f"SQLite does not answer: {error}")
    if base in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_PROTOCOL):
        return Unavailable(f"the database is damaged: {error}")
    return SqlInvalid.in_sql(f"SQLite: {error}")


def _bindable(parameters: Sequence[Parameter]) -> list[str | int | float | None]:
    """Return what sqlite3 takes: a decimal is a number as in the text of a statement, a date is text."""
    plain: list[str | int | float | None] = []
    for value in parameters:
        if value is None or isinstance(value, str | int | float):
            plain.append(value)
        else:
            plain.append(value.isoformat() if hasattr(value, "isoformat") else float(value))
    return plain
