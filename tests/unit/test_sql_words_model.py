"""Words to SQL by a language model, against a server that answers as the OpenAI interface does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from quantum_db.errors import Unavailable, UnclearQuestion
from sql_synthesizer.engines.reflection import Reflection
from sql_synthesizer.engines.sqlite import SqliteEngine
from sql_synthesizer.words.model import ModelSettings, ModelTranslator, schema_slice

CHINOOK = Path(__file__).parents[2] / "data" / "sql" / "chinook.sqlite"


class StubModel(ThreadingHTTPServer):
    """Answers each request with the next of ``answers``: texts of choices, or a status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[list[str] | int] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: StubModel

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.keys.append(self.headers["Authorization"])
        answer = self.server.answers.pop(0)
        status = answer if isinstance(answer, int) else 200
        texts = [] if isinstance(answer, int) else answer
        raw = json.dumps({"choices": [{"message": {"content": text}} for text in texts]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Stay silent."""


@pytest.fixture
def stub() -> Iterator[StubModel]:
    server = StubModel()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join(5)
    server.server_close()


@pytest.fixture(scope="module")
def engine() -> Iterator[SqliteEngine]:
    engine = SqliteEngine(CHINOOK, reflection=Reflection())
    yield engine
    engine.close()


def translator(engine: SqliteEngine, stub: StubModel, timeout_s: float = 20.0) -> ModelTranslator:
    return ModelTranslator(engine, ModelSettings(stub.url, "stub", "secret", timeout_s, candidates=4))


def test_most_candidates_win(engine: SqliteEngine, stub: StubModel) -> None:
    stub.answers = [
        [
            "SELECT COUNT(*) FROM Album",
            "```sql\nSELECT COUNT(*) FROM Artist;\n```",
            "SELECT COUNT(ArtistId) FROM Artist",
            "DROP TABLE Artist",
        ]
    ]
    found = translator(engine, stub)("How many artists are there?", engine.schema())
    assert found.sql == "SELECT COUNT(*) FROM Artist"
    assert found.confidence == 0.5
    assert stub.keys == ["Bearer secret"]
    assert stub.asked[0]["n"] == 4
    assert '"Artist"' in stub.asked[0]["messages"][0]["content"]


def test_repairs_once_with_what_was_wrong(engine: SqliteEngine, stub: StubModel) -> None:
    stub.answers = [["SELECT Nome FROM Artist"], ["SELECT Name FROM Artist"]]
    found = translator(engine, stub)("Names of artists", engine.schema())
    assert found.sql == "SELECT Name FROM Artist"
    assert "Nome" in stub.asked[1]["messages"][-1]["content"]


@pytest.mark.parametrize("bad", ["DELETE FROM Artist", "SELECT * FROM sqlite_master", "I cannot say"])
def test_what_may_not_run_is_not_run(engine: SqliteEngine, stub: StubModel, bad: str) -> None:
    before = engine.data_version()
    stub.answers = [[bad], [bad]]
    with pytest.raises(UnclearQuestion, match="nothing that may run"):
        translator(engine, stub)("Delete all artists", engine.schema())
    assert len(stub.asked) == 2
    assert engine.data_version() == before


def test_a_model_that_fails_is_unavailable(engine: SqliteEngine, stub: StubModel) -> None:
    stub.answers = [500]
    with pytest.raises(Unavailable, match="status 500"):
        translator(engine, stub)("How many artists?", engine.schema())


def test_waits_no_longer_than_it_may(engine: SqliteEngine, stub: StubModel) -> None:
    with pytest.raises(Unavailable, match="took too long"):
        translator(engine, stub, timeout_s=0.0)("How many artists?", engine.schema())
    assert stub.asked == []


def test_the_slice_holds_what_the_question_is_about(engine: SqliteEngine) -> None:
    text = schema_slice("How many invoices has each customer?", engine.schema())
    assert text.index('"Invoice"') < text.index('"Genre"')
    assert "FOREIGN KEY (CustomerId) REFERENCES Customer (CustomerId)" in text
