"""The SELECT list: what stars stand for, and what its columns are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlglot import exp

from sql_synthesizer.guard.binding import written
from sql_synthesizer.guard.names import Scope, Source, key_of
from sql_synthesizer.guard.reading import Text

MAX_NAME: Final = 60
"""Of characters of a name that is made; PostgreSQL cuts off after 63."""


class Output(NamedTuple):
    """One column of a SELECT list; where ``name`` is None, it is called ``text`` if it needs a name."""

    expression: exp.Expr
    name: exp.Identifier | None
    text: str = ""


def expanded(projections: Sequence[exp.Expr], scope: Scope, text: Text, dialect: str) -> list[exp.Expr]:
    """Return a SELECT list in which each star is the list of the columns that may be seen."""
    result: list[exp.Expr] = []
    for projection in projections:
        star = projection.this if isinstance(projection, exp.Column) else projection
        if not isinstance(star, exp.Star):
            result.append(projection)
            continue
        left_out = {key_of(_identifier(one), dialect) for one in star.args.get("except_") or ()}
        if isinstance(projection, exp.Column):
            source = scope.sources.get(key_of(projection.args["table"], dialect))
            if source is None:
                raise text.invalid(f"nothing that is read here is called {projection.table!r}", projection)
            result += [_column(source, key) for key in source.columns if key not in left_out]
        else:
            result += _all(scope, dialect, left_out)
    if not result:
        raise text.refused("there is no column that may be seen")
    return result


def _all(scope: Scope, dialect: str, left_out: set[str]) -> list[exp.Expr]:
    """Return all columns of a FROM clause, those that USING merges once: first in PostgreSQL, else in their place."""
    merged = {key: exp.Column(this=name.copy()) for key, name in scope.merged.items() if key not in left_out}
    result: list[exp.Expr] = list(merged.values()) if dialect == "postgres" else []
    told = set(merged) if dialect == "postgres" else set()
    for source in scope.sources.values():
        for key in source.columns:
            if key in left_out or key in told:
                continue
            if key in merged:
                told.add(key)
                result.append(merged[key])
            else:
                result.append(_column(source, key))
    return result


def output_of(projection: exp.Expr, dialect: str) -> Output:
    """Return a column of a SELECT list with its name, as it is before names in it are resolved."""
    if isinstance(projection, exp.Alias):
        return Output(projection, projection.args["alias"])
    if isinstance(projection, exp.Column):
        return Output(projection, projection.this)
    return Output(projection, None, _text_of(projection, dialect))


def named(outputs: Sequence[Output], dialect: str) -> list[Output]:
    """Return the columns of a SELECT list, each with a name of its own."""
    used: set[str] = set()
    numbers: dict[str, int] = {}
    result = []
    for output in outputs:
        is_column = isinstance(output.expression, exp.Column)
        name = output.expression.this if is_column else output.name or exp.to_identifier(output.text, quoted=True)
        unique, key = name, key_of(name, dialect)
        while key_of(unique, dialect) in used:
            numbers[key] = numbers.get(key, 1) + 1
            unique = exp.to_identifier(f"{name.this}_{numbers[key]}", quoted=name.args.get("quoted"))
        used.add(key_of(unique, dialect))
        expression = output.expression
        if output.name is None or unique is not name:
            expression = exp.alias_(expression.unalias(), unique, copy=False)
        result.append(Output(expression, unique))
    return result


def _text_of(projection: exp.Expr, dialect: str) -> str:
    if dialect != "postgres":
        return " ".join(written(_bare(projection), dialect).split())[:MAX_NAME]
    inner = projection.this if isinstance(projection, exp.Cast) else projection
    if isinstance(inner, exp.Column):
        return str(inner.name)
    if isinstance(inner, exp.Case):
        return "case"
    connected = isinstance(inner, exp.And | exp.Or)
    return inner.sql_name().lower() if isinstance(inner, exp.Func) and not connected else "?column?"


def _bare(projection: exp.Expr) -> exp.Expr:
    """Return an expression with its names as short as people write them."""
    bare = projection.copy()
    for column in bare.find_all(exp.Column):
        column.set("table", None)
    for name in bare.find_all(exp.Identifier):
        name.set("quoted", False)
    return bare


def _column(source: Source, key: str) -> exp.Expr:
    return exp.Column(this=source.columns[key].copy(), table=source.name.copy())


def _identifier(node: exp.Expr) -> exp.Identifier:
    found = node.this if isinstance(node, exp.Column) else node
    assert isinstance(found, exp.Identifier)
    return found
