"""From an engine's catalogue to a ``Schema``: what is hidden left out, rows and values counted, missing keys found."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol

from quantum_db.errors import InvalidSettings, SqlInvalid, SqlTimeout
from sql_synthesizer.engines.foreign_keys import found_keys
from sql_synthesizer.engines.ports import Parameter
from sql_synthesizer.engines.values import identifier, kind_of_type
from sql_synthesizer.schema import Column, ColumnKind, ForeignKey, Schema, Table

COUNTABLE: Final = frozenset(ColumnKind) - {ColumnKind.OTHER}
MAX_VALUE_LENGTH: Final = 100
COLUMNS_A_QUERY: Final = 40


class Ask(Protocol):
    """Runs one query for the reflection, outside the guard, and returns its rows."""

    def __call__(self, sql: str, parameters: Sequence[Parameter], timeout_s: float) -> list[tuple[Any, ...]]:
        """Raise as ``Engine.run`` does."""


@dataclass(frozen=True, slots=True)
class Reflection:
    """How a database is looked at.

    Attributes:
        hidden: what nobody may see: tables (``salaries``) and columns (``people.password``, ``*.email``), where ``*``
            stands for any part of a name; upper and lower case are the same.
        ttl_s: how long a schema is used before the data version is looked at, in seconds.
        timeout_s: for all counting; what was not counted by then stays unknown.
        exact_rows: larger tables are counted by a sample of so many rows, or by the engine's own statistics.
        max_values: a text column with more distinct values keeps none of them.
    """

    hidden: tuple[str, ...] = ()
    ttl_s: float = 60.0
    timeout_s: float = 10.0
    exact_rows: int = 200_000
    max_values: int = 2_000

    def __post_init__(self) -> None:
        for pattern in self.hidden:
            if not all(pattern.split(".")) or pattern.count(".") > 1:
                raise InvalidSettings(f"hidden: {pattern!r} is neither a table nor a column as table.column")

    def hides(self, table: str, column: str | None = None) -> bool:
        """Return whether nobody may see a table, or a column of it."""
        name, full = table.lower(), f"{table}.{column}".lower()
        return any(
            fnmatchcase(full if "." in pattern else name, pattern.lower())
            for pattern in self.hidden
            if column is not None or "." not in pattern
        )


@dataclass(frozen=True, slots=True)
class RawColumn:
    """A column as a catalogue has it; ``kind`` where the declared type does not tell it."""

    name: str
    declared: str
    nullable: bool
    comment: str = ""
    kind: ColumnKind | None = None


@dataclass(frozen=True, slots=True)
class RawTable:
    """A table as a catalogue has it, with what the engine estimates, if it does: rows, distinct values, NULLs."""

    name: str
    columns: Sequence[RawColumn]
    primary_key: Sequence[str] = ()
    foreign_keys: Sequence[ForeignKey] = ()
    comment: str = ""
    is_view: bool = False
    estimated_rows: int | None = None
    estimates: Mapping[str, tuple[int, float]] = field(default_factory=dict)


class Reflector:
    """Keeps the schema of one database and reads it anew when the data has changed. Safe to call from many threads."""

    def __init__(
        self, dialect: str, ask: Ask, catalogue: Callable[[Ask], Sequence[RawTable]], settings: Reflection
    ) -> None:
        """Keep what reads the catalogue; nothing is read yet."""
        self._dialect, self._ask, self._catalogue, self._settings = dialect, ask, catalogue, settings
        self._lock = threading.Lock()
        self._known: tuple[float, str, Schema] | None = None

    def schema(self, data_version: Callable[[], str]) -> Schema:
        """Return the schema, not older than ``ttl_s`` or of this data version."""
        with self._lock:
            now = time.monotonic()
            if self._known is not None and now - self._known[0] < self._settings.ttl_s:
                return self._known[2]
            version = data_version()
            if self._known is None or self._known[1] != version:
                self._known = (now, version, self._read())
            else:
                self._known = (now, version, self._known[2])
            return self._known[2]

    def forget(self) -> None:
        """Read anew at the next call."""
        with self._lock:
            self._known = None

    def _read(self) -> Schema:
        end = time.monotonic() + self._settings.timeout_s
        seen = [_visible(table, self._settings) for table in self._catalogue(self._ask)]
        raw = sorted((table for table in seen if table is not None), key=lambda table: table.name)
        counter = _Counter(self._ask, self._settings, end)
        tables = {table.name: counter.counted(table) for table in raw}
        tables = {name: _linked(table, tables) for name, table in tables.items()}
        tables = found_keys(tables, counter.holds)
        return Schema(self._dialect, tables, _digest(self._dialect, tables))


def _visible(table: RawTable, settings: Reflection) -> RawTable | None:
    """Return a table without what is hidden of it, None where nothing is left."""
    columns = [column for column in table.columns if not settings.hides(table.name, column.name)]
    if settings.hides(table.name) or not columns:
        return None
    names = {column.name for column in columns}
    key = table.primary_key if names.issuperset(table.primary_key) else ()
    foreign = [one for one in table.foreign_keys if names.issuperset(one.columns)]
    return replace(table, columns=columns, primary_key=key, foreign_keys=foreign)


def _linked(table: Table, tables: Mapping[str, Table]) -> Table:
    """Return a table with those of its foreign keys whose other end can be seen."""
    keys = tuple(
        key
        for key in table.foreign_keys
        if key.table in tables and set(key.references) <= set(tables[key.table].columns)
    )
    return replace(table, foreign_keys=keys)


def _digest(dialect: str, tables: Mapping[str, Table]) -> str:
    parts: list[object] = [dialect]
    for table in tables.values():
        parts += [table.name, table.primary_key, table.foreign_keys]
        parts += [(column.name, column.declared, column.nullable) for column in table.columns.values()]
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


class _Counter:
    """Counts rows, distinct values and NULLs for as long as there is time."""

    def __init__(self, ask: Ask, settings: Reflection, end: float) -> None:
        self._ask, self._settings, self._end = ask, settings, end

    def counted(self, raw: RawTable) -> Table:
        """Return the table with what could be counted of it."""
        rows = raw.estimated_rows
        if rows is None and (found := self._first(f"SELECT COUNT(*) FROM {identifier(raw.name)}")):
            rows = int(found[0])
        columns = {
            one.name: Column(
                one.name, one.kind or kind_of_type(one.declared), one.declared, one.nullable, comment=one.comment
            )
            for one in raw.columns
        }
        if rows is not None:
            countable = [one for one in columns.values() if one.kind in COUNTABLE]
            for start in range(0, len(countable), COLUMNS_A_QUERY):
                columns.update(self._with_counts(raw, countable[start : start + COLUMNS_A_QUERY], rows))
        columns = {name: self._with_values(raw.name, column, rows) for name, column in columns.items()}
        key = tuple(raw.primary_key) or _unique(columns.values(), rows, raw.is_view)
        return Table(raw.name, columns, key, tuple(raw.foreign_keys), rows, raw.comment)

    def holds(self, sql: str) -> bool:
        """Return whether a query gives no row; False where there was no time to see."""
        found = self._rows(sql)
        return found is not None and not found

    def _with_counts(self, raw: RawTable, columns: Sequence[Column], rows: int) -> dict[str, Column]:
        if rows > self._settings.exact_rows and raw.estimates:
            return {
                column.name: replace(
                    column, distinct=raw.estimates[column.name][0], nulls=raw.estimates[column.name][1]
                )
                for column in columns
                if column.name in raw.estimates
            }
        sampled = min(rows, self._settings.exact_rows)
        names = [identifier(column.name) for column in columns]
        source = identifier(raw.name)
        if sampled < rows:
            source = f"(SELECT {', '.join(names)} FROM {source} LIMIT {sampled}) AS sample"
        counts = ", ".join(f"COUNT({name}), COUNT(DISTINCT {name})" for name in names)
        found = self._first(f"SELECT COUNT(*), {counts} FROM {source}")
        if found is None:
            return {}
        seen = int(found[0])
        return {
            column.name: replace(
                column,
                distinct=_scaled(int(distinct), int(there), rows / max(seen, 1)),
                nulls=1 - int(there) / seen if seen else 0.0,
            )
            for column, (there, distinct) in zip(columns, zip(found[1::2], found[2::2], strict=True), strict=True)
        }

    def _with_values(self, table: str, column: Column, rows: int | None) -> Column:
        if column.kind is not ColumnKind.TEXT or column.distinct is None or rows is None:
            return column
        if column.distinct > self._settings.max_values or rows > self._settings.exact_rows:
            return column
        name = identifier(column.name)
        found = self._rows(f"SELECT DISTINCT {name} FROM {identifier(table)} WHERE {name} IS NOT NULL") or []
        values = sorted({str(value) for (value,) in found if isinstance(value, str)})
        if any(len(value) > MAX_VALUE_LENGTH for value in values):
            return column
        return replace(column, values=tuple(values))

    def _first(self, sql: str) -> tuple[Any, ...] | None:
        found = self._rows(sql)
        return found[0] if found else None

    def _rows(self, sql: str) -> list[tuple[Any, ...]] | None:
        """Return the rows, None where there was no time, or the engine cannot count this (a view that fails)."""
        left = self._end - time.monotonic()
        if left <= 0:
            return None
        try:
            return self._ask(sql, (), left)
        except (SqlTimeout, SqlInvalid):
            return None


def _scaled(distinct: int, there: int, factor: float) -> int:
    """Return how many distinct values the whole column has: nearly unique in the sample is taken for unique."""
    return round(distinct * factor) if distinct > 0.9 * there else distinct


def _unique(columns: Iterable[Column], rows: int | None, is_view: bool) -> tuple[str, ...]:
    """Return the column that tells rows apart where no constraint says which: the first one, or one called so."""
    if not rows or is_view:
        return ()
    for position, column in enumerate(columns):
        unique = column.distinct == rows and not column.nulls
        named = column.name.lower() == "id" or column.name.lower().endswith("_id")
        if unique and column.kind in (ColumnKind.INTEGER, ColumnKind.TEXT) and (position == 0 or named):
            return (column.name,)
    return ()
