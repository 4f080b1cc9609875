"""From Python values, also NumPy arrays, to the bodies that the API takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from quantum_db.errors import InvalidRequest
from quantum_db.model import Context, Entity

Json = dict[str, Any]
ContextLike: TypeAlias = Context | Mapping[str, Any] | tuple[str, float] | tuple[str, float, ArrayLike]
"""A context of an entity: its name, its weight, and maybe a vector of its own."""


def vector_body(vector: ArrayLike, path: str = "vector") -> Any:
    """Return a vector as a body holds it: a contiguous array of floats. Raises InvalidRequest where one is not finite.

    JSON has no word for what is not finite, so that cannot be left to the cluster.
    """
    try:
        array = np.ascontiguousarray(vector)
    except ValueError:
        raise InvalidRequest.at(path, "must be a flat list of numbers") from None
    if array.dtype.kind not in "iuf":
        raise InvalidRequest.at(path, "must be a flat list of numbers")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InvalidRequest.at(path, "holds a value that is not finite; every value must be a number")
    return array


def context_body(context: ContextLike, place: int) -> Json:
    """Return a context of an entity."""
    if isinstance(context, Mapping):
        body = dict(context)
    elif isinstance(context, Context):
        body = {"name": context.name, "weight": context.weight, "vector": context.vector}
    else:
        body = dict(zip(("name", "weight", "vector"), context, strict=False))
    if body.get("vector") is None:
        body.pop("vector", None)
    else:
        body["vector"] = vector_body(body["vector"], f"contexts[{place}].vector")
    return body


def entity_body(
    *,
    id: str,  # noqa: A002 - the API's name
    vector: ArrayLike | None = None,
    contexts: Iterable[ContextLike] | None = None,
    coherence_time_ms: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    **more: Any,
) -> Json:
    """Return the body that writes an entity; ``more`` are fields of an operation in a transaction."""
    return {"id": id, **changes_body(vector, contexts, coherence_time_ms, metadata), **more}


def changes_body(
    vector: ArrayLike | None,
    contexts: Iterable[ContextLike] | None,
    coherence_time_ms: float | None,
    metadata: Mapping[str, Any] | None,
) -> Json:
    """Return the fields of an entity that are given."""
    body: Json = {}
    if vector is not None:
        body["vector"] = vector_body(vector)
    if contexts is not None:
        body["contexts"] = [context_body(context, place) for place, context in enumerate(contexts)]
    if coherence_time_ms is not None:
        body["coherence_time_ms"] = coherence_time_ms
    if metadata is not None:
        body["metadata"] = dict(metadata)
    return body


def any_entity_body(entity: Entity | Mapping[str, Any]) -> Json:
    """Return the body that writes an entity, however it is given. What it held as its version is left out."""
    if isinstance(entity, Mapping):
        return entity_body(**{name: value for name, value in entity.items() if name != "version"})
    return entity_body(
        id=entity.id,
        vector=entity.vector,
        contexts=entity.contexts,
        coherence_time_ms=entity.coherence_time_ms,
        metadata=entity.metadata,
    )


def query_body(vector: ArrayLike, contexts: Iterable[Any] | None, options: Mapping[str, Any]) -> Json:
    """Return the body of a query; options that are None are left to the cluster."""
    body: Json = {"vector": vector_body(vector)}
    if contexts is not None:
        body["contexts"] = [
            dict(one) if isinstance(one, Mapping) else dict(zip(("name", "weight"), _pair(one), strict=False))
            for one in contexts
        ]
    return body | {name: value for name, value in options.items() if value is not None}


def _pair(context: str | Sequence[Any]) -> Sequence[Any]:
    return (context,) if isinstance(context, str) else context
