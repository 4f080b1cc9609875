"""The guard, without an engine: what is read, what is refused and where, and what is written for the engine."""

from __future__ import annotations

import contextlib
import re
from decimal import Decimal
from typing import Any

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.errors import SqlInvalid, SqlRefused
from sql_synthesizer.engines.ports import Limits
from sql_synthesizer.guard.binding import bound, written
from sql_synthesizer.guard.check import Checked, Guard
from sql_synthesizer.guard.names import is_tied
from sql_synthesizer.guard.parts import CLAUSES
from sql_synthesizer.guard.resolving import Resolver
from sql_synthesizer.schema import Column, ColumnKind, Schema, Table

DIALECTS = ("duckdb", "sqlite", "postgres")


def table(name: str, *columns: str) -> Table:
    return Table(name, {column: Column(column, ColumnKind.TEXT, "TEXT") for column in columns})


def guard(dialect: str = "duckdb") -> Guard:
    tables = [table("people", "id", "name", "born"), table("orders", "id", "person_id", "total"), table("Mixed", "Id")]
    return Guard(Schema(dialect, {one.name: one for one in tables}, "v1"))


def check(sql: str, dialect: str = "duckdb", **limits: Any) -> Checked:
    return guard(dialect).check(sql, Limits(**limits))


# What is written


@pytest.mark.parametrize("dialect", DIALECTS)
def test_stars_are_the_columns_that_may_be_seen(dialect: str) -> None:
    checked = check("select * from people", dialect, max_rows=9)
    assert checked.sql == 'SELECT "people"."id", "people"."name", "people"."born" FROM "people" LIMIT 10'
    assert checked.tables == {"people"}
    assert checked.columns == {("people", "id"), ("people", "name"), ("people", "born")}


@pytest.mark.parametrize(("dialect", "name"), [("duckdb", '"LOWER(name)"'), ("postgres", '"lower"')])
def test_a_column_without_a_name_is_called_as_people_write_it(dialect: str, name: str) -> None:
    sql = check('SELECT lower(p."name") FROM people p', dialect).sql
    assert sql.startswith(f'SELECT LOWER(p."name") AS {name} FROM')


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ("sqlite", 'SELECT "id", p."name", p."born", o."person_id", o."total"'),
        ("postgres", 'SELECT "id", p."name", p."born", o."person_id", o."total"'),
    ],
)
def test_natural_joins_are_by_the_columns_that_may_be_seen(dialect: str, expected: str) -> None:
    sql = check("SELECT * FROM people p NATURAL JOIN orders o", dialect).sql
    assert sql.startswith(f'{expected} FROM "people" AS p JOIN "orders" AS o USING ("id")')


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT name AS n FROM people ORDER BY n", 'ORDER BY n LIMIT'),
        ("SELECT lower(name) AS n, count(*) FROM people GROUP BY n", "GROUP BY 1 LIMIT"),
        ("SELECT count(*) AS c FROM people GROUP BY name HAVING c > 1", "HAVING (COUNT(*)) > 1"),
        ("SELECT 1 AS password FROM people ORDER BY password + 1", "ORDER BY (1) + 1"),
        ("SELECT name FROM people WHERE born = (SELECT max(born) FROM people)", '(SELECT MAX("people"."born")'),
        ("SELECT id FROM people p WHERE EXISTS (SELECT 1 FROM orders WHERE person_id = p.id)", '= p."id")'),
        ("SELECT name FROM people WHERE EXISTS (SELECT 1 FROM orders o WHERE o.total = born)", '= "people"."born")'),
        ("WITH x AS (SELECT id FROM people) SELECT id FROM x", "SELECT x.\"id\" FROM x"),
        ("SELECT t.id FROM (SELECT * FROM orders) AS t", 'SELECT t."id" FROM (SELECT "orders"."id"'),
        ("WITH people AS (SELECT 1 AS id) SELECT name FROM main.people", 'FROM main."people"'),
        ("SELECT id FROM mixed", 'FROM "Mixed"'),
        ("SELECT name FROM people UNION SELECT total FROM orders ORDER BY name", 'ORDER BY "name" LIMIT'),
        ("SELECT count(*) FROM (people p JOIN orders o ON p.id = person_id)", 'ON p."id" = o."person_id"'),
    ],
)  # fmt: skip
def test_names_are_tied_to_what_they_stand_for(sql: str, expected: str) -> None:
    assert expected in check(sql).sql


