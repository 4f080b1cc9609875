"""An emulator of IonQ's API v0.4 over HTTP: ``python -m quantum_db.ionq.emulator --port 8888``.

Real clients run against it unchanged. Every probability it returns comes from simulating the submitted circuit. The
target ``simulator`` returns exact ones, or under a noise model the frequencies of shots. A ``qpu`` target returns the
frequencies of shots; with ``--noisy-qpus`` it has the noise of the machine of its name, else none, and its
characterization says which. Unknown noise models are refused. With ``--control``, tests can plant faults and read what
was accepted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quantum_db.clock import SystemClock
from quantum_db.errors import InvalidRequest
from quantum_db.ionq.emulated_api import API, add_routes
from quantum_db.ionq.emulated_faults import FaultPlan, FaultRule, kind_of
from quantum_db.ionq.emulated_jobs import Delays, EmulatedJobs, Failure
from quantum_db.ionq.emulated_requests import ApiError, EmulatorLimits
from quantum_db.ionq.emulated_results import ResultStore, Simulate
from quantum_db.ionq.emulated_views import error_body
from quantum_db.ionq.gate_simulator import MAX_QUBITS, simulate
from quantum_db.ionq.pricing import PRICE_MODELS

GRACE_S: Final = 2
"""How long a stopping emulator waits for requests under way, in seconds."""


def create_app(
    jobs: EmulatedJobs,
    *,
    token: str,
    faults: FaultPlan | None = None,
    limits: EmulatorLimits | None = None,
    run: Simulate = simulate,
    seed: int = 0,
    noisy_qpus: bool = False,
    shuffle_results: bool = False,
    control: bool = False,
) -> FastAPI:
    """Return the emulator as an ASGI application for one event loop.

    Args:
        jobs: accepts and keeps the jobs.
        token: the API key that clients must send.
        faults: what goes wrong from the start.
        limits: what one job may hold; the defaults of ``EmulatorLimits`` if None.
        run: the simulator of circuits without noise.
        seed: of the shots that are drawn for jobs that bring no seed, and of the order of shuffled results.
        noisy_qpus: whether ``qpu`` targets have the noise of the machines of their names.
        shuffle_results: whether the circuits of a result come in an order of their own.
        control: whether ``/emulator/faults``, ``/emulator/ledger`` and ``/emulator/reset`` exist.
    """
    app = FastAPI(title="IonQ emulator", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.faults = faults or FaultPlan()
    app.add_middleware(FaultLayer)
    app.add_exception_handler(ApiError, _on_error)
    app.add_exception_handler(HTTPException, _on_error)
    app.add_exception_handler(RequestValidationError, _on_error)
    results = ResultStore(run=run, seed=seed, shuffle=shuffle_results)
    add_routes(
        app,
        jobs,
        results,
        limits=limits or EmulatorLimits(),
        token=token,
        noisy_qpus=noisy_qpus,
        control=control,
    )
    return app


async def _on_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the framework's signature
    """Answer in IonQ's shape, whichever layer refused."""
    if isinstance(error, RequestValidationError):
        wrong = [".".join(map(str, part["loc"])) for part in error.errors()]
        error = ApiError(400, f"these parameters are missing or wrong: {', '.join(wrong)}", tuple(wrong))
    elif isinstance(error, HTTPException):
        error = ApiError(error.status_code, str(error.detail))
    assert isinstance(error, ApiError)
    return Response(orjson.dumps(error_body(error)), error.status, media_type="application/json")


