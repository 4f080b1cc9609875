"""How many rows a block's relations and their joins have, asked of the engine itself.

Filters are counted, and each pair of relations that a predicate joins is counted with the filters of both: what two
tables have to do with each other is what estimates by distinct values get wrong. The smaller side of a pair is sampled
if it is large, so that a count takes some thousand look-ups. Counts are kept by statement and data version. What cannot
be counted in time is estimated by distinct values, as engines do.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from sqlglot import exp

from quantum_db.errors import QuantumDBError, Unavailable
from sql_synthesizer.engines.ports import Engine, Limits
from sql_synthesizer.guard.binding import bound, written
from sql_synthesizer.joins.extract import JoinBlock, is_equality
from sql_synthesizer.joins.graph import JoinGraph
from sql_synthesizer.joins.rewrite import conjunction
from sql_synthesizer.schema import Schema, Table

SAMPLE: Final = {"duckdb": 2_000, "postgres": 500, "sqlite": 200}
"""Rows of a pair's smaller side that are looked up, by dialect: as many as take some milliseconds."""
MOST_COUNTED: Final = {"postgres": 100_000, "sqlite": 50_000}
"""Joined rows at which a count of a pair ends, where engines look up row by row: there are that many, or more."""
LOOKING_UP: Final = frozenset({"sqlite"})
"""Dialects of engines that join by looking up in an index, row by row, and have no other way."""
KEPT: Final = 20_000
"""Counts that are kept; each is a text of some 200 characters and a number."""
UNKNOWN_ROWS: Final = 1_000.0
UNKNOWN_DISTINCT: Final = 200.0
"""What is assumed of a table, or a column, that nobody counted."""
UNEQUAL: Final = 1.0 / 3.0
"""What is assumed to be kept by a predicate that is no equality of two columns."""
NONE: Final = 0.5
"""Rows, where none were found: the logarithm of 0 is no number, and a sample may miss some."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """A block's join graph.

    Attributes:
        graph: relations in the written order.
        counted: how many of the numbers in it come from counts, of this call or kept ones.
        guessed: how many do not.
        seconds: how long it took.
    """

    graph: JoinGraph
    counted: int
    guessed: int
    seconds: float


class Statistics:
    """Counts of one database. Safe to call from several threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._counts: OrderedDict[str, float] = OrderedDict()
        self._version = ""

    def estimate(self, block: JoinBlock, *, seconds: float) -> Estimates:
        """Return the join graph of a block; no count begins after ``seconds``, and none goes on beyond it."""
        return _Estimate(self, self._engine.schema(), block, time.perf_counter() + seconds).result()

    def counts(self, selects: Sequence[exp.Select], deadline: float) -> list[float | None]:
        """Return the numbers that statements give, None for those that are not known when time is over.

        Those that are not kept are asked for in one statement: each by itself would cost more than it counts.
        """
        self._forget(self._engine.data_version())
        keys = [written(select, self._engine.dialect) for select in selects]
        with self._lock:
            new = {key: select for key, select in zip(keys, selects, strict=True) if key not in self._counts}
        found = self._asked(list(new.values()), deadline) if new else []
        with self._lock:
            self._counts.update(zip(new, found, strict=False))
            for key in keys:
                if key in self._counts:
                    self._counts.move_to_end(key)
            values = [self._counts.get(key) for key in keys]
            while len(self._counts) > KEPT:
                self._counts.popitem(last=False)
        return values

    def _asked(self, selects: list[exp.Select], deadline: float) -> list[float]:
        """Ask the engine; an empty list if it does not answer in time, or cannot count so."""
        left = deadline - time.perf_counter()
        if left <= 0.0:
            return []
        whole = exp.Select(
            expressions=[
                exp.alias_(exp.Subquery(this=select), f"n{index}", copy=False) for index, select in enumerate(selects)
            ]
        )
        sql, parameters = bound(whole, self._engine.dialect)
        try:
            rows = self._engine.run(sql, parameters, Limits(max_rows=1, timeout_s=left)).rows
        except Unavailable:
            raise
        except QuantumDBError:  # too slow, or a kind of table that has no rows to sample: an estimate has to do
            return []
        return [float(str(value)) for value in rows[0]]

    def _forget(self, version: str) -> None:
        with self._lock:
            if version != self._version:
                self._counts.clear()
                self._version = version


