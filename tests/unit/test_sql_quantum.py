"""The synthesizer whole, on a real DuckDB: answers, reductions, caches, limits, blocks, breaker, modes and health."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest

from quantum_db.access.audit import verify
from quantum_db.annealing import ThermalSchedule
from quantum_db.backend_ports import JobRequest
from quantum_db.errors import BodyTooLarge, BreakerOpen, SqlInvalid, SqlRefused, TooManyRequests, Unavailable
from sql_synthesizer.agent import QueryAgent, Reading
from sql_synthesizer.caches import CacheStats
from sql_synthesizer.config import CacheSettings, PerformanceSettings, SecuritySettings, SqlSettings
from sql_synthesizer.engines.duckdb import DuckDbEngine
from sql_synthesizer.engines.ports import Engine, Limits, Rows
from sql_synthesizer.engines.reflection import Reflection
from sql_synthesizer.guard.binding import written
from sql_synthesizer.guard.check import Guard
from sql_synthesizer.joins.graph import JoinOrder, left_deep, log_c_out
from sql_synthesizer.joins.optimizer import JoinPlan, Optimised
from sql_synthesizer.quantum import QuantumSQLSynthesizer, ordering
from sql_synthesizer.quantum.modes import JOINS, Effort, ModeKeeper
from sql_synthesizer.quantum.monitor import Monitor, QueryRecord, recommendations
from sql_synthesizer.quantum.prefix_qubo import anneal_prefixes
from sql_synthesizer.quantum.results import QueryResult, reduction_of
from tests.unit.fakes import FakeClock, FakeJobs
from tests.unit.test_kept_answers import Shared
from tests.unit.test_multi_query import STATEMENTS
from tests.unit.test_prefix_qubo import graph

CHINOOK = Path(__file__).parents[2] / "data" / "sql" / "chinook.sqlite"
CHAIN = (
    "SELECT COUNT(*) FROM o JOIN c ON o.cust = c.id JOIN p ON o.prod = p.id JOIN m ON p.maker = m.id "
    "WHERE c.region = 'r1' AND m.land = 'l2'"
)


class Source:
    """SQL alone, on an engine that is open already."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def read(self, text: str, limits: Limits | None = None, *, only_sql: bool = False) -> Reading:
        checked = Guard(self.engine.schema()).check(text, limits)
        return Reading(checked, written(checked.tree, "duckdb"), None, (), 0.0)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDbEngine]:
    path = Path(tmp_path_factory.mktemp("shop")) / "shop.duckdb"
    with duckdb.connect(str(path)) as made:
        made.execute(
            "CREATE TABLE c AS SELECT i AS id, 'n' || i AS name, 'r' || (i % 7) AS region FROM range(700) t(i)"
        )
        made.execute("CREATE TABLE m AS SELECT i AS id, 'l' || (i % 9) AS land FROM range(90) t(i)")
        made.execute("CREATE TABLE p AS SELECT i AS id, i % 100 AS price, i % 90 AS maker FROM range(300) t(i)")
        made.execute(
            "CREATE TABLE o AS SELECT i AS id, i * 31 % 700 AS cust, i * 17 % 300 AS prod, i % 37 AS amt "
            "FROM range(50000) t(i)"
        )
    with closing(DuckDbEngine(path, reflection=Reflection())) as opened:
        yield opened


def synthesizer(engine: Engine, **options: object) -> QuantumSQLSynthesizer:
    return QuantumSQLSynthesizer(Source(engine), seed=1, **options)  # type: ignore[arg-type]


async def test_an_answer_is_that_of_the_engine_and_is_kept(engine: DuckDbEngine) -> None:
    with closing(synthesizer(engine)) as made:
        first = await made.query(CHAIN)
        again = await made.query(
            "select count(*)  from o join c on o.cust=c.id join p on o.prod=p.id "
            "join m on p.maker=m.id where c.region='r1' and m.land='l2' -- the same"
        )
        alone = engine.run(first.sql)
        assert first.rows == again.rows == alone.rows
        assert (first.cached, again.cached) == (False, True)
        assert replace(again, cached=False, optimization_time=first.optimization_time) == first
        metrics = made.get_quantum_metrics()
        assert (metrics["cache"]["outcomes"], metrics["cache"]["hit_rate"]) == ({"miss": 1, "l1": 1}, 0.5)
        assert (metrics["queries"], metrics["optimised_queries"]) == (2, 1)
        made.clear_cache()
        assert (await made.query(CHAIN)).cached is False
        assert made.get_health_status()["status"] == "healthy"


