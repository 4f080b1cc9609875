"""Which actor gets which settings, and the ingress on top of them."""

from __future__ import annotations

import logging
import os
import secrets
from dataclasses import replace
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, BackpressureConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.access_client import ACCESS_NAME
from actors.access_keeper import AccessKeeper, KeeperSettings
from actors.circuit_cache import CircuitCache
from actors.entanglement_registry import EntanglementRegistry
from actors.job_pool import JobPool, PoolSettings
from actors.metrics_hub import MetricsHub
from actors.pool_client import POOL_NAME
from actors.shell import CALL_TIMEOUT_S, NAMESPACE, named
from actors.state_manager import StateManager
from actors.store_shard import StoreSettings, StoreShard
from cluster.ray_settings import RaySettings
from cluster.settings import ADMIN_KEY_ENV, Settings
from cluster.shards import group_shards, state_shards
from cluster.sql_settings import SqlSettings, check_databases
from quantum_db.access.audit import AUDIT_FILE
from quantum_db.access.keys import given_token, new_token
from quantum_db.admission import AdmissionPolicy
from quantum_db.errors import Unavailable
from quantum_db.jobs.assembly import PoolPolicy
from quantum_db.jobs.ledger import DAY_S, Retention
from quantum_db.refinement import Policy
from quantum_db.stores.edge_index import IndexSettings
from quantum_db.stores.places import EmbeddedPlace, QdrantServer, StorePlace
from serve_app.ingress import AccessConfig, CopyConfig, IngressConfig, TokenConfig, deployment, verifier_of
from serve_app.rpc.deployment import GRACE_S, Certificate, RpcConfig
from serve_app.rpc.deployment import deployment as grpc_deployment
from serve_app.rpc.service import Bounds
from serve_app.sql.deployment import deployment as sql_deployment

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 30.0
METRICS_EVERY_S = 0.5
"""How often replicas tell Serve of their requests. By its default, 10 s, another one comes only after 12 to 16 s."""
DRAIN_LOOK_S = 0.2
SQL_UTILISATION = 0.7
"""Share of the statements that workers may run at a time, above which there is another one."""
MORE_ONGOING = 64
"""Requests that reach a replica beyond its own bound, to be refused by it: Serve would keep them waiting."""
HEAD_NODE = "node:__internal_head__"
"""What Ray calls the resource that only the node has on which it was started."""
_LIFE = {"lifetime": "detached", "namespace": NAMESPACE, "num_cpus": 0, "max_restarts": -1}


def deploy(settings: Settings, app_name: str, timeout_s: float, grpc_address: str | None) -> str | None:
    """Start the actors, wait until they are ready, and run the ingress; return what ``ensure_admin`` does.

    With ``grpc_address``, host and port, gRPC is served there.

    Raises:
        Unavailable: an actor was not ready in time. What an actor raises when it cannot be ready is raised too.
    """
    sql = _sql_workers(settings.sql)
    actors = _start_actors(settings)
    try:
        ray.get([actor.ready.remote() for actor in actors], timeout=timeout_s)
    except ray.exceptions.GetTimeoutError:
        raise Unavailable(f"a part of the cluster was not ready within {timeout_s:.0f} s") from None
    key = ensure_admin()
    ingress = deployment.options(
        **_replica_options(settings.ray),
        ray_actor_options={"num_cpus": 0},
        logging_config={"log_level": "WARNING", "enable_access_log": False},  # a line a request that nobody reads
    )
    config = _ingress_config(settings)
    beside = None if grpc_address is None else _grpc_door(settings, config, grpc_address)
    serve.run(ingress.bind(config, beside, sql), name=app_name, route_prefix="/")
    return key


