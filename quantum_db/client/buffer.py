"""The operations of a transaction that has not been committed, and what its own reads see. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from quantum_db.errors import Conflict, NotFound

Json = dict[str, Any]

ABSENT = -1
"""The version of an entity that was looked for and not found."""


class TransactionBuffer:
    """Operations in their order, as ``POST /api/v2/transactions`` takes them, and the versions of what was read.

    An entity that was read is expected, by the operations on it, to be still as it was read: at its version, or still
    absent. So a change that was made in between, by somebody else, is a Conflict and not lost.

    Attributes:
        key: names the transaction, so that it may be sent again after an answer that was lost.
    """

    def __init__(self) -> None:
        self.key = uuid4().hex
        self._operations: list[Json] = []
        self._read: dict[str, int] = {}
        self._changed: dict[str, Json | None] = {}

    def __len__(self) -> int:
        return len(self._operations)

    def insert(self, body: Mapping[str, Any]) -> None:
        """Write an entity (``EntityBody``), replacing one with the same id."""
        entity_id = str(body["id"])
        operation = dict(body)
        version = self._read.get(entity_id)
        if version == ABSENT:
            operation.setdefault("if_absent", True)
        elif version is not None:
            operation.setdefault("expected_version", version)
        self._operations.append({"insert": operation})
        own = ("expected_version", "if_absent")
        self._changed[entity_id] = {name: value for name, value in body.items() if name not in own}

    def update(self, entity_id: str, changes: Mapping[str, Any]) -> None:
        """Replace fields of an entity (``UpdateBody``). Partners that it moves are seen by queries, not by ``seen``."""
        self._operations.append({"update": self._expecting(entity_id, dict(changes))})
        changes = {name: value for name, value in changes.items() if name not in ("expected_version", "propagate")}
        before = self._changed.get(entity_id)
        if before is not None or entity_id in self._changed:
            self._changed[entity_id] = None if before is None else {**before, **changes}
            return
        self._changed[entity_id] = {"id": entity_id, **changes, _PARTIAL: True}

    def delete(self, entity_id: str) -> None:
        """Delete an entity."""
        self._operations.append({"delete": self._expecting(entity_id, {})})
        self._changed[entity_id] = None

    def create_entanglement(self, body: Mapping[str, Any]) -> None:
        """Write an entanglement group (``GroupBody``)."""
        self._operations.append({"create_entanglement": dict(body)})

    def note_read(self, entity_id: str, stored: Mapping[str, Any] | None) -> None:
        """Remember what the server answered; the first answer counts, for all that follows is built on it."""
        self._read.setdefault(entity_id, ABSENT if stored is None else int(stored["version"]))

    def needs_stored(self, entity_id: str) -> bool:
        """Whether the server has to be asked before ``seen`` can tell what the entity is."""
        changed = self._changed.get(entity_id)
        return entity_id not in self._changed or (changed is not None and _PARTIAL in changed)

    def seen(self, entity_id: str, stored: Mapping[str, Any] | None) -> Json:
        """Return the entity as this transaction sees it: what is stored, under its own operations.

        Vectors and weights of its own operations are as they were given; once committed, they are normalised.

        Raises:
            NotFound: it is not there, or was deleted in this transaction.
        """
        seen = dict(stored) if stored is not None else None
        if entity_id in self._changed:
            changed = self._changed[entity_id]
            if changed is None or _PARTIAL not in changed:
                seen = None if changed is None else dict(changed)
            elif seen is not None:
                seen |= {name: value for name, value in changed.items() if name != _PARTIAL}
        if seen is None:
            raise NotFound(f"there is no entity {entity_id!r}")
        return seen

    def body(self) -> Json:
        """Return the body of the commit."""
        return {"operations": list(self._operations)}

    def query_body(self, query: Mapping[str, Any]) -> Json:
        """Return the body of a query that sees these operations."""
        return {"query": dict(query), "operations": list(self._operations)}

    def _expecting(self, entity_id: str, operation: Json) -> Json:
        version = self._read.get(entity_id)
        if version == ABSENT and entity_id not in self._changed:
            raise Conflict(f"there is no entity {entity_id!r}, as this transaction has read")
        operation["id"] = entity_id
        if version is not None and version != ABSENT:
            operation.setdefault("expected_version", version)
        return operation


_PARTIAL = "\0partial"
"""Marks changes of an entity whose other fields are those that are stored."""
