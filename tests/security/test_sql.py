"""SQL behind the gate: who may ask, and that limits, sizes and the audit log hold for it as for all else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from quantum_db.access.limits import CallLimits, LimitTable
from quantum_db.access.policy import RULES
from quantum_db.access.sizes import SizeLimits
from quantum_db.sql_calls import SqlCalls, SqlDatabase
from serve_app.sql.config import SqlConfig, SqlSource
from serve_app.sql.metrics import SqlMetrics
from serve_app.sql.room import SqlRoom
from sql_synthesizer.demo import CHINOOK
from tests.security.world import Grants, World

PATH = "/api/v2/sql/query"
ASKED = {"database": "shop", "sql": "SELECT count(*) FROM Artist"}


@pytest.fixture(autouse=True)
def shop(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database for tenant ``a``, and one for tenant ``b``."""
    monkeypatch.setenv("SHOP_URL", f"sqlite:///{shutil.copy(CHINOOK, tmp_path / 'shop.sqlite')}")
    sources = {"shop": SqlSource("SHOP_URL"), "theirs": SqlSource("SHOP_URL")}
    room = SqlRoom(SqlConfig(sources, 2, 8, "balanced", 1.0), SqlMetrics(CollectorRegistry()))
    rules = {"shop": SqlDatabase(frozenset({"a"})), "theirs": SqlDatabase(frozenset({"b"}))}
    world.bench.api.sql = SqlCalls(rules, room)


async def ask(world: World, credential: object, path: str = PATH, **body: Any) -> httpx.Response:
    return await world.send("POST", path, credential, json={**ASKED, **body})


async def test_a_reader_may_ask_and_nobody_else_may(world: World) -> None:
    assert (await ask(world, await world.key("reader"))).json()["rows"] == [[275]]
    assert (await ask(world, None)).status_code == 401
    narrow = await world.key("reader", actions=["query"])
    for path in (PATH, "/api/query"):
        assert (await ask(world, narrow, path)).status_code == 403, "the action is sql.query, whatever the path"
    assert (await ask(world, await world.key("reader", actions=["sql.query"]))).status_code == 200


async def test_another_tenants_database_is_one_that_there_is_not(world: World) -> None:
    key, details = await world.key("admin"), set()
    for name in ("theirs", "nobodys"):
        answer = await ask(world, key, database=name)
        assert answer.status_code == 404
        details.add(answer.json()["detail"].replace(name, "?"))
    assert details == {"there is no database '?'"}
    assert (await ask(world, await world.key("reader", tenant="b"), database="theirs")).status_code == 200


COSTS = RULES["sql.query"].cost


@pytest.mark.parametrize("grants", [Grants(LimitTable(CallLimits(cost_units_per_minute=2 * COSTS)))])
async def test_limits_count_what_a_statement_costs(world: World) -> None:
    key = await world.key("reader")
    statuses = [(await ask(world, key, path)).status_code for path in (PATH, "/api/query", PATH)]
    assert statuses == [200, 200, 429]


@pytest.mark.parametrize("grants", [Grants(LimitTable(CallLimits(sizes=SizeLimits(batch=1, body_bytes=500))))])
async def test_sizes_that_are_granted_hold(world: World) -> None:
    key = await world.key("reader")
    body = {"database": "shop", "statements": ["SELECT 1 AS one", "SELECT 2 AS two"]}
    answer = await world.send("POST", "/api/v2/sql/batch", key, json=body)
    assert answer.status_code == 422
    assert "statements" in answer.json()["detail"]
    assert (await ask(world, key, sql="SELECT 1 -- " + "x" * 500)).status_code == 413


@pytest.mark.parametrize("grants", [Grants(audited_reads=1.0)])
async def test_the_audit_log_tells_which_database_and_not_what_was_asked(world: World) -> None:
    key = await world.key("reader")
    await ask(world, key)
    await ask(world, key, sql="DELETE FROM Artist")
    await world.send("GET", "/api/query", key, params={"database": "shop", "question": "how many artists are there?"})
    lines = [line for line in await world.lines() if line["action"] == "sql.query"]
    assert [(line["about"], line["status"]) for line in lines] == [("shop", 200), ("shop", 422), ("shop", 200)]
    assert "artist" not in world.audit_path.read_text().lower()
