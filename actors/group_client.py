"""A replica's side of the entanglement registry: calls to its shards, and following what they tell of changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from ray.actor import ActorHandle

from actors.shell import ask, named
from quantum_db.change_feed import Changes, Cursor
from quantum_db.errors import NotFound, Unavailable
from quantum_db.groups import GroupPage, GroupUpdate, merged_pages
from quantum_db.invalidation import Invalidations, RecentlyInvalidated
from quantum_db.model import EntanglementGroup
from quantum_db.scoped import ScopedGroups
from quantum_db.sharding import shard_of

logger = logging.getLogger(__name__)

PAGE = 100
POLL_S = 10.0
POLL_TIMEOUT_S = 15.0
PAUSE_S = 0.2
DELAY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class RemoteGroups:
    """Implements ``Groups`` by calls to the shards: by group to one, by member to all."""

    def __init__(self, shards: Sequence[ActorHandle[Any]]) -> None:
        self._shards = tuple(shards)

    async def create(self, group: EntanglementGroup) -> EntanglementGroup:
        return cast(EntanglementGroup, await ask(self._of(group.group_id).create.remote(group)))

    async def get(self, group_id: str) -> EntanglementGroup:
        return cast(EntanglementGroup, await ask(self._of(group_id).get.remote(group_id)))

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        found = await asyncio.gather(*(ask(shard.of_member.remote(entity_id)) for shard in self._shards))
        return sorted((group for groups in found for group in groups), key=lambda group: group.group_id)

    async def update(self, group_id: str, update: GroupUpdate, version: int) -> EntanglementGroup | None:
        return cast(EntanglementGroup | None, await ask(self._of(group_id).update.remote(group_id, update, version)))

    async def delete(self, group_id: str, version: int | None) -> int:
        return cast(int, await ask(self._of(group_id).delete.remote(group_id, version)))

    async def page(self, member: str | None, after: str, limit: int) -> GroupPage:
        pages = await asyncio.gather(*(ask(shard.page.remote(member, after, limit)) for shard in self._shards))
        return merged_pages(pages, limit)

    async def entity_deleted(self, entity_id: str) -> None:
        await asyncio.gather(*(ask(shard.entity_deleted.remote(entity_id)) for shard in self._shards))

    async def entities_written(self, entity_ids: Sequence[str]) -> None:
        calls = (ask(shard.entities_written.remote(list(entity_ids))) for shard in self._shards)
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, Unavailable):  # its feed begins a new epoch, at which readers drop everything
                logger.warning("a write was not told to a shard of the groups: %s", answer.detail)
            elif isinstance(answer, BaseException):
                raise answer

    def _of(self, group_id: str) -> ActorHandle[Any]:
        return self._shards[shard_of(group_id, len(self._shards))]


class RemoteCommitGroups:
    """Implements ``CommitGroups``; the shards are looked up when they are first needed.

    Every shard takes part in every transaction that makes groups, so each knows those that it may be asked to finish.
    """

    def __init__(self, shards: int) -> None:
        self._names = [f"groups-{shard}" for shard in range(shards)]
        self._shards: list[ActorHandle[Any]] = []

    async def prepare(self, commit: int, groups: Sequence[EntanglementGroup]) -> tuple[EntanglementGroup, ...]:
        parts: list[list[EntanglementGroup]] = [[] for _ in self._names]
        for group in groups:
            parts[shard_of(group.group_id, len(parts))].append(group)
        calls = (ask(shard.prepare.remote(commit, part)) for shard, part in zip(self._found(), parts, strict=True))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                await self.forget(commit)
                raise answer
        made = {group.group_id: group for answer in answers for group in cast(tuple[EntanglementGroup, ...], answer)}
        return tuple(made[group.group_id] for group in groups)

    async def finish(self, commit: int) -> None:
        await asyncio.gather(*(ask(shard.finish.remote(commit)) for shard in self._found()))

    async def forget(self, commit: int) -> None:
        await asyncio.gather(*(ask(shard.forget.remote(commit)) for shard in self._found()))

    async def sweep(self, first: int) -> tuple[int, ...]:
        found = await asyncio.gather(*(ask(shard.sweep.remote(first)) for shard in self._found()))
        return tuple(sorted({commit for commits in found for commit in commits}))

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        return await RemoteGroups(self._found()).of_member(entity_id)

    async def entity_deleted(self, entity_id: str) -> None:
        await RemoteGroups(self._found()).entity_deleted(entity_id)

    async def entities_written(self, entity_ids: Sequence[str]) -> None:
        await RemoteGroups(self._found()).entities_written(entity_ids)

    async def forget_all(self, collection: str) -> None:
        """Delete all groups of a collection. Idempotent."""
        groups = ScopedGroups(RemoteGroups(self._found()), collection)
        while page := (await groups.page(None, "", PAGE)).groups:
            for group in page:
                with suppress(NotFound):  # deleted meanwhile
                    await groups.delete(group.group_id, None)

    def _found(self) -> list[ActorHandle[Any]]:
        if not self._shards:
            self._shards = [named(name) for name in self._names]
        return self._shards


class ChangeFollower:
    """Follows the feeds of all shards, and lets what caches in this replica know."""

    def __init__(self, shards: Sequence[ActorHandle[Any]], invalidations: Invalidations, registry: CollectorRegistry):
        self._invalidations = invalidations
        self._recent = RecentlyInvalidated()
        invalidations.subscribe(self._recent)
        self._delay = Histogram(
            "invalidation_delay_seconds",
            "From a change in the registry to its invalidation here",
            registry=registry,
            buckets=DELAY_BUCKETS_S,
        )
        self._ids = Counter("invalidated_entities", "Entities invalidated here", registry=registry)
        self._dropped = Counter("invalidations_of_all", "Times that everything was dropped here", registry=registry)
        self._last = Gauge("invalidation_last_at_seconds", "When this replica invalidated last", registry=registry)
        self._known = Gauge("invalidated_entities_recent", "Entities remembered as invalidated", registry=registry)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._follow(shard)) for shard in shards]

    async def _follow(self, shard: ActorHandle[Any]) -> None:
        cursor: Cursor | None = None
        while True:
            try:
                found = cast(Changes, await ask(shard.changes.remote(cursor, POLL_S), POLL_TIMEOUT_S))
            except Unavailable:
                await asyncio.sleep(PAUSE_S)
                continue
            except Exception:
                logger.exception("a feed of changes cannot be followed; it is tried again")
                await asyncio.sleep(POLL_S)
                continue
            self._pass_on(found)
            cursor = found.cursor

    def _pass_on(self, found: Changes) -> None:
        if found.gap:
            self._invalidations.drop_all()
            self._dropped.inc()
        for change in found.changes:
            self._invalidations.invalidate(change.entity_ids)
            self._ids.inc(len(change.entity_ids))
            self._delay.observe(max(0.0, time.time() - change.at_s))
        if found.gap or found.changes:
            self._last.set(time.time())
            self._known.set(len(self._recent))
