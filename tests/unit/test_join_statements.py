"""Statements in another join order: the same rows always; what is left alone; counts, plans, gate, the way back."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.sql_world import Columns, Statement, shop, statement, write_duckdb, write_sqlite
from quantum_db.errors import InvalidRequest, SqlInvalid, SqlTimeout
from sql_synthesizer.engines.ports import Engine, Limits, Rows
from sql_synthesizer.engines.urls import open_engine
from sql_synthesizer.guard.binding import bound
from sql_synthesizer.guard.check import Checked, Guard
from sql_synthesizer.joins.attempts import Attempt
from sql_synthesizer.joins.estimates import Statistics
from sql_synthesizer.joins.extract import JoinBlock, Untouched, extract
from sql_synthesizer.joins.gate import gain
from sql_synthesizer.joins.graph import JoinGraph, JoinTree, left_deep
from sql_synthesizer.joins.optimizer import JoinOptimizer, JoinPlan, JoinSettings
from sql_synthesizer.joins.plans import own_trees
from sql_synthesizer.joins.rewrite import rewrite

LIMITS = Limits(max_rows=20_000, timeout_s=20.0)
EAGER = JoinSettings(patience_s=1e-6, statistics_s=10.0, min_gain=1e-12, forced_factor=1e6)


@pytest.fixture(scope="module")
def tables() -> dict[str, Columns]:
    return shop(skewed=True, scale=0.005)


@pytest.fixture(scope="module", params=["duckdb", "sqlite"])
def engine(request: pytest.FixtureRequest, tables: dict[str, Columns], tmp_path_factory: Any) -> Iterator[Engine]:
    path: Path = tmp_path_factory.mktemp("shop") / f"shop.{request.param}"
    (write_duckdb if request.param == "duckdb" else write_sqlite)(tables, path)
    engine = open_engine(f"{request.param}:///{path}")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def guard(engine: Engine) -> Guard:
    return Guard(engine.schema())


def block_of(engine: Engine, checked: Checked) -> JoinBlock:
    block = extract(checked.tree, engine.schema(), most_rows=LIMITS.max_rows)
    assert isinstance(block, JoinBlock), block
    return block


def random_tree(graph_edges: list[tuple[int, int]], n: int, rng: np.random.Generator, *, chain: bool) -> JoinTree:
    """Join random neighbours until one tree is left."""
    parts: list[tuple[set[int], JoinTree]] = [({i}, i) for i in range(n)]
    while len(parts) > 1:
        ready = [
            (a, b)
            for a in range(len(parts))
            for b in range(len(parts))
            if a != b
            and any(
                (i in parts[a][0] and j in parts[b][0]) or (j in parts[a][0] and i in parts[b][0])
                for i, j in graph_edges
            )
            and (not chain or len(parts) == n or (len(parts[a][0]) > 1 and len(parts[b][0]) == 1))
        ]
        a, b = ready[int(rng.integers(len(ready)))]
        joined = parts[a][0] | parts[b][0], (parts[a][1], parts[b][1])
        parts = [part for k, part in enumerate(parts) if k not in (a, b)] + [joined]
    return parts[0][1]


def links_of(block: JoinBlock) -> list[tuple[int, int]]:
    position = {alias: i for i, alias in enumerate(block.sources)}
    pairs = [read for read, _ in block.predicates]
    pairs += [frozenset((a.table, b.table)) for group in block.classes for a in group for b in group if a is not b]
    return [tuple(position[alias] for alias in read) for read in pairs]  # type: ignore[misc]


def told(rows: Rows) -> tuple[tuple[str, ...], Counter[Any]]:
    return rows.columns, Counter(rows.rows)


def with_outer_join(drawn: Statement) -> str:
    """The same relations with explicit joins, the last one an outer join, all columns."""
    from_ = f"{drawn.tables[0]} AS t0"
    last = len(drawn.tables) - 1
    for new, column, old, down in drawn.links:
        kind = "LEFT JOIN" if new == last else "JOIN"
        on = f"t{old}.{column} = t{new}.id" if down else f"t{new}.{column} = t{old}.id"
        from_ += f" {kind} {drawn.tables[new]} AS t{new} ON {on}"
    where = [f"t{a}.{c} <= {values[0]}" for a, c, _, values in drawn.filters if a != last]
    return f"SELECT * FROM {from_}" + (f" WHERE {' AND '.join(where)}" if where else "")


def test_every_tree_gives_the_rows_of_the_engines_own_order(
    engine: Engine, guard: Guard, tables: dict[str, Columns]
) -> None:
    rng = np.random.default_rng(7)
    seen = 0
    while seen < 60:
        drawn = statement(rng, int(rng.integers(3, 8)))
        if not 1 <= drawn.rows(tables) <= 1e4:
            continue
        checked = guard.check(drawn.sql(), LIMITS)
        block = block_of(engine, checked)
        tree = random_tree(links_of(block), len(block.sources), rng, chain=engine.dialect == "sqlite")
        sql, parameters = bound(rewrite(block, tree, engine.dialect), engine.dialect)
        found = engine.run(sql, parameters, LIMITS, force_order=True)
        assert found.rows == engine.run(checked.sql, checked.parameters, LIMITS).rows, sql
        assert found.rows[0][0] == drawn.rows(tables)
        seen += 1


def test_stars_and_outer_joins_keep_their_columns_and_rows(
    engine: Engine, guard: Guard, tables: dict[str, Columns]
) -> None:
    rng = np.random.default_rng(8)
    seen = 0
    while seen < 20:
        drawn = statement(rng, int(rng.integers(4, 7)))
        if not 1 <= replace(drawn, filters=[]).rows(tables) <= 5_000:
            continue
        checked = guard.check(with_outer_join(drawn), LIMITS)
        block = block_of(engine, checked)
        assert len(block.sources) == len(drawn.tables) - 1
        tree = random_tree(links_of(block), len(block.sources), rng, chain=engine.dialect == "sqlite")
        sql, parameters = bound(rewrite(block, tree, engine.dialect), engine.dialect)
        found = engine.run(sql, parameters, LIMITS, force_order=True)
        assert told(found) == told(engine.run(checked.sql, checked.parameters, LIMITS)), sql
        seen += 1


def test_a_lost_predicate_would_be_seen(engine: Engine, guard: Guard) -> None:
    joined = "line l, orders o, customer c WHERE l.order_id = o.id AND o.customer_id = c.id"
    sql = f"SELECT COUNT(*) FROM {joined} AND c.age > 3"
    checked = guard.check(sql, LIMITS)
    block = block_of(engine, checked)
    faulty = replace(block, filters=dict.fromkeys(block.sources, ()))
    right, wrong = (bound(rewrite(one, ((0, 1), 2), engine.dialect), engine.dialect) for one in (block, faulty))
    own = engine.run(checked.sql, checked.parameters, LIMITS).rows
    assert engine.run(*right, LIMITS, force_order=True).rows == own
    assert engine.run(*wrong, LIMITS, force_order=True).rows != own


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT COUNT(*) FROM line l JOIN orders o ON l.order_id = o.id", "fewer than three"),
        (
            "SELECT l.id FROM line l LEFT JOIN orders o ON l.order_id = o.id JOIN customer c ON c.id = o.customer_id",
            "fewer",
        ),
        ("SELECT (SELECT MAX(id) FROM city) FROM line l, orders o, customer c", "subquery"),
        ("SELECT l.id FROM line l, orders o, customer c WHERE l.id IN (SELECT id FROM city)", "subquery"),
        ("WITH w AS (SELECT id FROM city) SELECT l.id FROM line l, orders o, w", "subquery"),
        ("SELECT l.id FROM line l, orders o, customer c LIMIT 5", "LIMIT"),
        ("SELECT l.id FROM line l, orders o, customer c ORDER BY o.id LIMIT 5", "LIMIT"),
        ("SELECT c.age, COUNT(*) AS n FROM line l, orders o, customer c GROUP BY c.age ORDER BY n LIMIT 5", "LIMIT"),
        ("SELECT ROW_NUMBER() OVER (ORDER BY o.id) FROM line l, orders o, customer c", "order of rows"),
        ("SELECT id FROM city UNION ALL SELECT id FROM line", "plain SELECT"),
    ],
)
def test_what_could_give_other_rows_is_left_as_it_is(engine: Engine, guard: Guard, sql: str, reason: str) -> None:
    found = extract(guard.check(sql, LIMITS).tree, engine.schema(), most_rows=LIMITS.max_rows)
    assert isinstance(found, Untouched)
    assert reason in found.reason


@pytest.mark.parametrize(
    "tail",
    [
        "GROUP BY c.age ORDER BY c.age LIMIT 5",
        "GROUP BY c.age ORDER BY n DESC, c.age LIMIT 5",
        "GROUP BY c.age HAVING COUNT(*) > 2",
    ],
)
def test_a_limit_over_a_total_order_may_be_reordered(engine: Engine, guard: Guard, tail: str) -> None:
    joined = "line l JOIN orders o ON l.order_id = o.id JOIN customer c ON c.id = o.customer_id"
    checked = guard.check(f"SELECT c.age, COUNT(*) AS n FROM {joined} {tail}", LIMITS)
    sql, parameters = bound(rewrite(block_of(engine, checked), ((2, 1), 0), engine.dialect), engine.dialect)
    own = engine.run(checked.sql, checked.parameters, LIMITS)
    assert sorted(engine.run(sql, parameters, LIMITS, force_order=True).rows) == sorted(own.rows)


def test_an_equality_that_follows_from_others_joins_two_relations(engine: Engine, guard: Guard) -> None:
    sql = "SELECT COUNT(*) FROM review r, click k, product p WHERE r.product_id = p.id AND k.product_id = p.id"
    block = block_of(engine, guard.check(sql, LIMITS))
    assert [{column.table for column in group} for group in block.classes] == [{"r", "k", "p"}]
    text = rewrite(block, ((0, 1), 2), engine.dialect).sql(engine.dialect).replace('"', "")
    assert "r.product_id = k.product_id" in text


def test_counts_are_exact_on_small_tables_and_kept(engine: Engine, guard: Guard, tables: dict[str, Columns]) -> None:
    joined = "review r, product p, category c WHERE r.product_id = p.id AND p.category_id = c.id"
    sql = f"SELECT COUNT(*) FROM {joined} AND p.price < 40"
    statistics = Statistics(engine)
    block = block_of(engine, guard.check(sql, LIMITS))
    estimates = statistics.estimate(block, seconds=5.0)
    cheap = tables["product"]["price"] < 40
    rows = np.exp(estimates.graph.log_rows)
    assert rows == pytest.approx([len(tables["review"]["id"]), cheap.sum(), len(tables["category"]["id"])])
    joined = math.exp(estimates.graph.log_cardinality([0, 1]))
    assert joined == pytest.approx(cheap[tables["review"]["product_id"] - 1].sum())
    assert estimates.guessed == 0
    again = statistics.estimate(block, seconds=0.0)  # no time: all of it must have been kept
    assert (again.guessed, again.graph.log_rows.tolist()) == (0, estimates.graph.log_rows.tolist())
    blind = Statistics(engine).estimate(block, seconds=0.0)
    assert blind.guessed > 0


def test_the_optimiser_gives_the_same_rows_whichever_way_it_goes(
    engine: Engine, guard: Guard, tables: dict[str, Columns]
) -> None:
    rng = np.random.default_rng(9)
    eager, shy = JoinOptimizer(engine, EAGER), JoinOptimizer(engine)
    ways: Counter[bool] = Counter()
    while sum(ways.values()) < 25:
        drawn = statement(rng, int(rng.integers(3, 8)))
        if not 1 <= drawn.rows(tables) <= 1e4:
            continue
        checked = guard.check(drawn.sql(), LIMITS)
        own = engine.run(checked.sql, checked.parameters, LIMITS).rows
        for optimizer in (eager, eager, shy):
            found = optimizer.run(checked, LIMITS)
            assert found.rows.rows == own
        ways[eager.plan(checked, LIMITS).sql is not None] += 1
    assert ways[True] > 20


class _Slow:
    """An engine whose own order is slow, and whose forced one does as a test says."""

    def __init__(self, engine: Engine, own: str, forced_s: float) -> None:
        self.engine, self.own, self.forced_s, self.forced_runs = engine, own, forced_s, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def run(self, sql: str, parameters: Any = (), limits: Limits | None = None, *, force_order: bool = False) -> Rows:
        limits = limits or Limits()
        self.forced_runs += force_order
        takes = self.forced_s if force_order else 0.3 if sql == self.own else 0.0
        end = time.monotonic() + min(takes, limits.timeout_s)
        while time.monotonic() < end:
            if limits.stopper is not None and limits.stopper.asked:
                raise SqlTimeout("stopped")
            time.sleep(0.002)
        if takes > limits.timeout_s:
            raise SqlTimeout("too long")
        rows = self.engine.run(sql, parameters, limits, force_order=force_order)
        return replace(rows, elapsed_ms=rows.elapsed_ms + takes * 1e3)


SQL = (
    "SELECT COUNT(*) AS n FROM line t0, orders t1, customer t2 "
    "WHERE t0.order_id = t1.id AND t1.customer_id = t2.id AND t2.age < 9"
)


def test_a_forced_order_that_is_fast_wins_and_is_used_again(engine: Engine, guard: Guard) -> None:
    checked = guard.check(SQL, LIMITS)
    slow = _Slow(engine, checked.sql, forced_s=0.0)
    optimizer = JoinOptimizer(slow, replace(EAGER, patience_s=0.01))  # type: ignore[arg-type]
    first, second = optimizer.run(checked, LIMITS), optimizer.run(checked, LIMITS)
    assert (first.forced, second.forced, slow.forced_runs) == (True, True, 2)
    assert first.rows.rows == second.rows.rows == engine.run(checked.sql, checked.parameters, LIMITS).rows


def test_a_forced_order_that_is_slow_falls_back_and_is_not_tried_again(engine: Engine, guard: Guard) -> None:
    checked = guard.check(SQL, LIMITS)
    slow = _Slow(engine, checked.sql, forced_s=30.0)
    optimizer = JoinOptimizer(slow, replace(EAGER, patience_s=0.01, forced_factor=1.5))  # type: ignore[arg-type]
    first, second = optimizer.run(checked, LIMITS), optimizer.run(checked, LIMITS)
    assert (first.forced, second.forced, slow.forced_runs) == (False, False, 1)
    assert first.plan.sql is None
    assert first.rows.rows == second.rows.rows == engine.run(checked.sql, checked.parameters, LIMITS).rows


def test_a_statement_that_runs_can_be_stopped(engine: Engine) -> None:
    endless = "SELECT COUNT(*) FROM line a, line b, line c, line d, line e WHERE a.id + b.id + c.id + d.id + e.id = 7"
    attempt = Attempt(engine, endless, (), Limits(timeout_s=60.0))
    assert not attempt.done_within(0.05)
    attempt.stop()
    with pytest.raises(SqlTimeout):
        attempt.result()
    assert engine.run("SELECT COUNT(*) FROM city").rows[0][0] > 0


def test_an_order_that_fits_into_memory_is_used_where_the_own_one_does_not(
    engine: Engine, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = guard.check(SQL, LIMITS)
    slow = _Slow(engine, checked.sql, forced_s=0.0)
    right = slow.run

    def failing(sql: str, *rest: Any, force_order: bool = False) -> Rows:
        if sql == checked.sql:
            time.sleep(0.03)
            raise SqlInvalid("DuckDB: Out of Memory Error: failed to allocate")
        return right(sql, *rest, force_order=force_order)

    monkeypatch.setattr(slow, "run", failing)
    optimizer = JoinOptimizer(slow, replace(EAGER, patience_s=0.01))  # type: ignore[arg-type]
    assert [optimizer.run(checked, LIMITS).forced for _ in range(2)] == [True, True]


def test_an_engine_that_cannot_explain_still_answers(
    engine: Engine, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: object, block: object) -> JoinPlan:
        raise SqlTimeout("too slow to explain")

    monkeypatch.setattr(JoinOptimizer, "_planned", failing)
    checked = guard.check(SQL, LIMITS)
    slow = _Slow(engine, checked.sql, forced_s=0.0)
    found = JoinOptimizer(slow, replace(EAGER, patience_s=0.01)).run(checked, LIMITS)  # type: ignore[arg-type]
    assert (found.forced, "explain" in found.plan.reason) == (False, True)


def test_a_statement_that_ends_while_it_is_planned_has_its_order_the_next_time(
    engine: Engine, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    planned = JoinOptimizer._planned

    def late(self: JoinOptimizer, block: JoinBlock) -> JoinPlan:
        ended.wait(10.0)
        return planned(self, block)

    monkeypatch.setattr(JoinOptimizer, "_planned", late)
    checked = guard.check(SQL, LIMITS)
    slow = _Slow(engine, checked.sql, forced_s=0.0)
    optimizer = JoinOptimizer(slow, replace(EAGER, patience_s=0.01))  # type: ignore[arg-type]
    first = optimizer.run(checked, LIMITS)
    ended.set()
    end = time.monotonic() + 10.0
    while not (later := optimizer.run(checked, LIMITS)).forced and time.monotonic() < end:
        pass
    assert (first.forced, later.forced) == (False, True)


def test_what_is_remembered_is_bounded(engine: Engine) -> None:
    optimizer = JoinOptimizer(engine, JoinSettings(remembered=3))
    guard = Guard(engine.schema())
    for age in range(6):
        optimizer.run(guard.check(SQL.replace("< 9", f"< {age}"), LIMITS), LIMITS)
    assert len(optimizer._known) == 3


def test_a_gate_wants_more_than_a_tie() -> None:
    between = np.zeros((4, 4))
    for i, kept in enumerate((-9.0, -1.0, -8.0)):
        between[i, i + 1] = between[i + 1, i] = kept
    graph = JoinGraph(tuple("abcd"), np.full(4, 6.0), between)
    good, bad = left_deep([0, 1, 2, 3]), left_deep([2, 1, 0, 3])
    assert gain(graph, good, good) <= 1.0
    assert gain(graph, bad, good) > 1.5


def test_plans_are_read() -> None:
    tables = {"o": "orders", "l": "line", "c": "customer"}
    sqlite = "SCAN c\nSEARCH o USING INDEX x (customer_id=?)\nBLOOM FILTER ON l\nSEARCH l USING INDEX y (order_id=?)"
    assert own_trees(sqlite, "sqlite", tables) == [((2, 0), 1)]
    postgres = """Aggregate  (cost=1.0..2.0 rows=1 width=8)
  ->  Nested Loop  (cost=1.0..2.0 rows=9 width=8)
        ->  Hash Join  (cost=1.0..2.0 rows=9 width=8)
              Hash Cond: (o.customer_id = c.id)
              ->  Seq Scan on orders o  (cost=1.0..2.0 rows=9 width=8)
              ->  Hash  (cost=1.0..2.0 rows=9 width=8)
                    ->  Seq Scan on customer c  (cost=1.0..2.0 rows=9 width=8)
        ->  Index Only Scan using line_order_id on line l  (cost=1.0..2.0 rows=9 width=8)"""
    assert own_trees(postgres, "postgres", tables) == [((0, 2), 1)]
    assert own_trees(postgres, "postgres", {**tables, "x": "city"}) == []
    assert own_trees("no plan", "duckdb", tables) == []


def test_duckdb_plans_are_read_in_each_way_that_they_may_mean(engine: Engine, guard: Guard) -> None:
    if engine.dialect != "duckdb":
        pytest.skip("a plan of DuckDB")
    sql = (
        "SELECT COUNT(*) FROM customer a, customer b, review r, orders o "
        "WHERE r.customer_id = a.id AND a.city_id = b.city_id AND o.customer_id = b.id"
    )
    plan: JoinPlan = JoinOptimizer(engine).plan(guard.check(sql, LIMITS), LIMITS)
    assert plan.own_log_cost is not None


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="min_gain"):
        JoinSettings(min_gain=0.0)
