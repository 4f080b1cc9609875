"""Entities and groups as JSON records of the commit journal. Vectors are base64 of little-endian float32."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from quantum_db.errors import CorruptData
from quantum_db.model import Context, EntanglementGroup, Entity, Vector

Json = dict[str, Any]


def entity_record(entity: Entity) -> Json:
    """Return an entity as JSON."""
    return {
        "id": entity.id,
        "vector": _packed(entity.vector),
        "contexts": _context_records(entity.contexts),
        "coherence_time_ms": float(entity.coherence_time_ms),
        "metadata": dict(entity.metadata),
        "version": entity.version,
    }


def entity_of(record: Mapping[str, Any]) -> Entity:
    """Return what ``entity_record`` made JSON of. Raises CorruptData."""
    try:
        return Entity(
            id=record["id"],
            vector=_unpacked(record["vector"]),
            contexts=tuple(Context(name, weight, _unpacked(vector)) for name, weight, vector in record["contexts"]),
            coherence_time_ms=float(record["coherence_time_ms"]),
            metadata=record["metadata"],
            version=int(record["version"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptData(f"an entity in the commit journal cannot be read: {error!r}") from error


def changes_record(changes: Mapping[str, Any]) -> Json:
    """Return the fields that an update replaces as JSON."""
    record = dict(changes)
    if "vector" in record:
        record["vector"] = _packed(record["vector"])
    if "contexts" in record:
        record["contexts"] = _context_records(record["contexts"])
    return record


def group_record(group: EntanglementGroup) -> Json:
    """Return a group as JSON."""
    return {
        "group_id": group.group_id,
        "entity_ids": list(group.entity_ids),
        "correlation_strength": group.correlation_strength,
        "version": group.version,
    }


def group_of(record: Mapping[str, Any]) -> EntanglementGroup:
    """Return what ``group_record`` made JSON of. Raises CorruptData."""
    try:
        return EntanglementGroup(
            group_id=record["group_id"],
            entity_ids=tuple(record["entity_ids"]),
            correlation_strength=float(record["correlation_strength"]),
            version=int(record["version"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptData(f"a group in the commit journal cannot be read: {error!r}") from error


def _context_records(contexts: Iterable[Context]) -> list[list[Any]]:
    return [[context.name, float(context.weight), _packed(context.vector)] for context in contexts]


def _packed(vector: Vector | None) -> str | None:
    return None if vector is None else base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode("ascii")


def _unpacked(text: str | None) -> Vector | None:
    return None if text is None else np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
