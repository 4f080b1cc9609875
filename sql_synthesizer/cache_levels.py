"""The levels of the cache of plans and results: a bounded store in memory, and one in a file."""

from __future__ import annotations

import heapq
import logging
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from quantum_db.errors import InvalidSettings

logger = logging.getLogger(__name__)

Strategy = Literal["lru", "adaptive"]

ENTRY_BYTES: Final = 200
"""What an entry takes besides its value."""


@dataclass(slots=True)
class Entry:
    """A value as bytes.

    Attributes:
        until_s: when it is too old, seconds since the epoch.
        cost_ms: what it took to make.
        uses: 1, and one more for each time it was found.
        rank: what has the least goes first.
    """

    value: bytes
    until_s: float
    cost_ms: float
    uses: int = 1
    rank: float = 0.0

    @property
    def size(self) -> int:
        """In bytes, with what it takes besides."""
        return len(self.value) + ENTRY_BYTES


class Level(Protocol):
    """One level."""

    def take(self, key: bytes, now_s: float) -> Entry | None:
        """Return an entry that is not too old, and forget it: its place is further up now."""

    def put(self, key: bytes, entry: Entry, now_s: float) -> list[tuple[bytes, Entry]]:
        """Keep an entry; return what had to go for it, perhaps itself."""

    def counts(self) -> tuple[int, int]:
        """Return how many entries there are, and their bytes."""

    def clear(self) -> None:
        """Forget all."""


class MemoryLevel:
    """Implements ``Level``. Ranks that have changed leave stale marks in the heap, which are passed over."""

    def __init__(self, max_bytes: int, strategy: Strategy) -> None:
        """Start empty."""
        self._max_bytes, self._strategy = max_bytes, strategy
        self._entries: dict[bytes, Entry] = {}
        self._heap: list[tuple[float, bytes]] = []
        self._bytes = 0
        self._age = 0.0

    def take(self, key: bytes, now_s: float) -> Entry | None:
        """See ``Level``."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._drop(key)
        return entry if now_s < entry.until_s else None

    def put(self, key: bytes, entry: Entry, now_s: float) -> list[tuple[bytes, Entry]]:
        """See ``Level``."""
        if key in self._entries:
            self._drop(key)
        if entry.size > self._max_bytes or now_s >= entry.until_s:
            return [(key, entry)]
        entry.rank = rank(self._strategy, self._age, entry)
        if self._strategy == "lru":
            self._age = entry.rank
        self._entries[key] = entry
        self._bytes += entry.size
        heapq.heappush(self._heap, (entry.rank, key))
        gone = []
        while self._bytes > self._max_bytes:
            least, name = heapq.heappop(self._heap)
            found = self._entries.get(name)
            if found is not None and found.rank == least:
                if self._strategy == "adaptive":
                    self._age = least
                self._drop(name)
                gone.append((name, found))
        return gone

    def counts(self) -> tuple[int, int]:
        """See ``Level``."""
        return len(self._entries), self._bytes

    def clear(self) -> None:
        """See ``Level``."""
        self._entries.clear()
        self._heap.clear()
        self._bytes = 0

    def entries(self) -> list[tuple[bytes, Entry]]:
        """Return all."""
        return list(self._entries.items())

    def _drop(self, key: bytes) -> None:
        self._bytes -= self._entries.pop(key).size
        if len(self._heap) > 64 + 4 * len(self._entries):
            self._heap = [(entry.rank, name) for name, entry in self._entries.items()]
            heapq.heapify(self._heap)


class FileLevel:
    """Implements ``Level`` in a SQLite file, for one process. A file that cannot be read is begun anew."""

    def __init__(self, path: Path, max_bytes: int, strategy: Strategy) -> None:
        """Open or make the file.

        Raises:
            InvalidSettings: it cannot be written.
        """
        self._max_bytes, self._strategy = max_bytes, strategy
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._opened(path)
        except (OSError, sqlite3.Error) as error:
            raise InvalidSettings(f"the file of kept answers {path} cannot be written: {error}") from error
        self._age = float(self._one("SELECT coalesce(max(rank), 0) FROM kept") if strategy == "lru" else 0.0)

    def take(self, key: bytes, now_s: float) -> Entry | None:
        """See ``Level``."""
        row = self._file.execute("SELECT value, until_s, cost_ms, uses FROM kept WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        self._file.execute("DELETE FROM kept WHERE key = ?", (key,))
        entry = Entry(bytes(row[0]), float(row[1]), float(row[2]), int(row[3]))
        return entry if now_s < entry.until_s else None

    def put(self, key: bytes, entry: Entry, now_s: float) -> list[tuple[bytes, Entry]]:
        """See ``Level``."""
        if entry.size > self._max_bytes or now_s >= entry.until_s:
            return [(key, entry)]
        entry.rank = rank(self._strategy, self._age, entry)
        if self._strategy == "lru":
            self._age = entry.rank
        values = (key, entry.value, entry.until_s, entry.cost_ms, entry.uses, entry.rank, entry.size)
        self._file.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        gone: list[tuple[bytes, Entry]] = []
        while self._one("SELECT coalesce(sum(size), 0) FROM kept") > self._max_bytes:
            row = self._file.execute(
                "DELETE FROM kept WHERE key = (SELECT key FROM kept ORDER BY rank LIMIT 1) "
                "RETURNING key, value, until_s, cost_ms, uses, rank"
            ).fetchone()
            self._age = max(self._age, float(row[5]))
            gone.append((bytes(row[0]), Entry(bytes(row[1]), float(row[2]), float(row[3]), int(row[4]))))
        return gone

    def counts(self) -> tuple[int, int]:
        """See ``Level``."""
        number, size = self._file.execute("SELECT count(*), coalesce(sum(size), 0) FROM kept").fetchone()
        return int(number), int(size)

    def clear(self) -> None:
        """See ``Level``."""
        self._file.execute("DELETE FROM kept")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _one(self, sql: str) -> float:
        return float(self._file.execute(sql).fetchone()[0])

    @staticmethod
    def _opened(path: Path) -> sqlite3.Connection:
        for attempt in (0, 1):
            file = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
            try:
                file.execute("PRAGMA synchronous = OFF")  # what a crash of the machine takes can be made anew
                file.execute(
                    "CREATE TABLE IF NOT EXISTS kept (key BLOB PRIMARY KEY, value BLOB, until_s REAL, cost_ms REAL, "
                    "uses INTEGER, rank REAL, size INTEGER) WITHOUT ROWID"
                )
                file.execute("CREATE INDEX IF NOT EXISTS kept_rank ON kept (rank)")
                file.execute("SELECT key, value, until_s, cost_ms, uses, rank, size FROM kept LIMIT 1").fetchone()
            except sqlite3.DatabaseError as error:
                file.close()
                if attempt:
                    raise
                logger.warning("kept answers in %s cannot be read and are begun anew: %s", path, error)
                path.unlink(missing_ok=True)
            else:
                return file
        raise AssertionError("the second attempt returns or raises")


def rank(strategy: Strategy, age: float, entry: Entry) -> float:
    """Return an entry's rank: the next number of a count, or what it saves for each byte above the age of the level."""
    if strategy == "lru":
        return age + 1.0
    return age + entry.uses * entry.cost_ms / entry.size
