"""The way from the ingress to the replicas that run statements."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from quantum_db.errors import DeadlineExceeded, Overloaded, QuantumDBError, Unavailable
from quantum_db.sql_calls import Json, SqlOrder

MARGIN_S: Final = 5.0
"""How much longer than an order's time for its waiting, and then for its work, the answer is waited for."""


class RemoteSqlDesk:
    """Implements ``SqlDesk`` by Serve handle."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def query(self, order: SqlOrder) -> Json:
        """See ``SqlDesk``."""
        return await self._asked(self._handle.query, order)

    async def explain(self, order: SqlOrder) -> Json:
        """See ``SqlDesk``."""
        return await self._asked(self._handle.explain, order)

    async def batch(self, order: SqlOrder) -> Json:
        """See ``SqlDesk``."""
        return await self._asked(self._handle.batch, order)

    async def schema(self, order: SqlOrder) -> Json:
        """See ``SqlDesk``."""
        return await self._asked(self._handle.schema, order)

    async def _asked(self, method: Any, order: SqlOrder) -> Json:
        """Await a replica's answer.

        Raises:
            QuantumDBError: what the replica raised.
            Overloaded: too many requests wait for a replica.
            DeadlineExceeded: none answered in time.
            Unavailable: the replica died, or none is running.
        """
        limit_s = 2.0 * order.timeout_s + MARGIN_S
        try:
            async with asyncio.timeout(limit_s):
                answer: Json = await method.remote(order)
                return answer
        except TimeoutError:
            raise DeadlineExceeded(f"no worker of the database answered within {limit_s:g} s") from None
        except BackPressureError:
            raise Overloaded("too many statements are waiting for a worker", retry_after_s=1.0) from None
        except RayTaskError as error:
            if isinstance(error.cause, QuantumDBError):
                raise error.cause from None
            raise
        except (RayActorError, RayServeException) as error:
            raise Unavailable("the worker of the database died or is not running", retry_after_s=1.0) from error
