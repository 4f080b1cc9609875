"""The second half of ``make demo-sql``: the engine's own join orders beside ours, on a generated shop of 12 tables.

Its values are skewed and hang together (``benchmarks.sql_world``). Of random statements over 8 to 10 relations the
first few are shown that take the engine some time: its own plan, the order that counting and searching gave or why
there is none, and both times. It is for looking; ``benchmarks.sql`` is for judging.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks import sql_world
from benchmarks.sql import drawn, opened, timed
from quantum_db.errors import SqlInvalid, SqlTimeout
from sql_synthesizer.engines.ports import Engine, Limits
from sql_synthesizer.guard.check import Guard
from sql_synthesizer.joins.graph import JoinTree
from sql_synthesizer.joins.optimizer import JoinOptimizer, Optimised

SHOWN = 2
SCALE = 0.5
LEAST_MS = 60.0
LIMITS = Limits(timeout_s=10.0)
SECONDS = 30.0
PLAN_LINES = 14


def written(tree: JoinTree, names: tuple[str, ...]) -> str:
    """Return a join tree as text."""
    if isinstance(tree, int):
        return names[tree]
    return f"({written(tree[0], names)} {written(tree[1], names)})"


def told(own_ms: float, runs: list[Optimised]) -> str:
    """Return what came of a statement that ran by the optimiser several times."""
    plan, last = runs[-1].plan, runs[-1]
    lines = [f"the engine's own way: {own_ms:.0f} ms"]
    if plan.tree is not None:
        lines.append(f"our order: {written(plan.tree, plan.names)}")
    if plan.gain is not None:
        lines.append(f"predicted gain in joined rows, pessimistically: {plan.gain:.1f}")
    lines.append(f"{'forced' if last.forced else 'left to the engine'}: {plan.reason}")
    first, third = runs[0].total_ms, last.total_ms
    lines.append(
        f"ours with all counting and searching: {first:.0f} ms ({own_ms / first:.2f} of the speed); when known: "
        f"{third:.0f} ms ({own_ms / third:.2f})"
    )
    return "\n".join(lines)


def show(engine: Engine, shop: dict[str, sql_world.Columns]) -> None:
    guard, optimizer = Guard(engine.schema()), JoinOptimizer(engine)
    shown, end_s = 0, time.monotonic() + SECONDS
    for statement, _ in drawn(shop, np.random.default_rng(3), 8, 10):
        if shown == SHOWN or time.monotonic() > end_s:
            break
        checked = guard.check(statement.sql(), LIMITS)
        timed(engine, checked, LIMITS)  # into the caches, for both
        own_ms = timed(engine, checked, LIMITS)
        if own_ms < LEAST_MS:
            continue
        shown += 1
        print(f"\n{statement.sql()}\n\n{engine.dialect}'s plan:")
        lines = engine.explain(checked.sql, checked.parameters).text.splitlines()
        print("\n".join(f"  {line}" for line in lines[:PLAN_LINES]) + ("\n  ..." if len(lines) > PLAN_LINES else ""))
        try:
            print(told(own_ms, [optimizer.run(checked, LIMITS) for _ in range(3)]))
        except (SqlTimeout, SqlInvalid) as error:
            print(f"not answered: {error.detail}")
    if not shown:
        print(f"no statement took {engine.dialect} {LEAST_MS:g} ms within {SECONDS:g} s: there is nothing to gain")


def main() -> None:
    shop = sql_world.shop(skewed=True, scale=SCALE)
    rows = {table: len(columns["id"]) for table, columns in shop.items()}
    print(f"\n12 tables, skewed: {', '.join(f'{table} {count:,}' for table, count in rows.items())}")
    for kind in ("duckdb", "sqlite"):
        with opened(kind, shop) as engine:
            show(engine, shop)


if __name__ == "__main__":
    main()