@pytest.mark.parametrize(
    ("sql", "limit"),
    [
        ("SELECT id FROM people", "LIMIT 6"),
        ("SELECT id FROM people LIMIT 2", "LIMIT 2"),
        ("SELECT id FROM people LIMIT 99 OFFSET 4", "LIMIT 6 OFFSET 4"),
        ("SELECT id FROM people UNION SELECT id FROM orders", "LIMIT 6"),
        ("(SELECT id FROM people)", "LIMIT 6"),
        ("SELECT id FROM people FETCH FIRST 99 ROWS ONLY", "LIMIT 6"),
    ],
)
def test_a_limit_is_added_or_lowered(sql: str, limit: str) -> None:
    assert check(sql, "postgres", max_rows=5).sql.endswith(limit)


@pytest.mark.parametrize(("dialect", "mark"), [("duckdb", "$"), ("postgres", "$"), ("sqlite", "?")])
def test_what_is_compared_with_is_bound(dialect: str, mark: str) -> None:
    checked = check("SELECT name FROM people WHERE name = 'it''s -- 1' AND id IN (1, 2) AND 0.5 < born", dialect)
    assert "it" not in checked.sql
    number: Any = 0.5 if dialect == "sqlite" else Decimal("0.5")
    assert sorted(checked.parameters, key=str) == sorted(["it's -- 1", 1, 2, number], key=str)
    assert set(re.findall(r"[$?]\d", checked.sql)) == {f"{mark}{place}" for place in (1, 2, 3, 4)}


def test_one_comparison_is_one_expression_wherever_it_stands() -> None:
    case = "CASE WHEN name = 'a' THEN 1 END"
    checked = check(f"SELECT {case} FROM people GROUP BY {case}", "postgres")
    assert checked.parameters == ("a",)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_tree_keeps_the_values_that_are_bound(dialect: str) -> None:
    checked = check("SELECT name FROM people WHERE name IN ('a', 'b') AND id BETWEEN 1 AND 2 AND 'c' < born", dialect)
    assert len(checked.parameters) == 5
    assert "IN ('a', 'b')" in written(checked.tree, dialect)
    assert bound(checked.tree, dialect) == bound(checked.tree, dialect, copy=False) == (checked.sql, checked.parameters)


def test_positions_and_units_stay_in_the_text() -> None:
    checked = check("SELECT date_trunc('month', born), count(*) FROM people GROUP BY 1 ORDER BY 2 DESC", "postgres")
    assert checked.parameters == ()
    assert "GROUP BY 1 ORDER BY 2 DESC" in checked.sql


def test_the_key_is_the_same_for_the_same_statement() -> None:
    one = check("select NAME from People where id=1 -- a comment")
    assert one.key == check("SELECT people.name\nFROM people WHERE (id) = 1".replace("(id)", "id")).key
    assert one.key != check("SELECT name FROM people WHERE id = 2").key


@pytest.mark.parametrize(
    ("sql", "volatile"),
    [
        ("SELECT name FROM people", False),
        ("SELECT name FROM people WHERE born < current_date", True),
        ("SELECT name FROM people WHERE born < date('now')", True),
        ("SELECT name FROM people ORDER BY random()", True),
        ("SELECT name FROM people WHERE born < unixepoch()", True),
        ("SELECT name FROM people WHERE name = 'tomorrowland'", False),
    ],
)
def test_what_changes_without_a_write_is_told(sql: str, volatile: bool) -> None:
    assert check(sql, "sqlite").volatile is volatile


