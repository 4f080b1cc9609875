"""`QuantumSQLSynthesizer`: questions in, checked, optimised, run and kept; and how it is doing."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from quantum_db.backend_ports import JobPool, JobRequest
from quantum_db.clock import SystemClock
from quantum_db.errors import DeadlineExceeded, FieldError, QuantumDBError, Unavailable
from quantum_db.jobs.breaker import Breaker
from quantum_db.kept_answers import SharedAnswers
from quantum_db.ports import Clock
from quantum_db.shared_answers import RedisAnswers
from sql_synthesizer.agent import Reading
from sql_synthesizer.caches import Kind, SqlCaches, cache_key
from sql_synthesizer.config import OptimizerSettings, SqlSettings
from sql_synthesizer.defence import Defence
from sql_synthesizer.engines.ports import Limits
from sql_synthesizer.guard.check import Checked
from sql_synthesizer.joins.optimizer import JoinOptimizer, JoinPlan
from sql_synthesizer.multi_query import BatchResult, plan_batch, run_batch
from sql_synthesizer.quantum.demonstration import LEAST_RELATIONS, demonstrate
from sql_synthesizer.quantum.modes import JOINS, ModeKeeper
from sql_synthesizer.quantum.monitor import HEALTHY_SUCCESS, Monitor, QueryRecord, recommendations
from sql_synthesizer.quantum.ordering import AnnealedOrders, begin_warm_up, is_warm
from sql_synthesizer.quantum.ports import StatementSource
from sql_synthesizer.quantum.results import QueryResult, estimated_reduction, plain_result, result_of
from sql_synthesizer.quantum.selection import Schedule

logger = logging.getLogger(__name__)

T = TypeVar("T")

MARGIN_S = 1.0
"""What may pass beyond a statement's own deadline before a thread is not waited for any longer."""


