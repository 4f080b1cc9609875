"""What names stand for in a statement: tables, columns and what is derived from them, by each dialect's rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlglot import exp

from sql_synthesizer.schema import Schema

HOME: Final[Mapping[str, frozenset[str]]] = {
    "duckdb": frozenset({"main"}),
    "sqlite": frozenset({"main"}),
    "postgres": frozenset({"public"}),
}
"""The schema that tables are in, which may be written before them."""

Columns = Mapping[str, exp.Identifier]
"""By the key of a name: how it is written."""


def key_of(name: exp.Identifier, dialect: str) -> str:
    """Return what tells two names apart. PostgreSQL keeps upper and lower case apart where names are quoted."""
    if dialect == "postgres" and name.args.get("quoted"):
        return str(name.this)
    return str(name.this).lower()


def key_of_catalogue(name: str, dialect: str) -> str:
    """Return the key of a name as the catalogue has it."""
    return name if dialect == "postgres" else name.lower()


def quoted(name: str) -> exp.Identifier:
    """Return a name as the catalogue has it, for a statement."""
    return exp.to_identifier(name, quoted=True)


@dataclass(slots=True)
class Source:
    """What a FROM clause reads: a table of the schema, or something derived.

    Attributes:
        name: how its columns are qualified.
        columns: those that may be read, in order.
        table: its name in the schema, None where it is derived.
    """

    name: exp.Identifier
    columns: Columns
    table: str | None = None


@dataclass(slots=True)
class Scope:
    """What can be named in one SELECT.

    Attributes:
        sources: by the keys of their names.
        outer: of the statement around this one, if its names can be used.
        merged: keys of columns that several sources share by USING, and that have one value for all of them.
        outputs: of the SELECT list, by key: the place from 1, and the expression.
        joins: of the FROM clause, whose conditions may name any of the sources.
    """

    outer: Scope | None = None
    sources: dict[str, Source] = field(default_factory=dict)
    merged: dict[str, exp.Identifier] = field(default_factory=dict)
    outputs: dict[str, tuple[int, exp.Expr]] = field(default_factory=dict)
    joins: list[exp.Join] = field(default_factory=list)

    def having(self, column: str) -> list[Source]:
        """Return the sources with a column of this key."""
        return [source for source in self.sources.values() if column in source.columns]

    def outwards(self) -> Iterator[Scope]:
        """Yield this scope and those around it."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer


def tie(node: exp.Expr) -> None:
    """Mark a table or a column as one that was looked up. Copies keep the mark."""
    node.meta["tied"] = True


def is_tied(node: exp.Expr) -> bool:
    """Return whether a table or a column was looked up."""
    return bool(node.meta.get("tied"))


class Catalogue:
    """The tables of a schema by the keys of their names."""

    def __init__(self, schema: Schema) -> None:
        """Index a schema; that is done once for each of its versions."""
        self.dialect: Final = schema.dialect
        self._tables: Final = {
            key_of_catalogue(table.name, schema.dialect): (
                table.name,
                {key_of_catalogue(name, schema.dialect): quoted(name) for name in table.columns},
            )
            for table in schema.tables.values()
        }

    def table(self, name: exp.Identifier) -> tuple[str, Columns] | None:
        """Return the name in the schema and the columns of a table, None where there is none that may be seen."""
        return self._tables.get(key_of(name, self.dialect))

    def names(self) -> list[str]:
        """Return the names of all tables."""
        return [name for name, _ in self._tables.values()]
