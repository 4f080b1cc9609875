"""The ingress deployment: the whole way of a query runs in its replicas, over HTTP and by Ray handle."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from ray import serve

from actors.circuit_cache import SharedTemplates, cache_gauge, report
from actors.group_client import ChangeFollower, RemoteGroups
from actors.pool_client import POOL_NAME, RemoteJobDesk, RemoteJobPool
from actors.shell import CALL_TIMEOUT_S, ask, named
from actors.state_client import RemoteSessions, ShardedStateLog
from actors.store_shard import RemoteStore, RemoteWrites
from quantum_db.api import Api, JobCalls, Json
from quantum_db.batches import BatchRunner
from quantum_db.circuits.cache import TemplateCache
from quantum_db.clock import SystemClock
from quantum_db.database import Database
from quantum_db.errors import NotFound, QuantumDBError
from quantum_db.invalidation import Invalidations
from quantum_db.measurement import GroupMeasurement
from quantum_db.ports import ScrollableReader
from quantum_db.refinement import Policy
from quantum_db.scope import DEFAULT_SCOPE, Scope
from quantum_db.states.history import Instances
from quantum_db.stores.qdrant import connect
from quantum_db.telemetry import exposition, snapshot
from quantum_db.views import instances_view
from serve_app.http import build_app
from serve_app.loopback import bind_to_loopback
from serve_app.query_metrics import QueryMetrics

PUSH_INTERVAL_S = 1.0
PART_TIMEOUT_S = 2.0
HANDLE_CALLS = frozenset(
    {
        *("insert", "insert_batch", "fetch", "scroll", "update", "delete"),
        *("query", "query_under", "transact", "execute_batch"),
        *("create_group", "group", "update_group", "delete_group", "list_groups", "measure_group"),
        *("session", "end_session"),
    }
)
JOB_CALLS = frozenset({"submit", "estimate", "get", "list", "cancel", "costs", "backends", "set_breaker"})
"""Of ``JobCalls``; by handle they are called ``jobs.submit`` and so on."""
UNSCOPED_CALLS = frozenset({"backends", "set_breaker"})
"""What belongs to no tenant."""


@dataclass(frozen=True, slots=True)
class IngressConfig:
    """What a replica has to know. Secrets are not in it, only the names of their environment variables.

    Attributes:
        qdrant_url: the Qdrant server that is searched from here, or None for the embedded store behind the actor
            ``store``, through which all writes go in either case.
    """

    policy: Policy
    max_body_bytes: int
    state_shards: int
    group_shards: int
    circuit_capacity: int
    qdrant_url: str | None = None
    qdrant_collection: str = "default"
    qdrant_key_env: str = "QDRANT_API_KEY"


class ClusterParts:
    """The actors around a replica. Implements ``serve_app.http.Cluster``."""

    def __init__(self, config: IngressConfig, source: str) -> None:
        self.registry = CollectorRegistry()
        shards = [f"states-{shard}" for shard in range(config.state_shards)]
        group_shards = [f"groups-{shard}" for shard in range(config.group_shards)]
        self._parts = {name: named(name) for name in ("store", "circuits", POOL_NAME, *group_shards, *shards)}
        self._hub = named("metrics")
        self._source = source
        self._cache = TemplateCache(config.circuit_capacity)
        self._gauge = cache_gauge(self.registry)
        self.jobs = RemoteJobPool(self._parts[POOL_NAME])
        self.desk = RemoteJobDesk(self._parts[POOL_NAME])
        self.query_metrics = QueryMetrics(self.registry)
        self.groups = RemoteGroups([self._parts[name] for name in group_shards])
        self.invalidations = Invalidations()
        self._follower = ChangeFollower([self._parts[name] for name in group_shards], self.invalidations, self.registry)
        self.sessions = RemoteSessions([self._parts[name] for name in shards])
        self.templates = SharedTemplates(self._parts["circuits"], self._cache)
        self.states = ShardedStateLog([self._parts[name] for name in shards], self.registry)
        self.writes = RemoteWrites(self._parts["store"])
        self.store: ScrollableReader
        if config.qdrant_url:
            key = os.environ.get(config.qdrant_key_env)
            self.store = connect(config.qdrant_url, key, config.qdrant_collection, CALL_TIMEOUT_S)
        else:
            self.store = RemoteStore(self._parts["store"])

    async def instances(self, entity_id: str) -> Instances:
        return await self.states.instances(entity_id)

    async def failing_parts(self) -> list[str]:
        async def fails(name: str) -> str | None:
            try:
                await ask(self._parts[name].ready.remote(), PART_TIMEOUT_S)
            except QuantumDBError as error:
                return f"{name}: {error.detail}"
            return None

        async def store_fails() -> str | None:
            try:
                async with asyncio.timeout(PART_TIMEOUT_S):
                    await self.store.dimension()
            except (QuantumDBError, TimeoutError) as error:
                return f"store: {error}"
            return None

        found = await asyncio.gather(store_fails(), *(fails(name) for name in self._parts))
        return [failure for failure in found if failure is not None]

    async def exposition(self) -> bytes:
        await self.push_metrics()
        snapshots = list(await ask(self._hub.metrics.remote(), PART_TIMEOUT_S))
        answers = await asyncio.gather(
            *(ask(actor.metrics.remote(), PART_TIMEOUT_S) for actor in self._parts.values()), return_exceptions=True
        )
        return exposition([*snapshots, *(answer for answer in answers if not isinstance(answer, BaseException))])

    async def push_metrics(self) -> None:
        """Hand this replica's metrics to the hub."""
        report(self._cache, self._gauge)
        await ask(self._hub.put.remote(self._source, snapshot(self.registry, self._source)), PART_TIMEOUT_S)


