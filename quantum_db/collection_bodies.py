"""What requests about collections look like, and what they are answered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from quantum_db.collection_table import Collection
from quantum_db.cursors import MAX_CURSOR
from quantum_db.requests import MAX_DIMENSION, Body, refuse
from quantum_db.scope import NAME

METRICS = ("cosine",)


def _known_metric(value: object) -> object:
    if value not in METRICS:
        refuse("must be cosine: fidelities rank as the cosine does, and as no other metric")
    return value


class CollectionBody(Body):
    """A collection to create. Without a dimension, the first vector decides it."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "papers", "dimension": 384, "metric": "cosine"}})

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    dimension: Annotated[int, Field(ge=1, le=MAX_DIMENSION)] | None = None
    metric: Annotated[str, BeforeValidator(_known_metric), WithJsonSchema({"enum": list(METRICS)})] = "cosine"


class CollectionPageBody(Body):
    """Which collections to list: ``cursor`` is the ``next`` of the page before."""

    cursor: Annotated[str, Field(max_length=MAX_CURSOR)] = ""
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100


def collection_view(collection: Collection, dimension: int | None = None) -> dict[str, Any]:
    """Return a collection as JSON, with the dimension that its vectors have found."""
    created = datetime.fromtimestamp(collection.created_at_s, UTC).isoformat(timespec="seconds")
    return {
        "name": collection.scope.collection,
        "dimension": collection.dimension if dimension is None else dimension,
        "metric": collection.metric,
        "created_at": created if collection.created_at_s else None,
    }
