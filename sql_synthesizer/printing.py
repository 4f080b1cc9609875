"""How the command line shows schemas and answers: tables for people, CSV for programs."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

import orjson
from rich.console import Console
from rich.table import Table as Grid

from quantum_db.errors import InvalidRequest
from quantum_db.near import near_name
from sql_synthesizer.agent import QueryResult
from sql_synthesizer.engines.ports import JsonValue
from sql_synthesizer.schema import Column, ColumnKind, Schema, Table

PLAIN_WIDTH: Final = 150
"""Of tables that go into a file or a pipe."""
NUMBERS: Final = (ColumnKind.INTEGER, ColumnKind.REAL)
SHOWN_VALUES: Final = 5


def print_result(result: QueryResult) -> None:
    """Print an answer: how words were understood, the rows, and how many there are."""
    for line in result.explanation:
        print(f"-- {line}", file=sys.stderr)
    grid = Grid()
    for name, kind in zip(result.columns, result.kinds, strict=True):
        grid.add_column(name, justify="right" if kind in NUMBERS else "left")
    for row in result.rows:
        grid.add_row(*(shown(value) for value in row))
    _print(grid)
    more = ", and there are more" if result.truncated else ""
    count = "1 row" if len(result.rows) == 1 else f"{len(result.rows)} rows"
    print(f"{count}{more} in {result.timings.total_ms:.1f} ms")


def write_csv(result: QueryResult, path: Path) -> None:
    """Write an answer as CSV with a head; ``-`` is standard output. Raises InvalidRequest for a path that cannot be."""
    head, rows = result.columns, [[shown(value) for value in row] for row in result.rows]
    if str(path) == "-":
        _write(sys.stdout, head, rows)
        return
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            _write(file, head, rows)
    except OSError as error:
        raise InvalidRequest.at("--output-csv", f"{path}: {error.strerror}") from error


def print_tables(schema: Schema) -> None:
    """Print what tables there are."""
    grid = Grid()
    for title in ("table", "rows", "columns"):
        grid.add_column(title, justify="right" if title == "rows" else "left")
    for table in schema.tables.values():
        grid.add_row(table.name, shown(table.rows), ", ".join(table.columns))
    _print(grid)


def print_table(schema: Schema, name: str) -> None:
    """Print the columns and keys of a table. Raises InvalidRequest where there is none that may be seen."""
    table = next((table for table in schema.tables.values() if table.name.lower() == name.lower()), None)
    if table is None:
        raise InvalidRequest.at("--describe-table", f"there is no table {name!r}{near_name(name, schema.tables)}")
    grid = Grid(title=f"{table.name}: {shown(table.rows) or 'unknown'} rows", title_justify="left")
    for title in ("column", "type", "key", "distinct", "NULL", "values"):
        grid.add_column(title, justify="right" if title in ("distinct", "NULL") else "left")
    for column in table.columns.values():
        nulls = "" if column.nulls is None else f"{column.nulls:.0%}"
        grid.add_row(
            column.name, column.declared, _key(table, column), shown(column.distinct), nulls, _values(column.values)
        )
    _print(grid)


def shown(value: JsonValue) -> str:
    """Return a value as people read it; NULL is empty."""
    if value is None:
        return ""
    return orjson.dumps(value).decode() if isinstance(value, list | dict | bool) else str(value)


def _key(table: Table, column: Column) -> str:
    told = ["primary"] if column.name in table.primary_key else []
    for key in table.foreign_keys:
        if column.name in key.columns:
            other = key.references[key.columns.index(column.name)]
            told.append(f"{key.table}.{other}" + ("" if key.declared else " (found)"))
    return ", ".join(told)


def _values(values: Sequence[str]) -> str:
    some = ", ".join(values[:SHOWN_VALUES])
    return some + (", ..." if len(values) > SHOWN_VALUES else "")


def _write(file: TextIO, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    writer = csv.writer(file)
    writer.writerow(head)
    writer.writerows(rows)


def _print(grid: Grid) -> None:
    Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False, markup=False).print(grid)
