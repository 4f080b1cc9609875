"""The GraphQL schema: fields that pass the gate, one by one, and call the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import strawberry
from strawberry.scalars import JSON
from strawberry.types import Info

from quantum_db.access.policy import action_of
from quantum_db.access.sizes import check_sizes
from quantum_db.api import Api
from quantum_db.scope import DEFAULT_COLLECTION, Scope
from serve_app.gate import Call, Gate
from serve_app.graphql_types import (
    Answer,
    Deleted,
    Entity,
    EntityPage,
    Group,
    GroupPage,
    Written,
    answer_of,
    entity_of,
    group_of,
)

Result = TypeVar("Result")
Json = dict[str, Any]
Of = Annotated[str, strawberry.argument(description="The collection that the field is about.")]


@dataclass(frozen=True, slots=True)
class Caller:
    """The request that fields are asked in."""

    api: Api
    gate: Gate
    headers: Mapping[str, str]
    peer: str
    request_id: str

    async def admitted(
        self, field: str, collection: str, body: Json, about: str, work: Callable[[Scope], Awaitable[Result]]
    ) -> Result:
        """Do what a field asks for, if the caller may. Raises what the gate and ``work`` raise."""
        action = action_of(field)
        call = Call(action, self.headers, self.peer, self.request_id, lambda: about)
        async with self.gate.admitted(call) as principal:
            check_sizes(action, body, principal.sizes)
            return await work(Scope(principal.tenant, collection))


def _given(**fields: Any) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


@strawberry.input
class ContextInput:
    """A context of an entity to be written."""

    name: str
    weight: float
    vector: list[float] | None = None

    def body(self) -> Json:
        """Return the same as the API takes it."""
        return _given(name=self.name, weight=self.weight, vector=self.vector)


@strawberry.type
class Query:
    """What can be asked."""

    @strawberry.field(description="Find the entities nearest to a vector, in a context or in none.")
    async def query(
        self,
        info: Info[Caller, None],
        vector: list[float],
        context: str | None = None,
        top_k: int | None = None,
        mode: str | None = None,
        filter: JSON | None = None,  # noqa: A002 - the name that callers use
        backend: str | None = None,
        shots: int | None = None,
        refine: str | None = None,
        enable_tunneling: bool | None = None,
        timeout_ms: int | None = None,
        explain: bool | None = None,
        collection: Of = DEFAULT_COLLECTION,
    ) -> Answer:
        """See ``Api.query``."""
        caller = info.context
        body = _given(
            vector=vector,
            context=context,
            top_k=top_k,
            mode=mode,
            filter=filter,
            backend=backend,
            shots=shots,
            refine=refine,
            enable_tunneling=enable_tunneling,
            timeout_ms=timeout_ms,
            explain=explain,
        )
        found = await caller.admitted("query", collection, body, "", lambda scope: caller.api.query(body, scope=scope))
        return answer_of(found)

    @strawberry.field(description="Return an entity.")
    async def fetch(self, info: Info[Caller, None], id: str, collection: Of = DEFAULT_COLLECTION) -> Entity:  # noqa: A002
        """See ``Api.fetch``."""
        caller = info.context
        return entity_of(
            await caller.admitted("fetch", collection, {}, id, lambda scope: caller.api.fetch(id, scope=scope))
        )

    @strawberry.field(description="List all entities; one that stays comes exactly once.")
    async def scroll(
        self,
        info: Info[Caller, None],
        cursor: str | None = None,
        limit: int = 100,
        collection: Of = DEFAULT_COLLECTION,
    ) -> EntityPage:
        """See ``Api.scroll``."""
        caller, page = info.context, {"cursor": cursor, "limit": limit}
        found = await caller.admitted("scroll", collection, {}, "", lambda scope: caller.api.scroll(page, scope=scope))
        return EntityPage(entities=[entity_of(one) for one in found["vectors"]], next=found["next"])

    @strawberry.field(description="Return an entanglement group.")
    async def group(self, info: Info[Caller, None], group_id: str, collection: Of = DEFAULT_COLLECTION) -> Group:
        """See ``Api.group``."""
        caller = info.context
        return group_of(
            await caller.admitted(
                "group", collection, {}, group_id, lambda scope: caller.api.group(group_id, scope=scope)
            )
        )

    @strawberry.field(description="List groups by id, those of a member or all.")
    async def list_groups(
        self,
        info: Info[Caller, None],
        member: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        collection: Of = DEFAULT_COLLECTION,
    ) -> GroupPage:
        """See ``Api.list_groups``."""
        caller, page = info.context, {"member": member, "cursor": cursor or "", "limit": limit}
        found = await caller.admitted(
            "list_groups", collection, {}, "", lambda scope: caller.api.list_groups(page, scope=scope)
        )
        return GroupPage(groups=[group_of(one) for one in found["groups"]], next=found["next"])

    @strawberry.field(description="Tell where an entity's state stands in its lifecycle, and its history.")
    async def state(self, info: Info[Caller, None], id: str, collection: Of = DEFAULT_COLLECTION) -> JSON:  # noqa: A002
        """See ``Api.state``."""
        caller = info.context
        return JSON(await caller.admitted("state", collection, {}, id, lambda scope: caller.api.state(id, scope=scope)))

    @strawberry.field(description="Return a quantum job, with its result once it has one.")
    async def job(self, info: Info[Caller, None], id: str) -> JSON:  # noqa: A002
        """See ``JobCalls.get``."""
        caller = info.context
        return JSON(
            await caller.admitted("job", DEFAULT_COLLECTION, {}, id, lambda scope: caller.api.jobs.get(id, scope=scope))
        )

    @strawberry.field(description="Return what was spent, by day (UTC) and backend, and what is left of today.")
    async def costs(self, info: Info[Caller, None], since: str | None = None, until: str | None = None) -> JSON:
        """See ``JobCalls.costs``."""
        caller, days = info.context, {"since": since, "until": until}
        return JSON(
            await caller.admitted(
                "costs", DEFAULT_COLLECTION, {}, "", lambda scope: caller.api.jobs.costs(days, scope=scope)
            )
        )


@strawberry.type
class Mutation:
    """What can be changed."""

    @strawberry.mutation(description="Write one entity, replacing one with the same id.")
    async def insert(
        self,
        info: Info[Caller, None],
        id: str,  # noqa: A002
        vector: list[float] | None = None,
        contexts: list[ContextInput] | None = None,
        metadata: JSON | None = None,
        coherence_time_ms: float | None = None,
        collection: Of = DEFAULT_COLLECTION,
    ) -> Written:
        """See ``Api.insert``."""
        caller = info.context
        named = None if contexts is None else [one.body() for one in contexts]
        body = _given(id=id, vector=vector, contexts=named, metadata=metadata, coherence_time_ms=coherence_time_ms)
        made = await caller.admitted("insert", collection, body, id, lambda scope: caller.api.insert(body, scope=scope))
        return Written(id=made["id"], version=made["version"])

    @strawberry.mutation(description="Delete an entity, at a version if one is given.")
    async def delete(
        self,
        info: Info[Caller, None],
        id: str,  # noqa: A002
        expected_version: int | None = None,
        collection: Of = DEFAULT_COLLECTION,
    ) -> Deleted:
        """See ``Api.delete``."""
        caller = info.context
        gone = await caller.admitted(
            "delete", collection, {}, id, lambda scope: caller.api.delete(id, expected_version, scope=scope)
        )
        return Deleted(id=gone["id"], deleted=gone["deleted"])

    @strawberry.mutation(description="Write an entanglement group of stored entities.")
    async def create_group(
        self,
        info: Info[Caller, None],
        group_id: str,
        entity_ids: list[str],
        correlation_strength: float,
        collection: Of = DEFAULT_COLLECTION,
    ) -> Group:
        """See ``Api.create_group``."""
        caller = info.context
        body = {"group_id": group_id, "entity_ids": entity_ids, "correlation_strength": correlation_strength}
        return group_of(
            await caller.admitted(
                "create_group", collection, body, group_id, lambda scope: caller.api.create_group(body, scope=scope)
            )
        )

    @strawberry.mutation(description="Delete an entanglement group, at a version if one is given.")
    async def delete_group(
        self,
        info: Info[Caller, None],
        group_id: str,
        expected_version: int | None = None,
        collection: Of = DEFAULT_COLLECTION,
    ) -> Deleted:
        """See ``Api.delete_group``."""
        caller = info.context
        gone = await caller.admitted(
            "delete_group",
            collection,
            {},
            group_id,
            lambda scope: caller.api.delete_group(group_id, expected_version, scope=scope),
        )
        return Deleted(id=gone["group_id"], deleted=gone["deleted"])
