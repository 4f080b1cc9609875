"""The graph of a schema's keys: which tables meet on which columns, and the shortest ways between them."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sql_synthesizer.schema import Column, ColumnKind, Schema, Table
from sql_synthesizer.words.names import parts
from sql_synthesizer.words.query import ColumnRef
from sql_synthesizer.words.tokens import stem

_INCLUDED: Final = 0.9
_DECLARED_COST: Final = 1.0
_FOUND_COST: Final = 1.3
_SHARED_COST: Final = 2.2
FAR: Final = 9.0
"""The distance of tables that no way of keys joins."""


@dataclass(frozen=True, slots=True)
class Step:
    """A join of two tables.

    Attributes:
        source: the table from which one goes.
        source_columns: its columns.
        target: the table to which one goes.
        target_columns: equal to ``source_columns`` in that order.
        to_one: whether a row of the source meets at most one of the target.
        cost: less is more certain.
    """

    source: str
    source_columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    to_one: bool
    cost: float


class KeyGraph:
    """All joins that a schema's keys allow; where none are declared, those that names and values tell."""

    def __init__(self, schema: Schema) -> None:
        """Find the joins once."""
        self._schema = schema
        self._steps: dict[str, list[Step]] = defaultdict(list)
        self._distances: dict[tuple[str, str], float] = {}
        self._add_keys(declared=True)
        owners = self._owners()
        for source, target in self._undeclared():
            self._find(source, target, owners)
        for source, target in self._undeclared():
            self._find_shared(source, target)

        self._add_keys(declared=False)

    def _add_keys(self, *, declared: bool) -> None:
        """Add the schema's own keys; of those that nobody declared only what nothing else tells."""
        for table in self._schema.tables.values():
            met = {step.target for step in self._steps[table.name]}
            for key in table.foreign_keys:
                if key.declared is declared and (declared or key.table not in met):
                    cost = _DECLARED_COST if declared else _FOUND_COST
                    self._add(table.name, key.columns, key.table, key.references, cost)

    def steps(self, table: str) -> list[Step]:
        """Return all joins from a table."""
        return self._steps[table]

    def _add(
        self, source: str, columns: tuple[str, ...], target: str, references: tuple[str, ...], cost: float
    ) -> None:
        to_one, from_one = True, set(self._schema.tables[source].primary_key) == set(columns)
        if cost > _FOUND_COST:
            to_one, from_one = self._one(target, references), self._one(source, columns)
        self._steps[source].append(Step(source, columns, target, references, to_one, cost))
        if source != target:
            self._steps[target].append(Step(target, references, source, columns, from_one, cost))

    def _one(self, table: str, columns: tuple[str, ...]) -> bool:
        described = self._schema.tables[table]
        if described.primary_key and set(described.primary_key) <= set(columns):
            return True
        return len(columns) == 1 and unique(described, described.columns[columns[0]])

    def _undeclared(self) -> Iterator[tuple[Table, Table]]:
        tables = self._schema.tables.values()
        for source in tables:
            met = {step.target for step in self._steps[source.name]}
            for target in tables:
                if source.name != target.name and target.name not in met:
                    yield source, target

    def _find(self, source: Table, target: Table, owners: Mapping[str, str]) -> None:
        """Add the joins to a unique column of the target that a column of the source names or is included in."""
        for theirs in target.columns.values():
            if not unique(target, theirs):
                continue
            for mine in source.columns.values():
                if mine.name.lower() == theirs.name.lower():
                    found = owners.get(mine.name.lower()) == target.name and _compatible(mine, theirs)
                else:
                    found = _refers(source, mine, target, theirs)
                if found and not self._has_key(source, mine.name):
                    self._add(source.name, (mine.name,), target.name, (theirs.name,), _FOUND_COST)

    def _find_shared(self, source: Table, target: Table) -> None:
        """Add the joins of two tables on a column of the same name that is a key of neither."""
        if source.name > target.name:
            return
        for mine in source.columns.values():
            theirs = target.columns.get(mine.name)
            if theirs is not None and _shareable(mine.name) and _compatible(mine, theirs):
                self._add(source.name, (mine.name,), target.name, (theirs.name,), _SHARED_COST)

    def _owners(self) -> dict[str, str]:
        """Return, by the lower-case name of a column that several tables have, the table whose key it is."""
        holders: dict[str, list[Table]] = defaultdict(list)
        for table in self._schema.tables.values():
            for name in table.columns:
                holders[name.lower()].append(table)
        owners = {}
        for name, tables in holders.items():
            able = [t for t in tables if unique(t, _column(t, name))]
            if able and _shareable(name):
                owners[name] = max(able, key=lambda table: _ownership(table, name)).name
        return owners

    def _has_key(self, table: Table, column: str) -> bool:
        return any(column in key.columns for key in table.foreign_keys if key.declared)

    def path(
        self,
        sources: Collection[str],
        target: str,
        said: Collection[str] = (),
        avoided: Collection[ColumnRef] = (),
    ) -> list[Step] | None:
        """Return the cheapest way from any of some tables to another; None where there is none.

        Args:
            sources: where it may start.
            target: where it ends; a source itself takes its join to itself.
            said: stems of the question; of parallel joins the one whose columns it says is taken.
            avoided: columns on which better no join is made.
        """
        if target in sources:
            return next(([step] for step in self._steps[target] if step.target == target), None)
        queue: list[tuple[float, int, str, tuple[Step, ...]]] = [(0.0, 0, source, ()) for source in sorted(sources)]
        done: set[str] = set()
        pushed = 0
        while queue:
            cost, _, table, way = heapq.heappop(queue)
            if table == target:
                return list(way)
            if table in done:
                continue
            done.add(table)
            for step in self._steps[table]:
                if step.target not in done:
                    pushed += 1
                    price = cost + step.cost - 0.3 * _said(step, said) + _avoided(step, avoided)
                    heapq.heappush(queue, (price, pushed, step.target, (*way, step)))
        return None

    def distance(self, source: str, target: str) -> float:
        """Return the cost of the way between two tables: 0 for the same, 9 where there is none."""
        if source == target:
            return 0.0
        known = self._distances.get((source, target))
        if known is None:
            way = self.path((source,), target)
            known = FAR if way is None else sum(step.cost for step in way)
            self._distances[source, target] = known
        return known


