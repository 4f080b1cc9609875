"""The database in this process, with its real parts: embedded store, journals in SQLite, coordinator, registry, API."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quantum_db.api import Api, JobCalls
from quantum_db.batches import BatchRunner
from quantum_db.clock import SystemClock
from quantum_db.commits.coordinator import CommitPolicy, Coordinator
from quantum_db.commits.group_commits import GroupCommits
from quantum_db.database import Database
from quantum_db.errors import Fenced
from quantum_db.groups import GroupTable
from quantum_db.journals.open import open_journal
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.lifecycle import StateEvent
from quantum_db.measurement import GroupMeasurement
from quantum_db.model import EntanglementGroup
from quantum_db.stores.qdrant_edge import QdrantEdgeStore
from tests.unit.fakes import FakeJobs, FakeTemplates


class Registry:
    """Implements ``Groups``, as the registry's actor does; its part in transactions is ``commits``."""

    def __init__(self, path: Path) -> None:
        self._journal = SqliteJournal(path)
        self.table = GroupTable()
        self.table.restore(record for _, record in self._journal.read("groups"))
        self.commits = GroupCommits(self._journal, self._checked, self._created)

    async def create(self, group: EntanglementGroup) -> EntanglementGroup:
        await self.commits.wait_for_group(group.group_id)
        return self._created(group)

    async def get(self, group_id: str) -> EntanglementGroup:
        await self.commits.wait_for_group(group_id)
        return self.table.get(group_id)

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        await self.commits.wait_for_member(entity_id)
        return self.table.of_member(entity_id)

    def close(self) -> None:
        self._journal.close()

    def _checked(self, group: EntanglementGroup) -> EntanglementGroup:
        change = self.table.plan_create(group)
        return self.table.get(group.group_id) if change is None or change.after is None else change.after

    def _created(self, group: EntanglementGroup) -> EntanglementGroup:
        change = self.table.plan_create(group)
        if change is not None:
            self._journal.append("groups", [change.record()])
            self.table.apply(change)
        return self.table.get(group.group_id)


class NoStates:
    """A ``StateLog`` of which nothing is asked here."""

    def record(self, events: Sequence[StateEvent]) -> None:
        return None


class Embedded:
    """A database in a folder. Queries that run circuits are not asked of it."""

    def __init__(self, folder: Path, journal_url: str = "", wait_s: float = 10.0) -> None:
        self.store = QdrantEdgeStore(folder / "store")
        self.registry = Registry(folder / "groups.sqlite")
        url = journal_url or f"sqlite:///{folder / 'commits.sqlite'}"
        self.coordinator = Coordinator(
            store=self.store,
            groups=self.registry.commits,
            states=NoStates(),
            open_journal=lambda: open_journal(url),
            clock=SystemClock(),
            rng=np.random.default_rng(0),
            on_fenced=_fail,
            policy=CommitPolicy(wait_s=wait_s),
        )
        jobs = FakeJobs()
        database = Database(
            store=self.store,
            writes=self.coordinator,
            jobs=jobs,
            templates=FakeTemplates(),
            states=NoStates(),
            groups=self.registry,
            clock=SystemClock(),
            rng=np.random.default_rng(0),
        )
        measurement = GroupMeasurement(jobs=jobs, groups=self.registry, default_backend="simulator")
        calls = JobCalls(None, jobs, "simulator")  # type: ignore[arg-type] # nothing is asked of it
        self.api = Api(database, measurement, BatchRunner(jobs, "simulator"), calls, lambda _: None)

    async def close(self) -> None:
        await self.coordinator.close()
        self.registry.close()
        await self.store.close()


def _fail(error: Fenced) -> None:
    raise AssertionError(error)
