"""Plans and results that are kept, in three levels: in memory, in memory compressed, and in a file.

What is kept has a name made of the normalised statement, the schema's version and the data's version: after a write it
is another name, and the old answer is never given again. All is JSON, also what is read back from the file or from
Redis, where replicas may keep answers together behind the three levels. What falls out of a level goes to the next one
down; what is found goes up to the first. One look-up is one hit or one miss, however many levels were looked at.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from quantum_db.kept_answers import SharedAnswers
from quantum_db.ports import Clock
from sql_synthesizer.cache_levels import Entry, FileLevel, Level, MemoryLevel, Strategy
from sql_synthesizer.engines.ports import Limits
from sql_synthesizer.guard.check import Checked

logger = logging.getLogger(__name__)

Json = dict[str, Any]
Kind = Literal["plan", "result"]
Outcome = Literal["l1", "l2", "l3", "shared", "miss"]


@dataclass(frozen=True, slots=True)
class SqlCachePolicy:
    """What is kept.

    Attributes:
        l1_bytes, l2_bytes, l3_bytes: in memory, in memory compressed, in the file; 0 keeps nothing there.
        ttl_s: how long a result is kept.
        plan_ttl_s: how long a plan is.
        strategy: what goes first where there is no room: ``lru`` what was used least lately; ``adaptive`` what saved
            least, measured: its uses times the milliseconds that it took to make, for each byte, what was used long
            ago ageing (Greedy-Dual-Size-Frequency: L. Cherkasova, HP Labs report HPL-98-69, 1998).
        file: of the third level; None has no third level.
    """

    l1_bytes: int = 16 * 2**20
    l2_bytes: int = 64 * 2**20
    l3_bytes: int = 256 * 2**20
    ttl_s: float = 300.0
    plan_ttl_s: float = 3_600.0
    strategy: Strategy = "adaptive"
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What has been asked and what is there.

    Attributes:
        outcomes: of look-ups: where the answer was, or ``miss``; each look-up once.
        saved_ms: what the answers found took to make, all together.
        entries, bytes: of each level.
    """

    outcomes: dict[Outcome, int]
    saved_ms: float
    entries: dict[str, int]
    bytes: dict[str, int]

    @property
    def hit_rate(self) -> float | None:
        """The share of look-ups that found an answer; None before the first."""
        lookups = sum(self.outcomes.values())
        return None if not lookups else 1.0 - self.outcomes.get("miss", 0) / lookups


def cache_key(
    kind: Kind, database: str, checked: Checked, schema_version: str, data_version: str, limits: Limits
) -> bytes | None:
    """Return the name of a statement's plan or result; None where it must not be kept because it is volatile.

    Args:
        database: tells databases apart that may have the same versions.
        limits: those of rows and bytes count, for they cut a result off.
    """
    if checked.volatile:
        return None
    parts = orjson.dumps((kind, database, checked.key, schema_version, data_version, limits.max_rows, limits.max_bytes))
    return hashlib.blake2b(parts, digest_size=20, person=b"sql-cache").digest()


