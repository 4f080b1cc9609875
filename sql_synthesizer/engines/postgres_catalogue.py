"""What PostgreSQL's catalogue tells of tables, columns and keys, and what its statistics estimate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from sql_synthesizer.engines.reflection import Ask, RawColumn, RawTable
from sql_synthesizer.schema import ForeignKey

TIMEOUT_S: Final = 10.0
COUNTED_BYTES: Final = 64 * 2**20
"""Of a table that is small enough to be counted; of larger ones the statistics are taken."""
HERE: Final = "n.nspname = current_schema()"

COLUMNS: Final = f"""
    SELECT c.relname, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
           coalesce(pg_catalog.col_description(c.oid, a.attnum), ''), t.typtype = 'e'
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE {HERE} AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
      AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')
    ORDER BY c.relname, a.attnum"""
TABLES: Final = f"""
    SELECT c.relname, coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), ''), c.relkind IN ('v', 'm'),
           CASE WHEN c.relkind IN ('r', 'm') AND pg_catalog.pg_relation_size(c.oid) > {COUNTED_BYTES}
                     AND c.reltuples >= 0 THEN c.reltuples::bigint END
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE {HERE} AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition"""
KEYS: Final = f"""
    SELECT c.relname, k.contype = 'p', f.relname,
           ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u(number, place)
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place),
           ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u(number, place)
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.place)
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_class f ON f.oid = k.confrelid AND f.relnamespace = c.relnamespace
    WHERE {HERE} AND k.contype IN ('p', 'f') ORDER BY k.conname"""
STATISTICS: Final = """
    SELECT tablename, attname, null_frac, n_distinct FROM pg_catalog.pg_stats
    WHERE schemaname = current_schema() AND NOT inherited"""


def raw_tables(ask: Ask) -> Sequence[RawTable]:
    """Return the tables and views of the first schema of the search path, as far as the role may read them."""
    columns: dict[str, list[RawColumn]] = defaultdict(list)
    for table, name, declared, nullable, comment, is_enum in ask(COLUMNS, (), TIMEOUT_S):
        kind = "enum" if is_enum else declared
        columns[table].append(RawColumn(name, kind, bool(nullable), comment))
    primary: dict[str, list[str]] = {}
    foreign: dict[str, list[ForeignKey]] = defaultdict(list)
    for table, is_primary, other, names, references in ask(KEYS, (), TIMEOUT_S):
        if is_primary:
            primary[table] = names
        elif other is not None:
            foreign[table].append(ForeignKey(tuple(names), other, tuple(references)))
    found = ask(TABLES, (), TIMEOUT_S)
    rows = {name: estimated for name, _, _, estimated in found if estimated is not None}
    estimates: dict[str, dict[str, tuple[int, float]]] = defaultdict(dict)
    for table, name, nulls, distinct in ask(STATISTICS, (), TIMEOUT_S) if rows else ():
        if table in rows:  # below zero it is a share of the rows
            count = distinct if distinct >= 0 else -distinct * rows[table]
            estimates[table][name] = (round(count), float(nulls))
    return [
        RawTable(
            name,
            columns[name],
            primary.get(name, ()),
            foreign[name],
            comment,
            bool(is_view),
            estimated,
            estimates[name],
        )
        for name, comment, is_view, estimated in found
        if columns[name]
    ]
