"""The vector store over points, in terms of a few calls that an adapter provides."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from quantum_db.errors import CorruptData, InvalidRequest, Unavailable
from quantum_db.model import Candidates, Entity, Search
from quantum_db.stores.decoding import Found, Gathered, read_record
from quantum_db.stores.point_calls import PointCalls
from quantum_db.stores.points import (
    NOWHERE,
    Place,
    Point,
    candidates,
    check_dimensions,
    check_query,
    check_storable,
    in_writes,
    lay_out,
    leftovers,
    point_id,
    ranked,
    rebuild,
    scroll_start,
    settled,
    wants_all,
    within_a_read,
)

_ATTEMPTS = 3
_ENTITIES_A_SLICE = 32
"""That are looked at before others get in between: about 1 ms."""
_TURNS = 4
"""Of the event loop that others get: from a request's arrival to its answer it takes about so many."""


@dataclass(frozen=True, slots=True)
class _Written:
    """What is to be written of some entities.

    Attributes:
        laid_out: the points of each entity.
        stale: ids of points to erase afterwards.
        added: how many of the entities are new.
        dimension: of the vectors.
    """

    laid_out: list[list[Point]]
    stale: list[str]
    added: int
    dimension: int


_NOTHING = _Written([], [], 0, 1)


class PointStore(PointCalls):
    """What ``quantum_db.stores.qdrant_edge`` and ``quantum_db.stores.qdrant`` share of the ``VectorStore`` port.

    Writes of one object are done one after another, so concurrent coroutines may write the same entity. Of two
    *processes* that write the same entity at the same time the last one wins, but points of the other may stay:
    let one process write an entity.

    Attributes:
        points_a_slice: that a large plain write writes before others get in between; None where writing waits for
            others anyway.
    """

    points_a_slice: int | None = None

    def __init__(self) -> None:
        self._writing = asyncio.Lock()
        # Points that had to be asked for to find one entity, as a running mean. It only saves second calls.
        self._points_an_entity = 1.0
        self._torn: set[frozenset[str]] = set()

    @asynccontextmanager
    async def _look(self) -> AsyncIterator[int]:
        """Yield the commit at which a reader looks, during the whole of its look.

        A store that one process reads, which applies transactions in one step, has only what is there.
        """
        self.check_whole()
        yield 0

    async def prepare(self, dimension: int) -> None:
        """Fix the dimension before the first write. Idempotent.

        Raises:
            InvalidRequest: the store has another one.
            Unavailable: the store does not answer.
        """
        async with self._writing:
            stored = await self.dimension()
            found = await self._create(dimension) if stored is None else stored
            if found != dimension:
                raise InvalidRequest.at("dimension", f"is {dimension}; the vectors of this collection have {found}")

    async def upsert(self, entities: Sequence[Entity]) -> None:
        """Write the entities, replacing those with the same id as a whole. Idempotent.

        Each entity is replaced atomically. Of a large call some entities may be written when it fails midway;
        calling again with the same entities completes it.

        Raises:
            InvalidRequest: a dimension or an entity's metadata is wrong; nothing was written.
            Unavailable: the store does not answer.

        """
        if entities:
            async with self._writing:
                self.check_whole()
                await self._put(entities)

    async def apply(self, commit: int, upserts: Sequence[Entity], deletes: Sequence[str]) -> None:  # noqa: ARG002
        """Write some entities and delete others: no search or fetch of this object sees a part of it. Idempotent.

        When it fails midway, reads and other writes raise Unavailable until an ``apply`` of the same ids has succeeded.

        Raises:
            InvalidRequest: a dimension or an entity's metadata is wrong; nothing was written.
            Unavailable: the store does not answer.

        """
        async with self._writing:
            if not await self._is_change(upserts):
                return
            changed = frozenset([*(entity.id for entity in upserts), *deletes])
            written = await self._planned(upserts) if upserts else _NOTHING
            await self._ready([point for points in written.laid_out for point in points])
            there = await self._places_of(list(dict.fromkeys(deletes)))
            self._torn.add(changed)
            with self._counting(written.added - len(there)):
                for portion in in_writes(written.laid_out, written.dimension):
                    await self._write(portion)
                if written.stale:
                    await self._erase(written.stale)
                await self._erase_all(there)
            self._torn.discard(changed)

    async def versions(self, ids: Sequence[str]) -> list[int | None]:
        """Return the versions of the entities in the order of ``ids``, None for each unknown one. Reads no vectors."""
        async with self._look() as at:
            if not ids or await self.dimension() is None:
                return [None for _ in ids]
            texts = await self._records(list(dict.fromkeys(ids)), at)
            found = {entity_id: read_record(text).version for entity_id, text in texts.items()}
            return [found.get(i) for i in ids]

    async def delete(self, ids: Sequence[str]) -> list[bool]:
        """Delete the entities; return for each id whether it was there. Idempotent in effect."""
        if not ids or await self.dimension() is None:
            return [False for _ in ids]
        async with self._writing:
            self.check_whole()
            return await self._remove(ids)

    async def fetch(self, ids: Sequence[str]) -> list[Entity | None]:
        """Return the entities in the order of ``ids``, None for each unknown one. At most two calls to the store.

        Raises CorruptData when points of a stored entity are missing.
        """
        async with self._look() as at:
            if not ids or await self.dimension() is None:
                return [None for _ in ids]
            whole = await self._gather(ids, at)
            return [rebuild(whole[i]) if i in whole else None for i in ids]

    async def scroll(self, after: str | None, limit: int) -> tuple[list[Entity], str | None]:
        """Return entities in the order of their first points' ids, which never change. At most a few calls.

        The cursor is the id of the first point not returned, which need not be there any more at the next call.
        """
        async with self._look() as at:
            stored = await self.dimension()
            if stored is None:
                return [], None
            heads, following = await self._heads(after, limit, at)
            fitting = within_a_read(heads, stored)
            if fitting < len(heads):
                following = scroll_start(point_id(heads[fitting].record.entity_id, 0))
            heads = heads[:fitting]
            whole = await self._whole(heads, at)
            ids = [head.record.entity_id for head in heads]
            return [rebuild(whole[i]) for i in ids if i in whole], following

    async def search(self, searches: Sequence[Search]) -> list[Candidates]:
        """Answer several searches in one call to the store, mostly; see ``_find`` and ``_complete``.

        Raises InvalidRequest when a query vector is not of the store's dimension.
        """
        async with self._look() as at:
            stored = await self.dimension()
            if stored is None:
                return [candidates(search, [], {}) for search in searches]
            for search in searches:
                check_query(search, stored)
            best = await self._find(searches, at)
            spread = [
                point
                for search, points in zip(searches, best, strict=True)
                if wants_all(search)
                for point in points
                if point.record.slots > 1
            ]
            whole = await self._whole(spread, at)
            return [candidates(search, points, whole) for search, points in zip(searches, best, strict=True)]

    def is_whole(self) -> bool:
        """Return whether nothing is written in part; see ``apply``."""
        return not self._torn

    def is_at_rest(self) -> bool:
        """Return whether nothing is being written, or written in part."""
        return self.is_whole() and not self._writing.locked()

    def check_whole(self) -> None:
        """Raise Unavailable where changes that belong together were written in part; see ``apply``."""
        if self._torn:
            raise Unavailable("a transaction is written in part; it is being completed", retry_after_s=1.0)

    async def _is_change(self, upserts: Sequence[Entity]) -> bool:
        """Return whether a transaction can change anything. Raises InvalidRequest when it cannot be stored."""
        stored = await self.dimension()
        if upserts:
            check_dimensions(upserts, stored)
        for i, entity in enumerate(upserts):
            check_storable(entity, f"upserts[{i}]")
            if i % _ENTITIES_A_SLICE == _ENTITIES_A_SLICE - 1:
                await let_others_in()
        return stored is not None or bool(upserts)

    async def _put(self, entities: Sequence[Entity]) -> None:
        written = await self._planned(entities)
        with self._counting(written.added):
            for i, portion in enumerate(in_writes(written.laid_out, written.dimension, self.points_a_slice)):
                if i:
                    await let_others_in()
                await self._write(portion)
            if written.stale:
                await self._erase(written.stale)

    @contextmanager
    def _counting(self, change: int) -> Iterator[None]:
        """Have the change of the number of entities counted, if the block succeeds."""
        try:
            yield
        except BaseException:
            self._counted(None)
            raise
        self._counted(change)

    async def _planned(self, entities: Sequence[Entity]) -> _Written:
        """Return what is to be written of entities; others get in between. Raises as ``upsert``."""
        stored = await self.dimension()
        dimension = check_dimensions(entities, stored)
        laid_out: list[list[Point]] = []
        for i, entity in enumerate(entities):
            laid_out.append(lay_out(entity, f"vectors[{i}]"))
            if i % _ENTITIES_A_SLICE == _ENTITIES_A_SLICE - 1:
                await let_others_in()
        if stored is None:
            # Another process may have been first, with another dimension.
            check_dimensions(entities, await self._create(dimension))
        places = await self._places_of([entity.id for entity in entities])
        stale: list[str] = []
        for i, entity in enumerate(entities):
            place = places.get(entity.id, NOWHERE)
            if place.born or place.high > len(laid_out[i]):
                stale += leftovers(entity, place)
                laid_out[i] = lay_out(entity, f"vectors[{i}]", place)
                await let_others_in()
        return _Written(laid_out, stale, len(entities) - len(places), dimension)

    async def _places_of(self, ids: Sequence[str]) -> dict[str, Place]:
        """Return where entities are; others get in between."""
        if self.points_a_slice is None or not ids:
            return await self._places(ids) if ids else {}
        places: dict[str, Place] = {}
        for start in range(0, len(ids), _ENTITIES_A_SLICE):
            if start:
                await let_others_in()
            places |= await self._places(ids[start : start + _ENTITIES_A_SLICE])
        return places

    async def _erase_all(self, places: Mapping[str, Place]) -> None:
        gone = [point_id(i, slot, at.born) for i, at in places.items() for slot in range(at.high)]
        if gone:
            await self._erase(gone)

    async def _remove(self, ids: Sequence[str]) -> list[bool]:
        places = await self._places_of(list(dict.fromkeys(ids)))
        with self._counting(-len(places)):
            await self._erase_all(places)
        return [places.get(i, NOWHERE).high > 0 for i in ids]

    async def _find(self, searches: Sequence[Search], at: int) -> list[list[Found]]:
        """Return each search's best points, one an entity, asking for more points until enough entities are there."""
        asked = [self._first_ask(search) for search in searches]
        answers: list[list[Found]] = [[] for _ in searches]
        waiting = list(range(len(searches)))
        while waiting:
            got = await self._nearest([(searches[i], asked[i]) for i in waiting], at)
            for i, points in zip(waiting, got, strict=True):
                answers[i] = points
            waiting = [i for i in waiting if not settled(answers[i], searches[i].limit, asked[i])]
            for i in waiting:
                entities = len({point.record.entity_id for point in answers[i]})
                asked[i] = math.ceil(asked[i] * max(1.5, 1.25 * searches[i].limit / entities))
        self._learn(searches, answers)
        return [ranked(points, search.limit) for search, points in zip(searches, answers, strict=True)]

    def _first_ask(self, search: Search) -> int:
        """Return the number of points to begin with; the one above the limit tells whether the last one is tied."""
        if len(search.contexts) == 1:
            return search.limit + 1
        return math.ceil(search.limit * (1.0 + 2.0 * (self._points_an_entity - 1.0))) + 1

    def _learn(self, searches: Sequence[Search], answers: Sequence[Sequence[Found]]) -> None:
        answers = [points for search, points in zip(searches, answers, strict=True) if not search.contexts]
        entities = sum(len({point.record.entity_id for point in points}) for points in answers)
        if entities:
            ratio = sum(map(len, answers)) / entities
            self._points_an_entity += 0.1 * (ratio - self._points_an_entity)

    async def _gather(self, ids: Iterable[str], at: int) -> dict[str, Gathered]:
        """Read the entities that exist, by id: all first slots in one call, all others in a second."""
        whole: dict[str, Gathered] = {}
        left = list(dict.fromkeys(ids))
        for _ in range(_ATTEMPTS):
            firsts = await self._firsts(left, at)
            complete, left = await self._complete(
                {p.record.entity_id: Gathered(p.text, p.record, {0: p.vector}, p.born) for p in firsts}
            )
            whole |= complete
            if not left:
                return whole
        raise CorruptData(f"Not all vectors of the entity {left[0]!r} are in the store")

    async def _whole(self, points: Iterable[Found], at: int) -> dict[str, Gathered]:
        """Read the other slots of the entities that the points belong to, in one call."""
        partial: dict[str, Gathered] = {}
        for point in points:
            whole = Gathered(point.text, point.record, {}, point.born)
            entity = partial.setdefault(point.record.entity_id, whole)
            if entity.text == point.text:
                entity.vectors[point.slot] = point.vector
        complete, torn = await self._complete(partial)
        return complete | await self._gather(torn, at) if torn else complete

    async def _complete(self, partial: dict[str, Gathered]) -> tuple[dict[str, Gathered], list[str]]:
        """Read what is missing. Return the complete entities, and the ids of those replaced between two calls."""
        wanted = {
            point_id(i, slot, entity.born): (i, slot) for i, entity in partial.items() for slot in entity.missing()
        }
        if wanted:
            for key, point in (await self._read(list(wanted))).items():
                entity_id, slot = wanted[key]
                # The record tells the versions of an entity apart: it holds a digest of the vectors.
                if point.text == partial[entity_id].text:
                    partial[entity_id].vectors[slot] = point.vector
        torn = [i for i, entity in partial.items() if entity.missing()]
        return {i: entity for i, entity in partial.items() if i not in torn}, torn


async def let_others_in() -> None:
    """Let the event loop turn until a request that has come is answered, if there is one; else it costs some us."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)
