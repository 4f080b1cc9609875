"""PostgreSQL: a role that may only read, a transaction that may only read, and a statement's time bounded twice."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from quantum_db.errors import InvalidSettings, QuantumDBError, SqlInvalid, SqlRefused, SqlTimeout, Unavailable
from sql_synthesizer.engines.deadline import Stopper, deadline
from sql_synthesizer.engines.ports import Limits, Parameter, Plan, Rows
from sql_synthesizer.engines.postgres_catalogue import raw_tables
from sql_synthesizer.engines.postgres_values import read_leniently
from sql_synthesizer.engines.reflection import Reflection, Reflector
from sql_synthesizer.engines.values import collect, kind_of_type
from sql_synthesizer.schema import ColumnKind, Schema

CONNECT_TIMEOUT_S: Final = 5
GRACE_S: Final = 2.0
"""How long after its own deadline the server may take to say that it has stopped."""
MAX_IDLE: Final = 8
OPTIONS: Final = "-c default_transaction_read_only=on -c idle_in_transaction_session_timeout=60000 -c lock_timeout=2000"
KEEPALIVE: Final[dict[str, Any]] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
TOO_POWERFUL: Final = """
    SELECT name FROM (
        SELECT 'a superuser' AS name, rolsuper AS yes FROM pg_catalog.pg_roles WHERE rolname = current_user
        UNION ALL SELECT 'a user of replication', rolreplication FROM pg_catalog.pg_roles WHERE rolname = current_user
        UNION ALL SELECT 'a member of ' || rolname, pg_catalog.pg_has_role(current_user, oid, 'member')
        FROM pg_catalog.pg_roles
        WHERE rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
    ) AS powers WHERE yes"""
COST: Final = re.compile(r"cost=[\d.]+\.\.([\d.]+) rows=(\d+)")
READ_ONLY_STATES: Final = frozenset({"25001", "25006", "42501"})
"""Of SQLSTATE: what is refused because the transaction, or the role, may only read."""


class PostgresEngine:
    """Implements ``Engine``. Connections are kept for the next statement, cleaned of whatever the last one left."""

    dialect: Final = "postgres"

    def __init__(self, url: str, *, reflection: Reflection) -> None:
        """Connect once, to see that it can be done and that the role is a harmless one.

        Raises:
            InvalidSettings: the URL cannot be read, or the role may do more than a reader should.
            Unavailable: the server does not answer, or refuses the role.
        """
        self._url = url
        self._lock = threading.Lock()
        self._idle: list[psycopg.Connection[Any]] = []
        self._closed = False
        with self._connection(CONNECT_TIMEOUT_S) as connection:
            powers = [row[0] for row in connection.execute(TOO_POWERFUL).fetchall()]
            if powers:
                self.close()
                raise InvalidSettings(f"the role of the database URL is {powers[0]}: give a role that may only SELECT")
        self._reflector = Reflector(self.dialect, self._ask, raw_tables, reflection)

    def schema(self) -> Schema:
        """See ``Engine.schema``. Of tables in the first schema of the search path."""
        return self._reflector.schema(self.data_version)

    def run(
        self, sql: str, parameters: Sequence[Parameter] = (), limits: Limits | None = None, *, force_order: bool = False
    ) -> Rows:
        """See ``Engine.run``."""
        limits = limits or Limits()
        begun = time.perf_counter()
        with self._reading(limits.timeout_s, force_order) as connection, _stopping(connection, limits.stopper):
            cursor = psycopg.RawCursor(connection)
            rows, truncated = collect(cursor.stream(sql, list(parameters)), limits)
            if cursor.description is None:  # a stream of no rows does not tell its columns
                cursor.execute(sql, list(parameters))
            columns = [(one.name, _kind(connection, one.type_code)) for one in cursor.description or ()]
        names, kinds = tuple(name for name, _ in columns), tuple(kind for _, kind in columns)
        return Rows(names, kinds, rows, truncated, (time.perf_counter() - begun) * 1e3)

    def explain(
        self, sql: str, parameters: Sequence[Parameter] = (), limits: Limits | None = None, *, force_order: bool = False
    ) -> Plan:
        """See ``Engine.explain``."""
        with self._reading((limits or Limits()).timeout_s, force_order) as connection:
            lines = [str(line) for (line,) in psycopg.RawCursor(connection).stream(f"EXPLAIN {sql}", list(parameters))]
        told = COST.search(lines[0]) if lines else None
        return Plan("\n".join(lines), float(told[1]) if told else None, float(told[2]) if told else None)

    def data_version(self) -> str:
        """See ``Engine.data_version``. A write anywhere on the server changes it."""
        with self._connection(CONNECT_TIMEOUT_S) as connection:
            row = connection.execute(
                "SELECT current_database() || ':' || pg_catalog.pg_postmaster_start_time()::text"
                " || ':' || pg_catalog.pg_current_snapshot()::text"
            ).fetchone()
        return str(row[0]) if row else ""

    def close(self) -> None:
        """See ``Engine.close``."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _ask(self, sql: str, parameters: Sequence[Parameter], timeout_s: float) -> list[tuple[Any, ...]]:
        with self._reading(timeout_s, force_order=False) as connection:
            return psycopg.RawCursor(connection).execute(sql, list(parameters)).fetchall()

    @contextmanager
    def _reading(self, timeout_s: float, force_order: bool) -> Iterator[psycopg.Connection[Any]]:
        """Yield a connection within a read-only transaction, which is rolled back in the end.

        The SELECT fixes it: after it, no statement can make the transaction one that writes.
        """
        with self._connection(timeout_s) as connection:
            settings = {"statement_timeout": f"{max(1, round(timeout_s * 1e3))}"}
            if force_order:
                settings["join_collapse_limit"] = "1"
            changes = ", ".join(f"pg_catalog.set_config('{name}', '{value}', true)" for name, value in settings.items())
            connection.execute(f"BEGIN READ ONLY; SELECT {changes}")
            yield connection

    @contextmanager
    def _connection(self, timeout_s: float) -> Iterator[psycopg.Connection[Any]]:
        with self._lock:
            if self._closed:
                raise Unavailable("the database is closed")
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = _connect(self._url)
        try:
            with _told(timeout_s), deadline(timeout_s + GRACE_S, lambda: _hang_up(connection)):
                yield connection
        finally:
            self._keep(connection)

    def _keep(self, connection: psycopg.Connection[Any]) -> None:
        if _cleaned(connection):
            with self._lock:
                if not self._closed and len(self._idle) < MAX_IDLE:
                    self._idle.append(connection)
                    return
        connection.close()


