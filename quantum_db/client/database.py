"""The client of a cluster: ``QuantumDB``."""

from __future__ import annotations

import weakref
from types import TracebackType
from typing import Any

import numpy as np

from quantum_db.client.caller import Caller
from quantum_db.client.collection_calls import CollectionCalls
from quantum_db.client.config import Config
from quantum_db.client.entities import EntityCalls
from quantum_db.client.loop import LoopThread, blocking
from quantum_db.client.quantum_calls import GroupCalls, JobCalls, StateCalls
from quantum_db.client.request import Transport
from quantum_db.client.sql_calls import SqlCalls
from quantum_db.client.transports import transport_for
from quantum_db.clock import SystemClock


class QuantumDB(EntityCalls, CollectionCalls, GroupCalls, JobCalls, StateCalls, SqlCalls):
    """A client of one cluster, for any number of threads and event loops.

    It connects with its first call, or with ``connect``. ``close`` gives the connections back, and stops a local
    cluster that this client has started; so does the end of the program. A call after that connects anew.
    """

    def __init__(self, config: Config | None = None, *, transport: Transport | None = None) -> None:
        """Connect to nothing yet.

        Args:
            config: which cluster, and how; by default the local one.
            transport: the way to it, instead of that of the configuration.

        Raises:
            InvalidSettings: the configuration cannot be used.
        """
        self.config = config or Config()
        self._loop = LoopThread()
        found = transport_for(self.config) if transport is None else transport
        self._caller = Caller(self.config, found, clock=SystemClock(), rng=np.random.default_rng())
        self._blocks = 0
        weakref.finalize(self, self._loop.finish, self._caller.close)

    @property
    def loop(self) -> LoopThread:
        """See ``Calls.loop``."""
        return self._loop

    async def call(self, method: str, *arguments: Any, key: str | None = None, once: bool = True) -> Any:
        """See ``Calls.call``."""
        return await self._loop.wait(self._caller.call(method, *arguments, key=key, once=once))

    def connect(self) -> Connection:
        """Return a block for ``with`` or ``async with``; see ``Connection``."""
        return Connection(self)

    async def enter(self) -> None:
        """Begin a block of ``connect``. Raises Unavailable where no cluster answers."""
        await self.work(self._caller.open())
        self._blocks += 1

    async def leave(self) -> None:
        """End a block of ``connect``; the last one closes."""
        self._blocks -= 1
        if self._blocks == 0:
            await self.close()

    async def close(self) -> None:
        """Give everything back. Idempotent."""
        await self.work(self._caller.close())

    close_sync = blocking(close)


class Connection:
    """A block that is given a connected client. When the last of a client's blocks ends, it is closed."""

    def __init__(self, client: QuantumDB) -> None:
        self._client = client

    async def __aenter__(self) -> QuantumDB:
        await self._client.enter()
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.leave()

    def __enter__(self) -> QuantumDB:
        self._client.loop.run(self._client.enter())
        return self._client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.loop.run(self._client.leave())
