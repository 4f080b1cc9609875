"""The database in this process, with its real parts: embedded store, journals in SQLite, coordinator, registry, API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quantum_db.api import Api, JobCalls
from quantum_db.batches import BatchRunner
from quantum_db.clock import SystemClock
from quantum_db.commits.coordinator import CommitPolicy, Coordinator
from quantum_db.commits.group_commits import GroupCommits
from quantum_db.database import Database
from quantum_db.errors import Fenced, NotFound
from quantum_db.group_store import GroupShard
from quantum_db.groups import GroupChange
from quantum_db.journals.open import open_journal
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.measurement import GroupMeasurement
from quantum_db.model import EntanglementGroup
from quantum_db.states.events import EventBatch
from quantum_db.states.history import Instances
from quantum_db.stores.places import OneStore
from quantum_db.stores.qdrant_edge import QdrantEdgeStore
from tests.unit.fakes import FakeJobs, FakeSessions, FakeTemplates, directory_of


class _Commits(GroupCommits):
    """The registry's whole part in transactions: reservations, and what it is told of entities."""

    registry: Registry

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        return await self.registry.of_member(entity_id)

    async def entity_deleted(self, entity_id: str) -> None:
        await self.registry.entity_deleted(entity_id)

    async def entities_written(self, entity_ids: Sequence[str]) -> None:
        await self.registry.entities_written(entity_ids)


class Registry:
    """Implements what is asked of ``Groups`` here, by a real shard and its journal; ``commits`` is for transactions."""

    def __init__(self, path: Path) -> None:
        self._journal = SqliteJournal(path)
        self._shard = GroupShard()
        for number, record in self._journal.read("groups"):
            self._shard.apply(number, record)
        self.table = self._shard.table
        self.commits = _Commits(self._shard.pending, self._checked, self._made)
        self.commits.registry = self

    async def create(self, group: EntanglementGroup) -> EntanglementGroup:
        await self.commits.wait_for_group(group.group_id)
        self._make([self.table.plan_create(group)])
        return self.table.get(group.group_id)

    async def get(self, group_id: str) -> EntanglementGroup:
        await self.commits.wait_for_group(group_id)
        return self.table.get(group_id)

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        await self.commits.wait_for_member(entity_id)
        return self.table.of_member(entity_id)

    async def entity_deleted(self, entity_id: str) -> None:
        self._make(self.table.plan_leave(entity_id))

    async def entities_written(self, entity_ids: Sequence[str]) -> None:
        return None  # nobody caches here

    def close(self) -> None:
        self._journal.close()

    def _checked(self, group: EntanglementGroup) -> EntanglementGroup:
        change = self.table.plan_create(group)
        return self.table.get(group.group_id) if change is None or change.after is None else change.after

    async def _made(self, groups: Sequence[EntanglementGroup], record: Mapping[str, Any]) -> None:
        self._make([self.table.plan_create(one) for one in groups if not self.table.holds(one.group_id)], record)

    def _make(self, changes: Sequence[GroupChange | None], *records: Mapping[str, Any]) -> None:
        written = [*(change.record() for change in changes if change is not None), *map(dict, records)]
        if not written:
            return
        last = self._journal.append("groups", written)
        for number, record in enumerate(written, last - len(written) + 1):
            self._shard.apply(number, record)


class NoStates:
    """``States`` of which nothing is asked here."""

    def record(self, events: EventBatch) -> None:
        return None

    async def instances(self, entity_id: str) -> Instances:
        raise NotFound(f"there is no state of {entity_id!r}")


class Embedded:
    """A database in a folder. Queries that run circuits are not asked of it."""

    def __init__(
        self,
        folder: Path,
        journal_url: str = "",
        wait_s: float = 10.0,
        kind: type[QdrantEdgeStore] = QdrantEdgeStore,
    ) -> None:
        self.store = kind(folder / "store")
        self.registry = Registry(folder / "groups.sqlite")
        url = journal_url or f"sqlite:///{folder / 'commits.sqlite'}"
        self.coordinator = Coordinator(
            stores=OneStore(self.store),
            groups=self.registry.commits,
            states=NoStates(),
            open_journal=lambda: open_journal(url),
            clock=SystemClock(),
            rng=np.random.default_rng(0),
            on_fenced=_fail,
            policy=CommitPolicy(wait_s=wait_s),
        )
        jobs, sessions = FakeJobs(), FakeSessions(SystemClock())
        database = Database(
            store=self.store,
            writes=self.coordinator,
            jobs=jobs,
            templates=FakeTemplates(),
            states=NoStates(),
            groups=self.registry,
            sessions=sessions,
            clock=SystemClock(),
            rng=np.random.default_rng(0),
        )
        measurement = GroupMeasurement(jobs=jobs, groups=self.registry, default_backend="simulator")
        calls = JobCalls(None, jobs, "simulator")  # type: ignore[arg-type] # nothing is asked of it
        directory = directory_of(database, measurement, sessions)
        self.api = Api(directory, BatchRunner(jobs, "simulator"), calls, lambda _: None)

    async def close(self) -> None:
        await self.coordinator.close()
        self.registry.close()
        await self.store.close()


def _fail(error: Fenced) -> None:
    raise AssertionError(error)
