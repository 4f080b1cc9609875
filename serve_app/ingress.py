"""The ingress deployment: the whole way of a query runs in its replicas, over HTTP and by Ray handle."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from ray import serve

from actors.access_client import ACCESS_NAME, RemoteAccess
from actors.circuit_cache import SharedTemplates, cache_gauge, report
from actors.group_client import ChangeFollower, RemoteGroups
from actors.pool_client import POOL_NAME, RemoteJobDesk, RemoteJobPool
from actors.shell import ask, named
from actors.state_client import RemoteSessions, ShardedStateLog
from actors.store_shard import (
    RemoteCollections,
    RemoteOriginal,
    RemoteStore,
    RemoteWrites,
    followed,
    followed_changes,
)
from quantum_db.access.blocking import BlockPolicy
from quantum_db.access.following import KeyFollower
from quantum_db.access.limits import Limiter, LimitTable
from quantum_db.access.reports import Reports
from quantum_db.access.tokens import JWT_SECRET_ENV, SYMMETRIC, TokenPolicy, TokenVerifier, load_keys
from quantum_db.admission import Admission, AdmissionPolicy
from quantum_db.api import Api, JobCalls, Json
from quantum_db.batches import BatchRunner
from quantum_db.caching import BoundedCache
from quantum_db.circuits.cache import TemplateCache
from quantum_db.clock import SystemClock
from quantum_db.collection_table import Collection
from quantum_db.database import Database
from quantum_db.directory import Directory, Inside
from quantum_db.errors import NotFound, QuantumDBError
from quantum_db.invalidation import Invalidations
from quantum_db.jobs.backends import BackendSpec
from quantum_db.jobs.here import SmallWork
from quantum_db.jobs.job_metrics import JobMetrics
from quantum_db.kept_answers import CachePolicy, KeptAnswers
from quantum_db.kept_candidates import CandidateReader
from quantum_db.measurement import GroupMeasurement
from quantum_db.model import Candidates
from quantum_db.ports import ScrollableReader
from quantum_db.refinement import Policy
from quantum_db.scope import DEFAULT_SCOPE, Scope
from quantum_db.scoped import ScopedGroups, ScopedSessions, ScopedStates, ScopedWrites
from quantum_db.shared_answers import RedisAnswers
from quantum_db.stores.copies import CopiedReader, Copies
from quantum_db.stores.places import EmbeddedPlace, StorePlace
from quantum_db.telemetry import exposition, snapshot
from serve_app.admission import watch_the_loop
from serve_app.auth import GateParts, KeyGate
from serve_app.http import Doors, build_app
from serve_app.loopback import bind_to_loopback
from serve_app.query_metrics import QueryMetrics
from serve_app.request_log import Lines

PUSH_INTERVAL_S = 1.0
PART_TIMEOUT_S = 2.0
HANDLE_CALLS = frozenset(
    {
        *("insert", "insert_batch", "fetch", "scroll", "update", "delete"),
        *("query", "query_batch", "query_under", "transact", "execute_batch"),
        *("create_group", "group", "update_group", "delete_group", "list_groups", "measure_group"),
        *("state", "session", "end_session"),
        *("create_collection", "collection", "list_collections", "drop_collection"),
    }
)
JOB_CALLS = frozenset({"submit", "estimate", "get", "list", "cancel", "costs", "backends", "set_breaker"})
"""Of ``JobCalls``; by handle they are called ``jobs.submit`` and so on."""
UNSCOPED_CALLS = frozenset({"backends", "set_breaker"})
"""What belongs to no tenant."""


@dataclass(frozen=True, slots=True)
class TokenConfig:
    """Whose tokens are trusted. The keys are read here, in each replica: a secret only from the environment."""

    policy: TokenPolicy
    public_key: Path | None = None
    jwks_file: Path | None = None


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """Who is let in, and for how much; see ``serve_app.auth.GateParts``."""

    limits: LimitTable = field(default_factory=LimitTable)
    blocking: BlockPolicy = field(default_factory=BlockPolicy)
    tokens: TokenConfig | None = None
    replicas: int = 1
    redis_url: str | None = field(default=None, repr=False)
    audited_reads: float = 0.0


@dataclass(frozen=True, slots=True)
class CopyConfig:
    """Where replicas copy embedded stores to, each in a folder of its own, and how much each does."""

    folder: Path
    max_bytes: int


@dataclass(frozen=True, slots=True)
class IngressConfig:
    """What a replica has to know. Secrets are not in it, only the names of their environment variables.

    Attributes:
        backends: of the job pool; small work for its ideal simulators is run in the replica.
        cache: the answers that are kept, if any.
        copies: of embedded stores, if there are any.
        candidates_bytes: of the candidates that are kept of searches.
        place: of the stores: a Qdrant server is searched from here, and embedded stores through the actor ``store``,
            through which all writes go in either case.
        log_folder: where a line is written for each request; see ``serve_app.request_log``.
        room: how much each replica takes on over HTTP.
    """

    policy: Policy
    max_body_bytes: int
    state_shards: int
    group_shards: int
    circuit_capacity: int
    backends: Mapping[str, BackendSpec]
    cache: CachePolicy | None
    copies: CopyConfig | None
    candidates_bytes: int
    place: StorePlace
    access: AccessConfig
    log_folder: Path
    room: AdmissionPolicy


class ClusterParts:
    """The actors around a replica. Implements ``serve_app.http.Cluster``."""

    def __init__(self, config: IngressConfig, source: str) -> None:
        self.registry = CollectorRegistry()
        shards = [f"states-{shard}" for shard in range(config.state_shards)]
        group_shards = [f"groups-{shard}" for shard in range(config.group_shards)]
        self._parts = {
            name: named(name) for name in ("store", "circuits", ACCESS_NAME, POOL_NAME, *group_shards, *shards)
        }
        self._hub = named("metrics")
        self._source = source
        self._cache = TemplateCache(config.circuit_capacity)
        self._gauge = cache_gauge(self.registry)
        small = SmallWork(config.backends, SystemClock(), np.random.default_rng(), JobMetrics(self.registry))
        self.jobs = RemoteJobPool(self._parts[POOL_NAME], small)
        self.desk = RemoteJobDesk(self._parts[POOL_NAME])
        self.query_metrics = QueryMetrics(self.registry)
        self.groups = RemoteGroups([self._parts[name] for name in group_shards])
        self.invalidations = Invalidations()
        self._follower = ChangeFollower([self._parts[name] for name in group_shards], self.invalidations, self.registry)
        self.sessions = RemoteSessions([self._parts[name] for name in shards])
        self.access = RemoteAccess(self._parts[ACCESS_NAME])
        self.keys = KeyFollower(self.access, source, SystemClock())
        self.reports = Reports(self.access, source, config.access.blocking, SystemClock())
        self.templates = SharedTemplates(self._parts["circuits"], self._cache)
        self.states = ShardedStateLog([self._parts[name] for name in shards], self.registry)
        self.writes = RemoteWrites(self._parts["store"])
        self.collections = RemoteCollections(self._parts["store"])
        self._place = config.place
        embedded = isinstance(config.place, EmbeddedPlace)
        self._snapshots = None if embedded else followed(self._parts["store"])
        follows = config.cache is not None or config.copies is not None or config.candidates_bytes > 0
        self.changes = followed_changes(self._parts["store"]) if follows else None
        self.copies = None if config.copies is None else self._copies(config.copies)
        self._candidates: BoundedCache[Candidates] = BoundedCache(config.candidates_bytes, SystemClock())
        self._keeps_candidates = config.candidates_bytes > 0
        self.store = self.reader("")

    def reader(self, collection: str) -> ScrollableReader:
        """Return what searches a collection's store, by the collection's key."""
        reader = self._store_reader(collection)
        if not self._keeps_candidates:
            return reader
        assert self.changes is not None
        note = self.query_metrics.note_candidates
        return CandidateReader(reader, self.changes, collection, self._candidates, note)

    def _store_reader(self, collection: str) -> ScrollableReader:
        if not isinstance(self._place, EmbeddedPlace):
            return self._place.open(collection, self._snapshots)
        original = RemoteStore(self._parts["store"], collection)
        if self.copies is None:
            return original
        return CopiedReader(original, self.copies, collection, self.query_metrics.note_read)

    def _copies(self, config: CopyConfig) -> Copies:
        assert self.changes is not None
        folder, original = config.folder / self._source, RemoteOriginal(self._parts["store"])
        copies = Copies(folder, config.max_bytes, self.changes, original, SystemClock())
        self.query_metrics.watch_copies(copies)
        return copies

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

    async def leave_metrics(self) -> None:
        """Let the hub forget this replica, which it does by itself after a minute."""
        with suppress(QuantumDBError):
            await ask(self._hub.forget.remote(self._source), PART_TIMEOUT_S)


def _inside(parts: ClusterParts, policy: Policy, collection: Collection) -> Inside:
    groups = ScopedGroups(parts.groups, collection.key)
    sessions = ScopedSessions(parts.sessions, collection.key)
    database = Database(
        store=parts.reader(collection.key),
        writes=ScopedWrites(parts.writes, collection.key),
        jobs=parts.jobs,
        templates=parts.templates,
        states=ScopedStates(parts.states, collection.key),
        groups=groups,
        sessions=sessions,
        clock=SystemClock(),
        rng=np.random.default_rng(),
        policy=policy,
    )
    measurement = GroupMeasurement(jobs=parts.jobs, groups=groups, default_backend=policy.backend)
    return Inside(collection, database, measurement, sessions)


def _api(parts: ClusterParts, config: IngressConfig) -> Api:
    policy = config.policy
    directory = Directory(parts.collections, partial(_inside, parts, policy), SystemClock())
    jobs = JobCalls(parts.desk, parts.jobs, policy.backend)
    batches = BatchRunner(parts.jobs, policy.backend)
    kept = None if config.cache is None else _answers(parts, config.cache)
    return Api(directory, batches, jobs, parts.query_metrics.note, kept)


def _answers(parts: ClusterParts, policy: CachePolicy) -> KeptAnswers:
    clock = SystemClock()
    shared = None if policy.redis_url is None else RedisAnswers(policy.redis_url, clock)
    assert parts.changes is not None
    kept = KeptAnswers(policy, parts.changes, clock, parts.query_metrics.note_kept, shared)
    parts.query_metrics.watch(kept)
    return kept


def verifier_of(config: TokenConfig) -> TokenVerifier:
    """Return what checks tokens. Raises InvalidSettings when the keys cannot be used."""
    secret = os.environ.get(JWT_SECRET_ENV) if config.policy.algorithms == SYMMETRIC else None
    return TokenVerifier(config.policy, load_keys(config.public_key, config.jwks_file, secret))


def _gate_parts(config: AccessConfig, parts: ClusterParts) -> GateParts:
    clock = SystemClock()
    tokens = None if config.tokens is None else verifier_of(config.tokens)
    limiter = Limiter(config.limits, clock, replicas=config.replicas, redis_url=config.redis_url)
    return GateParts(parts.keys, tokens, limiter, parts.reports, clock, random.Random(), config.audited_reads)


class Replica:
    """The API with all that is around it, in a process that serves it by whatever door."""

    def __init__(self, config: IngressConfig, door: str) -> None:
        """Begin with what goes on in the background. ``door`` is the first part of this process's name in metrics."""
        source = f"{door}-{uuid4().hex[:12]}"
        self.lines = Lines(config.log_folder, source)
        self.parts = ClusterParts(config, source)
        self.api = _api(self.parts, config)
        self.gate = KeyGate(_gate_parts(config.access, self.parts), self.parts.registry)
        loop = asyncio.get_running_loop()
        self._pushing = loop.create_task(self._push_metrics())
        self._running = [loop.create_task(one) for one in (self.parts.keys.run(), self.parts.reports.run())]

    async def close(self) -> None:
        """Hand over what the audit log has not been told, remove copies of stores, and be no more in the metrics."""
        await self.parts.reports.close()
        if self.parts.copies is not None:
            await self.parts.copies.close()
        self._pushing.cancel()
        await self.parts.leave_metrics()

    async def _push_metrics(self) -> None:
        while True:
            await asyncio.sleep(PUSH_INTERVAL_S)
            try:
                await self.parts.push_metrics()
            except QuantumDBError:
                continue  # the hub restarts by itself; the next push tells it all


