"""From a statement to the block of inner joins whose order may be chosen, or to the reason why none may.

The statement comes from the guard: names are resolved, stars are written out. The block is the leading inner and cross
joins of FROM; outer joins that follow it stay where they are, since they extend what the block gives. A condition of
WHERE that reads the block alone may be tested within it, as what follows keeps all rows of the block.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from sql_synthesizer.schema import ColumnKind, Schema

PLAIN = (
    exp.Column, exp.Identifier, exp.Literal, exp.Null, exp.Boolean, exp.Paren, exp.And, exp.Or, exp.Not, exp.EQ,
    exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is, exp.In, exp.Between, exp.Like, exp.ILike, exp.Neg,
)  # fmt: skip
"""What a condition may be made of to be moved: none of it raises an error for a row that another condition drops."""
ORDERED = (exp.GroupConcat, exp.ArrayAgg, exp.First, exp.Last, exp.AnyValue, exp.ArgMax, exp.ArgMin, exp.Window)
"""What gives another result for another order of rows."""


@dataclass(frozen=True, slots=True)
class JoinBlock:
    """A block of inner joins.

    Attributes:
        select: the statement, unchanged.
        sources: its relations by alias, in the written order.
        joined: how many of the statement's joins are part of the block; those behind them stay.
        filters: by alias, the conditions that read it alone.
        predicates: conditions that read several relations, each with their aliases.
        classes: groups of columns, one of each of three relations and more, that the predicates make equal.
        kept: conditions that stay in WHERE, as they are not plain, or read what is not in the block.
    """

    select: exp.Select
    sources: dict[str, exp.Table]
    joined: int
    filters: dict[str, tuple[exp.Expr, ...]]
    predicates: tuple[tuple[frozenset[str], exp.Expr], ...]
    classes: tuple[tuple[exp.Column, ...], ...]
    kept: tuple[exp.Expr, ...]


@dataclass(frozen=True, slots=True)
class Untouched:
    """Why a statement is left as it is written."""

    reason: str


def extract(tree: exp.Query, schema: Schema, *, most_rows: int | None = None) -> JoinBlock | Untouched:
    """Return the block of a statement whose joins may be put in any order without another result.

    Args:
        tree: as the guard resolved it.
        schema: tells whose columns are of the same type.
        most_rows: a LIMIT above this is the guard's and cuts nothing off that is used.
    """
    reason = _unsuited(tree, most_rows)
    if reason or not isinstance(tree, exp.Select):
        return Untouched(reason or "it is no plain SELECT")
    sources = {tree.args["from_"].this.alias_or_name: tree.args["from_"].this}
    conditions: list[exp.Expr] = []
    joined = 0
    for join in tree.args.get("joins") or []:
        if not _inner(join):
            break
        joined += 1
        sources[join.this.alias_or_name] = join.this
        conditions += _conjuncts(join.args.get("on"))
    if len(sources) != joined + 1:
        return Untouched("two tables have the same name")
    if joined < 2:
        return Untouched("it joins fewer than three tables by inner joins")
    where = tree.args.get("where")
    conditions += _conjuncts(where.this if where else None)
    return _sorted(tree, schema, sources, joined, conditions)


def _sorted(
    select: exp.Select, schema: Schema, sources: dict[str, exp.Table], joined: int, conditions: list[exp.Expr]
) -> JoinBlock | Untouched:
    filters: dict[str, list[exp.Expr]] = {alias: [] for alias in sources}
    predicates: list[tuple[frozenset[str], exp.Expr]] = []
    kept: list[exp.Expr] = []
    for condition in conditions:
        columns = list(condition.find_all(exp.Column))
        if not all(column.table for column in columns):
            return Untouched("a column has no table")
        read = frozenset(column.table for column in columns)
        if not read or not read <= sources.keys() or not all(isinstance(node, PLAIN) for node in condition.walk()):
            kept.append(condition)
        elif len(read) == 1:
            filters[next(iter(read))].append(condition)
        else:
            predicates.append((read, condition))
    by_alias = {alias: tuple(found) for alias, found in filters.items()}
    classes = _classes([condition for _, condition in predicates], schema, sources)
    return JoinBlock(select, sources, joined, by_alias, tuple(predicates), classes, tuple(kept))


def is_equality(condition: exp.Expr) -> bool:
    """Tell if a condition makes two columns equal."""
    columns = isinstance(condition.this, exp.Column) and isinstance(condition.expression, exp.Column)
    return isinstance(condition, exp.EQ) and columns


def _classes(
    predicates: list[exp.Expr], schema: Schema, sources: dict[str, exp.Table]
) -> tuple[tuple[exp.Column, ...], ...]:
    """Group columns that are equal. Only of one type, since 1 = '1' and '1' = '1.0' do not make 1 = '1.0'.

    A relation with two columns in a group would need a filter of its own: such a group is left out.
    """
    groups: list[dict[tuple[str, str], exp.Column]] = []
    for condition in predicates:
        if not is_equality(condition) or len({_type(column, schema, sources) for column in _both(condition)}) != 1:
            continue
        merged = {(column.table, column.name): column for column in _both(condition)}
        if _type(condition.this, schema, sources) is None:
            continue
        touched = [group for group in groups if merged.keys() & group.keys()]
        groups = [group for group in groups if group not in touched]
        for group in touched:
            merged |= group
        groups.append(merged)
    found = [tuple(group.values()) for group in groups if len(group) > 2]
    single = [group for group in found if len({column.table for column in group}) == len(group)]
    pairs = [frozenset((a.table, b.table)) for group in single for a, b in itertools.combinations(group, 2)]
    return tuple(
        group
        for group in single
        if all(pairs.count(frozenset((a.table, b.table))) == 1 for a, b in itertools.combinations(group, 2))
    )


def _both(equality: exp.Expr) -> tuple[exp.Column, exp.Column]:
    return equality.this, equality.expression


def _type(column: exp.Column, schema: Schema, sources: dict[str, exp.Table]) -> str | None:
    """Return the declared type of a column whose equality is that of its values, None if it may be another."""
    table = schema.tables.get(sources[column.table].name)
    known = table.columns.get(column.name) if table is not None else None
    if known is None or known.kind not in (ColumnKind.INTEGER, ColumnKind.DATE, ColumnKind.BOOLEAN):
        return None
    return known.declared


def _inner(join: exp.Join) -> bool:
    plain = not join.side and not join.method and join.kind in ("", "INNER", "CROSS")
    return plain and not join.args.get("using") and _base(join.this)


def _base(source: exp.Expr) -> bool:
    taken = ("joins", "pivots", "laterals", "sample", "hints", "only", "version", "when", "ordinality", "changes")
    return isinstance(source, exp.Table) and not any(source.args.get(name) for name in taken)


def _unsuited(tree: exp.Query, most_rows: int | None) -> str | None:
    """Return why no order but the engine's own may be used, or None."""
    if not isinstance(tree, exp.Select) or not isinstance(tree.args.get("from_"), exp.From):
        return "it is no plain SELECT"
    nested = sum(isinstance(node, exp.Query) for node in tree.walk()) > 1
    reasons = {
        "it has a subquery": nested or bool(tree.args.get("with_")),
        "it reads something other than a table": not _base(tree.args["from_"].this),
        "a star is not written out": any(one.is_star for one in tree.expressions),
        "its result depends on the order of rows": tree.find(*ORDERED) is not None,
        "it selects a column of any row of a group": _bare_columns(tree),
    }
    return next((reason for reason, applies in reasons.items() if applies), None) or _cut_off(tree, most_rows)


