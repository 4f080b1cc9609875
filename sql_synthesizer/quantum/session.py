"""The synthesizer for callers without an event loop, such as the command line."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sql_synthesizer.agent import QueryAgent, QueryResult, Timings
from sql_synthesizer.config import SqlSettings
from sql_synthesizer.quantum.synthesizer import QuantumSQLSynthesizer


class QuantumSession:
    """Answers one question after the other, in the caller's thread."""

    def __init__(self, agent: QueryAgent, settings: SqlSettings) -> None:
        """Begin. The agent stays the caller's. Raises InvalidSettings where a file cannot be written."""
        self._runner = asyncio.Runner()
        self._synthesizer = QuantumSQLSynthesizer(
            agent, settings.enabled, settings=settings, database=settings.agent.database_url
        )

    def answer(self, text: str, *, only_sql: bool = False) -> QueryResult:
        """Return an answer as the agent gives it. Raises as ``QuantumSQLSynthesizer.query``."""
        begun = time.perf_counter()
        found = self._runner.run(self._synthesizer.query(text, only_sql=only_sql))
        total_ms = (time.perf_counter() - begun) * 1e3
        return QueryResult(
            sql=found.sql,
            columns=found.columns,
            kinds=found.kinds,
            rows=found.rows,
            truncated=found.truncated,
            plan=None,
            explanation=found.explanation,
            tables=(),
            findings=(),
            timings=Timings(max(0.0, total_ms - found.elapsed_ms), found.elapsed_ms, total_ms),
        )

    def stats(self) -> dict[str, Any]:
        """Return health and metrics."""
        return {"health": self._synthesizer.get_health_status(), "quantum": self._synthesizer.get_quantum_metrics()}

    def clear_cache(self) -> None:
        """Forget what is kept."""
        self._synthesizer.clear_cache()

    def close(self) -> None:
        """Write what is kept to its file, if it has one."""
        self._runner.run(self._synthesizer.aclose())
        self._runner.close()
