"""The detectors: each finds what it is for, none finds fault with ordinary statements, none decides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sql_synthesizer.guard.detectors import DETECTORS, Finding, detect

SUSPECT = {
    "tautology": "SELECT * FROM people WHERE name = 'a' OR 1 = 1",
    "union-of-constants": "SELECT a, b FROM t WHERE a = 'x' UNION SELECT NULL, NULL",
    "several-statements": "SELECT 1; DROP TABLE people",
    "writing": "DELETE FROM people",
    "command": "PRAGMA writable_schema = 1",
    "catalogue": "SELECT * FROM information_schema.tables WHERE x = 1",
    "delay": "SELECT pg_sleep(10)",
    "file": "SELECT pg_read_file('/etc/passwd')",
    "environment": "SELECT version()",
    "payload-in-text": "SELECT a FROM t WHERE a = 'x'' OR ''1''=''1'",
    "encoded": "SELECT a FROM t WHERE a = 0x41424344454647484950",
    "spelled-out": "SELECT CHR(68) || CHR(82) || CHR(79) || CHR(80)",
    "comment-at-end": "SELECT a FROM t WHERE a = 'x' OR b = 2 -- '",
    "comment-within": "SELECT a FROM t UNI/**/ON SELECT b FROM u",
    "letter-by-letter": "SELECT 1 FROM t WHERE ASCII(SUBSTRING((SELECT p FROM u LIMIT 1), 1, 1)) > 64",
    "error-on-purpose": "SELECT CAST((SELECT a || b FROM u LIMIT 1) AS INT)",
    "many-conditions": "SELECT a FROM t WHERE " + " OR ".join(["a = 1"] * 60),
    "deep": "SELECT " + "(" * 30 + "1" + ")" * 30,
    "large-product": "SELECT count(*) FROM a, b, c",
    "long-text": f"SELECT a FROM t WHERE a = '{'x' * 3000}'",
    "whole-table": "SELECT * FROM people",
    "column-count": "SELECT a FROM t ORDER BY 99",
}
ORDINARY = [
    "SELECT name FROM people WHERE name = 'O''Brien' OR city = 'Ulm'",
    "SELECT a.id, count(*) FROM a JOIN b ON a.id = b.a_id GROUP BY a.id HAVING count(*) > 3 ORDER BY 2 DESC LIMIT 5",
    "SELECT * FROM people LIMIT 10",
    "SELECT name FROM people UNION SELECT name FROM cities",
    "SELECT CAST(height AS INT) FROM people",
    "SELECT upper(substr(name, 1, 1)) FROM people",
    "SELECT count(*) FROM a, b, c WHERE a.id = b.a_id AND b.id = c.b_id",
    "SELECT first || ' ' || last FROM people",
    "SELECT note FROM orders WHERE note LIKE '%drop by and say hello; thanks%'",
]


def test_there_is_an_example_for_each() -> None:
    assert SUSPECT.keys() == DETECTORS.keys()
    assert len(DETECTORS) >= 15


@pytest.mark.parametrize("name", SUSPECT)
def test_each_finds_what_it_is_for(name: str) -> None:
    found = {finding.name: finding for finding in detect(SUSPECT[name], "postgres")}
    assert name in found
    assert found[name].threat is DETECTORS[name][0]
    assert found[name].message


@pytest.mark.parametrize("dialect", ["duckdb", "sqlite", "postgres"])
@pytest.mark.parametrize("sql", ORDINARY)
def test_ordinary_statements_are_not_suspect(sql: str, dialect: str) -> None:
    assert detect(sql, dialect) == ()


def test_a_finding_has_its_place() -> None:
    (finding,) = detect("SELECT a,\n  pg_sleep(10) FROM t", "postgres")
    assert finding == Finding("delay", DETECTORS["delay"][0], finding.message, 2, 3)


@given(st.text(max_size=200))
def test_no_text_makes_them_fail(text: str) -> None:
    assert isinstance(detect(text, "duckdb"), tuple)
