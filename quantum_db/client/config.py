"""How a client reaches a cluster: which one, by what way, and within which bounds."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from quantum_db.errors import InvalidSettings
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.scope import DEFAULT_COLLECTION

KEY_ENV: Final = "QUANTUM_DB_KEY"
"""The environment variable that holds the API key where the configuration has none."""

LOCAL_FIELDS: Final = ("qdrant_url", "redis_url", "ionq_api_key", "ionq_url", "ionq_target", "data_dir")
"""What configures a local cluster, and means nothing to one that others run."""


RETRY: Final = RetryPolicy(attempts=6, first_s=0.5, longest_s=5.0)


@dataclass(frozen=True, slots=True)
class Config:
    """Without ``url`` and ``ray_address``, a local cluster is joined, or started where none runs.

    Raises InvalidSettings for fields that exclude each other or are out of range.

    Attributes:
        url: of a cluster that is reached over HTTP, like ``http://127.0.0.1:8000``.
        ray_address: of the Ray cluster that it runs on, to be reached by Serve handle.
        api_key: sent over HTTP; None takes the environment's ``QUANTUM_DB_KEY``, if it is there.
        collection: that all calls are about.
        qdrant_url: of the Qdrant server that a local cluster searches; None for the embedded store.
        redis_url: where a local cluster keeps its journals; None for files in ``data_dir``.
        ionq_api_key: makes a local cluster run its circuits at IonQ, at ``ionq_url`` on ``ionq_target``.
        data_dir: of the local cluster; None for that of the settings.
        min_pool_size: HTTP connections that are opened at once and kept.
        max_pool_size: HTTP connections, and by any way calls in flight; further calls wait.
        connect_timeout_s: to make a connection.
        idle_timeout_s: after which an unused HTTP connection is closed.
        health_check_s: between two looks at the connections, in which broken ones are replaced.
        timeout_s: a call's whole time, its repetitions included.
        retry: how calls that may be repeated are repeated.
        enable_cache: keep answers of queries in this client for ``cache_ttl`` seconds; see ``client.cache``.
        cache_size: answers that are kept.
    """

    url: str | None = None
    ray_address: str | None = None
    api_key: str | None = field(default=None, repr=False)
    collection: str = DEFAULT_COLLECTION
    qdrant_url: str | None = None
    redis_url: str | None = field(default=None, repr=False)  # it may hold a password
    ionq_api_key: str | None = field(default=None, repr=False)
    ionq_url: str | None = None
    ionq_target: str | None = None
    data_dir: str | Path | None = None
    min_pool_size: int = 10
    max_pool_size: int = 100
    connect_timeout_s: float = 30.0
    idle_timeout_s: float = 300.0
    health_check_s: float = 60.0
    timeout_s: float = 70.0
    retry: RetryPolicy = RETRY
    enable_cache: bool = False
    cache_ttl: float = 300.0
    cache_size: int = 1_000

    def __post_init__(self) -> None:
        if self.url is not None and self.ray_address is not None:
            raise InvalidSettings("url and ray_address exclude each other: a cluster is reached by one way")
        if self.url is not None or self.ray_address is not None:
            given = [name for name in LOCAL_FIELDS if getattr(self, name) is not None]
            way = "url" if self.url is not None else "ray_address"
            if given:
                raise InvalidSettings(
                    f"{', '.join(given)} configure a cluster that is started here; the one at {way} has settings of "
                    f"its own, so leave out either {way} or them"
                )
        if self.ionq_api_key is None and (self.ionq_url is not None or self.ionq_target not in (None, "simulator")):
            raise InvalidSettings("ionq_url and ionq_target need an ionq_api_key")
        if self.max_pool_size < 1 or self.min_pool_size < 0:
            raise InvalidSettings("max_pool_size must be at least 1, and min_pool_size at least 0")
        for name in ("connect_timeout_s", "idle_timeout_s", "health_check_s", "timeout_s", "cache_ttl", "cache_size"):
            if not getattr(self, name) > 0:
                raise InvalidSettings(f"{name} must be above 0, not {getattr(self, name)!r}")

    @property
    def key(self) -> str | None:
        """The API key: the one given, or else the environment's."""
        return self.api_key or os.environ.get(KEY_ENV) or None
