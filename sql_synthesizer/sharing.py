"""Parts that statements share: the same tables under the same predicates, found in their trees, and read from a table.

A *block* is a SELECT of inner joins without queries inside it. A *shared part* is a set of its tables, joined by
predicates that all who share it have, with all simple predicates on them that all have. Each block that has a part may
read it from a table where it was kept, with its own further predicates on top: inner joins and conjunctions may be
taken in any order. What is not kept: parts of outer joins, aggregates, self-joins, and what is volatile.

Trees are those of `sql_synthesizer.guard.check.Checked`: all names are resolved, all columns say their table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from sqlglot import exp

from sql_synthesizer.guard.check import Checked

SIMPLE: Final = (
    exp.Column,
    exp.Identifier,
    exp.Literal,
    exp.Null,
    exp.Boolean,
    exp.Neg,
    exp.Paren,
    exp.And,
    exp.Or,
    exp.Not,
    exp.Is,
    exp.In,
    exp.Between,
    exp.Like,
    exp.EQ,
    exp.NEQ,
    exp.GT,
    exp.GTE,
    exp.LT,
    exp.LTE,
)
"""What a predicate may consist of to be taken before others: nothing that computes, and so might fail on other rows."""

NAMED: Final = ("this", "alias")
"""What the node of a plain table has."""

MAX_PARTS: Final = 200


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A SELECT of inner joins.

    Attributes:
        statement: its place in the set.
        place: among the SELECTs of its statement.
        aliases: the table of each name, for those of the schema; each table once.
        predicates: by their text with tables' own names: conjuncts that may be taken before others.
        columns: that the block reads of each table, beside what its ``predicates`` read.
    """

    statement: int
    place: int
    aliases: Mapping[str, str]
    predicates: Mapping[str, exp.Expr]
    columns: Mapping[str, frozenset[str]]

    @property
    def tables(self) -> frozenset[str]:
        """The tables of the schema that it joins."""
        return frozenset(self.aliases.values())

    def read_beside(self, part: Part) -> set[tuple[str, str]]:
        """Return the columns, as table and name, that it reads of a part's tables beside the part's predicates."""
        found = {(table, column) for table in part.tables for column in self.columns[table]}
        for text, predicate in self.predicates.items():
            if text not in part.predicates:
                found |= {(column.table, column.name) for column in predicate.find_all(exp.Column)}
        return {of for of in found if of[0] in part.tables}


@dataclass(frozen=True, slots=True)
class Part:
    """Tables with predicates, each in the order of their texts."""

    tables: tuple[str, ...]
    predicates: tuple[str, ...]

    def is_in(self, block: Block) -> bool:
        """Whether a block joins all of its tables under all of its predicates."""
        return block.tables.issuperset(self.tables) and all(text in block.predicates for text in self.predicates)


@dataclass(frozen=True, slots=True, eq=False)
class SharedPart:
    """A part, who may read it, and how it is kept.

    Attributes:
        users: places of blocks in the list of all.
        columns: table and column of each column of the table where it is kept, which are named c1, c2, ...
        query: what is kept.
    """

    part: Part
    users: tuple[int, ...]
    columns: tuple[tuple[str, str], ...]
    query: exp.Select
    predicates: tuple[exp.Expr, ...]


def blocks_of(statement: int, checked: Checked) -> list[Block]:
    """Return the blocks of a statement; none of a volatile one."""
    if checked.volatile:
        return []
    found = []
    for place, select in enumerate(_selects(checked.tree)):
        block = _block(statement, place, select, checked)
        if block is not None:
            found.append(block)
    return found


def shared_parts(blocks: Sequence[Block]) -> list[SharedPart]:
    """Return the parts that two or more blocks have, at most ``MAX_PARTS``, those of most users first.

    For each pair of blocks it is the largest common part around each table: the common tables that common predicates
    connect, and all common predicates on them.
    """
    parts: dict[Part, None] = {}
    for one, other in combinations(blocks, 2):
        for part in _common(one, other):
            parts.setdefault(part)
    found = []
    for part in parts:
        users = tuple(place for place, block in enumerate(blocks) if part.is_in(block))
        if len(users) > 1:
            found.append(_kept(part, users, blocks))
    found.sort(key=lambda shared: (-len(shared.users), shared.part.tables, shared.part.predicates))
    return found[:MAX_PARTS]


