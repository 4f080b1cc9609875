"""The local cluster of a client that names none: joined where one runs, else started while the client needs it."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any, Final

import orjson
import psutil

from cluster import background
from cluster.connect import RayTransport
from cluster.runtime import RUNTIME_FILE
from cluster.settings import PREFIX, load
from quantum_db.client.config import Config
from quantum_db.client.request import Request
from quantum_db.errors import Conflict, InvalidSettings, Unavailable

IONQ_URL: Final = "https://api.ionq.co/v0.4"
IONQ_KEY_ENV: Final = "IONQ_API_KEY"
IONQ_PRICES: Final = {"simulator": "free", "qpu.forte": "braket-forte", "qpu.aria": "braket-aria"}
"""By how a target's name begins. IonQ's own prices are by contract; what is published is that of its resellers."""

STOP_TIMEOUT_S: Final = 60.0
LOOK_S: Final = 0.1


class LocalTransport:
    """Implements ``quantum_db.client.request.Transport``: a cluster with its data in a folder, by Serve handle."""

    def __init__(self, config: Config) -> None:
        """Start nothing yet. Raises InvalidSettings."""
        self._wanted = settings_of(config)
        self._data_dir = (load().data_dir if config.data_dir is None else Path(config.data_dir)).resolve()
        self._way: RayTransport | None = None
        self._own: subprocess.Popen[bytes] | None = None

    async def open(self) -> None:
        """See ``Transport.open``. Starts the cluster where none runs, which takes some 15 s.

        Raises:
            Conflict: one runs that has not been started with these settings.
            Unavailable: it cannot be started.
        """
        if self._way is not None:
            return
        cluster = background.found(self._data_dir)
        if cluster is None:
            cluster = await self._started()
        else:
            self._check_same(cluster.pid)
        way = RayTransport(cluster.ray_address, self._data_dir)
        try:
            await way.open()
        except BaseException:
            await self.close()
            raise
        self._way = way

    async def call(self, request: Request) -> Any:
        """See ``Transport.call``."""
        if self._way is None:
            raise Unavailable("the connection to the local cluster is closed")
        return await self._way.call(request)

    async def close(self) -> None:
        """See ``Transport.close``. Stops the cluster if it was started here."""
        way, own = self._way, self._own
        self._way = self._own = None
        if way is not None:
            await way.close()
        if own is None:
            return
        own.terminate()
        for _ in range(round(STOP_TIMEOUT_S / LOOK_S)):  # no thread: the program may be at its end
            if own.poll() is not None:
                return
            await asyncio.sleep(LOOK_S)
        background.stop(self._data_dir, 0.0)

    async def _started(self) -> background.Background:
        environment = background.environment_with({**self._wanted, f"{PREFIX}DATA_DIR": str(self._data_dir)})
        environment.setdefault(f"{PREFIX}HTTP__PORT", "0")
        self._own = background.launch(self._data_dir, [], environment)
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + background.START_TIMEOUT_S
        try:
            while loop.time() < deadline_s:
                cluster = background.begun(self._own, self._data_dir)
                if cluster is not None:
                    return cluster
                await asyncio.sleep(LOOK_S)
            told = background.tail(self._data_dir)
            raise Unavailable(f"the local cluster did not answer within {background.START_TIMEOUT_S:.0f} s: {told}")
        except BaseException:
            await self.close()
            raise

    def _check_same(self, pid: int) -> None:
        """Raise Conflict where a running cluster was started without a setting that is wanted."""
        if not self._wanted:
            return
        try:
            has = psutil.Process(pid).environ()
        except psutil.Error as error:
            raise Unavailable(f"the cluster of {self._data_dir / RUNTIME_FILE} has ended") from error
        other = sorted(name for name, value in self._wanted.items() if has.get(name) != value)
        if other:
            raise Conflict(
                f"a cluster runs with data in {self._data_dir} that was not started with this {', '.join(other)}; "
                "stop it, or leave out the settings of a local cluster to use it as it is"
            )


def settings_of(config: Config) -> dict[str, str]:
    """Return the environment that gives a cluster the settings of a client's configuration. Raises InvalidSettings."""
    wanted: dict[str, str] = {}
    if config.qdrant_url is not None:
        wanted |= {"STORE__KIND": "qdrant", "STORE__URL": config.qdrant_url}
    if config.redis_url is not None:
        wanted |= {f"{part}__JOURNAL_URL": config.redis_url for part in ("JOBS", "STATES", "GROUPS")}
    named = {f"{PREFIX}{name}": value for name, value in wanted.items()}
    if config.ionq_api_key is None:
        return named
    target = config.ionq_target or "simulator"
    ionq = {"kind": "ionq", "url": config.ionq_url or IONQ_URL, "token_env": IONQ_KEY_ENV, "target": target}
    ionq["price_model"] = _prices_of(target)
    backends = {"simulator": {"kind": "simulator"}, "ionq": ionq}
    named[f"{PREFIX}JOBS__BACKENDS"] = orjson.dumps(backends).decode()
    named[f"{PREFIX}JOBS__DEFAULT_BACKEND"] = "ionq"
    named[IONQ_KEY_ENV] = config.ionq_api_key
    return named


def _prices_of(target: str) -> str:
    """Return the price model of a target. Raises InvalidSettings: without one, no budget would hold."""
    for start, model in IONQ_PRICES.items():
        if target.startswith(start):
            return model
    raise InvalidSettings(
        f"{target} has no published price; start a cluster whose settings name a price_model for it, and join that"
    )


def local_transport(config: Config) -> LocalTransport:
    """Return the way to the local cluster."""
    return LocalTransport(config)
