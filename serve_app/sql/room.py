"""The databases of one replica: each with a bound on what runs and waits, and a deadline for every request."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from quantum_db.errors import DeadlineExceeded, Overloaded, QuantumDBError, Unavailable
from quantum_db.sql_calls import SqlOrder
from serve_app.sql.config import SqlConfig, SqlSource
from serve_app.sql.metrics import SqlMetrics
from sql_synthesizer.agent import QueryAgent, cut
from sql_synthesizer.config import CacheSettings, PerformanceSettings, SecuritySettings, SqlSettings
from sql_synthesizer.engines.deadline import Stopper
from sql_synthesizer.engines.ports import Limits
from sql_synthesizer.multi_query import BatchAnswer, BatchResult
from sql_synthesizer.quantum.synthesizer import QuantumSQLSynthesizer
from sql_synthesizer.schema import Schema, Table

logger = logging.getLogger(__name__)

Json = dict[str, Any]

GRACE_S: Final = 2.0
"""How long a statement that was told to end may take to do so."""
NO_LIMIT: Final = 2**40
"""For what the ingress has seen to already: sizes of bodies, and callers whose statements keep being refused."""


class Database:
    """One database, opened when it is first asked."""

    def __init__(self, name: str, source: SqlSource, config: SqlConfig) -> None:
        """Open nothing yet."""
        self._name, self._source, self._config = name, source, config
        self._opening = asyncio.Lock()
        self._agent: QueryAgent | None = None
        self._synthesizers: dict[bool, QuantumSQLSynthesizer] = {}
        self._places = asyncio.Semaphore(config.statements)
        self._inside = 0

    async def query(self, order: SqlOrder) -> Json:
        """See ``SqlDesk.query``."""
        synthesizer = await self._synthesizer(order.optimize)
        (text,) = order.texts
        limits = Limits(max_rows=order.max_rows, timeout_s=order.timeout_s)
        return (await synthesizer.query(text, limits=limits, only_sql=order.only_sql)).to_json()

    async def explain(self, order: SqlOrder) -> Json:
        """See ``SqlDesk.explain``."""
        synthesizer = await self._synthesizer(order.optimize)
        (text,) = order.texts
        limits = Limits(max_rows=order.max_rows, timeout_s=order.timeout_s)
        return await synthesizer.explain(text, limits=limits, only_sql=order.only_sql)

    async def batch(self, order: SqlOrder) -> Json:
        """See ``SqlDesk.batch``. When the time is over, statements that have not been answered fail."""
        synthesizer, stopper = await self._synthesizer(order.optimize), Stopper()
        limits = Limits(max_rows=order.max_rows, timeout_s=order.timeout_s, stopper=stopper)
        loop = asyncio.get_running_loop()
        ending = loop.call_later(order.timeout_s, loop.run_in_executor, None, stopper.stop)
        try:
            return batch_view(await synthesizer.batch(order.texts, limits=limits), limits)
        except asyncio.CancelledError:  # its time is over, or the caller has left
            loop.run_in_executor(None, stopper.stop)
            raise
        finally:
            ending.cancel()

    async def schema(self, order: SqlOrder) -> Json:  # noqa: ARG002 - as all calls take it
        """See ``SqlDesk.schema``."""
        await self._synthesizer(True)
        assert self._agent is not None
        return {"database": self._name, **schema_view(await self._agent.schema())}

    @asynccontextmanager
    async def place(self, patience_s: float) -> AsyncIterator[None]:
        """Wait for one of the places for statements.

        Raises:
            Overloaded: too many are waiting, or none became free in time.
        """
        if self._inside >= self._config.statements + self._config.max_waiting:
            raise Overloaded(f"too many statements are waiting for the database {self._name}", retry_after_s=1.0)
        self._inside += 1
        try:
            try:
                async with asyncio.timeout(patience_s):
                    await self._places.acquire()
            except TimeoutError:
                told = f"the statement waited {patience_s:g} s for its turn at the database {self._name}"
                raise Overloaded(told, retry_after_s=1.0) from None
            try:
                yield
            finally:
                self._places.release()
        finally:
            self._inside -= 1

    async def close(self) -> None:
        """Let go of the database. Idempotent."""
        for synthesizer in self._synthesizers.values():
            await synthesizer.aclose()
        self._synthesizers.clear()
        if self._agent is not None:
            await self._agent.aclose()
            self._agent = None

    async def _synthesizer(self, optimize: bool) -> QuantumSQLSynthesizer:
        async with self._opening:
            if self._agent is None:
                self._agent = await asyncio.to_thread(self._open)
            if optimize not in self._synthesizers:
                self._synthesizers[optimize] = QuantumSQLSynthesizer(
                    self._agent, enable_quantum=optimize, settings=self._settings()
                )
            return self._synthesizers[optimize]

    def _open(self) -> QueryAgent:
        url = os.environ.get(self._source.url_env)
        if not url:
            raise Unavailable(f"the worker of the database {self._name} was not told where it is")
        try:
            return QueryAgent(url, hidden=self._source.hidden, pool_size=self._config.statements)
        except QuantumDBError as error:
            # what it says may name hosts and roles, which are not for callers
            logger.warning("the database %s cannot be opened: %s", self._name, error.detail)
            raise Unavailable(f"the database {self._name} cannot be opened", retry_after_s=5.0) from error

    def _settings(self) -> SqlSettings:
        return SqlSettings(
            mode=self._config.mode,
            cache=CacheSettings(l1_size=self._config.cache_mib, l2_size=0.0, l3_size=0.0),
            security=SecuritySettings(max_request_bytes=NO_LIMIT, block_failures=NO_LIMIT),
            performance=PerformanceSettings(pool_size=self._config.statements),
        )


class SqlRoom:
    """All databases of a replica. Implements ``SqlDesk``."""

    def __init__(self, config: SqlConfig, metrics: SqlMetrics) -> None:
        """Open nothing yet."""
        self._databases = {name: Database(name, source, config) for name, source in config.sources.items()}
        self._metrics = metrics

    async def query(self, order: SqlOrder) -> Json:
        """See ``SqlDesk``."""
        return await self._within(order, "query", self._databases[order.database].query)

    async def explain(self, order: SqlOrder) -> Json:
        """See ``SqlDesk``."""
        return await self._within(order, "explain", self._databases[order.database].explain)

    async def batch(self, order: SqlOrder) -> Json:
        """See ``SqlDesk``."""
        return await self._within(order, "batch", self._databases[order.database].batch)

    async def schema(self, order: SqlOrder) -> Json:
        """See ``SqlDesk``."""
        return await self._within(order, "schema", self._databases[order.database].schema)

    async def close(self) -> None:
        """Let go of all databases. Idempotent."""
        for database in self._databases.values():
            await database.close()

    async def _within(self, order: SqlOrder, call: str, work: Callable[[SqlOrder], Awaitable[Json]]) -> Json:
        """Do something at a place of the database, within the order's time."""
        with self._metrics.noted(order.database, call) as note:
            async with self._databases[order.database].place(order.timeout_s):
                try:
                    async with asyncio.timeout(order.timeout_s + GRACE_S):
                        answer = await work(order)
                except TimeoutError:
                    raise DeadlineExceeded(f"there was no answer within {order.timeout_s:g} s") from None
            if answer.get("cached"):
                note.outcome = "kept"
            return answer


