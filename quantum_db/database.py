"""The database: writes, reads and the way of a query through its stages. All I/O goes through the ports."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np

from quantum_db import retrieval
from quantum_db.backend_ports import JobPool
from quantum_db.circuits.template import Template
from quantum_db.commits.operations import Deletes, Insert, Transaction, Upserts
from quantum_db.commits.overlay import OverlayStore
from quantum_db.commits.planning import Stored, needs, plan
from quantum_db.commits.ports import Writes
from quantum_db.diversity import Diversifier
from quantum_db.errors import (
    DeadlineExceeded,
    FieldError,
    InvalidRequest,
    NotFound,
    UnknownContext,
)
from quantum_db.groups import GroupPage, GroupUpdate
from quantum_db.lifecycle import Happening
from quantum_db.model import Answer, Candidates, EntanglementGroup, Entity, Query, StageTimes
from quantum_db.modes import MODES
from quantum_db.near import near_name
from quantum_db.ports import Clock, Groups, ScrollableReader, Sessions, States, Templates, VectorReader
from quantum_db.refinement import Policy, Refiner, exact_scores
from quantum_db.session_rules import SessionRules
from quantum_db.states.batches import happened, joined
from quantum_db.states.history import Instances
from quantum_db.stores.points import check_storable


def _new_key() -> str:
    return uuid4().hex


RESERVED = 0.2
"""Share of a query's timeout that is kept for ranking and for the way back, where circuits may take the rest."""

MAX_RESERVED_S = 0.25


