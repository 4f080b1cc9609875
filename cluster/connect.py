"""The way in from another Ray job: the client of ``quantum_db``, whose calls go by Serve handle."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.runtime import APP_NAME, RUNTIME_FILE, use_local_ray
from cluster.settings import load
from quantum_db.client.config import Config
from quantum_db.client.database import QuantumDB
from quantum_db.client.request import Request, Unreached
from quantum_db.client.routes import ROUTES
from quantum_db.errors import DeadlineExceeded, Overloaded, QuantumDBError, Unavailable
from quantum_db.scope import DEFAULT_SCOPE, Scope

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.serve.handle import DeploymentHandle

CALL_TIMEOUT_S = 70.0
CONNECT_TIMEOUT_S = 5.0
LOOPBACK = "127."
BACKUP_TIMEOUT_S = 3600.0


class RayTransport:
    """Implements ``quantum_db.client.request.Transport`` by Serve handle.

    Whoever holds one is inside the Ray cluster and needs no key.
    """

    def __init__(self, address: str | None, data_dir: Path | None) -> None:
        """Join nothing yet.

        Args:
            address: of the Ray cluster; by default the one that ``data_dir`` names while its cluster runs.
            data_dir: of the cluster; by default that of the settings.
        """
        self._address = address
        self._data_dir = data_dir
        self._handle: DeploymentHandle[Any] | None = None

    def join(self) -> None:
        """Join the Ray cluster, if this process has not joined one yet. Raises Unavailable where no cluster runs."""
        _join(self._address, load().data_dir if self._data_dir is None else self._data_dir)
        self._handle = _handle()

    async def open(self) -> None:
        """See ``Transport.open``."""
        if self._handle is None:
            await asyncio.to_thread(self.join)

    async def call(self, request: Request) -> Any:
        """See ``Transport.call``."""
        from ray.exceptions import RayActorError, RayTaskError
        from ray.serve.exceptions import BackPressureError, RayServeException

        assert self._handle is not None, "it is open"
        arguments = (*request.arguments, request.key) if request.route.takes_key else request.arguments
        scope = Scope(collection=request.collection)
        try:
            async with asyncio.timeout(request.timeout_s):
                return await self._handle.call.remote(request.method, *arguments, scope=scope)
        except RayTaskError as error:
            if isinstance(error.cause, QuantumDBError):
                raise error.cause from None
            raise
        except TimeoutError as error:
            raise DeadlineExceeded(f"the cluster did not answer within {request.timeout_s:.1f} s") from error
        except BackPressureError as error:
            raise Overloaded("too many calls are waiting", retry_after_s=1.0) from error
        except (RayActorError, RayServeException) as error:
            raise Unavailable(f"the cluster did not answer: {error}") from error

    async def close(self) -> None:
        """See ``Transport.close``. This process stays in the Ray cluster, for what else it does there."""
        self._handle = None


def ray_transport(config: Config) -> RayTransport:
    """Return the way that ``Config.ray_address`` names."""
    return RayTransport(config.ray_address, None)


def connect_ray(address: str | None = None, data_dir: str | Path | None = None) -> QuantumDB:
    """Return a client of a running cluster, for use in another Ray job on the same Ray cluster.

    Joins the Ray cluster if this process has not joined one yet.

    Args:
        address: of the Ray cluster; by default the one that ``data_dir`` names while its cluster runs.
        data_dir: of the cluster; by default that of the settings (``QUANTUM_DB_DATA_DIR``, or .data/local).

    Raises:
        Unavailable: no cluster runs there.
    """
    transport = RayTransport(address, None if data_dir is None else Path(data_dir))
    transport.join()
    return QuantumDB(Config(), transport=transport)


def remote(method: str, *arguments: Any, scope: Scope = DEFAULT_SCOPE) -> ObjectRef[Any]:
    """Begin a call of the API and return its future answer, for ``ray.get``, ``ray.wait`` and other Ray tasks.

    The answer is the JSON of the REST API. An error of the cluster is raised by ``ray.get``, within a RayTaskError.

    Args:
        method: a name in ``quantum_db.client.routes.ROUTES``, like ``query``.
        arguments: as the route names them; may hold NumPy arrays.
        scope: whose data it is about.

    Raises:
        Unavailable: this process has not joined the Ray cluster of a running cluster; ``connect_ray`` does.
    """
    if method not in ROUTES:
        raise KeyError(f"there is no call {method!r}")
    response = _kept_handle().call.remote(method, *arguments, scope=scope)
    return response._to_object_ref_sync()  # what Serve offers to plain Ray code


def _handle() -> DeploymentHandle[Any]:
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        return serve.get_app_handle(APP_NAME)
    except (RayServeException, RuntimeError) as error:
        raise Unreached(f"no cluster runs on the Ray cluster that this process has joined: {error}") from error


def _kept_handle() -> DeploymentHandle[Any]:
    """Return a handle for plain Ray code, the same one for as long as this process stays in its Ray cluster.

    Each new one would ask the cluster for the application, and start a router of its own.
    """
    import ray

    return _handle_of(ray.get_runtime_context().get_worker_id()) if ray.is_initialized() else _handle()


@lru_cache(maxsize=1)
def _handle_of(worker_id: str) -> DeploymentHandle[Any]:  # noqa: ARG001 - it is another one in another Ray cluster
    return _handle().options(_by_reference=True)


def running_cluster(data_dir: Path) -> dict[str, Any]:
    """Return what the cluster that runs with its data in a folder tells of itself: url, ray_address, settings.

    Raises:
        Unavailable: no cluster runs there.
    """
    path = data_dir / RUNTIME_FILE
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise Unavailable(f"no cluster runs with data in {data_dir}; start one, or give its address") from None
    return found


def back_up_store(data_dir: Path, folder: Path, journals: Sequence[Path]) -> float:
    """Have the store's process copy itself and the journals into a folder; see ``StoreShard.backup``.

    Returns:
        For how many seconds nothing else was served.

    Raises:
        Unavailable: no cluster runs with its data there, or it did not end in time.
        CorruptData: what was to be copied is damaged.
    """
    _join(None, data_dir)
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    from actors.shell import named

    copying = named("store").backup.remote(str(folder), [str(path) for path in journals])
    try:
        return float(ray.get(copying, timeout=BACKUP_TIMEOUT_S))
    except KeyboardInterrupt:
        ray.wait([copying], timeout=CALL_TIMEOUT_S)  # it cannot be stopped, and writes until it ends
        raise
    except RayTaskError as error:
        if isinstance(error.cause, QuantumDBError):
            raise error.cause from None
        raise
    except (RayActorError, TimeoutError) as error:
        raise Unavailable(f"the store did not copy itself: {error}") from error


def _check_answers(address: str, data_dir: Path) -> None:
    """Raise Unavailable where nothing listens any more: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        path = data_dir / RUNTIME_FILE
        raise Unavailable(f"the cluster that {path} tells of does not answer; start it again") from error


def _join(address: str | None, data_dir: Path) -> None:
    """Join the Ray cluster of an address, or else of the cluster with its data there, if none has been joined yet."""
    use_local_ray()
    import ray

    if ray.is_initialized():
        return
    if address is None:
        address = str(running_cluster(data_dir)["ray_address"])
        _check_answers(address, data_dir)
    if address.startswith(LOOPBACK):
        from ray._private import ray_constants

        ray_constants.ENABLE_RAY_CLUSTER = False  # the variable says so too, but Ray may have been imported before
    ray.init(address=address, namespace="quantum-db", log_to_driver=False, logging_level="warning")