async def test_words_are_answered_and_explained_over_the_agent() -> None:
    url = f"sqlite:///{CHINOOK}"
    with closing(QueryAgent(url)) as agent, closing(QuantumSQLSynthesizer(agent)) as made:
        first = await made.query("how many artists are there")
        again = await made.query("how many artists are there")
        assert first.rows == again.rows == ((275,),)
        assert first.explanation == again.explanation != ()
        assert again.cached


async def test_two_databases_never_share_answers_and_two_of_one_name_do(engine: DuckDbEngine) -> None:
    shared = Shared()
    with (
        closing(synthesizer(engine, database="shop", shared=shared)) as one,
        closing(synthesizer(engine, database="shop", shared=shared)) as same,
        closing(synthesizer(engine, database="depot", shared=shared)) as other,
        closing(synthesizer(engine, shared=shared)) as unnamed,
    ):
        cached = [(await made.query("SELECT COUNT(*) FROM o")).cached for made in (one, same, other, unnamed)]
        assert cached == [False, True, False, False]


async def test_a_redis_that_is_away_changes_no_answer(engine: DuckDbEngine) -> None:
    settings = SqlSettings(cache=CacheSettings(redis_url="redis://127.0.0.1:1"))
    made = synthesizer(engine, settings=settings)
    assert (await made.query("SELECT COUNT(*) FROM o")).rows == ((50_000,),)
    assert (await made.query("SELECT COUNT(*) FROM o")).cached
    await made.aclose()


def test_annealed_prefixes_stand_beside_a_search_that_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one = graph(3, 9)
    poor = JoinOrder(left_deep(list(range(9))), log_c_out(one, left_deep(list(range(9)))), False, "greedy", 0.0)
    best = anneal_prefixes(one, np.random.default_rng(0))
    for found, expected in ((poor, "prefix annealing"), (replace(poor, proved=True), "greedy")):
        monkeypatch.setattr(ordering, "choose_order", lambda *_, found=found, **__: found)
        for is_ready, told in ((True, expected), (False, "greedy")):
            ready = threading.Event()
            if is_ready:
                ready.set()
            monkeypatch.setattr(ordering, "_ready", ready)
            monkeypatch.setattr(ordering, "begin_warm_up", lambda: None)
            chooser = ordering.AnnealedOrders(ThermalSchedule(chains=4, sweeps=40), 5.0, np.random.default_rng(0))
            order = chooser(one, chain=True, seconds=0.1)
            assert order is not None
            assert order.found_by == told
            assert chooser.better == (told != "greedy")
            assert order.log_cost == pytest.approx(log_c_out(one, order.tree))
            assert order.log_cost >= best.log_c_out - 1.0


async def test_a_batch_shares_and_answers_as_one_by_one(engine: DuckDbEngine) -> None:
    with closing(synthesizer(engine, timeout_seconds=30.0)) as made:
        statements = STATEMENTS[:3]
        result = await made.batch(statements, limits=Limits(max_rows=5_000, timeout_s=30.0))
        for text, answer in zip(statements, result.answers, strict=True):
            assert answer.rows is not None
            alone = await made.query(text, limits=Limits(max_rows=5_000, timeout_s=30.0))
            assert sorted(map(repr, answer.rows.rows)) == sorted(map(repr, alone.rows))


async def test_a_batch_that_is_not_let_in_says_which_statement_is_not(engine: DuckDbEngine) -> None:
    with closing(synthesizer(engine)) as made:
        with pytest.raises(SqlRefused, match=r"^statements\[1\]: line 1, column 1: ") as refused:
            await made.batch([STATEMENTS[0], "DROP TABLE sale"])
        assert refused.value.errors[0].path == "statements[1] sql:1:1"


async def test_what_is_planned_is_told_and_kept(engine: DuckDbEngine) -> None:
    with closing(synthesizer(engine)) as made:
        told = await made.explain(CHAIN)
        assert told["relations"] == ["o", "c", "p", "m"]
        assert told["engine_plan"]
        assert (told["cached"], (await made.explain(CHAIN))["cached"]) == (False, True)


async def test_circuits_stand_beside_the_classical_order(engine: DuckDbEngine) -> None:
    pool = FakeJobs()
    with closing(synthesizer(engine, num_qubits=10)) as made:
        told = await made.circuits(CHAIN, pool, JobRequest("k", "simulator", (), 300, 10.0))
        search, sampled = told["superposition"], told["qaoa"]
        assert search["oracle_calls"] <= 60
        assert search["qubits"] <= 10
        assert search["cost"] >= search["classical_cost"]
        assert search["is_minimum"] == (search["cost"] == search["classical_cost"])
        assert sampled["shots"] == 300
        assert sampled["cost"] >= sampled["classical_cost"] - 1e-9
        assert len(pool.requests) == search["runs"] + 1
        assert (
            "fewer than 3" in (await made.circuits("SELECT 1", pool, JobRequest("k", "simulator", (), 9, 9.0)))["why"]
        )


