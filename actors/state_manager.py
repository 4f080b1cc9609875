"""Keeps the lifecycle of states, split by entity over several actors, and the replicas' side of it."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge
from ray.actor import ActorHandle

from actors.shell import ask
from quantum_db.clock import SystemClock
from quantum_db.errors import IllegalTransition, NotFound, Unavailable
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.lifecycle import Phase, State, StateEvent, StateTable
from quantum_db.ports import Journal
from quantum_db.telemetry import Snapshot, snapshot

logger = logging.getLogger(__name__)

ARCHIVE = "archived-states"
FLUSH_INTERVAL_S = 0.05
MAX_BUFFERED = 100_000


class StateManager:
    """One shard of the states. Archived instances go to its journal; the hot ones are in memory."""

    def __init__(self, shard: int, journal_path: str, capacity: int) -> None:
        self._shard = shard
        self._clock = SystemClock()
        self._journal: Journal = SqliteJournal(Path(journal_path))
        generations = {record["entity_id"]: record["generation"] for _, record in self._journal.read(ARCHIVE)}
        self._table = StateTable(capacity, generations)
        self._registry = CollectorRegistry()
        self._steps = Counter("state_transitions", "Transitions made", ["to"], registry=self._registry)
        self._refused = Counter("state_events_refused", "Events that no lifecycle allows", registry=self._registry)
        self._states = Gauge("states", "Hot states by phase", ["phase"], registry=self._registry)

    async def ready(self) -> bool:
        """Return True once the journal has been read."""
        return True

    async def apply(self, events: Sequence[StateEvent]) -> None:
        """Apply a batch of events. An event that the lifecycle refuses is counted and logged, not raised."""
        archived = []
        for event in events:
            try:
                transitions = self._table.apply([event])
            except IllegalTransition as error:
                self._refused.inc()
                logger.warning("%s", error.detail)
                continue
            for transition in transitions:
                self._steps.labels(transition.after.phase.value).inc()
                if transition.after.phase is Phase.ARCHIVED:
                    archived.append(_record(transition.after))
        if archived:
            self._journal.append(ARCHIVE, archived)

    async def state(self, entity_id: str) -> State:
        """Return the hot state of an entity. Raises NotFound."""
        state = self._table.get(entity_id, self._clock.now_s())
        if state is None:
            raise NotFound(f"there is no state of {entity_id!r}")
        return state

    async def metrics(self) -> Snapshot:
        """Return this process's metrics."""
        for phase, count in self._table.counts().items():
            self._states.labels(phase).set(count)
        return snapshot(self._registry, f"states-{self._shard}")


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

    async def state(self, entity_id: str) -> State:
        """Return the state of an entity as its shard knows it. Raises NotFound."""
        state = await ask(self._shards[self._shard_of(entity_id)].state.remote(entity_id))
        assert isinstance(state, State)
        return state

    async def _flush_soon(self) -> None:
        while self._buffer:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            await self._flush()

    async def _flush(self) -> None:
        batches: dict[int, list[StateEvent]] = {}
        while self._buffer:
            event = self._buffer.popleft()
            batches.setdefault(self._shard_of(event.entity_id), []).append(event)
        for shard, events in batches.items():
            try:
                await ask(self._shards[shard].apply.remote(events))
            except Unavailable as error:
                self._lost.inc(len(events))
                logger.warning("%d state events were lost: %s", len(events), error.detail)

    def _shard_of(self, entity_id: str) -> int:
        return zlib.crc32(entity_id.encode()) % len(self._shards)


def _record(state: State) -> dict[str, Any]:
    return {
        "entity_id": state.entity_id,
        "generation": state.generation,
        "archived_at_s": state.since_s,
        "measurements": state.measurements,
    }
