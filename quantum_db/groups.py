"""Entanglement groups: which entities belong together, and how strongly. Pure; the caller writes the journal.

A change is planned, written down, and then made::

    change = table.plan_extend("g", ["e"], version=3)     raises, or decides; the table is as it was
    journal.append(..., [change.record()])                durable
    changed = table.apply(change)                         made; what the caches have to know

**Versions** of a group grow by 1 with every change and go on after a deletion, so that nobody who read an earlier group
changes a later one of the same id (exactly on for as long as ``LastNumbers`` remembers the id, else further).

**Small groups.** A group that falls below two members, by shrinking or because its members were deleted, is deleted.

**Shards.** A group lives at ``shard_of(group_id)``, whole, and each shard indexes the members of its own groups. What
is asked by member (``of_member``, ``page_of_member``, ``affected``, ``plan_leave``) is asked of all shards, and the
answers are put together: a write stays in one place, and reads by member pay for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import merge, nsmallest
from itertools import chain, islice
from typing import Any, Final

import numpy as np

from quantum_db.entanglement_rules import invalidated
from quantum_db.errors import Conflict, CorruptData, InvalidRequest, NotFound
from quantum_db.last_numbers import LastNumbers, is_of_numbers
from quantum_db.model import MAX_GROUP_MEMBERS, EntanglementGroup

REMEMBERED: Final = 50_000
"""Deleted groups whose exact version is remembered; 1 MB."""


@dataclass(frozen=True, slots=True)
class GroupChange:
    """A change that is decided, not made: None ``before`` creates, None ``after`` deletes, at ``version``."""

    group_id: str
    version: int
    before: EntanglementGroup | None
    after: EntanglementGroup | None

    def record(self) -> dict[str, Any]:
        """Return the JSON record that ``restore`` makes the same change from."""
        if self.after is None:
            return {"group_id": self.group_id, "version": self.version, "deleted": True}
        return record_of(self.after)

    def changed(self) -> GroupChanged:
        """Return what the caches have to know once it is made."""
        groups = [group for group in (self.before, self.after) if group is not None]
        members = frozenset(member for group in groups for member in group.entity_ids)
        return GroupChanged(self.group_id, self.version, members)


@dataclass(frozen=True, slots=True)
class GroupUpdate:
    """What is asked of a group: members to take in, members to let go, another strength; in this order, as one."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    correlation_strength: float | None = None


@dataclass(frozen=True, slots=True)
class GroupChanged:
    """What caches have to know: who is or was in the group, and holds answers that its correlations went into."""

    group_id: str
    version: int
    members: frozenset[str]


@dataclass(frozen=True, slots=True)
class GroupPage:
    """Some groups, by id. ``after`` asks for the next ones; None if there are no more."""

    groups: tuple[EntanglementGroup, ...]
    after: str | None