def _said(step: Step, said: Collection[str]) -> float:
    if not said:
        return 0.0
    words = {stem(word) for name in step.source_columns + step.target_columns for word in parts(name)}
    return len(words & set(said)) / (len(words) + 1)


def _avoided(step: Step, avoided: Collection[ColumnRef]) -> float:
    return 1.0 if any(ColumnRef(step.target, name) in avoided for name in step.target_columns) else 0.0


def unique(table: Table, column: Column) -> bool:
    """Whether no two rows of the table have the same value in the column."""
    if table.primary_key:
        if table.primary_key == (column.name,):
            return True
        if column.name in table.primary_key:
            return False
    return bool(table.rows) and (table.rows or 0) > 1 and column.distinct == table.rows


def _column(table: Table, lower: str) -> Column:
    return next(column for name, column in table.columns.items() if name.lower() == lower)


def _shareable(name: str) -> bool:
    """Whether tables that have a column of this name may be joined on it."""
    return name.lower() not in {"id", "code", "number", "key"} and _keylike(name)


def _ownership(table: Table, column: str) -> tuple[int, int, int, int]:
    """Rank a table as the home of a column that others have too."""
    said = {stem(word) for word in parts(column)} & {stem(word) for word in parts(table.name)}
    initial = column[0] == table.name[0].lower() and column.lower().endswith("id")
    others = sum(_shareable(name) for name in table.columns)
    first = next(iter(table.columns)).lower() == column
    return len(said) - len(parts(table.name)), int(initial), -others, int(first)


def _keylike(name: str) -> bool:
    words = parts(name)
    return bool(words) and (words[-1] in {"id", "code", "number", "key"} or (len(words) > 1 and words[-1] == "name"))


def _compatible(mine: Column, theirs: Column) -> bool:
    numbers = {ColumnKind.INTEGER, ColumnKind.REAL}
    same = mine.kind is theirs.kind or {mine.kind, theirs.kind} <= numbers
    return same and mine.kind not in {ColumnKind.DATE, ColumnKind.TIMESTAMP, ColumnKind.BOOLEAN}


def _refers(source: Table, mine: Column, target: Table, theirs: Column) -> bool:
    if not _compatible(mine, theirs):
        return False
    mine_words, their_words = parts(mine.name), parts(theirs.name)
    table_words = [stem(word) for word in parts(target.name)]
    if mine.kind is ColumnKind.TEXT and mine.values and theirs.values and not _included(mine, theirs):
        return False
    said = {stem(word) for word in mine_words}
    if not _keylike(theirs.name) and theirs.name.lower() != "id":
        return False
    if set(table_words) <= said and their_words[-1] == mine_words[-1]:
        return True
    text = mine.kind is ColumnKind.TEXT and len(mine.values) > 2 and not unique(source, mine)
    return text and _own(theirs, target) and _included(mine, theirs)


def _own(column: Column, table: Table) -> bool:
    """Whether a column bears its table's name, as its key does."""
    words = {stem(word) for word in parts(column.name)}
    return bool(words & {stem(word) for word in parts(table.name)}) or column.name.lower() in {"id", "name", "code"}


def _included(mine: Column, theirs: Column) -> bool:
    if not mine.values or not theirs.values:
        return False
    mine_values, their_values = set(mine.values), set(theirs.values)
    return len(mine_values & their_values) >= _INCLUDED * len(mine_values)
