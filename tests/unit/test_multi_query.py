"""Statement sets that share work: parts found, plans chosen, and the same rows as one by one, on a real DuckDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest

from sql_synthesizer.engines.duckdb import DuckDbEngine
from sql_synthesizer.engines.ports import Limits
from sql_synthesizer.engines.reflection import Reflection
from sql_synthesizer.guard.check import Checked, Guard
from sql_synthesizer.multi_query import BatchPlan, plan_batch, run_batch
from sql_synthesizer.sharing import blocks_of, read_from, shared_parts

LIMITS = Limits(max_rows=5_000, timeout_s=20.0)

JOIN = "FROM o JOIN c ON o.cust = c.id WHERE o.amt > 30 AND c.region = 'r1'"
STATEMENTS = (
    f"SELECT c.name, SUM(o.amt) AS s {JOIN} GROUP BY c.name ORDER BY s DESC, c.name",
    "SELECT x.region, y.id, y.amt FROM c x, o y WHERE x.id = y.cust AND y.amt > 30 AND x.region = 'r1' AND y.id < 5000",
    "WITH z AS (SELECT name, COUNT(*) n FROM o JOIN c ON c.id = o.cust AND amt > 30 AND region = 'r1' GROUP BY name) "
    "SELECT * FROM z WHERE n > 3",
    f"SELECT MAX(o.amt) {JOIN} UNION ALL SELECT MIN(p.price) FROM p JOIN o ON p.id = o.prod WHERE o.amt > 30",
    "SELECT COUNT(*) FROM o JOIN c ON o.cust = c.id JOIN p ON o.prod = p.id "
    "WHERE o.amt > 30 AND c.region = 'r1' AND p.price < 50",
    "SELECT COUNT(*) FROM c LEFT JOIN o ON o.cust = c.id AND o.amt > 30 WHERE c.region = 'r1'",
    "SELECT a.id FROM c a JOIN c b ON a.id = b.id WHERE a.region = 'r1'",
    f"SELECT COUNT(*) {JOIN} AND EXISTS (SELECT 1 FROM p WHERE p.id = o.prod AND p.price > 90)",
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDbEngine]:
    path = Path(tmp_path_factory.mktemp("shop")) / "shop.duckdb"
    with duckdb.connect(str(path)) as made:
        made.execute(
            "CREATE TABLE c AS SELECT i AS id, 'n' || i AS name, 'r' || (i % 7) AS region FROM range(700) t(i)"
        )
        made.execute("CREATE TABLE p AS SELECT i AS id, i % 100 AS price FROM range(300) t(i)")
        made.execute(
            "CREATE TABLE o AS SELECT i AS id, i * 31 % 700 AS cust, i * 17 % 300 AS prod, i % 37 AS amt "
            "FROM range(100000) t(i)"
        )
    opened = DuckDbEngine(path, reflection=Reflection())
    yield opened
    opened.close()


def checked(engine: DuckDbEngine, *statements: str) -> list[Checked]:
    guard = Guard(engine.schema())
    return [guard.check(sql, LIMITS) for sql in statements]


def planned(engine: DuckDbEngine, *statements: str) -> BatchPlan:
    return plan_batch(checked(engine, *statements), engine.schema(), np.random.default_rng(0), timeout_s=60.0)


def test_all_answers_are_those_of_one_by_one(engine: DuckDbEngine) -> None:
    plan = planned(engine, *STATEMENTS)
    result = run_batch(engine, plan, LIMITS)
    assert len(result.kept) >= 1
    assert sum(bool(answer.read) for answer in result.answers) >= 3
    assert result.estimated_reduction > 0.1
    for statement, answer in zip(plan.statements, result.answers, strict=True):
        alone = engine.run(statement.sql, statement.parameters, LIMITS)
        assert answer.rows is not None
        assert (answer.rows.columns, answer.rows.kinds) == (alone.columns, alone.kinds)
        assert sorted(map(repr, answer.rows.rows)) == sorted(map(repr, alone.rows))


def test_every_shared_part_gives_the_same_rows_to_every_user(engine: DuckDbEngine) -> None:
    """Not only those that the costs favour."""
    statements = checked(engine, *STATEMENTS)
    blocks = [block for place, one in enumerate(statements) for block in blocks_of(place, one)]
    parts, compared = shared_parts(blocks), 0
    assert {part.part.tables for part in parts} >= {("c", "o"), ("o", "p")}
    with engine.session(60.0) as session:
        for number, part in enumerate(parts):
            session.keep(f"kept_{number}", part.query.sql("duckdb"), (), 20.0)
            for user in part.users:
                block = blocks[user]
                one = statements[block.statement]
                sql = read_from(one, {block.place: (part, f"kept_{number}")}).sql("duckdb")
                assert f'"kept_{number}"' in sql
                found = session.run(sql, (), LIMITS)
                alone = engine.run(one.sql, one.parameters, LIMITS)
                assert found.columns == alone.columns
                assert sorted(map(repr, found.rows)) == sorted(map(repr, alone.rows))
                compared += 1
    assert compared >= 8


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT a.id FROM c a JOIN c b ON a.id = b.id AND a.region = 'r1'", "SELECT id FROM c WHERE region = 'r1'"),
        (
            "SELECT c.id FROM c LEFT JOIN o ON o.cust = c.id WHERE c.region = 'r1'",
            "SELECT id FROM c WHERE region = 'r1'",
        ),
        ("SELECT id FROM c WHERE region = 'r1'", "SELECT id FROM c WHERE region = 'r2'"),
        ("SELECT id FROM c WHERE id / 2 > 3", "SELECT id FROM c WHERE id / 2 > 3"),
        ("WITH c AS (SELECT 1 AS id) SELECT c.id FROM c WHERE c.id = 1", "SELECT c.id FROM c WHERE c.id = 1"),
        ("SELECT id FROM c", "SELECT name FROM c"),
    ],
)
def test_what_is_not_the_same_is_not_shared(engine: DuckDbEngine, one: str, other: str) -> None:
    """Planted: other predicates, outer joins, self-joins, a CTE of a table's name, what computes, whole tables."""
    found = checked(engine, one, other)
    assert shared_parts([block for place, each in enumerate(found) for block in blocks_of(place, each)]) == []


