"""What is known of a database before a question is asked: tables, columns, keys, how many rows and values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class ColumnKind(StrEnum):
    """What a column's values are, whatever an engine calls the type."""

    INTEGER = "integer"
    REAL = "real"
    TEXT = "text"
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"
    TIME = "time"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: as the engine's catalogue has it.
        kind: what its values are.
        declared: the type as the engine writes it.
        nullable: whether NULL is allowed.
        distinct: how many distinct values it has, or None if nobody counted.
        nulls: the fraction of rows where it is NULL, 0 to 1, or None if nobody counted.
        values: the distinct values of a text column, sorted, if they are few enough to be kept; else empty.
        comment: what the database says of the column, or "".
    """

    name: str
    kind: ColumnKind
    declared: str
    nullable: bool = True
    distinct: int | None = None
    nulls: float | None = None
    values: tuple[str, ...] = ()
    comment: str = ""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns of a table that name a row of another.

    Attributes:
        columns: of the table that has the key.
        table: which table is named.
        references: its columns, in the same order.
        declared: False where it was found by names and values, and no constraint says so.
    """

    columns: tuple[str, ...]
    table: str
    references: tuple[str, ...]
    declared: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """A table or a view.

    Attributes:
        name: as the engine's catalogue has it, without the name of a schema.
        columns: by name, in the order of the table.
        primary_key: the columns that tell rows apart, or empty.
        foreign_keys: those to tables of the same ``Schema``.
        rows: how many there are, exact or as the engine estimates; None if nobody counted.
        comment: what the database says of the table, or "".
    """

    name: str
    columns: Mapping[str, Column]
    primary_key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    rows: int | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Schema:
    """All that a question may see. Hidden columns and tables are not in it.

    Attributes:
        dialect: of the engine, by sqlglot's name: "duckdb", "sqlite" or "postgres".
        tables: by name, sorted.
        version: changes when a table, column or key does: a digest of all names, types and keys.
    """

    dialect: str
    tables: Mapping[str, Table]
    version: str
