"""One small database in each engine, with something in it that nobody may see."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from scripts.private_postgres import PrivatePostgres, binary
from sql_synthesizer.engines.ports import Engine
from sql_synthesizer.engines.reflection import Reflection
from sql_synthesizer.engines.urls import open_engine

ENGINES = ("duckdb", "sqlite", "postgres")
SECRET = "hunter2"
HIDDEN = ("salaries", "people.password")
NO_POSTGRES = None if binary("postgres") else "PostgreSQL is not installed: run scripts/install_postgres.sh"

TABLES = """
CREATE TABLE cities (id INTEGER PRIMARY KEY, name VARCHAR(50) NOT NULL, founded DATE);
CREATE TABLE people (
    id INTEGER PRIMARY KEY, name VARCHAR(50) NOT NULL, password VARCHAR(50), city_id INTEGER REFERENCES cities (id),
    born DATE, height NUMERIC(5, 2), seen TIMESTAMP
);
CREATE TABLE orders (order_no INTEGER PRIMARY KEY, person_id INTEGER, total NUMERIC(10, 2), note VARCHAR(100));
CREATE TABLE salaries (person_id INTEGER, salary INTEGER);
CREATE VIEW tall AS SELECT id, name FROM people WHERE height > 1.8;
INSERT INTO cities VALUES (1, 'Ulm', '0850-07-22'), (2, 'Bonn', NULL), (3, 'Trier', '1984-01-01');
INSERT INTO people VALUES
    (1, 'Ada', 'hunter2', 1, '1815-12-10', 1.65, '2024-01-02 03:04:05'),
    (2, 'Bob', 'hunter2', 1, '1990-05-05', 1.90, '2024-02-02 00:00:00'),
    (3, 'Cyd', 'hunter2', 2, NULL, 1.85, NULL);
INSERT INTO orders VALUES (10, 1, 9.99, 'x'), (11, 1, 20.01, 'it''s'), (12, 2, 5.00, NULL), (13, 3, 100.00, 'x');
INSERT INTO salaries VALUES (1, 4711), (2, 4712)
"""


@dataclass(frozen=True)
class Database:
    """A database and how to look at it and to change it from outside of the sandbox.

    Attributes:
        url: for ``open_engine``.
        write: runs statements as the owner; while an engine has a DuckDB file open, nobody can.
        rows: reads as the owner.
    """

    dialect: str
    url: str
    write: Callable[[str], None]
    rows: Callable[[str], list[tuple[Any, ...]]]

    def engine(self, **settings: Any) -> Engine:
        return open_engine(self.url, Reflection(**settings))


@contextlib.contextmanager
def made(dialect: str, folder: Path, server: PrivatePostgres | None) -> Iterator[Database]:
    """Yield a new database."""
    if dialect == "postgres":
        assert server is not None
        with _postgres(server) as database:
            yield database
        return
    path = folder / f"people.{dialect}"
    connect: Callable[[], Any] = (
        (lambda: sqlite3.connect(path)) if dialect == "sqlite" else lambda: duckdb.connect(str(path))
    )

    def write(sql: str) -> None:
        with contextlib.closing(connect()) as connection:
            for statement in sql.split(";"):
                connection.execute(statement)
            if dialect == "sqlite":
                connection.commit()

    def rows(sql: str) -> list[tuple[Any, ...]]:
        if dialect == "sqlite":
            with contextlib.closing(connect()) as connection:
                return list(connection.execute(sql).fetchall())
        copy = path.with_suffix(".copy")
        copy.write_bytes(path.read_bytes())
        with contextlib.closing(duckdb.connect(str(copy), read_only=True)) as connection:
            return list(connection.execute(sql).fetchall())

    write(TABLES)
    yield Database(dialect, f"{dialect}:///{path}", write, rows)


@contextlib.contextmanager
def _postgres(server: PrivatePostgres) -> Iterator[Database]:
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
        connection.execute("GRANT USAGE ON SCHEMA public TO reader")
        connection.execute(TABLES)
        yield Database(
            "postgres",
            server.reader_url,
            lambda sql: connection.execute(sql) and None,
            lambda sql: connection.execute(sql).fetchall(),
        )
