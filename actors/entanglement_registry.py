"""Holds the entanglement groups of one shard; every write is in the journal before it is acknowledged."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Gauge

from actors.kept_shard import KeptShard
from quantum_db.change_feed import Changes, Cursor
from quantum_db.clock import SystemClock
from quantum_db.group_store import GroupRegistry, GroupShard
from quantum_db.groups import GroupPage, GroupUpdate
from quantum_db.journals.layout import ShardPlace
from quantum_db.model import EntanglementGroup
from quantum_db.telemetry import Snapshot, snapshot


class EntanglementRegistry:
    """A ``GroupRegistry`` in a process of its own."""

    def __init__(self, shard: int, place: ShardPlace) -> None:
        self._name = f"groups-{shard}"
        self._shard = KeptShard(self._name, place, GroupShard)
        self._groups: GroupRegistry | None = None
        self._registry = CollectorRegistry()
        self._gauge = Gauge("entanglement_groups", "Groups held", registry=self._registry)

    async def ready(self) -> bool:
        """Return True once the journal has been read and checked. Raises CorruptData and InvalidSettings."""
        await self._shard.ready()
        return True

    async def create(self, group: EntanglementGroup) -> EntanglementGroup:
        """See ``Groups.create``."""
        return await (await self._opened()).create(group)

    async def get(self, group_id: str) -> EntanglementGroup:
        """See ``Groups.get``."""
        groups = await self._opened()
        await groups.commits.wait_for_group(group_id)
        return groups.table.get(group_id)

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        """Return the groups of this shard that an entity is in."""
        groups = await self._opened()
        await groups.commits.wait_for_member(entity_id)
        return groups.table.of_member(entity_id)

    async def update(self, group_id: str, update: GroupUpdate, version: int) -> EntanglementGroup | None:
        """See ``Groups.update``."""
        return await (await self._opened()).update(group_id, update, version)

    async def delete(self, group_id: str, version: int | None) -> int:
        """See ``Groups.delete``."""
        return await (await self._opened()).delete(group_id, version)

    async def page(self, member: str | None, after: str, limit: int) -> GroupPage:
        """Return the first groups of this shard; see ``Groups.page``."""
        table = (await self._opened()).table
        return table.page(after, limit) if member is None else table.page_of_member(member, after, limit)

    async def entity_deleted(self, entity_id: str) -> None:
        """Let an entity leave its groups of this shard. Idempotent."""
        await (await self._opened()).entity_deleted(entity_id)

    async def entities_written(self, entity_ids: Sequence[str]) -> None:
        """See ``Groups.entities_written``."""
        (await self._opened()).entities_written(entity_ids)

    async def prepare(self, commit: int, groups: Sequence[EntanglementGroup]) -> tuple[EntanglementGroup, ...]:
        """See ``CommitGroups.prepare``; the groups of this shard, which may be none."""
        return await (await self._opened()).prepare(commit, groups)

    async def finish(self, commit: int) -> None:
        """See ``CommitGroups.finish``."""
        await (await self._opened()).finish(commit)

    async def forget(self, commit: int) -> None:
        """See ``CommitGroups.forget``."""
        await (await self._opened()).forget(commit)

    async def sweep(self, first: int) -> tuple[int, ...]:
        """See ``CommitGroups.sweep``."""
        return await (await self._opened()).sweep(first)

    async def changes(self, after: Cursor | None, timeout_s: float) -> Changes:
        """See ``ChangeFeed.after``."""
        return await (await self._opened()).feed.after(after, timeout_s)

    async def metrics(self) -> Snapshot:
        """Return this process's metrics."""
        if self._groups is not None:
            self._gauge.set(len(self._groups.table))
        return snapshot(self._registry, self._name)

    async def close(self) -> None:
        """Release the journal."""
        await self._shard.close()

    async def _opened(self) -> GroupRegistry:
        keeper = await self._shard.opened()
        if self._groups is None:
            self._groups = GroupRegistry(keeper, SystemClock())
        return self._groups
