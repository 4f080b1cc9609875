"""Bodies of transactions, updates and batches, and their way into operations."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import orjson
from pydantic import ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from quantum_db.commits.operations import MAX_OPERATIONS, CreateGroup, Delete, Insert, Operation, Transaction, Update
from quantum_db.errors import InvalidRequest
from quantum_db.group_bodies import GroupBody
from quantum_db.model import Entity
from quantum_db.requests import (
    MAX_CONTEXTS,
    YEAR_MS,
    Body,
    ContextBody,
    EntityBody,
    EntityId,
    Finite,
    QueryBody,
    VectorField,
    checked_contexts,
    checked_metadata,
    normalised,
    parse,
    refuse,
)

MAX_BATCH = 1_000
MAX_KEY = 255
Version = Annotated[int, Field(ge=0)]
_CHANGEABLE = frozenset({"vector", "contexts", "coherence_time_ms", "metadata"})


class InsertBody(EntityBody):
    """An entity to write. ``expected_version`` 0 is that of entities written before there were versions."""

    expected_version: Version | None = None
    if_absent: bool = False

    @model_validator(mode="after")
    def _expects_one_thing(self) -> InsertBody:
        if self.if_absent and self.expected_version is not None:
            refuse("and expected_version exclude each other: what is absent has no version", at="if_absent")
        return self


class UpdateBody(Body):
    """Fields that replace those of an entity, each as a whole; the others stay.

    ``propagate`` moves its partners, too.
    """

    model_config = ConfigDict(json_schema_extra={"example": {"metadata": {"source": "arxiv", "read": True}}})

    vector: VectorField | None = None
    contexts: Annotated[list[ContextBody], Field(max_length=MAX_CONTEXTS, default_factory=list)]
    coherence_time_ms: Annotated[Finite, Field(gt=0.0, le=YEAR_MS)] = 1.0
    metadata: Annotated[dict[str, Any], Field(default_factory=dict)]
    propagate: bool = False

    @field_validator("contexts")
    @classmethod
    def _contexts_make_a_state(cls, contexts: list[ContextBody]) -> list[ContextBody]:
        return checked_contexts(contexts)

    @field_validator("metadata")
    @classmethod
    def _metadata_is_small(cls, metadata: dict[str, Any]) -> dict[str, Any]:
        return checked_metadata(metadata)

    @model_validator(mode="after")
    def _changes_something(self) -> UpdateBody:
        if not self.changes():
            refuse("changes nothing; give at least one of vector, contexts, coherence_time_ms and metadata")
        return self

    def changes(self) -> dict[str, Any]:
        """Return the fields that were given, as an ``Entity`` has them."""
        given = {name: getattr(self, name) for name in self.model_fields_set if name in _CHANGEABLE}
        if "contexts" in given:
            given["contexts"] = normalised(self.contexts)
        return given


class UpdateOperationBody(UpdateBody):
    """An update in a transaction."""

    id: EntityId
    expected_version: Version | None = None


class DeleteBody(Body):
    """A deletion in a transaction."""

    id: EntityId
    expected_version: Version | None = None


class OperationBody(Body):
    """One operation: exactly one of its fields is given."""

    insert: InsertBody | None = None
    update: UpdateOperationBody | None = None
    delete: DeleteBody | None = None
    create_entanglement: GroupBody | None = None

    @model_validator(mode="after")
    def _is_one(self) -> OperationBody:
        if len([name for name in self.model_fields_set if getattr(self, name) is not None]) != 1:
            refuse("must have exactly one of insert, update, delete and create_entanglement")
        return self

    def to_operation(self, path: str) -> Operation:
        """Return the operation that stands at ``path``."""
        if self.insert is not None:
            given = self.insert
            return Insert(given.to_entity(), f"{path}.insert", given.expected_version, given.if_absent)
        if self.update is not None:
            change = self.update
            return Update(change.id, change.changes(), f"{path}.update", change.expected_version, change.propagate)
        if self.delete is not None:
            return Delete(self.delete.id, f"{path}.delete", self.delete.expected_version)
        assert self.create_entanglement is not None
        return CreateGroup(self.create_entanglement.to_group(), f"{path}.create_entanglement")


class OperationsBody(Body):
    """Operations of one transaction."""

    operations: Annotated[list[OperationBody], Field(max_length=MAX_OPERATIONS)]

    @model_validator(mode="after")
    def _groups_differ(self) -> OperationsBody:
        seen: set[str] = set()
        for position, operation in enumerate(self.operations):
            group = operation.create_entanglement
            if group is not None and group.group_id in seen:
                refuse("is created twice; each group may stand once", at=f"operations[{position}].create_entanglement")
            seen |= set() if group is None else {group.group_id}
        return self

    def to_operations(self) -> tuple[Operation, ...]:
        """Return the operations with their paths."""
        return tuple(one.to_operation(f"operations[{i}]") for i, one in enumerate(self.operations))


class TransactionBody(OperationsBody):
    """A transaction."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "operations": [
                    {"insert": {"id": "doc_4", "vector": [0.1, 0.2], "if_absent": True}},
                    {"insert": {"id": "doc_5", "vector": [0.2, 0.1]}},
                    {"update": {"id": "doc_2", "metadata": {"read": True}}},
                    {"delete": {"id": "doc_5"}},
                    {
                        "create_entanglement": {
                            "group_id": "pair",
                            "entity_ids": ["doc_4", "doc_2"],
                            "correlation_strength": 0.9,
                        }
                    },
                ]
            }
        }
    )

    operations: Annotated[list[OperationBody], Field(min_length=1, max_length=MAX_OPERATIONS)]

    def to_transaction(self, key: str | None) -> Transaction:
        """Return the transaction under a key."""
        return Transaction(self.to_operations(), key)


