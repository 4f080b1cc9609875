"""The database: writes, reads and the way of a query through its stages. All I/O goes through the ports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import uuid4

import numpy as np

from quantum_db import retrieval
from quantum_db.circuits.template import Template
from quantum_db.diversity import Diversifier
from quantum_db.errors import (
    DeadlineExceeded,
    FieldError,
    InvalidRequest,
    NotFound,
    UnknownContext,
)
from quantum_db.lifecycle import Happening, StateEvent
from quantum_db.model import Answer, Candidates, EntanglementGroup, Entity, Query, StageTimes
from quantum_db.modes import MODES
from quantum_db.near import near_name
from quantum_db.ports import (
    Clock,
    Groups,
    JobPool,
    StateLog,
    Templates,
    VectorStore,
)
from quantum_db.refinement import Policy, Refiner, exact_scores


class Database:
    """One collection of entities. Safe for concurrent use within one event loop."""

    def __init__(
        self,
        *,
        store: VectorStore,
        jobs: JobPool,
        templates: Templates,
        states: StateLog,
        groups: Groups,
        clock: Clock,
        rng: np.random.Generator,
        policy: Policy | None = None,
        new_key: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self._store = store
        self._templates = templates
        self._states = states
        self._groups = groups
        self._clock = clock
        policy = policy or Policy()
        self._refiner = Refiner(jobs, templates, clock, policy, new_key)
        self._diversifier = Diversifier(jobs, rng, policy.backend, new_key)
        self._dimension: int | None = None

    async def insert(self, entities: Sequence[Entity]) -> None:
        """Write entities, replacing those with the same ids. Nothing is written if one is wrong. Idempotent.

        Raises:
            InvalidRequest: a vector's dimension differs from the stored one.
        """
        await self._check_dimensions([entity.dimension for entity in entities])
        await self._store.upsert(entities)
        now_s = self._clock.now_s()
        self._states.record([StateEvent(e.id, Happening.CREATED, now_s, e.coherence_time_ms) for e in entities])

    async def fetch(self, entity_id: str) -> Entity:
        """Return an entity. Raises NotFound."""
        (entity,) = await self._store.fetch([entity_id])
        if entity is None:
            raise NotFound(f"there is no entity {entity_id!r}")
        return entity

    async def scroll(self, after: str | None, limit: int) -> tuple[list[Entity], str | None]:
        """Return a page of all entities and the cursor of the next; see ``VectorStore.scroll``."""
        return await self._store.scroll(after, limit)

    async def delete(self, entity_id: str) -> None:
        """Delete an entity. Raises NotFound, also for the second time."""
        (existed,) = await self._store.delete([entity_id])
        if not existed:
            raise NotFound(f"there is no entity {entity_id!r}")
        self._states.record([StateEvent(entity_id, Happening.ARCHIVED, self._clock.now_s())])

    async def create_group(self, group: EntanglementGroup) -> EntanglementGroup:
        """Write an entanglement group of stored entities. Idempotent.

        Raises:
            InvalidRequest: a member is not stored.
            Conflict: the id stands for another group.
        """
        members = await self._store.fetch(group.entity_ids)
        missing = [(i, group.entity_ids[i]) for i, member in enumerate(members) if member is None]
        if missing:
            errors = [FieldError(f"entity_ids[{i}]", f"there is no entity {name!r}") for i, name in missing[:20]]
            raise InvalidRequest(f"{errors[0].path}: {errors[0].message}", errors=errors)
        return await self._groups.create(group)

    async def group(self, group_id: str) -> EntanglementGroup:
        """Return an entanglement group. Raises NotFound."""
        return await self._groups.get(group_id)

    async def circuit(self, key: str) -> Template:
        """Return a circuit structure that a query has used. Raises NotFound."""
        return await self._templates.get(key)

    async def query(self, query: Query, parse_ms: float = 0.0) -> Answer:
        """Answer a query.

        Args:
            parse_ms: time that the caller spent on making the query, for the answer's stage times.

        Raises:
            InvalidRequest: wrong dimension, or no such backend.
            UnknownContext: no entity has the context.
            DeadlineExceeded: the answer was not ready within the query's timeout.
        """
        try:
            async with asyncio.timeout(query.timeout_s):
                return await self._answer(query, parse_ms)
        except TimeoutError:
            raise DeadlineExceeded(
                f"timeout_ms: the query did not end within {query.timeout_s * 1000:.0f} ms; "
                "a longer timeout or a mode with fewer shots may do"
            ) from None

    async def _answer(self, query: Query, parse_ms: float) -> Answer:
        mode = MODES[query.mode]
        start = self._clock.monotonic_s()
        await self._check_dimensions([query.vector.size], path="vector")
        (candidates,) = await self._store.search([retrieval.search_for(query, mode)])
        if not candidates.entity_ids and query.contexts:
            await self._check_contexts(query)
        filtered = self._clock.monotonic_s()

        candidates, classical = exact_scores(query, candidates)
        classical_s = self._clock.monotonic_s() - filtered
        scores, report = await self._refiner.refine(query, candidates, classical, classical_s)
        refined_at = self._clock.monotonic_s()

        hits = retrieval.rank(candidates, classical, scores)
        if scores is not None:
            report = replace(report, changed_order=retrieval.order_changed(hits, query.top_k))
            self._note_measured(candidates)
        chosen, tunneling = hits[: query.top_k], None
        if query.enable_tunneling:
            left = query.budget.less(report.cost_usd, report.shots)
            chosen, tunneling = await self._diversifier.choose(query, candidates, hits, scores or classical, left)
        end = self._clock.monotonic_s()
        return Answer(
            hits=chosen,
            mode=query.mode,
            candidates=len(candidates.entity_ids),
            refinement=report,
            stages=StageTimes(
                parse_ms=parse_ms,
                filter_ms=(filtered - start) * 1000.0,
                refine_ms=(refined_at - filtered) * 1000.0,
                rank_ms=(end - refined_at) * 1000.0,
            ),
            tunneling=tunneling,
        )

    def _note_measured(self, candidates: Candidates) -> None:
        now_s = self._clock.now_s()
        entities = list(zip(candidates.entity_ids, candidates.coherence_time_ms, strict=True))
        prepared = [StateEvent(entity_id, Happening.PREPARED, now_s, time_ms) for entity_id, time_ms in entities]
        measured = [StateEvent(entity_id, Happening.MEASURED, now_s) for entity_id, _ in entities]
        self._states.record([*prepared, *measured])

    async def _check_dimensions(self, dimensions: list[int], path: str = "") -> None:
        if self._dimension is None:
            self._dimension = await self._store.dimension()
        expected = self._dimension or dimensions[0]
        for position, given in enumerate(dimensions):
            if given != expected:
                where = path or (f"vectors[{position}].vector" if len(dimensions) > 1 else "vector")
                raise InvalidRequest.at(where, f"has {given} numbers; the vectors of this collection have {expected}")

    async def _check_contexts(self, query: Query) -> None:
        names = await self._store.context_names()
        for position, (context, _) in enumerate(query.contexts):
            if context not in names:
                path = f"contexts[{position}].name" if len(query.contexts) > 1 else "context"
                message = f"no entity has the context {context!r}{near_name(context, names)}"
                raise UnknownContext(f"{path}: {message}", errors=[FieldError(path, message)])
