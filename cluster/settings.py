"""Settings: defaults, then a YAML file, then the environment. Unknown keys are refused with the near name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from cluster.access_settings import AccessSettings, LimitSettings, TlsSettings, is_loopback
from cluster.ray_settings import RaySettings
from cluster.sql_settings import SqlSettings
from quantum_db.access.tokens import JWT_SECRET_ENV
from quantum_db.backend_choice import AUTO, CLASSICAL
from quantum_db.circuits.noise import NOISE_MODELS
from quantum_db.client.config import KEY_ENV
from quantum_db.encryption import DATA_KEYS_ENV
from quantum_db.errors import InvalidRequest, InvalidSettings
from quantum_db.ionq.pricing import PRICE_MODELS
from quantum_db.jobs.assembly import TenantPolicy
from quantum_db.jobs.backends import BackendSpec
from quantum_db.jobs.breaker import BreakerPolicy
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.jobs.scaling import ScalingPolicy
from quantum_db.jobs.submission import ProtocolLimits
from quantum_db.kept_answers import CachePolicy
from quantum_db.near import near_name
from quantum_db.requests import invalid_request
from quantum_db.yaml_files import read_yaml

PREFIX = "QUANTUM_DB_"
SEPARATOR = "__"
ADMIN_KEY_ENV = "QUANTUM_DB_ADMIN_KEY"
_SECRETS = frozenset({ADMIN_KEY_ENV, KEY_ENV, JWT_SECRET_ENV, DATA_KEYS_ENV})
"""Variables that hold secrets. They are no settings, so that none is ever in a file or an error."""

Port = Annotated[int, Field(ge=0, le=65_535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HttpSettings(_Section):
    """Where HTTP is served.

    Attributes:
        port: 0 means a free one.
        tls: with it HTTPS is served instead.
        behind_tls_proxy: states that only a proxy that ends TLS reaches the host; it tells the callers' addresses by
            ``X-Forwarded-For``.
    """

    host: str = "127.0.0.1"
    port: Port = 8000
    max_body_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024 * 1024
    tls: TlsSettings | None = None
    behind_tls_proxy: bool = False

    @model_validator(mode="after")
    def _keys_do_not_travel_in_the_open(self) -> HttpSettings:
        if not (is_loopback(self.host) or self.tls is not None or self.behind_tls_proxy):
            raise ValueError(
                f"host {self.host!r} is reached from outside, where keys must not travel in the open: set tls, or "
                "behind_tls_proxy: true if a proxy that ends TLS stands in front"
            )
        return self


class GrpcSettings(_Section):
    """Where gRPC is served: on the host of ``http``, with its certificate, its largest body, and its proxy.

    Attributes:
        port: 0 means a free one; None that gRPC is not served.
    """

    port: Port | None = None


class StoreSettings(_Section):
    """The vector store: embedded, or a Qdrant server. The server's key is in the variable ``api_key_env``.

    Attributes:
        collection: the server's, for the collection that is always there; the names of others begin with it.
        max_collections: of one tenant.
        max_open_collections: embedded stores that are open at the same time, each with 14 MB and 8 threads.
        journal_url: where transactions are written down; None for ``commits.sqlite`` in the data folder. It belongs to
            the collections as the data does.
        copies_bytes: of embedded stores that each replica copies, to search them by itself; see
            ``quantum_db.stores.copies``. 0 copies none. Writes wait for those who have copies.
        flush_interval_s: how often an embedded store is flushed: plain writes of so long a crash of the machine may
            take.
        index_after_points: of an embedded store that are in no index yet, and 10 MB of vectors: then one is built.
        on_disk: an embedded store reads vectors and graph from the disk as it needs them, instead of all at the start.
        quantization: ``int8`` also keeps vectors of a quarter of the size, which searches look at first. Both hold for
            new collections, and for others from the next index on.
    """

    kind: Literal["qdrant_edge", "qdrant"] = "qdrant_edge"
    url: str | None = None
    collection: str = "default"
    api_key_env: str = "QDRANT_API_KEY"
    max_collections: Annotated[int, Field(ge=1, le=100_000)] = 100
    max_open_collections: Annotated[int, Field(ge=1, le=10_000)] = 32
    journal_url: str | None = None
    copies_bytes: Annotated[int, Field(ge=0)] = 256 * 2**20
    flush_interval_s: Annotated[float, Field(gt=0.0)] = 5.0
    index_after_points: Annotated[int, Field(ge=1_000)] = 20_000
    on_disk: bool = False
    quantization: Literal["none", "int8"] = "none"

    @model_validator(mode="after")
    def _server_has_a_url(self) -> StoreSettings:
        if self.kind == "qdrant" and not self.url:
            raise ValueError("url is needed for kind qdrant, like http://127.0.0.1:6333")
        if self.kind == "qdrant_edge" and self.journal_url is not None:
            raise ValueError("journal_url is for kind qdrant; what is embedded keeps its journal beside it")
        if self.kind == "qdrant" and (self.on_disk or self.quantization != "none"):
            raise ValueError(
                "on_disk and quantization are for kind qdrant_edge; a server is set up by its own collection"
            )
        return self


class JobSettings(_Section):
    """The job pool; see ``quantum_db.jobs.assembly.PoolPolicy``.

    Attributes:
        on_backend_failure: what a query does whose backend fails, or takes no work because its breaker is open.
        fallback_backend: where its circuits run then, with ``simulator``.
        max_concurrent_circuits: jobs in flight at each backend, over all workers; a multi-circuit job is one.
        workers: worker processes at the start.
        min_workers, max_workers: bounds between which their number follows the load; None for ``workers``.
        jobs_per_worker: jobs that run or wait, for each of which a worker is wanted.
        scale_cooldown_s: between two changes of their number.
        journal_url: where intents and results are kept; None for ``jobs.sqlite`` in the data folder.
        coalescing_window_ms: how long a first caller waits for others to share a job at a provider.
        kept_days: how long results and ended jobs are kept; ``kept_results`` circuits and ``kept_jobs`` at most.
        default_tenant: for tenants that ``tenants`` does not name.
    """

    default_backend: str = "simulator"
    on_backend_failure: Literal["classical", "simulator", "fail"] = "classical"
    fallback_backend: str = "simulator"
    max_concurrent_circuits: Annotated[int, Field(ge=1, le=1000)] = 10
    max_waiting: Annotated[int, Field(ge=1)] = 1000
    workers: Annotated[int, Field(ge=1, le=100)] = 1
    min_workers: Annotated[int, Field(ge=1, le=100)] | None = None
    max_workers: Annotated[int, Field(ge=1, le=100)] | None = None
    jobs_per_worker: Annotated[float, Field(gt=0.0)] = 4.0
    scale_cooldown_s: Annotated[float, Field(gt=0.0)] = 10.0
    journal_url: str | None = None
    coalescing_window_ms: Annotated[float, Field(ge=0.0, le=1000.0)] = 3.0
    retry: RetryPolicy = RetryPolicy()
    breaker: BreakerPolicy = BreakerPolicy()
    protocol: ProtocolLimits = ProtocolLimits()
    kept_days: Annotated[float, Field(gt=0.0)] = 7.0
    kept_results: Annotated[int, Field(ge=0)] = 100_000
    kept_jobs: Annotated[int, Field(ge=0)] = 10_000
    default_tenant: TenantPolicy = TenantPolicy()
    tenants: dict[str, TenantPolicy] = {}
    backends: dict[str, BackendSpec] = {"simulator": BackendSpec(kind="simulator")}

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> JobSettings:
        policy = self.scaling()
        if not policy.floor <= self.workers <= policy.ceiling:
            raise ValueError(
                f"workers {self.workers} must lie between min_workers {policy.floor} and max_workers {policy.ceiling}"
            )
        return self

    def scaling(self) -> ScalingPolicy:
        """Return how the number of workers follows the load. Raises ValueError."""
        floor = self.workers if self.min_workers is None else self.min_workers
        ceiling = self.workers if self.max_workers is None else self.max_workers
        return ScalingPolicy(floor, ceiling, self.jobs_per_worker, self.scale_cooldown_s)

    @model_validator(mode="after")
    def _default_exists(self) -> JobSettings:
        if self.default_backend not in self.backends:
            near = near_name(self.default_backend, self.backends)
            raise ValueError(f"default_backend {self.default_backend!r} is not among backends{near}")
        return self

    @model_validator(mode="after")
    def _fallback_cannot_fail(self) -> JobSettings:
        if self.on_backend_failure == "simulator":
            spec = self.backends.get(self.fallback_backend)
            if spec is None or spec.kind != "simulator":
                raise ValueError(f"fallback_backend {self.fallback_backend!r} must be a backend of kind simulator")
        return self

    @model_validator(mode="after")
    def _no_backend_has_a_reserved_name(self) -> JobSettings:
        for name in (AUTO, CLASSICAL):
            if name in self.backends:
                raise ValueError(f"backends.{name}: the name is taken; choose another")
        return self

    @model_validator(mode="after")
    def _models_are_known(self) -> JobSettings:
        for name, spec in self.backends.items():
            for key, value, known in (
                ("noise_model", spec.noise_model, NOISE_MODELS),
                ("price_model", spec.price_model, PRICE_MODELS),
            ):
                if value not in known:
                    message = f"must be one of {', '.join(known)}, not {value!r}{near_name(value, known)}"
                    raise ValueError(f"backends.{name}.{key}: {message}")
        return self


class StateSettings(_Section):
    """The state managers.

    Attributes:
        shards: how many there are; may change between starts.
        capacity: hot states that each keeps.
        journal_url: where all of them write; None for files of their own in the data folder.
        history_per_entity: archived instances of an entity that are kept; all together ``history_instances`` in a
            shard, and none longer than ``history_days``.
    """

    shards: Annotated[int, Field(ge=1, le=1000)] = 1
    capacity: Annotated[int, Field(ge=1)] = 100_000
    journal_url: str | None = None
    history_per_entity: Annotated[int, Field(ge=1, le=1000)] = 8
    history_instances: Annotated[int, Field(ge=1)] = 100_000
    history_days: Annotated[float, Field(gt=0.0)] = 7.0


class SessionSettings(_Section):
    """The bounds of sessions in each state manager; see ``quantum_db.sessions.SessionLimits``."""

    sessions: Annotated[int, Field(ge=1)] = 10_000
    moves: Annotated[int, Field(ge=1)] = 250_000
    moves_per_session: Annotated[int, Field(ge=1)] = 5_000
    idle_s: Annotated[float, Field(gt=0.0)] = 1_800.0


class GroupSettings(_Section):
    """The entanglement registry: how many actors (may change between starts), and where all of them write."""

    shards: Annotated[int, Field(ge=1, le=1000)] = 1
    journal_url: str | None = None


class CacheSettings(_Section):
    """Answers of queries that replicas keep; see ``quantum_db.kept_answers``. Writes wait for those who keep any.

    Attributes:
        max_bytes: of the answers of each replica; 0 keeps none.
        ttl_s: how long an answer is kept at most.
        redis_url: where replicas keep answers together, besides.
        candidates_bytes: of what each replica keeps of its searches, for other questions about the same candidates.
    """

    max_bytes: Annotated[int, Field(ge=0)] = 0
    ttl_s: Annotated[float, Field(gt=0.0)] = 300.0
    redis_url: str | None = Field(default=None, repr=False)
    candidates_bytes: Annotated[int, Field(ge=0)] = 0

    def policy(self) -> CachePolicy | None:
        """Return what replicas keep, if anything."""
        return CachePolicy(self.max_bytes, self.ttl_s, self.redis_url) if self.max_bytes else None


class CircuitSettings(_Section):
    """The circuit caches."""

    capacity: Annotated[int, Field(ge=1)] = 64


class Settings(BaseSettings):
    """All settings. ``QUANTUM_DB_HTTP__PORT=9000`` in the environment is ``http: {port: 9000}`` in the file."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=SEPARATOR,
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Path(".data/local")
    http: HttpSettings = HttpSettings()
    grpc: GrpcSettings = GrpcSettings()
    ray: RaySettings = RaySettings()
    store: StoreSettings = StoreSettings()
    jobs: JobSettings = JobSettings()
    states: StateSettings = StateSettings()
    sessions: SessionSettings = SessionSettings()
    groups: GroupSettings = GroupSettings()
    circuits: CircuitSettings = CircuitSettings()
    cache: CacheSettings = CacheSettings()
    access: AccessSettings = AccessSettings()
    limits: LimitSettings = LimitSettings()
    sql: SqlSettings = SqlSettings()

    @model_validator(mode="after")
    def _limits_can_be_shared(self) -> Settings:
        self.limits.check_shares(self.ray.most_replicas)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment stands above the file, whose content comes in as ``init_settings``."""
        return env_settings, init_settings


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Args:
        path: a YAML file; None takes the defaults and the environment.
        environment: searched for unknown names; the process's own by default.

    Raises:
        InvalidSettings: a key is unknown or a value is wrong; the message names it.
    """
    content = {} if path is None else read_yaml(path)
    _check_environment(os.environ if environment is None else environment)
    try:
        return Settings(**content)
    except ValidationError as error:
        raise InvalidSettings(f"{path or 'settings'}: {_told(error).detail}") from None


