"""SQL as it is served, in one process: the calls, and the room that runs statements; the real engine, no Ray."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from cluster.settings import load
from cluster.sql_settings import SqlSettings, check_databases
from quantum_db.errors import (
    AmbiguousQuestion,
    InvalidRequest,
    InvalidSettings,
    NotFound,
    Overloaded,
    QuantumDBError,
    SqlRefused,
    Unavailable,
)
from quantum_db.scope import Scope
from quantum_db.sql_calls import NO_DATABASES, SqlCalls, SqlDatabase
from serve_app.sql import room as served
from serve_app.sql.config import SqlConfig, SqlSource
from serve_app.sql.desk import RemoteSqlDesk
from serve_app.sql.metrics import SqlMetrics
from serve_app.sql.room import SqlRoom
from sql_synthesizer.agent import QueryAgent
from sql_synthesizer.demo import CHINOOK

SLOW = "SELECT count(*) FROM Track a, Track b, Track c WHERE a.Name < b.Name AND b.Name < c.Name"
THEM = Scope("them")


class Bench:
    """The calls about two databases of one file, one of them for one tenant alone."""

    def __init__(self, path: Path, statements: int = 2, waiting: int = 2) -> None:
        self.path, self.registry = path, CollectorRegistry()
        sources = {"chinook": SqlSource("CHINOOK_URL", ("Employee",)), "theirs": SqlSource("CHINOOK_URL")}
        self.room = SqlRoom(SqlConfig(sources, statements, waiting, "balanced", 8.0), SqlMetrics(self.registry))
        rules = {"chinook": SqlDatabase(max_rows=100, timeout_s=5.0), "theirs": SqlDatabase(frozenset({"them"}))}
        self.calls = SqlCalls(rules, self.room)

    async def ask(self, sql: str, database: str = "chinook", **body: Any) -> dict[str, Any]:
        return await self.calls.query({"database": database, "sql": sql, **body})

    def counted(self, outcome: str) -> float:
        labels = {"database": "chinook", "call": "query", "outcome": outcome}
        return self.registry.get_sample_value("sql_calls_total", labels) or 0.0


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    bench = Bench(Path(shutil.copy(CHINOOK, tmp_path / "chinook.sqlite")))
    monkeypatch.setenv("CHINOOK_URL", f"sqlite:///{bench.path}")
    yield bench
    await bench.room.close()


async def test_only_those_who_may_use_a_database_find_it(bench: Bench) -> None:
    body = {"database": "theirs", "sql": "SELECT 1 AS one"}
    assert (await bench.calls.query(body, THEM))["rows"] == [[1]]
    with pytest.raises(NotFound) as theirs:
        await bench.calls.query(body)
    with pytest.raises(NotFound) as nobodys:
        await bench.calls.query({**body, "database": "nobody"})
    assert theirs.value.detail.replace("theirs", "nobody") == nobodys.value.detail
    with pytest.raises(NotFound, match="did you mean 'chinook'"):
        await bench.ask("SELECT 1", database="chinok")
    with pytest.raises(NotFound):
        await NO_DATABASES.schema({"database": "chinook"})


async def test_what_is_asked_beyond_the_settings_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidRequest, match="max_rows: must be at most 100"):
        await bench.ask("SELECT 1", max_rows=101)
    with pytest.raises(InvalidRequest, match="timeout_ms: must be at most 5000"):
        await bench.ask("SELECT 1", timeout_ms=5_001)
    for body in ({}, {"question": "who?", "sql": "SELECT 1"}):
        with pytest.raises(InvalidRequest, match="question: is needed: give either"):
            await bench.calls.query({"database": "chinook", **body})


async def test_an_answer_is_kept_until_the_data_changes(bench: Bench) -> None:
    sql = "SELECT count(*) FROM Genre"
    first, again = await bench.ask(sql), await bench.ask(sql)
    assert (first["cached"], again["cached"], again["rows"]) == (False, True, first["rows"])
    with sqlite3.connect(bench.path) as writer:
        writer.execute("INSERT INTO Genre (GenreId, Name) VALUES (999, 'New')")
    assert (await bench.ask(sql))["rows"] == [[first["rows"][0][0] + 1]]
    assert (bench.counted("ok"), bench.counted("kept")) == (2.0, 1.0)


async def test_statements_beyond_the_bound_are_refused_at_once_and_leave_their_places(bench: Bench) -> None:
    """Two run and two wait; of ten the others are told to come back. Those of another database are not in their way."""
    answers = await asyncio.gather(
        *(bench.ask(SLOW, timeout_ms=700) for _ in range(10)),
        bench.calls.query({"database": "theirs", "sql": "SELECT 1 AS one"}, THEM),
        return_exceptions=True,
    )
    refused = [one for one in answers[:-1] if isinstance(one, Overloaded) and "too many" in one.detail]
    assert len(refused) == 6
    assert all(one.retry_after_s == 1.0 for one in refused)
    assert all(isinstance(one, QuantumDBError) for one in answers[:-1])
    assert isinstance(answers[-1], dict)
    assert answers[-1]["rows"] == [[1]]
    assert (await bench.ask("SELECT 3 AS three"))["rows"] == [[3]]
    assert bench.counted("overloaded") >= 6.0


async def test_what_runs_never_holds_up_the_loop(bench: Bench) -> None:
    await bench.ask("SELECT 1 AS one")
    slow = asyncio.create_task(bench.ask(SLOW, timeout_ms=500))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not slow.done(), "the loop went on beside the statement"
    with pytest.raises(QuantumDBError):
        await slow


async def test_an_ambiguous_question_comes_back_with_its_readings(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(text: str, schema: object) -> None:
        raise AmbiguousQuestion.between(["by the date of birth", "by the date of hire"])

    monkeypatch.setattr(served, "QueryAgent", lambda url, **options: QueryAgent(url, translate=both, **options))  # type: ignore[arg-type]
    with pytest.raises(AmbiguousQuestion, match="which is meant") as asked:
        await bench.calls.query({"database": "chinook", "question": "the oldest employee"})
    assert [error.message for error in asked.value.errors] == ["by the date of birth", "by the date of hire"]


async def test_refusals_block_nobody_here(bench: Bench) -> None:
    """Callers are counted by the gate; one tenant's mistakes must not shut out its other users."""
    for _ in range(30):
        with pytest.raises(SqlRefused):
            await bench.ask("DELETE FROM Genre")
    assert (await bench.ask("SELECT 1 AS one"))["rows"] == [[1]]


