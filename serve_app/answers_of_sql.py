"""What calls about SQL databases answer, as types for OpenAPI."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from serve_app.answers import ItemProblem, Reply
from sql_synthesizer.schema import ColumnKind


class SqlAnswered(Reply):
    """The rows of a question or a statement, what ran, and what optimising it took and brought."""

    sql: str
    explanation: list[str]
    columns: list[str]
    kinds: list[ColumnKind]
    rows: list[list[JsonValue]]
    truncated: bool
    quantum_cost_reduction: float
    cost_basis: Literal["measured", "estimated", "none"]
    optimization_time: float
    elapsed_ms: float
    forced: bool
    reason: str
    mode: str
    cached: bool


class SqlExplained(Reply):
    """What would be run. ``optimised_sql`` is null where the engine's own order of joins is kept."""

    sql: str
    optimised_sql: str | None
    reason: str
    relations: list[str]
    predicted_gain: float | None
    estimated_cost_reduction: float
    planning_ms: float
    engine_plan: str
    cached: bool


class SqlColumn(Reply):
    """A column that may be seen. ``distinct`` and ``nulls`` are null where nobody counted."""

    name: str
    kind: ColumnKind
    declared: str
    nullable: bool
    distinct: int | None
    nulls: float | None
    comment: str


class SqlForeignKey(Reply):
    """Columns that name a row of another table; not ``declared`` where they were found by names and values."""

    columns: list[str]
    table: str
    references: list[str]
    declared: bool


class SqlTable(Reply):
    """A table or a view that may be seen."""

    name: str
    rows: int | None
    comment: str
    primary_key: list[str]
    foreign_keys: list[SqlForeignKey]
    columns: list[SqlColumn]


class SqlSchemaSeen(Reply):
    """What may be seen of a database."""

    database: str
    dialect: str
    version: str
    tables: list[SqlTable]


class SqlBatchRows(Reply):
    """The rows of one text of a batch, and the kept parts that it read."""

    status: Literal["answered"]
    sql: str
    columns: list[str]
    kinds: list[ColumnKind]
    rows: list[list[JsonValue]]
    truncated: bool
    elapsed_ms: float
    read: list[str]


class SqlBatchProblem(Reply):
    """Why one text of a batch has no rows."""

    status: Literal["failed"]
    sql: str
    problem: ItemProblem


class SqlKeptPart(Reply):
    """What several statements share and was computed once; ``rows`` is null where it could not be kept."""

    tables: list[str]
    predicates: list[str]
    readers: int
    rows: int | None
    elapsed_ms: float


class SqlBatchAnswered(Reply):
    """The answers in the order of the texts, and what they shared."""

    answered: int
    failed: int
    items: list[SqlBatchRows | SqlBatchProblem]
    kept: list[SqlKeptPart]
    estimated_reduction: float
    proven: bool
    elapsed_ms: float
