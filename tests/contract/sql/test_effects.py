"""What statements do, not what they look like: no write, no file, no call, nothing that is hidden.

The sandbox stands alone where the guard is left out, and the guard alone where its statements run as the owner.
"""

from __future__ import annotations

import contextlib
import socket
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from quantum_db.errors import QuantumDBError, SqlInvalid
from scripts.private_postgres import PrivatePostgres
from sql_synthesizer.engines.ports import Engine, Limits
from sql_synthesizer.guard.check import Checked, Guard
from tests.contract.sql.attacks import ATTACKS, OUTSIDE, WRITES, statements
from tests.contract.sql.databases import HIDDEN, SECRET, Database, made

SALARIES = ("4711", "4712")
LIMITS = Limits(max_rows=100, timeout_s=2.0)
TABLES = ("cities", "people", "orders", "salaries")


@dataclass
class World:
    """What is around a database, and what must not change."""

    database: Database
    folder: Path
    canary: Path
    out: Path
    listener: socket.socket

    def filled(self, sql: str) -> str:
        port = self.listener.getsockname()[1]
        filled = sql
        for name, value in (("out", self.out), ("canary", self.canary), ("port", port)):
            filled = filled.replace(f"{{{name}}}", str(value))
        return filled

    def effects(self, told: Sequence[Any], *, hidden: bool = True) -> list[str]:
        """Return what has happened that must not."""
        found = []
        text = repr(told)
        if "canary" in text:
            found.append("a file was read")
        if hidden and (SECRET in text or any(salary in text for salary in SALARIES)):
            found.append("what is hidden was told")
        if self.out.exists():
            found.append("a file was written")
        with contextlib.suppress(BlockingIOError):
            self.listener.accept()
            found.append("somebody called")
        return found

    def content(self) -> str:
        """Return all that is in the database, as its owner sees it."""
        parts = [repr(sorted(self.database.rows(f"SELECT * FROM {table}"), key=repr)) for table in TABLES]
        names = {
            "sqlite": "SELECT sql FROM sqlite_master ORDER BY 1",
            "duckdb": "SELECT sql FROM duckdb_tables() UNION SELECT sql FROM duckdb_views() WHERE NOT internal"
            " ORDER BY 1",
            "postgres": "SELECT relname, relacl::text, relnatts FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
        }
        return "\n".join([*parts, repr(self.database.rows(names[self.database.dialect]))])


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[World]:
    canary = tmp_path / "secrets.txt"
    canary.write_text("canary,canary\ncanary,canary\n")
    canary.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield World(database, tmp_path, canary, tmp_path / "out", listener)


def test_the_sandbox_alone_lets_no_statement_have_an_effect(world: World) -> None:
    engine = world.database.engine()
    before, happened = world.content(), []
    for sql in [*statements(WRITES), *statements(OUTSIDE)]:
        told: Sequence[Any] = ()
        with contextlib.suppress(QuantumDBError):
            told = engine.run(world.filled(sql), limits=LIMITS).rows
        happened += [(sql, effect) for effect in world.effects(told, hidden=False)]
    assert happened == []
    assert world.content() == before
    assert engine.run("SELECT count(*) AS n FROM people").rows == ((3,),), "it still works"
    engine.close()


def test_what_one_statement_leaves_the_next_does_not_find(world: World) -> None:
    engine = world.database.engine()
    leaving = [
        "CREATE TEMP TABLE left_over AS SELECT 1 AS x",
        "SET statement_timeout = 0",
        "SELECT set_config('statement_timeout', '0', false)",
        "SELECT set_config('default_transaction_read_only', 'off', false)",
        "SELECT pg_advisory_lock(4242)",
        "PREPARE left_over AS SELECT 1",
    ]
    for sql in leaving:
        with contextlib.suppress(QuantumDBError):
            engine.run(sql, limits=LIMITS)
    with pytest.raises(SqlInvalid):
        engine.run("SELECT * FROM left_over")
    if world.database.dialect == "postgres":
        shown = engine.run(
            "SELECT current_setting('default_transaction_read_only'), count(*) FROM pg_locks"
            " WHERE locktype = 'advisory' AND objid = 4242"
        )
        assert shown.rows == (("on", 0),)
    engine.close()