class GroupTable:
    """All groups of a shard, by id and by member."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        """Start empty."""
        self._groups: dict[str, EntanglementGroup] = {}
        self._of_member: dict[str, set[str]] = {}
        self._versions = LastNumbers(remembered)

    def __len__(self) -> int:
        return len(self._groups)

    def holds(self, group_id: str) -> bool:
        """Return whether there is such a group."""
        return group_id in self._groups

    def get(self, group_id: str) -> EntanglementGroup:
        """Return a group. Raises NotFound."""
        group = self._groups.get(group_id)
        if group is None:
            raise NotFound(f"there is no entanglement group {group_id!r}")
        return group

    def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        """Return all groups that an entity is in, by id."""
        return [self._groups[group_id] for group_id in sorted(self._of_member.get(entity_id, ()))]

    def page_of_member(self, entity_id: str, after: str, limit: int) -> GroupPage:
        """Return the first ``limit`` (at least 1) groups of an entity whose ids come after ``after``."""
        ids = self._of_member.get(entity_id, ())
        return _page((self._groups[one] for one in nsmallest(limit + 1, (one for one in ids if one > after))), limit)

    def page(self, after: str, limit: int) -> GroupPage:
        """Return the first ``limit`` (at least 1) groups whose ids come after ``after``."""
        ids = nsmallest(limit + 1, (one for one in self._groups if one > after))
        return _page((self._groups[one] for one in ids), limit)

    def affected(self, entity_ids: Iterable[str]) -> frozenset[str]:
        """Return whose cached answers and circuits are stale when these entities, or their partners, have changed."""
        return frozenset().union(*(invalidated(one, self.of_member(one)) for one in entity_ids))

    def plan_create(self, group: EntanglementGroup) -> GroupChange | None:
        """Decide on a new group, of any version; None if it is there already. Idempotent.

        Raises:
            Conflict: the id stands for a group with other members or another strength.
        """
        known = self._groups.get(group.group_id)
        if known is None:
            last = int(self._versions.last(np.array([group.group_id], dtype=np.object_))[0])
            return GroupChange(group.group_id, last + 1, None, replace(group, version=last + 1))
        if (set(known.entity_ids), known.correlation_strength) == (set(group.entity_ids), group.correlation_strength):
            return None
        raise Conflict(f"group_id: {group.group_id!r} exists with other members or another correlation_strength")

    def plan_extend(self, group_id: str, entity_ids: Sequence[str], *, version: int) -> GroupChange | None:
        """Decide to take members in; None if all are in it.

        Raises:
            NotFound: there is no such group.
            Conflict: the group is not at ``version``.
            InvalidRequest: it would have too many members.
        """
        group = self._at_version(group_id, version)
        members = tuple(dict.fromkeys((*group.entity_ids, *entity_ids)))
        if len(members) > MAX_GROUP_MEMBERS:
            raise InvalidRequest.at("entity_ids", f"the group would have {len(members)} of {MAX_GROUP_MEMBERS} members")
        return _change_of_members(group, members)

    def plan_shrink(self, group_id: str, entity_ids: Collection[str], *, version: int) -> GroupChange | None:
        """Decide to let members go; None if none is in it. Raises NotFound and Conflict as ``plan_extend`` does."""
        group = self._at_version(group_id, version)
        gone = frozenset(entity_ids)
        return _change_of_members(group, tuple(one for one in group.entity_ids if one not in gone))

    def plan_update(self, group_id: str, update: GroupUpdate, *, version: int) -> GroupChange | None:
        """Decide on an update as one change; None if it changes nothing. Raises what ``plan_extend`` raises."""
        group = self._at_version(group_id, version)
        wider = self.plan_extend(group_id, update.add, version=version)
        strength = update.correlation_strength
        kept = tuple(one for one in ((wider and wider.after) or group).entity_ids if one not in set(update.remove))
        if strength is None or strength == group.correlation_strength:
            return _change_of_members(group, kept)
        after = replace(group, entity_ids=kept, correlation_strength=strength, version=version + 1)
        return GroupChange(group_id, version + 1, group, after if len(kept) >= 2 else None)

    def plan_delete(self, group_id: str, *, version: int) -> GroupChange:
        """Decide to delete a group. Raises NotFound and Conflict as ``plan_extend`` does."""
        return GroupChange(group_id, version + 1, self._at_version(group_id, version), None)

    def plan_leave(self, entity_id: str) -> list[GroupChange]:
        """Decide on the groups of a deleted entity: it leaves each, whatever their versions. Idempotent."""
        changes = (
            _change_of_members(group, tuple(one for one in group.entity_ids if one != entity_id))
            for group in self.of_member(entity_id)
        )
        return [change for change in changes if change is not None]

    def apply(self, change: GroupChange) -> GroupChanged:
        """Make a change.

        Raises:
            Conflict: the group has changed since this was planned.
        """
        if self._groups.get(change.group_id) != change.before:
            raise Conflict(f"the group {change.group_id!r} has changed meanwhile; read it again")
        self._put(change.group_id, change.version, change.after)
        return change.changed()

    def snapshot(self) -> Iterator[dict[str, Any]]:
        """Return the records from which ``restore`` makes the same table, as it is when this is called."""
        return chain(self._versions.snapshot(), map(record_of, list(self._groups.values())))

    def restore(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Take in the records of a snapshot and of changes since then, in order. Raises CorruptData."""
        for record in records:
            if is_of_numbers(record):
                self._versions.restore(record)
            else:
                self._put(*_put_of(record))

    def validate(self) -> None:
        """Raise AssertionError if an invariant is broken. For tests."""
        found: dict[str, set[str]] = {}
        for group_id, group in self._groups.items():
            assert group.group_id == group_id
            assert 2 <= len(set(group.entity_ids)) == len(group.entity_ids) <= MAX_GROUP_MEMBERS
            assert group.version >= 1
            for member in group.entity_ids:
                found.setdefault(member, set()).add(group_id)
        assert found == self._of_member

    def _at_version(self, group_id: str, version: int) -> EntanglementGroup:
        group = self.get(group_id)
        if group.version != version:
            raise Conflict(
                f"version: the group {group_id!r} is at version {group.version}, not at {version}; read it again"
            )
        return group

    def _put(self, group_id: str, version: int, group: EntanglementGroup | None) -> None:
        known = self._groups.pop(group_id, None)
        for member in known.entity_ids if known else ():
            self._of_member[member].discard(group_id)
            if not self._of_member[member]:
                del self._of_member[member]
        if group is None:
            self._versions.put(np.array([group_id], dtype=np.object_), np.array([version], dtype=np.uint32))
            return
        self._groups[group_id] = group
        for member in group.entity_ids:
            self._of_member.setdefault(member, set()).add(group_id)


