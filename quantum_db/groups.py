"""Entanglement groups: which entities belong together, and how strongly. Pure; the journal is written by the caller."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from quantum_db.errors import Conflict, CorruptData, NotFound
from quantum_db.model import EntanglementGroup


class GroupTable:
    """All groups, by id and by member."""

    def __init__(self, records: Iterable[Mapping[str, Any]] = ()) -> None:
        """Start from what ``record_of`` made of earlier groups, in order."""
        self._groups: dict[str, EntanglementGroup] = {}
        self._of_member: defaultdict[str, set[str]] = defaultdict(set)
        for record in records:
            self.put(_group_of(record))

    def __len__(self) -> int:
        return len(self._groups)

    def check_new(self, group: EntanglementGroup) -> bool:
        """Return whether the group has to be written: False when it is there already.

        Raises:
            Conflict: the id stands for a group with other members or another strength.
        """
        known = self._groups.get(group.group_id)
        if known is None:
            return True
        if (set(known.entity_ids), known.correlation_strength) == (set(group.entity_ids), group.correlation_strength):
            return False
        raise Conflict(f"group_id: {group.group_id!r} exists with other members or another correlation_strength")

    def put(self, group: EntanglementGroup) -> None:
        """Hold the group, in place of one with the same id. Idempotent."""
        known = self._groups.get(group.group_id)
        for member in known.entity_ids if known else ():
            self._of_member[member].discard(group.group_id)
        self._groups[group.group_id] = group
        for member in group.entity_ids:
            self._of_member[member].add(group.group_id)

    def get(self, group_id: str) -> EntanglementGroup:
        """Return a group. Raises NotFound."""
        group = self._groups.get(group_id)
        if group is None:
            raise NotFound(f"there is no entanglement group {group_id!r}")
        return group

    def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        """Return the groups that an entity is in, by id."""
        return [self._groups[group_id] for group_id in sorted(self._of_member.get(entity_id, ()))]


def record_of(group: EntanglementGroup) -> dict[str, Any]:
    """Return the group as a JSON record."""
    return {
        "group_id": group.group_id,
        "entity_ids": list(group.entity_ids),
        "correlation_strength": group.correlation_strength,
        "version": group.version,
    }


def _group_of(record: Mapping[str, Any]) -> EntanglementGroup:
    try:
        return EntanglementGroup(
            group_id=record["group_id"],
            entity_ids=tuple(record["entity_ids"]),
            correlation_strength=float(record["correlation_strength"]),
            version=int(record["version"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptData(f"a group record cannot be read: {error!r}") from error
