"""A join tree, written into its statement in the way that makes an engine keep it.

DuckDB takes parenthesised trees, bushy ones too; PostgreSQL the written chain of explicit joins; SQLite what stands
between CROSS JOINs. Columns are named in the SELECT list, so that their order is the same whatever is joined first.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from sql_synthesizer.joins.extract import JoinBlock
from sql_synthesizer.joins.graph import JoinTree, leaves

BUSHY = frozenset({"duckdb"})
"""Dialects whose engines gain by trees that are not left-deep."""


def rewrite(block: JoinBlock, tree: JoinTree, dialect: str) -> exp.Select:
    """Return a copy of the block's statement that joins as the tree does; relations count in the written order.

    In PostgreSQL and SQLite the leaves are joined one after the other, from left to right.
    """
    aliases = list(block.sources)
    writer = _Writer(block, dialect == "sqlite")
    if dialect in BUSHY:
        source, joined = writer.joined(tree, aliases)
    else:
        source, joined = writer.chain([aliases[leaf] for leaf in leaves(tree)])
    select = block.select.copy()
    rest = (select.args.get("joins") or [])[block.joined :]
    select.set("from_", exp.From(this=source))
    select.set("joins", [*joined, *rest])
    conditions = [one.copy() for found in block.filters.values() for one in found]
    conditions += [one.copy() for one in block.kept]
    select.set("where", exp.Where(this=conjunction(conditions)) if conditions else None)
    return select


def conjunction(conditions: Sequence[exp.Expr]) -> exp.Expr:
    """Return the conditions joined by AND, each in parentheses where it needs them; copies are the caller's matter."""
    return exp.and_(*conditions, copy=False)


class _Writer:
    """Writes joins, each with the predicates whose relations are together for the first time."""

    def __init__(self, block: JoinBlock, cross: bool) -> None:
        self.block, self.cross = block, cross

    def chain(self, aliases: Sequence[str]) -> tuple[exp.Expr, list[exp.Join]]:
        """Return the first source, and the joins of the others to it."""
        joins = [
            self._join(self.block.sources[alias].copy(), frozenset(aliases[:position]), frozenset({alias}))
            for position, alias in enumerate(aliases)
            if position
        ]
        return self.block.sources[aliases[0]].copy(), joins

    def joined(self, tree: JoinTree, aliases: Sequence[str]) -> tuple[exp.Expr, list[exp.Join]]:
        """Return the leftmost source of a tree, and the joins to it; a part on the right is put in parentheses."""
        if isinstance(tree, int):
            return self.block.sources[aliases[tree]].copy(), []
        source, joins = self.joined(tree[0], aliases)
        left, right = (frozenset(aliases[leaf] for leaf in leaves(part)) for part in tree)
        inner, others = self.joined(tree[1], aliases)
        if others:
            inner.set("joins", others)
            inner = exp.Subquery(this=inner)
        return source, [*joins, self._join(inner, left, right)]

    def _implied(self, left: frozenset[str], right: frozenset[str]) -> list[exp.Expr]:
        """Return equalities that follow from others, where no predicate of a group joins the two parts itself."""
        written = {read for read, _ in self.block.predicates}
        found: list[exp.Expr] = []
        for group in self.block.classes:
            pairs = [(one, other) for one in group for other in group if one.table in left and other.table in right]
            if pairs and not any(frozenset((one.table, other.table)) in written for one, other in pairs):
                one, other = pairs[0]
                found.append(exp.EQ(this=one.copy(), expression=other.copy()))
        return found

    def _join(self, source: exp.Expr, left: frozenset[str], right: frozenset[str]) -> exp.Join:
        both = left | right
        met = [
            condition.copy()
            for read, condition in self.block.predicates
            if read <= both and not read <= left and not read <= right
        ]
        met += self._implied(left, right)
        join = exp.Join(this=source)
        if met:
            join.set("on", conjunction(met))
        if self.cross or not met:
            join.set("kind", "CROSS")
        return join