def owner(
    database: Database, server: PrivatePostgres | None
) -> tuple[Callable[[Checked], list[Any]], Callable[[], None]]:
    """Return how to run a checked statement with all rights of the owner, outside of any sandbox."""
    if database.dialect == "postgres":
        assert server is not None
        connection = psycopg.connect(server.admin_url, autocommit=True)
        return lambda one: psycopg.RawCursor(connection).execute(one.sql, one.parameters).fetchall(), connection.close
    path = database.url.partition(":///")[2]
    if database.dialect == "sqlite":
        raw = sqlite3.connect(path, isolation_level=None)
        return lambda one: raw.execute(one.sql, one.parameters).fetchall(), raw.close
    duck = duckdb.connect(path)
    return lambda one: duck.execute(one.sql, list(one.parameters)).fetchall(), duck.close


def test_the_guard_alone_lets_no_statement_have_an_effect(world: World, request: pytest.FixtureRequest) -> None:
    engine = world.database.engine(hidden=HIDDEN)
    guard = Guard(engine.schema())
    engine.close()
    before, happened = world.content(), []
    server = request.getfixturevalue("postgres_server") if world.database.dialect == "postgres" else None
    run, close = owner(world.database, server)
    passed = 0
    for sql in ATTACKS:
        try:
            checked = guard.check(world.filled(sql), LIMITS)
        except QuantumDBError:
            continue
        passed += 1
        assert not {table for table, _ in checked.columns} & {"salaries"}, sql
        assert ("people", "password") not in checked.columns, sql
        with contextlib.suppress(sqlite3.Error, duckdb.Error, psycopg.Error):
            happened += [(sql, effect) for effect in world.effects(run(checked))]
    close()
    assert happened == []
    assert world.content() == before
    assert 0 < passed < 30, "stars and such are allowed, and give what may be seen"


@pytest.mark.parametrize(
    ("dialect", "sql", "effect"),
    [
        ("sqlite", "SELECT * FROM people", "what is hidden was told"),
        ("sqlite", "VACUUM INTO '{out}'", "a file was written"),
        ("duckdb", "SELECT * FROM salaries", "what is hidden was told"),
        ("duckdb", "COPY people TO '{out}'", "a file was written"),
        ("duckdb", "SELECT * FROM read_text('{canary}')", "a file was read"),
    ],
)
def test_an_effect_would_be_seen(tmp_path: Path, dialect: str, sql: str, effect: str) -> None:
    """Without guard and sandbox."""
    (tmp_path / "secrets.txt").write_text("canary")
    with made(dialect, tmp_path, None) as database, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        world = World(database, tmp_path, tmp_path / "secrets.txt", tmp_path / "out", listener)
        run, close = owner(database, None)
        told = run(Checked(world.filled(sql), (), frozenset(), frozenset(), False, None))  # type: ignore[arg-type]
        close()
        assert world.effects(told) == [effect]
        with socket.create_connection(listener.getsockname()):
            assert "somebody called" in world.effects(())


NASTY = [
    "'",
    "''",
    "\\",
    "\\'",
    "'; DROP TABLE orders; --",
    '"',
    "$1",
    "?1",
    "%s",
    "{}",
    "/* x */",
    "-- x",
    "\n",
    "ü😀",
    "$$x$$",
]
NASTY += ["\\x41", "E'\\x41'", "a\\", "' || (SELECT 1) || '", "U&'\\0041'", ":x", "@x", "`", "[x]", "\t", " ", ""]


def test_text_in_quotes_comes_back_as_it_was(engine: Engine) -> None:
    """Whether it is bound, or written into the statement, or a name."""
    guard = Guard(engine.schema())
    quoted = ["'" + text.replace("'", "''") + "'" for text in NASTY]
    written = guard.check(f"SELECT {', '.join(f'{text} AS c{place}' for place, text in enumerate(quoted))}")
    assert list(engine.run(written.sql, written.parameters).rows[0]) == NASTY
    for text, value in zip(quoted, NASTY, strict=True):
        compared = guard.check(f"SELECT count(*) AS n FROM cities WHERE name <> {text}")
        assert compared.parameters == (value,)
        assert engine.run(compared.sql, compared.parameters).rows == ((3,),)
    named = guard.check('SELECT id AS "a""b; --", name AS "x y" FROM cities ORDER BY "x y" LIMIT 1')
    assert engine.run(named.sql, named.parameters).columns == ('a"b; --', "x y")