class Ingress:
    """One replica. Its methods take and return the same JSON as the routes."""

    def __init__(self, config: IngressConfig, beside: object = None) -> None:
        """Join the parts.

        Args:
            config: what the replica has to know.
            beside: a deployment that Serve is to start and to stop with this one: the gRPC door, where there is one.
        """
        bind_to_loopback()
        self._config, self._beside = config, beside
        self._replica = Replica(config, "ingress")
        self._api = self._replica.api
        self._room = Admission(config.room)
        self._watching = asyncio.get_running_loop().create_task(watch_the_loop(self._room))

    async def __del__(self) -> None:
        """End before the replica does; Ray Serve awaits it."""
        await self._replica.close()

    def __serve_build_asgi_app__(self) -> FastAPI:
        parts = self._replica.parts
        doors = Doors(self._replica.gate, parts.access, parts.access, self._replica.lines, self._room)
        return build_app(self._api, parts, parts.registry, self._config.max_body_bytes, doors)

    async def call(self, method: str, *arguments: Any, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Call a method of ``Api`` by its name (one of ``HANDLE_CALLS``), for a tenant's collection.

        Who holds a handle is inside the Ray cluster, and may act for any tenant.
        """
        owner: object = self._api
        name = method.removeprefix("jobs.")
        if name != method:
            owner = self._api.jobs
        if name not in (HANDLE_CALLS if owner is self._api else JOB_CALLS):
            raise NotFound(f"there is no call {method!r}")
        scoped = {} if name in UNSCOPED_CALLS else {"scope": scope}
        answer: Json = await getattr(owner, name)(*arguments, **scoped)
        return answer


deployment: Any = serve.deployment(name="ingress")(serve.ingress()(Ingress))
"""The ``Ingress`` as Ray Serve runs it."""
