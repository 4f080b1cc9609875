"""Keeps the lifecycle of states, split by entity over several actors, and the replicas' side of it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry, Counter, Gauge
from ray.actor import ActorHandle

from actors.shell import ask
from quantum_db.clock import SystemClock
from quantum_db.errors import NotFound, Unavailable
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.lifecycle import StateEvent
from quantum_db.ports import Journal
from quantum_db.sharding import shard_of
from quantum_db.states.columns import Transitions
from quantum_db.states.events import EventBatch
from quantum_db.states.history import History, Instances
from quantum_db.states.records import record_of
from quantum_db.states.table import StateTable
from quantum_db.telemetry import Snapshot, snapshot

logger = logging.getLogger(__name__)

ARCHIVE = "archived-instances"
ADVANCE_LIMIT = 5_000
"""States that may decohere after a batch: more than a batch prepares on average, and a few ms of work."""
FLUSH_INTERVAL_S = 0.05
MAX_BUFFERED = 100_000


class StateManager:
    """One shard of the states. Archived instances go to its journal; the hot ones are in memory."""

    def __init__(self, shard: int, journal_path: str, capacity: int) -> None:
        self._shard = shard
        self._clock = SystemClock()
        self._journal: Journal = SqliteJournal(Path(journal_path))
        self._table, self._history = StateTable(capacity), History()
        self._table.restore(record for _, record in self._journal.read(ARCHIVE))
        self._history.restore((record for _, record in self._journal.read(ARCHIVE)), self._clock.now_s())
        self._registry = CollectorRegistry()
        self._steps = Counter("state_transitions", "Transitions made", ["to"], registry=self._registry)
        self._refused = Counter("state_events_refused", "Events that no lifecycle allows", registry=self._registry)
        self._states = Gauge("states", "Hot states by phase", ["phase"], registry=self._registry)

    async def ready(self) -> bool:
        """Return True once the journal has been read."""
        return True

    async def apply(self, events: EventBatch) -> None:
        """Apply a batch of events. An event that the lifecycle refuses is counted and logged, not raised."""
        outcome = self._table.apply(events)
        for refusal in outcome.refused:
            self._refused.inc()
            logger.warning("%s", refusal.reason)
        archived = outcome.transitions.archived()
        if archived:
            self._journal.append(ARCHIVE, [record_of(state) for state in archived])
            self._history.add(archived, self._clock.now_s())
        self._count(outcome.transitions)
        self._advance()

    async def instances(self, entity_id: str) -> Instances:
        """Return the state of an entity and the archived instances before it. Raises NotFound."""
        now_s = self._clock.now_s()
        found = self._history.of(entity_id, self._table.get(entity_id, now_s), now_s)
        if found is None:
            raise NotFound(f"there is no state of {entity_id!r}")
        return found

    async def metrics(self) -> Snapshot:
        """Return this process's metrics."""
        self._advance()
        for phase, count in self._table.counts().items():
            self._states.labels(phase.value).set(count)
        return snapshot(self._registry, f"states-{self._shard}")

    def _advance(self) -> None:
        self._count(self._table.advance(self._clock.now_s(), ADVANCE_LIMIT))

    def _count(self, transitions: Transitions) -> None:
        for phase, count in transitions.counts().items():
            self._steps.labels(phase.value).inc(count)


class ShardedStateLog:
    """Implements ``StateLog``: buffers events and sends them in the background, one batch a shard and interval."""

    def __init__(self, shards: Sequence[ActorHandle[Any]], registry: CollectorRegistry) -> None:
        self._shards = tuple(shards)
        self._buffer: deque[StateEvent] = deque()
        self._lost = Counter("state_events_lost", "Events dropped: full buffer or dead shard", registry=registry)
        self._task: asyncio.Task[None] | None = None

    def record(self, events: Sequence[StateEvent]) -> None:
        """See ``StateLog.record``. Beyond a full buffer the oldest events are dropped and counted."""
        self._buffer.extend(events)
        while len(self._buffer) > MAX_BUFFERED:
            self._buffer.popleft()
            self._lost.inc()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._flush_soon())

    async def instances(self, entity_id: str) -> Instances:
        """Return the instances of an entity's state as its shard knows them. Raises NotFound."""
        shard = self._shards[shard_of(entity_id, len(self._shards))]
        return cast(Instances, await ask(shard.instances.remote(entity_id)))

    async def _flush_soon(self) -> None:
        while self._buffer:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            await self._flush()

    async def _flush(self) -> None:
        batches: dict[int, list[StateEvent]] = {}
        while self._buffer:
            event = self._buffer.popleft()
            batches.setdefault(shard_of(event.entity_id, len(self._shards)), []).append(event)
        for shard, events in batches.items():
            try:
                await ask(self._shards[shard].apply.remote(EventBatch.of(events)))
            except Unavailable as error:
                self._lost.inc(len(events))
                logger.warning("%d state events were lost: %s", len(events), error.detail)
