"""The way over HTTP: a pool of connections, and problems that become the errors they were made of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

import httpx
import orjson

from quantum_db.client.config import Config
from quantum_db.client.request import Request, Unreached
from quantum_db.client.routes import API
from quantum_db.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    FieldError,
    InvalidRequest,
    InvalidSettings,
    NotFound,
    QuantumDBError,
    Unavailable,
)
from quantum_db.frames import FRAME, frame_of

logger = logging.getLogger(__name__)

KEY_HEADER: Final = "api-key"
IDEMPOTENCY_HEADER: Final = "idempotency-key"
HEALTH: Final = "/healthz"
JSON: Final = "application/json"
PROBLEM: Final = "urn:quantum-db:problem:"

_WITHOUT_PROBLEM: Final[Mapping[int, type[QuantumDBError]]] = {
    400: InvalidRequest,
    404: NotFound,
    408: DeadlineExceeded,
    413: BodyTooLarge,
    422: InvalidRequest,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}
"""What an answer of a proxy means, which tells no problem."""


class HttpTransport:
    """Implements ``Transport`` over HTTP."""

    def __init__(self, config: Config, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Check the URL; connect to nothing yet.

        Args:
            config: its pool, timeouts and key.
            url: of the cluster.
            transport: what requests go through instead of sockets.

        Raises:
            InvalidSettings: it is not a URL.
        """
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, TypeError) as error:
            raise InvalidSettings(f"{url!r} is not a URL: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise InvalidSettings(f"{url!r} is not a URL of a cluster, like http://127.0.0.1:8000")
        self._config = config
        self._url = url
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """See ``Transport.open``. Opens ``min_pool_size`` connections."""
        if self._client is None:
            self._client = self._connected()
            try:
                await self._warm(self._client)
            except BaseException:
                await self.close()
                raise
            self._watch = asyncio.create_task(self._keep_healthy(self._client))

    async def call(self, request: Request) -> Any:
        """See ``Transport.call``."""
        client = self._client
        if client is None:
            raise Unavailable(f"the connections to {self._url} are closed")
        path, headers, query = _addressed(request)
        content = None
        if "body" in request.route.arguments:
            content, headers["content-type"] = body_of(request)
        try:
            async with asyncio.timeout(request.timeout_s):
                response = await client.request(
                    request.route.verb, path, params=query, headers=headers, content=content
                )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unreached(f"no cluster answers at {self._url}: {_told(error)}") from error
        except httpx.HTTPError as error:
            raise Unavailable(f"the cluster at {self._url} did not answer: {_told(error)}") from error
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"the cluster at {self._url} did not answer within {request.timeout_s:.1f} s"
            ) from error
        return decoded(response, self._url)

    async def close(self) -> None:
        """See ``Transport.close``."""
        client, watch = self._client, self._watch
        self._client = self._watch = None
        if watch is not None:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
        if client is not None:
            await client.aclose()

    def _connected(self) -> httpx.AsyncClient:
        config = self._config
        limits = httpx.Limits(
            max_connections=config.max_pool_size,
            max_keepalive_connections=config.max_pool_size,
            keepalive_expiry=config.idle_timeout_s,
        )
        key = config.key
        return httpx.AsyncClient(
            base_url=self._url,
            limits=limits,
            timeout=httpx.Timeout(config.timeout_s, connect=config.connect_timeout_s),
            headers={"accept-encoding": "identity"} | ({} if key is None else {KEY_HEADER: key}),
            trust_env=False,
            transport=self._transport,
        )

    async def _warm(self, client: httpx.AsyncClient) -> None:
        """Have ``min_pool_size`` connections at least, and know that the cluster answers. Raises Unreached."""
        count = max(1, min(self._config.min_pool_size, self._config.max_pool_size))
        timeout_s = self._config.connect_timeout_s
        try:
            answers = await asyncio.gather(*(client.get(HEALTH, timeout=timeout_s) for _ in range(count)))
        except httpx.HTTPError as error:
            raise Unreached(f"no cluster answers at {self._url}: {_told(error)}") from error
        if not answers[0].is_success:
            raise Unreached(f"what answers at {self._url} is no cluster, or not well: {answers[0].status_code}")

    async def _keep_healthy(self, client: httpx.AsyncClient) -> None:
        """Look at the connections now and then: one that is broken is found, and dropped, before a call meets it."""
        while True:
            await asyncio.sleep(self._config.health_check_s)
            try:
                await self._warm(client)
            except Unreached as error:
                logger.warning("health check: %s", error.detail)


def body_of(request: Request) -> tuple[bytes, str]:
    """Return the body of a call and its content type. Only this knows in which form a call's body is sent."""
    body = request.arguments[request.route.arguments.index("body")]
    frame = frame_of(body) if request.method == "insert_batch" else None
    return (encoded(body), JSON) if frame is None else (frame, FRAME)


def encoded(body: object) -> bytes:
    """Return a body as JSON. Raises InvalidRequest."""
    try:
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise InvalidRequest(f"the request is not JSON with 64-bit numbers ({error})") from None


def decoded(response: httpx.Response, url: str) -> Any:
    """Return what was answered. Raises the ``QuantumDBError`` that it tells of."""
    try:
        content: Any = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        content = None
    if response.is_success:
        if content is None:
            raise Unavailable(f"what answers at {url} is no cluster: its answer is not JSON")
        return content
    raise _error(response, content if isinstance(content, dict) else {})


def _error(response: httpx.Response, problem: Mapping[str, Any]) -> QuantumDBError:
    after = response.headers.get("retry-after", "")
    kind = _kind_of(problem) or _WITHOUT_PROBLEM.get(response.status_code, QuantumDBError)
    told = problem.get("detail") or problem.get("title") or response.text[:200] or response.reason_phrase
    return kind(
        str(told) if kind.status == response.status_code else f"{response.status_code}: {told}",
        errors=_field_errors(problem),
        retry_after_s=float(after) if after.isdigit() else None,
    )


def error_of(problem: Mapping[str, Any]) -> QuantumDBError:
    """Return the error that a problem was made of."""
    kind = _kind_of(problem) or QuantumDBError
    return kind(str(problem.get("detail")), errors=_field_errors(problem))


def _field_errors(problem: Mapping[str, Any]) -> list[FieldError]:
    return [FieldError(str(one.get("path")), str(one.get("message"))) for one in problem.get("errors", ())]


def _kind_of(problem: Mapping[str, Any]) -> type[QuantumDBError] | None:
    slug = str(problem.get("type", "")).removeprefix(PROBLEM)
    return next((kind for kind in _kinds(QuantumDBError) if kind.slug == slug), None)


def _kinds(kind: type[QuantumDBError]) -> Iterator[type[QuantumDBError]]:
    """Yield a class and those below it, parents first: of two with one slug the one that the server may have meant."""
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def _addressed(request: Request) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return the path, headers and query parameters of a call."""
    route = request.route
    named = dict(zip(route.arguments, request.arguments, strict=True))
    places = {name: quote(str(value), safe="") for name, value in named.items() if f"{{{name}}}" in route.path}
    query = {name: _text(value) for name, value in named.get("page", {}).items() if value is not None}
    query["collection"] = request.collection
    headers: dict[str, str] = {}
    if request.key is not None:
        headers[IDEMPOTENCY_HEADER] = request.key
    if named.get("expected_version") is not None:
        headers["if-match"] = f'"{named["expected_version"]}"'
    return API + route.path.format(**places), headers, query


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__