class _Estimate:
    """One block's numbers, gathered."""

    def __init__(self, statistics: Statistics, schema: Schema, block: JoinBlock, deadline: float) -> None:
        self.statistics, self.schema, self.block, self.deadline = statistics, schema, block, deadline
        self.aliases = list(block.sources)
        self.counted = self.guessed = 0

    def result(self) -> Estimates:
        """Count relations, then pairs, and put the numbers into a graph."""
        begun = time.perf_counter()
        rows = self.rows()
        position = {alias: i for i, alias in enumerate(self.aliases)}
        between = np.zeros((len(position), len(position)))
        for (one, other), count in self.pairs(rows).items():
            i, j = position[one], position[other]
            selectivity = min(count / (rows[one] * rows[other]), 1.0)
            between[i, j] = between[j, i] = math.log(selectivity) or -1e-9
        logs = np.log(np.array([rows[alias] for alias in self.aliases]))
        classes = tuple(tuple(position[column.table] for column in group) for group in self.block.classes)
        fetched: tuple[float, ...] = ()
        if self.schema.dialect in LOOKING_UP:
            fetched = tuple(max(1.0, self.whole(alias) / rows[alias]) for alias in self.aliases)
        graph = JoinGraph(tuple(self.aliases), logs, between, classes, fetched)
        return Estimates(graph, self.counted, self.guessed, time.perf_counter() - begun)

    def rows(self) -> dict[str, float]:
        """Return for each relation how many rows its own conditions leave."""
        rows: dict[str, float] = {}
        asked: dict[str, exp.Select] = {}
        for alias in self.aliases:
            filters = self.block.filters[alias]
            rows[alias] = max(NONE, self.whole(alias) * UNEQUAL ** len(filters))
            if filters:
                asked[alias] = exp.select("COUNT(*)").from_(self.block.sources[alias].copy())
                asked[alias].set("where", exp.Where(this=conjunction([one.copy() for one in filters])))
        counts = self.statistics.counts(list(asked.values()), self.deadline)
        for alias, count in zip(asked, counts, strict=True):
            rows[alias] = rows[alias] if count is None else max(NONE, count)
            self.note(count)
        return rows

    def whole(self, alias: str) -> float:
        """Return how many rows the table behind an alias has."""
        table = self.table(alias)
        return float(table.rows) if table is not None and table.rows is not None else UNKNOWN_ROWS

    def pairs(self, rows: dict[str, float]) -> dict[tuple[str, str], float]:
        """Return for each pair with predicates how many rows its join has, the conditions of both included."""
        met: dict[tuple[str, str], list[exp.Expr]] = {}
        for read, condition in self.block.predicates:
            if len(read) == 2:
                smaller, larger = sorted(read, key=lambda alias: (rows[alias], alias))
                met.setdefault((smaller, larger), []).append(condition)
        for group in self.block.classes:
            for one, other in itertools.combinations(group, 2):
                smaller, larger = sorted((one.table, other.table), key=lambda alias: (rows[alias], alias))
                met.setdefault((smaller, larger), [exp.EQ(this=one, expression=other)])
        found: dict[tuple[str, str], float] = {}
        asked: dict[tuple[str, str], exp.Select] = {}
        for pair, conditions in met.items():
            kept = math.prod(self.kept_by(condition) for condition in conditions)
            found[pair] = max(NONE, rows[pair[0]] * rows[pair[1]] * kept)
            child = next((alias for alias in pair if self._extends(alias, pair, conditions)), None)
            if child is not None:
                found[pair] = rows[child]
                self.counted += 1
            elif any(is_equality(condition) for condition in conditions):
                asked[pair] = self._joined(*pair, conditions, self.step(rows[pair[0]]))
            else:
                self.guessed += 1
        counts = self.statistics.counts(list(asked.values()), self.deadline)
        for pair, count in zip(asked, counts, strict=True):
            found[pair] = found[pair] if count is None else max(NONE, count) * self.step(rows[pair[0]])
            self.note(count)
        return found

    def _extends(self, child: str, pair: tuple[str, str], conditions: list[exp.Expr]) -> bool:
        """Tell if a pair follows a key to a parent without filters: each row of the child finds one row, or none."""
        parent = pair[0] if child == pair[1] else pair[1]
        table = self.table(child)
        if table is None or len(conditions) > 1 or not is_equality(conditions[0]) or self.block.filters[parent]:
            return False
        columns = {column.table: column.name for column in conditions[0].find_all(exp.Column)}
        target = self.block.sources[parent].name
        return any(
            (key.columns, key.table, key.references) == ((columns[child],), target, (columns[parent],))
            for key in table.foreign_keys
        )

    def step(self, rows: float) -> int:
        """Return of how many rows one is looked up."""
        return max(1, round(rows / SAMPLE[self.schema.dialect]))

    def kept_by(self, condition: exp.Expr) -> float:
        """Return what a predicate keeps of evenly spread values: one over the distinct ones of the richer column."""
        if not is_equality(condition):
            return UNEQUAL
        return 1.0 / max(self.distinct(condition.this), self.distinct(condition.expression))

    def distinct(self, column: exp.Column) -> float:
        """Return how many distinct values a column has, as far as the schema knows."""
        table = self.table(column.table)
        known = table.columns.get(column.name) if table is not None else None
        return float(known.distinct) if known is not None and known.distinct else UNKNOWN_DISTINCT

    def table(self, alias: str) -> Table | None:
        """Return what the schema has of the table behind an alias."""
        return self.schema.tables.get(self.block.sources[alias].name)

    def note(self, count: float | None) -> None:
        """Keep account of what was counted."""
        self.counted += count is not None
        self.guessed += count is None

    def _joined(self, smaller: str, larger: str, met: list[exp.Expr], step: int) -> exp.Select:
        driver = self.block.sources[smaller].copy()
        conditions = [one.copy() for one in (*met, *self.block.filters[smaller], *self.block.filters[larger])]
        dialect = self.schema.dialect
        if step > 1 and dialect == "postgres":
            driver = _sampled(driver, 100.0 / step)
        elif step > 1:
            row = exp.Mod(this=exp.column("rowid", smaller, quoted=True), expression=_number(step))
            conditions.append(exp.EQ(this=row, expression=_number(0)))
        inner = exp.Join(this=self.block.sources[larger].copy(), kind="CROSS" if dialect == "sqlite" else None)
        inner.set("on", conjunction(conditions))
        most = MOST_COUNTED.get(dialect)
        select = exp.select("COUNT(*)" if most is None else "1").from_(driver)
        select.set("joins", [inner])
        if most is None:
            return select
        return exp.select("COUNT(*)").from_(exp.Subquery(this=select.limit(most, copy=False), alias="joined"))


def _number(value: float) -> exp.Literal:
    return exp.Literal(this=str(value), is_string=False)


def _sampled(table: exp.Table, percent: float) -> exp.Table:
    sample = exp.TableSample(method=exp.Var(this="BERNOULLI"), percent=_number(round(percent, 4)), seed=_number(1))
    table.set("sample", sample)
    return table
