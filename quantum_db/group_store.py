"""One shard of the entanglement groups: durable before it is acknowledged, and told to everyone who caches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain
from typing import Any
from weakref import WeakValueDictionary

from quantum_db.change_feed import ChangeFeed
from quantum_db.commits.group_commits import GroupCommits
from quantum_db.commits.pending_groups import PendingGroups, finished_record, prepared_record
from quantum_db.errors import CorruptData
from quantum_db.groups import GroupChange, GroupTable, GroupUpdate
from quantum_db.journals.keeper import Keeper, uncancelled
from quantum_db.model import EntanglementGroup
from quantum_db.ports import Clock
from quantum_db.resharding import resharded
from quantum_db.sharding import shard_of

Json = dict[str, Any]


class GroupShard:
    """A ``GroupTable``, and what transactions have reserved. Implements ``journals.keeper.Kept``."""

    def __init__(self) -> None:
        """Start empty."""
        self.table = GroupTable()
        self.pending = PendingGroups()
        self.taken = 0

    def apply(self, number: int, record: Mapping[str, Any]) -> None:
        """Take in the record of a change, or of a snapshot. Raises CorruptData."""
        try:
            if "t" in record:
                self.pending.apply(number, record)
            else:
                self.table.restore([record])
        except CorruptData as error:
            raise CorruptData(f"record {number} of the groups cannot be understood: {error.detail}") from error
        self.taken += 1

    def size(self) -> int:
        """Return how many groups there are."""
        return len(self.table)

    def snapshot(self) -> Iterator[Json]:
        """Return the records that make the same shard; see ``Kept.snapshot``."""
        return chain(self.table.snapshot(), list(self.pending.records()))

    def check(self) -> None:
        """Raise CorruptData if the table contradicts itself."""
        try:
            self.table.validate()
        except AssertionError as error:
            raise CorruptData("the groups contradict themselves; restore the journal from a backup") from error


def split_groups(shard: GroupShard, shards: int) -> Iterator[tuple[int, Json]]:
    """Yield (new shard, record) of all groups, for another number of shards."""
    found = resharded([shard.table.snapshot()], shards, lambda record: str(record["group_id"]))
    yield from ((place, dict(record)) for place, record in found)
    for record in shard.pending.ended_records():
        yield from ((place, record) for place in range(shards))
    for commit in shard.pending.commits():
        groups = shard.pending.prepared(commit) or ()
        for place in range(shards):
            yield place, prepared_record(commit, [one for one in groups if shard_of(one.group_id, shards) == place])
            if shard.pending.is_finished(commit):
                yield place, finished_record(commit)


class GroupRegistry:
    """Plans changes, writes them down, makes them and tells them. For one event loop.

    Changes of one group go one after the other; those of different groups share the journal's writes.
    """

    def __init__(self, keeper: Keeper[GroupShard], clock: Clock) -> None:
        """Join the parts. ``keeper`` has been loaded."""
        self.feed = ChangeFeed(keeper.epoch, clock)
        self._keeper = keeper
        self.commits = GroupCommits(keeper.kept.pending, self._checked, self._made)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def table(self) -> GroupTable:
        """The groups, to read."""
        return self._keeper.kept.table

    async def create(self, group: EntanglementGroup) -> EntanglementGroup:
        """See ``Groups.create``."""

        async def work() -> EntanglementGroup:
            async with self._only([group.group_id]):
                await self.commits.wait_for_group(group.group_id)
                await self._make([self.table.plan_create(group)])
                return self.table.get(group.group_id)

        return await uncancelled(work())

    async def update(self, group_id: str, update: GroupUpdate, version: int) -> EntanglementGroup | None:
        """See ``Groups.update``."""

        async def work() -> EntanglementGroup | None:
            async with self._only([group_id]):
                await self.commits.wait_for_group(group_id)
                change = self.table.plan_update(group_id, update, version=version)
                await self._make([change])
                return self.table.get(group_id) if change is None else change.after

        return await uncancelled(work())

    async def delete(self, group_id: str, version: int | None) -> int:
        """See ``Groups.delete``."""

        async def work() -> int:
            async with self._only([group_id]):
                await self.commits.wait_for_group(group_id)
                wanted = self.table.get(group_id).version if version is None else version
                change = self.table.plan_delete(group_id, version=wanted)
                await self._make([change])
                return change.version

        return await uncancelled(work())

    async def prepare(self, commit: int, groups: Sequence[EntanglementGroup]) -> tuple[EntanglementGroup, ...]:
        """See ``CommitGroups.prepare``."""

        async def work() -> tuple[EntanglementGroup, ...]:
            async with self._only([group.group_id for group in groups]):
                return await self.commits.prepare(commit, groups)

        return await uncancelled(work())

    async def finish(self, commit: int) -> None:
        """See ``CommitGroups.finish``."""
        await uncancelled(self.commits.finish(commit))

    async def sweep(self, first: int) -> tuple[int, ...]:
        """See ``CommitGroups.sweep``."""
        return await uncancelled(self.commits.sweep(first))

    async def forget(self, commit: int) -> None:
        """See ``CommitGroups.forget``."""
        await uncancelled(self.commits.forget(commit))

    async def entity_deleted(self, entity_id: str) -> None:
        """Let an entity leave its groups here; all of them or, if that fails, none. Idempotent."""

        async def work() -> None:
            while groups := self.table.of_member(entity_id):
                ids = {group.group_id for group in groups}
                async with self._only(ids):
                    changes = self.table.plan_leave(entity_id)
                    if {change.group_id for change in changes} <= ids:  # else it has joined another one meanwhile
                        await self._make(changes)

        await uncancelled(work())

    def entities_written(self, entity_ids: Collection[str]) -> None:
        """Tell those who cache, of each entity that has partners here, that answers about them all are stale."""
        paired = [one for one in entity_ids if self.table.of_member(one)]
        if paired:
            self.feed.add(self.table.affected(paired))

    def _checked(self, group: EntanglementGroup) -> EntanglementGroup:
        """Return the group with the version that it would have. Raises Conflict."""
        change = self.table.plan_create(group)
        return self.table.get(group.group_id) if change is None or change.after is None else change.after

    async def _made(self, groups: Sequence[EntanglementGroup], record: Json) -> None:
        """Write what a transaction has reserved. A group that was there has a version of its own by now."""
        new = [self.table.plan_create(group) for group in groups if not self.table.holds(group.group_id)]
        await self._make(new, record)

    async def _make(self, planned: Sequence[GroupChange | None], *records: Json) -> None:
        changes = [change for change in planned if change is not None]
        if not changes and not records:
            return
        await self._keeper.write([*(change.record() for change in changes), *records])
        for change in changes:
            told = change.changed()
            self.feed.add(told.members, told.group_id, told.version)

    @asynccontextmanager
    async def _only(self, group_ids: Collection[str]) -> AsyncIterator[None]:
        """Wait until nobody else changes these groups. Taken in the order of ids, so that two never wait in a ring."""
        locks = [self._locks.setdefault(one, asyncio.Lock()) for one in sorted(group_ids)]
        async with AsyncExitStack() as stack:
            for lock in locks:
                await stack.enter_async_context(lock)
            yield
