"""Foreign keys that no constraint declares: found by names, then by values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from sql_synthesizer.engines.values import identifier
from sql_synthesizer.schema import Column, ColumnKind, ForeignKey, Table

MAX_CHECKS: Final = 200
GENERIC: Final = frozenset({"id", "key", "code", "name", "no", "number", "title", "date", "type", "status", "value"})
"""Names that many tables have for things of their own."""
ENDINGS: Final = ("id", "key", "code", "no", "number", "name")
IRREGULAR: Final = {"people": "person", "children": "child", "men": "man", "women": "woman", "staff": "staff"}
KEY_KINDS: Final = (ColumnKind.INTEGER, ColumnKind.TEXT)


def found_keys(tables: Mapping[str, Table], holds: Callable[[str], bool]) -> dict[str, Table]:
    """Return the tables with the keys that are found: ``declared`` is False in them.

    Args:
        tables: with their primary keys and counts.
        holds: whether a query, run on the database, gives no row.
    """
    result = dict(tables)
    for checks, (table, column, other) in enumerate(_candidates(tables)):
        if checks >= MAX_CHECKS:
            break
        (key,) = other.primary_key
        if holds(_missing(table.name, column.name, other.name, key)):
            known = result[table.name]
            added = ForeignKey((column.name,), other.name, (key,), declared=False)
            result[table.name] = replace(known, foreign_keys=(*known.foreign_keys, added))
    return result


def _missing(table: str, column: str, other: str, key: str) -> str:
    """Return a query that gives a row where a value of the column is not among those of the key."""
    mine, theirs = f"a.{identifier(column)}", f"b.{identifier(key)}"
    return (
        f"SELECT 1 FROM {identifier(table)} AS a WHERE {mine} IS NOT NULL"
        f" AND NOT EXISTS (SELECT 1 FROM {identifier(other)} AS b WHERE {theirs} = {mine}) LIMIT 1"
    )


def _candidates(tables: Mapping[str, Table]) -> Iterator[tuple[Table, Column, Table]]:
    """Yield each column that may name a row of another table by that one's key, the best table for it only."""
    keyed = [table for table in tables.values() if len(table.primary_key) == 1]
    for table in tables.values():
        taken = {name for key in table.foreign_keys for name in key.columns}
        for column in table.columns.values():
            if column.name in taken or column.kind not in KEY_KINDS or not column.distinct:
                continue
            fitting = [other for other in keyed if other.name != table.name and _fits(table, column, other)]
            if fitting:
                yield table, column, max(fitting, key=lambda other: _likeness(column, other))


def _fits(table: Table, column: Column, other: Table) -> bool:
    key = other.columns[other.primary_key[0]]
    if key.kind is not column.kind or not key.distinct or (column.distinct or 0) > key.distinct:
        return False
    if not _named(column.name, other, key.name):
        return False
    # Two tables with the same key: the one whose name is in the key's is where rows are made.
    return table.primary_key != (column.name,) or _likeness(column, other) > _likeness(column, table)


def _named(column: str, other: Table, key: str) -> bool:
    mine, theirs = words_of(column), words_of(key)
    thing = _singular(words_of(other.name))
    if mine == theirs:
        return len(mine) > 1 or mine[0] not in GENERIC
    if mine[-1] not in ENDINGS or len(mine) < 2:
        return False
    # customer_id names customers.id, and billing_customer_id does so too.
    return theirs in ([mine[-1]], [*thing, mine[-1]]) and _singular(mine[:-1])[-len(thing) :] == thing


def _likeness(column: Column, table: Table) -> int:
    """Return how much of a table's name is in a column's."""
    mine, thing = set(_singular(words_of(column.name))), set(_singular(words_of(table.name)))
    return 2 * len(mine & thing) - len(thing)


def words_of(name: str) -> list[str]:
    """Return the words of a name, in lower case: ``customerId``, ``CUSTOMER_ID`` and ``customerid`` give two each."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+", " ", name)
    words = spaced.lower().split() or [name.lower()]
    last = words[-1]
    if len(words) == 1 and len(last) > 3 and last.endswith("id"):
        return [last[:-2], "id"]
    return words


def _singular(words: list[str]) -> list[str]:
    return [_one(word) for word in words]


def _one(word: str) -> str:
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(ss|x|ch|sh|z)es$", word):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
