"""PostgreSQL's dates reach further than Python's: what does not fit is read as the text that the server writes."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.types.datetime import DateLoader, IntervalLoader, TimeLoader, TimestampLoader, TimestamptzLoader


def read_leniently(connection: psycopg.Connection[Any]) -> None:
    """Have a connection read "infinity" and dates before Christ as text, instead of failing."""
    for name, loader in (
        ("date", DateLoader),
        ("time", TimeLoader),
        ("timestamp", TimestampLoader),
        ("timestamptz", TimestamptzLoader),
        ("interval", IntervalLoader),
    ):
        connection.adapters.register_loader(name, _lenient(loader))


def _lenient(base: type[Loader]) -> type[Loader]:
    class Lenient(base):  # type: ignore[misc, valid-type]
        def load(self, data: Buffer) -> Any:
            try:
                return super().load(data)
            except psycopg.DataError:
                return bytes(data).decode()

    return Lenient
