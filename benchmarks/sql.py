"""Statements end to end: the optimiser beside the engine's own plans, on the same statements in the same run.

    python -m benchmarks.sql [--engines duckdb,sqlite,postgres] [--statements N] [--scale S] [--check N]

A shop of 12 tables (benchmarks/sql_world.py), skewed and correlated or uniform, keys indexed, ANALYZE done. Random
statements of 8 to 11 relations with up to 100,000 joined rows, of which the engine's own way takes at least
``--least`` ms: shorter ones are left to the engine, and are the same for both. Own: the mean of a run before and a run
after ours. First: ours with all counting, searching and failed attempts, where nothing is known of the statement
(counts of pairs without filters may be, from statements before). Known: ours when it comes for the third time. Every
result is compared with the engine's own, and its number of rows with a count that no engine made.

``--orders N`` instead compares CPU times of the process, where nothing runs beside anything, and
``--check N`` compares N random statements over small tables, whatever the times.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import sql_world
from quantum_db.errors import SqlInvalid, SqlTimeout
from scripts.private_postgres import private_postgres
from sql_synthesizer.engines.ports import Engine, Limits
from sql_synthesizer.engines.urls import open_engine
from sql_synthesizer.guard.check import Checked, Guard
from sql_synthesizer.joins.optimizer import JoinOptimizer, JoinSettings

MOST_ROWS = 1e5
GOALS = {"duckdb": 1.8, "postgres": 1.8, "sqlite": 2.5}


@contextlib.contextmanager
def opened(kind: str, shop: dict[str, sql_world.Columns]) -> Iterator[Engine]:
    with contextlib.ExitStack() as stack:
        if kind == "postgres":
            server = stack.enter_context(private_postgres())
            sql_world.write_postgres(shop, server.admin_url)
            url = server.reader_url
        else:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "shop"
            (sql_world.write_duckdb if kind == "duckdb" else sql_world.write_sqlite)(shop, path)
            url = f"{kind}:///{path}"
        engine = open_engine(url)
        stack.callback(engine.close)
        engine.schema()
        yield engine


def timed(engine: Engine, checked: Checked, limits: Limits) -> float:
    """Milliseconds of the engine's own way; those of the limit if it takes longer, or does not fit into memory."""
    try:
        return engine.run(checked.sql, checked.parameters, limits).elapsed_ms
    except (SqlTimeout, SqlInvalid):
        return limits.timeout_s * 1e3


def drawn(
    shop: dict[str, sql_world.Columns], rng: np.random.Generator, low: int, high: int
) -> Iterator[tuple[sql_world.Statement, float]]:
    while True:
        statement = sql_world.statement(rng, int(rng.integers(low, high + 1)))
        rows = statement.rows(shop)
        if 1 <= rows <= MOST_ROWS:
            yield statement, rows


def suite(engine: Engine, shop: dict[str, sql_world.Columns], given: argparse.Namespace) -> list[float]:
    """Print one line for the first and one for the third run; return the ratios of the first."""
    guard, optimizer = Guard(engine.schema()), JoinOptimizer(engine)
    first: list[float] = []
    known: list[float] = []
    forced = met = 0
    limits, end = Limits(timeout_s=given.cap), time.monotonic() + given.seconds
    for statement, rows in drawn(shop, np.random.default_rng(3), 8, 11):
        if len(first) == given.statements or time.monotonic() > end:
            break
        met += 1
        checked = guard.check(statement.sql(), limits)
        timed(engine, checked, limits)  # into the caches, for both
        own = timed(engine, checked, limits)
        if own < given.least:
            continue
        try:
            runs = [optimizer.run(checked, limits) for _ in range(3)]
            if any(run.rows.rows[0][0] != rows for run in runs):
                raise AssertionError(f"other rows than counted: {statement.sql()}")
            times, forced = [run.total_ms for run in runs], forced + runs[0].forced
        except (SqlTimeout, SqlInvalid):
            times = [limits.timeout_s * 1e3] * 3
        own = (own + timed(engine, checked, limits)) / 2.0
        first.append(own / times[0])
        known.append(own / times[2])
    for name, ratios in (("first", first), ("known", known)):
        found = np.array(ratios)
        print(
            f"| {engine.dialect} | {name} | {len(found)} of {met} | {forced} | {np.exp(np.log(found).mean()):.2f} "
            f"| {(found < 0.9).mean():.0%} | {found.min():.2f} | {found.max():.1f} |",
            flush=True,
        )
    return first


