"""What lies around the commit protocol in its simulated world: a store, and a registry of groups with its own journal.

The registry's part in transactions (``GroupCommits``) is the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from quantum_db.commits.group_commits import GroupCommits
from quantum_db.commits.planning import Needs, Stored
from quantum_db.errors import NotFound, Unavailable
from quantum_db.group_store import GroupShard
from quantum_db.model import EntanglementGroup, Entity

Strikes = Callable[[float], bool]


class Died(Exception):
    """The process was killed in the middle of a call."""


class SimulatedStore:
    """Entities on disk. A write may fail before, midway or after it was done, and the process may die in it."""

    def __init__(self, rng: np.random.Generator, strikes: Strikes) -> None:
        self.entities: dict[str, Entity] = {}
        self.torn: set[frozenset[str]] = set()
        self._rng, self._strikes = rng, strikes
        self.plant = ""
        self._read_before: dict[str, Entity | None] = {}

    def read(self, needs: Needs) -> Stored:
        self.check_whole()
        entities = {one: self.entities.get(one) for one in needs.entities}
        found = {one: self.entities.get(one) for one in needs.versions}
        if self.plant == "reads are old":
            found = {one: self._read_before.setdefault(one, entity) for one, entity in found.items()}
        versions = {one: None if entity is None else entity.version for one, entity in found.items()}
        return Stored(entities, versions, 2 if self.entities else None)

    def fetch(self, ids: Iterable[str]) -> dict[str, Entity | None]:
        self.check_whole()
        return {one: self.entities.get(one) for one in ids}

    def put(self, entities: Sequence[Entity], probability: float, dies: float) -> None:
        self.check_whole()
        self._change([(one.id, one) for one in entities], probability, dies)

    def erase(self, ids: Sequence[str], probability: float, dies: float) -> list[bool]:
        self.check_whole()
        there = [one in self.entities for one in ids]
        self._change([(one, None) for one in ids], probability, dies)
        return there

    def apply(
        self, commit: int, upserts: Sequence[Entity], deletes: Sequence[str], probability: float, dies: float
    ) -> None:
        changed = frozenset([*(one.id for one in upserts), *deletes])
        if self.plant != "half a transaction is shown":
            self.torn.add(changed)
        if self.plant == "vectors change places" and len(upserts) > 1:
            vectors = [one.vector for one in upserts]
            upserts = [replace(one, vector=v) for one, v in zip(upserts, [*vectors[1:], vectors[0]], strict=True)]
        self._change([*((one.id, one) for one in upserts), *((one, None) for one in deletes)], probability, dies)
        self.torn.discard(changed)

    def check_whole(self) -> None:
        if self.torn:
            raise Unavailable("written in part")

    def _change(self, changes: Sequence[tuple[str, Entity | None]], probability: float, dies: float) -> None:
        self._in_part([lambda change=change: self._set(*change) for change in changes], probability, dies)

    def _set(self, entity_id: str, entity: Entity | None) -> None:
        if entity is None:
            self.entities.pop(entity_id, None)
        else:
            self.entities[entity_id] = entity

    def _in_part(self, changes: Sequence[Callable[[], None]], probability: float, dies: float) -> None:
        """Do all changes, or those up to some place, where the store fails or the process dies."""
        fails, dead = self._strikes(probability), self._strikes(dies)
        until = int(self._rng.integers(len(changes) + 1)) if fails or dead else len(changes)
        for change in changes[:until]:
            change()
        if dead:
            raise Died
        if fails:
            raise Unavailable("the store failed")


class RegistryDisk:
    """A ``Journal`` of records in memory that outlive the process. An append may fail, before or after it was done."""

    def __init__(self, strikes: Strikes, probability: float) -> None:
        self._streams: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self._last: dict[str, int] = {}
        self._strikes, self._probability = strikes, probability

    def append(self, stream: str, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None) -> int:
        if self._strikes(self._probability):
            raise Unavailable("the registry's journal failed")
        for record in records:
            self._last[stream] = self.last(stream) + 1
            self._streams.setdefault(stream, []).append((self._last[stream], dict(record)))
        if self._strikes(self._probability):
            raise Unavailable("the answer of the registry's journal was lost")
        return self.last(stream)

    def read(self, stream: str, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from [row for row in self._streams.get(stream, []) if row[0] > after]

    def last(self, stream: str) -> int:
        return self._last.get(stream, 0)

    def begin_epoch(self, stream: str) -> int:
        raise AssertionError("the registry fences nobody")

    def compact(
        self, stream: str, through: int, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None
    ) -> None:
        kept = [row for row in self._streams[stream] if row[0] > through]
        self._streams[stream] = [*((through, dict(record)) for record in records), *kept]

    def close(self) -> None:
        return None


class Registry:
    """The groups, in a process that may be killed and started again."""

    def __init__(self, disk: RegistryDisk) -> None:
        self._disk = disk
        self.restart()

    def restart(self) -> None:
        self.shard = GroupShard()
        for number, record in self._disk.read("groups"):
            self.shard.apply(number, record)
        self.table = self.shard.table
        self.commits = GroupCommits(self.shard.pending, self._checked, self._made)

    def call(self, method: str, *arguments: Any) -> Any:
        return _at_once(getattr(self.commits, method)(*arguments))

    def get(self, group_id: str) -> EntanglementGroup | None:
        """Return a group, None if there is none. Raises Unavailable where one would have to wait."""
        if self.commits._pending.is_pending(group_id):
            raise Unavailable("a transaction is about to create it")
        try:
            return self.table.get(group_id)
        except NotFound:
            return None

    def _checked(self, group: EntanglementGroup) -> EntanglementGroup:
        change = self.table.plan_create(group)
        return self.table.get(group.group_id) if change is None or change.after is None else change.after

    async def _made(self, groups: Sequence[EntanglementGroup], record: Mapping[str, Any]) -> None:
        new = [self.table.plan_create(group) for group in groups if not self.table.holds(group.group_id)]
        records = [*(change.record() for change in new if change is not None), dict(record)]
        last = self._disk.append("groups", records)
        for number, one in enumerate(records, last - len(records) + 1):
            self.shard.apply(number, one)


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run what does not suspend."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it suspended")