def read_from(checked: Checked, uses: Mapping[int, tuple[SharedPart, str]]) -> exp.Query:
    """Return a statement that reads parts of its blocks from tables.

    Args:
        uses: by place of the SELECT, the part and the name of the table where it is kept.
    """
    tree = checked.tree.copy()
    for place, select in enumerate(_selects(tree)):
        if place in uses:
            _replace(select, *uses[place])
    return tree


def _selects(tree: exp.Query) -> Iterator[exp.Select]:
    yield from list(tree.find_all(exp.Select, bfs=True))


def _block(statement: int, place: int, select: exp.Select, checked: Checked) -> Block | None:
    sources = _sources(select)
    if sources is None or any(node is not select for node in select.find_all(exp.Query, exp.Subquery)):
        return None
    ctes = {cte.alias for cte in checked.tree.find_all(exp.CTE)}
    aliases = {
        source.alias_or_name: source.name
        for source in sources
        if source.name in checked.tables and source.name not in ctes
    }
    known = {source.alias_or_name for source in sources}
    if len(set(aliases.values())) < len(aliases) or len(known) < len(sources) or not _resolved(select, known):
        return None
    predicates: dict[str, exp.Expr] = {}
    apart: set[int] = set()
    for conjunct in _conjuncts(select):
        if all(isinstance(node, SIMPLE) for node in conjunct.walk()) and conjunct.find(exp.Column):
            plain = _with_table_names(conjunct, aliases)
            if plain is not None:
                predicates[plain.sql()] = plain
                apart.update(id(column) for column in conjunct.find_all(exp.Column))
    columns: dict[str, set[str]] = {table: set() for table in aliases.values()}
    for column in select.find_all(exp.Column):
        if column.table in aliases and id(column) not in apart:
            columns[aliases[column.table]].add(column.name)
    return Block(statement, place, aliases, predicates, {table: frozenset(names) for table, names in columns.items()})


def _sources(select: exp.Select) -> list[exp.Table] | None:
    """Return what is joined, if it is nothing but named tables and inner joins."""
    first, found = select.args.get("from_"), []
    joins = select.args.get("joins") or []
    if first is None or any(select.args.get(name) for name in ("laterals", "with_", "pivots", "sample", "into")):
        return None
    for join in joins:
        inner = not (join.args.get("side") or join.args.get("method") or join.args.get("using"))
        if not inner or join.args.get("kind") not in (None, "", "INNER", "CROSS"):
            return None
    for source in (first.this, *(join.this for join in joins)):
        if not isinstance(source, exp.Table) or any(value for name, value in source.args.items() if name not in NAMED):
            return None
        alias = source.args.get("alias")
        if alias is not None and alias.args.get("columns"):
            return None
        found.append(source)
    return found


def _resolved(select: exp.Select, known: set[str]) -> bool:
    """Return whether each column says a source of this block, or is an output of it."""
    outputs = {projection.alias_or_name for projection in select.expressions}
    for column in select.find_all(exp.Column):
        if isinstance(column.this, exp.Star) or (column.table or column.name) not in (
            known if column.table else outputs
        ):
            return False
    return not any(isinstance(projection, exp.Star) for projection in select.expressions)


def _conjuncts(select: exp.Select) -> list[exp.Expr]:
    """Return what rows have to fulfil: the parts of WHERE and of all ON."""
    where = select.args.get("where")
    conditions = [join.args["on"] for join in select.args.get("joins") or [] if join.args.get("on") is not None]
    conditions += [] if where is None else [where.this]
    found: list[exp.Expr] = []
    while conditions:
        condition = conditions.pop()
        while isinstance(condition, exp.Paren):
            condition = condition.this
        if isinstance(condition, exp.And):
            conditions += [condition.left, condition.right]
        else:
            found.append(condition)
    return found[::-1]


