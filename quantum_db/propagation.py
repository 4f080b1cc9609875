"""What an update with ``propagate`` does to partners: the rule "write" of entanglement groups. Pure.

**Who moves.** The direct partners of the updated entity, each once, by the strength of all groups that join the two
(``entanglement_rules.partners``). It goes no further: a strength is what somebody declared between two entities, and
along a chain nobody declared anything. So a cycle cannot be walked round, the order of partners does not matter, and
what an update touches is known from the groups of one entity.

**How far.** By s times the change. Each vector follows its namesake: the entity's own vector that of the updated
entity, a context's own vector that of the same context there; then it is a unit vector again. Each weight follows that
of the same context, from and to 0 where one side lacks it; then they sum to 1 again. What has no namesake stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.model import Context, Entity, Vector

MAX_MOVED: Final = 1_000
"""Bound on the partners that the updates of one transaction may move."""

_NO_DIRECTION: Final = 1e-6
"""A moved vector shorter than this has no direction that could be trusted in float32; the old one is kept."""
_NO_WEIGHT: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Change:
    """New minus old of an entity; what did not change is left out.

    Attributes:
        vectors: by context, or None for the entity's own vector, where both sides have one: (d,).
        weights: by context.
    """

    vectors: Mapping[str | None, NDArray[np.float64]]
    weights: Mapping[str, float]


def change_between(old: Entity, new: Entity) -> Change:
    """Return what an update has changed. The vector of a context that has none of its own is the entity's."""
    before, after = _vectors(old), _vectors(new)
    vectors = {
        name: after[name].astype(np.float64) - before[name].astype(np.float64) for name in after if name in before
    }
    was, becomes = ({context.name: context.weight for context in entity.contexts} for entity in (old, new))
    weights = {name: becomes.get(name, 0.0) - was.get(name, 0.0) for name in {**was, **becomes}}
    return Change(
        {name: change for name, change in vectors.items() if change.any()},
        {name: change for name, change in weights.items() if change != 0.0},
    )


def moved(entity: Entity, change: Change, strength: float) -> Entity:
    """Return a partner as a change leaves it: the same object where nothing of it moves.

    A vector that the change would cancel stays, because the sum has no direction; so do weights that would all be 0.
    A weight stops at 0.

    Args:
        strength: from 0 to 1.
    """
    vector = _moved_vector(entity.vector, change.vectors.get(None), strength)
    contexts = _moved_weights(
        tuple(_with_vector(one, change.vectors.get(one.name), strength) for one in entity.contexts),
        change.weights,
        strength,
    )
    stays = vector is entity.vector and all(a is b for a, b in zip(contexts, entity.contexts, strict=True))
    return entity if stays else replace(entity, vector=vector, contexts=contexts)


def _vectors(entity: Entity) -> dict[str | None, Vector]:
    vectors: dict[str | None, Vector] = {} if entity.vector is None else {None: entity.vector}
    for context in entity.contexts:
        vector = entity.vector if context.vector is None else context.vector
        assert vector is not None
        vectors[context.name] = vector
    return vectors


def _with_vector(context: Context, change: NDArray[np.float64] | None, strength: float) -> Context:
    vector = _moved_vector(context.vector, change, strength)
    return context if vector is context.vector else replace(context, vector=vector)


def _moved_vector(vector: Vector | None, change: NDArray[np.float64] | None, strength: float) -> Vector | None:
    if vector is None or change is None or strength == 0.0:
        return vector
    wide = vector.astype(np.float64) + strength * change
    norm = float(np.linalg.norm(wide))
    return vector if norm < _NO_DIRECTION else np.asarray(wide / norm, dtype=np.float32)


def _moved_weights(contexts: tuple[Context, ...], changes: Mapping[str, float], strength: float) -> tuple[Context, ...]:
    if strength == 0.0 or not any(context.name in changes for context in contexts):
        return contexts
    weights = [max(0.0, context.weight + strength * changes.get(context.name, 0.0)) for context in contexts]
    total = sum(weights)
    if total < _NO_WEIGHT:
        return contexts
    return tuple(replace(one, weight=weight / total) for one, weight in zip(contexts, weights, strict=True))
