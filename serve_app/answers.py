"""What calls about stored things answer, as types for OpenAPI; and the base of all answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from quantum_db.lifecycle import Phase

Json = dict[str, Any]


class Reply(BaseModel):
    """Base of all answers: a field that is not told of is not there, and one without a default always is."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class FieldProblem(Reply):
    """What is wrong with one field of a request."""

    path: str
    message: str


class Problem(Reply):
    """RFC 9457 problem."""

    type: Annotated[str, Field(examples=["urn:quantum-db:problem:invalid-request"])]
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[FieldProblem] = []


class ItemProblem(Reply):
    """Why one entity of a batch was refused."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []


class Written(Reply):
    """An entity that was written. ``version`` is the number of the commit."""

    id: str
    dimension: int
    contexts: list[str]
    version: int


class BatchItem(Reply):
    """What became of one entity of a batch."""

    id: str | None
    status: Literal["written", "refused"]
    version: int | None = None
    problem: ItemProblem | None = None


class OperationResult(Reply):
    """What one operation of a transaction did; ``moved`` are the partners that an update has moved."""

    op: Literal["insert", "update", "delete", "create_entanglement"]
    id: str | None = None
    group_id: str | None = None
    version: int | None = None
    deleted: bool | None = None
    moved: list[str] | None = None


class Committed(Reply):
    """A transaction that has taken place. All that it wrote has ``commit`` as its version."""

    commit: int
    results: list[OperationResult]


class BatchWritten(Reply):
    """A batch: each for itself (``items``, ``refused``), or a transaction (``commit``, ``results``)."""

    written: int
    transaction: bool
    refused: int | None = None
    items: list[BatchItem] | None = None
    commit: int | None = None
    results: list[OperationResult] | None = None


class StoredContext(Reply):
    """A context of an entity; weights sum to 1."""

    name: str
    weight: float
    vector: list[float] | None = None


class StoredEntity(Reply):
    """An entity. Its vectors are unit vectors; they are left out where that was asked for."""

    id: str
    vector: list[float] | None = None
    contexts: list[StoredContext]
    coherence_time_ms: float
    metadata: Json
    version: int


class EntityPage(Reply):
    """Entities; ``next`` is the cursor of the next page."""

    vectors: list[StoredEntity]
    next: str | None


class Updated(Reply):
    """An entity that was changed, and with ``propagate`` the partners that moved with it."""

    id: str
    version: int
    moved: list[str] | None = None


class Deleted(Reply):
    """An entity that is no longer there."""

    id: str
    deleted: bool
    commit: int


class Group(Reply):
    """An entanglement group."""

    group_id: str
    entity_ids: list[str]
    correlation_strength: float
    version: int


class GroupGone(Reply):
    """A group that is no longer there: deleted, or left by its last pair of members."""

    group_id: str
    deleted: bool
    version: int


class GroupPage(Reply):
    """Groups by id; ``next`` is the cursor of the next page."""

    groups: list[Group]
    next: str | None


class SessionMove(Reply):
    """How a session sees the weights w of a moved entity: as kept * w + added."""

    kept: float
    added: dict[str, float]


class SessionSeen(Reply):
    """A session. The weights w of each moved entity are seen as kept * w + added."""

    session_id: str
    used_s: float
    measurements: int
    moves: dict[str, SessionMove]


class SessionEnded(Reply):
    """A session that has ended."""

    session_id: str
    ended: bool


class StateInstance(Reply):
    """One instance of an entity's state."""

    entity_id: str
    generation: int
    phase: Phase
    since_s: float
    coherence_time_ms: float
    expires_at_s: float | None
    measurements: int
    commit: int


class StateSeen(StateInstance):
    """Where an entity's state stands, and the instances before it, newest first."""

    history: list[StateInstance]


class CollectionSeen(Reply):
    """A collection. Its dimension is null until its first vector."""

    name: str
    dimension: int | None
    metric: str
    created_at: str | None


class CollectionCounted(CollectionSeen):
    """A collection, with the number of its entities."""

    entities: int


class CollectionPage(Reply):
    """Collections by name; ``next`` is the cursor of the next page."""

    collections: list[CollectionSeen]
    next: str | None


class CollectionGone(Reply):
    """A collection that is no longer there."""

    name: str
    deleted: bool
