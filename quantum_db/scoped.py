"""What collections share, as one of them sees it: ids go out with the collection's key and come back without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantum_db.commits.operations import Request
from quantum_db.commits.ports import CommitGroups, Writes
from quantum_db.errors import QuantumDBError
from quantum_db.groups import GroupPage, GroupUpdate
from quantum_db.model import Candidates, EntanglementGroup
from quantum_db.ports import Groups, Sessions, StateLog, States
from quantum_db.scope import MARK, scoped, unscoped, unscoped_error
from quantum_db.sessions import Observation, SessionKey
from quantum_db.states.events import EventBatch
from quantum_db.states.history import Instances


class ScopedGroups:
    """Implements ``Groups`` for one collection."""

    def __init__(self, groups: Groups, key: str) -> None:
        self._groups = groups
        self._key = key

    async def create(self, group: EntanglementGroup) -> EntanglementGroup:
        with _in_their_words(self._key):
            return _inner(self._key, await self._groups.create(_outer(self._key, group)))

    async def get(self, group_id: str) -> EntanglementGroup:
        with _in_their_words(self._key):
            return _inner(self._key, await self._groups.get(scoped(self._key, group_id)))

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        with _in_their_words(self._key):
            found = await self._groups.of_member(scoped(self._key, entity_id))
        return [_inner(self._key, group) for group in found]

    async def update(self, group_id: str, update: GroupUpdate, version: int) -> EntanglementGroup | None:
        add, remove = _all_scoped(self._key, update.add), _all_scoped(self._key, update.remove)
        wanted = GroupUpdate(add, remove, update.correlation_strength)
        with _in_their_words(self._key):
            found = await self._groups.update(scoped(self._key, group_id), wanted, version)
        return None if found is None else _inner(self._key, found)

    async def delete(self, group_id: str, version: int | None) -> int:
        with _in_their_words(self._key):
            return await self._groups.delete(scoped(self._key, group_id), version)

    async def page(self, member: str | None, after: str, limit: int) -> GroupPage:
        of = None if member is None else scoped(self._key, member)
        found = await self._groups.page(of, scoped(self._key, after), limit)
        own = [group for group in found.groups if _belongs(self._key, group.group_id)]
        more = found.after if len(own) == len(found.groups) else None  # behind its last group are those of others
        return GroupPage(
            tuple(_inner(self._key, group) for group in own), None if more is None else unscoped(self._key, more)
        )

    async def entity_deleted(self, entity_id: str) -> None:
        await self._groups.entity_deleted(scoped(self._key, entity_id))

    async def entities_written(self, entity_ids: Sequence[str]) -> None:
        await self._groups.entities_written(_all_scoped(self._key, entity_ids))


class ScopedWrites:
    """Implements ``Writes`` for one collection."""

    def __init__(self, writes: Writes, key: str) -> None:
        self._writes = writes
        self._key = key

    async def do(self, request: Request) -> Mapping[str, Any]:
        return await self._writes.do(replace(request, collection=self._key) if self._key else request)


class ScopedCommitGroups:
    """Implements ``CommitGroups`` for the transactions of one collection; the numbers are those of all."""

    def __init__(self, groups: CommitGroups, key: str) -> None:
        self._groups = groups
        self._key = key

    async def prepare(self, commit: int, groups: Sequence[EntanglementGroup]) -> tuple[EntanglementGroup, ...]:
        with _in_their_words(self._key):
            found = await self._groups.prepare(commit, [_outer(self._key, group) for group in groups])
        return tuple(_inner(self._key, group) for group in found)

    async def finish(self, commit: int) -> None:
        await self._groups.finish(commit)

    async def forget(self, commit: int) -> None:
        await self._groups.forget(commit)

    async def sweep(self, first: int) -> tuple[int, ...]:
        return await self._groups.sweep(first)

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        found = await self._groups.of_member(scoped(self._key, entity_id))
        return [_inner(self._key, group) for group in found]

    async def entity_deleted(self, entity_id: str) -> None:
        await self._groups.entity_deleted(scoped(self._key, entity_id))

    async def entities_written(self, entity_ids: Sequence[str]) -> None:
        await self._groups.entities_written(_all_scoped(self._key, entity_ids))


class ScopedStateLog:
    """Implements ``StateLog`` for one collection."""

    def __init__(self, states: StateLog, key: str) -> None:
        self._log = states
        self._key = key

    def record(self, events: EventBatch) -> None:
        if self._key and len(events):
            ids = np.array(_all_scoped(self._key, events.ids.tolist()), dtype=np.object_)
            events = replace(events, ids=ids)
        self._log.record(events)


class ScopedStates(ScopedStateLog):
    """Implements ``States`` for one collection."""

    def __init__(self, states: States, key: str) -> None:
        super().__init__(states, key)
        self._states = states

    async def instances(self, entity_id: str) -> Instances:
        with _in_their_words(self._key):
            found = await self._states.instances(scoped(self._key, entity_id))
        current, *earlier = (
            replace(one, entity_id=unscoped(self._key, one.entity_id)) for one in (found.current, *found.earlier)
        )
        return Instances(current, tuple(earlier))


class ScopedSessions:
    """Implements ``Sessions`` for one collection: the same ``session_id`` in two collections is two sessions."""

    def __init__(self, sessions: Sessions, key: str) -> None:
        self._sessions = sessions
        self._key = key

    async def weights(self, key: SessionKey, candidates: Candidates) -> NDArray[np.float64]:
        return await self._sessions.weights(self._scoped(key), candidates)

    async def observe(
        self,
        key: SessionKey,
        seen: Observation,
        groups: Sequence[EntanglementGroup],
        contexts: Mapping[str, Sequence[str]],
    ) -> None:
        await self._sessions.observe(self._scoped(key), seen, groups, contexts)

    async def get(self, key: SessionKey) -> Mapping[str, Any]:
        return await self._sessions.get(self._scoped(key))

    async def end(self, key: SessionKey) -> None:
        await self._sessions.end(self._scoped(key))

    def _scoped(self, key: SessionKey) -> SessionKey:
        return SessionKey(self._key, key.session_id) if self._key else key


@contextmanager
def _in_their_words(key: str) -> Iterator[None]:
    try:
        yield
    except QuantumDBError as error:
        raise unscoped_error(key, error) from None


def _all_scoped(key: str, ids: Sequence[str]) -> tuple[str, ...]:
    return tuple(scoped(key, one) for one in ids)


def _belongs(key: str, known: str) -> bool:
    """Return whether an id is the collection's: those of the default one bear no mark."""
    return known.startswith(scoped(key, "")) if key else not known.startswith(MARK)


def _outer(key: str, group: EntanglementGroup) -> EntanglementGroup:
    if not key:
        return group
    return replace(group, group_id=scoped(key, group.group_id), entity_ids=_all_scoped(key, group.entity_ids))


def _inner(key: str, group: EntanglementGroup) -> EntanglementGroup:
    if not key:
        return group
    members = tuple(unscoped(key, one) for one in group.entity_ids)
    return replace(group, group_id=unscoped(key, group.group_id), entity_ids=members)
