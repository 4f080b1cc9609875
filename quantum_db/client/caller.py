"""One call from beginning to end: within its time, repeated where that is safe, and not too many at once."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import numpy as np
import orjson

from quantum_db.client.cache import AnswerCache
from quantum_db.client.config import Config
from quantum_db.client.http import encoded
from quantum_db.client.request import Json, Request, Transport, Unreached
from quantum_db.client.routes import ROUTES, Route
from quantum_db.errors import DeadlineExceeded, Overloaded, QuantumDBError, Unavailable
from quantum_db.ports import Clock

logger = logging.getLogger(__name__)

GRACE_S: Final = 2.0
"""How much longer than a request's own ``timeout_ms`` its answer is waited for."""

LEAST_S: Final = 0.001
TOO_MANY: Final = 429
OWN_EFFECT: Final = ("session_id", "observe", "fresh")
"""Fields of a query that is more than a question, or wants an answer made now: it is not answered from here."""


class Caller:
    """Makes the calls of a client. Everything in it runs on the client's loop."""

    def __init__(
        self,
        config: Config,
        transport: Transport,
        *,
        clock: Clock,
        rng: np.random.Generator,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._config = config
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._sleep = sleep
        self._places = asyncio.Semaphore(config.max_pool_size)
        self._opening = asyncio.Lock()
        self._open = False
        self._cache = AnswerCache(config.cache_size, config.cache_ttl, clock) if config.enable_cache else None

    async def open(self) -> None:
        """Make sure that the cluster answers. Idempotent. Raises Unavailable."""
        async with self._opening:
            if not self._open:
                await self._transport.open()
                self._open = True

    async def close(self) -> None:
        """Give back what ``open`` took. Idempotent."""
        async with self._opening:
            self._open = False
            await self._transport.close()

    async def call(
        self,
        method: str,
        *arguments: Any,
        key: str | None = None,
        once: bool = True,
        limit_s: float | None = None,
    ) -> Any:
        """Make a call and return its answer.

        Args:
            method: its name in ``ROUTES``.
            arguments: as its route names them.
            key: under which it is done once; by default one of its own.
            once: whether it takes a key at all. Without, it is done again where an answer was lost.
            limit_s: for all of it, instead of the configuration's ``timeout_s``.

        Raises:
            DeadlineExceeded: there was no answer in time.
            QuantumDBError: what the cluster answered, or Unavailable if it did not.
        """
        route = ROUTES[method]
        await self.open()
        end_s = self._clock.monotonic_s() + (self._time_for(route, arguments) if limit_s is None else limit_s)
        if method == "query":
            return await self._query(arguments[0], end_s)
        if once and key is None and route.verb != "GET":
            key = uuid4().hex
        try:
            return await self._repeated(method, route, arguments, key, end_s)
        finally:
            if route.writes and self._cache is not None:
                self._cache.forget()  # also after an error: it may have been written

    async def _query(self, body: Json, end_s: float) -> Json:
        """Answer a query from the cache, or ask. The answer says whether it was kept (``cached``), here or there."""
        cache = self._cache
        if cache is None or any(body.get(field) for field in OWN_EFFECT):
            answer: Json = await self._repeated("query", ROUTES["query"], (body,), None, end_s)
            return {"cached": False, **answer}
        key = hashlib.sha256(encoded({"collection": self._config.collection, "query": body})).digest()
        kept = cache.get(key)
        if kept is not None:
            return {**orjson.loads(kept), "cached": True}
        generation = cache.generation
        answer = await self._repeated("query", ROUTES["query"], (body,), None, end_s)
        cache.put(key, encoded(answer), generation)
        return {"cached": False, **answer}

    async def _repeated(
        self, method: str, route: Route, arguments: tuple[Any, ...], key: str | None, end_s: float
    ) -> Any:
        attempt = 1
        while True:
            try:
                async with self._place(method, end_s - self._clock.monotonic_s()):
                    left_s = max(LEAST_S, end_s - self._clock.monotonic_s())
                    request = Request(method, route, arguments, self._config.collection, key, left_s)
                    return await self._transport.call(request)
            except QuantumDBError as error:
                pause_s = self._config.retry.pause_s(attempt, self._rng, error.retry_after_s)
                in_time = self._clock.monotonic_s() + pause_s < end_s
                if not (_may_repeat(error, route) and self._config.retry.may_retry(attempt) and in_time):
                    raise
                logger.info("%s is asked again in %.1f s: %s", method, pause_s, error.detail)
            await self._sleep(pause_s)
            attempt += 1

    @asynccontextmanager
    async def _place(self, method: str, limit_s: float) -> AsyncIterator[None]:
        """Wait for one of the ``max_pool_size`` places. Raises DeadlineExceeded."""
        try:
            async with asyncio.timeout(max(LEAST_S, limit_s)):
                await self._places.acquire()
        except TimeoutError:
            limit = self._config.max_pool_size
            raise DeadlineExceeded(f"{limit} calls were in flight all the time that {method} had") from None
        try:
            yield
        finally:
            self._places.release()

    def _time_for(self, route: Route, arguments: tuple[Any, ...]) -> float:
        """Return how long a call may take: what its body says, if it says that."""
        if "body" in route.arguments:
            body = arguments[route.arguments.index("body")]
            if isinstance(body, dict) and isinstance(body.get("timeout_ms"), int | float):
                return min(self._config.timeout_s, float(body["timeout_ms"]) / 1000.0 + GRACE_S)
        return self._config.timeout_s


def _may_repeat(error: QuantumDBError, route: Route) -> bool:
    """Whether a call may be made again after an error: it did not take place, or twice is as once."""
    certainly_not = isinstance(error, Unreached | Overloaded) or error.status == TOO_MANY
    return certainly_not or (route.repeatable and isinstance(error, Unavailable))
