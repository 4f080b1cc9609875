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
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlglot import exp

from quantum_db.errors import QuantumDBError, Unavailable
from sql_synthesizer.engines.ports import Engine, Limits, Parameter
from sql_synthesizer.guard.binding import bound
from sql_synthesizer.joins.extract import JoinBlock
from sql_synthesizer.joins.graph import JoinGraph
from sql_synthesizer.joins.rewrite import conjunction
from sql_synthesizer.schema import Schema, Table

SAMPLE: Final = 2_000
"""Rows of a pair's smaller side that are looked up."""
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
        self._counts: OrderedDict[tuple[str, tuple[Parameter, ...]], float] = OrderedDict()
        self._version = ""

    def estimate(self, block: JoinBlock, *, seconds: float) -> Estimates:
        """Return the join graph of a block; no count begins after ``seconds``, and none goes on beyond it."""
        return _Estimate(self, self._engine.schema(), block, time.perf_counter() + seconds).result()

    def count(self, select: exp.Select, deadline: float) -> float | None:
        """Return the number that a statement gives, or None if it is not known and time is over."""
        sql, parameters = bound(select, self._engine.dialect)
        key = sql, parameters
        self._forget(self._engine.data_version())
        with self._lock:
            if key in self._counts:
                self._counts.move_to_end(key)
                return self._counts[key]
        left = deadline - time.perf_counter()
        if left <= 0.0:
            return None
        try:
            rows = self._engine.run(sql, parameters, Limits(max_rows=1, timeout_s=left)).rows
        except Unavailable:
            raise
        except QuantumDBError:  # too slow, or a kind of table that cannot be counted so: an estimate does
            return None
        value = float(str(rows[0][0]))
        with self._lock:
            self._counts[key] = value
            if len(self._counts) > KEPT:
                self._counts.popitem(last=False)
        return value

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
        begun = time.perf_counter()
        rows = {alias: self.rows(alias) for alias in self.aliases}
        n = len(self.aliases)
        between = np.zeros((n, n))
        for i, j in itertools.combinations(range(n), 2):
            one, other = self.aliases[i], self.aliases[j]
            met = [condition for read, condition in self.block.predicates if read == {one, other}]
            if met:
                selectivity = self.pair(one, other, met, rows) / (rows[one] * rows[other])
                between[i, j] = between[j, i] = math.log(min(selectivity, 1.0)) or -1e-9
        self._drop_implied(between)
        logs = np.log(np.array([rows[alias] for alias in self.aliases]))
        graph = JoinGraph(tuple(self.aliases), logs, between)
        return Estimates(graph, self.counted, self.guessed, time.perf_counter() - begun)

    def rows(self, alias: str) -> float:
        """Return how many rows of a relation its own conditions leave."""
        table, filters = self.table(alias), self.block.filters[alias]
        if not filters and table is not None and table.rows is not None:
            self.counted += 1
            return max(NONE, float(table.rows))
        select = exp.select("COUNT(*)").from_(self.block.sources[alias].copy())
        if filters:
            select.set("where", exp.Where(this=conjunction([one.copy() for one in filters])))
        found = self.noted(self.statistics.count(select, self.deadline))
        if found is not None:
            return max(NONE, found)
        whole = float(table.rows) if table is not None and table.rows is not None else UNKNOWN_ROWS
        return max(NONE, whole * UNEQUAL ** len(filters))

    def pair(self, one: str, other: str, met: list[exp.Expr], rows: dict[str, float]) -> float:
        """Return how many rows the join of two relations has, their own conditions included."""
        if not any(_equality(condition) for condition in met):
            self.guessed += 1
            return rows[one] * rows[other] * UNEQUAL ** len(met)
        smaller, larger = sorted((one, other), key=lambda alias: rows[alias])
        step = max(1, round(rows[smaller] / SAMPLE))
        select = self._joined(smaller, larger, met, step)
        found = self.noted(self.statistics.count(select, self.deadline))
        if found is not None:
            return max(NONE, found) * step
        kept = 1.0
        for condition in met:
            kept *= self.kept_by(condition)
        return max(NONE, rows[one] * rows[other] * kept)

    def kept_by(self, condition: exp.Expr) -> float:
        """Return what a predicate keeps of values that are spread evenly: one over the distinct ones of the richer column."""
        if not _equality(condition):
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

    def noted(self, count: float | None) -> float | None:
        """Keep account of what was counted."""
        self.counted += count is not None
        self.guessed += count is None
        return count

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
        select = exp.select("COUNT(*)").from_(driver)
        select.set("joins", [inner])
        return select

    def _drop_implied(self, between: NDArray[np.float64]) -> None:
        """Let equalities that follow from others count once.

        Of ``a.x = b.x``, ``b.x = c.x`` and ``a.x = c.x`` any two imply the third: the least selective keeps nothing.
        """
        position = {alias: i for i, alias in enumerate(self.aliases)}
        pairs: dict[tuple[int, int], list[exp.Expr]] = {}
        for read, condition in self.block.predicates:
            if len(read) == 2:
                i, j = sorted(position[alias] for alias in read)
                pairs.setdefault((i, j), []).append(condition)
        same: dict[str, str] = {}
        for (i, j), met in sorted(pairs.items(), key=lambda item: between[item[0]]):
            new = [condition for condition in met if not _equality(condition) or _united(same, condition)]
            if not new:
                between[i, j] = between[j, i] = 0.0


def _united(same: dict[str, str], equality: exp.Expr) -> bool:
    """Put the columns of an equality into one class; tell whether they were in two."""
    roots = []
    for column in (equality.this, equality.expression):
        name = column.sql()
        while name in same:
            name = same[name]
        roots.append(name)
    if roots[0] == roots[1]:
        return False
    same[roots[0]] = roots[1]
    return True


def _equality(condition: exp.Expr) -> bool:
    columns = isinstance(condition.this, exp.Column) and isinstance(condition.expression, exp.Column)
    return isinstance(condition, exp.EQ) and columns


def _number(value: float) -> exp.Literal:
    return exp.Literal(this=str(value), is_string=False)


def _sampled(table: exp.Table, percent: float) -> exp.Table:
    sample = exp.TableSample(method=exp.Var(this="BERNOULLI"), percent=_number(round(percent, 4)), seed=_number(1))
    table.set("sample", sample)
    return table