def test_text_in_double_quotes_is_text_to_sqlite_alone() -> None:
    assert check('SELECT id FROM people WHERE name = "Ada"', "sqlite").parameters == ("Ada",)
    with pytest.raises(SqlInvalid, match="no column 'Ada'"):
        check('SELECT id FROM people WHERE name = "Ada"', "duckdb")


# What is refused


@pytest.mark.parametrize(
    ("sql", "place", "message"),
    [
        ("DELETE FROM people", (1, 1), "of kind DELETE is not allowed"),
        ("  VACUUM", (1, 3), "not allowed"),
        ("SELECT 1;\nSELECT 2", (2, 8), "2 statements"),
        ("SELECT id,\n  pg_sleep(9) FROM people", (2, 3), "the function pg_sleep"),
        ("SELECT id FROM read_csv('x')", (1, 16), "read_csv"),
        ("SELECT id FROM people LIMIT (SELECT 1)", (1, 37), "LIMIT must be a whole number"),
        ("SELECT id FROM people FETCH FIRST 5 ROWS WITH TIES", (1, 35), "without PERCENT and TIES"),
        ("SELECT id FROM people LIMIT '5'", (1, 29), "LIMIT must be a whole number"),
        ("SELECT id FROM people FOR UPDATE", (1, 8), "FOR UPDATE"),
        ("SELECT CAST(name AS regclass) FROM people", (1, 13), "may not be cast to REGCLASS"),
        ("WITH RECURSIVE r AS (SELECT id FROM r) SELECT id FROM r", (1, 16), "recursion is not allowed"),
        ("SELECT $1 FROM people", (1, 9), "a parameter is not allowed"),
        ("SELECT lpad(name, 999999) FROM people", (1, 8), "at most 1000"),
        ("SELECT count(people.*) FROM people", (1, 14), "a star is allowed in"),
        ("SELECT p.a FROM people AS p(a, b, c)", (1, 17), "cannot be renamed"),
        ("SELECT id FROM people WHERE born = password", (1, 36), "there is no column 'password'"),
        ("SELECT id FROM pepole", (1, 16), "did you mean 'people'?"),
        ("SELECT id, nam FROM people", (1, 12), "did you mean 'name'"),
        ("SELECT id FROM people, orders", (1, 8), "may mean people.id or orders.id"),
        ("SELECT x.id FROM people", (1, 8), "nothing that is read here is called 'x'"),
        ("SELECT id FROM people WHERE id IN 'orders'", (1, 29), "FIELD is not allowed in IN"),
        ("SELECT id FROM people a, orders a", (1, 33), "two sources have the name a"),
        ("SELECT secret.people.id FROM people", (1, 8), "not a column of a table"),
        ("SELECT id FROM secret.people", (1, 16), "there is no table 'people'"),
    ],
)
def test_a_refusal_names_the_place(sql: str, place: tuple[int, int], message: str) -> None:
    with pytest.raises(SqlInvalid) as refused:
        check(sql, "postgres")
    line, column = place
    assert message in refused.value.detail
    assert refused.value.detail.startswith(f"line {line}, column {column}: ")
    assert refused.value.errors[0].path == f"sql:{line}:{column}"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("", "there is no statement"),
        ("-- nothing", "there is no statement"),
        ("SELECT \x00", "code 0"),
        ("SELECT FROM WHERE", "cannot be read"),
        ("SELECT 'open", "cannot be read"),
        ("SELECT " + "(" * 101 + "1" + ")" * 101, "brackets"),
        ("SELECT '" + "x" * 100_001 + "'", "100000 are allowed"),
        ("SELECT " + "+".join(["1"] * 21_000), "parts|nested too deeply"),
        ("SELECT " + "NOT " * 3_000 + "true", "nested too deeply"),
        ("SELECT id AS a0" + "".join(f", a{n}||a{n} AS a{n + 1}" for n in range(30)) + " FROM people", "too large"),
        ("SELECT p0.id FROM people p0 " + " ".join(f"CROSS JOIN people p{n}" for n in range(1, 70)), "64 are allowed"),
    ],
)
def test_what_is_too_much_or_nothing_is_told(sql: str, message: str) -> None:
    with pytest.raises(SqlInvalid, match=message):
        check(sql)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_name_that_is_hidden_is_one_that_is_not_there(dialect: str) -> None:
    """The same message as for any other name, so that nobody learns what is hidden."""
    for name in ("password", "no_such_thing"):
        with pytest.raises(SqlInvalid, match=f"there is no column '{name}'(; did you mean 'id'.)?$"):
            check(f"SELECT {name} FROM people", dialect)