def _with_table_names(predicate: exp.Expr, aliases: Mapping[str, str]) -> exp.Expr | None:
    """Return a predicate with each alias replaced by its table's name, an equality in one order of its sides."""
    plain = predicate.copy()
    for column in plain.find_all(exp.Column):
        if column.table not in aliases:
            return None
        column.set("table", exp.to_identifier(aliases[column.table], quoted=True))
        column.set("this", exp.to_identifier(column.name, quoted=True))
    if isinstance(plain, exp.EQ) and plain.left.sql() > plain.right.sql():
        left, right = plain.left, plain.right
        plain = exp.EQ(this=right.copy(), expression=left.copy())
    return plain


def _tables_of(predicate: exp.Expr) -> set[str]:
    return {column.table for column in predicate.find_all(exp.Column)}


def _common(one: Block, other: Block) -> Iterator[Part]:
    tables = one.tables & other.tables
    both = {text: _tables_of(one.predicates[text]) for text in one.predicates if text in other.predicates}
    both = {text: of for text, of in both.items() if of <= tables}
    left = set(tables)
    while left:
        reached = {min(left)}
        grown = True
        while grown:
            linked = {table for of in both.values() if of & reached for table in of}
            grown = not linked <= reached
            reached |= linked
        left -= reached
        predicates = tuple(sorted(text for text, of in both.items() if of <= reached))
        if predicates:  # a whole table is there already
            yield Part(tuple(sorted(reached)), predicates)


def _kept(part: Part, users: tuple[int, ...], blocks: Sequence[Block]) -> SharedPart:
    names = sorted({of for user in users for of in blocks[user].read_beside(part)})
    predicates = tuple(blocks[users[0]].predicates[text] for text in part.predicates)
    outputs = [exp.alias_(_column(*name), f"c{i + 1}", quoted=True) for i, name in enumerate(names)]
    query = exp.select(*outputs or [exp.alias_(exp.true(), "there", quoted=True)])  # rows are counted, nothing is read
    query = query.from_(exp.to_table(_quoted(part.tables[0])))
    for table in part.tables[1:]:
        query = query.join(exp.to_table(_quoted(table)), join_type="cross")
    query = query.where(*(predicate.copy() for predicate in predicates))
    return SharedPart(part, users, tuple(names), query, predicates)


def _quoted(table: str) -> exp.Table:
    return exp.Table(this=exp.to_identifier(table, quoted=True))


def _column(table: str, column: str) -> exp.Column:
    return exp.Column(this=exp.to_identifier(column, quoted=True), table=exp.to_identifier(table, quoted=True))


def _replace(select: exp.Select, shared: SharedPart, name: str) -> None:
    """Let a block read a part from the table ``name``, in place."""
    joins = select.args.get("joins") or []
    sources = [select.args["from_"].this, *(join.this for join in joins)]
    part, aliases = set(shared.part.tables), {source.alias_or_name: source.name for source in sources}
    kept = [
        conjunct.copy()
        for conjunct in _conjuncts(select)
        if (plain := _with_table_names(conjunct, aliases)) is None or plain.sql() not in shared.part.predicates
    ]
    rest = [source for source in sources if source.name not in part]
    select.set("from_", exp.From(this=_quoted(name)))
    select.set("joins", [exp.Join(this=source.copy(), kind="CROSS") for source in rest])
    select.set("where", exp.Where(this=exp.and_(*kept, copy=False)) if kept else None)
    numbers = {of: index + 1 for index, of in enumerate(shared.columns)}
    for projection in list(select.expressions):
        if isinstance(projection, exp.Column) and aliases.get(projection.table) in part:
            projection.replace(exp.alias_(projection.copy(), projection.name, quoted=True))
    for column in list(select.find_all(exp.Column)):
        table = aliases.get(column.table)
        if column.table and table in part:
            number = numbers[table, column.name]
            column.replace(_column(name, f"c{number}"))
