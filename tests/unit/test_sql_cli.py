"""The command line query-agent, run in this process on the database that ships."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import sys
from pathlib import Path

import pytest

from sql_synthesizer import cli
from sql_synthesizer.demo import CHINOOK
from sql_synthesizer.demo import main as demo

URL = f"sqlite:///{CHINOOK}"
TOP = "SELECT Name, count(*) AS n FROM Artist JOIN Album USING (ArtistId) GROUP BY Name ORDER BY n DESC LIMIT 2"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUERY_AGENT_DATABASE_URL", URL)


class Ran:
    """Runs the command with arguments; keeps what it printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["query-agent", *arguments])
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = cli.main()
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ran:
    return Ran(monkeypatch, capsys)


def test_an_answer_is_a_table(run: Ran) -> None:
    code, out, _ = run(TOP)
    assert code == 0
    assert "Iron Maiden" in out
    assert "2 rows in" in out


def test_words_are_answered_and_what_they_were_taken_for_is_told(run: Ran) -> None:
    code, out, err = run("how many artists are there?")
    assert code == 0
    assert "275" in out
    assert err.startswith('-- "artists": table Artist (')
    code, out, err = run("colourless green ideas")
    assert (code, out) == (2, "")
    assert "Did you mean" in err


def test_the_url_of_the_flag_stands_above_that_of_the_environment(run: Ran, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mine.sqlite") as connection:
        connection.execute("CREATE TABLE things (id INTEGER PRIMARY KEY)")
    code, out, _ = run("--list-tables", "--database-url", "sqlite:///mine.sqlite")
    assert code == 0
    assert "things" in out
    assert "Artist" not in out


def test_tables_are_listed_and_described(run: Ran) -> None:
    code, out, _ = run("--list-tables")
    assert code == 0
    assert "PlaylistTrack" in out
    code, out, _ = run("--describe-table", "album")
    assert code == 0
    assert "Artist.ArtistId" in out
    assert "347" in out


def test_sql_only_and_explain_run_nothing(run: Ran) -> None:
    endless = "SELECT count(*) FROM Track a, Track b, Track c, Track d"
    code, out, _ = run("--sql-only", endless)
    assert (code, out.strip()[:6]) == (0, "SELECT")
    code, out, _ = run("--explain", endless)
    assert code == 0
    assert out.count("SCAN") == 4


def test_csv_holds_all_that_came(run: Ran, tmp_path: Path) -> None:
    code, out, _ = run("--execute-sql", TOP, "--output-csv", "-")
    assert list(csv.reader(io.StringIO(out))) == [["Name", "n"], ["Iron Maiden", "21"], ["Led Zeppelin", "14"]]
    code, _, _ = run("--execute-sql", TOP, "--output-csv", "out.csv")
    assert code == 0
    assert (tmp_path / "out.csv").read_bytes().decode() == out


def test_max_rows_is_a_limit(run: Ran) -> None:
    code, out, _ = run("SELECT Name FROM Genre", "--max-rows", "3")
    assert code == 0
    assert "3 rows, and there are more" in out


def test_a_conversation_goes_on_after_what_is_wrong(run: Ran) -> None:
    code, out, err = run(
        "--interactive", stdin="SELECT 41 + 1 AS x\n\nDROP TABLE Artist\nSELECT 7 AS y\nexit\nSELECT 8 AS z\n"
    )
    assert code == 0
    assert "42" in out
    assert "7" in out
    assert "z" not in out
    assert err.startswith("error: line 1, column 1: a statement of kind DROP")
    assert run("--interactive", stdin="SELECT 1 AS x")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give one of a question"),
        (("SELECT 1", "--list-tables"), "give one of a question"),
        (("SELECT nam FROM Artist",), "there is no column 'nam'; did you mean 'Name'"),
        (("how many artists?", "--database-url", "mysql://x"), "must be duckdb:///"),
        (("SELECT 1", "--max-rows", "0"), "agent.max_rows"),
        (("SELECT 1", "--log-level", "loud"), "agent.log_level"),
        (("SELECT 1", "--config", "none.yaml"), "none.yaml"),
        (("--describe-table", "Albun"), "did you mean 'Album'"),
        (("SELECT 1", "--output-csv", "no/such/folder.csv"), "no/such/folder.csv"),
        (("--execute-sql", "how many artists are there",), "line 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_and_exit_code_2(run: Ran, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_database_that_does_not_answer_is_exit_code_3(run: Ran) -> None:
    code, _, err = run("SELECT 1", "--database-url", "postgresql://nobody@127.0.0.1:1/none")
    assert code == 3
    assert err.startswith("error: PostgreSQL does not answer")


def test_without_a_database_it_says_where_to_name_one(run: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUERY_AGENT_DATABASE_URL")
    code, _, err = run("SELECT 1")
    assert (code, err) == (2, "error: no database is named: give --database-url or QUERY_AGENT_DATABASE_URL\n")


def test_the_settings_file_is_read(run: Ran, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "agent: {max_rows: 2, hidden: [Artist]}\nenvironments: {test: {agent: {max_rows: 1}}}\n"
    )
    _, out, _ = run("SELECT Name FROM Genre", "--config", "mine.yaml")
    assert "2 rows, and there are more" in out
    _, out, _ = run("SELECT Name FROM Genre", "--config", "mine.yaml", "--env", "test")
    assert "1 row, and there are more" in out
    assert run("SELECT Name FROM Artist", "--config", "mine.yaml")[0] == 2


def test_log_lines_are_json_where_that_is_asked_for(run: Ran) -> None:
    _, _, err = run("SELECT 1 AS x FROM Genre WHERE 2 = 1 OR 1 = 1", "--log-level", "info", "--log-format", "json")
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line["message"] for line in lines] == ["the text looks suspicious", "statement"]
    assert (lines[0]["finding"], lines[1]["rows"]) == ("tautology", 25)
    _, _, err = run("SELECT 1 AS x", "--log-level", "info")
    assert err.startswith("info: statement sql=SELECT 1 AS x")
    assert run("SELECT 1 AS x")[2] == ""


def test_the_demo_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo() == 0
    out = capsys.readouterr().out
    assert "Iron Maiden" in out
    assert "there is no column 'Email'" in out
    assert "SQLite's plan" in out


def test_with_quantum_the_same_answer_comes_and_its_stats_are_told(run: Ran) -> None:
    plain = run(TOP)[1].splitlines()[:-1]
    flags = ("--enable-quantum", "--quantum-qubits", "9", "--quantum-temp", "1000", "--quantum-cooling-rate", "0.5")
    code, out, err = run(*flags, "--quantum-min-temp", "125", "--quantum-mode", "conservative", "--quantum-stats", TOP)
    assert (code, out.splitlines()[:-1]) == (0, plain)
    told = json.loads(err)
    assert told["health"]["status"] == "healthy"
    assert told["quantum"]["schedule"] == {"chains": 4, "sweeps": 4, "start": 1.0, "end": 0.125, "polish": True}
    assert (told["quantum"]["num_qubits"], told["quantum"]["enabled"]) == (9, True)
    code, _, err = run("--quantum-stats", TOP)
    assert (code, json.loads(err)["quantum"]["enabled"]) == (0, False)
    assert run("--enable-quantum", "--quantum-temp", "1", TOP)[0] == 2


def test_answers_are_kept_in_the_file_until_they_are_cleared(
    run: Ran, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QUANTUM_CACHE_PERSISTENCE", str(tmp_path / "kept.sqlite"))
    outcomes = []
    for flags in ((), ("--cache-ttl", "60"), ("--clear-cache",)):
        code, _, err = run("--enable-quantum", "--quantum-stats", *flags, TOP)
        assert code == 0
        outcomes.append(json.loads(err)["quantum"]["cache"]["outcomes"])
    assert outcomes == [{"miss": 1}, {"l3": 1}, {"miss": 1}]
