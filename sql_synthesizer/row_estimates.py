"""Textbook estimates of rows from distinct counts alone, for choices that need no better ones.

Predicates are taken to be independent, values even: P. Selinger et al., SIGMOD 1979, table 1. Join orders are chosen by
measured cardinalities instead; here only parts with and without a predicate are compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Final

from sqlglot import exp

from sql_synthesizer.schema import Column, Schema

UNKNOWN_ROWS: Final = 1_000
RANGE: Final = 1.0 / 3.0
UNKNOWN: Final = 0.1


class RowEstimates:
    """Estimates for one schema."""

    def __init__(self, schema: Schema) -> None:
        """Read counts from the schema when they are needed."""
        self._schema = schema

    def table(self, name: str) -> float:
        """Return the rows of a table."""
        table = self._schema.tables.get(name)
        return float(UNKNOWN_ROWS if table is None or table.rows is None else table.rows)

    def joined(self, tables: Iterable[str], predicates: Iterable[exp.Expr]) -> float:
        """Return the rows of tables under predicates that name columns by their tables; at least one."""
        return max(1.0, prod(map(self.table, tables)) * prod(map(self.selectivity, predicates)))

    def selectivity(self, predicate: exp.Expr) -> float:
        """Return the share of rows that fulfil a predicate, 0 to 1."""
        if isinstance(predicate, exp.Paren):
            return self.selectivity(predicate.this)
        if isinstance(predicate, exp.And):
            return self.selectivity(predicate.left) * self.selectivity(predicate.right)
        if isinstance(predicate, exp.Or):
            neither = (1.0 - self.selectivity(predicate.left)) * (1.0 - self.selectivity(predicate.right))
            return 1.0 - neither
        if isinstance(predicate, exp.Not):
            return 1.0 - self.selectivity(predicate.this)
        return self._plain(predicate)

    def _plain(self, predicate: exp.Expr) -> float:
        distinct = max((self._distinct(column) for column in predicate.find_all(exp.Column)), default=1.0)
        if isinstance(predicate, exp.EQ):
            return 1.0 / distinct
        if isinstance(predicate, exp.In):
            return min(1.0, len(predicate.expressions) / distinct)
        if isinstance(predicate, exp.NEQ):
            return 1.0 - 1.0 / distinct
        if isinstance(predicate, exp.GT | exp.GTE | exp.LT | exp.LTE | exp.Between):
            return RANGE
        if isinstance(predicate, exp.Is):
            column = predicate.find(exp.Column)
            known = None if column is None else self._column(column)
            return UNKNOWN if known is None or known.nulls is None else known.nulls
        return UNKNOWN

    def _column(self, column: exp.Column) -> Column | None:
        table = self._schema.tables.get(column.table)
        return None if table is None else table.columns.get(column.name)

    def _distinct(self, column: exp.Column) -> float:
        known = self._column(column)
        if known is None or not known.distinct:
            return max(1.0, self.table(column.table) * UNKNOWN)
        return float(known.distinct)
