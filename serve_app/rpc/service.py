"""The service as gRPC runs it: every method passes the gate, within its limits, and tells of errors as problems."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from grpc import aio
from prometheus_client import CollectorRegistry, Counter, Histogram

from quantum_db.access.policy import action_of
from quantum_db.access.principal import Principal
from quantum_db.access.sizes import check_sizes
from quantum_db.errors import Overloaded, QuantumDBError
from serve_app.gate import Call, Gate
from serve_app.request_log import BUCKETS_S, Lines
from serve_app.rpc import quantum_db_pb2 as pb
from serve_app.rpc.callers import REQUEST_ID, Caller, code_of, detail_of, trailers_of
from serve_app.rpc.calls import METHODS, SERVICE, STREAM, Asked, Backed, Method, operation_of
from serve_app.rpc.messages import decoded, granted_bytes, message_of
from serve_app.rpc.stream import Intake

logger = logging.getLogger(__name__)

Context = aio.ServicerContext[bytes, bytes]
Work = Callable[[Caller], Awaitable[Message]]

LEFT: Final = "CANCELLED"
"""The code in the metrics of calls whose callers have left."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What holds for all callers.

    Attributes:
        max_bytes: of a message.
        max_calls: at the same time; more are refused.
        behind_proxy: whether a proxy stands in front, whose word on callers' addresses is taken.
    """

    max_bytes: int
    max_calls: int
    behind_proxy: bool = False


class Service:
    """All methods of ``quantum_db.proto``."""

    def __init__(
        self, backed: Backed, gate: Gate, bounds: Bounds, registry: CollectorRegistry, lines: Lines | None = None
    ) -> None:
        """Answer from ``backed``. ``registry`` is that of this process's metrics; ``lines`` get one for each call."""
        self._backed, self._gate, self._bounds, self._lines = backed, gate, bounds, lines
        self._calls = 0
        self._counted = Counter("grpc_requests", "Calls answered", ["method", "code"], registry=registry)
        self._seconds = Histogram(
            "grpc_request_seconds", "Time to answer", ["method"], registry=registry, buckets=BUCKETS_S
        )

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return what a server is to run. Messages come as bytes, and are decoded when their caller is let in."""
        found: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(partial(self._unary, name, method))
            for name, method in METHODS.items()
        }
        found[STREAM] = grpc.stream_unary_rpc_method_handler(self._stream)
        return grpc.method_handlers_generic_handler(SERVICE.full_name, found)

    async def _unary(self, name: str, method: Method, raw: bytes, context: Context) -> bytes:
        action = action_of(operation_of(name))

        async def work(caller: Caller) -> Message:
            asked: list[Asked] = []

            def about() -> str:
                return asked[0].about() if asked else ""

            async with self._admitted(caller, action, about) as principal:
                message = decoded(method.request, raw, granted_bytes(principal.sizes, self._bounds.max_bytes))
                asked.append(method.asked(message, caller.key, principal.tenant))
                check_sizes(action, asked[0].body, principal.sizes)
                return message_of(method.response, await method.call(self._backed, asked[0]))

        return await self._answered(name, context, work)

    async def _stream(self, messages: AsyncIterable[bytes], context: Context) -> bytes:
        action = action_of(operation_of(STREAM))

        async def work(caller: Caller) -> Message:
            def admission(about: list[str]) -> AbstractAsyncContextManager[Principal]:
                return self._admitted(caller, action, lambda: "".join(about))

            intake = Intake(messages, self._backed.api, caller, self._bounds.max_bytes)
            return message_of(pb.InsertStreamResponse, await intake.run(admission))

        return await self._answered(STREAM, context, work)

    @asynccontextmanager
    async def _admitted(self, caller: Caller, action: str, about: Callable[[], str]) -> AsyncIterator[Principal]:
        call = Call(action, caller.headers, caller.peer, caller.request_id, about)
        async with self._gate.admitted(call) as principal:
            caller.principal = principal
            yield principal

    async def _answered(self, name: str, context: Context, work: Work) -> bytes:
        """Do the work of a call and return its answer, or end it with the code that tells of an error."""
        metadata: Any = context.invocation_metadata() or ()
        caller = Caller.of(metadata, context.peer(), self._bounds.behind_proxy)
        start_s = time.perf_counter()
        code = LEFT
        self._calls += 1
        try:
            answer, failure = await self._outcome(caller, work)
            code = (grpc.StatusCode.OK if failure is None else code_of(failure)).name
        finally:
            self._calls -= 1
            self._counted.labels(name, code).inc()
            seconds = time.perf_counter() - start_s
            self._seconds.labels(name).observe(seconds)
            if self._lines is not None:
                self._lines.note(caller.request_id, f"gRPC {name}", code, seconds, caller.principal)
        if failure is not None:
            await context.abort(code_of(failure), detail_of(failure), trailers_of(failure, caller))
        context.set_trailing_metadata(((REQUEST_ID, caller.request_id),))
        return answer

    async def _outcome(self, caller: Caller, work: Work) -> tuple[bytes, QuantumDBError | None]:
        try:
            if self._calls > self._bounds.max_calls:
                raise Overloaded(f"more than {self._bounds.max_calls} calls are being answered", retry_after_s=1.0)
            return (await work(caller)).SerializeToString(), None
        except QuantumDBError as error:
            return b"", error
        except Exception:  # the last line of defence: logged whole, told to the caller without details
            logger.exception("gRPC call %s failed", caller.request_id)
            return b"", QuantumDBError("an unexpected error; see the server's log")


def server_of(service: Service, bounds: Bounds) -> aio.Server:
    """Return a server of the service that has no port yet."""
    options = [
        ("grpc.max_receive_message_length", bounds.max_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # or two clusters would share a port, and each get half of the calls
    ]
    server = aio.server(options=options)
    server.add_generic_rpc_handlers((service.handlers(),))
    return server