async def test_a_database_that_cannot_be_opened_is_unavailable_and_tells_no_url(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHINOOK_URL", "sqlite:////nowhere/secret-place.sqlite")
    with pytest.raises(Unavailable) as told:
        await bench.ask("SELECT 1")
    assert "secret" not in told.value.detail
    monkeypatch.setenv("CHINOOK_URL", f"sqlite:///{bench.path}")
    assert (await bench.ask("SELECT 1 AS one"))["rows"] == [[1]], "it is tried again"


async def test_the_desk_gives_up_on_a_worker_that_does_not_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent:
        class query:  # noqa: N801
            @staticmethod
            async def remote(order: object) -> None:
                await asyncio.sleep(60.0)

    monkeypatch.setattr("serve_app.sql.desk.MARGIN_S", 0.0)
    calls = SqlCalls({"chinook": SqlDatabase(timeout_s=0.01)}, RemoteSqlDesk(Silent))
    with pytest.raises(QuantumDBError, match=r"within 0\.02 s"):
        await calls.query({"database": "chinook", "sql": "SELECT 1"})


def settings(**database: Any) -> SqlSettings:
    return SqlSettings.model_validate({"databases": {"shop": {"url_env": "SHOP_URL", "tenants": "all", **database}}})


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (None, "SHOP_URL is not set"),
        ("", "SHOP_URL is not set"),
        ("sqlite:///shop.sqlite", "its path is relative"),
        ("duckdb:///../shop.duckdb", "its path is relative"),
        ("sqlite:////nowhere/shop.sqlite", "there is no file"),
        ("sqlite://user:secret@host/shop", "holds no URL of a database"),
        ("mysql://user:secret@host/shop", "holds no URL of a database"),
        ("secret", "holds no URL of a database"),
    ],
)
def test_a_url_that_no_worker_could_open_is_told_at_the_start(url: str | None, told: str) -> None:
    with pytest.raises(InvalidSettings, match=told) as error:
        check_databases(settings(), {} if url is None else {"SHOP_URL": url})
    assert error.value.detail.startswith("sql.databases.shop.url_env: ")
    assert "secret" not in error.value.detail


def test_files_bind_workers_to_their_node_and_servers_do_not() -> None:
    assert check_databases(settings(), {"SHOP_URL": f"sqlite:///{CHINOOK}"})
    assert not check_databases(settings(), {"SHOP_URL": "postgresql://reader:secret@127.0.0.1/shop"})
    assert not check_databases(SqlSettings(), {})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"url": "sqlite:////x"}, "url"),
        ({"url_env": "sqlite:////x"}, "url_env"),
        ({"tenants": ["no such/tenant"]}, "is no tenant"),
        ({"tenants": None}, "tenants"),
        ({"hidden": ["a.b.c"]}, "neither a table nor a column"),
        ({"timeout_s": 61.0}, "timeout_s"),
        ({"max_rows": 0}, "max_rows"),
    ],
)
def test_wrong_settings_are_told(tmp_path: Path, yaml_of: Callable[[Any], Path], wrong: Any, told: str) -> None:
    database = {"url_env": "SHOP_URL", "tenants": "all", **wrong}
    with pytest.raises(InvalidSettings, match=told):
        load(yaml_of({"sql": {"databases": {"shop": database}}}), {})


def test_bounds_of_workers_are_in_order(yaml_of: Callable[[Any], Path]) -> None:
    with pytest.raises(InvalidSettings, match="min_replicas 3 is above max_replicas 2"):
        load(yaml_of({"sql": {"min_replicas": 3, "max_replicas": 2}}), {})
    assert load(yaml_of({}), {}).sql.databases == {}


@pytest.fixture
def yaml_of(tmp_path: Path) -> Callable[[Any], Path]:
    def write(content: Any) -> Path:
        path = tmp_path / "settings.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    return write
