"""What a journal costs, SQLite and Redis, each beside its plain store: ``python -m benchmarks.journal``.

The peer writes the same JSON with the same flush policy and nothing else: one INSERT a transaction into a SQLite table
(WAL, synchronous FULL), or one RPUSH (appendfsync always). No number, checksum, epoch or repetition is kept there, and
its reading decodes the JSON and checks nothing. For 64 callers SQLite's peer is asked by one thread after the other;
Redis's by 64 concurrent clients, whose commands it flushes together. Medians of rounds that alternate the two.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import redis
import redis.asyncio

from quantum_db.journals.group_commit import GroupCommit
from quantum_db.journals.redis import RedisJournal
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.ports import Journal
from tests.redis_server import DURABLE, running_redis

CALLERS = 64
STREAM = "facts"
RECORD = {
    "kind": "intent",
    "job": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "backend": "ionq.qpu.forte-1",
    "shots": 4096,
    "circuits": 30,
    "usd": 12.4166,
    "at_s": 1_764_000_000.25,
}
TEXT = json.dumps(RECORD)
READ, KEPT, SNAPSHOT = 100_000, 10_000, 1_000
"""Records read; those left by the compaction; those of its snapshot."""
CHUNK = 20_000


class Plain(Protocol):
    """The store under a journal, used without one."""

    def append(self) -> None:
        """One record, durable when it returns."""

    def append_by_callers(self, each: int) -> None:
        """As many records from each of the callers."""

    def fill(self) -> None:
        """Hold ``READ`` records."""

    def read(self) -> int:
        """Decode all records; return their number."""


class PlainSqlite:
    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "CREATE TABLE records (number INTEGER PRIMARY KEY, body TEXT)",
        ):
            self._connection.execute(statement)

    def append(self) -> None:
        self._connection.execute("INSERT INTO records (body) VALUES (?)", (json.dumps(RECORD),))

    def append_by_callers(self, each: int) -> None:
        for _ in range(CALLERS * each):
            self.append()

    def fill(self) -> None:
        self._connection.execute("DELETE FROM records")
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT INTO records (body) VALUES (?)", itertools.repeat((TEXT,), READ))
        self._connection.execute("COMMIT")

    def read(self) -> int:
        rows = self._connection.execute("SELECT number, body FROM records ORDER BY number")
        return sum(1 for _, body in rows if json.loads(body))


class PlainRedis:
    def __init__(self, url: str) -> None:
        self._url = url
        self._client = redis.Redis.from_url(url)

    def append(self) -> None:
        self._client.rpush("plain", json.dumps(RECORD))

    def append_by_callers(self, each: int) -> None:
        asyncio.run(self._append_by_callers(each))

    async def _append_by_callers(self, each: int) -> None:
        async with redis.asyncio.Redis.from_url(self._url) as client:

            async def call() -> None:
                for _ in range(each):
                    await client.rpush("plain", json.dumps(RECORD))

            await asyncio.gather(*(call() for _ in range(CALLERS)))

    def fill(self) -> None:
        self._client.delete("plain")
        for _ in range(0, READ, CHUNK):
            self._client.rpush("plain", *[TEXT] * CHUNK)

    def read(self) -> int:
        batches = (self._client.lrange("plain", first, first + 999) for first in range(0, READ, 1000))
        return sum(1 for batch in batches for body in batch if json.loads(body))


@contextmanager
def stores(folder: Path) -> Iterator[dict[str, tuple[Journal, Plain]]]:
    (folder / "redis").mkdir()
    with running_redis(*DURABLE, folder=folder / "redis") as server:
        pairs: dict[str, tuple[Journal, Plain]] = {
            "SQLite": (SqliteJournal(folder / "journal.sqlite"), PlainSqlite(folder / "plain.sqlite")),
            "Redis": (RedisJournal(server.url), PlainRedis(server.url)),
        }
        try:
            yield pairs
        finally:
            for journal, _ in pairs.values():
                journal.close()


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


async def append_by_callers(journal: Journal, each: int, sizes: list[int]) -> None:
    """Append through a ``GroupCommit``; note how many records each write had."""

    class Counted:
        def append(self, stream: str, records: Any, *, epoch: int | None = None) -> int:
            sizes.append(len(records))
            return journal.append(stream, records, epoch=epoch)

    group = GroupCommit(Counted(), STREAM)  # type: ignore[arg-type]

    async def call() -> None:
        for _ in range(each):
            await group.append([RECORD])

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    await group.close()


def measure_appends(name: str, journal: Journal, plain: Plain, rounds: int, count: int) -> None:
    each = max(1, count // CALLERS) * 4
    sizes: list[int] = []
    works: dict[str, tuple[int, Callable[[], Any]]] = {
        "1": (count, lambda: [journal.append(STREAM, [RECORD]) for _ in range(count)]),
        "1 plain": (count, lambda: [plain.append() for _ in range(count)]),
        "64": (CALLERS * each, lambda: asyncio.run(append_by_callers(journal, each, sizes))),
        "64 plain": (CALLERS * each, lambda: plain.append_by_callers(each)),
    }
    found: dict[str, list[float]] = {what: [] for what in works}
    for _ in range(rounds):
        for what, (appends, work) in works.items():
            found[what].append(appends / seconds(work))
    rates = {what: statistics.median(values) for what, values in found.items()}
    for callers, size in (("1", 1.0), ("64", statistics.mean(sizes))):
        journal_rate, plain_rate = rates[callers], rates[f"{callers} plain"]
        cells = [f"{size:.0f}", f"{journal_rate:,.0f}", f"{plain_rate:,.0f}"]
        cells += [f"{journal_rate / plain_rate:.2f}", f"{journal_rate / rates['1 plain']:.2f}"]
        print(f"| {name} | {callers} | {' | '.join(cells)} |", flush=True)


def measure_reading(name: str, journal: Journal, plain: Plain, rounds: int) -> None:
    stream = "long"
    for _ in range(0, READ, CHUNK):
        journal.append(stream, [RECORD] * CHUNK)
    plain.fill()
    whole: list[float] = []
    peer: list[float] = []
    for _ in range(rounds):
        whole.append(seconds(lambda: expect(sum(1 for _ in journal.read(stream)), READ)))
        peer.append(seconds(lambda: expect(plain.read(), READ)))
    compaction = seconds(lambda: journal.compact(stream, READ - KEPT, [RECORD] * SNAPSHOT))
    rest = [seconds(lambda: expect(sum(1 for _ in journal.read(stream)), KEPT + SNAPSHOT)) for _ in range(rounds)]
    times = [statistics.median(values) for values in (whole, peer, rest)]
    cells = [f"{value:.3f}" for value in times[:2]] + [f"{times[0] / times[1]:.2f}"]
    cells += [f"{compaction:.3f}", f"{times[2]:.3f}", f"{times[2] / times[0]:.2f}"]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def expect(found: int, wanted: int) -> None:
    if found != wanted:
        raise SystemExit(f"read {found} records instead of {wanted}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--appends", type=int, default=1_000, help="in a round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qqc-bench-") as folder, stores(Path(folder)) as pairs:
        print(f"records of {len(TEXT)} bytes\n")
        print("| journal | callers | records a write | appends/s | plain/s | over plain | over one plain caller |")
        print("|---|---|---|---|---|---|---|")
        for name, (journal, plain) in pairs.items():
            measure_appends(name, journal, plain, arguments.rounds, arguments.appends)
        print(f"\n| journal | {READ:,} records, s | plain, s | over plain | compaction, s | then, s | over before |")
        print("|---|---|---|---|---|---|---|")
        for name, (journal, plain) in pairs.items():
            measure_reading(name, journal, plain, arguments.rounds)


if __name__ == "__main__":
    main()
