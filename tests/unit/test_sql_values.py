"""From an engine's values to JSON, from a type's name to a kind, and from names to keys."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_db.errors import InvalidRequest
from sql_synthesizer.engines.deadline import deadline
from sql_synthesizer.engines.foreign_keys import found_keys, words_of
from sql_synthesizer.engines.ports import Limits
from sql_synthesizer.engines.reflection import Reflection
from sql_synthesizer.engines.values import collect, identifier, json_ready, kind_of_type, kind_of_values, size_of
from sql_synthesizer.engines.versions import sqlite_version
from sql_synthesizer.schema import Column, ColumnKind, ForeignKey, Table

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.decimals(), st.text(), st.binary(), st.dates(), st.times(),
    st.datetimes(), st.timedeltas(), st.uuids(),
)  # fmt: skip


@given(st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_whatever_a_driver_returns_json_can_hold(value: Any) -> None:
    ready = json_ready(value)
    assert json.loads(json.dumps(ready, allow_nan=False)) == ready
    if "\ud800" not in repr(ready) and not any(0xD800 <= ord(letter) < 0xE000 for letter in str(ready)):
        orjson.dumps(ready)
    assert size_of(ready) > 0


@pytest.mark.parametrize(
    ("value", "ready"),
    [
        (Decimal("9.99"), 9.99),
        (Decimal("100"), 100),
        (Decimal("100.00"), 100.0),
        (Decimal("0.12345678901234567890"), "0.12345678901234567890"),
        (Decimal("NaN"), "NaN"),
        (2**63, str(2**63)),
        (float("-inf"), "-Infinity"),
        (b"\x00\xff", "AP8="),
        (dt.datetime(2024, 1, 2, 3, 4, tzinfo=dt.UTC), "2024-01-02T03:04:00+00:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ({"a": [dt.date(2024, 1, 2), None]}, {"a": ["2024-01-02", None]}),
    ],
)
def test_values_lose_nothing(value: object, ready: object) -> None:
    assert json_ready(value) == ready


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        ("DECIMAL(10,2)", ColumnKind.REAL),
        ("character varying(10)", ColumnKind.TEXT),
        ("unsigned big int", ColumnKind.OTHER),
        ("TIMESTAMP WITH TIME ZONE", ColumnKind.TIMESTAMP),
        ("time without time zone", ColumnKind.TIME),
        ("ENUM('a', 'b')", ColumnKind.TEXT),
        ("INTEGER[]", ColumnKind.OTHER),
        ("STRUCT(a INTEGER)", ColumnKind.OTHER),
        ("", ColumnKind.OTHER),
    ],
)
def test_types_have_kinds(declared: str, kind: ColumnKind) -> None:
    assert kind_of_type(declared) is kind


def test_kinds_of_values_are_those_that_all_share() -> None:
    assert kind_of_values([1, None, 2]) is ColumnKind.INTEGER
    assert kind_of_values([1, 2.5]) is ColumnKind.REAL
    assert kind_of_values(["a", 1]) is ColumnKind.OTHER
    assert kind_of_values([None]) is ColumnKind.OTHER


def test_collecting_stops_at_a_limit_and_reads_no_further() -> None:
    read: list[int] = []

    def rows() -> Any:
        for number in range(100):
            read.append(number)
            yield (number,)

    assert collect(rows(), Limits(max_rows=3)) == (((0,), (1,), (2,)), True)
    assert read == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Limits(max_rows=0), "max_rows"),
        (lambda: Limits(timeout_s=0), "timeout_s"),
        (lambda: Limits(timeout_s=float("nan")), "timeout_s"),
        (lambda: Limits(timeout_s=1e9), "timeout_s"),
        (lambda: Limits(max_bytes=0), "max_bytes"),
    ],
)
def test_wrong_limits_are_told(make: Callable[[], Limits], field: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        make()


def test_names_are_quoted_whatever_is_in_them() -> None:
    assert identifier('a"b; DROP') == '"a""b; DROP"'


def test_a_deadline_that_is_met_stops_nothing() -> None:
    stopped: list[int] = []
    with deadline(30.0, lambda: stopped.append(1)) as state:
        pass
    assert (stopped, state.passed) == ([], False)


# What is hidden


@pytest.mark.parametrize(
    ("pattern", "table", "column", "hidden"),
    [
        ("people", "People", None, True),
        ("people", "people", "name", True),
        ("people.pass*", "people", "PASSWORD", True),
        ("people.pass*", "people", None, False),
        ("*.email", "anything", "email", True),
        ("*.email", "anything", "emails", False),
        ("secret_*", "secret_plans", None, True),
    ],
)
def test_patterns_hide_tables_and_columns(pattern: str, table: str, column: str | None, hidden: bool) -> None:
    assert Reflection(hidden=(pattern,)).hides(table, column) is hidden


# Keys that are found


def keyed(name: str, rows: int, *columns: str, key: str = "") -> Table:
    made = {column: Column(column, ColumnKind.INTEGER, "INTEGER", distinct=rows, nulls=0.0) for column in columns}
    return Table(name, made, (key,) if key else (), (), rows)


def keys(*tables: Table, holds: Callable[[str], bool] = lambda _: True) -> dict[str, tuple[ForeignKey, ...]]:
    return {name: one.foreign_keys for name, one in found_keys({one.name: one for one in tables}, holds).items()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("customer_id", ["customer", "id"]),
        ("CustomerId", ["customer", "id"]),
        ("customerid", ["customer", "id"]),
        ("HTTPServerID", ["http", "server", "id"]),
        ("id", ["id"]),
        ("paid", ["pa", "id"]),
    ],
)
def test_names_have_words(name: str, words: list[str]) -> None:
    assert words_of(name) == words


@pytest.mark.parametrize(
    ("table", "key", "column"),
    [
        ("customers", "id", "customer_id"),
        ("people", "id", "person_id"),
        ("companies", "company_id", "company_id"),
        ("Customer", "CustomerId", "CustomerId"),
        ("boxes", "id", "BoxId"),
        ("addresses", "id", "billing_address_id"),
        ("state", "state_name", "state_name"),
    ],
)
def test_a_column_that_is_called_as_a_key_names_its_row(table: str, key: str, column: str) -> None:
    found = keys(keyed(table, 9, key, key=key), keyed("facts", 5, "nr", column))
    assert found["facts"] == (ForeignKey((column,), table, (key,), declared=False),)


@pytest.mark.parametrize(
    ("table", "key", "column"), [("customers", "id", "id"), ("a", "name", "name"), ("t", "id", "u_id")]
)
def test_names_that_many_tables_have_name_no_row(table: str, key: str, column: str) -> None:
    assert keys(keyed(table, 9, key, key=key), keyed("facts", 5, "nr", column))["facts"] == ()


def test_values_have_the_last_word() -> None:
    asked: list[str] = []
    tables = keyed("customers", 9, "id", key="id"), keyed("facts", 5, "customer_id")
    assert keys(*tables, holds=lambda sql: bool(asked.append(sql)))["facts"] == ()
    assert asked == [
        'SELECT 1 FROM "facts" AS a WHERE a."customer_id" IS NOT NULL AND NOT EXISTS '
        '(SELECT 1 FROM "customers" AS b WHERE b."id" = a."customer_id") LIMIT 1'
    ]


def test_a_column_with_more_values_than_the_key_is_not_even_asked_about() -> None:
    asked: list[str] = []
    keys(keyed("customers", 3, "id", key="id"), keyed("facts", 5, "customer_id"), holds=lambda s: bool(asked.append(s)))
    assert asked == []


def test_versions_tell_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none.sqlite"
    before = sqlite_version(path)
    path.write_bytes(b"x" * 200)
    assert sqlite_version(path) != before
