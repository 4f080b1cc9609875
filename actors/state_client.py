"""A replica's side of the state managers: events in the background, and sessions."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter
from ray.actor import ActorHandle

from actors.shell import ActorLost, ask
from quantum_db.errors import Unavailable
from quantum_db.model import Candidates, EntanglementGroup
from quantum_db.sessions import Observation, SessionKey
from quantum_db.sharding import shard_of
from quantum_db.states.batches import joined, split
from quantum_db.states.events import EventBatch
from quantum_db.states.history import Instances

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 0.05
MAX_BUFFERED = 100_000


class ShardedStateLog:
    """Implements ``States``: buffers batches and sends them in the background, as one for each shard and interval."""

    def __init__(self, shards: Sequence[ActorHandle[Any]], registry: CollectorRegistry) -> None:
        self._shards = tuple(shards)
        self._buffer: deque[EventBatch] = deque()
        self._buffered = 0
        self._lost = Counter("state_events_lost", "Events dropped: full buffer or dead shard", registry=registry)
        self._task: asyncio.Task[None] | None = None

    def record(self, events: EventBatch) -> None:
        """See ``StateLog.record``. Beyond a full buffer the oldest batches are dropped and counted."""
        if not len(events):
            return
        self._keep(events)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._flush_soon())

    async def instances(self, entity_id: str) -> Instances:
        """Return the instances of an entity's state as its shard knows them. Raises NotFound."""
        shard = self._shards[shard_of(entity_id, len(self._shards))]
        return cast(Instances, await ask(shard.instances.remote(entity_id)))

    async def _flush_soon(self) -> None:
        while self._buffer:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            events = joined(list(self._buffer))
            self._buffer.clear()
            self._buffered = 0
            await asyncio.gather(*(self._send(shard, batch) for shard, batch in split(events, len(self._shards))))

    async def _send(self, shard: int, events: EventBatch) -> None:
        try:
            await ask(self._shards[shard].apply.remote(events))
        except ActorLost as error:
            # They may have been applied. Those of writes may be told twice; the others could count a measurement twice.
            again = events.take(np.flatnonzero(events.commits))
            self._lost.inc(len(events) - len(again))
            logger.warning("%d state events were lost: %s", len(events) - len(again), error.detail)
            if len(again):
                await asyncio.sleep(FLUSH_INTERVAL_S)
                self._keep(again)
        except Unavailable:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            self._keep(events)

    def _keep(self, events: EventBatch) -> None:
        self._buffer.append(events)
        self._buffered += len(events)
        while self._buffered > MAX_BUFFERED:
            dropped = len(self._buffer.popleft())
            self._buffered -= dropped
            self._lost.inc(dropped)


class RemoteSessions:
    """Implements ``Sessions`` by calls to the state managers."""

    def __init__(self, shards: Sequence[ActorHandle[Any]]) -> None:
        self._shards = tuple(shards)

    async def weights(self, key: SessionKey, candidates: Candidates) -> NDArray[np.float64]:
        return cast(NDArray[np.float64], await ask(self._of(key).weights.remote(key, candidates)))

    async def observe(
        self,
        key: SessionKey,
        seen: Observation,
        groups: Sequence[EntanglementGroup],
        contexts: Mapping[str, Sequence[str]],
    ) -> None:
        await ask(self._of(key).observe.remote(key, seen, list(groups), dict(contexts)))

    async def get(self, key: SessionKey) -> Mapping[str, Any]:
        return cast(Mapping[str, Any], await ask(self._of(key).session.remote(key)))

    async def end(self, key: SessionKey) -> None:
        await ask(self._of(key).end_session.remote(key))

    def _of(self, key: SessionKey) -> ActorHandle[Any]:
        return self._shards[shard_of(key.shard_key, len(self._shards))]