class FaultLayer:
    """Carries out the fault plan around the application; ``/emulator`` itself never fails."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request as the plan has it."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith(f"{API}/"):
            await self._app(scope, receive, send)
            return
        plan: FaultPlan = scope["app"].state.faults
        rule = plan.next(kind_of(scope["method"], path.removeprefix(API)))
        if rule is None:
            await self._app(scope, receive, send)
        elif rule.effect == "fail_job":
            scope.setdefault("state", {})["failure"] = Failure(rule.code, "a planted fault")
            await self._app(scope, receive, send)
        else:
            await self._go_wrong(rule, scope, receive, send)

    async def _go_wrong(self, rule: FaultRule, scope: Scope, receive: Receive, send: Send) -> None:
        answer: list[Message] = []
        if rule.carried_out:

            async def keep(message: Message) -> None:
                answer.append(message)

            await self._app(scope, receive, keep)
        if rule.effect == "status":
            headers = {} if rule.retry_after_s is None else {"Retry-After": f"{rule.retry_after_s:g}"}
            body = orjson.dumps(error_body(ApiError(rule.status, "a planted fault")))
            await Response(body, rule.status, headers, media_type="application/json")(scope, receive, send)
        elif rule.effect == "cut":
            await _cut(send)
        else:
            await asyncio.sleep(rule.hang_s)
            if not rule.carried_out:
                await self._app(scope, receive, send)  # does nothing if the client has left meanwhile
            for message in answer:
                await send(message)


async def _cut(send: Send) -> None:
    """Promise a body, send a part of it and return: the server then closes the connection."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"id": "', "more_body": True})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the emulator until it is stopped; return the exit code."""
    options = _parser().parse_args(arguments)
    token = os.environ.get(options.token_env)
    if not token:
        print(f"the environment variable {options.token_env} must hold the API key of the clients", file=sys.stderr)
        return 2
    try:
        faults = FaultPlan.parse(orjson.loads(options.faults.read_bytes())) if options.faults else None
    except (OSError, orjson.JSONDecodeError, InvalidRequest) as error:
        print(f"--faults {options.faults}: {error}", file=sys.stderr)
        return 2
    jobs = EmulatedJobs(
        SystemClock(),
        delays=Delays(options.submitted_s, options.ready_s, options.started_s),
        listing_lag_s=options.listing_lag_s,
        queue_time_s=options.queue_time_s,
        kept_jobs=options.kept_jobs,
        qpu_price=PRICE_MODELS[options.qpu_price],
    )
    app = create_app(
        jobs,
        token=token,
        faults=faults,
        limits=EmulatorLimits(qubits=options.max_qubits),
        seed=options.seed,
        noisy_qpus=options.noisy_qpus,
        shuffle_results=options.shuffle_results,
        control=options.control,
    )
    listener = socket.create_server((options.host, options.port))
    print(f"IonQ emulator on http://{options.host}:{listener.getsockname()[1]}{API}", flush=True)
    server(app).run(sockets=[listener])
    return 0


def server(app: FastAPI) -> uvicorn.Server:
    """Return the HTTP server for the application; it is run on a socket that already listens."""
    return uvicorn.Server(
        uvicorn.Config(app, access_log=False, log_level="warning", timeout_graceful_shutdown=GRACE_S, lifespan="off")
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m quantum_db.ionq.emulator", description="Emulate IonQ's API v0.4.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; loopback unless told otherwise")
    parser.add_argument("--port", type=int, default=8888, help="port to listen on; 0 takes a free one")
    parser.add_argument("--token-env", default="IONQ_EMULATOR_TOKEN", help="environment variable with the API key")
    parser.add_argument("--submitted-s", type=_seconds, default=0.0, help="how long a job stays submitted")
    parser.add_argument("--ready-s", type=_seconds, default=0.0, help="how long a job stays ready")
    parser.add_argument("--started-s", type=_seconds, default=0.0, help="how long a job stays started")
    parser.add_argument("--listing-lag-s", type=_seconds, default=0.0, help="how long a new job is in no list")
    parser.add_argument("--queue-time-s", type=_seconds, default=0.0, help="what backends tell of their queues")
    parser.add_argument("--kept-jobs", type=int, default=2_000, help="how many jobs are kept")
    parser.add_argument("--max-qubits", type=int, choices=range(1, MAX_QUBITS + 1), default=MAX_QUBITS, metavar="N")
    parser.add_argument(
        "--qpu-price", choices=sorted(PRICE_MODELS), default="braket-forte", help="prices of qpu targets"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the shots that are drawn and of shuffles")
    parser.add_argument("--noisy-qpus", action="store_true", help="qpu targets have the noise of their names")
    parser.add_argument("--shuffle-results", action="store_true", help="circuits of a result in an order of their own")
    parser.add_argument("--faults", type=Path, help="a JSON file with a fault plan")
    parser.add_argument("--control", action="store_true", help="serve /emulator/faults, /ledger and /reset to tests")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 86_400.0:
        raise argparse.ArgumentTypeError("must be from 0 to 86400 seconds")
    return value


if __name__ == "__main__":
    sys.exit(main())
