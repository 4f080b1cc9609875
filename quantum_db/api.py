"""The calls of the API on decoded JSON: the same for HTTP, for Ray handles and in process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from quantum_db.access.bodies import KeyBody, RotateKeyBody
from quantum_db.backend_ports import JobPool
from quantum_db.batches import BatchRunner, RunBatchBody
from quantum_db.circuits.drawing import FORMS, draw
from quantum_db.collection_bodies import CollectionBody, CollectionPageBody, collection_view
from quantum_db.commits.bodies import (
    BatchBody,
    TransactionBody,
    TransactionQueryBody,
    UpdateBody,
    batch_entities,
    batch_transaction,
    body_digest,
    id_of_item,
    scoped_key,
)
from quantum_db.commits.operations import CreateGroup, Delete, Insert, Transaction, Update
from quantum_db.cursors import seal, unseal
from quantum_db.directory import Directory, Inside
from quantum_db.errors import InvalidRequest
from quantum_db.group_bodies import GroupBody, GroupPageBody, GroupUpdateBody, MeasureBody
from quantum_db.jobs.bodies import BreakerBody, CostsBody, JobBody, JobPageBody, order_of
from quantum_db.jobs.desk import JobDesk, JobPage
from quantum_db.jobs.orders import JobOrder
from quantum_db.kept_answers import KeptAnswers, Made, may_be_kept
from quantum_db.measurement import GroupMeasurement
from quantum_db.model import Answer
from quantum_db.query_batches import LooseQueryBatchBody, QueryBatchBody, answered_each
from quantum_db.requests import Body, EntityBody, GraphQLBody, QueryBody, VectorPageBody, parse
from quantum_db.scope import DEFAULT_SCOPE, Scope
from quantum_db.sessions import SessionKey
from quantum_db.sql_bodies import SqlBatchBody, SqlExplainBody, SqlQueryBody
from quantum_db.sql_calls import NO_DATABASES, SqlCalls
from quantum_db.stores.points import is_point_id
from quantum_db.views import (
    answer_view,
    batch_view,
    entity_view,
    group_view,
    instances_view,
    item_view,
    measurement_view,
    session_view,
)

Json = dict[str, Any]
Result = TypeVar("Result")


class Api:
    """JSON in, JSON out. Every method raises ``QuantumDBError``s only for what the caller can mend or must know."""

    def __init__(
        self,
        directory: Directory,
        batches: BatchRunner,
        jobs: JobCalls,
        note_answer: Callable[[Answer], None],
        kept: KeptAnswers | None = None,
        sql: SqlCalls = NO_DATABASES,
    ) -> None:
        """Join the parts.

        Args:
            directory: of collections, with the entities, groups and sessions in them.
            batches: of circuit operations.
            jobs: the calls about jobs, costs and backends.
            note_answer: is shown each answer that is made, for metrics.
            kept: answers that are given again; None keeps none.
            sql: the calls about SQL databases.
        """
        self.jobs = jobs
        self.sql = sql
        self._directory = directory
        self._batches = batches
        self._note_answer = note_answer
        self._kept = kept

    async def insert(self, raw: object, key: str | None = None, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Write one entity (``EntityBody``), replacing one with the same id. Idempotent but for the version.

        With a ``key`` it is a transaction of one insert; see ``transact``.
        """
        entity = parse(EntityBody, raw).to_entity()
        if key is None:
            version = await self._in(scope, lambda one: one.database.insert(entity))
        else:
            transaction = Transaction((Insert(entity),), scoped_key(key, scope.tenant))
            version = (await self._in(scope, lambda one: one.database.transact(transaction)))["commit"]
        contexts = [context.name for context in entity.contexts]
        return {"id": entity.id, "dimension": entity.dimension, "contexts": contexts, "version": version}

    async def insert_batch(self, raw: object, key: str | None = None, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Write entities (``BatchBody``), each for itself, or with ``transaction`` all or none.

        Without ``transaction``, ``items`` tells what became of each, and ``refused`` how many were not written. With a
        ``key``, those that can be written are a transaction; see ``transact``.
        """
        together, entities = batch_entities(raw)
        if together:
            transaction = batch_transaction(raw, scoped_key(key, scope.tenant))
            answer = await self._in(scope, lambda one: one.database.transact(transaction))
            return {"written": len(transaction.operations), "transaction": True, **answer}
        named = None if key is None else Transaction((), scoped_key(key, scope.tenant), request=body_digest(raw))
        version, refused = await self._in(scope, lambda one: one.database.insert_each(entities, named))
        items = [
            item_view(id_of_item(raw, i), version if error is None else None, error) for i, error in enumerate(refused)
        ]
        failed = sum(error is not None for error in refused)
        return {"written": len(items) - failed, "refused": failed, "transaction": False, "items": items}

    async def update(
        self,
        entity_id: str,
        raw: object,
        expected_version: int | None = None,
        key: str | None = None,
        scope: Scope = DEFAULT_SCOPE,
    ) -> Json:
        """Replace fields of an entity (``UpdateBody``): a transaction of one update.

        With ``propagate``, ``moved`` tells which partners it moved; they have the same version.
        """
        body = parse(UpdateBody, raw)
        change = Update(entity_id, body.changes(), "", expected_version, body.propagate)
        transaction = Transaction((change,), scoped_key(key, scope.tenant))
        answer = await self._in(scope, lambda one: one.database.transact(transaction))
        (result,) = answer["results"]
        return {name: value for name, value in result.items() if name != "op"}

    async def transact(self, raw: object, key: str | None = None, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Do operations (``TransactionBody``) together or not at all.

        The same again under the same ``key`` is answered as the first time, and is not done again.
        """
        transaction = parse(TransactionBody, raw).to_transaction(scoped_key(key, scope.tenant))
        return dict(await self._in(scope, lambda one: one.database.transact(transaction)))

    async def query_under(self, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Answer a query as if operations had taken place (``TransactionQueryBody``), which they have not."""
        body = parse(TransactionQueryBody, raw)
        under = Transaction(body.to_operations())
        return (await self._in(scope, lambda one: self._made(one, body.query, scope, under))).view

    async def fetch(self, entity_id: str, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Return an entity."""
        return entity_view(await self._in(scope, lambda one: one.database.fetch(entity_id)))

    async def scroll(self, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Return a page of all entities (``VectorPageBody``); ``next`` is the cursor of the next page, or None."""
        body = parse(VectorPageBody, raw)
        after = unseal("vectors", scope, body.cursor)
        if after is not None and not is_point_id(after):
            raise InvalidRequest.at("cursor", "holds no place among vectors; leave it out to begin")
        entities, following = await self._in(scope, lambda one: one.database.scroll(after, body.limit))
        page = [entity_view(entity, body.vectors) for entity in entities]
        return {"vectors": page, "next": seal("vectors", scope, following)}

    async def delete(self, entity_id: str, expected_version: int | None = None, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Delete an entity, at the expected version if one is given."""
        if expected_version is None:
            commit = await self._in(scope, lambda one: one.database.delete(entity_id))
        else:
            transaction = Transaction((Delete(entity_id, "", expected_version),))
            commit = (await self._in(scope, lambda one: one.database.transact(transaction)))["commit"]
        return {"id": entity_id, "deleted": True, "commit": commit}

    async def query(self, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Answer a query (``QueryBody``) of a tenant; ``cached`` tells whether the answer was made before."""
        return await self._in(scope, lambda one: self._asked(one, raw, scope))

    async def query_batch(self, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Answer queries (``QueryBatchBody``), each for itself: ``items`` tells of each its answer or its problem."""
        queries = parse(LooseQueryBatchBody, raw).queries
        return await self._in(scope, lambda one: answered_each(queries, lambda query: self._asked(one, query, scope)))

    async def create_group(self, raw: object, key: str | None = None, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Write an entanglement group (``GroupBody``). Idempotent.

        With a ``key`` it is a transaction of one creation; see ``transact``.
        """
        group = parse(GroupBody, raw).to_group()
        if key is None:
            return group_view(await self._in(scope, lambda one: one.database.create_group(group)))
        transaction = Transaction((CreateGroup(group),), scoped_key(key, scope.tenant))
        answer = await self._in(scope, lambda one: one.database.transact(transaction))
        return group_view(replace(group, version=answer["results"][0]["version"]))

    async def group(self, group_id: str, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Return an entanglement group."""
        return group_view(await self._in(scope, lambda one: one.database.group(group_id)))

    async def update_group(self, group_id: str, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Change a group (``GroupUpdateBody``) that is at the expected version."""
        body = parse(GroupUpdateBody, raw)
        update, version = body.to_update(), body.expected_version
        group = await self._in(scope, lambda one: one.database.update_group(group_id, update, version))
        if group is None:
            return {"group_id": group_id, "deleted": True, "version": version + 1}
        return group_view(group)

    async def delete_group(
        self, group_id: str, expected_version: int | None = None, scope: Scope = DEFAULT_SCOPE
    ) -> Json:
        """Delete a group, at the expected version if one is given."""
        version = await self._in(scope, lambda one: one.database.delete_group(group_id, expected_version))
        return {"group_id": group_id, "deleted": True, "version": version}

    async def list_groups(self, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Return groups by id (``GroupPageBody``); ``next`` is the cursor of the next page."""
        body = parse(GroupPageBody, raw)
        after = unseal("groups", scope, body.cursor) or ""
        page = await self._in(scope, lambda one: one.database.groups(body.member, after, body.limit))
        return {"groups": [group_view(group) for group in page.groups], "next": seal("groups", scope, page.after)}

    async def measure_group(self, group_id: str, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Run the circuit of an entanglement group (``MeasureBody``) and return its correlations."""
        body = parse(MeasureBody, raw)
        timeout_s = body.timeout_ms / 1000.0
        measure = partial(
            GroupMeasurement.measure,
            group_id=group_id,
            shots=body.shots,
            timeout_s=timeout_s,
            tenant=scope.tenant,
            backend=body.backend,
            chsh=body.chsh,
        )
        return measurement_view(await self._in(scope, lambda one: measure(one.measurement)))

    async def state(self, entity_id: str, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Return where the state of an entity stands in its lifecycle, and the instances before it."""
        return instances_view(await self._in(scope, lambda one: one.database.state(entity_id)))

    async def session(self, session_id: str, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Return what a tenant's session has measured and moved."""
        key = SessionKey(scope.tenant, session_id)
        return session_view(await self._in(scope, lambda one: one.sessions.get(key)))

    async def end_session(self, session_id: str, scope: Scope = DEFAULT_SCOPE) -> Json:
        """End a tenant's session. Idempotent."""
        key = SessionKey(scope.tenant, session_id)
        await self._in(scope, lambda one: one.sessions.end(key))
        return {"session_id": session_id, "ended": True}

    async def create_collection(self, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Create a collection (``CollectionBody``) of the scope's tenant. Idempotent."""
        body = parse(CollectionBody, raw)
        made = await self._directory.collections.create(Scope(scope.tenant, body.name), body.dimension, "cosine")
        return collection_view(made)

    async def collection(self, name: str, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Return a collection of the scope's tenant, with the number of its entities."""
        found, dimension, entities = await self._directory.collections.describe(Scope(scope.tenant, name))
        return {**collection_view(found, dimension), "entities": entities}

    async def list_collections(self, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Return the tenant's collections by name (``CollectionPageBody``)."""
        body = parse(CollectionPageBody, raw)
        listing = Scope(scope.tenant)  # whichever collection the call names: they are all the tenant's
        after = unseal("collections", listing, body.cursor) or ""
        found, following = await self._directory.collections.page(scope.tenant, after, body.limit)
        names = [collection_view(one) for one in found]
        return {"collections": names, "next": seal("collections", listing, following)}

    async def drop_collection(self, name: str, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Drop a collection of the scope's tenant, with all that is in it."""
        dropped = Scope(scope.tenant, name)
        await self._directory.collections.drop(dropped)
        self._directory.forget(dropped)
        return {"name": name, "deleted": True}

    async def execute_batch(self, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Encode, entangle and measure (``RunBatchBody``) in as few circuits and jobs as the qubits allow."""
        return batch_view(await self._batches.run(raw, scope.tenant))

    async def _asked(self, inside: Inside, raw: object, scope: Scope) -> Json:
        kept = self._kept
        if kept is None or not may_be_kept(raw):
            return {**(await self._made(inside, raw, scope)).view, "cached": False}
        return await kept.answer(scope.tenant, inside.collection.key, raw, lambda: self._made(inside, raw, scope))

    async def _made(self, inside: Inside, raw: object, scope: Scope, under: Transaction | None = None) -> Made:
        start = time.perf_counter()
        body = raw if isinstance(raw, QueryBody) else parse(QueryBody, raw)
        query = body.to_query(scope.tenant)
        parse_ms = (time.perf_counter() - start) * 1000.0
        answer = await inside.database.query(query, parse_ms, under)
        self._note_answer(answer)
        return Made(answer, answer_view(answer, query.explain))

    async def _in(self, scope: Scope, work: Callable[[Inside], Awaitable[Result]]) -> Result:
        """Do something in a collection. Raises NoSuchCollection, and what ``work`` raises."""
        return await self._directory.do(scope, work)

    async def circuit(self, key: str, form: str) -> tuple[str, str]:
        """Return a circuit structure that a query has used, as (text, media type), in a form of ``drawing.FORMS``."""
        template = await self._in(DEFAULT_SCOPE, lambda one: one.database.circuit(key))
        return await asyncio.to_thread(draw, template, form), FORMS[form]


class JobCalls:
    """The calls about jobs, costs and backends: JSON in, JSON out."""

    def __init__(self, desk: JobDesk, pool: JobPool, default_backend: str) -> None:
        self._desk = desk
        self._pool = pool
        self._default_backend = default_backend

    async def submit(self, raw: object, key: str | None = None, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Take a job (``JobBody``). It is written down when this returns, and run when there is a place.

        The same again under the same ``key`` is the job that was taken before.
        """
        scoped_key(key, scope.tenant)
        order = await self._order(raw)
        if key is not None:
            order = replace(order, key=key, digest=body_digest(raw))
        return await self._desk.create(scope.tenant, order)

    async def estimate(self, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Return what a job (``JobBody``) would cost. Submits nothing."""
        return await self._desk.estimate(scope.tenant, await self._order(raw))

    async def get(self, job_id: str, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Return a job, with its result once it has one."""
        return await self._desk.get(scope.tenant, job_id)

    async def list(self, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Return jobs (``JobPageBody``), newest first, without results."""
        body = parse(JobPageBody, raw)
        everywhere = Scope(scope.tenant)  # jobs are a tenant's, of no collection
        page = JobPage(unseal("jobs", everywhere, body.cursor), body.limit, body.status)
        answer = await self._desk.list(scope.tenant, page)
        return {**answer, "next": seal("jobs", everywhere, answer["next"])}

    async def cancel(self, job_id: str, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Cancel a job, also at the provider. Idempotent."""
        return await self._desk.cancel(scope.tenant, job_id)

    async def costs(self, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Return what a tenant has spent (``CostsBody``), by day and backend."""
        body = parse(CostsBody, raw)
        return await self._desk.costs(scope.tenant, body.since, body.until)

    async def backends(self) -> Json:
        """Return the state of each backend."""
        return await self._desk.backends()

    async def set_breaker(self, backend: str, raw: object) -> Json:
        """Set a backend's breaker by hand (``BreakerBody``). Idempotent."""
        await self._desk.force_breaker(backend, parse(BreakerBody, raw).state)
        return await self._desk.backends()

    async def _order(self, raw: object) -> JobOrder:
        return await order_of(raw, self._default_backend, self._pool.limits)


BODIES: Mapping[str, type[Body]] = {
    "insert": EntityBody,
    "insert_batch": BatchBody,
    "update": UpdateBody,
    "transact": TransactionBody,
    "query_under": TransactionQueryBody,
    "query": QueryBody,
    "query_batch": QueryBatchBody,
    "create_group": GroupBody,
    "update_group": GroupUpdateBody,
    "measure_group": MeasureBody,
    "execute_batch": RunBatchBody,
    "submit_job": JobBody,
    "set_breaker": BreakerBody,
    "graphql": GraphQLBody,
    "sql_query": SqlQueryBody,
    "sql_explain": SqlExplainBody,
    "sql_batch": SqlBatchBody,
    "create_collection": CollectionBody,
    "create_key": KeyBody,
    "rotate_key": RotateKeyBody,
}
