"""What statements took, and how they ended, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from quantum_db.errors import QuantumDBError


@dataclass(slots=True)
class Note:
    """How a call ended: ``ok``, ``kept``, or the last word of its problem's type."""

    outcome: str = "ok"


class SqlMetrics:
    """Counts calls."""

    def __init__(self, registry: CollectorRegistry) -> None:
        names = ["database", "call"]
        self._calls = Counter("sql_calls", "Calls by how they ended", [*names, "outcome"], registry=registry)
        self._seconds = Histogram("sql_call_seconds", "Time of a call, with its waiting", names, registry=registry)
        self._now = Gauge("sql_calls_now", "Calls that run or wait", ["database"], registry=registry)

    @contextmanager
    def noted(self, database: str, call: str) -> Iterator[Note]:
        """Note how long the block takes and how it ends."""
        note, begun = Note(), time.perf_counter()
        self._now.labels(database).inc()
        try:
            yield note
        except QuantumDBError as error:
            note.outcome = error.slug
            raise
        except BaseException:
            note.outcome = "cut-off"
            raise
        finally:
            self._now.labels(database).dec()
            self._calls.labels(database, call, note.outcome).inc()
            self._seconds.labels(database, call).observe(time.perf_counter() - begun)
