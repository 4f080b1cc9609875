"""Holds the entanglement groups; every write is in the journal before it is acknowledged."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry, Gauge
from ray.actor import ActorHandle

from actors.shell import ask
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
        self._registry = CollectorRegistry()
        self._groups = Gauge("entanglement_groups", "Groups held", registry=self._registry)

    async def ready(self) -> bool:
        """Return True once the journal has been read."""
        return True

    async def create(self, group: EntanglementGroup) -> EntanglementGroup:
        """See ``Groups.create``."""
        change = self._table.plan_create(group)
        if change is not None:
            self._journal.append(STREAM, [change.record()])
            self._table.apply(change)
        return self._table.get(group.group_id)

    async def get(self, group_id: str) -> EntanglementGroup:
        """See ``Groups.get``."""
        return self._table.get(group_id)

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        """See ``Groups.of_member``."""
        return self._table.of_member(entity_id)

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
