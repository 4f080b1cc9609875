"""A shop of 12 tables whose values are skewed and hang together, or evenly spread; and random statements over it.

Skewed: a few customers order most, a few products sell most, the same products are reviewed and clicked most, and a
customer's segment, a product's brand and a line's quantity go with how often they are met. Uniform: the same tables,
every value drawn evenly and by itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import psycopg
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[np.int64]]

LINKS = [
    ("city", "country_id", "country"),
    ("customer", "city_id", "city"),
    ("supplier", "country_id", "country"),
    ("product", "category_id", "category"),
    ("product", "supplier_id", "supplier"),
    ("orders", "customer_id", "customer"),
    ("orders", "channel_id", "channel"),
    ("line", "order_id", "orders"),
    ("line", "product_id", "product"),
    ("review", "product_id", "product"),
    ("review", "customer_id", "customer"),
    ("click", "product_id", "product"),
    ("click", "customer_id", "customer"),
    ("shipment", "order_id", "orders"),
]
FILTERS = {
    "country": [("region", 5)],
    "city": [("size", 6)],
    "customer": [("segment", 8), ("age", 60)],
    "supplier": [("rating", 5)],
    "category": [("kind", 6)],
    "product": [("brand", 30), ("price", 100)],
    "orders": [("year", 8), ("status", 4)],
    "channel": [("paid", 2)],
    "line": [("quantity", 20)],
    "review": [("stars", 5)],
    "click": [("device", 4)],
    "shipment": [("carrier", 12)],
}
ROWS = {
    "country": 60, "city": 1_500, "customer": 20_000, "supplier": 1_500, "category": 40, "product": 4_000,
    "orders": 60_000, "channel": 12, "line": 180_000, "review": 40_000, "click": 100_000, "shipment": 50_000,
}  # fmt: skip


def shop(*, skewed: bool, scale: float = 1.0, seed: int = 1) -> dict[str, Columns]:
    """Return the tables by name; all values are whole numbers, and ``id`` counts from 1."""
    rng = np.random.default_rng(seed)
    rows = {table: max(2, int(count * (scale if count > 100 else 1.0))) for table, count in ROWS.items()}
    tables: dict[str, Columns] = {}
    for table, count in rows.items():
        columns = {"id": np.arange(1, count + 1, dtype=np.int64)}
        fame = np.log1p(np.arange(count)) / np.log1p(count)
        for child, column, parent in LINKS:
            if child == table:
                drawn = _ranked(rng, rows[parent], count, 1.1 if skewed else 0.0)
                fame += 0.5 * np.log1p(drawn) / np.log1p(rows[parent])
                columns[column] = drawn + 1
        for column, values in FILTERS[table]:
            if skewed:  # the famous have low values: what a filter keeps goes with what a join multiplies
                noise = rng.normal(0.0, 0.08 * values, count)
                ranks = fame.argsort().argsort() / count
                columns[column] = np.clip(ranks**1.5 * values + noise, 0, values - 1).astype(np.int64)
            else:
                columns[column] = rng.integers(values, size=count)
        tables[table] = columns
    return tables


@dataclass(frozen=True)
class Statement:
    """A SELECT over relations t0, t1, ... that hang together as a tree; ``links`` are (new alias, column, old alias).

    A link reads the column at the new alias, or, where ``down`` is set, at the old one.
    """

    tables: list[str]
    links: list[tuple[int, str, int, bool]]
    filters: list[tuple[int, str, str, tuple[int, ...]]]
    order: list[int]

    def sql(self) -> str:
        conditions = [
            f"t{old}.{column} = t{new}.id" if down else f"t{new}.{column} = t{old}.id"
            for new, column, old, down in self.links
        ]
        conditions += [
            f"t{alias}.{column} {kind} {_written(kind, values)}" for alias, column, kind, values in self.filters
        ]
        sources = ", ".join(f"{self.tables[i]} AS t{i}" for i in self.order)
        shown = f"COUNT(*) AS n, MIN(t{self.order[0]}.id) AS low, MAX(t{self.order[-1]}.id) AS high"
        return f"SELECT {shown} FROM {sources} WHERE {' AND '.join(conditions)}"

    def rows(self, shop: Mapping[str, Columns]) -> float:
        """Count the joined rows without joining: each relation tells the one before it how often its rows are met."""
        weights = [np.ones(len(shop[table]["id"])) for table in self.tables]
        for alias, column, kind, values in self.filters:
            found = shop[self.tables[alias]][column]
            weights[alias] *= (found <= values[0]) if kind == "<=" else np.isin(found, values)
        for new, column, old, down in reversed(self.links):
            if down:
                weights[old] *= weights[new][shop[self.tables[old]][column] - 1]
            else:
                keys = shop[self.tables[new]][column] - 1
                weights[old] *= np.bincount(keys, weights[new], minlength=len(weights[old]))
        return float(weights[0].sum())


def statement(rng: np.random.Generator, relations: int) -> Statement:
    """Draw a statement: a walk along the keys, where each table is extended once, with filters on half of them."""
    tables = [str(rng.choice(["line", "orders", "product", "customer"]))]
    links: list[tuple[int, str, int, bool]] = []
    while len(tables) < relations:
        old, new = int(rng.integers(len(tables))), len(tables)
        child, column, parent = LINKS[int(rng.integers(len(LINKS)))]
        if tables[old] == child and (old, column) not in {(link[2], link[1]) for link in links if link[3]}:
            links.append((new, column, old, True))
            tables.append(parent)
        elif tables[old] == parent and tables.count(child) < 2:
            links.append((new, column, old, False))
            tables.append(child)
    filters = [_filter(rng, alias, table) for alias, table in enumerate(tables) if rng.random() < 0.5]
    return Statement(tables, links, filters, rng.permutation(len(tables)).tolist())


def write_duckdb(tables: Mapping[str, Columns], path: Path) -> None:
    """Make a DuckDB database; it needs no index for joins by keys."""
    with duckdb.connect(str(path)) as connection:
        for table, columns in tables.items():
            connection.register("given", dict(columns))
            connection.execute(f"CREATE TABLE {table} AS SELECT * FROM given")
            connection.unregister("given")


def write_sqlite(tables: Mapping[str, Columns], path: Path) -> None:
    """Make a SQLite database with all keys indexed, and ANALYZE it."""
    connection = sqlite3.connect(path)
    try:
        for table, columns in tables.items():
            connection.execute(f"CREATE TABLE {table} ({_declared(columns)})")
            marks = ", ".join("?" * len(columns))
            values = zip(*(column.tolist() for column in columns.values()), strict=True)
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", values)
        for sql in _indexes():
            connection.execute(sql)
        connection.execute("ANALYZE")
        connection.commit()
    finally:
        connection.close()


def write_postgres(tables: Mapping[str, Columns], url: str) -> None:
    """Fill a PostgreSQL database, with all keys indexed, and ANALYZE it."""
    with psycopg.connect(url, autocommit=True) as connection:
        for table, columns in tables.items():
            connection.execute(f"CREATE TABLE {table} ({_declared(columns)})".encode())
            with connection.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
                for row in zip(*(column.tolist() for column in columns.values()), strict=True):
                    copy.write_row(row)
        for sql in _indexes():
            connection.execute(sql.encode())
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        connection.execute("VACUUM ANALYZE")


def _ranked(rng: np.random.Generator, values: int, count: int, exponent: float) -> NDArray[np.int64]:
    weights = 1.0 / np.arange(1, values + 1) ** exponent
    return rng.choice(values, size=count, p=weights / weights.sum())


def _filter(rng: np.random.Generator, alias: int, table: str) -> tuple[int, str, str, tuple[int, ...]]:
    column, values = FILTERS[table][int(rng.integers(len(FILTERS[table])))]
    drawn = tuple((values * rng.random(2) ** 2).astype(int).tolist())  # what is met often is asked for often
    kind = str(rng.choice(["=", "<=", "IN"], p=[0.4, 0.4, 0.2]))
    return alias, column, kind, drawn if kind == "IN" else drawn[:1]


def _written(kind: str, values: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, values))})" if kind == "IN" else str(values[0])


def _declared(columns: Columns) -> str:
    return ", ".join(f"{name} INTEGER{' PRIMARY KEY' if name == 'id' else ''}" for name in columns)


def _indexes() -> list[str]:
    return [f"CREATE INDEX {child}_{column} ON {child} ({column})" for child, column, _ in LINKS]