class SqlCaches:
    """The three levels, and what replicas share behind them. Safe from many threads; ``find`` is for one loop."""

    def __init__(self, policy: SqlCachePolicy, clock: Clock, shared: SharedAnswers | None = None) -> None:
        """Open the levels.

        Raises:
            InvalidSettings: the file cannot be written.
        """
        self._policy, self._clock, self._shared = policy, clock, shared
        self._l1 = MemoryLevel(policy.l1_bytes, policy.strategy)
        self._l2 = MemoryLevel(policy.l2_bytes, policy.strategy)
        self._l3 = None if policy.file is None else FileLevel(policy.file, policy.l3_bytes, policy.strategy)
        self._lock = threading.Lock()
        self._outcomes: Counter[Outcome] = Counter()
        self._saved_ms = 0.0

    async def find(self, key: bytes | None) -> Json | None:
        """Return what is kept under a name, from wherever it is; None, and a miss, where nothing is, or no name."""
        found = self.find_here(key)
        if found is not None or key is None or self._shared is None:
            self._count("miss" if found is None else found[0], 0.0 if found is None else found[2])
            return None if found is None else found[1]
        answer = await self._shared.get(key)
        value = (None if answer is None else _read(answer[0])) or {}
        content, cost_ms = value.get("content"), value.get("cost_ms")
        if answer is None or not isinstance(content, dict) or not isinstance(cost_ms, int | float):
            self._count("miss", 0.0)
            return None
        self._count("shared", cost_ms)
        self._put(key, Entry(orjson.dumps(content), self._clock.now_s() + answer[1], cost_ms))
        return content

    def find_here(self, key: bytes | None) -> tuple[Outcome, Json, float] | None:
        """Return the level, the value and its cost where one of the three levels has it. Counts nothing."""
        if key is None:
            return None
        now_s = self._clock.now_s()
        with self._lock:
            for name, level, unpack in self._levels():
                entry = level.take(key, now_s)
                value = None if entry is None else _read(entry.value, unpack)
                if entry is None or value is None:
                    continue
                raw = entry.value if unpack is None else unpack(entry.value)
                self._put_locked(key, Entry(raw, entry.until_s, entry.cost_ms, entry.uses + 1), now_s)
                return name, value, entry.cost_ms
        return None

    def keep(self, kind: Kind, key: bytes | None, value: Json, cost_ms: float) -> None:
        """Keep a value that took ``cost_ms`` to make; without a name it is not kept.

        Raises:
            TypeError: it is not JSON.
        """
        if key is None:
            return
        keep_s = self._policy.plan_ttl_s if kind == "plan" else self._policy.ttl_s
        self._put(key, Entry(orjson.dumps(value), self._clock.now_s() + keep_s, cost_ms))
        if self._shared is not None:
            self._shared.put(key, orjson.dumps({"content": value, "cost_ms": cost_ms}), keep_s)

    def clear(self) -> None:
        """Forget what the three levels hold. What replicas share is left to its time."""
        with self._lock:
            for _, level, _ in self._levels():
                level.clear()

    def stats(self) -> CacheStats:
        """Return what has been asked and what is there."""
        with self._lock:
            entries: dict[str, int] = {}
            sizes: dict[str, int] = {}
            for name, level, _ in self._levels():
                entries[name], sizes[name] = level.counts()
            return CacheStats(dict(self._outcomes), self._saved_ms, entries, sizes)

    def close(self) -> None:
        """Write what is in memory to the file, if there is one, and close it. Idempotent."""
        with self._lock:
            if self._l3 is None:
                return
            now_s = self._clock.now_s()
            for key, entry in self._l1.entries():
                self._l3.put(key, _compressed(entry), now_s)
            for key, entry in self._l2.entries():
                self._l3.put(key, entry, now_s)
            self._l3.close()
            self._l3 = None
            self._l1.clear()
            self._l2.clear()

    def _levels(self) -> list[tuple[Outcome, Level, Callable[[bytes], bytes] | None]]:
        levels: list[tuple[Outcome, Level, Callable[[bytes], bytes] | None]] = [
            ("l1", self._l1, None),
            ("l2", self._l2, zlib.decompress),
        ]
        return levels if self._l3 is None else [*levels, ("l3", self._l3, zlib.decompress)]

    def _count(self, outcome: Outcome, saved_ms: float) -> None:
        with self._lock:
            self._outcomes[outcome] += 1
            self._saved_ms += saved_ms

    def _put(self, key: bytes, entry: Entry) -> None:
        with self._lock:
            for _, level, _ in self._levels()[1:]:
                level.take(key, 0.0)  # an older value further down would be found once this one has gone
            self._put_locked(key, entry, self._clock.now_s())

    def _put_locked(self, key: bytes, entry: Entry, now_s: float) -> None:
        for name, gone in self._l1.put(key, entry, now_s):
            for deeper, further in self._l2.put(name, _compressed(gone), now_s):
                if self._l3 is not None:
                    self._l3.put(deeper, further, now_s)


def _compressed(entry: Entry) -> Entry:
    return Entry(zlib.compress(entry.value, 1), entry.until_s, entry.cost_ms, entry.uses)


def _read(value: bytes, unpack: Callable[[bytes], bytes] | None = None) -> Json | None:
    """Return what bytes say; None, and a warning, where they are damaged."""
    try:
        found = orjson.loads(value if unpack is None else unpack(value))
    except (orjson.JSONDecodeError, zlib.error) as error:
        logger.warning("a kept answer is damaged and made anew: %s", error)
        return None
    return found if isinstance(found, dict) else None