def _api(parts: ClusterParts, policy: Policy) -> Api:
    database = Database(
        store=parts.store,
        writes=parts.writes,
        jobs=parts.jobs,
        templates=parts.templates,
        states=parts.states,
        groups=parts.groups,
        sessions=parts.sessions,
        clock=SystemClock(),
        rng=np.random.default_rng(),
        policy=policy,
    )
    measurement = GroupMeasurement(jobs=parts.jobs, groups=parts.groups, default_backend=policy.backend)
    jobs = JobCalls(parts.desk, parts.jobs, policy.backend)
    batches = BatchRunner(parts.jobs, policy.backend)
    return Api(database, measurement, batches, jobs, parts.sessions, parts.query_metrics.note)


class Ingress:
    """One replica. Its methods take and return the same JSON as the routes."""

    def __init__(self, config: IngressConfig) -> None:
        bind_to_loopback()
        self._config = config
        self._parts = ClusterParts(config, f"ingress-{os.getpid()}")
        self._api = _api(self._parts, config.policy)
        self._push = asyncio.get_running_loop().create_task(self._push_metrics())

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_app(self._api, self._parts, self._parts.registry, self._config.max_body_bytes)

    async def call(self, method: str, *arguments: Any, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Call a method of ``Api`` by its name (one of ``HANDLE_CALLS``), for a tenant's collection.

        Who holds a handle is inside the Ray cluster, and may act for any tenant.
        """
        if method == "state":
            return instances_view(await self._parts.instances(*arguments))
        owner: object = self._api
        name = method.removeprefix("jobs.")
        if name != method:
            owner = self._api.jobs
        if name not in (HANDLE_CALLS if owner is self._api else JOB_CALLS):
            raise NotFound(f"there is no call {method!r}")
        scoped = {} if name in UNSCOPED_CALLS else {"scope": scope}
        answer: Json = await getattr(owner, name)(*arguments, **scoped)
        return answer

    async def _push_metrics(self) -> None:
        while True:
            await asyncio.sleep(PUSH_INTERVAL_S)
            try:
                await self._parts.push_metrics()
            except QuantumDBError:
                continue  # the hub restarts by itself; the next push tells it all


deployment: Any = serve.deployment(name="ingress")(serve.ingress()(Ingress))
"""The ``Ingress`` as Ray Serve runs it."""
