"""What SQLite's catalogue tells of tables, columns and keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from sql_synthesizer.engines.reflection import Ask, RawColumn, RawTable
from sql_synthesizer.engines.values import kind_of_type
from sql_synthesizer.schema import ColumnKind, ForeignKey

TIMEOUT_S: Final = 10.0


def raw_tables(ask: Ask) -> Sequence[RawTable]:
    """Return the tables and views; those that belong to SQLite, or to an index of full text, are left out."""
    found = ask(
        "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'view', 'virtual')"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
        (),
        TIMEOUT_S,
    )
    names = {str(name).lower(): str(name) for name, _ in found}
    primary: dict[str, list[str]] = {}
    columns: dict[str, list[RawColumn]] = {}
    for name in names.values():
        # A hidden column of kind 1 belongs to a virtual table's own workings; 2 and 3 are generated ones.
        rows = ask('SELECT name, type, "notnull", pk FROM pragma_table_xinfo(?) WHERE hidden <> 1', (name,), TIMEOUT_S)
        columns[name] = [
            RawColumn(column, declared, not (not_null or key), kind=_kind(declared))
            for column, declared, not_null, key in rows
        ]
        keyed = sorted((key, column) for column, _, _, key in rows if key)
        primary[name] = [column for _, column in keyed]
    return [
        RawTable(name, columns[name], primary[name], _foreign_keys(ask, name, names, primary), is_view=kind == "view")
        for name, kind in found
    ]


def _foreign_keys(ask: Ask, table: str, names: dict[str, str], primary: dict[str, list[str]]) -> Sequence[ForeignKey]:
    rows = ask('SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id, seq', (table,), TIMEOUT_S)
    keys: dict[int, list[Any]] = defaultdict(list)
    for number, *rest in rows:
        keys[number].append(rest)
    found = []
    for parts in keys.values():
        other = names.get(str(parts[0][0]).lower())
        if other is None:
            continue
        mine = tuple(str(part[1]) for part in parts)
        # Where the constraint does not say which columns, it is the primary key.
        theirs = tuple(primary[other]) if parts[0][2] is None else tuple(str(part[2]) for part in parts)
        if len(mine) == len(theirs):
            found.append(ForeignKey(mine, other, theirs))
    return found


def _kind(declared: str) -> ColumnKind:
    """Return what a column's values are; where no type is known, by the affinity that SQLite gives the column."""
    kind = kind_of_type(declared)
    name = declared.upper()
    if kind is not ColumnKind.OTHER or not name or "BLOB" in name:
        return kind
    if "INT" in name:
        return ColumnKind.INTEGER
    return ColumnKind.TEXT if any(part in name for part in ("CHAR", "CLOB", "TEXT")) else ColumnKind.REAL
