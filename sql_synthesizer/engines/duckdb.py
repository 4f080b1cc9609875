"""DuckDB: a file, opened for reading, with every door to the outside locked before the first statement."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb

from quantum_db.errors import InvalidSettings, QuantumDBError, SqlInvalid, SqlRefused, SqlTimeout, Unavailable
from sql_synthesizer.engines.deadline import Stopper, deadline
from sql_synthesizer.engines.duckdb_catalogue import raw_tables
from sql_synthesizer.engines.ports import Limits, Parameter, Plan, Rows
from sql_synthesizer.engines.reflection import Ask, Reflection, Reflector
from sql_synthesizer.engines.values import collect, identifier, kind_of_type
from sql_synthesizer.engines.versions import file_version
from sql_synthesizer.schema import Schema

LOCKS: Final = {
    "temp_directory": "",  # what does not fit into memory fails, instead of being written; first, as the next locks it
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
NO_PYTHON: Final = {
    "python_enable_replacements": "false",  # a name that is no table would be looked for among Python's variables
    "python_scan_all_frames": "false",
}
"""Given when connecting: a later connection to the same file would set them anew."""
CHUNK: Final = 512
ALLOWED: Final = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


class DuckDbEngine:
    """Implements ``Engine``. One database in memory is kept open; each statement has a connection of its own."""

    dialect: Final = "duckdb"

    def __init__(self, path: Path, *, threads: int = 2, memory_mb: int = 1024, reflection: Reflection) -> None:
        """Open the file for reading. As long as it is open, no other process can write it.

        Raises:
            InvalidSettings: there is no such file.
            Unavailable: it cannot be opened: another process writes it, or it is no DuckDB database.
        """
        if not path.is_file():
            raise InvalidSettings(f"there is no DuckDB database at {path}")
        self._version = file_version(path)
        try:
            self._database = duckdb.connect(str(path), read_only=True, config=dict(NO_PYTHON))
            _lock(self._database, threads, memory_mb)
        except duckdb.Error as error:
            raise Unavailable(f"{path} cannot be opened: {_first_line(error)}") from error
        self._order = _switch_of(path.resolve())
        self._reflector = Reflector(self.dialect, self._ask, self._catalogue, reflection)

    def schema(self) -> Schema:
        """See ``Engine.schema``."""
        return self._reflector.schema(self.data_version)

    def run(
        self, sql: str, parameters: Sequence[Parameter] = (), limits: Limits | None = None, *, force_order: bool = False
    ) -> Rows:
        """See ``Engine.run``."""
        limits = limits or Limits()
        with self._cursor(limits.timeout_s, limits.stopper) as cursor:
            return _run(cursor, self._order, sql, parameters, limits, force_order)

    @contextmanager
    def session(self, timeout_s: float) -> Iterator[DuckDbSession]:
        """See ``SharingEngine.session``."""
        with self._cursor(timeout_s) as cursor:
            yield DuckDbSession(cursor, self._order)

    def explain(
        self, sql: str, parameters: Sequence[Parameter] = (), limits: Limits | None = None, *, force_order: bool = False
    ) -> Plan:
        """See ``Engine.explain``."""
        limits = limits or Limits()
        with self._cursor(limits.timeout_s, limits.stopper) as cursor:
            _check(cursor, sql)
            with self._order.as_written(cursor, force_order, limits.timeout_s):
                cursor.execute(f"EXPLAIN {sql}", list(parameters))
            return Plan("\n".join(str(row[1]) for row in cursor.fetchall()))

    def data_version(self) -> str:
        """See ``Engine.data_version``. Nobody writes the file while it is open here."""
        return self._version

    def close(self) -> None:
        """See ``Engine.close``."""
        self._database.close()

    def _ask(self, sql: str, parameters: Sequence[Parameter], timeout_s: float) -> list[tuple[Any, ...]]:
        with self._cursor(timeout_s) as cursor:
            return [tuple(row) for row in cursor.execute(sql, list(parameters)).fetchall()]

    def _catalogue(self, ask: Ask) -> Any:
        return raw_tables(ask)

    @contextmanager
    def _cursor(self, timeout_s: float, stopper: Stopper | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection for one statement. What it leaves, such as temporary tables, ends with it."""
        try:
            cursor = self._database.cursor()
        except duckdb.Error as error:
            raise Unavailable(f"the database is closed: {_first_line(error)}") from error
        try:
            with deadline(timeout_s, cursor.interrupt) as state:
                try:
                    with (stopper or Stopper()).stopping(cursor.interrupt):
                        yield cursor
                except duckdb.Error as error:
                    over = state.passed or (stopper is not None and stopper.asked)
                    raise _told(error, over, timeout_s) from error
        finally:
            cursor.close()


