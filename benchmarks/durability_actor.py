"""The store's actor as ``benchmarks.durability`` calls it: Ray on loopback, with the actors that it talks to."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.runtime import use_local_ray

use_local_ray()  # Ray reads the environment when it is imported

import ray

from actors.entanglement_registry import EntanglementRegistry
from actors.shell import NAMESPACE
from actors.state_manager import StateManager
from actors.store_shard import RemoteWrites, StoreSettings, StoreShard
from cluster.settings import GroupSettings, Settings, StateSettings
from cluster.shards import group_shards, state_shards
from quantum_db.commits.operations import Request
from quantum_db.stores.places import EmbeddedPlace

READY_S = 120.0


@contextmanager
def store_actor(folder: Path) -> Iterator[Callable[[Request], Awaitable[Mapping[str, Any]]]]:
    """Yield a call of the store's actor, on a new store in ``folder``."""
    with tempfile.TemporaryDirectory(prefix="qqc-") as scratch:  # short: Ray puts sockets below it
        ray.init(
            address="local",
            num_cpus=1,
            include_dashboard=False,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level="warning",
            _node_ip_address="127.0.0.1",
            _temp_dir=scratch,
        )
        try:
            life = {"namespace": NAMESPACE, "num_cpus": 0}
            settings = Settings(data_dir=folder, states=StateSettings(shards=1), groups=GroupSettings(shards=1))
            urls = [f"sqlite:///{folder / name}.sqlite" for name in ("actor", "collections")]
            places = StoreSettings(
                EmbeddedPlace(str(folder / "actor")),
                *urls,
                1,
                1,
                max_collections=1,
                max_open=1,
                flush_interval_s=5.0,
                tells_changes=False,
            )
            groups = ray.remote(EntanglementRegistry).options(name="groups-0", **life)
            states = ray.remote(StateManager).options(name="states-0", **life)
            shard = ray.remote(StoreShard).options(name="store", max_concurrency=10_000, **life)
            actors: list[Any] = [
                groups.remote(0, *group_shards(settings)),
                states.remote(0, *state_shards(settings)),
            ]
            ray.get([one.ready.remote() for one in actors], timeout=READY_S)
            actors.append(shard.remote(places))
            ray.get(actors[-1].ready.remote(), timeout=READY_S)
            yield RemoteWrites(actors[-1]).do
            ray.get(actors[-1].close.remote(), timeout=READY_S)
        finally:
            ray.shutdown()
