"""``QueryAgent``: a question in words, or SQL, to one database; a checked statement and its rows back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar

from quantum_db.errors import InvalidRequest, Overloaded, Unavailable
from sql_synthesizer.engines.ports import Engine, JsonValue, Limits, Plan, Rows
from sql_synthesizer.engines.reflection import Reflection
from sql_synthesizer.engines.urls import open_engine
from sql_synthesizer.guard.binding import written
from sql_synthesizer.guard.check import Checked, Guard
from sql_synthesizer.guard.detectors import Finding, detect
from sql_synthesizer.schema import ColumnKind, Schema
from sql_synthesizer.texts import is_sql
from sql_synthesizer.translating import Translation, Translator
from sql_synthesizer.words.translating import WordsTranslator

MAX_WAITING: Final = 100
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went, in milliseconds; 0 for what was not done."""

    read_ms: float
    run_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text was taken for.

    Attributes:
        statement: that may run.
        sql: the same for people, with its values in place.
        translation: of words; None where the text was SQL.
        findings: what in the text looks like an attack. They decide nothing.
        read_ms: what it took to translate and to check, in milliseconds.
    """

    statement: Checked
    sql: str
    translation: Translation | None
    findings: tuple[Finding, ...]
    read_ms: float


@dataclass(frozen=True, slots=True)
class QueryResult:
    """An answer.

    Attributes:
        sql: what ran, with its values in place.
        columns: names of the result's columns.
        kinds: what their values are.
        rows: see ``Rows``.
        truncated: whether there were more rows than the limits allow.
        plan: how the engine runs it, where that was asked for.
        explanation: how words were understood; empty for SQL.
        tables: that were read.
        findings: what in the text looks like an attack. They decide nothing.
        timings: where the time went.
    """

    sql: str
    columns: tuple[str, ...]
    kinds: tuple[ColumnKind, ...]
    rows: tuple[tuple[JsonValue, ...], ...]
    truncated: bool
    plan: Plan | None
    explanation: tuple[str, ...]
    tables: tuple[str, ...]
    findings: tuple[Finding, ...]
    timings: Timings


class QueryAgent:
    """Asks one database, in threads of its own, so many at a time. Implements ``StatementSource``.

    The ``async`` methods are for any event loop; ``read``, ``checked`` and ``answer`` work in the caller's thread.
    """

    def __init__(
        self,
        database_url: str,
        *,
        hidden: Sequence[str] = (),
        limits: Limits | None = None,
        reflection: Reflection | None = None,
        translate: Translator | None = None,
        pool_size: int = 4,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """Open the database.

        Args:
            database_url: ``duckdb:///path``, ``sqlite:///path`` or ``postgresql://...``.
            hidden: tables and columns that nobody may see, as in ``Reflection``.
            limits: of each statement.
            reflection: how the schema is read; what it hides is hidden, too.
            translate: from words to SQL; None takes the rules of ``sql_synthesizer.words``.
            pool_size: statements that run at a time.
            max_waiting: that wait beside them; more are refused.

        Raises:
            InvalidSettings: the URL or a pattern of what is hidden cannot be used.
            Unavailable: the database cannot be opened.
        """
        if pool_size < 1 or max_waiting < 0:
            raise InvalidRequest.at(
                "pool_size", f"{pool_size} must be at least 1, and max_waiting {max_waiting} at least 0"
            )
        base = reflection or Reflection()
        shown = Reflection((*base.hidden, *hidden), base.ttl_s, base.timeout_s, base.exact_rows, base.max_values)
        self.limits: Final = limits or Limits()
        self._engine = open_engine(database_url, shown)
        self._translate = translate or WordsTranslator()
        self._pool = ThreadPoolExecutor(pool_size, thread_name_prefix="query-agent")
        self._room = threading.BoundedSemaphore(pool_size + max_waiting)
        self._guard: tuple[str, Guard] | None = None

    @property
    def engine(self) -> Engine:
        """The database, in its sandbox."""
        return self._engine

    async def query(self, question: str, limits: Limits | None = None, *, explain: bool = False) -> QueryResult:
        """Answer a question in words, or run SQL.

        Args:
            question: what begins as a statement does is taken for SQL.
            limits: of this statement, in place of the agent's.
            explain: whether the engine's plan is wanted, too.

        Raises:
            AmbiguousQuestion: there are several readings, which the error lists.
            UnclearQuestion: the words cannot be tied to the database well enough.
            SqlInvalid, SqlRefused: the statement cannot, or must not, run.
            SqlTimeout: it took too long, or waited too long for its turn.
            Overloaded: too many are waiting.
            Unavailable: the database does not answer.
        """
        return await self._in_pool(lambda: self.answer(question, limits, explain=explain), limits)

    async def run_sql(self, sql: str, limits: Limits | None = None, *, explain: bool = False) -> QueryResult:
        """Run SQL, whatever it begins with. Raises as ``query`` does."""
        return await self._in_pool(lambda: self.answer(sql, limits, explain=explain, only_sql=True), limits)

    async def explain(self, text: str, limits: Limits | None = None) -> tuple[Reading, Plan]:
        """Return what a text is taken for and how the engine would run it, without running it."""
        return await self._in_pool(lambda: self._explained(text, limits), limits)

    async def schema(self) -> Schema:
        """Return what may be seen of the database."""
        return await self._in_pool(self._engine.schema, None)

    def answer(
        self, text: str, limits: Limits | None = None, *, explain: bool = False, only_sql: bool = False
    ) -> QueryResult:
        """Do what ``query`` and ``run_sql`` do, in this thread."""
        begun = time.perf_counter()
        limits = limits or self.limits
        reading = self.read(text, limits, only_sql=only_sql)
        statement = reading.statement
        plan = self._engine.explain(statement.sql, statement.parameters, limits) if explain else None
        rows = cut(self._engine.run(statement.sql, statement.parameters, limits), limits)
        translation = reading.translation
        return QueryResult(
            sql=reading.sql,
            columns=rows.columns,
            kinds=rows.kinds,
            rows=rows.rows,
            truncated=rows.truncated,
            plan=plan,
            explanation=translation.explanation if translation is not None else (),
            tables=tuple(sorted(statement.tables)),
            findings=reading.findings,
            timings=Timings(reading.read_ms, rows.elapsed_ms, (time.perf_counter() - begun) * 1e3),
        )

    def checked(self, text: str, limits: Limits | None = None) -> Checked:
        """Return the statement of a text, SQL or words, as it may run. Raises as ``query`` does."""
        return self.read(text, limits).statement

    def read(self, text: str, limits: Limits | None = None, *, only_sql: bool = False) -> Reading:
        """Return what a text is taken for. Raises as ``query`` does."""
        begun = time.perf_counter()
        if not text.strip():
            raise InvalidRequest.at("question", "there is none: give words or SQL")
        schema = self._engine.schema()
        findings = detect(text, schema.dialect)
        translation = None if only_sql or is_sql(text) else self._translate(text, schema)
        sql = text if translation is None else translation.sql
        statement = self._guard_of(schema).check(sql, limits or self.limits)
        shown = written(statement.tree, schema.dialect)
        return Reading(statement, shown, translation, findings, (time.perf_counter() - begun) * 1e3)

    async def aclose(self) -> None:
        """Wait for what runs, and let go of the database. Idempotent."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """See ``aclose``."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._engine.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _guard_of(self, schema: Schema) -> Guard:
        known = self._guard
        if known is None or known[0] != schema.version:
            known = self._guard = (schema.version, Guard(schema))
        return known[1]

    def _explained(self, text: str, limits: Limits | None) -> tuple[Reading, Plan]:
        reading = self.read(text, limits)
        statement = reading.statement
        return reading, self._engine.explain(statement.sql, statement.parameters, limits or self.limits)

    async def _in_pool(self, work: Callable[[], T], limits: Limits | None) -> T:
        """Run something in a thread of the pool; how many wait, and how long each may, is bounded."""
        patience_s = (limits or self.limits).timeout_s
        if not self._room.acquire(blocking=False):
            raise Overloaded("too many statements are waiting for this database", retry_after_s=1.0)
        queued = time.monotonic()

        def run() -> T:
            try:
                if time.monotonic() - queued > patience_s:
                    raise Overloaded(f"the statement waited {patience_s:g} s for its turn", retry_after_s=1.0)
                return work()
            finally:
                self._room.release()

        try:
            future = self._pool.submit(run)
        except RuntimeError as error:
            self._room.release()
            raise Unavailable("the agent is closed") from error
        future.add_done_callback(lambda one: self._room.release() if one.cancelled() else None)
        return await asyncio.wrap_future(future)


def cut(rows: Rows, limits: Limits) -> Rows:
    """Return at most ``max_rows`` rows: a checked statement gives one more, which says that there are more."""
    if len(rows.rows) <= limits.max_rows:
        return rows
    return Rows(rows.columns, rows.kinds, rows.rows[: limits.max_rows], True, rows.elapsed_ms)
