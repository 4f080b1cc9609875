"""The ports in memory, for unit tests only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantum_db.backend_ports import BackendLimits, BackendResult, Condition, JobRequest
from quantum_db.circuits.cache import TemplateCache
from quantum_db.circuits.simulator import SimulatorBackend
from quantum_db.circuits.template import Template
from quantum_db.clock import SystemClock
from quantum_db.collection_table import Collection, CollectionTable, Metric, dropped_record
from quantum_db.commits.coordinator import Coordinator
from quantum_db.commits.group_commits import GroupCommits
from quantum_db.commits.pending_groups import PendingGroups
from quantum_db.database import Database
from quantum_db.directory import Directory, Inside
from quantum_db.errors import Fenced, NotFound
from quantum_db.groups import GroupPage, GroupTable, GroupUpdate
from quantum_db.jobs.rounds import run_here
from quantum_db.lifecycle import StateEvent
from quantum_db.measurement import GroupMeasurement
from quantum_db.model import Candidates, EntanglementGroup, Entity, Search
from quantum_db.ports import Clock, Sessions
from quantum_db.scope import DEFAULT_COLLECTION, Scope
from quantum_db.sessions import Observation, SessionKey, SessionTable
from quantum_db.state_store import StateShard, events_record
from quantum_db.states.events import EventBatch
from quantum_db.states.history import Instances
from quantum_db.stores.places import OneStore
from quantum_db.stores.points import point_id


class FakeClock:
    def __init__(self) -> None:
        self.time_s = 1_000.0

    def now_s(self) -> float:
        return self.time_s

    def monotonic_s(self) -> float:
        self.time_s += 1e-6
        return self.time_s


class FakeStore:
    """Brute force over a dict; one row for each context."""

    def __init__(self) -> None:
        self.entities: dict[str, Entity] = {}
        self.size: int | None = None

    async def dimension(self) -> int | None:
        return self.size

    async def upsert(self, entities: Sequence[Entity]) -> None:
        for entity in entities:
            self.size = self.size or entity.dimension
            self.entities[entity.id] = entity

    async def fetch(self, ids: Sequence[str]) -> list[Entity | None]:
        return [self.entities.get(entity_id) for entity_id in ids]

    async def scroll(self, after: str | None, limit: int) -> tuple[list[Entity], str | None]:
        left = sorted((point_id(i, 0), i) for i in self.entities if point_id(i, 0) >= (after or ""))
        following = left[limit][0] if len(left) > limit else None
        return [self.entities[i] for _, i in left[:limit]], following

    async def delete(self, ids: Sequence[str]) -> list[bool]:
        return [self.entities.pop(entity_id, None) is not None for entity_id in ids]

    async def apply(self, commit: int, upserts: Sequence[Entity], deletes: Sequence[str]) -> None:
        await self.upsert(upserts)
        await self.delete(deletes)

    async def newest_commit(self) -> int:
        return 0

    async def sweep(self, through: int) -> None:
        return None

    async def versions(self, ids: Sequence[str]) -> list[int | None]:
        return [None if entity is None else entity.version for entity in await self.fetch(ids)]

    async def search(self, searches: Sequence[Search]) -> list[Candidates]:
        return [self._search(search) for search in searches]

    def _search(self, search: Search) -> Candidates:
        found = []
        for entity in self.entities.values():
            rows = [
                (context.name, context.weight, entity.vector if context.vector is None else context.vector)
                for context in entity.contexts
            ] or [(None, 1.0, entity.vector)]
            rows = [row for row in rows if not search.contexts or row[0] in search.contexts]
            if not rows:
                continue
            best = max(float(row[2] @ search.vector) for row in rows)
            if not search.contexts and not search.all_contexts:
                rows = [max(rows, key=lambda row: float(row[2] @ search.vector))]
            found.append((best, entity, rows))
        found.sort(key=lambda item: (-item[0], item[1].id))
        found = found[: search.limit]
        rows = [(place, row) for place, (_, _, rows) in enumerate(found) for row in rows]
        return Candidates(
            entity_ids=tuple(entity.id for _, entity, _ in found),
            metadata=tuple(entity.metadata for _, entity, _ in found),
            coherence_time_ms=tuple(entity.coherence_time_ms for _, entity, _ in found),
            owner=np.array([place for place, _ in rows], dtype=np.int32),
            contexts=tuple(row[0] for _, row in rows),
            weights=np.array([row[1] for _, row in rows], dtype=np.float64),
            vectors=np.array([row[2] for _, row in rows], dtype=np.float32).reshape(len(rows), search.vector.size),
        )

    async def context_names(self) -> list[str]:
        return sorted({context.name for entity in self.entities.values() for context in entity.contexts})

    async def count(self) -> int:
        return len(self.entities)

    async def flush(self) -> None:
        return None

    async def optimize(self) -> None:
        return None

    async def close(self) -> None:
        return None


class FakeJobs:
    """Runs jobs at once on the real simulator; ``before`` may raise, or wait."""

    def __init__(self, seed: int = 0, before: Callable[[JobRequest], None] | None = None) -> None:
        self.backend = SimulatorBackend(np.random.default_rng(seed))
        self.requests: list[JobRequest] = []
        self.before = before

    async def limits(self, backend: str) -> BackendLimits:
        return self.backend.limits

    async def conditions(self) -> dict[str, Condition]:
        return {"simulator": Condition(self.backend.limits, "simulated shots", "closed", 0.0, 0.0)}

    async def run(self, request: JobRequest) -> BackendResult:
        self.requests.append(request)
        if self.before is not None:
            self.before(request)
        return run_here(self.backend, request, SystemClock())


class FakeTemplates:
    def __init__(self) -> None:
        self.cache = TemplateCache()

    async def overlap(self, num_qubits: int) -> Template:
        return self.cache.overlap(num_qubits)

    def note(self, template: Template) -> None:
        self.cache.put(template)

    async def get(self, key: str) -> Template:
        template = self.cache.find(key)
        if template is None:
            raise NotFound(f"there is no circuit {key!r}")
        return template


class FakeStates:
    """One shard, at a time that stands still."""

    def __init__(self) -> None:
        self.events: list[StateEvent] = []
        self.shard = StateShard(1_000)

    def record(self, events: EventBatch) -> None:
        self.events += list(events)
        self.shard.apply(1, events_record(events, 0.0))

    async def instances(self, entity_id: str) -> Instances:
        found = self.shard.instances(entity_id, 0.0)
        if found is None:
            raise NotFound(f"there is no state of {entity_id!r}")
        return found


class FakeJournal:
    """A journal in memory, one for all who open it; ``before`` may raise."""

    def __init__(self) -> None:
        self.streams: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self.epochs: dict[str, int] = {}
        self.before: Callable[[Sequence[Mapping[str, Any]]], None] = lambda records: None

    def begin_epoch(self, stream: str) -> int:
        self.epochs[stream] = self.epochs.get(stream, 0) + 1
        return self.epochs[stream]

    def append(self, stream: str, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None) -> int:
        if epoch is not None and epoch != self.epochs[stream]:
            raise Fenced(f"epoch {epoch} may not write")
        self.before(records)
        rows = self.streams.setdefault(stream, [])
        for record in records:
            rows.append((self.last(stream) + 1, json.loads(json.dumps(record, allow_nan=False))))
        return self.last(stream)

    def read(self, stream: str, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from [row for row in self.streams.get(stream, []) if row[0] > after]

    def last(self, stream: str) -> int:
        rows = self.streams.get(stream, [])
        return rows[-1][0] if rows else 0

    def compact(
        self, stream: str, through: int, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None
    ) -> None:
        kept = [row for row in self.streams[stream] if row[0] > through]
        snapshot = [(through, json.loads(json.dumps(record, allow_nan=False))) for record in records]
        self.streams[stream] = [*snapshot, *kept]

    def close(self) -> None:
        return None


class FakeCommits(GroupCommits):
    """The real part of the registry in transactions, on a table in memory."""

    def __init__(self, groups: FakeGroups) -> None:
        super().__init__(groups.pending, groups.checked, self._made, wait_s=2.0)
        self.groups = groups

    async def _made(self, groups: Sequence[EntanglementGroup], record: dict[str, Any]) -> None:
        for group in groups:
            self.groups.created(group)
        self.groups.pending.apply(self.groups.pending.number + 1, record)

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        return await self.groups.of_member(entity_id)

    async def entity_deleted(self, entity_id: str) -> None:
        await self.groups.entity_deleted(entity_id)

    async def entities_written(self, entity_ids: Sequence[str]) -> None:
        await self.groups.entities_written(entity_ids)


class FakeGroups:
    """The registry in memory; its part in transactions is the real one."""

    def __init__(self) -> None:
        self.table = GroupTable()
        self.written: list[str] = []
        self.pending = PendingGroups()
        self.commits = FakeCommits(self)

    def checked(self, group: EntanglementGroup) -> EntanglementGroup:
        change = self.table.plan_create(group)
        return self.table.get(group.group_id) if change is None or change.after is None else change.after

    def created(self, group: EntanglementGroup) -> EntanglementGroup:
        change = self.table.plan_create(group)
        if change is not None:
            self.table.apply(change)
        return self.table.get(group.group_id)

    async def create(self, group: EntanglementGroup) -> EntanglementGroup:
        return self.created(group)

    async def get(self, group_id: str) -> EntanglementGroup:
        return self.table.get(group_id)

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        return self.table.of_member(entity_id)

    async def update(self, group_id: str, update: GroupUpdate, version: int) -> EntanglementGroup | None:
        change = self.table.plan_update(group_id, update, version=version)
        if change is None:
            return self.table.get(group_id)
        self.table.apply(change)
        return change.after

    async def delete(self, group_id: str, version: int | None) -> int:
        change = self.table.plan_delete(group_id, version=version or self.table.get(group_id).version)
        self.table.apply(change)
        return change.version

    async def page(self, member: str | None, after: str, limit: int) -> GroupPage:
        return self.table.page(after, limit) if member is None else self.table.page_of_member(member, after, limit)

    async def entity_deleted(self, entity_id: str) -> None:
        for change in self.table.plan_leave(entity_id):
            self.table.apply(change)

    async def entities_written(self, entity_ids: Sequence[str]) -> None:
        self.written += [one for one in entity_ids if self.table.of_member(one)]


class FakeSessions:
    def __init__(self, clock: Clock) -> None:
        self.table = SessionTable()
        self.clock = clock
        self.calls = 0

    async def weights(self, key: SessionKey, candidates: Candidates) -> NDArray[np.float64]:
        self.calls += 1
        return self.table.adjusted_weights(key, candidates, self.clock.now_s())

    async def observe(
        self,
        key: SessionKey,
        seen: Observation,
        groups: Sequence[EntanglementGroup],
        contexts: Mapping[str, Sequence[str]],
    ) -> None:
        self.calls += 1
        self.table.observe(key, seen, groups, contexts, self.clock.now_s())

    async def get(self, key: SessionKey) -> Mapping[str, Any]:
        found = self.table.get(key, self.clock.now_s())
        if found is None:
            raise NotFound(f"there is no session {key.session_id!r}")
        return found

    async def end(self, key: SessionKey) -> None:
        self.table.end(key)


class FakeCollections:
    """Collections that nothing is kept of."""

    def __init__(self) -> None:
        self.table = CollectionTable()

    async def resolve(self, scope: Scope) -> Collection:
        return self.table.get(scope) if scope.collection != DEFAULT_COLLECTION else await self.create(scope, None)

    async def create(self, scope: Scope, dimension: int | None, metric: Metric = "cosine") -> Collection:
        made, known = self.table.plan(scope, dimension, metric, at_s=1.0, most=3)
        if not known:
            self.table.apply(1, made.record())
        return made

    async def drop(self, scope: Scope) -> Collection:
        found = self.table.get(scope)
        self.table.apply(1, dropped_record(found.key))
        return found

    async def describe(self, scope: Scope) -> tuple[Collection, int | None, int]:
        return self.table.get(scope), None, 0

    async def page(self, tenant: str, after: str, limit: int) -> tuple[list[Collection], str | None]:
        return self.table.page(tenant, after, limit)


def directory_of(database: Database, measurement: GroupMeasurement, sessions: Sessions) -> Directory:
    """A directory in which every collection is the same database."""
    collections = FakeCollections()
    return Directory(collections, lambda one: Inside(one, database, measurement, sessions), SystemClock())


def coordinator(store: FakeStore, groups: FakeGroups, states: FakeStates, journal: FakeJournal) -> Coordinator:
    """The real coordinator of fakes."""

    def fail(error: Fenced) -> None:
        raise AssertionError(error)

    return Coordinator(
        stores=OneStore(store),
        groups=groups.commits,
        states=states,
        open_journal=lambda: journal,
        clock=SystemClock(),
        rng=np.random.default_rng(0),
        on_fenced=fail,
    )