def shared_settings(settings: Settings) -> dict[str, Any]:
    """Return what a cluster must have as the one whose data it takes over."""
    journals = {name: getattr(settings, name).journal_url for name in ("jobs", "store", "states", "groups")}
    return {
        "store.kind": settings.store.kind,
        "store.collection": settings.store.collection,
        "states.shards": settings.states.shards,
        **{f"{name}.journal_url": "in data_dir" if url is None else "elsewhere" for name, url in journals.items()},
    }


def _told(error: ValidationError) -> InvalidRequest:
    first = error.errors(include_url=False)[0]
    section: type[BaseModel] = Settings
    for part in first["loc"][:-1]:
        field = section.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            break
        section = field.annotation
    return invalid_request(error, section)


def _check_environment(environment: Mapping[str, str]) -> None:
    known = set(_names(Settings, PREFIX))
    for name in environment:
        upper = name.upper()
        if upper in _SECRETS:
            continue
        if upper.startswith(PREFIX) and not any(upper == n or upper.startswith(n + SEPARATOR) for n in known):
            raise InvalidSettings(f"the environment variable {name} is not a known setting{near_name(upper, known)}")


def _names(section: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        kind: Any = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _names(kind, f"{prefix}{name.upper()}{SEPARATOR}")
        else:
            yield f"{prefix}{name.upper()}"
