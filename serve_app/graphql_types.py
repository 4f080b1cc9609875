"""The types of GraphQL answers. Each is made of the JSON that the same call of the API answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import strawberry
from strawberry.scalars import JSON

Json = Mapping[str, Any]


@strawberry.type
class Hit:
    """An entity of an answer. The interval is of the score, and absent where that is exact."""

    id: str
    score: float
    classical_score: float
    context: str | None
    context_probability: float
    metadata: JSON
    interval: JSON | None


@strawberry.type
class Answer:
    """What a query found, and how: where circuits ran, how many, what they cost; and whether it is an earlier one."""

    hits: list[Hit]
    mode: str
    candidates: int
    refinement: JSON
    tunneling: JSON | None
    stages: JSON | None
    cached: bool


@strawberry.type
class Context:
    """A context of an entity. Without a vector the entity's own holds for it."""

    name: str
    weight: float
    vector: list[float] | None


@strawberry.type
class Entity:
    """An entity as it is stored; vectors are unit vectors."""

    id: str
    vector: list[float] | None
    contexts: list[Context]
    coherence_time_ms: float
    metadata: JSON
    version: int


@strawberry.type
class EntityPage:
    """Some entities, and the cursor of those that follow."""

    entities: list[Entity]
    next: str | None


@strawberry.type
class Group:
    """An entanglement group."""

    group_id: str
    entity_ids: list[str]
    correlation_strength: float
    version: int


@strawberry.type
class GroupPage:
    """Some groups by id, and the cursor of those that follow."""

    groups: list[Group]
    next: str | None


@strawberry.type
class Written:
    """What was written, and the number of the commit that wrote it."""

    id: str
    version: int


@strawberry.type
class Deleted:
    """What was deleted."""

    id: str
    deleted: bool


def answer_of(view: Json) -> Answer:
    """Return an answer as its type."""
    hits = [Hit(**{name: hit[name] for name in _HIT}) for hit in view["hits"]]
    own = {name: view[name] for name in ("mode", "candidates", "refinement", "cached")}
    return Answer(hits=hits, **own, tunneling=view.get("tunneling"), stages=view.get("stages"))


def entity_of(view: Json) -> Entity:
    """Return an entity as its type."""
    contexts = [Context(name=one["name"], weight=one["weight"], vector=one.get("vector")) for one in view["contexts"]]
    return Entity(
        id=view["id"],
        vector=view.get("vector"),
        contexts=contexts,
        coherence_time_ms=view["coherence_time_ms"],
        metadata=view["metadata"],
        version=view["version"],
    )


def group_of(view: Json) -> Group:
    """Return a group as its type."""
    return Group(
        group_id=view["group_id"],
        entity_ids=list(view["entity_ids"]),
        correlation_strength=view["correlation_strength"],
        version=view["version"],
    )


_HIT = ("id", "score", "classical_score", "context", "context_probability", "metadata", "interval")