def test_what_costs_more_than_it_saves_is_not_kept(engine: DuckDbEngine) -> None:
    wide = "SELECT o.id, o.amt, o.prod, c.name FROM o JOIN c ON o.cust = c.id WHERE o.amt >= 0"
    plan = planned(engine, wide, wide)
    assert (plan.candidates, plan.parts) == (1, {})
    result = run_batch(engine, plan, LIMITS)
    assert (result.kept, result.estimated_reduction) == ((), 0.0)


def test_a_statement_that_fails_fails_alone_and_a_part_that_cannot_be_kept_is_done_without(
    engine: DuckDbEngine,
) -> None:
    failing = "SELECT CAST(c.name AS INTEGER) " + JOIN
    plan = planned(engine, *STATEMENTS[:3], failing)
    result = run_batch(engine, plan, LIMITS)
    assert [answer.error is None for answer in result.answers] == [True, True, True, False]
    for part in plan.parts.values():
        part.query.args["from_"].this.set("this", "nowhere")
    result = run_batch(engine, plan, LIMITS)
    assert [part.rows for part in result.kept] == [None] * len(plan.parts)
    assert [answer.error is None for answer in result.answers] == [True, True, True, False]
    assert all(answer.read == () for answer in result.answers)


def test_a_session_writes_nothing_but_its_own_tables(engine: DuckDbEngine) -> None:
    with engine.session(10.0) as session:
        assert session.keep("mine", "SELECT id FROM c", (), 5.0) == 700
    with engine.session(10.0) as session, pytest.raises(Exception, match="mine"):
        session.run("SELECT * FROM mine", (), LIMITS)
    with engine.session(10.0) as session, pytest.raises(Exception, match="not only read"):
        session.keep("mine", "DROP TABLE c", (), 5.0)