def orders(kind: str, given: argparse.Namespace) -> None:
    """Compare CPU times, which other work on the machine changes little: the own way, counting, our order."""
    shop, limits = sql_world.shop(skewed=True, scale=given.scale), Limits(timeout_s=given.cap)
    ratios: list[float] = []
    with opened(kind, shop) as engine:
        guard, optimizer = Guard(engine.schema()), JoinOptimizer(engine, JoinSettings(statistics_s=5.0))
        statements, end = drawn(shop, np.random.default_rng(3), 8, 11), time.monotonic() + given.seconds
        while len(ratios) < given.orders and time.monotonic() < end:
            checked = guard.check(next(statements)[0].sql(), limits)
            begun = time.process_time()
            timed(engine, checked, limits)
            own = time.process_time() - begun
            if own < given.least / 1e3:
                continue
            plan = optimizer.plan(checked, limits)
            planned = time.process_time()
            if plan.sql is not None:
                engine.run(plan.sql, plan.parameters, limits, force_order=True)
            ours = time.process_time() - planned if plan.sql is not None else own
            counting = planned - begun - own
            ratios.append(own / ours)
            print(
                f"{kind}: own {own * 1e3:.0f} ms, counting {counting * 1e3:.0f} ms, ours {ours * 1e3:.0f} ms",
                flush=True,
            )
    print(f"{kind}: {len(ratios)} statements, gmean {np.exp(np.log(ratios).mean()):.2f}", flush=True)


def check(kind: str, count: int) -> None:
    """Compare what forced orders and the optimiser give with the engine's own rows, and with a count of no engine."""
    shop = sql_world.shop(skewed=True, scale=0.005)
    eager = JoinSettings(patience_s=1e-6, statistics_s=1e-9, min_gain=1e-12, forced_factor=1e6)
    limits, forced = Limits(timeout_s=60.0), 0
    with opened(kind, shop) as engine:
        guard, optimizer = Guard(engine.schema()), JoinOptimizer(engine, eager)
        statements = drawn(shop, np.random.default_rng(4), 3, 9)
        for number in range(count):
            statement, rows = next(statements)
            checked = guard.check(statement.sql(), limits)
            own = engine.run(checked.sql, checked.parameters, limits).rows
            plan = optimizer.plan(checked, limits)
            found = [optimizer.run(checked, limits).rows.rows] if number % 10 == 0 else []
            if plan.sql is not None:
                forced += 1
                found.append(engine.run(plan.sql, plan.parameters, limits, force_order=True).rows)
            if any(one != own for one in found) or own[0][0] != rows:
                raise AssertionError(f"other rows: {statement.sql()}")
    print(f"{kind}: {count} random statements, {forced} forced, all results the same", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="duckdb,sqlite,postgres")
    parser.add_argument("--statements", type=int, default=20)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--least", type=float, default=50.0, help="milliseconds of the engine's own way")
    parser.add_argument("--cap", type=float, default=5.0, help="seconds for a statement")
    parser.add_argument("--seconds", type=float, default=35.0, help="for each engine and kind of data; then it ends")
    parser.add_argument("--check", type=int, default=0, help="compare so many statements instead, on two engines")
    parser.add_argument("--orders", type=int, default=0, help="compare CPU times of so many orders, on two engines")
    given = parser.parse_args()
    if given.orders:
        for kind in ("duckdb", "sqlite"):
            orders(kind, given)
        return
    if given.check:
        for kind in ("duckdb", "sqlite"):
            check(kind, given.check)
        return
    print("| data, engine | run | statements | forced | gmean own / ours | below 0.9 | worst | best |")
    print("|---|---|---|---|---|---|---|---|")
    for skewed in (True, False):
        shop = sql_world.shop(skewed=skewed, scale=given.scale)
        print(f"| **{'skewed' if skewed else 'uniform'}** | | | | | | | |")
        for kind in given.engines.split(","):
            with opened(kind, shop) as engine:
                ratios = suite(engine, shop, given)
                wanted = GOALS[kind] if skewed else 0.97
                reached = float(np.exp(np.log(ratios).mean())) if ratios else float("nan")
                print(
                    f"| {kind}: goal {wanted} | | | | {'met' if reached >= wanted else 'not met'} | | | |", flush=True
                )


if __name__ == "__main__":
    main()
