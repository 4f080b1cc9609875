"""Which columns statements read, by the word of engines: none that is hidden, none that the guard does not know of.

SQLite tells by its authorizer; PostgreSQL denies what a role has no rights to.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantum_db.errors import SqlInvalid
from scripts.private_postgres import PrivatePostgres
from sql_synthesizer.engines.ports import Engine
from sql_synthesizer.engines.reflection import Reflection
from sql_synthesizer.engines.urls import open_engine
from sql_synthesizer.guard.check import Guard
from tests.contract.sql.attacks import HIDDEN_READS, statements
from tests.contract.sql.databases import HIDDEN, made

BAD = ["password", "p.password", "people.password", "x.password", "salary", "p", "rowid"]
FRAMES = {
    "people p": ["id", "name", "p.born", "p.city_id"],
    "people": ["id", "people.name", "born"],
    "people p JOIN orders o ON p.id = o.person_id": ["id", "p.name", "note", "o.total", "order_no"],
    "orders o, people p": ["o.note", "p.id", "name", "total"],
    "people NATURAL JOIN tall": ["id", "name", "people.born", "tall.id"],
    "people p LEFT JOIN (SELECT id, name AS password FROM people) x USING (id)": ["id", "password", "x.password"],
    "cities c, (SELECT * FROM people) x": ["c.name", "x.name", "born", "founded"],
    "people p JOIN people q USING (id, name)": ["id", "name", "p.born", "q.id"],
    "(people p JOIN orders o ON p.id = o.person_id) JOIN cities c ON c.id = p.city_id": ["c.name", "p.name", "note"],
    "(SELECT 1 AS password, 2 AS x) x": ["password", "x.x", "x.password"],
    "(SELECT id FROM people UNION SELECT order_no FROM orders) x": ["id", "x.id"],
}


@st.composite
def selects(draw: st.DrawFn) -> str:
    frame = draw(st.sampled_from(sorted(FRAMES)))
    columns = st.sampled_from([*FRAMES[frame] * 4, *BAD])
    values = st.one_of(
        columns,
        columns,
        st.sampled_from(["1", "'a'", "(SELECT max(note) FROM orders)", "(SELECT password)"]),
        st.builds("lower({})".format, columns),
        st.builds("({} = {})".format, columns, columns),
        st.builds("EXISTS (SELECT 1 FROM orders WHERE {} = orders.note)".format, columns),
        st.builds("(SELECT count(*) FROM cities WHERE {} = cities.id)".format, columns),
        st.builds("row_number() OVER (PARTITION BY {} ORDER BY {})".format, columns, columns),
    )
    names = st.sampled_from(["a", "b", "password", "name", "salary"])
    outputs = st.one_of(values, st.builds("{} AS {}".format, values, names), st.just("*"))
    clauses = {"WHERE": values, "GROUP BY": st.one_of(columns, names), "ORDER BY": st.one_of(values, names)}
    text = f"SELECT {', '.join(draw(st.lists(outputs, min_size=1, max_size=3)))} FROM {frame}"
    for clause, parts in clauses.items():
        if draw(st.integers(0, 2)) == 0:
            text += f" {clause} {draw(parts)}"
    return text


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Guard, sqlite3.Connection, set[tuple[str, str]]]]:
    folder = tmp_path_factory.mktemp("watched")
    with made("sqlite", folder, None) as database:
        engine = open_engine(database.url, Reflection(hidden=HIDDEN))
        guard = Guard(engine.schema())
        engine.close()
        connection = sqlite3.connect(folder / "people.sqlite")
        read: set[tuple[str, str]] = set()

        def watch(action: int, table: str | None, column: str | None, *_: str | None) -> int:
            if action == sqlite3.SQLITE_READ and table and column:
                read.add((table, column))
            return sqlite3.SQLITE_OK

        connection.set_authorizer(watch)
        yield guard, connection, read
        connection.close()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sql=selects())
def test_an_engine_reads_no_column_that_the_guard_does_not_know_of(
    watched: tuple[Guard, sqlite3.Connection, set[tuple[str, str]]], sql: str
) -> None:
    guard, connection, read = watched
    try:
        checked = guard.check(sql)
    except SqlInvalid:
        return
    read.clear()
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute(checked.sql, checked.parameters)
    through_views = {("people", "id"), ("people", "name"), ("people", "height")} if "tall" in checked.tables else set()
    assert read - through_views <= checked.columns, (sql, checked.sql)
    assert ("people", "password") not in read, (sql, checked.sql)
    assert not any(table == "salaries" for table, _ in read), (sql, checked.sql)


def test_the_watch_sees_what_is_read(watched: tuple[Guard, sqlite3.Connection, set[tuple[str, str]]]) -> None:
    _, connection, read = watched
    read.clear()
    connection.execute("SELECT 1 AS name FROM people GROUP BY password")
    assert ("people", "password") in read


def test_most_attacks_on_what_is_hidden_are_refused_with_a_reason(engine: Engine) -> None:
    guard, some = Guard(engine.schema()), statements(HIDDEN_READS)
    reasons = [reason for sql in some if (reason := refusal(guard, sql)) is not None]
    assert len(reasons) > 0.75 * len(some), "the others read what may be seen"
    assert all(reasons)


def refusal(guard: Guard, sql: str) -> str | None:
    try:
        guard.check(sql)
    except SqlInvalid as error:
        return error.detail
    return None


@pytest.fixture
def narrow(postgres_server: PrivatePostgres, tmp_path: Path) -> Iterator[tuple[Guard, psycopg.Connection[Any]]]:
    with made("postgres", tmp_path, postgres_server) as database:
        engine = database.engine(hidden=HIDDEN)
        schema = engine.schema()
        engine.close()
        database.write("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM reader")
        for table in schema.tables.values():
            database.write(f"GRANT SELECT ({', '.join(table.columns)}) ON {table.name} TO reader")
        with psycopg.connect(postgres_server.reader_url, autocommit=True) as connection:
            yield Guard(schema), connection


def denied(connection: psycopg.Connection[Any], sql: str, parameters: Sequence[Any]) -> bool:
    try:
        psycopg.RawCursor(connection).execute(sql, parameters)
    except psycopg.errors.InsufficientPrivilege:
        return True
    except psycopg.Error:
        return False
    return False


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sql=selects())
def test_a_role_with_rights_to_what_may_be_seen_is_never_denied(
    narrow: tuple[Guard, psycopg.Connection[Any]], sql: str
) -> None:
    guard, connection = narrow
    with contextlib.suppress(SqlInvalid):
        checked = guard.check(sql)
        assert not denied(connection, checked.sql, checked.parameters), (sql, checked.sql)


def test_a_role_with_rights_to_what_may_be_seen_may_run_all_attacks_that_pass(
    narrow: tuple[Guard, psycopg.Connection[Any]],
) -> None:
    guard, connection = narrow
    passed = [sql for sql in statements(HIDDEN_READS) if refusal(guard, sql) is None]
    assert len(passed) > 5
    for sql in passed:
        checked = guard.check(sql)
        assert not denied(connection, checked.sql, checked.parameters), (sql, checked.sql)
    assert denied(connection, "SELECT password FROM people", ())
    assert denied(connection, "SELECT 1 FROM people GROUP BY password", ())