def batch_view(result: BatchResult, limits: Limits) -> Json:
    """Return the answers of a batch as JSON."""
    items = [_item(answer, limits) for answer in result.answers]
    return {
        "answered": sum(item["status"] == "answered" for item in items),
        "failed": sum(item["status"] == "failed" for item in items),
        "items": items,
        "kept": [
            {
                "tables": list(part.tables),
                "predicates": list(part.predicates),
                "readers": part.readers,
                "rows": part.rows,
                "elapsed_ms": part.elapsed_ms,
            }
            for part in result.kept
        ],
        "estimated_reduction": result.estimated_reduction,
        "proven": result.proven,
        "elapsed_ms": result.elapsed_ms,
    }


def _item(answer: BatchAnswer, limits: Limits) -> Json:
    if answer.rows is None:
        error = answer.error or QuantumDBError("the statement was not run")
        return {"status": "failed", "sql": answer.sql, "problem": error.problem()}
    rows = cut(answer.rows, limits)
    return {
        "status": "answered",
        "sql": answer.sql,
        "columns": list(rows.columns),
        "kinds": [*map(str, rows.kinds)],
        "rows": [*map(list, rows.rows)],
        "truncated": rows.truncated,
        "elapsed_ms": rows.elapsed_ms,
        "read": list(answer.read),
    }


def schema_view(schema: Schema) -> Json:
    """Return a schema as JSON, without the values that columns have."""
    return {
        "dialect": schema.dialect,
        "version": schema.version,
        "tables": [_table_view(table) for table in schema.tables.values()],
    }


def _table_view(table: Table) -> Json:
    columns = [
        {
            "name": column.name,
            "kind": str(column.kind),
            "declared": column.declared,
            "nullable": column.nullable,
            "distinct": column.distinct,
            "nulls": column.nulls,
            "comment": column.comment,
        }
        for column in table.columns.values()
    ]
    keys = [
        {
            "columns": list(key.columns),
            "table": key.table,
            "references": list(key.references),
            "declared": key.declared,
        }
        for key in table.foreign_keys
    ]
    return {
        "name": table.name,
        "rows": table.rows,
        "comment": table.comment,
        "primary_key": list(table.primary_key),
        "foreign_keys": keys,
        "columns": columns,
    }
