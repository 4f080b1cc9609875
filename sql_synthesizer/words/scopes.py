"""The tables of one SELECT, joined on the way of the keys, and the conditions on them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlglot import exp

from sql_synthesizer.words.keys import KeyGraph, Step
from sql_synthesizer.words.query import ColumnRef


class Unreachable(Exception):
    """No key leads from one table to another."""


def column(ref: ColumnRef, alias: str | None = None) -> exp.Column:
    """Return a quoted column of a quoted table."""
    return exp.column(ref.column, alias or ref.table, quoted=True)


def columns(table: str, names: Sequence[str]) -> list[exp.Column]:
    """Return quoted columns of one table."""
    return [column(ColumnRef(table, name)) for name in names]


class Scope:
    """A FROM clause that grows by the tables that are asked for."""

    def __init__(self, root: str, graph: KeyGraph, said: Collection[str]) -> None:
        """Start with one table.

        Args:
            root: the first table.
            graph: how tables meet.
            said: stems of the question, to choose among parallel keys.
        """
        self.root = root
        self.tables = [root]
        self.fanned = False
        self._graph = graph
        self._said = said
        self._joins: list[Step] = []

    def reach(self, table: str) -> None:
        """Join a table and what lies on the way to it.

        Raises:
            Unreachable: no way leads there.
        """
        if table in self.tables:
            return
        for step in self.way(table):
            if step.target not in self.tables:
                self.tables.append(step.target)
                self._joins.append(step)
                self.fanned = self.fanned or not step.to_one

    def way(self, table: str, avoided: Collection[ColumnRef] = ()) -> list[Step]:
        """Return the joins that lead to a table from those that are here, better not on some columns."""
        sources = [self.root] if table in self.tables else self.tables
        found = self._graph.path(sources, table, self._said, avoided)
        if found is None:
            raise Unreachable(table)
        return found

    def to_one(self, table: str) -> bool:
        """Whether joining the table multiplies no rows."""
        return table in self.tables or all(step.to_one for step in self.way(table))

    def fans(self, table: str) -> int:
        """Return how many of the joins between the root and a table meet many rows."""
        way = self._graph.path((self.root,), table, self._said) if table != self.root else []
        return sum(not step.to_one for step in way or ())

    def select(self) -> exp.Select:
        """Return SELECT without columns, FROM and the joins."""
        select = exp.Select().from_(_table(self.root))
        for step in self._joins:
            on = exp.and_(
                *(
                    exp.EQ(this=mine, expression=theirs)
                    for mine, theirs in zip(
                        columns(step.source, step.source_columns),
                        columns(step.target, step.target_columns),
                        strict=True,
                    )
                )
            )
            select = select.join(_table(step.target), on=on)
        return select


def _table(name: str) -> exp.Table:
    return exp.Table(this=exp.to_identifier(name, quoted=True))
