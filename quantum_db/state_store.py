"""One shard of the states and sessions, as its journal keeps it. Pure; ``journals.keeper`` writes and reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np

from quantum_db.errors import CorruptData
from quantum_db.groups import group_of_record, record_of
from quantum_db.last_numbers import is_of_numbers
from quantum_db.lifecycle import Phase
from quantum_db.model import EntanglementGroup
from quantum_db.resharding import resharded
from quantum_db.sessions import Observation, SessionKey, SessionLimits, SessionTable
from quantum_db.states.batches import batch_of_record, record_of_batch
from quantum_db.states.columns import Outcome
from quantum_db.states.events import EventBatch
from quantum_db.states.history import History, Instances, Retention
from quantum_db.states.packing import pack, unpack
from quantum_db.states.table import StateTable

Json = dict[str, Any]


class StateShard:
    """Hot states, archived instances and sessions.

    The journal holds what came in (events, observations), not what came of it: applied again in their order to the
    same tables they give the same states, and a batch of events is one record.

    Implements ``journals.keeper.Kept``.
    """

    def __init__(self, capacity: int, retention: Retention | None = None, limits: SessionLimits | None = None) -> None:
        """Start empty, with room for ``capacity`` hot states."""
        self.table = StateTable(capacity)
        self.history = History(retention)
        self.sessions = SessionTable(limits)
        self.taken = 0
        self._capacity = capacity
        self._now_s = 0.0

    def apply(self, number: int, record: Mapping[str, Any]) -> Outcome | None:
        """Take in a record: one of the functions below, or of a snapshot. Raises CorruptData."""
        try:
            return self._apply(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptData(f"record {number} of the states cannot be understood: {error!r}") from error

    def instances(self, entity_id: str, now_s: float) -> Instances | None:
        """Return the current instance of an entity's state and those before it, or None."""
        return self.history.of(entity_id, self.table.get(entity_id, now_s), now_s)

    def size(self) -> int:
        """Return how many states, archived instances and sessions are held."""
        return len(self.table) + len(self.history) + len(self.sessions)

    def snapshot(self) -> Iterator[Json]:
        """Return the records that make the same shard; see ``Kept.snapshot``."""
        archived = pack(self.history.snapshot(self._now_s))
        return chain(archived, self.table.copy().runs(), self._session_records())

    def records(self) -> Iterator[Json]:
        """Return the records of a snapshot, one for each thing. Archived instances come before the hot ones."""
        return chain(self.history.snapshot(self._now_s), self.table.copy().records(), self._session_records())

    def _session_records(self) -> Iterator[Json]:
        return ({"session": record} for record in self.sessions.snapshot())

    def check(self) -> None:
        """Raise CorruptData if the tables contradict themselves. Takes no longer than reading them."""
        counts = self.table.counts()
        if sum(counts.values()) != len(self.table) or len(self.table) > self._capacity or counts[Phase.ARCHIVED]:
            raise CorruptData(f"the states contradict themselves: {len(self.table)} rows, by phase {counts}")
        try:
            self.sessions.validate()
        except AssertionError as error:
            raise CorruptData("the sessions contradict themselves; restore the journal from a backup") from error

    def _apply(self, record: Mapping[str, Any]) -> Outcome | None:
        outcome = None
        if "ids" in record:
            batch = batch_of_record(record)
            self.taken += len(batch)
            self._now_s = max(self._now_s, float(record["now_s"]))
            outcome = self.table.apply(self._untold(batch))
            self.history.add(outcome.transitions.archived(), self._now_s)
        elif "states" in record:
            self._restore_states(unpack(record))
        elif is_of_numbers(record):
            self.table.restore([record])
        elif "session" in record:
            self.taken += 1
            self.sessions.restore([record["session"]])
        elif "observed" in record:
            self.taken += 1
            self._observe(record)
        elif "ended" in record:
            self.taken += 1
            self.sessions.end(_key_of(record["ended"]))
        else:
            raise ValueError("it is of no known kind")
        return outcome

    def _untold(self, batch: EventBatch) -> EventBatch:
        """Leave out what tells of writes that archived instances or this batch know of; the table sees to hot ones."""
        latest: dict[str, int] = {}
        known = []
        places = np.flatnonzero(batch.commits)
        for at, name, commit in zip(places, batch.ids[places], batch.commits[places].tolist(), strict=True):
            if commit <= max(latest.get(name, 0), self.history.last_commit(name)):
                known.append(at)
            else:
                latest[name] = commit
        return batch.take(np.delete(np.arange(len(batch)), known)) if known else batch

    def _restore_states(self, records: list[Json]) -> None:
        archived = [record for record in records if record["phase"] == Phase.ARCHIVED.value]
        hot = [record for record in records if record["phase"] != Phase.ARCHIVED.value]
        self._now_s = max([self._now_s, *(record["since_s"] for record in records)])
        self.history.restore(archived, self._now_s)
        self.history.add(self.table.restore(hot).archived(), self._now_s)
        self.taken += len(records)

    def _observe(self, record: Mapping[str, Any]) -> None:
        seen = Observation(*map(str, record["observed"]))
        groups = [group_of_record(group) for group in record["groups"]]
        self.sessions.observe(_key_of(record["key"]), seen, groups, record["contexts"], float(record["now_s"]))


def events_record(events: EventBatch, now_s: float) -> Json:
    """Return the record of a batch that came in at ``now_s``."""
    return {**record_of_batch(events), "now_s": now_s}


def observed_record(
    key: SessionKey,
    seen: Observation,
    groups: list[EntanglementGroup],
    contexts: Mapping[str, list[str]],
    now_s: float,
) -> Json:
    """Return the record of an observation; see ``SessionTable.observe``."""
    return {
        "observed": [seen.measurement_id, seen.entity_id, seen.context],
        "key": [key.tenant, key.session_id],
        "groups": [record_of(group) for group in groups],
        "contexts": dict(contexts),
        "now_s": now_s,
    }


def ended_record(key: SessionKey) -> Json:
    """Return the record that ends a session."""
    return {"ended": [key.tenant, key.session_id]}


def split_shard(shard: StateShard, shards: int) -> Iterator[tuple[int, Json]]:
    """Yield (new shard, record) of all that a shard holds, for another number of shards."""
    parts: list[list[Json]] = [[] for _ in range(shards)]
    for place, record in resharded([shard.records()], shards, _place_of):
        parts[place].append(dict(record))
    for place, records in enumerate(parts):
        yield from ((place, record) for record in pack(records))


def _key_of(raw: Any) -> SessionKey:
    tenant, session_id = raw
    return SessionKey(str(tenant), str(session_id))


def _place_of(record: Mapping[str, Any]) -> str:
    if "session" in record:
        return SessionKey(record["session"]["tenant"], record["session"]["session_id"]).shard_key
    entity_id: str = record["entity_id"]
    return entity_id
