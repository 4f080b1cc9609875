"""Holds the API keys and writes the audit log; every change is durable before it is acknowledged."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge

from actors.kept_shard import KeptShard
from quantum_db.access.audit import AuditEvent, AuditLog
from quantum_db.access.auditing import AuditDesk
from quantum_db.access.blocking import BlockPolicy
from quantum_db.access.bodies import KeyBody
from quantum_db.access.keys import Json, KeyTable
from quantum_db.access.ports import KeyNews
from quantum_db.access.principal import Principal
from quantum_db.access.registry import STREAM, KeyRegistry
from quantum_db.change_feed import Cursor
from quantum_db.clock import SystemClock
from quantum_db.journals.layout import ShardPlace
from quantum_db.telemetry import Snapshot, snapshot


@dataclass(frozen=True, slots=True)
class KeeperSettings:
    """Where the keys and the audit log are, and what blocks an address."""

    journal_url: str
    audit_path: Path
    blocking: BlockPolicy = field(default_factory=BlockPolicy)


class AccessKeeper:
    """A ``KeyRegistry`` and an ``AuditDesk`` in a process of their own."""

    def __init__(self, settings: KeeperSettings) -> None:
        self._settings = settings
        self._shard = KeptShard("access", ShardPlace(settings.journal_url, STREAM), KeyTable)
        self._keys: KeyRegistry | None = None
        self._audit: AuditDesk | None = None
        self._registry = CollectorRegistry()
        self._key_count = Gauge("access_keys", "Keys, revoked ones among them", registry=self._registry)
        self._lines = Gauge("audit_lines", "Lines of the audit log", registry=self._registry)

    async def ready(self) -> bool:
        """Return True once journal and audit log are opened and checked. Raises CorruptData and InvalidSettings."""
        await self._shard.ready()
        await self._opened_audit()
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

    async def report(
        self, source: str, number: int, events: Sequence[AuditEvent], failures: Mapping[str, int]
    ) -> Mapping[str, float]:
        return await (await self._opened_audit()).report(source, number, events, failures)

    async def blocks(self) -> Json:
        return await (await self._opened_audit()).blocks()

    async def lift(self, address: str) -> Json:
        return await (await self._opened_audit()).lift(address)

    async def head(self) -> Json:
        return await (await self._opened_audit()).head()

    async def metrics(self) -> Snapshot:
        """Return this process's metrics."""
        if self._keys is not None:
            self._key_count.set(len(self._keys.table))
        if self._audit is not None:
            self._lines.set((await self._audit.head())["count"])
        return snapshot(self._registry, "access")

    async def close(self) -> None:
        """Release the journal and the log."""
        await self._shard.close()
        if self._audit is not None:
            await self._audit.close()

    async def _opened(self) -> KeyRegistry:
        keeper = await self._shard.opened()
        if self._keys is None:
            self._keys = KeyRegistry(keeper, SystemClock(), secrets.token_bytes)
        return self._keys

    async def _opened_audit(self) -> AuditDesk:
        if self._audit is None:
            log = await asyncio.to_thread(AuditLog, self._settings.audit_path)
            if self._audit is None:
                self._audit = AuditDesk(log, self._settings.blocking, SystemClock())
            else:
                log.close()
        return self._audit