class TransactionQueryBody(OperationsBody):
    """A query that sees the operations of a transaction that is not committed."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "operations": [{"insert": {"id": "doc_9", "vector": [0.3, 0.4]}}],
                "query": {"vector": [0.3, 0.4], "mode": "classical", "top_k": 3},
            }
        }
    )

    query: QueryBody


class BatchBody(Body):
    """Several entities to write."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "vectors": [
                    {"id": "doc_1", "vector": [0.6, 0.8]},
                    {"id": "doc_2", "vector": [0.8, 0.6], "metadata": {"source": "arxiv"}},
                    {"id": "doc_3", "vector": [0.1, 0.9], "contexts": [{"name": "technical", "weight": 1.0}]},
                ],
                "transaction": True,
            }
        }
    )

    vectors: Annotated[list[EntityBody], Field(min_length=1, max_length=MAX_BATCH)]
    transaction: bool = False

    @field_validator("vectors")
    @classmethod
    def _one_id_once_and_one_dimension(cls, bodies: list[EntityBody]) -> list[EntityBody]:
        first: dict[str, int] = {}
        for position, body in enumerate(bodies):
            if body.id in first:
                refuse(f"has the id {body.id!r} at positions {first[body.id]} and {position}; ids must differ")
            first[body.id] = position
        return bodies


class LooseBatchBody(Body):
    """Entities of which each is checked for itself."""

    vectors: Annotated[
        list[Annotated[Any, WithJsonSchema({"$ref": "#/components/schemas/EntityBody"})]],
        Field(min_length=1, max_length=MAX_BATCH),
    ]
    transaction: bool = False


def batch_transaction(raw: object, key: str | None) -> Transaction:
    """Return the transaction of ``BatchBody``: one insert for each entity. Raises InvalidRequest."""
    bodies = parse(BatchBody, raw).vectors
    return Transaction(tuple(Insert(one.to_entity(), f"vectors[{i}]") for i, one in enumerate(bodies)), key)


def batch_entities(raw: object) -> tuple[bool, list[Entity | InvalidRequest]]:
    """Check a batch; return whether it is to be a transaction, and each entity or what is wrong with it.

    Raises InvalidRequest when it is not a batch at all. In a transaction the entities are not looked at.
    """
    body = parse(LooseBatchBody, raw)
    found: list[Entity | InvalidRequest] = []
    first: dict[str, int] = {}
    for i, item in enumerate(body.vectors if not body.transaction else []):
        try:
            entity = parse(EntityBody, item).to_entity()
            if first.setdefault(entity.id, i) != i:
                raise InvalidRequest.at("id", f"is also that of vectors[{first[entity.id]}]; ids must differ")
            found.append(entity)
        except InvalidRequest as error:
            found.append(error)
    return body.transaction, found


def id_of_item(raw: Any, position: int) -> str | None:
    """Return the id that an item of a batch has, if it has one: it may have been refused."""
    item = raw["vectors"][position]
    given = item.get("id") if isinstance(item, dict) else None
    return given if isinstance(given, str) else None


def scoped_key(key: str | None, tenant: str) -> str | None:
    """Return the name of a transaction under which no other tenant's is kept. Raises InvalidRequest."""
    if key is None:
        return None
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY or not key.isprintable():
        raise InvalidRequest.at("Idempotency-Key", f"must be 1 to {MAX_KEY} printable characters")
    return f"{tenant}:{key}"


def body_digest(raw: object) -> str:
    """Return what tells a decoded body from another one. Raises InvalidRequest for what JSON cannot say."""
    try:
        text = orjson.dumps(raw, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise InvalidRequest(f"the body cannot be written as JSON: {error}") from None
    return hashlib.blake2b(text, digest_size=16).hexdigest()
