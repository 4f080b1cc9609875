"""Comparisons of a column with a value, in the forms that each dialect and each kind of column needs."""

from __future__ import annotations

from typing import Final

from sqlglot import exp

from sql_synthesizer.schema import ColumnKind
from sql_synthesizer.words.query import Between, ColumnRef, Operand, Within
from sql_synthesizer.words.scopes import column
from sql_synthesizer.words.shapes import DATES, NUMBERS, Shapes

_COMPARISONS: Final = {"=": exp.EQ, "!=": exp.NEQ, "<": exp.LT, "<=": exp.LTE, ">": exp.GT, ">=": exp.GTE}


class Operands:
    """Writes values as the columns of one schema hold them."""

    def __init__(self, shapes: Shapes) -> None:
        """Keep what is known of the columns."""
        self._shapes = shapes

    def compare(self, ref: ColumnRef, op: str, operand: Operand) -> exp.Expr:
        """Return the comparison of a column with a plain value."""
        left = column(ref)
        if op == "null":
            return exp.Is(this=left, expression=exp.Null())
        if op == "like":
            return exp.Like(this=exp.Lower(this=left), expression=exp.Literal.string(str(operand).lower()))
        if isinstance(operand, Between | Within):
            return self._bounded(ref, operand)
        if isinstance(operand, bool):
            return exp.EQ(this=left, expression=self._truth(ref, operand))
        assert isinstance(operand, float | int | str)  # the other operands are written by the compiler
        if op in {"<", "<=", ">", ">="} and not isinstance(operand, str):
            return _COMPARISONS[op](this=self.numeric(ref, left), expression=_number(operand))
        return _COMPARISONS[op](this=left, expression=self.literal(ref, operand))

    def _bounded(self, ref: ColumnRef, bounds: Between | Within) -> exp.Expr:
        left = column(ref)
        if isinstance(bounds, Between):
            low, high = (self.literal(ref, bound) for bound in (bounds.low, bounds.high))
            return exp.Between(this=self.numeric(ref, left), low=low, high=high)
        start, end = (self.literal(ref, day) for day in (bounds.start, bounds.end))
        return exp.and_(exp.GTE(this=left, expression=start), exp.LT(this=left.copy(), expression=end))

    def literal(self, ref: ColumnRef, value: float | str) -> exp.Expr:
        """Return a value as the column holds it."""
        kind = self._shapes.column(ref).kind
        if isinstance(value, str):
            text = exp.Literal.string(value)
            if kind in DATES and self._shapes.schema.dialect != "sqlite":
                return exp.cast(text, "date" if len(value) <= 10 else "timestamp")
            return text
        if kind in {ColumnKind.TEXT, ColumnKind.OTHER} and not self._shapes.measures(self._shapes.column(ref)):
            return exp.Literal.string(f"{value:g}" if value < 1e6 else f"{value:.0f}")
        return exp.Literal.string(f"{value:g}") if kind is ColumnKind.TEXT else _number(value)

    def numeric(self, ref: ColumnRef, made: exp.Expr) -> exp.Expr:
        """Return a column so that its order is that of numbers, where it holds numbers as text."""
        described = self._shapes.column(ref)
        if described.kind not in NUMBERS and self._shapes.measures(described):
            return exp.cast(made, "double")
        return made

    def _truth(self, ref: ColumnRef, truth: bool) -> exp.Expr:
        described = self._shapes.column(ref)
        if described.kind is ColumnKind.TEXT:
            yes = next((v for v in described.values if v.lower() in {"y", "yes", "t", "true", "1"}), "Y")
            no = next((v for v in described.values if v.lower() in {"n", "no", "f", "false", "0"}), "N")
            return exp.Literal.string(yes if truth else no)
        if described.kind is ColumnKind.BOOLEAN and self._shapes.schema.dialect != "sqlite":
            return exp.Boolean(this=truth)
        return exp.Literal.number(int(truth))


def _number(value: float) -> exp.Expr:
    return exp.Literal.number(f"{value:.0f}" if value == int(value) else repr(value))