def test_options_reach_what_they_name(engine: DuckDbEngine) -> None:
    with closing(synthesizer(engine, temperature=2000.0, cooling_rate=0.5, min_temperature=125.0)) as made:
        schedule = made._schedule()
        assert isinstance(schedule, ThermalSchedule)
        assert (schedule.start, schedule.end, schedule.sweeps) == (2.0, 0.125, 5)
        assert made.get_quantum_metrics()["schedule"]["sweeps"] == 5
    for mode, chains in (("conservative", 4), ("balanced", 16), ("aggressive", 64), ("adaptive", 16)):
        with closing(synthesizer(engine, settings=SqlSettings(mode=mode))) as made:  # type: ignore[arg-type]
            assert made._schedule().chains == chains  # type: ignore[union-attr]
            assert made._joins.settings == JOINS["balanced" if mode == "adaptive" else mode]


async def test_callers_are_limited_blocked_and_written_down(engine: DuckDbEngine, tmp_path: Path) -> None:
    security = SecuritySettings(rate_limit=6, max_request_bytes=256, block_failures=2, audit=tmp_path / "audit.log")
    with closing(synthesizer(engine, settings=SqlSettings(security=security))) as made:
        with pytest.raises(BodyTooLarge, match="at most 256"):
            await made.query("SELECT " + "1," * 200 + "1")
        for _ in range(2):
            with pytest.raises(SqlRefused):
                await made.query("DROP TABLE o", caller="eve")
        with pytest.raises(TooManyRequests, match="refused"):
            await made.query("SELECT 1", caller="eve")
        assert made.get_health_status()["blocked_callers"] == 1
        assert made.unblock("eve")
        await made.query("SELECT 1", caller="eve")
        for number in range(6):
            await made.query(f"SELECT {number}", caller="bob")
        with pytest.raises(TooManyRequests, match="6 requests a minute"):
            await made.query("SELECT 6", caller="bob")
        with pytest.raises(SqlInvalid, match="nowhere"):
            await made.query("SELECT * FROM nowhere", caller="ann")
    log = (tmp_path / "audit.log").read_text()
    assert not hasattr(verify(tmp_path / "audit.log"), "why")
    assert '"denied"' in log
    assert "blocks.begin" in log
    assert "threat=none" in log
    assert "threat=high" in log or "threat=medium" in log


class Broken:
    """Planted: an engine that answers until it is broken."""

    def __init__(self, engine: DuckDbEngine) -> None:
        self._engine, self.is_broken, self.runs = engine, False, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    def run(self, *args: object, **options: object) -> Rows:
        self.runs += 1
        if self.is_broken:
            raise Unavailable("the database is away")
        return self._engine.run(*args, **options)  # type: ignore[arg-type]


async def test_a_database_that_is_away_is_left_alone_for_a_while(engine: DuckDbEngine) -> None:
    clock, broken = FakeClock(), Broken(engine)
    security = SecuritySettings(breaker_failures=2, breaker_reset_s=30.0)
    with closing(synthesizer(broken, settings=SqlSettings(security=security), clock=clock)) as made:  # type: ignore[arg-type]
        await made.query("SELECT 0")
        broken.is_broken = True
        for number in (1, 2):
            with pytest.raises(Unavailable, match="away"):
                await made.query(f"SELECT {number}")
        runs = broken.runs
        with pytest.raises(BreakerOpen):
            await made.query("SELECT 3")
        assert (await made.query("SELECT 0")).cached
        assert broken.runs == runs
        assert made.get_health_status()["status"] == "unhealthy"
        broken.is_broken = False
        clock.time_s += 31.0
        assert (await made.query("SELECT 4")).rows == ((4,),)
        assert made.get_health_status()["status"] == "degraded"
        broken.is_broken = True
        for number in (5, 6):
            with pytest.raises(Unavailable):
                await made.query(f"SELECT {number}")
        broken.is_broken = False
        made.reset_breaker()
        assert (await made.query("SELECT 7")).rows == ((7,),)


