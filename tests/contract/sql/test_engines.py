"""The contract of Engine, over DuckDB, SQLite and a real PostgreSQL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from quantum_db.errors import InvalidSettings, SqlInvalid, SqlRefused, SqlTimeout, Unavailable
from scripts.private_postgres import PrivatePostgres
from sql_synthesizer.engines.ports import Engine, Limits
from sql_synthesizer.engines.urls import open_engine
from sql_synthesizer.schema import ColumnKind, ForeignKey
from tests.contract.sql.databases import Database, made

ENDLESS = (
    "SELECT count(*) FROM orders a, orders b, orders c, orders d, orders e, orders f, orders g, orders h, orders i"
)
ENDLESS += ", orders j, orders k, orders l, orders m, orders n, orders o, orders p"


def mark(engine: Engine, number: int) -> str:
    return f"{'?' if engine.dialect == 'sqlite' else '$'}{number}"


# Rows


def test_rows_are_json_ready(engine: Engine) -> None:
    found = engine.run("SELECT id, name, born, height, seen FROM people ORDER BY id")
    assert found.columns == ("id", "name", "born", "height", "seen")
    time = "2024-01-02 03:04:05" if engine.dialect == "sqlite" else "2024-01-02T03:04:05"  # there it is text
    assert found.rows[0] == (1, "Ada", "1815-12-10", 1.65, time)
    assert found.rows[2][2] is None
    assert found.kinds[:2] == (ColumnKind.INTEGER, ColumnKind.TEXT)
    assert found.kinds[3] is ColumnKind.REAL
    assert not found.truncated
    assert found.elapsed_ms > 0


def test_rows_beyond_the_limits_are_cut_off_and_that_is_told(engine: Engine) -> None:
    sql = "SELECT id, name FROM people ORDER BY id"
    assert engine.run(sql, limits=Limits(max_rows=3)).truncated is False
    cut = engine.run(sql, limits=Limits(max_rows=2))
    assert (len(cut.rows), cut.truncated) == (2, True)
    short = engine.run(sql, limits=Limits(max_bytes=20))
    assert (len(short.rows), short.truncated) == (1, True)


def test_parameters_are_values_and_never_text(engine: Engine) -> None:
    sql = f"SELECT order_no FROM orders WHERE note = {mark(engine, 1)} AND total > {mark(engine, 2)}"
    assert engine.run(sql, ["it's", Decimal("20.00")]).rows == ((11,),)
    assert engine.run(sql, ["x' OR '1'='1", 0]).rows == ()


def test_a_date_is_compared_with_the_text_of_one(engine: Engine) -> None:
    assert engine.run(f"SELECT id FROM people WHERE born > {mark(engine, 1)}", ["1900-01-01"]).rows == ((2,),)


def test_no_rows_still_have_columns(engine: Engine) -> None:
    found = engine.run("SELECT id AS a, name FROM people WHERE id < 0")
    assert (found.columns, found.rows, len(found.kinds)) == (("a", "name"), (), 2)


# Bounds


def test_what_takes_too_long_is_stopped_and_the_engine_goes_on(engine: Engine) -> None:
    threads = threading.active_count()
    with pytest.raises(SqlTimeout, match=r"longer than 0\.2 s"):
        engine.run(ENDLESS, limits=Limits(timeout_s=0.2))
    assert engine.run("SELECT 1 AS one").rows == ((1,),)
    assert threading.active_count() == threads, "no timer is left"


@pytest.mark.parametrize("sql", ["SELECT 1; SELECT 2", "", "-- nothing"])
def test_one_statement_runs_at_a_time(engine: Engine, sql: str) -> None:
    with pytest.raises(SqlRefused):
        engine.run(sql)


def test_what_the_engine_cannot_run_is_told_in_its_words(engine: Engine) -> None:
    with pytest.raises(SqlInvalid, match="nowhere"):
        engine.run("SELECT * FROM nowhere")
    with pytest.raises(SqlInvalid, match="colour"):
        engine.explain("SELECT colour FROM people")


def test_a_closed_engine_says_so(engine: Engine) -> None:
    engine.close()
    engine.close()
    with pytest.raises(Unavailable, match="closed"):
        engine.run("SELECT 1")


def test_many_threads_may_call(engine: Engine) -> None:
    def one(number: int) -> int:
        found = engine.run(
            f"SELECT p.id FROM people p JOIN orders o ON o.person_id = p.id WHERE o.order_no = {mark(engine, 1)}",
            [10 + number % 4],
            force_order=number % 3 == 0,
        )
        (row,) = found.rows
        assert isinstance(row[0], int)
        return row[0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(60))) == [[1, 1, 2, 3][number % 4] for number in range(60)]


# Plans


def test_a_plan_is_told_without_running_the_statement(engine: Engine) -> None:
    plan = engine.explain("SELECT name FROM people WHERE id = 1")
    assert "people" in plan.text
    assert (plan.cost is not None) == (engine.dialect == "postgres")


def test_the_written_order_of_joins_is_kept_when_it_is_forced(engine: Engine) -> None:
    join = "CROSS JOIN" if engine.dialect == "sqlite" else "JOIN"
    on = "o.person_id = p.id"

    def first_two(sql: str) -> list[str]:
        text = engine.explain(sql, force_order=True).text
        if engine.dialect == "sqlite":
            names = [line.split()[1] for line in text.splitlines()]
        elif engine.dialect == "duckdb":
            names = [word.rsplit(".", 1)[-1][0] for word in text.split() if ".main." in word]
        else:
            names = [
                line.split(" on ")[1].split()[1] for line in text.splitlines() if "Scan" in line and " on " in line
            ]
        return names

    texts = [
        first_two(f"SELECT count(*) FROM orders o {join} people p ON {on} {join} cities c ON p.city_id = c.id"),
        first_two(f"SELECT count(*) FROM cities c {join} people p ON p.city_id = c.id {join} orders o ON {on}"),
    ]
    assert sorted(texts[0]) == sorted(texts[1])
    if engine.dialect != "postgres":  # it may still choose which side of a join is the outer one
        assert texts[0] != texts[1]


# Schema


def test_the_schema_has_keys_counts_and_values(engine: Engine) -> None:
    schema = engine.schema()
    assert schema.dialect == engine.dialect
    assert list(schema.tables) == ["cities", "orders", "people", "tall"]
    people, orders = schema.tables["people"], schema.tables["orders"]
    assert (people.rows, people.primary_key) == (3, ("id",))
    assert people.foreign_keys == (ForeignKey(("city_id",), "cities", ("id",)),)
    assert orders.foreign_keys == (ForeignKey(("person_id",), "people", ("id",), declared=False),)
    assert people.columns["name"].values == ("Ada", "Bob", "Cyd")
    assert people.columns["born"].nulls == pytest.approx(1 / 3)
    assert (people.columns["city_id"].distinct, orders.columns["note"].distinct) == (2, 2)
    assert [column.kind for column in people.columns.values()] == [
        *(ColumnKind.INTEGER, ColumnKind.TEXT, ColumnKind.INTEGER, ColumnKind.DATE, ColumnKind.REAL),
        ColumnKind.TIMESTAMP,
    ]


def test_what_is_hidden_is_nowhere_in_the_schema(engine: Engine) -> None:
    told = repr(engine.schema())
    assert "password" not in told
    assert "hunter2" not in told
    assert "salar" not in told


def test_a_key_that_values_contradict_is_none(database: Database) -> None:
    database.write("INSERT INTO orders VALUES (14, 99, 1, NULL)")
    engine = database.engine()
    assert engine.schema().tables["orders"].foreign_keys == ()
    engine.close()


def test_without_time_to_count_the_schema_has_no_counts(database: Database) -> None:
    engine = database.engine(timeout_s=1e-9)
    people = engine.schema().tables["people"]
    assert (people.rows, people.columns["name"].distinct, people.primary_key) == (None, None, ("id",))
    engine.close()


# Versions


def test_the_data_version_changes_with_a_write_and_only_then(database: Database) -> None:
    engine = database.engine(ttl_s=0.0)
    before, schema = engine.data_version(), engine.schema()
    engine.run("SELECT count(*) FROM people")
    assert engine.data_version() == before
    if database.dialect == "duckdb":
        engine.close()  # nobody can write a file that is open
    database.write("INSERT INTO cities VALUES (4, 'Hof', NULL)")
    if database.dialect == "duckdb":
        engine = database.engine(ttl_s=0.0)
    assert engine.data_version() != before
    again = engine.schema()
    assert (again.tables["cities"].rows, again.version) == (4, schema.version)
    engine.close()


def test_the_schema_version_changes_with_a_column(database: Database) -> None:
    engine = database.engine()
    before = engine.schema().version
    engine.close()
    database.write("ALTER TABLE cities ADD COLUMN mayor VARCHAR(20)")
    engine = database.engine()
    assert engine.schema().version != before
    engine.close()


def test_a_schema_is_kept_for_its_time(database: Database) -> None:
    engine = database.engine(ttl_s=3600.0)
    assert engine.schema() is engine.schema()
    engine.close()


# Opening


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://x/y", "must be duckdb:///"),
        ("duckdb:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://host/path", "names no file"),
        ("duckdb:///no/such.duckdb", "there is no DuckDB database"),
        ("sqlite:///no/such.sqlite", "there is no SQLite database"),
        ("postgresql://[", "cannot be read"),
    ],
)
def test_a_wrong_url_is_told(url: str, message: str) -> None:
    with pytest.raises(InvalidSettings, match=message):
        open_engine(url)


@pytest.mark.parametrize("scheme", ["duckdb", "sqlite"])
def test_a_file_that_is_no_database_is_told(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "text"
    path.write_text("no database, but long enough to be one " * 200)
    with pytest.raises(Unavailable, match="cannot be opened"):
        open_engine(f"{scheme}:///{path}")


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        open_engine("postgresql://nobody@127.0.0.1:1/none")


def test_a_role_that_may_do_too_much_is_refused(postgres_server: PrivatePostgres) -> None:
    with pytest.raises(InvalidSettings, match="a superuser: give a role that may only SELECT"):
        open_engine(postgres_server.admin_url)


@pytest.mark.parametrize("pattern", ["", "a.b.c", ".x", "x."])
def test_a_wrong_pattern_of_what_is_hidden_is_told(database: Database, pattern: str) -> None:
    with pytest.raises(InvalidSettings, match="neither a table nor a column"):
        database.engine(hidden=(pattern,))


def test_a_file_of_duckdb_may_be_opened_twice_and_stays_locked(tmp_path: Path) -> None:
    with made("duckdb", tmp_path, None) as database:
        first, second = database.engine(), database.engine()
        first.run("SELECT 1", force_order=True)
        assert second.run("SELECT count(*) AS n FROM people").rows == ((3,),)
        with pytest.raises(SqlRefused):
            second.run("SELECT * FROM read_text('/etc/hostname')")
        first.close()
        second.close()
