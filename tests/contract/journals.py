"""The journals that the contract of Journal is run over, with ways to reach behind them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from quantum_db.journals.open import open_journal
from quantum_db.ports import Journal
from tests.redis_server import RedisServer

STREAM = "facts"


class Place(Protocol):
    """Where one journal is kept. Damage is done to the stream ``STREAM``."""

    url: str

    def flip_bit(self, number: int) -> None:
        """In the body of a record."""

    def flip_bit_of_snapshot(self) -> None:
        """In the body of the first snapshot record."""

    def swap(self, one: int, other: int) -> None:
        """Exchange what is stored of two records."""

    def remove(self, number: int) -> None: ...

    def remove_snapshot(self) -> None: ...

    def remove_from_snapshot(self) -> None:
        """Its first record."""

    def remove_head(self) -> None: ...

    def damage_head(self) -> None:
        """Make it forget that its snapshot has records."""

    def go_back_to_nothing(self) -> None:
        """Lose all streams behind the back of the journals that are open."""


class SqlitePlace:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def flip_bit(self, number: int) -> None:
        self._flip("records", "number", number)

    def flip_bit_of_snapshot(self) -> None:
        self._flip("snapshots", "position", 1)

    def _flip(self, table: str, column: str, place: int) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            (body,) = connection.execute(f"SELECT body FROM {table} WHERE {column} = ?", (place,)).fetchone()
            flipped = body[:2] + chr(ord(body[2]) ^ 1) + body[3:]
            connection.execute(f"UPDATE {table} SET body = ? WHERE {column} = ?", (flipped, place))

    def swap(self, one: int, other: int) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            rows = [
                connection.execute("SELECT checksum, body FROM records WHERE number = ?", (n,)).fetchone()
                for n in (one, other)
            ]
            for n, row in zip((other, one), rows, strict=True):
                connection.execute("UPDATE records SET checksum = ?, body = ? WHERE number = ?", (*row, n))

    def remove(self, number: int) -> None:
        self._change("DELETE FROM records WHERE number = ?", number)

    def remove_snapshot(self) -> None:
        self._change("DELETE FROM snapshots")

    def remove_from_snapshot(self) -> None:
        self._change("DELETE FROM snapshots WHERE position = ?", 1)

    def remove_head(self) -> None:
        self._change("DELETE FROM streams")

    def damage_head(self) -> None:
        self._change("UPDATE streams SET snapshot_records = 0")

    def go_back_to_nothing(self) -> None:
        for table in ("streams", "records", "snapshots"):
            with closing(sqlite3.connect(self.path)) as connection, connection:
                connection.execute(f"DELETE FROM {table}")

    def _change(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            assert connection.execute(statement, values).rowcount > 0


class RedisPlace:
    def __init__(self, server: RedisServer, name: str) -> None:
        self.server, self.name = server, name
        self.url = f"{server.url}/0?name={name}"

    def key(self, part: str) -> str:
        return f"{{{self.name}}}:stream:{STREAM}:{part}"

    def flip_bit(self, number: int) -> None:
        self._rewrite({number: _flipped})

    def flip_bit_of_snapshot(self) -> None:
        with self.server.client() as client:
            client.lset(self.key("snapshot"), 0, _flipped(client.lindex(self.key("snapshot"), 0)))

    def swap(self, one: int, other: int) -> None:
        with self.server.client() as client:
            entries = dict(client.xrange(self.key("records")))
        stored = {n: entries[f"{n}-0".encode()][b"record"] for n in (one, other)}
        self._rewrite({one: lambda _: stored[other], other: lambda _: stored[one]})

    def remove(self, number: int) -> None:
        with self.server.client() as client:
            assert client.xdel(self.key("records"), f"{number}-0") == 1

    def remove_snapshot(self) -> None:
        with self.server.client() as client:
            assert client.delete(self.key("snapshot")) == 1

    def remove_from_snapshot(self) -> None:
        with self.server.client() as client:
            assert client.lpop(self.key("snapshot")) is not None

    def remove_head(self) -> None:
        with self.server.client() as client:
            assert client.delete(self.key("head")) == 1

    def damage_head(self) -> None:
        with self.server.client() as client:
            held = client.get(self.key("head"))
            assert held.count(b" 2 2 ") == 1
            client.set(self.key("head"), held.replace(b" 2 2 ", b" 2 0 "))

    def go_back_to_nothing(self) -> None:
        with self.server.client() as client:
            assert client.delete(*client.keys(f"{{{self.name}}}:stream:*"))

    def _rewrite(self, change: dict[int, Any]) -> None:
        with self.server.client() as client:
            entries = client.xrange(self.key("records"))
            client.delete(self.key("records"))
            for entry_id, fields in entries:
                number = int(entry_id.split(b"-")[0])
                stored = change.get(number, lambda same: same)(fields[b"record"])
                client.xadd(self.key("records"), {"record": stored}, id=entry_id)


def _flipped(stored: bytes) -> bytes:
    return stored[:12] + bytes([stored[12] ^ 1]) + stored[13:]


@contextlib.contextmanager
def opened(place: Place) -> Iterator[Journal]:
    journal = open_journal(place.url)
    try:
        yield journal
    finally:
        journal.close()


def numbered(first: int, last: int) -> list[dict[str, Any]]:
    """Records that hold their own numbers."""
    return [{"n": n, "text": f"fact {n} ✓"} for n in range(first, last + 1)]


def held(journal: Journal, after: int = 0) -> list[tuple[int, dict[str, Any]]]:
    return list(journal.read(STREAM, after))


def rows(first: int, last: int) -> list[tuple[int, dict[str, Any]]]:
    """What reading ``numbered`` gives."""
    return [(record["n"], record) for record in numbered(first, last)]
