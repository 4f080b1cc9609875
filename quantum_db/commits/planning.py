"""What a transaction comes to: checked against what is stored, and folded into one change of each entity. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from quantum_db.commits.operations import CreateGroup, Delete, Insert, Transaction, Update, id_of
from quantum_db.entanglement_rules import GroupsOf, partners
from quantum_db.errors import Conflict, FieldError, InvalidRequest, NotFound
from quantum_db.model import EntanglementGroup, Entity
from quantum_db.propagation import MAX_MOVED, change_between, moved
from quantum_db.stores.points import check_storable

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Needs:
    """What has to be read before a transaction can be planned.

    Attributes:
        entities: ids of entities that are updated.
        versions: ids of those of which only the version counts.
        groups: ids of entities whose groups count, because an update moves their partners.
    """

    entities: tuple[str, ...]
    versions: tuple[str, ...]
    groups: tuple[str, ...] = ()

    def with_partners(self, groups: GroupsOf) -> Needs:
        """Return what has to be read once the groups have been. Raises InvalidRequest if too many would move."""
        reached = partners_in(groups)
        if len(reached) > MAX_MOVED:
            message = f"would move {len(reached)} partners; one transaction may move at most {MAX_MOVED:,}"
            raise InvalidRequest.at("propagate", message)
        entities = tuple(dict.fromkeys((*self.entities, *reached)))
        known = set(entities)
        return Needs(entities, tuple(one for one in self.versions if one not in known), self.groups)


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored, as far as ``Needs`` asks; None stands for an id that is not.

    Attributes:
        dimension: of the store, None while it is empty.
        groups: of each entity of ``Needs.groups``.
    """

    entities: Mapping[str, Entity | None]
    versions: Mapping[str, int | None]
    dimension: int | None
    groups: GroupsOf = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """A transaction's change of the data. All ids are distinct, and an id is in ``upserts`` or in ``deletes``.

    Attributes:
        groups: to be created, in the order of the operations.
        results: of each operation; the versions of groups are still missing.
    """

    upserts: tuple[Entity, ...]
    deletes: tuple[str, ...]
    groups: tuple[EntanglementGroup, ...]
    results: tuple[Json, ...]


def needs(transaction: Transaction) -> Needs:
    """Return what has to be read."""
    entities: dict[str, None] = {}
    versions: dict[str, None] = {}
    groups: dict[str, None] = {}
    for operation in transaction.operations:
        if isinstance(operation, CreateGroup):
            versions |= dict.fromkeys(operation.group.entity_ids)
        elif isinstance(operation, Update):
            entities[operation.entity_id] = None
            groups |= {operation.entity_id: None} if operation.propagate else {}
        elif isinstance(operation, Delete) or operation.if_absent or operation.expected_version is not None:
            versions[id_of(operation)] = None
    return Needs(tuple(entities), tuple(one for one in versions if one not in entities), tuple(groups))


def partners_in(groups: GroupsOf) -> tuple[str, ...]:
    """Return the partners of all entities whose groups are given, by id."""
    return tuple(sorted({partner for one, own in groups.items() for partner in partners(one, own)}))


def plan(transaction: Transaction, stored: Stored, commit: int) -> Plan:
    """Fold the operations, in their order, into one change of each entity.

    Expected versions, and ``if_absent``, are about what is stored before the transaction, for each operation; so are
    the groups by which an update moves partners.

    Raises:
        Conflict: an entity is at another version than expected, or is there (not there) against expectation.
        NotFound: an entity to update or delete is not there.
        InvalidRequest: an entity or a group could not be stored.
    """
    folding = _Folding(stored, commit)
    for operation in transaction.operations:
        folding.take(operation)
    members = [one for one in transaction.operations if isinstance(one, CreateGroup)]
    for operation in members:
        folding.check_members(operation)
    upserts = tuple(entity for entity in folding.changed.values() if entity is not None)
    deletes = tuple(one for one, entity in folding.changed.items() if entity is None)
    return Plan(upserts, deletes, tuple(one.group for one in members), tuple(folding.results))