def _bare_columns(tree: exp.Select) -> bool:
    """Tell if a column is neither grouped by nor aggregated, which SQLite answers with any row of the group."""
    group = tree.args.get("group")
    if group is None and not any(one.find(exp.AggFunc) for one in tree.expressions):
        return False
    names = {_text(one) for one in tree.expressions}
    keys = {_text(key) for key in (group.expressions if group else [])}
    if group and any(isinstance(key, exp.Literal) for key in group.expressions):
        return True
    ordered = tree.args.get("order")
    others = [one.this for one in ordered.expressions] if ordered else []
    having = tree.args.get("having")
    parts = [*tree.expressions, *(one for one in others if _text(one) not in names), *([having.this] if having else [])]
    return any(_outside(part, keys) for part in parts)


def _outside(part: exp.Expr, keys: set[str]) -> bool:
    """Tell if an expression reads a column outside of aggregates and of the expressions that are grouped by."""
    if isinstance(part, exp.AggFunc) or _text(part) in keys:
        return False
    if isinstance(part, exp.Column):
        return bool(part.table)  # without one it is an alias of the result
    return any(_outside(child, keys) for child in part.iter_expressions())


def _cut_off(tree: exp.Select, most_rows: int | None) -> str | None:
    """Return a reason if LIMIT, OFFSET or DISTINCT ON may keep other rows for another order of joins."""
    distinct, limit, group = (tree.args.get(name) for name in ("distinct", "limit", "group"))
    if distinct and distinct.args.get("on"):
        return "DISTINCT ON keeps any row"
    if tree.args.get("offset") is None:
        count = limit.expression if isinstance(limit, exp.Limit) else None
        guards = isinstance(count, exp.Literal) and most_rows is not None and int(count.name) > most_rows
        if limit is None or guards:
            return None
    if group is None and all(one.find(exp.AggFunc) for one in tree.expressions):
        return None  # one row
    ordered = tree.args.get("order")
    told = {_text(one.this) for one in ordered.expressions} if ordered else set()
    keys = [{_text(key)} for key in group.expressions] if group else []
    shown = [{_text(one)} | ({one.alias} if one.alias else set()) for one in tree.expressions]
    if any(all(names & told for names in unique) for unique in (keys, shown) if unique):
        return None
    return "LIMIT may keep other rows among equals"


def _text(node: exp.Expr) -> str:
    inner = node.this if isinstance(node, exp.Alias) else node
    if isinstance(inner, exp.Column) and not inner.table:
        return inner.name
    return inner.sql()


def _conjuncts(condition: exp.Expr | None) -> Iterator[exp.Expr]:
    if condition is None:
        return
    if isinstance(condition, exp.Paren):
        yield from _conjuncts(condition.this)
    elif isinstance(condition, exp.And):
        yield from _conjuncts(condition.this)
        yield from _conjuncts(condition.expression)
    else:
        yield condition
