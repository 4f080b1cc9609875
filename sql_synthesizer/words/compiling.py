"""A query as a syntax tree of SQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlglot import exp

from sql_synthesizer.schema import ColumnKind
from sql_synthesizer.words.keys import KeyGraph, Step
from sql_synthesizer.words.operands import Operands
from sql_synthesizer.words.query import Clause, ColumnRef, Condition, Member, Phrase, Query, Statistic, Target
from sql_synthesizer.words.scopes import Scope, column, columns
from sql_synthesizer.words.shapes import NUMBERS, Shapes

_COMPARISONS = {"=": exp.EQ, "!=": exp.NEQ, "<": exp.LT, "<=": exp.LTE, ">": exp.GT, ">=": exp.GTE}


class Compiler:
    """Writes queries over one schema in one dialect."""

    def __init__(self, shapes: Shapes, graph: KeyGraph, said: Collection[str]) -> None:
        """Keep what is known; ``said`` are the stems of the question, to choose among parallel keys."""
        self._shapes = shapes
        self._graph = graph
        self._said = said
        self._operands = Operands(shapes)

    def query(self, query: Query) -> exp.Query:
        """Return the statement.

        Raises:
            Unreachable: no key leads to a table that is needed.
        """
        if not query.both:
            return self._select(query, [])
        sides = [self._select(query, [clause]) for clause in query.both]
        tree: exp.Query = sides[0]
        for side in sides[1:]:
            tree = exp.Intersect(this=tree, expression=side, distinct=True)
        return tree

    def _select(self, query: Query, extra: Sequence[Clause]) -> exp.Select:
        phrase = query.phrase
        scope = Scope(phrase.table, self._graph, self._said)
        for target in (*query.targets, *(t for t, _ in query.order), *(t for t, _, _ in query.having)):
            scope.reach(target.home or phrase.table)
        if phrase.ranking is not None:
            scope.reach(phrase.ranking.target.home or phrase.table)
        for table in (*query.group_tables, *(ref.table for ref in query.groups)):
            scope.reach(table)
        where = [self._any(scope, clauses) for clauses in (*phrase.clauses, *([clause] for clause in extra))]
        where = [made for made in where if made != exp.true()]
        shown = self._shown(query)
        grouped = self._grouped(query, shown)
        select = scope.select().select(*(self._target(scope, target) for target in shown))
        select = select.where(*where) if where else select
        select = select.group_by(*grouped) if grouped else select
        for target, op, operand in query.having:
            select = select.having(_COMPARISONS[op](this=self._target(scope, target), expression=self._value(operand)))
        if query.distinct and not grouped and not any(target.aggregated for target in shown):
            select = select.distinct()
        return self._ordered(scope, select, query)

    def _ordered(self, scope: Scope, select: exp.Select, query: Query) -> exp.Select:
        order = list(query.order)
        limit = query.limit
        if query.phrase.ranking is not None:
            ranking = query.phrase.ranking
            order.insert(0, (ranking.target, ranking.descending))
            limit = ranking.limit if limit is None else limit
        for target, descending in order:
            select = select.order_by(exp.Ordered(this=self._sortable(scope, target), desc=descending))
        return select.limit(limit) if limit is not None else select

    def _shown(self, query: Query) -> list[Target]:
        """Return the targets, after the columns by which groups are told apart where none of them is asked for."""
        groups = [Target(ref) for ref in query.groups]
        for table in query.group_tables:
            groups += [Target(ref) for ref in self._shapes.display(table)]
        asked = [target for target in query.targets if not target.aggregated]
        missing = [target for target in groups if target not in asked]
        if asked and query.group_tables and any(t.home in query.group_tables for t in asked):
            missing = []
        return [*missing, *query.targets] or [Target(ref) for ref in self._shapes.display(query.phrase.table)]

    def _grouped(self, query: Query, shown: Sequence[Target]) -> list[exp.Expr]:
        ranking = query.phrase.ranking
        measured = [*shown, *(target for target, _ in query.order), *(target for target, _, _ in query.having)]
        measured += [ranking.target] if ranking is not None else []
        plain = [target for target in shown if not target.aggregated]
        if not plain or not any(target.aggregated for target in measured):
            return []
        keys: list[ColumnRef] = [ref for table in query.group_tables for ref in self._shapes.key(table)]
        root = query.phrase.table
        counts_others = all(target.home not in {root, ""} for target in measured if target.aggregated)
        if not query.groups and not keys and counts_others and any(target.home == root for target in plain):
            keys = list(self._shapes.key(root))
        refs = dict.fromkeys([*(Target(ref) for ref in keys), *plain])
        scope = Scope(root, self._graph, self._said)
        return [self._target(scope, target) for target in refs]

    def _target(self, scope: Scope, target: Target) -> exp.Expr:
        if target.function == "count" and target.column is None:
            keys = self._shapes.key(target.table)
            doubled = target.table != scope.root and self._doubled(scope, target.table)
            if keys and (target.distinct or doubled):
                return exp.Count(this=exp.Distinct(expressions=[column(keys[0])]))
            return exp.Count(this=exp.Star())
        assert target.column is not None  # only rows are counted without a column
        ref: exp.Expr = column(target.column)
        if not target.function:
            return ref
        if target.times is not None:
            ref = exp.Mul(this=ref, expression=column(target.times))
        elif target.distinct:
            ref = exp.Distinct(expressions=[ref])
        elif target.function in {"sum", "avg", "min", "max"}:
            ref = self._operands.numeric(target.column, ref)
        kinds = {"count": exp.Count, "sum": exp.Sum, "avg": exp.Avg, "min": exp.Min, "max": exp.Max}
        return kinds[target.function](this=ref)

    def _doubled(self, scope: Scope, table: str) -> bool:
        """Whether a row of a table may stand in several of the joined rows."""
        way = self._graph.path((scope.root,), table, self._said) or []
        ones = [step.to_one for step in way]
        return sum(not one for one in ones) > 1 or (True in ones and ones[ones.index(True) :].count(True) > 1)

    def _sortable(self, scope: Scope, target: Target) -> exp.Expr:
        if target.column is not None and not target.function:
            return self._operands.numeric(target.column, column(target.column))
        return self._target(scope, target)

    def _any(self, scope: Scope, clauses: Sequence[Clause]) -> exp.Expr:
        made = [self._clause(scope, clause, alone=len(clauses) == 1) for clause in clauses]
        return made[0] if len(made) == 1 else exp.paren(exp.or_(*made))

    def _clause(self, scope: Scope, clause: Clause, *, alone: bool) -> exp.Expr:
        if isinstance(clause, Member):
            return self._member(scope, clause)
        home = clause.column.table
        if home in scope.tables and (not clause.negated or home == scope.root):
            return self._condition(clause)
        if alone and not clause.negated and scope.to_one(home):
            scope.reach(home)
            return self._condition(clause)
        if home in scope.tables:
            return self._condition(clause)
        inner = Condition(clause.column, clause.op, clause.operand)
        return self._member(scope, Member(Phrase(home, [[inner]]), negated=clause.negated))

    def _condition(self, clause: Condition) -> exp.Expr:
        left: exp.Expr = column(clause.column)
        if isinstance(clause.operand, Statistic) and clause.op == "in":
            made: exp.Expr = exp.In(this=left, query=self._value(clause.operand))
        elif isinstance(clause.operand, Statistic):
            left = self._operands.numeric(clause.column, left)
            made = _COMPARISONS[clause.op](this=left, expression=self._value(clause.operand))
        elif isinstance(clause.operand, ColumnRef):
            made = _COMPARISONS[clause.op](this=left, expression=column(clause.operand))
        else:
            made = self._operands.compare(clause.column, clause.op, clause.operand)
        return exp.not_(made) if clause.negated else made

    def _value(self, operand: float | Statistic) -> exp.Expr:
        if isinstance(operand, Statistic):
            inner = Query(operand.phrase, [operand.target])
            return self._select(inner, []).subquery()
        return exp.Literal.number(f"{operand:g}" if abs(operand) < 1e6 else f"{operand:.0f}")

    def _member(self, scope: Scope, member: Member) -> exp.Expr:
        """Return that the row's key is (not) among those of the other phrase's rows."""
        phrase = member.phrase
        if not member.negated and not member.op and phrase.table != scope.root and scope.to_one(phrase.table):
            scope.reach(phrase.table)
            return exp.and_(*(self._inner_where(scope, phrase) or [exp.true()]))
        way = self._way(scope, member)
        first = way[0]
        inner = Scope(first.target, self._graph, self._said)
        if first.target != member.phrase.table:
            for step in way[1:]:
                inner.reach(step.target)
        where = self._inner_where(inner, member.phrase)
        keys = columns(first.target, first.target_columns)
        select = inner.select().select(*keys)
        if member.negated and len(keys) == 1:
            where.append(exp.Not(this=exp.Is(this=keys[0].copy(), expression=exp.Null())))
        select = select.where(*where) if where else select
        if member.op:
            counted = self._target(inner, member.target or Target(function="count", table=member.phrase.table))
            if member.target is None:
                counted = self._counted(inner, member.phrase.table)
            having = _COMPARISONS[member.op](this=counted, expression=self._value(member.operand))
            select = select.group_by(*(key.copy() for key in keys)).having(having)
        mine = columns(first.source, first.source_columns)
        left: exp.Expr = mine[0] if len(mine) == 1 else exp.Tuple(expressions=mine)
        found = exp.In(this=left, query=select.subquery())
        if not member.negated:
            return found
        described = self._shapes.schema.tables[first.source]
        nullable = [
            c
            for name, c in zip(first.source_columns, mine, strict=True)
            if described.columns[name].nulls != 0.0
            and described.columns[name].nullable
            and name not in described.primary_key
        ]
        if nullable and first.to_one:
            return exp.paren(
                exp.or_(*(exp.Is(this=c.copy(), expression=exp.Null()) for c in nullable), exp.not_(found))
            )
        return exp.not_(found)

    def _counted(self, inner: Scope, table: str) -> exp.Expr:
        keys = self._shapes.key(table)
        if table != inner.root and keys and inner.fans(table):
            return exp.Count(this=exp.Distinct(expressions=[column(keys[0])]))
        return exp.Count(this=exp.Star())

    def _inner_where(self, inner: Scope, phrase: Phrase) -> list[exp.Expr]:
        if phrase.ranking is None:
            return [made for clauses in phrase.clauses if (made := self._any(inner, clauses)) != exp.true()]
        key = self._shapes.key(phrase.table)[:1] or self._shapes.display(phrase.table)[:1]
        ranked = Query(phrase, [Target(key[0])])
        return [exp.In(this=column(key[0]), query=self._select(ranked, []).subquery())]

    def _way(self, scope: Scope, member: Member) -> list[Step]:
        """Return the joins from the scope to a member's rows, not by the columns that its conditions are about."""
        table = member.phrase.table
        if table == scope.root:
            return self._itself(scope)
        return scope.way(table, _compared(member.phrase))

    def _itself(self, scope: Scope) -> list[Step]:
        """Return the join of a table to itself, by its key where no other is declared."""
        own = [step for step in self._graph.steps(scope.root) if step.target == scope.root]
        keys = tuple(ref.column for ref in self._shapes.key(scope.root))
        return own or [Step(scope.root, keys, scope.root, keys, to_one=True, cost=0.0)]


def _compared(phrase: Phrase) -> set[ColumnRef]:
    return {c.column for clauses in phrase.clauses for c in clauses if isinstance(c, Condition)}


def is_number(shapes: Shapes, ref: ColumnRef) -> bool:
    """Whether a column can be added up."""
    described = shapes.column(ref)
    return described.kind in NUMBERS or (described.kind is ColumnKind.TEXT and shapes.measures(described))