class _Folding:
    def __init__(self, stored: Stored, commit: int) -> None:
        self._stored = stored
        self._commit = commit
        self._dimension = stored.dimension
        self.changed: dict[str, Entity | None] = {}
        self.results: list[Json] = []

    def take(self, operation: Insert | Update | Delete | CreateGroup) -> None:
        if isinstance(operation, CreateGroup):
            self.results.append({"op": "create_entanglement", "group_id": operation.group.group_id})
            return
        entity_id = id_of(operation)
        self._check_expected(operation, entity_id)
        if isinstance(operation, Insert):
            self._put(operation.entity, operation.path)
            self.results.append({"op": "insert", "id": entity_id, "version": self._commit})
        elif isinstance(operation, Update):
            before = self._present(entity_id, operation.path)
            after = replace(before, **operation.changes)
            self._put(after, operation.path)
            moves = {"moved": self._move_partners(before, after, operation.path)} if operation.propagate else {}
            self.results.append({"op": "update", "id": entity_id, "version": self._commit, **moves})
        else:
            if not self._is_there(entity_id):
                raise _missing(operation.path, entity_id)
            self.changed[entity_id] = None
            self.results.append({"op": "delete", "id": entity_id, "deleted": True})

    def check_members(self, operation: CreateGroup) -> None:
        errors = [
            FieldError(_below(operation.path, f"entity_ids[{i}]"), f"there is no entity {member!r}")
            for i, member in enumerate(operation.group.entity_ids)
            if not self._is_there(member)
        ]
        if errors:
            raise InvalidRequest(f"{errors[0].path}: {errors[0].message}", errors=errors[:20])

    def _check_expected(self, operation: Insert | Update | Delete, entity_id: str) -> None:
        if isinstance(operation, Insert) and operation.if_absent and (found := self._version(entity_id)) is not None:
            raise _conflict(operation.path, f"the entity {entity_id!r} exists, at version {found}")
        expected = operation.expected_version
        if expected is None or (found := self._version(entity_id)) == expected:
            return
        if found is None:
            raise _conflict(operation.path, f"there is no entity {entity_id!r}, where version {expected} was expected")
        raise _conflict(operation.path, f"the entity {entity_id!r} is at version {found}, not {expected}")

    def _move_partners(self, before: Entity, after: Entity, path: str) -> list[str]:
        """Let the partners of an updated entity follow; return the ids of those that moved."""
        change, ids = change_between(before, after), []
        for partner, strength in partners(before.id, self._stored.groups[before.id]).items():
            there = self._current(partner)
            if there is not None and (follows := moved(there, change, strength)) is not there:
                self._put(follows, path)
                ids.append(partner)
        return ids

    def _present(self, entity_id: str, path: str) -> Entity:
        found = self._current(entity_id)
        if found is None:
            raise _missing(path, entity_id)
        return found

    def _current(self, entity_id: str) -> Entity | None:
        """Return an entity as the operations so far have left it."""
        return self.changed[entity_id] if entity_id in self.changed else self._stored.entities[entity_id]

    def _put(self, entity: Entity, path: str) -> None:
        if entity.vector is None and (not entity.contexts or any(c.vector is None for c in entity.contexts)):
            raise InvalidRequest.at(_below(path, "vector"), "is missing, and not every context has one of its own")
        for where, vector in (("vector", entity.vector), *(("contexts", c.vector) for c in entity.contexts)):
            if vector is None:
                continue
            self._dimension = self._dimension or vector.size
            if vector.size != self._dimension:
                message = f"has {vector.size} numbers; the vectors of this collection have {self._dimension}"
                raise InvalidRequest.at(_below(path, where), message)
        check_storable(entity, path)
        self.changed[entity.id] = replace(entity, version=self._commit)

    def _is_there(self, entity_id: str) -> bool:
        if entity_id in self.changed:
            return self.changed[entity_id] is not None
        return self._version(entity_id) is not None

    def _version(self, entity_id: str) -> int | None:
        """Return the version before the transaction."""
        if entity_id in self._stored.entities:
            found = self._stored.entities[entity_id]
            return None if found is None else found.version
        return self._stored.versions[entity_id]


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _conflict(path: str, message: str) -> Conflict:
    return Conflict(f"{path}: {message}" if path else message, errors=[FieldError(path, message)])


def _missing(path: str, entity_id: str) -> NotFound:
    message = f"there is no entity {entity_id!r}"
    return NotFound(f"{path}: {message}" if path else message, errors=[FieldError(path, message)])
