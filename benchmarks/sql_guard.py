"""How many legitimate statements the guard lets through, whether they give the same rows, and how long it takes.

    python -m benchmarks.sql_guard FOLDER

The folder holds questions with their SQL: ``geography_train.json`` over ``geography.sqlite``, and ``defog`` with
``questions_gen_sqlite.csv`` and one script of PostgreSQL for each database. They are not part of the project. Every
statement runs twice on each engine: as it is, by the driver alone, and through guard and sandbox.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import re
import shutil
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import psycopg
import sqlglot
from sqlglot.errors import SqlglotError

from quantum_db.errors import QuantumDBError
from scripts.private_postgres import PrivatePostgres, private_postgres
from sql_synthesizer.engines.ports import Engine, Limits
from sql_synthesizer.engines.urls import open_engine
from sql_synthesizer.engines.values import json_ready
from sql_synthesizer.guard.check import Guard

LIMITS = Limits(max_rows=100_000, timeout_s=20)
Run = Callable[[str], list[tuple[Any, ...]]]


def gold(folder: Path) -> dict[str, list[str]]:
    """Return the statements of each database."""
    found: dict[str, list[str]] = defaultdict(list)
    for one in json.loads((folder / "geography_train.json").read_text(encoding="utf-8")):
        found["geoquery"].append(one["sql"])
    with (folder / "defog" / "questions_gen_sqlite.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if (folder / "defog" / f"{row['db_name']}.sql").is_file():
                found[row["db_name"]] += [part for part in row["query"].split(";") if part.strip()]
    return {name: list(dict.fromkeys(statements)) for name, statements in found.items()}


class Databases:
    """Makes each database: in PostgreSQL by its script, in the other engines with the rows that it then has."""

    def __init__(self, folder: Path, scratch: Path, server: PrivatePostgres) -> None:
        self._folder, self._scratch, self._server = folder, scratch, server
        self._made: dict[str, psycopg.Connection[Any]] = {}

    def open(self, name: str, dialect: str) -> tuple[Run, Engine] | None:
        """Return how to run a statement unguarded, and the engine; None where the data is not for this dialect."""
        if name == "geoquery":
            return self._sqlite_at(self._folder / "geography.sqlite") if dialect == "sqlite" else None
        if name not in self._made:
            self._made[name] = self._load(name)
        if dialect == "postgres":
            raw = self._made[name]
            url = re.sub(r"/postgres$", f"/{name}", self._server.reader_url)
            return lambda sql: psycopg.RawCursor(raw).execute(sql).fetchall(), open_engine(url)
        path = self._scratch / f"{name}.{dialect}"
        if dialect == "sqlite":
            with sqlite3.connect(path) as connection:
                self._copy(name, connection.execute, json_ready)
            return self._sqlite_at(path)
        with duckdb.connect(str(path)) as target:
            self._copy(name, target.execute, lambda value: value)
        copy = path.with_suffix(".copy")
        shutil.copyfile(path, copy)
        reader = duckdb.connect(str(copy), read_only=True)
        return lambda sql: reader.cursor().execute(sql).fetchall(), open_engine(f"duckdb:///{path}")

    def _sqlite_at(self, path: Path) -> tuple[Run, Engine]:
        raw = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        return lambda sql: raw.execute(sql).fetchall(), open_engine(f"sqlite:///{path}")

    def _load(self, name: str) -> psycopg.Connection[Any]:
        with psycopg.connect(self._server.admin_url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        raw = psycopg.connect(re.sub(r"/postgres$", f"/{name}", self._server.admin_url), autocommit=True)
        raw.execute((self._folder / "defog" / f"{name}.sql").read_bytes())
        moved = raw.execute(
            "SELECT format('ALTER TABLE %I.%I SET SCHEMA public', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('public', 'pg_catalog', 'information_schema')"
        ).fetchall()
        for (statement,) in moved:
            raw.execute(statement)
        raw.execute("SET search_path = public")
        raw.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        return raw

    def _copy(self, name: str, execute: Callable[..., Any], converted: Callable[[Any], Any]) -> None:
        source = self._made[name]
        tables = source.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            cursor = source.execute(f'SELECT * FROM "{table}"')
            types = [source.adapters.types.get(one.type_code) for one in cursor.description]
            columns = [f'"{one.name}" {kind.name}' for one, kind in zip(cursor.description, types, strict=True)]
            execute(f'CREATE TABLE "{table}" ({", ".join(columns)})')
            for row in cursor.fetchall():
                marks = ", ".join("?" * len(row))
                execute(f'INSERT INTO "{table}" VALUES ({marks})', [converted(value) for value in row])


def compared(statements: Sequence[str], dialect: str, run: Run, engine: Engine) -> Iterator[tuple[str, str, float]]:
    """Yield what came of each statement that runs at all, and the guard's milliseconds of processor time."""
    guard = Guard(engine.schema())
    for statement in statements:
        try:
            sql = statement if dialect == "sqlite" else sqlglot.transpile(statement, read="sqlite", write=dialect)[0]
            expected = [tuple(json_ready(value) for value in row) for row in run(sql)]
        except (sqlite3.Error, duckdb.Error, psycopg.Error, SqlglotError):
            continue  # a statement of SQLite that cannot be said in this dialect
        begun = time.thread_time()
        try:
            checked = guard.check(sql, LIMITS)
            elapsed = (time.thread_time() - begun) * 1e3
            rows = list(engine.run(checked.sql, checked.parameters, LIMITS).rows)
        except QuantumDBError as error:
            yield sql, f"refused: {error.detail}", (time.thread_time() - begun) * 1e3
            continue
        same = sorted(map(repr, rows)) == sorted(map(repr, expected))
        yield sql, "same" if same else f"differs: {expected[:3]} became {rows[:3]}", elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--verbose", action="store_true", help="print each statement that is refused or differs")
    options = parser.parse_args()
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    statements = gold(options.folder)
    print("| engine | statements | accepted | same rows | guard p50 CPU ms | guard p95 CPU ms |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch, private_postgres() as server:
        databases = Databases(options.folder, Path(scratch), server)
        for dialect in ("sqlite", "duckdb", "postgres"):
            outcomes: list[tuple[str, str, float]] = []
            for name, some in statements.items():
                opened = databases.open(name, dialect)
                if opened is not None:
                    outcomes += compared(some, dialect, *opened)
                    opened[1].close()
            report(dialect, outcomes, options.verbose)


def report(dialect: str, outcomes: Sequence[tuple[str, str, float]], verbose: bool) -> None:
    total = len(outcomes)
    if not total:
        print(f"| {dialect} | 0 | | | | |")
        return
    accepted = sum(1 for _, outcome, _ in outcomes if not outcome.startswith("refused"))
    same = sum(1 for _, outcome, _ in outcomes if outcome == "same")
    p50, p95 = np.percentile([elapsed for _, _, elapsed in outcomes], [50, 95])
    print(f"| {dialect} | {total} | {accepted / total:.2%} | {same / total:.2%} | {p50:.2f} | {p95:.2f} |")
    for sql, outcome, _ in outcomes if verbose else ():
        if outcome != "same":
            print(f"    {sql}\n      {outcome}")


if __name__ == "__main__":
    main()
