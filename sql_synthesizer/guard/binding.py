"""Values out of the text: what a statement compares with is bound as parameters."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from sql_synthesizer.engines.ports import Parameter

COMPARISONS: Final = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like, exp.ILike, exp.Glob)
MAX_DIGITS: Final = 15
"""Of numbers that are bound; longer ones are not the same to all drivers, and digits do no harm in a text."""


def bound(tree: exp.Query, dialect: str, *, copy: bool = True) -> tuple[str, tuple[Parameter, ...]]:
    """Return the text of a statement for its engine, with placeholders, and what they stand for.

    The literals that something is compared with, or looked for in a list, become parameters. Others (a unit of time,
    a number of decimals, a column by its number) are part of what the statement is; the generator quotes them.

    Args:
        tree: is afterwards what it was before.
        dialect: of the engine.
        copy: whether a copy is worked on; without it nobody else may look at the tree meanwhile.
    """
    tree = tree.copy() if copy else tree
    parameters: list[Parameter] = []
    numbers: dict[tuple[str, bool, str], int] = {}
    replaced: list[tuple[exp.Expr, exp.Literal]] = []
    for literal, opposite in _compared(tree):
        value = _value(literal, dialect)
        if value is None:
            continue
        # The same comparison in SELECT and GROUP BY must be the same expression; two columns may differ in their types.
        key = (literal.this, literal.is_string, opposite.sql(dialect))
        if key not in numbers:
            parameters.append(value)
            numbers[key] = len(parameters)
        placeholder = _placeholder(numbers[key], dialect)
        literal.replace(placeholder)
        replaced.append((placeholder, literal))
    text = Dialect.get_or_raise(dialect).generate(tree, comments=False, copy=False)
    for placeholder, literal in replaced if not copy else ():
        placeholder.replace(literal)
    return text, tuple(parameters)


def written(tree: exp.Expr, dialect: str) -> str:
    """Return the text of a tree. Comments are left out: an engine may read hints in them."""
    return Dialect.get_or_raise(dialect).generate(tree, comments=False, copy=True)


def _compared(tree: exp.Query) -> list[tuple[exp.Literal, exp.Expr]]:
    """Return the literals that something is compared with, each with what it is compared with."""
    found: list[tuple[exp.Literal, exp.Expr]] = []

    def add(value: exp.Expr | None, opposite: exp.Expr) -> None:
        if isinstance(value, exp.Literal) and not _constant(opposite):
            found.append((value, opposite))

    for node in tree.find_all(*COMPARISONS, exp.In, exp.Between):
        if isinstance(node, exp.In):
            for one in node.expressions:
                add(one, node.this)
        elif isinstance(node, exp.Between):
            add(node.args["low"], node.this)
            add(node.args["high"], node.this)
        elif not isinstance(node.parent, exp.Escape):
            add(node.expression, node.this)
            add(node.this, node.expression)
    return found


def _constant(node: exp.Expr) -> bool:
    return not any(isinstance(one, exp.Column | exp.Query) for one in node.walk())


def _value(literal: exp.Literal, dialect: str) -> Parameter | None:
    text = str(literal.this)
    if literal.is_string:
        return text
    if len(text) > MAX_DIGITS or not set(text) <= set("0123456789."):
        return None
    if "." not in text:
        return int(text)
    return float(text) if dialect == "sqlite" else Decimal(text)


def _placeholder(number: int, dialect: str) -> exp.Expr:
    return _SPELLED[dialect](number)


def _dollar(number: int) -> exp.Expr:
    return exp.Parameter(this=exp.Literal.number(number))


_SPELLED: Final[dict[str, Callable[[int], exp.Expr]]] = {
    "duckdb": _dollar,
    "postgres": _dollar,
    "sqlite": lambda number: exp.Var(this=f"?{number}"),
}
