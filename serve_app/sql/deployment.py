"""The deployment that runs statements, in processes of its own: none of them ever holds up an ingress."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

from prometheus_client import CollectorRegistry
from ray import serve

from actors.shell import ask, named
from quantum_db.errors import QuantumDBError
from quantum_db.sql_calls import Json, SqlOrder
from quantum_db.telemetry import snapshot
from serve_app.loopback import bind_to_loopback
from serve_app.sql.config import SqlConfig
from serve_app.sql.metrics import SqlMetrics

PUSH_INTERVAL_S: Final = 1.0
HUB_TIMEOUT_S: Final = 2.0


class SqlReplica:
    """One replica. It opens a database when it is first asked for it. Implements ``SqlDesk``."""

    def __init__(self, config: SqlConfig) -> None:
        """Begin to tell its metrics."""
        from serve_app.sql.room import SqlRoom  # noqa: PLC0415 - what compiles is imported where statements run

        bind_to_loopback()
        self._source = f"sql-{uuid4().hex[:12]}"
        self._registry = CollectorRegistry()
        self._room = SqlRoom(config, SqlMetrics(self._registry))
        self._hub = named("metrics")
        self._pushing = asyncio.get_running_loop().create_task(self._push_metrics())

    async def __del__(self) -> None:
        """End before the replica does; Ray Serve awaits it."""
        self._pushing.cancel()
        await self._room.close()
        with suppress(QuantumDBError):
            await ask(self._hub.forget.remote(self._source), HUB_TIMEOUT_S)

    async def query(self, order: SqlOrder) -> Json:
        """See ``SqlDesk``."""
        return await self._room.query(order)

    async def explain(self, order: SqlOrder) -> Json:
        """See ``SqlDesk``."""
        return await self._room.explain(order)

    async def batch(self, order: SqlOrder) -> Json:
        """See ``SqlDesk``."""
        return await self._room.batch(order)

    async def schema(self, order: SqlOrder) -> Json:
        """See ``SqlDesk``."""
        return await self._room.schema(order)

    async def _push_metrics(self) -> None:
        while True:
            await asyncio.sleep(PUSH_INTERVAL_S)
            with suppress(QuantumDBError):  # the hub restarts by itself; the next push tells it all
                await ask(self._hub.put.remote(self._source, snapshot(self._registry, self._source)), HUB_TIMEOUT_S)


deployment: Any = serve.deployment(name="sql")(SqlReplica)
"""The ``SqlReplica`` as Ray Serve runs it."""