class QuantumSQLSynthesizer:
    """Answers questions over one database. For one event loop; statements run in threads of its own."""

    def __init__(  # noqa: PLR0913  (the public interface names each)
        self,
        agent: StatementSource,
        enable_quantum: bool = True,
        num_qubits: int | None = None,
        temperature: float | None = None,
        cooling_rate: float | None = None,
        min_temperature: float | None = None,
        timeout_seconds: float | None = None,
        *,
        settings: SqlSettings | None = None,
        database: str | None = None,
        shared: SharedAnswers | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
    ) -> None:
        """Open the caches and the audit log; nothing is compiled or run yet.

        Args:
            agent: turns texts into statements; its engine runs them.
            enable_quantum: whether plans are optimised at all.
            num_qubits, temperature, cooling_rate, min_temperature, timeout_seconds: stand above those of ``settings``;
                see ``OptimizerSettings``.
            settings: all others.
            database: names it in what is kept, so that another process may read it; None keeps for this one alone.
            shared: where replicas keep answers together; None takes the Redis of the settings, if there is one.
            seed: of all randomness; None draws one.

        Raises:
            InvalidSettings: a file cannot be written.
        """
        self.settings = settings or SqlSettings()
        given = {
            "qubits": num_qubits,
            "temperature": temperature,
            "cooling_rate": cooling_rate,
            "min_temperature": min_temperature,
            "timeout_seconds": timeout_seconds,
        }
        merged = {**self.settings.optimizer.model_dump(), **{k: v for k, v in given.items() if v is not None}}
        self.optimizer_settings = OptimizerSettings.model_validate(merged)
        self.enabled = enable_quantum
        self._agent, self._engine = agent, agent.engine
        self._clock = clock or SystemClock()
        self._rng = np.random.default_rng(seed)
        performance, security = self.settings.performance, self.settings.security
        self._keeper = ModeKeeper(self.settings.mode, performance.adaptation_interval, self._clock.monotonic_s())
        self._monitor = Monitor(performance.window)
        self._breaker = Breaker("the database", security.breaker())
        dialect = self._engine.dialect
        self._defence = Defence(
            security.limits(), security.blocks(), security.max_request_bytes, security.audit, dialect, self._clock
        )
        self._database = database or uuid.uuid4().hex
        redis_url = self.settings.cache.redis_url
        self._own_shared = RedisAnswers(redis_url, self._clock) if shared is None and redis_url is not None else None
        shared = self._own_shared if shared is None else shared
        self._caches = SqlCaches(self.settings.cache.policy(), self._clock, shared)
        self._orders = AnnealedOrders(self._schedule(), self.optimizer_settings.timeout_seconds, self._rng)
        self._joins = JoinOptimizer(self._engine, JOINS[self._keeper.step], self._orders)
        self._pool = ThreadPoolExecutor(performance.pool_size, thread_name_prefix="sql")
        self._asked = 0

    async def query(
        self, text: str, *, caller: str = "local", limits: Limits | None = None, only_sql: bool = False
    ) -> QueryResult:
        """Answer a question, in SQL or in words; with ``only_sql`` it is taken for SQL whatever it begins with.

        Raises:
            TooManyRequests, BodyTooLarge: the caller asks too much.
            SqlInvalid, SqlRefused, UnclearQuestion: the text is not answered.
            SqlTimeout, DeadlineExceeded: it took too long.
            BreakerOpen, Unavailable: the database does not answer.
        """
        limits = limits or self.settings.agent.limits()

        async def work() -> QueryResult:
            reading = await self._in_thread(lambda: self._agent.read(text, limits, only_sql=only_sql), limits)
            return await self._answer(reading, limits)

        return await self._guarded(text, caller, work)

    def _statement(self, place: int, text: str, limits: Limits) -> Checked:
        """Return one of a batch. Raises what reading it raises, with its place in front."""
        try:
            return self._agent.read(text, limits).statement
        except QuantumDBError as error:
            path = f"statements[{place}]"
            told = [replace(one, path=f"{path} {one.path}".strip()) for one in error.errors]
            raise type(error)(
                f"{path}: {error.detail}",
                errors=told or [FieldError(path, error.detail)],
                retry_after_s=error.retry_after_s,
            ) from error

    async def batch(self, texts: Sequence[str], *, caller: str = "local", limits: Limits | None = None) -> BatchResult:
        """Answer several questions, so that what they have in common is computed once, where that pays.

        Raises as ``query`` does, for the first text that is not let in, saying which it is; statements that fail later
        fail alone.
        """
        limits = limits or self.settings.agent.limits()
        (rng,) = self._rng.spawn(1)

        def run() -> BatchResult:
            statements = [self._statement(place, text, limits) for place, text in enumerate(texts)]
            plan = plan_batch(
                statements,
                self._engine.schema(),
                rng,
                self._schedule(),
                self.optimizer_settings.timeout_seconds if self.enabled else 0.0,
            )
            return run_batch(self._engine, plan, limits)

        async def work() -> BatchResult:
            seconds = limits.timeout_s * (2 * len(texts) + 1)
            return await self._by_breaker(lambda: self._in_thread(run, limits, seconds))

        return await self._guarded("\n;\n".join(texts), caller, work)

    async def explain(
        self, text: str, *, caller: str = "local", limits: Limits | None = None, only_sql: bool = False
    ) -> dict[str, Any]:
        """Return what would be done with a statement, without running it. Raises as ``query`` does."""
        limits = limits or self.settings.agent.limits()

        async def work() -> dict[str, Any]:
            reading = await self._in_thread(lambda: self._agent.read(text, limits, only_sql=only_sql), limits)
            checked = reading.statement
            key = await self._in_thread(lambda: self._key("plan", checked, limits), limits)
            kept = await self._caches.find(key)
            if kept is not None:
                return {**kept, "cached": True}
            begun = time.perf_counter()
            own = await self._in_thread(lambda: self._engine.explain(checked.sql, checked.parameters, limits), limits)
            plan = await self._in_thread(lambda: self._joins.plan(checked, limits), limits)
            told = {**_told(reading, plan), "engine_plan": own.text}
            self._caches.keep("plan", key, told, (time.perf_counter() - begun) * 1e3)
            return {**told, "cached": False}

        return await self._guarded(text, caller, work)

    async def circuits(self, text: str, jobs: JobPool, request: JobRequest, *, caller: str = "local") -> dict[str, Any]:
        """Search a statement's join orders by circuits, beside the classical answer; the database does not run them.

        Args:
            jobs: runs the circuits.
            request: a pattern of the jobs: key, backend, shots, deadline, tenant and limit.

        Raises as ``query`` does, and as ``JobPool.run``.
        """
        limits = self.settings.agent.limits()
        (rng,) = self._rng.spawn(1)

        async def work() -> dict[str, Any]:
            reading = await self._in_thread(lambda: self._agent.read(text, limits), limits)
            checked = reading.statement
            graph = await self._in_thread(lambda: self._joins.graph(checked, limits), limits)
            if graph is None or graph.size < LEAST_RELATIONS:
                return {"sql": reading.sql, "why": f"there are fewer than {LEAST_RELATIONS} relations to order"}
            plain, qubits = graph.without_classes(), self.optimizer_settings.qubits
            found = await demonstrate(plain, jobs, request, qubits, self._schedule(), rng)
            return {"sql": reading.sql, **found}

        return await self._guarded(text, caller, work)

    def get_health_status(self) -> dict[str, Any]:
        """Return how it is doing: ``unhealthy`` while the database is left alone, ``degraded`` below 95% successes."""
        stats, breaker = self._monitor.stats(), self._breaker.state
        rate = stats.success_rate
        status = "unhealthy" if breaker == "open" else "healthy"
        if status == "healthy" and ((rate is not None and rate < HEALTHY_SUCCESS) or breaker == "half_open"):
            status = "degraded"
        return {
            "status": status,
            "breaker": breaker,
            "success_rate": rate,
            "p50_ms": stats.p50_ms,
            "p95_ms": stats.p95_ms,
            "queries_in_window": stats.queries,
            "mode": self.settings.mode,
            "parameters_of": self._keeper.step,
            "annealers_compiled": is_warm(),
            "blocked_callers": len(self._defence.blocked()),
            "recommendations": recommendations(
                stats, self._caches.stats(), self._keeper.step, self.settings.agent.timeout_seconds
            ),
        }

    def get_quantum_metrics(self) -> dict[str, Any]:
        """Return what optimising did and brought, over the window; counts of caches and orders since the start."""
        stats, cache = self._monitor.stats(), self._caches.stats()
        effort, schedule = stats.effort, self._schedule()
        return {
            "enabled": self.enabled,
            "queries": self._monitor.queries,
            "optimised_queries": effort.queries,
            "forced_orders": stats.forced,
            "saved_ms": effort.saved_ms,
            "overhead_ms": effort.overhead_ms,
            "net_benefit": effort.net,
            "reasons": self._monitor.reasons(),
            "orders_annealed": self._orders.annealed,
            "orders_better_by_annealing": self._orders.better,
            "mode_changes": self._keeper.changes,
            "schedule": {name: getattr(schedule, name) for name in schedule.__slots__},
            "num_qubits": self.optimizer_settings.qubits,
            "cache": {
                "hit_rate": cache.hit_rate,
                "outcomes": dict(cache.outcomes),
                "saved_ms": cache.saved_ms,
                "entries": cache.entries,
                "bytes": cache.bytes,
            },
        }

    def warm_up(self) -> None:
        """Begin to compile the annealers; a server calls this before it says that it is ready."""
        begin_warm_up()

    def reset_breaker(self) -> None:
        """Let statements through to the database again at once."""
        self._breaker.force("closed")
        self._breaker.force("auto")

    def clear_cache(self) -> None:
        """Forget all plans and results that are kept here."""
        self._caches.clear()

    def unblock(self, caller: str) -> bool:
        """Lift the block of a caller; return whether there was one."""
        return self._defence.lift(caller)

    async def aclose(self) -> None:
        """Do what ``close`` does, and give the connections to Redis back."""
        self.close()
        if self._own_shared is not None:
            await self._own_shared.close()

    def close(self) -> None:
        """Write what is kept to its file, if it has one, and let go of threads. The agent's engine stays open."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._caches.close()
        self._defence.close()

    async def _answer(self, reading: Reading, limits: Limits) -> QueryResult:
        begun, checked = time.perf_counter(), reading.statement
        key = await self._in_thread(lambda: self._key("result", checked, limits), limits)
        kept = await self._caches.find(key)
        if kept is not None:
            self._monitor.note(QueryRecord(False, True, (time.perf_counter() - begun) * 1e3))
            found = QueryResult.from_json(kept, cached=True)
            told = () if reading.translation is None else reading.translation.explanation
            return replace(found, explanation=told)  # other words may have become the same statement
        result = await self._by_breaker(lambda: self._in_thread(lambda: self._run(reading, limits), limits))
        cost_ms = result.elapsed_ms + 1e3 * result.optimization_time
        self._caches.keep("result", key, result.to_json(), cost_ms)
        self._adapt()
        return result

    def _run(self, reading: Reading, limits: Limits) -> QueryResult:
        """Run a statement, in a thread."""
        step, checked = self._keeper.step, reading.statement
        if not self.enabled:
            result = plain_result(reading, self._engine.run(checked.sql, checked.parameters, limits), step)
            self._monitor.note(QueryRecord(False, False, result.elapsed_ms))
            return result
        done = self._joins.run(checked, limits)
        result = result_of(reading, done, step)
        measured = done.forced and done.own_ms is not None and done.forced_ms is not None
        saved_ms = (done.own_ms or 0.0) - (done.forced_ms or 0.0) if measured else None
        overhead_ms = 1e3 * result.optimization_time
        self._monitor.note(
            QueryRecord(False, False, done.total_ms, overhead_ms, saved_ms, done.forced, done.plan.reason)
        )
        return result

    def _adapt(self) -> None:
        if self._keeper.look(self._monitor.stats().effort, self._clock.monotonic_s()):
            logger.info("plans are optimised by the parameters of mode %s now", self._keeper.step)
            self._joins.settings = JOINS[self._keeper.step]
            self._orders.schedule = self._schedule()

    def _schedule(self) -> Schedule:
        return self.optimizer_settings.schedule(self._keeper.step)

    def _key(self, kind: Kind, checked: Checked, limits: Limits) -> bytes | None:
        schema = self._engine.schema()
        return cache_key(kind, self._database, checked, schema.version, self._engine.data_version(), limits)

    async def _guarded(self, text: str, caller: str, work: Callable[[], Awaitable[T]]) -> T:
        """Let a request in, and note how it ended."""
        error: QuantumDBError | None = None
        try:
            await self._defence.admit(caller, text)
            return await work()
        except QuantumDBError as raised:
            error = raised
            raise
        finally:
            await self._defence.ended(caller, text, error)

    async def _by_breaker(self, work: Callable[[], Awaitable[T]]) -> T:
        """Leave the database alone where it did not answer lately."""
        self._asked += 1
        key, begun = str(self._asked), self._clock.monotonic_s()
        self._breaker.admit(key, begun)
        try:
            result = await work()
        except QuantumDBError as error:
            if isinstance(error, Unavailable):
                self._breaker.failed(key, self._clock.monotonic_s())
            else:
                self._breaker.succeeded(key)  # it answers, whatever it thinks of the statement
            if isinstance(error, Unavailable | DeadlineExceeded):
                self._monitor.note(QueryRecord(True, False, 1e3 * (self._clock.monotonic_s() - begun)))
            raise
        except BaseException:
            self._breaker.withdrawn(key)
            raise
        self._breaker.succeeded(key)
        return result

    async def _in_thread(self, work: Callable[[], T], limits: Limits, seconds: float | None = None) -> T:
        """Run what blocks, within a time.

        Raises:
            DeadlineExceeded: it is not done by then.
        """
        bound_s = (limits.timeout_s if seconds is None else seconds) + MARGIN_S
        try:
            async with asyncio.timeout(bound_s):
                return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except TimeoutError:
            raise DeadlineExceeded(f"there was no answer within {bound_s:g} s") from None


def _told(reading: Reading, plan: JoinPlan) -> dict[str, Any]:
    return {
        "sql": reading.sql,
        "optimised_sql": plan.sql,
        "reason": plan.reason,
        "relations": list(plan.names),
        "predicted_gain": plan.gain,
        "estimated_cost_reduction": estimated_reduction(plan) if plan.sql is not None else 0.0,
        "planning_ms": plan.planning_ms,
    }
