"""Holds the entanglement groups; every write is in the journal before it is acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry, Gauge
from ray.actor import ActorHandle

from actors.shell import ask, named
from quantum_db.commits.group_commits import GroupCommits
from quantum_db.groups import GroupTable
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.model import EntanglementGroup
from quantum_db.ports import Journal
from quantum_db.telemetry import Snapshot, snapshot

STREAM = "groups"


class EntanglementRegistry:
    """A ``GroupTable`` with a journal."""

    def __init__(self, journal_path: str) -> None:
        self._journal: Journal = SqliteJournal(Path(journal_path))
        self._table = GroupTable()
        self._table.restore(record for _, record in self._journal.read(STREAM))
        self._commits = GroupCommits(self._journal, self._checked, self._created)
        self._registry = CollectorRegistry()
        self._groups = Gauge("entanglement_groups", "Groups held", registry=self._registry)

    async def ready(self) -> bool:
        """Return True once the journal has been read."""
        return True

    async def create(self, group: EntanglementGroup) -> EntanglementGroup:
        """See ``Groups.create``."""
        await self._commits.wait_for_group(group.group_id)
        return self._created(group)

    async def get(self, group_id: str) -> EntanglementGroup:
        """See ``Groups.get``."""
        await self._commits.wait_for_group(group_id)
        return self._table.get(group_id)

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        """See ``Groups.of_member``."""
        await self._commits.wait_for_member(entity_id)
        return self._table.of_member(entity_id)

    async def commit_call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the port ``CommitGroups``."""
        return await getattr(self._commits, method)(*arguments)

    def _checked(self, group: EntanglementGroup) -> EntanglementGroup:
        """Return the group with the version that it would have. Raises Conflict."""
        change = self._table.plan_create(group)
        return self._table.get(group.group_id) if change is None or change.after is None else change.after

    def _created(self, group: EntanglementGroup) -> EntanglementGroup:
        change = self._table.plan_create(group)
        if change is not None:
            self._journal.append(STREAM, [change.record()])
            self._table.apply(change)
        return self._table.get(group.group_id)

    async def metrics(self) -> Snapshot:
        """Return this process's metrics."""
        self._groups.set(len(self._table))
        return snapshot(self._registry, "entanglement")


class RemoteGroups:
    """Implements ``Groups`` by calls to the registry."""

    def __init__(self, actor: ActorHandle[Any]) -> None:
        self._actor = actor

    async def create(self, group: EntanglementGroup) -> EntanglementGroup:
        return cast(EntanglementGroup, await ask(self._actor.create.remote(group)))

    async def get(self, group_id: str) -> EntanglementGroup:
        return cast(EntanglementGroup, await ask(self._actor.get.remote(group_id)))

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        return cast(list[EntanglementGroup], await ask(self._actor.of_member.remote(entity_id)))


class RemoteCommitGroups:
    """Implements ``CommitGroups`` by calls to the registry, which is looked up when it is first needed."""

    def __init__(self) -> None:
        self._actor: ActorHandle[Any] | None = None

    async def prepare(self, commit: int, groups: Sequence[EntanglementGroup]) -> tuple[EntanglementGroup, ...]:
        return cast(tuple[EntanglementGroup, ...], await self._call("prepare", commit, list(groups)))

    async def finish(self, commit: int) -> None:
        await self._call("finish", commit)

    async def forget(self, commit: int) -> None:
        await self._call("forget", commit)

    async def sweep(self, first: int) -> tuple[int, ...]:
        return cast(tuple[int, ...], await self._call("sweep", first))

    async def _call(self, method: str, *arguments: Any) -> Any:
        if self._actor is None:
            self._actor = named("entanglement")
        return await ask(self._actor.commit_call.remote(method, *arguments))
