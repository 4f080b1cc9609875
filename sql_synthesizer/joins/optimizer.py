"""Statements run in the better join order: the engine's own unless a gain is predicted, and back to it in time.

1. What ran before is remembered: the faster of the two ways runs.
2. Otherwise the statement begins as it is. Most are done in a moment, and nothing was lost on them.
3. While a longer one runs, relations and their pairs are counted, a join tree is searched, and the gate compares it
   with the engine's plan. If the statement is done before, the next time has the tree.
4. A tree that passes races against the engine's own way. DuckDB forces an order for all of a database, so there the own
   way is stopped; it runs anew if ours fails, or is not done within some time.
"""

from __future__ import annotations

import concurrent.futures
import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from quantum_db.errors import InvalidRequest, QuantumDBError, SqlInvalid, SqlTimeout
from sql_synthesizer.engines.ports import Engine, Limits, Parameter, Rows
from sql_synthesizer.guard.binding import bound
from sql_synthesizer.guard.check import Checked
from sql_synthesizer.joins.attempts import Attempt, begun, first_of
from sql_synthesizer.joins.choose import OrderChooser, choose_order
from sql_synthesizer.joins.estimates import Statistics
from sql_synthesizer.joins.extract import JoinBlock, Untouched, extract
from sql_synthesizer.joins.gate import gain, presumed_tree
from sql_synthesizer.joins.graph import JoinGraph, JoinTree, SetLogs, log_c_out
from sql_synthesizer.joins.plans import own_trees
from sql_synthesizer.joins.rewrite import BUSHY, rewrite

ONE_ORDER = frozenset({"duckdb"})
"""Dialects of engines that force an order for a whole database: two ways to run a statement cannot go on at once."""


NOT_READY = "the search for large graphs is not ready"