@contextmanager
def _stopping(connection: psycopg.Connection[Any], stopper: Stopper | None) -> Iterator[None]:
    with (stopper or Stopper()).stopping(lambda: connection.cancel_safe(timeout=GRACE_S)):
        yield


def _connect(url: str) -> psycopg.Connection[Any]:
    try:
        connection = psycopg.connect(
            url,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            options=OPTIONS,
            prepare_threshold=None,
            application_name="query-agent",
            **KEEPALIVE,
        )
    except psycopg.ProgrammingError as error:
        raise InvalidSettings(f"the database URL cannot be read: {_first_line(error)}") from error
    except psycopg.OperationalError as error:
        raise Unavailable(f"PostgreSQL does not answer: {_first_line(error)}") from error
    read_leniently(connection)
    return connection


def _cleaned(connection: psycopg.Connection[Any]) -> bool:
    """Undo whatever a statement has left of itself in a connection; return whether that could be done."""
    usable = (TransactionStatus.IDLE, TransactionStatus.INTRANS, TransactionStatus.INERROR)
    if connection.closed or connection.info.transaction_status not in usable:
        return False
    try:
        with deadline(GRACE_S, lambda: _hang_up(connection)):
            if connection.info.transaction_status != TransactionStatus.IDLE:
                connection.rollback()
            connection.execute("DISCARD ALL")
    except psycopg.Error:
        return False
    return True


def _hang_up(connection: psycopg.Connection[Any]) -> None:
    """End a wait for a server that does not answer, from another thread."""
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


@contextmanager
def _told(timeout_s: float) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise _meant(error, timeout_s) from error


def _meant(error: psycopg.Error, timeout_s: float) -> QuantumDBError:
    if isinstance(error, psycopg.errors.QueryCanceled):
        return SqlTimeout(f"the statement took longer than {timeout_s:g} s and was stopped")
    if error.sqlstate in READ_ONLY_STATES:
        return SqlRefused.in_sql(f"PostgreSQL refuses: {_first_line(error)}")
    if "multiple commands" in str(error):
        return SqlRefused.in_sql("there are several statements, where one may run at a time")
    if error.sqlstate is None and (isinstance(error, psycopg.ProgrammingError) or "EMPTY_QUERY" in str(error)):
        return SqlRefused.in_sql("the statement gives no rows: it is empty, or does not read")
    if error.sqlstate is None or isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Unavailable(f"PostgreSQL does not answer: {_first_line(error)}")
    return SqlInvalid.in_sql(f"PostgreSQL: {_first_line(error)}")


def _kind(connection: psycopg.Connection[Any], oid: int) -> ColumnKind:
    known = connection.adapters.types.get(oid)
    return kind_of_type(known.name) if known is not None else ColumnKind.OTHER


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0].strip()