def merged_pages(pages: Iterable[GroupPage], limit: int) -> GroupPage:
    """Return one page from those of all shards, each asked with the same ``after`` and ``limit``."""
    given = list(pages)
    groups = merge(*(page.groups for page in given), key=lambda group: group.group_id)
    page = _page(groups, limit)
    if page.after is None and page.groups and any(one.after is not None for one in given):
        return replace(page, after=page.groups[-1].group_id)
    return page


def record_of(group: EntanglementGroup) -> dict[str, Any]:
    """Return the group as a JSON record."""
    return {
        "group_id": group.group_id,
        "entity_ids": list(group.entity_ids),
        "correlation_strength": group.correlation_strength,
        "version": group.version,
    }


def group_of_record(record: Mapping[str, Any]) -> EntanglementGroup:
    """Return the group that ``record_of`` made a record of. Raises CorruptData."""
    _, _, group = _put_of(record)
    if group is None:
        raise CorruptData("a group record cannot be read: it tells of a deletion")
    return group


def _page(groups: Iterable[EntanglementGroup], limit: int) -> GroupPage:
    """Return the first groups as a page; one more than ``limit`` tells that there are more."""
    first = tuple(islice(groups, limit + 1))
    return GroupPage(first[:limit], first[limit - 1].group_id if len(first) > limit else None)


def _change_of_members(group: EntanglementGroup, members: tuple[str, ...]) -> GroupChange | None:
    if members == group.entity_ids:
        return None
    version = group.version + 1
    after = replace(group, entity_ids=members, version=version) if len(members) >= 2 else None
    return GroupChange(group.group_id, version, group, after)


def _put_of(record: Mapping[str, Any]) -> tuple[str, int, EntanglementGroup | None]:
    try:
        group_id, version = record["group_id"], int(record["version"])
        if not isinstance(group_id, str):
            raise TypeError("its group_id is no string")
        if record.get("deleted"):
            return group_id, version, None
        members = tuple(record["entity_ids"])
        if len(set(members)) < max(2, len(members)):
            raise ValueError("its members are fewer than two, or the same")
        return group_id, version, EntanglementGroup(group_id, members, float(record["correlation_strength"]), version)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptData(f"a group record cannot be read: {error!r}") from error