@dataclass(frozen=True, slots=True)
class JoinSettings:
    """How much is spent on join orders, and when one is forced.

    Attributes:
        patience_s: how long the engine's own way runs before another is thought of.
        statistics_s: for counting; no count goes on beyond it.
        search_s: for searching an order of a graph that is too large for proof.
        min_gain: the least predicted gain that is worth forcing an order.
        forced_factor: where it does not race, a forced order may take this many times what was spent before it began,
            or what it took the last time.
        remembered: statements of which times are kept.
    """

    patience_s: float = 0.05
    statistics_s: float = 0.25
    search_s: float = 0.05
    min_gain: float = 1.5
    forced_factor: float = 5.0
    remembered: int = 1_000

    def __post_init__(self) -> None:
        for name in ("patience_s", "statistics_s", "search_s", "min_gain", "forced_factor", "remembered"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidRequest.at(name, f"{getattr(self, name)} must be above 0 and finite")


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """What is known of a statement's join order before it runs.

    Attributes:
        reason: why the order is forced, or is not, in a few words.
        tree: ours, None if there is none.
        names: of the relations, as the tree counts them.
        sql: the statement with its order written into it, None if it is not to be forced.
        parameters: what the placeholders in it stand for.
        log_cost, own_log_cost: natural logarithms of C_out, ours and the engine's own, by the same counts; the latter
            is None if the engine's plan cannot be read.
        gain: predicted, taken pessimistically; None if there is nothing to compare.
        planning_ms: what it took to count, search and compare.
    """

    reason: str
    tree: JoinTree | None = None
    names: tuple[str, ...] = ()
    sql: str | None = None
    parameters: tuple[Parameter, ...] = ()
    log_cost: float | None = None
    own_log_cost: float | None = None
    gain: float | None = None
    planning_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Optimised:
    """A result, and how it came about.

    Attributes:
        rows: the result; ``elapsed_ms`` in it is that of the run that gave it.
        forced: whether our order gave it.
        plan: see `JoinPlan`.
        own_ms, forced_ms: the times of the two ways when they last ran to the end, None if they never did.
        total_ms: all of it, counting, searching and failed attempts included.
    """

    rows: Rows
    forced: bool
    plan: JoinPlan
    own_ms: float | None
    forced_ms: float | None
    total_ms: float


@dataclass(slots=True)
class _Known:
    """What was seen of one statement."""

    plan: JoinPlan
    own_ms: float | None = None
    forced_ms: float | None = None

    def worth_forcing(self, settings: JoinSettings) -> bool:
        """Tell if our order was faster, or was not tried where there is something to gain."""
        if self.plan.sql is None:
            return False
        if self.forced_ms is None:
            return self.own_ms is None or self.own_ms > 2e3 * settings.patience_s
        return self.own_ms is None or self.forced_ms < self.own_ms

    def learn(self, planned: concurrent.futures.Future[JoinPlan]) -> None:
        """Take a plan; an engine that cannot count or explain is no reason to fail."""
        try:
            self.plan = planned.result()
        except QuantumDBError as error:
            self.plan = JoinPlan(f"nothing could be planned: {error.detail}")


class JoinOptimizer:
    """Runs statements of one engine. Safe to call from several threads."""

    def __init__(
        self, engine: Engine, settings: JoinSettings | None = None, choose: OrderChooser = choose_order
    ) -> None:
        self.settings = settings or JoinSettings()
        self.engine = engine
        self._choose = choose
        self._statistics = Statistics(engine)
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def run(self, checked: Checked, limits: Limits | None = None) -> Optimised:
        """Run a statement; the rows are those that the engine's own order gives, maybe in another sequence.

        Sums of floating-point numbers may differ in their last digits, as in two runs of a parallel engine.

        Raises:
            SqlInvalid, SqlTimeout, Unavailable: as ``Engine.run``.
        """
        return _Run(self, checked, limits or Limits()).result()

    def plan(self, checked: Checked, limits: Limits | None = None) -> JoinPlan:
        """Return what would be done with a statement if its own order took long, without running it."""
        begun = time.perf_counter()
        block = extract(checked.tree, self.engine.schema(), most_rows=(limits or Limits()).max_rows)
        if isinstance(block, Untouched):
            return JoinPlan(block.reason)
        return replace(self._planned(block), planning_ms=(time.perf_counter() - begun) * 1e3)

    def graph(self, checked: Checked, limits: Limits | None = None) -> JoinGraph | None:
        """Return the join graph of a statement with its rows counted; None where there is no order to choose."""
        block = extract(checked.tree, self.engine.schema(), most_rows=(limits or Limits()).max_rows)
        if isinstance(block, Untouched):
            return None
        return self._statistics.estimate(block, seconds=self.settings.statistics_s).graph

    def _planned(self, block: JoinBlock) -> JoinPlan:
        dialect, schema = self.engine.dialect, self.engine.schema()
        estimates = self._statistics.estimate(block, seconds=self.settings.statistics_s)
        graph = estimates.graph
        order = self._choose(graph, chain=dialect not in BUSHY, seconds=self.settings.search_s)
        if order is None:
            return JoinPlan(NOT_READY, names=graph.names)
        own = self._own(block, graph)
        compared = own if own is not None else presumed_tree(block, schema, graph)
        found = gain(graph, compared, order.tree) if compared is not None else None
        plan = JoinPlan(
            "no gain is predicted",
            order.tree,
            graph.names,
            log_cost=order.log_cost,
            own_log_cost=log_c_out(graph, own) if own is not None else None,
            gain=found,
        )
        if found is None or found < self.settings.min_gain:
            return plan
        sql, parameters = bound(rewrite(block, order.tree, dialect), dialect)
        return replace(
            plan, sql=sql, parameters=parameters, reason=f"fewer rows by a factor of {found:.3g} are predicted"
        )

    def _own(self, block: JoinBlock, graph: JoinGraph) -> JoinTree | None:
        """Return the tree of the engine's plan; the cheapest, if it can be read in several ways."""
        sql, parameters = bound(block.select, self.engine.dialect)
        tables = {alias: source.name for alias, source in block.sources.items()}
        if self.engine.dialect == "duckdb":
            text = str(self.engine.run(f"EXPLAIN (FORMAT json) {sql}", parameters).rows[0][1])
        else:
            text = self.engine.explain(sql, parameters).text
        trees = own_trees(text, self.engine.dialect, tables)
        return min(trees, key=SetLogs(graph).log_c_out, default=None)

    def recall(self, key: tuple[str, str]) -> _Known | None:
        """Return what was seen of a statement."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def remember(self, key: tuple[str, str], known: _Known) -> None:
        """Keep what was seen of a statement, and forget the one that was asked for longest ago."""
        with self._lock:
            self._known[key] = known
            self._known.move_to_end(key)
            if len(self._known) > self.settings.remembered:
                self._known.popitem(last=False)


class _Run:
    """One statement on its way."""

    def __init__(self, optimizer: JoinOptimizer, checked: Checked, limits: Limits) -> None:
        self.optimizer, self.checked, self.limits = optimizer, checked, limits
        self.engine = optimizer.engine
        self.begun = time.perf_counter()
        self.key = checked.key, self.engine.data_version()
        self.forced = False

    def result(self) -> Optimised:
        """Run the statement in the way that is known to be faster, or find out which is."""
        known = self.optimizer.recall(self.key)
        if known is None or known.plan.reason == NOT_READY:
            block = extract(self.checked.tree, self.engine.schema(), most_rows=self.limits.max_rows)
            untouched = isinstance(block, Untouched)
            known = _Known(JoinPlan(block.reason if isinstance(block, Untouched) else "the engine's own order is fast"))
            rows = self.own(known) if untouched else self.first(known)
        elif known.worth_forcing(self.optimizer.settings):
            rows = self.force_or_own(known)
        else:
            rows = self.own(known)
        self.optimizer.remember(self.key, known)
        total_ms = (time.perf_counter() - self.begun) * 1e3
        return Optimised(rows, self.forced, known.plan, known.own_ms, known.forced_ms, total_ms)

    def first(self, known: _Known) -> Rows:
        """Run as it is, and think of a better order meanwhile if that takes long."""
        own = Attempt(self.engine, self.checked.sql, self.checked.parameters, self.within(self.limits.timeout_s))
        soon = own.done_within(self.optimizer.settings.patience_s)
        if soon and not _out_of_memory(own.future.exception()):
            return self.ended(own, known)
        planned = begun(lambda: self.optimizer.plan(self.checked, self.limits))
        first_of(own.future, planned)
        if own.future.done() and not _out_of_memory(own.future.exception()):
            planned.add_done_callback(known.learn)
            return self.ended(own, known)
        known.learn(planned)
        if known.plan.sql is None:
            return self.ended(own, known)
        if self.engine.dialect in ONE_ORDER or own.future.done():
            own.stop()
            return self.force_or_own(known)
        return self.race(own, known)

    def race(self, own: Attempt, known: _Known) -> Rows:
        """Run in our order beside the engine's own; the first that gives all rows wins, the other is stopped."""
        forced = self.forced_attempt(known, self.left())
        first_of(forced.future, own.future)
        if forced.future.done() and self.succeeded(forced, known):
            own.stop()
            return self.ended_forced(forced, known)
        if not forced.future.done():
            known.plan = replace(known.plan, sql=None, reason="the engine's own order was faster")
        rows = self.ended(own, known)
        forced.stop()
        return rows

    def force_or_own(self, known: _Known) -> Rows:
        """Run in our order for some time; if it fails, or takes longer, run as the statement is, now and ever after."""
        factor, patience = self.optimizer.settings.forced_factor, self.optimizer.settings.patience_s
        if known.forced_ms is not None:
            seconds = factor * known.forced_ms / 1e3
        elif known.own_ms is not None:
            seconds = known.own_ms / 1e3
        else:
            seconds = factor * (time.perf_counter() - self.begun)
        forced = self.forced_attempt(known, min(max(patience, seconds), self.left()))
        return self.ended_forced(forced, known) if self.succeeded(forced, known) else self.own(known)

    def forced_attempt(self, known: _Known, seconds: float) -> Attempt:
        """Begin to run in our order."""
        sql, parameters = known.plan.sql or "", known.plan.parameters
        return Attempt(self.engine, sql, parameters, self.within(seconds), force_order=True)

    def succeeded(self, forced: Attempt, known: _Known) -> bool:
        """Wait for our order to end; if it does not give all rows, note why it is not to be tried again."""
        try:
            if not forced.result().truncated:
                return True
            failed = "there are more rows than asked for, and which ones come depends on the order"
        except SqlTimeout:
            failed = "the forced order took too long"
        except SqlInvalid as error:
            failed = f"the forced order failed: {error.detail}"
        known.plan = replace(known.plan, sql=None, reason=failed)
        return False

    def ended_forced(self, forced: Attempt, known: _Known) -> Rows:
        """Return what our order gave, and note its time."""
        rows = forced.result()
        known.forced_ms, self.forced = rows.elapsed_ms, True
        return rows

    def ended(self, own: Attempt, known: _Known) -> Rows:
        """Return what the engine's own order gives, and note its time."""
        rows = own.result()
        known.own_ms = rows.elapsed_ms
        return rows

    def own(self, known: _Known) -> Rows:
        """Run the statement as it is, in the time that is left."""
        rows = self.engine.run(self.checked.sql, self.checked.parameters, self.within(self.left()))
        known.own_ms = rows.elapsed_ms
        return rows

    def left(self) -> float:
        """Return the seconds that are left of the statement's time, at least a millisecond."""
        return max(1e-3, self.begun + self.limits.timeout_s - time.perf_counter())

    def within(self, seconds: float) -> Limits:
        """Return the statement's limits for so many seconds."""
        return replace(self.limits, timeout_s=seconds)


def _out_of_memory(error: BaseException | None) -> bool:
    """Tell if a statement failed for want of memory, which another order may need less of."""
    return isinstance(error, SqlInvalid) and "out of memory" in error.detail.lower()