class Database:
    """One collection of entities. Safe for concurrent use within one event loop."""

    def __init__(  # noqa: PLR0913 - its ports
        self,
        *,
        store: ScrollableReader,
        writes: Writes,
        jobs: JobPool,
        templates: Templates,
        states: States,
        groups: Groups,
        sessions: Sessions,
        clock: Clock,
        rng: np.random.Generator,
        policy: Policy | None = None,
    ) -> None:
        self._store = store
        self._writes = writes
        self._templates = templates
        self._states = states
        self._groups = groups
        self._sessions = SessionRules(sessions, groups, store, _new_key)
        self._clock = clock
        policy = policy or Policy()
        self._refiner = Refiner(jobs, templates, clock, policy, _new_key)
        self._diversifier = Diversifier(jobs, rng, policy.backend, _new_key)
        self._dimension: int | None = None

    async def insert(self, entity: Entity) -> int:
        """Write an entity, replacing one with the same id; return its version. Idempotent but for the version.

        Raises:
            InvalidRequest: a vector's dimension differs from the stored one.
        """
        await self._check_dimensions(entity.dimension)
        return await self._write([entity])

    async def insert_each(
        self, entities: Sequence[Entity | InvalidRequest], named: Transaction | None = None
    ) -> tuple[int, list[InvalidRequest | None]]:
        """Write the entities that can be written; return their version, and of each what is wrong with it.

        Args:
            named: a transaction without operations, whose key and request those of the entities shall have.

        Raises:
            Unavailable: any of them may have been written; the same call again completes it.
        """
        stored = await self._dimension_of_store()
        refused: list[InvalidRequest | None] = []
        good = []
        for entity in entities:
            error = entity if isinstance(entity, InvalidRequest) else _refusal(entity, stored)
            refused.append(error)
            if error is None:
                assert isinstance(entity, Entity)
                stored = stored or entity.dimension
                good.append(entity)
        if named is None:
            return (await self._write(good) if good else 0), refused
        inserts = tuple(Insert(entity) for entity in good)
        answer = await self._writes.do(replace(named, operations=inserts)) if good else {"commit": 0}
        return int(answer["commit"]), refused

    async def transact(self, transaction: Transaction) -> Mapping[str, Any]:
        """Do the operations together or not at all; see ``Writes.do``."""
        return await self._writes.do(transaction)

    async def _write(self, entities: Sequence[Entity]) -> int:
        answer = await self._writes.do(Upserts(tuple(entities)))
        ids, times_ms = [entity.id for entity in entities], [entity.coherence_time_ms for entity in entities]
        commit = int(answer["commit"])
        self._states.record(happened(Happening.CREATED, ids, self._clock.now_s(), times_ms, commit))
        return commit

    async def fetch(self, entity_id: str) -> Entity:
        """Return an entity. Raises NotFound."""
        (entity,) = await self._store.fetch([entity_id])
        if entity is None:
            raise NotFound(f"there is no entity {entity_id!r}")
        return entity

    async def scroll(self, after: str | None, limit: int) -> tuple[list[Entity], str | None]:
        """Return a page of all entities and the cursor of the next; see ``ScrollableReader.scroll``."""
        return await self._store.scroll(after, limit)

    async def delete(self, entity_id: str) -> int:
        """Delete an entity, which leaves its groups; return the number of the commit.

        Raises:
            NotFound: also for the second time.
            Unavailable: it may still be in groups; the same call again makes it leave them.
        """
        answer = await self._writes.do(Deletes((entity_id,)))
        if not answer["existed"][0]:
            raise NotFound(f"there is no entity {entity_id!r}")
        commit = int(answer["commit"])
        self._states.record(happened(Happening.ARCHIVED, [entity_id], self._clock.now_s(), commit=commit))
        return commit

    async def create_group(self, group: EntanglementGroup) -> EntanglementGroup:
        """Write an entanglement group of stored entities. Idempotent.

        Raises:
            InvalidRequest: a member is not stored.
            Conflict: the id stands for another group.
        """
        await self._check_members("entity_ids", group.entity_ids)
        created = await self._groups.create(group)
        await self._leave_out_deleted(group.entity_ids)
        return created

    async def update_group(self, group_id: str, update: GroupUpdate, version: int) -> EntanglementGroup | None:
        """Change a group; see ``Groups.update``. Raises InvalidRequest, too, when a new member is not stored."""
        await self._check_members("add", update.add)
        updated = await self._groups.update(group_id, update, version)
        await self._leave_out_deleted(update.add)
        return updated

    async def delete_group(self, group_id: str, version: int | None) -> int:
        """Delete a group; see ``Groups.delete``."""
        return await self._groups.delete(group_id, version)

    async def groups(self, member: str | None, after: str, limit: int) -> GroupPage:
        """Return groups by id; see ``Groups.page``."""
        return await self._groups.page(member, after, limit)

    async def group(self, group_id: str) -> EntanglementGroup:
        """Return an entanglement group. Raises NotFound."""
        return await self._groups.get(group_id)

    async def state(self, entity_id: str) -> Instances:
        """Return the instances of an entity's state; see ``States.instances``."""
        return await self._states.instances(entity_id)

    async def circuit(self, key: str) -> Template:
        """Return a circuit structure that a query has used. Raises NotFound."""
        return await self._templates.get(key)

    async def query(self, query: Query, parse_ms: float = 0.0, under: Transaction | None = None) -> Answer:
        """Answer a query.

        Args:
            parse_ms: time that the caller spent on making the query, for the answer's stage times.
            under: answer as if this transaction had taken place, which it has not.

        Raises:
            InvalidRequest: wrong dimension, or no such backend.
            UnknownContext: no entity has the context.
            DeadlineExceeded: the answer was not ready within the query's timeout.
            Conflict, NotFound: the transaction could not take place.
        """
        try:
            async with asyncio.timeout(query.timeout_s):
                store = self._store if under is None else await self._overlay(under)
                return await self._answer(query, parse_ms, store)
        except TimeoutError:
            raise DeadlineExceeded(
                f"timeout_ms: the query did not end within {query.timeout_s * 1000:.0f} ms; "
                "a longer timeout or a mode with fewer shots may do"
            ) from None

    async def _overlay(self, transaction: Transaction) -> VectorReader:
        """Return the store with the changes of a transaction that is not committed."""
        wanted = needs(transaction)
        groups = {one: await self._groups.of_member(one) for one in wanted.groups}
        wanted = wanted.with_partners(groups)
        ids = (*wanted.entities, *wanted.versions)
        found = dict(zip(ids, await self._store.fetch(ids) if ids else [], strict=True))
        planned = plan(transaction, Stored(found, {}, await self._dimension_of_store(), groups), commit=0)
        changed: dict[str, Entity | None] = {entity.id: entity for entity in planned.upserts}
        return OverlayStore(self._store, changed | dict.fromkeys(planned.deletes))

    async def _answer(self, query: Query, parse_ms: float, store: VectorReader) -> Answer:
        mode = MODES[query.mode]
        start = self._clock.monotonic_s()
        await self._check_dimensions(query.vector.size)
        (candidates,) = await store.search([retrieval.search_for(query, mode)])
        if not candidates.entity_ids and query.contexts:
            await self._check_contexts(query, store)
        candidates = await self._sessions.seen(query, candidates)
        filtered = self._clock.monotonic_s()

        candidates, classical = exact_scores(query, candidates)
        classical_s = self._clock.monotonic_s() - filtered
        timely = self._with_time_left(query, start)
        scores, report = await self._refiner.refine(timely, candidates, classical, classical_s)
        refined_at = self._clock.monotonic_s()

        hits = retrieval.rank(candidates, classical, scores, None if query.enable_tunneling else query.top_k)
        if scores is not None:
            changed = retrieval.order_changed(candidates, classical, scores, query.top_k)
            report = replace(report, changed_order=changed)
            self._note_measured(candidates)
        chosen, tunneling = hits[: query.top_k], None
        if query.enable_tunneling:
            left = query.budget.less(report.cost_usd, report.shots)
            timely = self._with_time_left(query, start)
            chosen, tunneling = await self._diversifier.choose(timely, candidates, hits, scores or classical, left)
        await self._sessions.note(query, chosen, ran=scores is not None)
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
            coherence_time_ms=None if scores is None else min(candidates.coherence_time_ms),
        )

    def _with_time_left(self, query: Query, start: float) -> Query:
        """Return the query with the time that circuits have, if it began at ``start``."""
        reserved_s = 0.0 if query.on_timeout == "error" else min(MAX_RESERVED_S, RESERVED * query.timeout_s)
        left_s = query.timeout_s - (self._clock.monotonic_s() - start) - reserved_s
        return replace(query, timeout_s=max(0.001, left_s))

    def _note_measured(self, candidates: Candidates) -> None:
        now_s, ids = self._clock.now_s(), candidates.entity_ids
        prepared = happened(Happening.PREPARED, ids, now_s, candidates.coherence_time_ms)
        self._states.record(joined([prepared, happened(Happening.MEASURED, ids, now_s)]))

    async def _missing(self, entity_ids: Sequence[str]) -> list[int]:
        members = await self._store.fetch(entity_ids) if entity_ids else []
        return [place for place, member in enumerate(members) if member is None]

    async def _check_members(self, path: str, entity_ids: Sequence[str]) -> None:
        missing = await self._missing(entity_ids)
        if missing:
            errors = [FieldError(f"{path}[{i}]", f"there is no entity {entity_ids[i]!r}") for i in missing[:20]]
            raise InvalidRequest(f"{errors[0].path}: {errors[0].message}", errors=errors)

    async def _leave_out_deleted(self, entity_ids: Sequence[str]) -> None:
        """Let those leave again who were deleted between the check and the write: their deletion did not see it."""
        for place in await self._missing(entity_ids):
            await self._groups.entity_deleted(entity_ids[place])

    async def _dimension_of_store(self) -> int | None:
        if self._dimension is None:
            self._dimension = await self._store.dimension()
        return self._dimension

    async def _check_dimensions(self, given: int) -> None:
        expected = await self._dimension_of_store() or given
        if given != expected:
            raise _wrong_dimension(given, expected)

    async def _check_contexts(self, query: Query, store: VectorReader) -> None:
        names = await store.context_names()
        for position, (context, _) in enumerate(query.contexts):
            if context not in names:
                path = f"contexts[{position}].name" if len(query.contexts) > 1 else "context"
                message = f"no entity has the context {context!r}{near_name(context, names)}"
                raise UnknownContext(f"{path}: {message}", errors=[FieldError(path, message)])


def _refusal(entity: Entity, stored: int | None) -> InvalidRequest | None:
    """Return what keeps an entity from being written."""
    if stored is not None and entity.dimension != stored:
        return _wrong_dimension(entity.dimension, stored)
    try:
        check_storable(entity, "")
    except InvalidRequest as error:
        return error
    return None


def _wrong_dimension(given: int, expected: int) -> InvalidRequest:
    return InvalidRequest.at("vector", f"has {given} numbers; the vectors of this collection have {expected}")
