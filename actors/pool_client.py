"""The ways into the job pool from other processes: for the database, and for any Ray job by itself."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from itertools import groupby
from typing import Any, TypeAlias, cast
from uuid import uuid4

import ray
from qiskit import QuantumCircuit, qasm3
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from actors.job_pool import JobPool, PoolSettings
from actors.job_worker import GRACE_S
from actors.shell import CALL_TIMEOUT_S, NAMESPACE, ActorLost, ask, named
from quantum_db.backend_ports import BackendLimits, BackendResult, Condition, JobRequest
from quantum_db.batching import Batcher
from quantum_db.circuits.template import CircuitBatch
from quantum_db.errors import QuantumDBError, Unavailable
from quantum_db.jobs.breaker import Override
from quantum_db.jobs.budget import SpendingLimit
from quantum_db.jobs.circuits import MAX_CIRCUIT_QUBITS, QasmCircuit, to_parts
from quantum_db.jobs.desk import JobPage
from quantum_db.jobs.here import SmallWork
from quantum_db.jobs.orders import JobOrder
from quantum_db.jobs.queue import Priority
from quantum_db.scope import DEFAULT_TENANT

logger = logging.getLogger(__name__)

POOL_NAME = "jobs"
RETRY_PAUSE_S = 0.25
CONDITIONS_KEPT_S = 1.0
SMALL_AT_ONCE = 16
"""Requests that are run here in one go, while nothing else is."""
START_TIMEOUT_S = 60.0

Json = dict[str, Any]
Circuits: TypeAlias = CircuitBatch | QuantumCircuit | str


class RemoteJobPool:
    """Implements the ``JobPool`` port by calls to the coordinator; limits are asked once a process.

    A coordinator that dies is asked again as soon as it is back: it knows from its journal what was submitted, so the
    same circuits are not submitted again. Small work for simulators is run here, but where the backend is switched off.
    """

    def __init__(self, actor: ActorHandle[Any], small: SmallWork) -> None:
        """Ask nothing yet."""
        self._actor = actor
        self._small = small
        self._here: Batcher[JobRequest, BackendResult] = Batcher(self._run_here, in_flight=1, most=SMALL_AT_ONCE)
        self._limits: dict[str, BackendLimits] = {}
        self._conditions: tuple[float, dict[str, Condition]] = (-CONDITIONS_KEPT_S, {})
        self._looking: asyncio.Task[Mapping[str, Condition]] | None = None

    async def limits(self, backend: str) -> BackendLimits:
        here = self._small.limits(backend)
        if here is not None:
            return here
        if backend not in self._limits:
            self._limits[backend] = cast(BackendLimits, await ask(self._actor.limits.remote(backend), CALL_TIMEOUT_S))
        return self._limits[backend]

    async def conditions(self) -> Mapping[str, Condition]:
        at_s, found = self._conditions
        if time.monotonic() - at_s > CONDITIONS_KEPT_S:
            found = await ask(self._actor.conditions.remote(), CALL_TIMEOUT_S)
            self._conditions = (time.monotonic(), found)
        return found

    async def run(self, request: JobRequest) -> BackendResult:
        if self._small.takes(request) and not self._is_off(request.backend):
            return await self._here.do(request)
        end_s = time.monotonic() + request.timeout_s
        while True:
            try:
                found: BackendResult = await ask(self._actor.run.remote(request), request.timeout_s + GRACE_S)
            except asyncio.CancelledError:
                self._actor.leave.remote(request.key)
                raise
            except ActorLost:
                if time.monotonic() + RETRY_PAUSE_S > end_s:
                    raise
                await asyncio.sleep(RETRY_PAUSE_S)
            else:
                return found

    async def _run_here(self, requests: Sequence[JobRequest]) -> Sequence[BackendResult | QuantumDBError]:
        return self._small.run_each(requests)

    def _is_off(self, backend: str) -> bool:
        """Return whether a backend was switched off by hand when last looked at; look again, without waiting."""
        at_s, found = self._conditions
        if time.monotonic() - at_s > CONDITIONS_KEPT_S and (self._looking is None or self._looking.done()):
            self._looking = asyncio.get_running_loop().create_task(self.conditions())
            self._looking.add_done_callback(_seen)
        condition = found.get(backend)
        return condition is not None and condition.breaker == "open"


def _seen(looking: asyncio.Task[Mapping[str, Condition]]) -> None:
    if not looking.cancelled() and looking.exception() is not None:
        logger.debug("the job pool does not tell its conditions: %s", looking.exception())


class RemoteJobDesk:
    """Implements ``JobDesk`` by calls to the coordinator."""

    def __init__(self, actor: ActorHandle[Any]) -> None:
        self._actor = actor

    async def create(self, tenant: str, order: JobOrder) -> Json:
        return await self._ask("create", tenant, order)

    async def get(self, tenant: str, job_id: str) -> Json:
        return await self._ask("get", tenant, job_id)

    async def list(self, tenant: str, page: JobPage) -> Json:
        return await self._ask("list", tenant, page)

    async def cancel(self, tenant: str, job_id: str) -> Json:
        return await self._ask("cancel", tenant, job_id)

    async def estimate(self, tenant: str, order: JobOrder) -> Json:
        return await self._ask("estimate", tenant, order)

    async def costs(self, tenant: str, since: str | None, until: str | None) -> Json:
        return await self._ask("costs", tenant, since, until)

    async def backends(self) -> Json:
        return await self._ask("backends")

    async def force_breaker(self, backend: str, override: Override) -> None:
        await ask(self._actor.desk.remote("force_breaker", backend, override))

    async def _ask(self, method: str, *arguments: Any) -> Json:
        return cast(Json, await ask(self._actor.desk.remote(method, *arguments)))


class QuantumPool:
    """The pool for any Ray job, with or without the database."""

    def __init__(self, actor: ActorHandle[Any]) -> None:
        self._actor = actor

    @classmethod
    def connect(cls) -> QuantumPool:
        """Return the pool of the cluster that this process has joined. Raises Unavailable when there is none."""
        return cls(named(POOL_NAME))

    @classmethod
    def start(cls, settings: PoolSettings) -> QuantumPool:
        """Start a pool on the Ray cluster that this process has joined; it lives until ``stop``.

        Raises:
            QuantumDBError: the journal or a backend cannot be used.
        """
        life = {"lifetime": "detached", "namespace": NAMESPACE, "num_cpus": 0, "max_restarts": -1}
        actor = ray.remote(JobPool).options(name=POOL_NAME, max_concurrency=10_000, **life).remote(settings)
        _get(actor.ready.remote(), START_TIMEOUT_S)
        return cls(actor)

    def submit(
        self,
        circuits: Circuits | Sequence[Circuits],
        *,
        backend: str,
        shots: int,
        deadline_s: float,
        budget_usd: float | None = None,
        budget_shots: int | None = None,
        priority: Priority = "interactive",
        tenant: str = DEFAULT_TENANT,
    ) -> Future[BackendResult]:
        """Run circuits; return a future of their counts, in order.

        Cancelling the future gives the work up; it reaches the provider if nobody else wants the same.

        Args:
            circuits: OpenQASM 3 programs, qiskit circuits, or batches of this library.
            backend: by its name in the settings.
            shots: of each circuit.
            deadline_s: how long the result is worth waiting for.
            budget_usd: the most that it may cost, by the backend's published prices.
            budget_shots: the most shots over all circuits.
            priority: interactive work goes before batch work.
            tenant: who it is for.

        Raises:
            InvalidCircuit: a program or circuit cannot be run. What the future raises: see ``JobPool.run``.
        """
        given = [circuits] if isinstance(circuits, CircuitBatch | QuantumCircuit | str) else list(circuits)
        request = JobRequest(
            key=uuid4().hex,
            backend=backend,
            parts=parts_of(given),
            shots=shots,
            timeout_s=deadline_s,
            priority=priority,
            tenant=tenant,
            limit=SpendingLimit(budget_usd, budget_shots),
        )
        return self._future(request)

    def stop(self) -> None:
        """End a pool that ``start`` started. Jobs at a provider are taken up by the next one on the same journal."""
        _get(self._actor.close.remote(), CALL_TIMEOUT_S)
        ray.kill(self._actor)

    def _future(self, request: JobRequest) -> Future[BackendResult]:
        future: Future[BackendResult] = Future()
        end_s = time.monotonic() + request.timeout_s

        def begin() -> None:
            if not future.cancelled():
                self._actor.run.remote(request).future().add_done_callback(done)

        def done(answer: Future[Any]) -> None:
            error = answer.exception()
            if isinstance(error, RayActorError) and time.monotonic() + RETRY_PAUSE_S < end_s:
                threading.Timer(RETRY_PAUSE_S, begin).start()  # the coordinator is being restarted
                return
            with suppress(InvalidStateError):  # it has been cancelled
                if error is not None:
                    future.set_exception(_told(error))
                else:
                    future.set_result(answer.result())

        def canceled(ended: Future[BackendResult]) -> None:
            if ended.cancelled():
                self._actor.leave.remote(request.key)

        future.add_done_callback(canceled)
        begin()
        return future


def parts_of(circuits: Sequence[Circuits]) -> tuple[CircuitBatch, ...]:
    """Return circuits in the product's own form. Qiskit's go through OpenQASM 3, so both are checked alike.

    Raises InvalidCircuit, naming the circuit.
    """
    parts: list[CircuitBatch] = []
    for own_form, run in groupby(circuits, lambda circuit: isinstance(circuit, CircuitBatch)):
        if own_form:
            parts += cast(Iterator[CircuitBatch], run)
            continue
        sources = (circuit if isinstance(circuit, str) else qasm3.dumps(circuit) for circuit in run)
        parts += to_parts([QasmCircuit(format="qasm3", source=source) for source in sources], MAX_CIRCUIT_QUBITS)
    return tuple(parts)


def _get(reference: Any, timeout_s: float) -> Any:
    try:
        return ray.get(reference, timeout=timeout_s)
    except ray.exceptions.GetTimeoutError:
        raise Unavailable(f"the job pool did not answer within {timeout_s:.3g} s") from None
    except (RayTaskError, RayActorError) as error:
        raise _told(error) from None


def _told(error: BaseException) -> BaseException:
    cause = getattr(error, "cause", None)
    if isinstance(cause, QuantumDBError):
        return cause
    if isinstance(error, RayActorError):
        return ActorLost("the job pool's coordinator died while it worked on this", retry_after_s=1.0)
    return error
