"""What callers ask the coordinator for: transactions, and writes that are none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from quantum_db.commits.records import changes_record, entity_record, group_record
from quantum_db.model import EntanglementGroup, Entity
from quantum_db.scope import scoped

MAX_OPERATIONS: Final = 1_000

Json = dict[str, Any]
Claim = tuple[str, str]
"""What two writes may not touch at the same time: ``("entity", scoped id)``, ``("group", scoped id)``."""


@dataclass(frozen=True, slots=True)
class Insert:
    """Write an entity, replacing one with the same id.

    Attributes:
        path: where the operation stands in the request, for errors.
        expected_version: the stored entity must be at this version; None does not look.
        if_absent: no entity may be stored under the id.
    """

    entity: Entity
    path: str = ""
    expected_version: int | None = None
    if_absent: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """Replace the given fields of an entity: among ``vector``, ``contexts``, ``coherence_time_ms`` and ``metadata``.

    Attributes:
        propagate: move the partners, too; see ``quantum_db.propagation``.
    """

    entity_id: str
    changes: Mapping[str, Any]
    path: str = ""
    expected_version: int | None = None
    propagate: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an entity."""

    entity_id: str
    path: str = ""
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class CreateGroup:
    """Write an entanglement group of entities that are stored once the transaction is done."""

    group: EntanglementGroup
    path: str = ""


Operation = Insert | Update | Delete | CreateGroup


@dataclass(frozen=True, slots=True)
class Transaction:
    """Operations that take place together, in their order, or not at all.

    Attributes:
        key: the caller's name for it: the same again is answered as before, and done once.
        collection: the key of the collection that they are about; see ``quantum_db.scope``.
        request: what the operations were made of, where they do not tell it all.
        digest: of the operations and the request, to tell another transaction under the same key.
    """

    operations: tuple[Operation, ...]
    key: str | None = None
    collection: str = ""
    request: str = ""
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        if self.key is not None:
            text = orjson.dumps([operation_record(one) for one in self.operations], option=orjson.OPT_SORT_KEYS)
            text += self.collection.encode() + self.request.encode()
            object.__setattr__(self, "digest", hashlib.blake2b(text, digest_size=16).hexdigest())

    def claims(self) -> Iterator[Claim]:
        """Yield what no other write may touch meanwhile."""
        for operation in self.operations:
            if isinstance(operation, CreateGroup):
                yield "group", scoped(self.collection, operation.group.group_id)
                for member in operation.group.entity_ids:
                    yield "entity", scoped(self.collection, member)
            else:
                yield "entity", scoped(self.collection, id_of(operation))


@dataclass(frozen=True, slots=True)
class Upserts:
    """Write entities, each for itself, replacing those with the same ids. Ids are distinct."""

    entities: tuple[Entity, ...]
    collection: str = ""

    def claims(self) -> Iterator[Claim]:
        """Yield what no other write may touch meanwhile."""
        for entity in self.entities:
            yield "entity", scoped(self.collection, entity.id)


@dataclass(frozen=True, slots=True)
class Deletes:
    """Delete entities, each for itself."""

    ids: tuple[str, ...]
    collection: str = ""

    def claims(self) -> Iterator[Claim]:
        """Yield what no other write may touch meanwhile."""
        for entity_id in self.ids:
            yield "entity", scoped(self.collection, entity_id)


Request = Transaction | Upserts | Deletes


def id_of(operation: Insert | Update | Delete) -> str:
    """Return the id of the entity that an operation changes."""
    return operation.entity.id if isinstance(operation, Insert) else operation.entity_id


def operation_record(operation: Operation) -> Json:
    """Return what an operation says as JSON, without where it stood."""
    if isinstance(operation, Insert):
        record = {"op": "insert", "entity": entity_record(operation.entity), "if_absent": operation.if_absent}
        return {**record, "expected_version": operation.expected_version}
    if isinstance(operation, Update):
        record = {"op": "update", "id": operation.entity_id, "changes": changes_record(operation.changes)}
        propagate = {"propagate": True} if operation.propagate else {}
        return {**record, **propagate, "expected_version": operation.expected_version}
    if isinstance(operation, Delete):
        return {"op": "delete", "id": operation.entity_id, "expected_version": operation.expected_version}
    return {"op": "create_entanglement", "group": group_record(operation.group)}
