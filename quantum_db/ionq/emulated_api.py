"""The routes of the emulator: HTTP in, a checked call of ``EmulatedJobs``, IonQ's JSON out."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from starlette.requests import ClientDisconnect

from quantum_db.circuits.noise import IDEAL
from quantum_db.errors import InvalidRequest
from quantum_db.ionq import emulated_views as views
from quantum_db.ionq.emulated_faults import FaultPlan
from quantum_db.ionq.emulated_jobs import EmulatedJobs, JobFilter, SessionLimits, Status
from quantum_db.ionq.emulated_noise import QPU_NOISE
from quantum_db.ionq.emulated_requests import SIMULATOR, SINGLE, ApiError, EmulatorLimits, parse_job
from quantum_db.ionq.emulated_results import ResultStore

API: Final = "/v0.4"
CONTROL: Final = "/emulator"
MAX_PAGE: Final = 1_000
_INLINE_BYTES: Final = 16 * 1024  # parsing more than this would hold up other requests

Page = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Count = Annotated[int, Query(ge=0, le=1_000_000_000)]


def add_routes(
    app: FastAPI,
    jobs: EmulatedJobs,
    results: ResultStore,
    *,
    limits: EmulatorLimits,
    token: str,
    noisy_qpus: bool,
    control: bool,
) -> None:
    """Add the API to the application, and with ``control`` the routes for tests."""
    api = _Api(jobs, results, limits, token, noisy_qpus)
    app.include_router(api.public_routes(), prefix=API)
    app.include_router(api.routes(), prefix=API)
    if control:
        app.include_router(api.control_routes(), prefix=CONTROL)


class _Api:
    """The routes, over the jobs and their results."""

    def __init__(
        self, jobs: EmulatedJobs, results: ResultStore, limits: EmulatorLimits, token: str, noisy_qpus: bool
    ) -> None:
        self._jobs = jobs
        self._results = results
        self._limits = limits
        self._noisy_qpus = noisy_qpus
        self._authorization = f"apiKey {token}".encode()
        self._since_s = jobs.clock.now_s()

    def public_routes(self) -> APIRouter:
        """Return the routes that need no key: qiskit-ionq asks for a backend's qubits without one."""
        router = APIRouter()
        router.add_api_route("/backends", self.backends)
        router.add_api_route("/backends/{backend}", self.backend)
        return router

    def routes(self) -> APIRouter:
        """Return the routes that need the key."""
        router = APIRouter(dependencies=[Depends(self.authorize)])
        router.add_api_route("/backends/{backend}/characterizations", self.characterizations)
        router.add_api_route("/backends/{backend}/characterizations/{uuid}", self.characterization)
        router.add_api_route("/jobs", self.submit, methods=["POST"])
        router.add_api_route("/jobs", self.list_jobs)
        router.add_api_route("/jobs/estimate", self.estimate)  # before {job_id}, which would take it
        router.add_api_route("/jobs/{job_id}", self.job)
        router.add_api_route("/jobs/{job_id}", self.delete, methods=["DELETE"])
        router.add_api_route("/jobs/{job_id}/status/cancel", self.cancel, methods=["PUT"])
        router.add_api_route("/jobs/{job_id}/cost", self.cost)
        router.add_api_route("/jobs/{job_id}/results/probabilities", self.probabilities)
        router.add_api_route("/jobs/{job_id}/results/probabilities/aggregated", self.aggregated)
        router.add_api_route("/jobs/{job_id}/artifacts/{artifact}", self.artifact)
        router.add_api_route("/sessions", self.open_session, methods=["POST"])
        router.add_api_route("/sessions", self.list_sessions)
        router.add_api_route("/sessions/{session_id}", self.session)
        router.add_api_route("/sessions/{session_id}/end", self.end_session, methods=["POST"])
        router.add_api_route("/sessions/{session_id}/jobs", self.session_jobs)
        return router

    def control_routes(self) -> APIRouter:
        """Return the routes for tests."""
        router = APIRouter(dependencies=[Depends(self.authorize)])
        router.add_api_route("/faults", self.set_faults, methods=["PUT"])
        router.add_api_route("/faults", self.get_faults)
        router.add_api_route("/ledger", self.ledger)
        router.add_api_route("/reset", self.reset, methods=["POST"])
        return router

    async def authorize(self, request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if not secrets.compare_digest(given, self._authorization):
            raise ApiError(401, "the header 'Authorization: apiKey ...' is missing or wrong")

    async def backends(self) -> Response:
        return _json([self._backend(name) for name in views.BACKENDS])

    async def backend(self, backend: str) -> Response:
        return _json(self._backend(_known(backend)))

    def _backend(self, name: str) -> views.Json:
        return views.backend_body(name, self._qubits(name), self._jobs.queue_time_s, self._jobs.clock.now_s())

    def _qubits(self, backend: str) -> int:
        noisy = self._noisy_qpus and backend != SIMULATOR
        return min(self._limits.qubits, self._limits.noisy_qubits) if noisy else self._limits.qubits

    async def characterizations(self, backend: str, limit: Page = 10) -> Response:  # noqa: ARG002 - there is only one
        # The simulator has none at IonQ either.
        found = [] if _known(backend) == SIMULATOR else [self._characterization(backend)]
        return _json({"characterizations": found, "pages": 0})

    async def characterization(self, backend: str, uuid: str) -> Response:
        if uuid != views.characterization_id(_known(backend)) or backend == SIMULATOR:
            raise ApiError(404, "there is no such characterization")
        return _json(self._characterization(backend))

    def _characterization(self, backend: str) -> views.Json:
        noise = QPU_NOISE[backend] if self._noisy_qpus else IDEAL
        return views.characterization_body(backend, self._qubits(backend), self._since_s, noise)

    async def submit(self, request: Request) -> Response:
        body = await _body(request, self._limits.body_bytes)

        def parse() -> Any:
            return parse_job(_parsed(body), self._limits, views.BACKENDS, noisy_qpus=self._noisy_qpus)

        spec = parse() if len(body) <= _INLINE_BYTES else await asyncio.to_thread(parse)
        job = self._jobs.submit(spec, failure=getattr(request.state, "failure", None))
        return _json(views.created_body(job, self._jobs.clock.monotonic_s()), 201)

    async def list_jobs(
        self,
        request: Request,
        ids: Annotated[list[str] | None, Query()] = None,
        status: Status | None = None,
        target: str = "",
        session_id: str | None = None,
        parent_job_id: str | None = None,
        limit: Page = 100,
    ) -> Response:
        now_s = self._jobs.clock.monotonic_s()
        if request.query_params.get("submitter_id", views.SUBMITTER) != views.SUBMITTER:
            return _json({"jobs": [], "next": None})
        cursor = request.query_params.get("next")
        if cursor is not None and not cursor.isdecimal():
            raise ApiError(400, "next must be what an earlier page gave", ("next",))
        if parent_job_id is not None:
            return _json(self._children(parent_job_id, int(cursor or 0), limit, now_s))
        wanted = JobFilter(
            ids=frozenset(part for value in ids or [] for part in value.split(",") if part),
            status=status,
            targets=frozenset(part for part in target.split(",") if part),
            session_id=session_id,
        )
        found, following = self._jobs.select(wanted, limit=limit, before=None if cursor is None else int(cursor))
        return _json(
            {
                "jobs": [views.job_body(job, now_s) for job in found],
                "next": None if following is None else str(following),
            }
        )

    def _children(self, job_id: str, first: int, limit: int, now_s: float) -> views.Json:
        """Return a page of the jobs of a job's circuits."""
        job, _ = self._jobs.find(job_id)
        count = len(job.spec.circuits) if job.spec.multi and self._jobs.is_listed(job) else 0
        end = min(first + limit, count)
        children = [views.job_body(job, now_s, circuit) for circuit in range(first, end)]
        return {"jobs": children, "next": str(end) if end < count else None}

    async def job(self, job_id: str) -> Response:
        job, circuit = self._jobs.find(job_id)
        return _json(views.job_body(job, self._jobs.clock.monotonic_s(), circuit))

    async def cancel(self, job_id: str) -> Response:
        return _json({"id": self._jobs.cancel(job_id).id, "status": "canceled"})

    async def delete(self, job_id: str) -> Response:
        self._jobs.delete(job_id)
        return _json({"id": job_id, "status": "deleted"})

    async def cost(self, job_id: str) -> Response:
        job, circuit = self._jobs.find(job_id)
        return _json(views.cost_body(job, self._jobs.clock.monotonic_s(), self._jobs.cost_usd(job, circuit)))

    async def probabilities(self, job_id: str, sharpen: bool = False) -> Response:
        _refuse_sharpen(sharpen)
        job, circuit = self._jobs.find(job_id)
        if job.spec.multi and circuit is None:
            raise ApiError(404, "a job of several circuits has its results under results/probabilities/aggregated")
        return await self._result(job_id)

    async def aggregated(self, job_id: str, sharpen: bool = False) -> Response:
        _refuse_sharpen(sharpen)
        job, circuit = self._jobs.find(job_id)
        if not job.spec.multi or circuit is not None:
            raise ApiError(404, "a job of one circuit has its results under results/probabilities")
        return await self._result(job_id)

    async def artifact(self, job_id: str, artifact: str) -> Response:
        self._jobs.find(job_id)
        if artifact != views.artifact_id(job_id):
            raise ApiError(404, "the job has no such artifact")
        return await self._result(job_id)

    async def _result(self, job_id: str) -> Response:
        job, circuit = self._jobs.find(job_id)
        status = job.status(self._jobs.clock.monotonic_s())
        if status != "completed":
            raise ApiError(404, f"the job is {status}; it has no results")
        part = self._results.of_job(job) if circuit is None else self._results.of_circuit(job, circuit)
        return Response(await part, media_type="application/json")

    async def estimate(
        self,
        backend: str,
        job_type: Annotated[str, Query(alias="type")] = SINGLE,
        qubits: Count = 25,
        shots: Count = 1000,
        one_qubit_gates: Annotated[Count, Query(alias="1q_gates")] = 0,
        two_qubit_gates: Annotated[Count, Query(alias="2q_gates")] = 0,
        error_mitigation: bool = False,
    ) -> Response:
        price = self._jobs.price_of(_known(backend))
        context = {
            "backend": backend,
            "type": job_type,
            "qubits": qubits,
            "shots": shots,
            "1q_gates": one_qubit_gates,
            "2q_gates": two_qubit_gates,
            "error_mitigation": error_mitigation,
        }
        cost_usd = price.cost_usd(1, shots, one_qubit_gates, two_qubit_gates)
        return _json(views.estimate_body(context, price, cost_usd, self._jobs))

    async def open_session(self, request: Request) -> Response:
        payload = _parsed(await _body(request, self._limits.body_bytes))
        if not isinstance(payload, dict):
            raise ApiError(400, "the body must be a JSON object")
        backend = payload.get("backend")
        if backend not in views.BACKENDS:
            raise ApiError(400, f"backend must be one of {', '.join(views.BACKENDS)}", ("backend",))
        session = self._jobs.open_session(backend, _session_limits(payload.get("settings") or {}))
        return _json(views.session_body(session, active=True), 201)

    async def list_sessions(self, active: bool | None = None) -> Response:
        bodies = [views.session_body(session, self._jobs.is_active(session)) for session in self._jobs.sessions()]
        found = [body for body in bodies if active is None or body["active"] == active]
        return _json({"organization_id": views.SUBMITTER, "sessions": found})

    async def session(self, session_id: str) -> Response:
        session = self._jobs.session(session_id)
        return _json(views.session_body(session, self._jobs.is_active(session)))

    async def end_session(self, session_id: str) -> Response:
        return _json(views.session_body(self._jobs.end_session(session_id), active=False))

    async def session_jobs(self, request: Request, session_id: str, limit: Page = 100) -> Response:
        self._jobs.session(session_id)
        return await self.list_jobs(request, session_id=session_id, limit=limit)

    async def set_faults(self, request: Request) -> Response:
        try:
            request.app.state.faults = FaultPlan.parse(_parsed(await _body(request, self._limits.body_bytes)))
        except InvalidRequest as error:
            raise ApiError(400, error.detail) from None
        return await self.get_faults(request)

    async def get_faults(self, request: Request) -> Response:
        return _json(request.app.state.faults.describe())

    async def ledger(self) -> Response:
        return _json(views.ledger_body(self._jobs))

    async def reset(self, request: Request) -> Response:
        self._jobs.reset()
        self._results.reset()
        request.app.state.faults = FaultPlan()
        return _json({"status": "reset"})


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


async def _body(request: Request, limit: int) -> bytes:
    """Return the request's body. Raises ApiError with status 413 before more than ``limit`` bytes are held."""
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise ApiError(413, f"the body is larger than {limit} bytes")
            chunks.append(chunk)
    except ClientDisconnect:
        raise ApiError(400, "the client left before its request was complete") from None
    return b"".join(chunks)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None


def _known(backend: str) -> str:
    if backend not in views.BACKENDS:
        raise ApiError(404, f"there is no backend {backend[:64]!r}; there are {', '.join(views.BACKENDS)}")
    return backend


def _refuse_sharpen(sharpen: bool) -> None:
    if sharpen:
        raise ApiError(400, "sharpen is not emulated: a circuit runs in one variant only", ("sharpen",))


def _session_limits(settings: Any) -> SessionLimits:
    if not isinstance(settings, dict) or set(settings) - {"job_count_limit", "duration_limit_min", "cost_limit"}:
        raise ApiError(400, "settings may hold job_count_limit, duration_limit_min and cost_limit", ("settings",))
    cost = settings.get("cost_limit")
    if cost is not None and (not isinstance(cost, dict) or cost.get("unit", "usd") != "usd"):
        raise ApiError(400, "settings.cost_limit must be an object with value and the unit usd", ("settings",))
    limits = (settings.get("job_count_limit"), settings.get("duration_limit_min"), (cost or {}).get("value"))
    for value in limits:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            raise ApiError(400, "a limit of a session must be a number that is not negative", ("settings",))
    return SessionLimits(*limits)
