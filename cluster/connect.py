"""The way in from another Ray job: the same calls as over HTTP, by handle."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.runtime import APP_NAME, RUNTIME_FILE, use_local_ray
from cluster.settings import load
from quantum_db.client.transaction import TransactionBlock
from quantum_db.errors import QuantumDBError, Unavailable

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

CALL_TIMEOUT_S = 70.0
CONNECT_TIMEOUT_S = 5.0
BACKUP_TIMEOUT_S = 3600.0


class ClusterHandle:
    """The calls of the API by Ray handle: JSON values in and out, errors as ``QuantumDBError``."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    def insert(self, **body: Any) -> dict[str, Any]:
        """Write one entity; the fields are those of ``POST /api/v2/vectors``."""
        return self._call("insert", body)

    def insert_batch(self, **body: Any) -> dict[str, Any]:
        """Write several entities, as ``POST /api/v2/vectors/batch``."""
        return self._call("insert_batch", body)

    def fetch(self, entity_id: str) -> dict[str, Any]:
        """Return an entity."""
        return self._call("fetch", entity_id)

    def scroll(self, **page: Any) -> dict[str, Any]:
        """Return a page of all entities, as ``GET /api/v2/vectors``."""
        return self._call("scroll", page)

    def delete(self, entity_id: str) -> dict[str, Any]:
        """Delete an entity."""
        return self._call("delete", entity_id)

    def query(self, **body: Any) -> dict[str, Any]:
        """Answer a query, as ``POST /api/v2/query``. Vectors may be NumPy arrays."""
        return self._call("query", body)

    def create_entangled_group(self, **body: Any) -> dict[str, Any]:
        """Write an entanglement group, as ``POST /api/v2/entanglement/groups``."""
        return self._call("create_group", body)

    def group(self, group_id: str) -> dict[str, Any]:
        """Return an entanglement group."""
        return self._call("group", group_id)

    def update_group(self, group_id: str, **body: Any) -> dict[str, Any]:
        """Change a group that is at ``expected_version``, as ``PATCH /api/v2/entanglement/groups/{id}``."""
        return self._call("update_group", group_id, body)

    def delete_group(self, group_id: str, expected_version: int | None = None) -> dict[str, Any]:
        """Delete a group, at the expected version if one is given."""
        return self._call("delete_group", group_id, expected_version)

    def list_groups(self, **page: Any) -> dict[str, Any]:
        """Return a page of groups, as ``GET /api/v2/entanglement/groups``."""
        return self._call("list_groups", page)

    def state(self, entity_id: str) -> dict[str, Any]:
        """Return the state of an entity with its history, as ``GET /api/v2/states/{id}``."""
        return self._call("state", entity_id)

    def session(self, session_id: str) -> dict[str, Any]:
        """Return what a session has measured and moved."""
        return self._call("session", session_id)

    def end_session(self, session_id: str) -> dict[str, Any]:
        """End a session."""
        return self._call("end_session", session_id)

    def measure_correlation(self, group_id: str, **body: Any) -> dict[str, Any]:
        """Run the circuit of an entanglement group, as ``POST /api/v2/entanglement/groups/{id}/measure``."""
        return self._call("measure_group", group_id, body)

    def execute_batch(self, **body: Any) -> dict[str, Any]:
        """Run operations on circuits, as ``POST /api/v2/batch``."""
        return self._call("execute_batch", body)

    def submit_job(self, **body: Any) -> dict[str, Any]:
        """Take a quantum job, as ``POST /api/v2/jobs``."""
        return self._call("jobs.submit", body)

    def estimate_job(self, **body: Any) -> dict[str, Any]:
        """Tell what a job would cost, as ``POST /api/v2/jobs/estimate``."""
        return self._call("jobs.estimate", body)

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job, with its result once it has one."""
        return self._call("jobs.get", job_id)

    def list_jobs(self, **page: Any) -> dict[str, Any]:
        """List jobs, newest first, as ``GET /api/v2/jobs``."""
        return self._call("jobs.list", page)

    def cancel_job(self, job_id: str) -> dict[str, Any]:
        """Cancel a job, also at the provider."""
        return self._call("jobs.cancel", job_id)

    def costs(self, **days: Any) -> dict[str, Any]:
        """Return what was spent, by day and backend, as ``GET /api/v2/costs``."""
        return self._call("jobs.costs", days)

    def update(self, entity_id: str, *, expected_version: int | None = None, **changes: Any) -> dict[str, Any]:
        """Replace fields of an entity, as ``PATCH /api/v2/vectors/{id}``."""
        return self._call("update", entity_id, changes, expected_version)

    def transact(self, operations: list[dict[str, Any]], key: str | None = None) -> dict[str, Any]:
        """Do operations together or not at all, as ``POST /api/v2/transactions`` with an idempotency key."""
        return self._call("transact", {"operations": operations}, key)

    def quantum_transaction(self) -> TransactionBlock:
        """Return a block for ``with`` or ``async with``; see ``quantum_db.client.transaction``."""
        return TransactionBlock(HandleCalls(self._call, self._handle))

    def _call(self, method: str, *arguments: Any) -> dict[str, Any]:
        from ray.exceptions import RayTaskError

        try:
            result: dict[str, Any] = self._handle.call.remote(method, *arguments).result(timeout_s=CALL_TIMEOUT_S)
        except RayTaskError as error:
            if isinstance(error.cause, QuantumDBError):
                raise error.cause from None
            raise
        except TimeoutError as error:
            raise Unavailable(f"the cluster did not answer within {CALL_TIMEOUT_S} s") from error
        return result


class HandleCalls:
    """Implements ``Calls`` of transactions by handle."""

    def __init__(self, call: Callable[..., dict[str, Any]], handle: DeploymentHandle[Any]) -> None:
        self._sync_call = call
        self._handle = handle

    def call(self, method: str, *arguments: Any) -> dict[str, Any]:
        """Make a call of the API and return its answer."""
        return self._sync_call(method, *arguments)

    async def call_async(self, method: str, *arguments: Any) -> dict[str, Any]:
        """Make a call of the API and return its answer."""
        from ray.exceptions import RayTaskError

        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                result: dict[str, Any] = await self._handle.call.remote(method, *arguments)
        except RayTaskError as error:
            if isinstance(error.cause, QuantumDBError):
                raise error.cause from None
            raise
        except TimeoutError as error:
            raise Unavailable(f"the cluster did not answer within {CALL_TIMEOUT_S} s") from error
        return result


def connect_ray(address: str | None = None, data_dir: str | Path | None = None) -> ClusterHandle:
    """Return a handle to a running cluster, for use in another Ray job on the same Ray cluster.

    Joins the Ray cluster if this process has not joined one yet.

    Args:
        address: of the Ray cluster; by default the one that ``data_dir`` names while its cluster runs.
        data_dir: of the cluster; by default that of the settings (``QUANTUM_DB_DATA_DIR``, or .data/local).

    Raises:
        Unavailable: no cluster runs there.
    """
    _join(address, load().data_dir if data_dir is None else Path(data_dir))
    from ray import serve

    return ClusterHandle(serve.get_app_handle(APP_NAME))


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
    ray.init(address=address, namespace="quantum-db", log_to_driver=False, logging_level="warning")
