"""SQL on the real cluster: who may ask which database what, and that nothing is ever changed."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from quantum_db import Config, QuantumDB
from quantum_db.errors import NotFound
from tests.documented import undocumented
from tests.ray.conftest import CHINOOK_ENV, LiveCluster, actors_below, admitted

SLOW = "SELECT count(*) FROM Track a, Track b, Track c WHERE a.Name < b.Name AND b.Name < c.Name"
COUNTRIES = "how many customers are there in each country?"


class Asker:
    """Asks the database ``chinook``; every answer is one that OpenAPI tells of."""

    def __init__(self, client: httpx.Client) -> None:
        self.client, self.schema = client, client.get("/openapi.json").json()

    def post(self, path: str, status: int = 200, **body: Any) -> Any:
        return self.answer("POST", path, status, json={"database": "chinook", **body})

    def answer(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        answer = self.client.request(method, path, **options)
        assert answer.status_code == status, answer.text
        assert (missing := undocumented(self.schema, method, path, answer)) is None, missing
        return answer.json()


@pytest.fixture
def asker(client: httpx.Client) -> Asker:
    return Asker(client)


def digest() -> str:
    return hashlib.sha256(Path(os.environ[CHINOOK_ENV].removeprefix("sqlite:///")).read_bytes()).hexdigest()


def test_words_and_sql_are_answered_alike(asker: Asker) -> None:
    words = asker.post("/api/v2/sql/query", question=COUNTRIES)
    assert words["explanation"]
    again = asker.post("/api/v2/sql/query", sql=words["sql"])
    assert (words["rows"], words["columns"]) == (again["rows"], again["columns"])
    assert ["USA", 13] in words["rows"]
    kept = asker.post("/api/v2/sql/query", question=COUNTRIES)
    assert kept["cached"]
    assert kept["rows"] == words["rows"]
    plain = asker.post("/api/v2/sql/query", question=COUNTRIES, optimize=False)
    assert (plain["rows"], plain["reason"]) == (words["rows"], "optimisation is switched off")
    cut = asker.post("/api/v2/sql/query", sql="SELECT Name FROM Track", max_rows=2)
    assert (len(cut["rows"]), cut["truncated"]) == (2, True)


def test_the_alias_answers_as_the_route_does(asker: Asker) -> None:
    expected = asker.post("/api/v2/sql/query", question="how many artists are there?")["rows"]
    assert asker.post("/api/query", question="how many artists are there?")["rows"] == expected == [[275]]
    asked = {"database": "chinook", "question": "how many artists are there?", "max_rows": 5}
    assert asker.answer("GET", "/api/query", params=asked)["rows"] == expected
    refused = asker.answer("GET", "/api/query", 422, params={"databse": "chinook"})
    assert "did you mean 'database'" in refused["detail"]


def test_what_writes_or_is_hidden_is_refused_and_nothing_changes(asker: Asker) -> None:
    before = digest()
    for sql in ("DELETE FROM Invoice", "SELECT 1; DROP TABLE Artist", "PRAGMA journal_mode = DELETE"):
        assert asker.post("/api/v2/sql/query", 422, sql=sql)["type"].endswith(("sql-refused", "sql-invalid"))
    for sql in ("SELECT Email FROM Customer", "SELECT * FROM Employee"):
        assert asker.post("/api/v2/sql/query", 422, sql=sql)["type"].endswith("sql-invalid")
    assert "Email" not in asker.post("/api/v2/sql/query", sql="SELECT * FROM Customer LIMIT 1")["columns"]
    assert digest() == before


def test_an_unclear_question_is_asked_back(asker: Asker) -> None:
    problem = asker.post("/api/v2/sql/query", 422, question="what is the best flavour of the moon?")
    assert problem["type"].endswith(("unclear-question", "ambiguous-question"))


def test_a_database_of_others_is_one_that_there_is_not(asker: Asker, cluster: LiveCluster) -> None:
    for name in ("theirs", "nobodys"):
        problems = [
            asker.post("/api/v2/sql/query", 404, database=name, sql="SELECT 1"),
            asker.post("/api/query", 404, database=name, question="how many artists are there?"),
            asker.post("/api/v2/sql/explain", 404, database=name, sql="SELECT 1"),
            asker.post("/api/v2/sql/batch", 404, database=name, statements=["SELECT 1"]),
            asker.answer("GET", "/api/v2/sql/schema", 404, params={"database": name}),
        ]
        assert {problem["detail"] for problem in problems} == {f"there is no database '{name}'"}
    with admitted(cluster.url) as client:
        client.headers["x-tenant"] = "them"
        assert Asker(client).post("/api/v2/sql/query", database="theirs", sql="SELECT 1 AS one")["rows"] == [[1]]


def test_explain_runs_nothing_and_tells_both_plans(asker: Asker) -> None:
    found = asker.post("/api/v2/sql/explain", sql=SLOW)
    assert "SCAN" in found["engine_plan"]
    assert found["reason"]


def test_the_schema_shows_nothing_that_is_hidden(asker: Asker) -> None:
    found = asker.answer("GET", "/api/v2/sql/schema", params={"database": "chinook"})
    tables = {table["name"]: table for table in found["tables"]}
    assert len(tables) == 10
    assert "Employee" not in tables
    assert "Email" not in {column["name"] for column in tables["Customer"]["columns"]}
    assert tables["Album"]["foreign_keys"][0]["table"] == "Artist"
    assert tables["Artist"]["rows"] == 275


def test_a_batch_answers_each_for_itself(asker: Asker) -> None:
    statements = ["how many artists are there?", "SELECT Name FROM Genre ORDER BY Name LIMIT 1", SLOW]
    found = asker.post("/api/v2/sql/batch", 207, statements=statements, timeout_ms=400)
    assert [item["status"] for item in found["items"]] == ["answered", "answered", "failed"]
    assert found["items"][0]["rows"] == [[275]]
    assert found["items"][2]["problem"]["type"].endswith("sql-timeout")
    assert (found["answered"], found["failed"]) == (2, 1)


def test_time_and_rows_are_bounded(asker: Asker) -> None:
    assert asker.post("/api/v2/sql/query", 504, sql=SLOW, timeout_ms=200)["type"].endswith(("timeout", "exceeded"))
    assert "300" in asker.post("/api/v2/sql/query", 422, sql="SELECT 1", max_rows=301)["detail"]
    assert "5000" in asker.post("/api/v2/sql/query", 422, sql="SELECT 1", timeout_ms=5_001)["detail"]
    for body in ({}, {"question": "x", "sql": "SELECT 1"}):
        assert "question" in asker.post("/api/v2/sql/query", 422, **body)["detail"]


def test_metrics_tell_of_the_calls(asker: Asker, cluster: LiveCluster) -> None:
    assert len(actors_below(cluster.process.pid, "ServeReplica:quantum-db:sql")) == 1
    asker.post("/api/v2/sql/query", sql="SELECT 2 AS two")
    for _ in range(100):
        text = asker.client.get("/metrics").text
        if re.search(r'^sql_calls_total\{call="query",database="chinook",outcome="ok",.*\} [1-9]', text, re.MULTILINE):
            break
    else:
        raise AssertionError("no metric of SQL")


def test_the_sdk_asks_over_http(cluster: LiveCluster) -> None:
    with QuantumDB(Config(url=cluster.url)).connect() as db:
        assert db.sql_query_sync("chinook", "how many artists are there?")["rows"] == [[275]]
        assert db.sql_explain_sync("chinook", sql="SELECT 1 AS one")["sql"]
        assert db.sql_schema_sync("chinook")["dialect"] == "sqlite"
        assert db.sql_batch_sync("chinook", ["SELECT 1 AS one"])["items"][0]["rows"] == [[1]]
        with pytest.raises(NotFound):
            db.sql_query_sync("nobodys", sql="SELECT 1")
