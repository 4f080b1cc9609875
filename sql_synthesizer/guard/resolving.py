"""Ties every name of a statement to a column that may be seen, and writes it so that no engine can read it otherwise.

Columns are qualified, stars become lists, NATURAL becomes USING. A column that is hidden is not in the schema, so it is
neither found nor listed, and where an engine would take a bare name for it, the name is no longer bare.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlglot import exp

from quantum_db.errors import SqlInvalid
from quantum_db.near import near_name
from sql_synthesizer.guard.names import HOME, Catalogue, Columns, Scope, Source, is_tied, key_of, tie
from sql_synthesizer.guard.outputs import Output, expanded, named, output_of
from sql_synthesizer.guard.reading import Text

Ctes = Mapping[str, Columns]
MAX_COPIED: Final = 20_000
"""Parts that aliases are replaced by: each alias of aliases may double them."""
ALIAS_CLAUSES: Final = frozenset({"where", "group", "having", "qualify", "order", "distinct"})


class Resolver:
    """Resolves the names of one statement in place, and keeps which tables and columns it reads."""

    def __init__(self, text: Text, catalogue: Catalogue) -> None:
        """Keep what names are looked up in."""
        self._text, self._catalogue, self._dialect = text, catalogue, catalogue.dialect
        self._derived = self._copied = 0
        self.tables: set[str] = set()
        self.columns: set[tuple[str, str]] = set()

    def statement(self, root: exp.Query) -> None:
        """Resolve a whole statement.

        Raises:
            SqlInvalid: a name is not known, or may mean several things.
            SqlRefused: something is read that is no table.
        """
        self._query(root, None, {}, names=True)
        for node in root.find_all(exp.Column, exp.Table):
            # No part of a statement is left out of the walk above; should one be, it does not run.
            if not is_tied(node):
                raise self._text.refused(f"{node.sql()} could not be looked up", node)

    def _query(self, query: exp.Expr, outer: Scope | None, ctes: Ctes, *, names: bool) -> Columns:
        """Resolve a query and return the columns it gives; ``names`` gives each of them a name that differs."""
        ctes = self._with(query, outer, ctes)
        if isinstance(query, exp.Select):
            return self._select(query, outer, ctes, names=names)
        if isinstance(query, exp.Subquery):
            columns = self._query(query.this, outer, ctes, names=names)
        elif isinstance(query, exp.SetOperation):
            columns = self._query(query.this, outer, ctes, names=names)
            self._query(query.expression, outer, ctes, names=False)
        else:
            raise self._text.refused(f"{query.key.upper()} is not allowed as a query", query)
        self._order_of_outputs(query, columns)
        return columns

    def _with(self, query: exp.Expr, outer: Scope | None, ctes: Ctes) -> Ctes:
        clause = query.args.get("with_")
        if clause is None:
            return ctes
        known = dict(ctes)
        # SQLite does not ask for the word RECURSIVE.
        may_recur = bool(clause.args.get("recursive")) or self._dialect == "sqlite"
        for cte in clause.expressions:
            key = key_of(cte.args["alias"].this, self._dialect)
            if may_recur and any(key_of(one.this, self._dialect) == key for one in _tables(cte.this)):
                raise self._text.refused(f"{cte.alias} reads itself: recursion is not allowed", cte.args["alias"])
            columns = self._query(cte.this, outer, known, names=True)
            known[key] = self._renamed(columns, cte.args["alias"])
        return known

    def _select(self, select: exp.Select, outer: Scope | None, ctes: Ctes, *, names: bool) -> Columns:
        scope = Scope(outer)
        from_ = select.args.get("from_")
        if from_ is not None:
            self._source(from_.this, scope, ctes)
        self._joins(select, scope, ctes)
        for lateral in select.args.get("laterals") or ():
            self._source(lateral, scope, ctes)
        projections = expanded(select.expressions, scope, self._text, self._dialect)
        outputs: list[Output] = []
        for projection in projections:
            output = output_of(projection, self._dialect)
            resolved = self._names(projection, scope, ctes, "select")
            outputs.append(output._replace(expression=resolved))
            if output.name is not None and self._dialect == "duckdb":
                scope.outputs.setdefault(key_of(output.name, self._dialect), (len(outputs), resolved.unalias()))
        if names:
            outputs = named(outputs, self._dialect)
        select.set("expressions", [output.expression for output in outputs])
        scope.outputs = {
            key_of(output.name, self._dialect): (place, output.expression)
            for place, output in reversed(list(enumerate(outputs, 1)))
            if output.name is not None
        }
        self._clauses(select, scope, ctes)
        return {key_of(output.name, self._dialect): output.name.copy() for output in outputs if output.name is not None}

    def _clauses(self, select: exp.Select, scope: Scope, ctes: Ctes) -> None:
        for join in scope.joins:
            self._part(join, "on", scope, ctes)
        for clause in ("where", "group", "having", "qualify", "windows", "order", "limit", "offset", "distinct"):
            self._part(select, clause, scope, ctes)

    def _part(self, node: exp.Expr, clause: str, scope: Scope, ctes: Ctes) -> None:
        value = node.args.get(clause)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, exp.Expr):
                self._names(part, scope, ctes, clause)

    # Sources

    def _joins(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> None:
        for join in node.args.get("joins") or ():
            if self._dialect == "sqlite" and join.kind.upper() == "CROSS":
                join.set("kind", None)  # the parser reads a comma so, too; SQLite would keep the order of CROSS JOIN
            scope.joins.append(join)
            before = dict(scope.sources)
            self._source(join.this, scope, ctes)
            added = [source for key, source in scope.sources.items() if key not in before]
            if join.method.upper() == "NATURAL":
                self._make_using(join, before.values(), added)
            elif join.method:
                raise self._text.refused(f"a join of kind {join.method} is not allowed", join)
            for name in join.args.get("using") or ():
                self._merge(name, scope, before.values(), added)

    def _make_using(self, join: exp.Join, before: Iterable[Source], added: Iterable[Source]) -> None:
        theirs = {key for source in added for key in source.columns}
        shared = {key: name for source in before for key, name in source.columns.items() if key in theirs}
        if not shared:
            raise self._text.invalid("the tables of this NATURAL JOIN share no column", join)
        join.set("method", None)
        join.set("using", [name.copy() for name in shared.values()])

    def _merge(self, name: exp.Expr, scope: Scope, before: Iterable[Source], added: Iterable[Source]) -> None:
        name = name.this if isinstance(name, exp.Column) else name
        assert isinstance(name, exp.Identifier)
        key = key_of(name, self._dialect)
        for side in (list(before), list(added)):
            found = [source for source in side if key in source.columns]
            if not found:
                raise self._unknown_column(name, side)
            for source in found:
                self._note(source, key)
            scope.merged[key] = found[0].columns[key]
        name.replace(scope.merged[key].copy())

    def _source(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> None:
        if isinstance(node, exp.Table):
            self._add(scope, self._table(node, ctes), node)
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table | exp.Subquery) and not node.alias:
            self._source(node.this, scope, ctes)  # brackets around joins
        elif isinstance(node, exp.Subquery):
            columns = self._query(node.this, scope.outer, ctes, names=True)
            self._add(scope, self._derivation(node, columns), node)
        elif isinstance(node, exp.Lateral) and isinstance(node.this, exp.Subquery):
            columns = self._query(node.this, scope, ctes, names=True)
            self._add(scope, self._derivation(node, columns), node)
        elif isinstance(node, exp.Values | exp.Unnest):
            for one in list(node.expressions):
                self._names(one, scope, ctes, "from")
            self._add(scope, self._derivation(node, {}), node)
        else:
            raise self._text.refused("only tables and queries may be read", node)
        self._joins(node, scope, ctes)

    def _add(self, scope: Scope, source: Source, node: exp.Expr) -> None:
        key = key_of(source.name, self._dialect)
        if key in scope.sources:
            raise self._text.invalid(f"two sources have the name {source.name.name}", node)
        scope.sources[key] = source

    def _table(self, node: exp.Table, ctes: Ctes) -> Source:
        name, alias = node.this, node.args.get("alias")
        if not isinstance(name, exp.Identifier):
            raise self._text.refused(f"the table function {name.sql()} is not allowed", node)
        tie(node)
        home = node.args.get("db")
        if home is None and (known := ctes.get(key_of(name, self._dialect))) is not None:
            columns = self._renamed(known, alias)
            return Source((alias.this if alias else name).copy(), columns)
        found = self._catalogue.table(name)
        if found is None or (home is not None and key_of(home, self._dialect) not in HOME[self._dialect]):
            known_names = self._catalogue.names()
            raise self._text.invalid(f"there is no table {name.name!r}{near_name(name.name, known_names)}", node)
        if alias is not None and alias.args.get("columns"):
            raise self._text.refused("columns of a table cannot be renamed where it is read", node)
        table, columns = found
        self.tables.add(table)
        node.set("this", exp.to_identifier(table, quoted=True))
        return Source((alias.this if alias else node.this).copy(), columns, table)

    def _derivation(self, node: exp.Expr, columns: Columns) -> Source:
        alias = node.args.get("alias")
        if self._dialect == "sqlite" and alias is not None and alias.args.get("columns"):
            raise self._text.invalid("SQLite takes no names of columns in brackets after AS", node)
        if alias is None or alias.this is None:
            self._derived += 1
            given = alias.args.get("columns") if alias is not None else None
            alias = exp.TableAlias(this=exp.to_identifier(f"_q{self._derived}"), columns=given)
            node.set("alias", alias)
        if isinstance(node, exp.Values | exp.Unnest):
            given = alias.args.get("columns") or ()
            if not given:
                raise self._text.invalid("columns of VALUES and UNNEST need names: AS v(a, b)", node)
            return Source(alias.this.copy(), {key_of(one, self._dialect): one.copy() for one in given})
        return Source(alias.this.copy(), self._renamed(columns, alias))

    def _renamed(self, columns: Columns, alias: exp.Expr | None) -> Columns:
        """Return derived columns with the names that are given to them in brackets: the first of them, or all."""
        given = (alias.args.get("columns") if alias is not None else None) or []
        if len(given) > len(columns):
            raise self._text.invalid(f"{len(given)} names are given to {len(columns)} columns", alias)
        written = [name.copy() for name in given] + list(columns.values())[len(given) :]
        return {key_of(name, self._dialect): name for name in written}

    # Names

    def _names(self, part: exp.Expr, scope: Scope, ctes: Ctes, clause: str) -> exp.Expr:
        """Resolve the names in a part of a SELECT; return the part, or what it was replaced by."""
        waiting: list[exp.Expr] = [part]
        while waiting:
            node = waiting.pop()
            if isinstance(node, exp.Query):
                self._query(node, scope, ctes, names=False)
            elif isinstance(node, exp.Column):
                new = self._column(node, scope, clause)
                if node is part:
                    part = new
                elif new is not node:
                    node.replace(new)
            elif isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count):
                raise self._text.refused("a star is allowed in a SELECT list and in COUNT only", node)
            else:
                waiting.extend(node.iter_expressions())
        return part

    def _column(self, column: exp.Column, scope: Scope, clause: str) -> exp.Expr:
        name = column.this
        if not isinstance(name, exp.Identifier):
            raise self._text.refused("a star is allowed in a SELECT list and in COUNT only", column)
        home = column.args.get("db")
        if column.args.get("catalog") or (home and key_of(home, self._dialect) not in HOME[self._dialect]):
            raise self._text.refused(f"{column.sql()} is not a column of a table", column)
        if column.args.get("table") is not None:
            return self._qualified(column, name, scope)
        key = key_of(name, self._dialect)
        if clause == "order" and isinstance(column.parent, exp.Ordered) and key in scope.outputs:
            return self._output(column, key, scope)
        for around in scope.outwards():
            if key in around.merged:
                return self._shared(column, key, around, scope)
            if found := around.having(key):
                return self._found(column, key, found, around, scope)
            if around is scope and key in scope.outputs and (clause in ALIAS_CLAUSES or clause == "select"):
                return self._alias(column, key, scope, clause)
        if self._dialect == "sqlite" and name.args.get("quoted"):
            return exp.Literal.string(name.this)  # as SQLite itself reads it
        raise self._unknown_column(name, [source for one in scope.outwards() for source in one.sources.values()])

    def _qualified(self, column: exp.Column, name: exp.Identifier, scope: Scope) -> exp.Expr:
        table = key_of(column.args["table"], self._dialect)
        source = next((one.sources[table] for one in scope.outwards() if table in one.sources), None)
        if source is None:
            raise self._text.invalid(f"nothing that is read here is called {column.table!r}", column)
        key = key_of(name, self._dialect)
        if key not in source.columns:
            raise self._unknown_column(name, [source])
        return self._tied(column, source, key)

    def _found(self, column: exp.Column, key: str, found: list[Source], around: Scope, scope: Scope) -> exp.Expr:
        if len(found) > 1:
            names = " or ".join(f"{source.name.name}.{column.name}" for source in found)
            raise self._text.invalid(f"{column.name!r} may mean {names}", column)
        self._not_covered(column, found[0], around, scope)
        return self._tied(column, found[0], key)

    def _not_covered(self, column: exp.Column, source: Source, around: Scope, scope: Scope) -> None:
        """See that no statement in between gives the source's name to something else."""
        name = key_of(source.name, self._dialect)
        for one in scope.outwards():
            if one is around:
                return
            if name in one.sources:
                raise self._text.invalid(f"{column.name!r} is of a table whose name is used again here", column)

    def _shared(self, column: exp.Column, key: str, around: Scope, scope: Scope) -> exp.Expr:
        if around is not scope:
            raise self._text.invalid(f"{column.name!r} is of several tables around: say of which", column)
        for source in around.having(key):
            self._note(source, key)
        column.set("this", around.merged[key].copy())
        tie(column)
        return column

    def _tied(self, column: exp.Column, source: Source, key: str) -> exp.Expr:
        self._note(source, key)
        column.set("db", None)
        column.set("table", source.name.copy())
        column.set("this", source.columns[key].copy())
        tie(column)
        return column

    def _output(self, column: exp.Column, key: str, scope: Scope) -> exp.Expr:
        _, expression = scope.outputs[key]
        column.set("this", (output_of(expression, self._dialect).name or column.this).copy())
        tie(column)
        return column

    def _alias(self, column: exp.Column, key: str, scope: Scope, clause: str) -> exp.Expr:
        """Return what an alias stands for: engines may take its bare name for a column that is hidden."""
        place, expression = scope.outputs[key]
        if clause == "group" and isinstance(column.parent, exp.Group):
            return exp.Literal.number(place)
        copied = exp.paren(expression.unalias().copy(), copy=False)
        self._copied += sum(1 for _ in copied.walk())
        if self._copied > MAX_COPIED:
            raise self._text.refused("aliases that stand for aliases make this statement too large", column)
        return copied

    def _order_of_outputs(self, query: exp.Expr, columns: Columns) -> None:
        order = query.args.get("order")
        for ordered in order.expressions if order is not None else ():
            by = ordered.this
            if isinstance(by, exp.Literal) and not by.is_string:
                continue
            key = key_of(by.this, self._dialect) if isinstance(by, exp.Column) and not by.table else None
            if key is None or key not in columns:
                raise self._text.invalid("rows of several queries are ordered by names of result columns only", ordered)
            by.set("this", columns[key].copy())
            tie(by)

    def _note(self, source: Source, key: str) -> None:
        if source.table is not None:
            self.columns.add((source.table, str(source.columns[key].this)))

    def _unknown_column(self, name: exp.Identifier, sources: Iterable[Source]) -> SqlInvalid:
        known = dict.fromkeys(str(one.this) for source in sources for one in source.columns.values())
        return self._text.invalid(f"there is no column {name.name!r}{near_name(name.name, known)}", name)


def _tables(query: exp.Expr) -> Iterable[Any]:
    """Yield the tables of a query that have no schema written before them."""
    for table in query.find_all(exp.Table):
        if isinstance(table.this, exp.Identifier) and not table.args.get("db"):
            yield table
