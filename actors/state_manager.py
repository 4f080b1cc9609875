"""Keeps the lifecycle of states, and sessions, split over several actors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from actors.kept_shard import KeptShard
from quantum_db.clock import SystemClock
from quantum_db.errors import NotFound, QuantumDBError
from quantum_db.journals.layout import ShardPlace
from quantum_db.model import Candidates, EntanglementGroup
from quantum_db.sessions import Observation, SessionKey, SessionLimits
from quantum_db.state_store import StateShard, ended_record, events_record, observed_record
from quantum_db.states.columns import Outcome, Transitions
from quantum_db.states.events import EventBatch
from quantum_db.states.history import Instances, Retention
from quantum_db.telemetry import Snapshot, snapshot

logger = logging.getLogger(__name__)

TICK_S = 0.1
ADVANCE_LIMIT = 1_000
"""States that may decohere in one step, about a millisecond of work; other calls come between the steps."""


@dataclass(frozen=True, slots=True)
class ShardSettings:
    """How a shard is made up.

    Attributes:
        place: its journal.
        capacity: hot states.
        retention: of archived instances.
        sessions: the bounds of sessions.
    """

    place: ShardPlace
    capacity: int
    retention: Retention = field(default_factory=Retention)
    sessions: SessionLimits = field(default_factory=SessionLimits)

    def fresh(self) -> StateShard:
        """Return the empty shard."""
        return StateShard(self.capacity, self.retention, self.sessions)


class StateManager:
    """A ``StateShard`` with its journal: what it acknowledged is there after a crash."""

    def __init__(self, shard: int, settings: ShardSettings) -> None:
        self._name = f"states-{shard}"
        self._clock = SystemClock()
        self._shard = KeptShard(self._name, settings.place, settings.fresh)
        self._registry = CollectorRegistry()
        self._steps = Counter("state_transitions", "Transitions made", ["to"], registry=self._registry)
        self._refused = Counter("state_events_refused", "Events that no lifecycle allows", registry=self._registry)
        self._states = Gauge("states", "Hot states by phase", ["phase"], registry=self._registry)
        self._sessions = Gauge("sessions", "Sessions held", registry=self._registry)
        self._advance_s = Histogram("state_advance_seconds", "Time of a step of expiry", registry=self._registry)
        self._timer = asyncio.get_running_loop().create_task(self._tick())

    async def ready(self) -> bool:
        """Return True once the journal has been read and checked. Raises CorruptData and InvalidSettings."""
        await self._shard.ready()
        return True

    async def apply(self, events: EventBatch) -> None:
        """Apply a batch of events, durable when this returns.

        An event that the lifecycle refuses is counted and logged, not raised. Raises InvalidRequest for a malformed
        batch.
        """
        events.check()
        keeper = await self._shard.opened()
        (outcome,) = await keeper.write([events_record(events, self._clock.now_s())])
        assert isinstance(outcome, Outcome)
        for refusal in outcome.refused:
            self._refused.inc()
            logger.warning("%s", refusal.reason)
        self._count(outcome.transitions)

    async def instances(self, entity_id: str) -> Instances:
        """Return the state of an entity and the archived instances before it. Raises NotFound."""
        keeper = await self._shard.opened()
        found = keeper.kept.instances(entity_id, self._clock.now_s())
        if found is None:
            raise NotFound(f"there is no state of {entity_id!r}")
        return found

    async def weights(self, key: SessionKey, candidates: Candidates) -> NDArray[np.float64]:
        """See ``Sessions.weights``."""
        keeper = await self._shard.opened()
        async with keeper.alone:
            return keeper.kept.sessions.adjusted_weights(key, candidates, self._clock.now_s())

    async def observe(
        self,
        key: SessionKey,
        seen: Observation,
        groups: Sequence[EntanglementGroup],
        contexts: Mapping[str, Sequence[str]],
    ) -> None:
        """See ``Sessions.observe``."""
        keeper = await self._shard.opened()
        names = {one: list(held) for one, held in contexts.items()}
        await keeper.write([observed_record(key, seen, list(groups), names, self._clock.now_s())])

    async def session(self, key: SessionKey) -> Mapping[str, Any]:
        """See ``Sessions.get``."""
        found = (await self._shard.opened()).kept.sessions.get(key, self._clock.now_s())
        if found is None:
            raise NotFound(f"there is no session {key.session_id!r}")
        return found

    async def end_session(self, key: SessionKey) -> None:
        """See ``Sessions.end``."""
        await (await self._shard.opened()).write([ended_record(key)])

    async def metrics(self) -> Snapshot:
        """Return this process's metrics."""
        if self._shard.keeper is not None:
            kept = self._shard.keeper.kept
            self._sessions.set(len(kept.sessions))
            for phase, count in kept.table.counts().items():
                self._states.labels(phase.value).set(count)
        return snapshot(self._registry, self._name)

    async def close(self) -> None:
        """Release the journal."""
        self._timer.cancel()
        await self._shard.close()

    async def _tick(self) -> None:
        """Let states decohere and sessions end, in bounded steps, also when nobody asks. Time decides: no record."""
        try:
            keeper = await self._shard.ready()
        except QuantumDBError:
            return  # ``ready`` tells it
        while True:
            await asyncio.sleep(TICK_S)
            due = True
            while due:
                async with keeper.alone:
                    start, now_s = time.perf_counter(), self._clock.now_s()
                    self._count(keeper.kept.table.advance(now_s, ADVANCE_LIMIT))
                    ended = keeper.kept.sessions.advance(now_s, ADVANCE_LIMIT)
                    self._advance_s.observe(time.perf_counter() - start)
                    due = ended == ADVANCE_LIMIT or keeper.kept.table.due(now_s)
                await asyncio.sleep(0)

    def _count(self, transitions: Transitions) -> None:
        for phase, count in transitions.counts().items():
            self._steps.labels(phase.value).inc(count)