WORDS = """SELECT FROM WHERE people orders id name * , ( ) = 1 'a' " ; -- /* */ . :: [ ] { } $1 ? @ UNION WITH x AS JOIN
    ON USING GROUP BY ORDER LIMIT NOT IN EXISTS CASE WHEN THEN END LATERAL VALUES COPY SET \x00 é 0x1F"""


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(WORDS.split()), max_size=14), st.sampled_from(DIALECTS))
def test_any_text_is_checked_or_refused(words: list[str], dialect: str) -> None:
    """Any other error fails the test."""
    with contextlib.suppress(SqlInvalid):
        checked = check(" ".join(words), dialect)
        again = sqlglot.parse_one(checked.sql, read=dialect)
        assert isinstance(again, sqlglot.exp.Query)
        assert again.args.get("limit")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT p.name, o.total FROM people p JOIN orders o ON o.person_id = p.id WHERE o.total > 1.5 ORDER BY p.name",
        "WITH x AS (SELECT id, count(*) AS n FROM orders GROUP BY id) SELECT * FROM x, people p WHERE x.id = p.id",
        "SELECT CASE WHEN born > '1990' THEN 'a''b' ELSE name || '\"' END FROM people UNION SELECT total FROM orders",
        "SELECT row_number() OVER (PARTITION BY born ORDER BY id DESC) AS r, sum(id) FILTER (WHERE id > 1) FROM people",
        "SELECT * FROM people WHERE id NOT IN (SELECT person_id FROM orders) AND name NOT LIKE '%x%' ESCAPE '!'",
        'SELECT \'it\'\'s\', "Id" FROM "Mixed" WHERE "Id" IS NOT NULL',
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_written_is_read_again_as_the_same(sql: str, dialect: str) -> None:
    """Else engine and guard could understand a statement differently."""
    once = check(sql, dialect)
    again = check(written(once.tree, dialect), dialect)
    assert (again.sql, again.parameters, again.columns) == (once.sql, once.parameters, once.columns)


# The net below the net


def test_a_part_that_the_walk_forgets_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: conditions of joins are not looked at."""
    sql = "SELECT p.id FROM people p JOIN orders o ON p.password = o.id"
    part = Resolver._part
    forget = lambda self, node, clause, *rest: None if clause == "on" else part(self, node, clause, *rest)  # noqa: E731
    monkeypatch.setattr(Resolver, "_part", forget)
    with pytest.raises(SqlRefused, match=r"p\.password could not be looked up"):
        check(sql)


def test_the_tree_of_what_may_run_is_tied_throughout() -> None:
    tree = check("SELECT p.name, (SELECT count(*) FROM orders WHERE person_id = p.id) FROM people p").tree
    assert all(is_tied(node) for node in tree.find_all(sqlglot.exp.Column, sqlglot.exp.Table))


def test_clauses_are_named_as_the_parser_names_them() -> None:
    """Another version of the parser may name them otherwise, and what was allowed would be refused."""
    for kind, clauses in CLAUSES.items():
        assert clauses <= set(kind.arg_types) | {"operation_modifiers"}, kind
