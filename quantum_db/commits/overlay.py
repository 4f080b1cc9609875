"""A store as a transaction sees it that has not been committed: what is stored, under its own changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from quantum_db.filters import matches
from quantum_db.model import Candidates, Entity, Search, Vector
from quantum_db.ports import VectorReader

_Row = tuple[str | None, float, Vector]
_Ranked = tuple[float, str, Mapping[str, Any], float, list[_Row]]
"""Score of the best row, id, metadata, coherence time in milliseconds, rows."""


class OverlayStore:
    """Implements ``VectorReader``. ``changed`` has the new entities by id, and None for deleted ones."""

    def __init__(self, store: VectorReader, changed: Mapping[str, Entity | None]) -> None:
        self._store = store
        self._changed = changed

    async def dimension(self) -> int | None:
        """Return the length of the vectors, or None where nothing is stored or written."""
        stored = await self._store.dimension()
        return stored or next((entity.dimension for entity in self._changed.values() if entity is not None), None)

    async def fetch(self, ids: Sequence[str]) -> list[Entity | None]:
        """Return the entities in the order of ``ids``, None for each unknown one."""
        stored = await self._store.fetch(ids)
        return [self._changed.get(i, entity) for i, entity in zip(ids, stored, strict=True)]

    async def search(self, searches: Sequence[Search]) -> list[Candidates]:
        """Answer several searches: those of the store, without what was changed, and with the changed entities."""
        wider = [replace(search, limit=search.limit + len(self._changed)) for search in searches]
        stored = await self._store.search(wider)
        return [self._merged(search, found) for search, found in zip(searches, stored, strict=True)]

    async def context_names(self) -> list[str]:
        """Return the names of all contexts that some entity has, and maybe of some that only a deleted one had."""
        names = set(await self._store.context_names())
        for entity in self._changed.values():
            names |= {context.name for context in entity.contexts} if entity is not None else set()
        return sorted(names)

    def _merged(self, search: Search, found: Candidates) -> Candidates:
        ranked = [one for one in _ranked_of(search, found) if one[1] not in self._changed]
        ranked += [
            one for entity in self._changed.values() if entity is not None for one in _ranked_entity(search, entity)
        ]
        ranked.sort(key=lambda one: (-one[0], one[1]))
        return _candidates(search, ranked[: search.limit])


def _ranked_of(search: Search, found: Candidates) -> list[_Ranked]:
    rows: list[list[_Row]] = [[] for _ in found.entity_ids]
    for place, row in enumerate(zip(found.contexts, found.weights, found.vectors, strict=True)):
        rows[found.owner[place]].append((row[0], float(row[1]), row[2]))
    return [
        (_best(search, own), entity_id, metadata, coherence_ms, own)
        for entity_id, metadata, coherence_ms, own in zip(
            found.entity_ids, found.metadata, found.coherence_time_ms, rows, strict=True
        )
    ]


def _ranked_entity(search: Search, entity: Entity) -> list[_Ranked]:
    """Return the entity as a candidate, in a list that is empty where the search does not find it."""
    if search.filter is not None and not matches(search.filter, entity.id, entity.metadata):
        return []
    rows = _rows(search, entity)
    if not rows:
        return []
    return [(_best(search, rows), entity.id, entity.metadata, entity.coherence_time_ms, rows)]


def _rows(search: Search, entity: Entity) -> list[_Row]:
    """Return the rows that a store would answer with; see ``Search``."""
    by_vector: list[list[_Row]] = [
        [(context.name, context.weight, vector) for context in contexts] or [(None, 1.0, vector)]
        for vector, contexts in entity.distinct_vectors()
    ]
    if search.contexts:
        return [row for rows in by_vector for row in rows if row[0] in search.contexts]
    if search.all_contexts and entity.contexts:
        return [row for rows in by_vector for row in rows if row[0] is not None]
    nearest = max(by_vector, key=lambda rows: _best(search, rows))
    return [max(nearest, key=lambda row: row[1])]


def _best(search: Search, rows: Sequence[_Row]) -> float:
    return max(float(vector @ search.vector) for _, _, vector in rows)


def _candidates(search: Search, ranked: Sequence[_Ranked]) -> Candidates:
    rows = [row for *_, own in ranked for row in own]
    vectors = np.array([vector for _, _, vector in rows], dtype=np.float32)
    return Candidates(
        entity_ids=tuple(one[1] for one in ranked),
        metadata=tuple(one[2] for one in ranked),
        coherence_time_ms=tuple(one[3] for one in ranked),
        owner=np.repeat(np.arange(len(ranked), dtype=np.int32), [len(one[4]) for one in ranked]),
        contexts=tuple(name for name, _, _ in rows),
        weights=np.array([weight for _, weight, _ in rows], dtype=np.float64),
        vectors=vectors.reshape(len(rows), search.vector.size),
    )