def _sql_workers(sql: SqlSettings) -> Any:
    """Return the application that runs statements, None where there are no databases. Raises InvalidSettings."""
    if not sql.databases:
        return None
    at_home = {HEAD_NODE: 0.001} if check_databases(sql) else {}
    config = sql.config()
    options: dict[str, Any] = {"num_replicas": sql.min_replicas}
    if sql.min_replicas != sql.max_replicas:
        scaling = _scaling(
            sql.min_replicas, sql.max_replicas, SQL_UTILISATION * sql.statements_per_replica, sql.scale_down_s
        )
        options = {"autoscaling_config": scaling}
    workers = sql_deployment.options(
        **options,
        max_ongoing_requests=config.most_requests,
        max_queued_requests=config.most_requests,
        graceful_shutdown_wait_loop_s=DRAIN_LOOK_S,
        graceful_shutdown_timeout_s=max(one.timeout_s for one in sql.databases.values()) + GRACE_S,
        ray_actor_options={"num_cpus": 0, "resources": at_home},
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    return workers.bind(config)


def _scaling(fewest: int, most: int, target: float, scale_down_s: float, at_first: int | None = None) -> Any:
    """Return how the number of replicas follows their requests."""
    return AutoscalingConfig(
        min_replicas=fewest,
        initial_replicas=fewest if at_first is None else at_first,
        max_replicas=most,
        target_ongoing_requests=target,
        metrics_interval_s=METRICS_EVERY_S,
        look_back_period_s=4.0 * METRICS_EVERY_S,
        upscale_delay_s=2.0 * METRICS_EVERY_S,
        downscale_delay_s=scale_down_s,
    )


def _replica_options(ray: RaySettings) -> dict[str, Any]:
    """Return how many replicas there are, what each takes on, and how it ends.

    The replica's own bound is below that of Serve, and answers with a problem; see ``quantum_db.admission``.
    """
    found: dict[str, Any] = {
        "max_ongoing_requests": ray.max_ongoing_requests + MORE_ONGOING,
        "max_queued_requests": ray.max_queued_requests,
        "backpressure_config": BackpressureConfig(retry_after_s=1.0),
        "graceful_shutdown_wait_loop_s": DRAIN_LOOK_S,
        "graceful_shutdown_timeout_s": ray.drain_s,
    }
    if ray.fewest_replicas == ray.most_replicas:
        return {**found, "num_replicas": ray.replicas}
    scaling = _scaling(
        ray.fewest_replicas, ray.most_replicas, ray.target_ongoing_requests, ray.scale_down_s, ray.replicas
    )
    return {**found, "autoscaling_config": scaling}


def _grpc_door(settings: Settings, config: IngressConfig, address: str) -> Any:
    """Return the application that serves gRPC: on this node, where HTTP is served, too."""
    tls = settings.http.tls
    pair = None if tls is None else Certificate(tls.certificate.resolve(), tls.private_key.resolve())
    bounds = Bounds(settings.http.max_body_bytes, settings.ray.max_ongoing_requests, settings.http.behind_tls_proxy)
    door = grpc_deployment.options(
        ray_actor_options={"num_cpus": 0, "resources": {HEAD_NODE: 0.001}},
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=2.0 * GRACE_S,
    )
    whole = replace(config, access=replace(config.access, replicas=1))  # all calls of a caller come to this one
    return door.bind(whole, RpcConfig(address, bounds, pair))


def ensure_admin() -> str | None:
    """See to it that somebody may administer the cluster.

    Returns:
        The administrator's key: the one in the environment, or the one that was made because there was none; None if
        there is one already.

    Raises:
        InvalidSettings: the key in the environment is none, or is not random.
        Unavailable: the keeper of keys did not answer.
    """
    given = os.environ.get(ADMIN_KEY_ENV)
    token = new_token(secrets.token_bytes) if given is None else given_token(given)
    taken = named(ACCESS_NAME).ensure_admin.remote(token.id, token.digest, given is not None)
    try:
        made = bool(ray.get(taken, timeout=CLOSE_TIMEOUT_S))
    except ray.exceptions.GetTimeoutError:
        raise Unavailable(f"the keeper of keys did not answer within {CLOSE_TIMEOUT_S:.0f} s") from None
    return str(token) if made or given is not None else None


def close(settings: Settings) -> None:
    """Flush what is kept on disk, before the actors end."""
    names = ["store", POOL_NAME, ACCESS_NAME]
    names += [f"states-{shard}" for shard in range(settings.states.shards)]
    names += [f"groups-{shard}" for shard in range(settings.groups.shards)]
    for name in names:
        try:
            ray.get(named(name).close.remote(), timeout=CLOSE_TIMEOUT_S)
        except Unavailable:
            logger.debug("there is no actor %s to close", name)


def _start_actors(settings: Settings) -> list[Any]:
    data = settings.data_dir.resolve()
    data.mkdir(parents=True, exist_ok=True)
    # Whose files are in the data folder comes back on this node or not at all: elsewhere it would find nothing.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    at_home = {**_LIFE, "scheduling_strategy": here}
    pools = at_home if settings.jobs.journal_url is None else _LIFE
    states_at = at_home if settings.states.journal_url is None else _LIFE
    groups_at = at_home if settings.groups.journal_url is None else _LIFE
    actors = [
        ray.remote(CircuitCache).options(name="circuits", **_LIFE).remote(settings.circuits.capacity),
        ray.remote(JobPool).options(name=POOL_NAME, max_concurrency=10_000, **pools).remote(_pool_settings(settings)),
        ray.remote(MetricsHub).options(name="metrics", **_LIFE).remote(),
    ]
    keys_url = settings.access.journal_url or f"sqlite:///{data / 'access.sqlite'}"
    keeper = ray.remote(AccessKeeper).options(name=ACCESS_NAME, max_concurrency=10_000, **at_home)
    audit = data / AUDIT_FILE
    actors.append(keeper.remote(KeeperSettings(keys_url, audit, settings.limits.blocking.policy())))
    for shard, place in enumerate(group_shards(settings)):
        registry = ray.remote(EntanglementRegistry).options(name=f"groups-{shard}", **groups_at)
        actors.append(registry.remote(shard, place))
    for shard, kept in enumerate(state_shards(settings)):
        manager = ray.remote(StateManager).options(name=f"states-{shard}", **states_at)
        actors.append(manager.remote(shard, kept))
    moves = settings.store.kind == "qdrant" and settings.store.journal_url is not None
    store = ray.remote(StoreShard).options(name="store", max_concurrency=10_000, **(_LIFE if moves else at_home))
    actors.append(store.remote(_store_settings(settings)))
    return actors


def _store_settings(settings: Settings) -> StoreSettings:
    data, store = settings.data_dir.resolve(), settings.store
    return StoreSettings(
        place=_store_place(settings),
        journal_url=store.journal_url or f"sqlite:///{data / 'commits.sqlite'}",
        collections_url=store.journal_url or f"sqlite:///{data / 'collections.sqlite'}",
        max_collections=store.max_collections,
        max_open=store.max_open_collections,
        state_shards=settings.states.shards,
        group_shards=settings.groups.shards,
        flush_interval_s=store.flush_interval_s,
        tells_changes=_follows_changes(settings),
    )


def _follows_changes(settings: Settings) -> bool:
    """Return whether replicas keep anything of what they read."""
    cache = settings.cache
    return cache.policy() is not None or cache.candidates_bytes > 0 or _copies(settings) is not None


def _copies(settings: Settings) -> CopyConfig | None:
    if settings.store.kind != "qdrant_edge" or settings.store.copies_bytes == 0:
        return None
    return CopyConfig(settings.data_dir.resolve() / "copies", settings.store.copies_bytes)


def _store_place(settings: Settings) -> StorePlace:
    store = settings.store
    if store.kind == "qdrant_edge":
        index = IndexSettings(store.index_after_points, store.on_disk, store.quantization)
        return EmbeddedPlace(str(settings.data_dir.resolve()), index)
    return QdrantServer(store.url or "", store.collection, store.api_key_env, CALL_TIMEOUT_S)


def _pool_settings(settings: Settings) -> PoolSettings:
    jobs = settings.jobs
    return PoolSettings(
        backends=jobs.backends,
        journal_url=jobs.journal_url or f"sqlite:///{settings.data_dir.resolve() / 'jobs.sqlite'}",
        workers=jobs.workers,
        policy=PoolPolicy(
            max_in_flight=jobs.max_concurrent_circuits,
            max_waiting=jobs.max_waiting,
            window_s=jobs.coalescing_window_ms / 1000.0,
            breaker=jobs.breaker,
            retry=jobs.retry,
            protocol=jobs.protocol,
            retention=Retention(jobs.kept_results, jobs.kept_jobs, jobs.kept_days * DAY_S),
            default_tenant=jobs.default_tenant,
            tenants=jobs.tenants,
        ),
        scaling=jobs.scaling(),
    )


def _ingress_config(settings: Settings) -> IngressConfig:
    return IngressConfig(
        policy=Policy(settings.jobs.default_backend, settings.jobs.on_backend_failure, settings.jobs.fallback_backend),
        max_body_bytes=settings.http.max_body_bytes,
        state_shards=settings.states.shards,
        group_shards=settings.groups.shards,
        circuit_capacity=settings.circuits.capacity,
        backends=settings.jobs.backends,
        cache=settings.cache.policy(),
        copies=_copies(settings),
        candidates_bytes=settings.cache.candidates_bytes,
        place=_store_place(settings),
        access=_access_config(settings),
        log_folder=settings.data_dir.resolve() / "logs",
        room=AdmissionPolicy(settings.ray.max_ongoing_requests, settings.ray.max_wait_s),
        databases={name: one.rules() for name, one in settings.sql.databases.items()},
    )


def _access_config(settings: Settings) -> AccessConfig:
    jwt, limits = settings.access.jwt, settings.limits
    tokens = None
    if jwt is not None:
        paths = [None if path is None else path.resolve() for path in (jwt.public_key, jwt.jwks_file)]
        tokens = TokenConfig(jwt.policy(), *paths)
        verifier_of(tokens)  # what is wrong with its keys is told here, not by a replica that does not start
    return AccessConfig(
        limits=limits.table(),
        blocking=limits.blocking.policy(),
        tokens=tokens,
        replicas=settings.ray.most_replicas,  # fewer grant less: never more in all, however many there are
        redis_url=limits.redis_url,
        audited_reads=settings.access.audited_reads,
    )
