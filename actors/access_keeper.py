"""Holds the API keys; every change is in the journal before it is acknowledged, and told to all replicas."""

from __future__ import annotations

import secrets

from prometheus_client import CollectorRegistry, Gauge

from actors.kept_shard import KeptShard
from quantum_db.access.bodies import KeyBody
from quantum_db.access.keys import Json, KeyTable
from quantum_db.access.ports import KeyNews
from quantum_db.access.principal import Principal
from quantum_db.access.registry import STREAM, KeyRegistry
from quantum_db.change_feed import Cursor
from quantum_db.clock import SystemClock
from quantum_db.journals.layout import ShardPlace
from quantum_db.telemetry import Snapshot, snapshot


class AccessKeeper:
    """A ``KeyRegistry`` in a process of its own."""

    def __init__(self, journal_url: str) -> None:
        self._shard = KeptShard("access", ShardPlace(journal_url, STREAM), KeyTable)
        self._keys: KeyRegistry | None = None
        self._registry = CollectorRegistry()
        self._gauge = Gauge("access_keys", "Keys, revoked ones among them", registry=self._registry)

    async def ready(self) -> bool:
        """Return True once the journal has been read and checked. Raises CorruptData and InvalidSettings."""
        await self._shard.ready()
        return True

    async def ensure_admin(self, token_id: str, digest: str, given: bool) -> bool:
        """See ``KeyRegistry.ensure_admin``."""
        return await (await self._opened()).ensure_admin(token_id, digest, given=given)

    async def create(self, principal: Principal, body: KeyBody) -> Json:
        return await (await self._opened()).create(principal, body)

    async def list(self, principal: Principal) -> Json:
        return await (await self._opened()).list(principal)

    async def rotate(self, principal: Principal, key_id: str, grace_s: float) -> Json:
        return await (await self._opened()).rotate(principal, key_id, grace_s)

    async def revoke(self, principal: Principal, key_id: str) -> Json:
        return await (await self._opened()).revoke(principal, key_id)

    async def news(self, follower: str, after: Cursor | None, timeout_s: float) -> KeyNews:
        return await (await self._opened()).news(follower, after, timeout_s)

    async def metrics(self) -> Snapshot:
        """Return this process's metrics."""
        if self._keys is not None:
            self._gauge.set(len(self._keys.table))
        return snapshot(self._registry, "access")

    async def close(self) -> None:
        """Release the journal."""
        await self._shard.close()

    async def _opened(self) -> KeyRegistry:
        keeper = await self._shard.opened()
        if self._keys is None:
            self._keys = KeyRegistry(keeper, SystemClock(), secrets.token_bytes)
        return self._keys
