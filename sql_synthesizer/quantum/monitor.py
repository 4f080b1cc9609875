"""What was measured of the last queries, and what follows from it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from sql_synthesizer.caches import CacheStats
from sql_synthesizer.quantum.modes import MIN_QUERIES, Effort
from sql_synthesizer.quantum.schedules import Step

HEALTHY_SUCCESS: Final = 0.95
HIGH_OVERHEAD: Final = 0.10
LOW_HITS: Final = 0.05


@dataclass(frozen=True, slots=True)
class QueryRecord:
    """One query that was let in.

    Attributes:
        failed: by the database or the deadline; what the caller did wrong (bad SQL, unclear words) is no failure.
        cached: the answer was kept.
        total_ms: from the question to the answer.
        overhead_ms: of these, counting, searching and failed attempts.
        saved_ms: against the engine's own order, where both were measured; else None.
        forced: whether our order gave the rows.
    """

    failed: bool
    cached: bool
    total_ms: float
    overhead_ms: float = 0.0
    saved_ms: float | None = None
    forced: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WindowStats:
    """Of the queries in the window; None where there are none of the kind."""

    queries: int
    success_rate: float | None
    p50_ms: float | None
    p95_ms: float | None
    forced: int
    effort: Effort


class Monitor:
    """The last queries. Safe from many threads."""

    def __init__(self, window: int) -> None:
        """Begin with none.

        Args:
            window: how many are looked at.
        """
        self._records: deque[QueryRecord] = deque(maxlen=window)
        self._reasons: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.queries = 0

    def note(self, record: QueryRecord) -> None:
        """Add one."""
        with self._lock:
            self._records.append(record)
            self.queries += 1
            if record.reason:
                self._reasons[record.reason.partition(":")[0][:80]] += 1

    def reasons(self) -> dict[str, int]:
        """Return why orders were forced or not, the ten most frequent."""
        with self._lock:
            return dict(self._reasons.most_common(10))

    def stats(self) -> WindowStats:
        """Return what the window shows."""
        with self._lock:
            records = list(self._records)
        ran = [record for record in records if not record.cached and not record.failed]
        times = np.array([record.total_ms for record in records if not record.failed])
        failed = sum(record.failed for record in records)
        effort = Effort(
            len(ran),
            sum(record.total_ms for record in ran),
            sum(record.overhead_ms for record in ran),
            sum(record.saved_ms or 0.0 for record in ran),
        )
        return WindowStats(
            len(records),
            1.0 - failed / len(records) if records else None,
            float(np.percentile(times, 50)) if len(times) else None,
            float(np.percentile(times, 95)) if len(times) else None,
            sum(record.forced for record in ran),
            effort,
        )


def recommendations(stats: WindowStats, cache: CacheStats, step: Step, timeout_s: float) -> list[str]:
    """Return what to change, each with the figure that says so; nothing below ``MIN_QUERIES`` queries."""
    if stats.queries < MIN_QUERIES:
        return []
    found = []
    if stats.success_rate is not None and stats.success_rate < HEALTHY_SUCCESS:
        found.append(
            f"{1.0 - stats.success_rate:.0%} of {stats.queries} queries failed by the database or its deadline: "
            "look at the database, or raise agent.timeout_seconds"
        )
    if stats.p95_ms is not None and stats.p95_ms > 500.0 * timeout_s:
        found.append(
            f"p95 is {stats.p95_ms:.0f} ms, more than half of the deadline of {timeout_s:g} s: raise "
            "agent.timeout_seconds, or add indexes"
        )
    effort = stats.effort
    share = effort.overhead_ms / effort.total_ms if effort.total_ms > 0.0 else 0.0
    if share > HIGH_OVERHEAD and effort.saved_ms < effort.overhead_ms and step != "conservative":
        found.append(
            f"optimising took {share:.0%} of the time and saved {effort.saved_ms:.0f} ms of the "
            f"{effort.overhead_ms:.0f} ms that it cost: set mode conservative, or adaptive"
        )
    lookups = sum(cache.outcomes.values())
    if lookups >= MIN_QUERIES and (cache.hit_rate or 0.0) < LOW_HITS and sum(cache.bytes.values()) > 0:
        found.append(
            f"{cache.hit_rate or 0.0:.0%} of {lookups} look-ups found an answer: raise cache.ttl if data "
            "changes seldom, or set the sizes of the cache to 0"
        )
    return found
