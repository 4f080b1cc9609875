"""QueryAgent over the database that ships: answers, refusals, bounds; and what is taken for SQL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from quantum_db.errors import (
    AmbiguousQuestion,
    InvalidRequest,
    InvalidSettings,
    SqlInvalid,
    SqlRefused,
    SqlTimeout,
    Unavailable,
    UnclearQuestion,
)
from sql_synthesizer.agent import QueryAgent
from sql_synthesizer.demo import CHINOOK
from sql_synthesizer.engines.ports import Limits
from sql_synthesizer.engines.reflection import Reflection
from sql_synthesizer.schema import Schema
from sql_synthesizer.texts import is_sql
from sql_synthesizer.translating import Translation

URL = f"sqlite:///{CHINOOK}"
ENDLESS = "SELECT count(*) FROM Track a, Track b, Track c, Track d"


@pytest.fixture
async def agent() -> AsyncIterator[QueryAgent]:
    async with QueryAgent(URL, hidden=["Customer.Email"]) as agent:
        yield agent


async def test_sql_is_answered_with_its_rows_its_text_and_where_the_time_went(agent: QueryAgent) -> None:
    result = await agent.query("select name from artist where name like 'AC/%'", explain=True)
    assert (result.columns, result.rows, result.truncated) == (("Name",), (("AC/DC",),), False)
    assert result.sql == """SELECT "Artist"."Name" FROM "Artist" WHERE "Artist"."Name" LIKE 'AC/%' LIMIT 1001"""
    assert result.tables == ("Artist",)
    assert result.plan is not None
    assert "Artist" in result.plan.text
    assert 0 < result.timings.run_ms < result.timings.total_ms
    assert result.explanation == result.findings == ()


async def test_rows_beyond_the_limit_are_left_out_and_told(agent: QueryAgent) -> None:
    result = await agent.query("SELECT Name FROM Artist", Limits(max_rows=7))
    assert (len(result.rows), result.truncated) == (7, True)
    exact = await agent.query("SELECT Name FROM Artist LIMIT 7", Limits(max_rows=7))
    assert (len(exact.rows), exact.truncated) == (7, False)


async def test_what_is_hidden_is_not_told(agent: QueryAgent) -> None:
    assert "Email" not in (await agent.schema()).tables["Customer"].columns
    result = await agent.query("SELECT * FROM Customer LIMIT 1")
    assert "Email" not in result.columns
    assert not any("@" in str(value) for value in result.rows[0])
    with pytest.raises(SqlInvalid, match="no column 'Email'"):
        await agent.query("SELECT Email FROM Customer")


async def test_both_ways_of_hiding_add_up() -> None:
    async with QueryAgent(URL, hidden=["Employee"], reflection=Reflection(hidden=("*.Phone",))) as agent:
        tables = (await agent.schema()).tables
    assert "Employee" not in tables
    assert "Phone" not in tables["Customer"].columns


async def test_what_is_refused_has_a_reason_and_findings_decide_nothing(agent: QueryAgent) -> None:
    with pytest.raises(SqlRefused, match="of kind DROP"):
        await agent.query("DROP TABLE Artist")
    with pytest.raises(InvalidRequest, match="give words or SQL"):
        await agent.query("  ")
    suspicious = await agent.query("SELECT Name FROM Genre WHERE GenreId = 1 OR 1 = 1")
    assert [finding.name for finding in suspicious.findings] == ["tautology"]
    assert len(suspicious.rows) == 25


async def test_explaining_runs_nothing(agent: QueryAgent) -> None:
    reading, plan = await agent.explain(ENDLESS)
    assert reading.statement.tables == {"Track"}
    assert plan.text.count("SCAN") == 4
    assert agent.checked(ENDLESS).key == reading.statement.key


async def test_words_are_answered_with_what_they_were_taken_for(agent: QueryAgent) -> None:
    result = await agent.query("how many customers are there in each country?")
    assert len(result.rows) == 24
    assert any(line.startswith('"country": column Customer.Country (') for line in result.explanation)
    with pytest.raises(UnclearQuestion, match="colourless"):
        await agent.query("colourless green ideas")
    with pytest.raises(SqlInvalid, match="no column 'Email'"):
        await agent.query("SELECT Email FROM Customer")
    with pytest.raises(SqlInvalid):
        await agent.run_sql("how many artists are there?")


async def test_words_are_translated_and_what_they_became_is_guarded() -> None:
    def translate(question: str, schema: Schema) -> Translation:
        assert "Artist" in schema.tables
        if "two" in question:
            raise AmbiguousQuestion.between(["one", "the other"])
        sql = "DELETE FROM Artist" if "delete" in question else "SELECT count(*) AS n FROM Artist"
        return Translation(sql, ("'artists' is the table Artist",))

    async with QueryAgent(URL, translate=translate) as agent:
        result = await agent.query("how many artists are there?")
        assert (result.rows, result.explanation) == (((275,),), ("'artists' is the table Artist",))
        with pytest.raises(SqlRefused):
            await agent.query("please delete all artists")
        with pytest.raises(AmbiguousQuestion, match="which is meant: one; or the other") as asked:
            await agent.query("a question with two readings?")
        assert [error.path for error in asked.value.errors] == ["readings[0]", "readings[1]"]


async def test_a_statement_that_takes_too_long_is_stopped(agent: QueryAgent) -> None:
    with pytest.raises(SqlTimeout):
        await agent.query(ENDLESS, Limits(timeout_s=0.1))
    assert (await agent.query("SELECT 1 AS one")).rows == ((1,),)


async def test_so_many_run_so_many_wait_and_others_are_refused() -> None:
    async with QueryAgent(URL, pool_size=1, max_waiting=1, limits=Limits(timeout_s=0.5)) as agent:
        outcomes = await asyncio.gather(*(agent.query(ENDLESS) for _ in range(4)), return_exceptions=True)
        kinds = sorted(type(outcome).__name__ for outcome in outcomes)
        assert kinds[:2] == ["Overloaded", "Overloaded"]
        assert kinds[2:] in (["SqlTimeout", "SqlTimeout"], ["Overloaded", "SqlTimeout"])
        assert (await agent.query("SELECT 1 AS one")).rows == ((1,),), "there is room again"


async def test_a_caller_who_leaves_takes_no_room_with_him() -> None:
    async with QueryAgent(URL, pool_size=1, max_waiting=1, limits=Limits(timeout_s=0.3)) as agent:
        running = asyncio.create_task(agent.query(ENDLESS))
        waiting = asyncio.create_task(agent.query("SELECT 1 AS one"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(SqlTimeout):
            await running
        for _ in range(5):
            assert (await agent.query("SELECT 1 AS one")).rows == ((1,),)


async def test_a_closed_agent_says_so_and_leaves_no_thread() -> None:
    agent = QueryAgent(URL)
    await agent.query("SELECT 1 AS one")
    await agent.aclose()
    await agent.aclose()
    with pytest.raises(Unavailable, match="closed"):
        await agent.query("SELECT 1 AS one")
    assert not [one for one in threading.enumerate() if one.name.startswith("query-agent")]


@pytest.mark.parametrize("sizes", [{"pool_size": 0}, {"max_waiting": -1}])
def test_wrong_sizes_are_told(sizes: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest, match="at least"):
        QueryAgent(URL, **sizes)  # type: ignore[arg-type]


def test_a_wrong_url_is_told() -> None:
    with pytest.raises(InvalidSettings, match="must be duckdb:///"):
        QueryAgent("oracle://x")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "SELECT 1",
            "  select\n1",
            "-- hi\nSELECT 1",
            "/* hi */ SELECT 1",
            "(SELECT 1)",
            "WITH x AS (SELECT 1) SELECT 1",
        ),
        *("WITH RECURSIVE r(n) AS (SELECT 1) SELECT 1", "VALUES (1)", "EXPLAIN SELECT 1", "FROM t SELECT a", "table t"),
        *(
            "drop table x",
            "DELETE FROM x",
            "insert into x values (1)",
            "update x set a = 1",
            "create view v as select 1",
        ),
        *("PRAGMA table_info(x)", "SET a = 1", "COPY x TO 'y'", "attach 'x' as y", "show me all; drop table x"),
    ],
)
def test_what_is_meant_as_sql(text: str) -> None:
    assert is_sql(text)


@pytest.mark.parametrize(
    "text",
    [
        *("how many artists are there?", "show all customers", "list the names of albums", "top 5 artists by tracks"),
        *("with which artists did we earn most?", "from which country are most customers?", "which tables are there"),
        *("update me on sales of last month", "selected albums of 1999", "values of all invoices", "what is set?"),
        "drop in revenue by month",
    ],
)
def test_what_is_meant_as_words(text: str) -> None:
    assert not is_sql(text)