class DuckDbSession:
    """Implements ``Session``: one connection, whose temporary tables are in memory and end with it."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, order: _OrderSwitch) -> None:
        """Use a connection; the caller closes it."""
        self._cursor = cursor
        self._order = order

    def keep(self, name: str, sql: str, parameters: Sequence[Parameter], timeout_s: float) -> int:
        """See ``Session.keep``."""
        with self._bounded(timeout_s):
            _check(self._cursor, sql)
            with self._order.as_written(self._cursor, False, timeout_s):
                self._cursor.execute(f"CREATE TEMP TABLE {identifier(name)} AS {sql}", list(parameters))
            found = self._cursor.fetchone()
        return int(found[0]) if found else 0

    def run(self, sql: str, parameters: Sequence[Parameter], limits: Limits) -> Rows:
        """See ``Session.run``."""
        with self._bounded(limits.timeout_s):
            return _run(self._cursor, self._order, sql, parameters, limits, force_order=False)

    @contextmanager
    def _bounded(self, timeout_s: float) -> Iterator[None]:
        with deadline(timeout_s, self._cursor.interrupt) as state:
            try:
                yield
            except duckdb.Error as error:
                raise _told(error, state.passed, timeout_s) from error


class _OrderSwitch:
    """DuckDB has one switch for all connections of a database: statements that want it set differently take turns."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._running = 0
        self._forced = False
        self._waiting = {False: 0, True: 0}

    @contextmanager
    def as_written(self, cursor: duckdb.DuckDBPyConnection, forced: bool, timeout_s: float) -> Iterator[None]:
        """Keep the switch for as long as the block, which plans a statement."""
        with self._condition:
            self._waiting[forced] += 1
            try:
                if not self._condition.wait_for(lambda: self._may_run(forced), timeout_s):
                    raise SqlTimeout(f"statements of the other join order took longer than {timeout_s:g} s")
            finally:
                self._waiting[forced] -= 1
            if self._running == 0:
                cursor.execute(f"SET disabled_optimizers = '{'join_order' if forced else ''}'")
                self._forced = forced
            self._running += 1
        try:
            yield
        finally:
            with self._condition:
                self._running -= 1
                self._condition.notify_all()

    def _may_run(self, forced: bool) -> bool:
        """Whoever wants it the other way and waits is let in before more come that want it as it is."""
        return self._running == 0 or (self._forced == forced and not self._waiting[not forced])


_switches: weakref.WeakValueDictionary[Path, _OrderSwitch] = weakref.WeakValueDictionary()
"""By file: all engines of a process share DuckDB's instance of a file, and with it the switch."""
_switches_lock = threading.Lock()


def _switch_of(path: Path) -> _OrderSwitch:
    with _switches_lock:
        found = _switches.get(path)
        if found is None:
            found = _switches[path] = _OrderSwitch()
        return found


def _lock(database: duckdb.DuckDBPyConnection, threads: int, memory_mb: int) -> None:
    """Lock the doors, then the configuration; see that they are locked, whoever in this process opened it first."""
    if not _setting(database, "lock_configuration"):
        for name, value in {**LOCKS, "threads": threads, "memory_limit": f"{memory_mb}MB"}.items():
            database.execute(f"SET {name} = '{value}'")
        # The one setting that may change afterwards: it keeps the written order of joins.
        database.execute("SET allowed_configs = ['disabled_optimizers']")
        database.execute("SET lock_configuration = true")
    for name, value in {**LOCKS, **NO_PYTHON}.items():
        if str(_setting(database, name)).lower() != value:
            database.close()
            raise InvalidSettings(f"DuckDB's {name} is not {value!r}: the file is open elsewhere in this process")


def _setting(database: duckdb.DuckDBPyConnection, name: str) -> Any:
    found = database.execute(f"SELECT current_setting('{name}')").fetchone()
    return found[0] if found else None


def _run(
    cursor: duckdb.DuckDBPyConnection,
    order: _OrderSwitch,
    sql: str,
    parameters: Sequence[Parameter],
    limits: Limits,
    force_order: bool,
) -> Rows:
    begun = time.perf_counter()
    _check(cursor, sql)
    with order.as_written(cursor, force_order, limits.timeout_s):
        cursor.execute(sql, list(parameters))
    columns = [(str(column[0]), kind_of_type(str(column[1]))) for column in cursor.description or ()]
    rows, truncated = collect(_rows(cursor), limits)
    names, kinds = tuple(name for name, _ in columns), tuple(kind for _, kind in columns)
    return Rows(names, kinds, rows, truncated, (time.perf_counter() - begun) * 1e3)


def _check(cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Let DuckDB's own parser say that it is one statement that reads."""
    statements = cursor.extract_statements(sql)
    if len(statements) != 1:
        raise SqlRefused.in_sql(f"there are {len(statements)} statements, where one may run at a time")
    if statements[0].type not in ALLOWED:
        raise SqlRefused.in_sql(f"a statement of kind {statements[0].type.name} does not only read")


def _rows(cursor: duckdb.DuckDBPyConnection) -> Iterator[Sequence[Any]]:
    while chunk := cursor.fetchmany(CHUNK):
        yield from chunk


def _told(error: duckdb.Error, timed_out: bool, timeout_s: float) -> QuantumDBError:
    if isinstance(error, duckdb.InterruptException) and timed_out:
        return SqlTimeout(f"the statement took longer than {timeout_s:g} s and was stopped")
    if isinstance(error, duckdb.ConnectionException | duckdb.IOException | duckdb.FatalException):
        return Unavailable(f"DuckDB does not answer: {_first_line(error)}")
    if isinstance(error, duckdb.PermissionException):
        return SqlRefused.in_sql(f"DuckDB refuses: {_first_line(error)}")
    return SqlInvalid.in_sql(f"DuckDB: {_first_line(error)}")


def _first_line(error: duckdb.Error) -> str:
    return str(error).partition("\n")[0].strip()
