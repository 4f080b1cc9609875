"""What DuckDB's catalogue tells of tables, columns and keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from sql_synthesizer.engines.reflection import Ask, RawColumn, RawTable
from sql_synthesizer.schema import ForeignKey

TIMEOUT_S: Final = 10.0
HERE: Final = "database_name = current_database() AND schema_name = 'main'"


def raw_tables(ask: Ask) -> Sequence[RawTable]:
    """Return the tables and views of the schema ``main``."""
    columns: dict[str, list[RawColumn]] = defaultdict(list)
    for table, name, declared, nullable, comment in ask(
        "SELECT table_name, column_name, data_type, is_nullable, coalesce(comment, '') FROM duckdb_columns()"
        f" WHERE {HERE} AND NOT internal ORDER BY table_name, column_index",
        (),
        TIMEOUT_S,
    ):
        columns[table].append(RawColumn(name, declared, bool(nullable), comment))
    primary: dict[str, list[str]] = {}
    foreign: dict[str, list[ForeignKey]] = defaultdict(list)
    for table, kind, names, other, references in ask(
        "SELECT table_name, constraint_type, constraint_column_names, referenced_table, referenced_column_names"
        f" FROM duckdb_constraints() WHERE {HERE} AND constraint_type IN ('PRIMARY KEY', 'FOREIGN KEY')",
        (),
        TIMEOUT_S,
    ):
        if kind == "PRIMARY KEY":
            primary[table] = list(names)
        elif names:
            foreign[table].append(ForeignKey(tuple(names), other, tuple(references)))
    found = ask(
        f"SELECT table_name, coalesce(comment, ''), false FROM duckdb_tables() WHERE {HERE} AND NOT internal"
        f" UNION ALL SELECT view_name, coalesce(comment, ''), true FROM duckdb_views() WHERE {HERE} AND NOT internal",
        (),
        TIMEOUT_S,
    )
    return [
        RawTable(name, columns[name], primary.get(name, ()), foreign[name], comment, bool(is_view))
        for name, comment, is_view in found
    ]