async def test_statements_run_side_by_side_up_to_the_size_of_the_pool(engine: DuckDbEngine) -> None:
    settings = SqlSettings(performance=PerformanceSettings(pool_size=3))
    with closing(synthesizer(engine, settings=settings)) as made:
        answers = await asyncio.gather(*(made.query(f"SELECT COUNT(*) + {n} FROM o") for n in range(8)))
        assert [answer.rows[0][0] for answer in answers] == [50_000 + n for n in range(8)]
        assert made._pool._max_workers == 3


async def test_without_optimisation_the_engines_own_plan_runs(engine: DuckDbEngine) -> None:
    with closing(synthesizer(engine, enable_quantum=False)) as made:
        result = await made.query(CHAIN)
        assert (result.quantum_cost_reduction, result.cost_basis, result.forced) == (0.0, "none", False)
        assert not made.get_quantum_metrics()["enabled"]


def test_a_reduction_says_what_it_is_told_by() -> None:
    rows = Rows((), (), (), False, 20.0)
    plan = JoinPlan("", ((0, 1), 2), ("a", "b", "c"), "SELECT", (), 3.0, 5.0, 4.0)
    assert reduction_of(Optimised(rows, False, plan, 20.0, None, 25.0)) == (0.0, "measured")
    assert reduction_of(Optimised(rows, False, JoinPlan("one table"), 20.0, None, 25.0)) == (0.0, "none")
    assert reduction_of(Optimised(rows, True, plan, 80.0, 20.0, 25.0)) == (0.75, "measured")
    assert reduction_of(Optimised(rows, True, plan, 16.0, 20.0, 25.0)) == (-0.25, "measured")
    reduction, basis = reduction_of(Optimised(rows, True, plan, None, 20.0, 25.0))
    assert (reduction, basis) == (pytest.approx(1.0 - np.exp(-2.0)), "estimated")
    by_gain = replace(plan, own_log_cost=None)
    assert reduction_of(Optimised(rows, True, by_gain, None, 20.0, 25.0)) == (0.75, "estimated")


def test_json_and_back() -> None:
    result = QueryResult("S", ("w",), ("a",), (), ((1, "x"),), False, 0.5, "measured", 0.1, 3.0, True, "r", "balanced")
    assert QueryResult.from_json(result.to_json(), cached=False) == result


def test_the_adaptive_mode_moves_with_hysteresis() -> None:
    good, bad, little = Effort(50, 100.0, 5.0, 40.0), Effort(50, 100.0, 30.0, 0.0), Effort(50, 100.0, 5.0, 7.0)
    keeper = ModeKeeper("adaptive", 10.0, 0.0)
    assert [keeper.look(good, now_s) for now_s in (5.0, 10.0, 11.0, 20.0)] == [False, False, False, True]
    assert keeper.step == "aggressive"
    assert [keeper.look(good, now_s) for now_s in (30.0, 40.0, 50.0)] == [False] * 3
    for place, effort in enumerate((bad, little, bad, good, bad, little)):  # never twice in a row
        assert not keeper.look(effort, 60.0 + 10.0 * place)
    assert [keeper.look(bad, now_s) for now_s in (120.0, 130.0)] == [False, True]
    assert (keeper.step, keeper.changes) == ("balanced", 2)
    assert not keeper.look(replace(bad, queries=3), 500.0)
    fixed = ModeKeeper("conservative", 10.0, 0.0)
    assert not any(fixed.look(good, 20.0 * look) for look in range(5))


def test_recommendations_follow_from_what_was_measured() -> None:
    monitor = Monitor(40)
    quiet = CacheStats({"l1": 30, "miss": 10}, 1.0, {}, {"l1": 500})
    for _ in range(10):
        monitor.note(QueryRecord(True, False, 900.0))
    assert recommendations(monitor.stats(), quiet, "balanced", 1.0) == []
    for _ in range(30):
        monitor.note(QueryRecord(False, False, 900.0, overhead_ms=300.0, saved_ms=10.0))
    told = recommendations(monitor.stats(), CacheStats({"miss": 90}, 0.0, {}, {"l1": 500}), "balanced", 1.0)
    assert [text.split(" ")[0] for text in told] == ["25%", "p95", "optimising", "0%"]
    for _ in range(40):
        monitor.note(QueryRecord(False, False, 10.0, overhead_ms=0.2, saved_ms=4.0, forced=True))
    stats = monitor.stats()
    assert recommendations(stats, quiet, "balanced", 1.0) == []
    assert (stats.queries, stats.success_rate, stats.p95_ms, stats.forced, monitor.queries) == (40, 1.0, 10.0, 40, 80)
