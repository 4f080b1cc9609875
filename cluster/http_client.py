"""Pages and batches of entities over HTTP, for the commands that move data in and out of a running cluster."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

import httpx
import orjson

from quantum_db.client.config import KEY_ENV
from quantum_db.errors import InvalidRequest, QuantumDBError, Unavailable

REQUEST_TIMEOUT_S: Final = 120.0
PATIENCE_S: Final = 60.0
"""How long a cluster that has answered before may be away, or answer 503, until a command gives up."""

_PAUSE_S: Final = 0.5
_TRY_AGAIN: Final = frozenset({429, 502, 503, 504})
_NOT_LET_IN: Final = frozenset({401, 403})
_REFUSED: Final = frozenset({400, 409, 413, 422})


class Refused(QuantumDBError):
    """The cluster will not take what was sent, however often."""

    slug, status, title = "refused", 422, "The cluster refused this"


class ClusterClient:
    """A connection to one cluster. Only calls that may be repeated: what does not answer is asked again for a while."""

    def __init__(self, url: str, patience_s: float = PATIENCE_S) -> None:
        self.url = url
        self._patience_s = patience_s
        self._met = False
        try:
            key = os.environ.get(KEY_ENV)
            headers = {} if key is None else {"api-key": key}
            verify = ssl.create_default_context() if url.startswith("https:") else True  # it heeds SSL_CERT_FILE
            self._http = httpx.Client(
                base_url=url, headers=headers, timeout=REQUEST_TIMEOUT_S, verify=verify, trust_env=False
            )
        except (httpx.InvalidURL, TypeError) as error:
            raise InvalidRequest(f"{url!r} is not a URL: {error}") from error

    def __enter__(self) -> ClusterClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def page(self, cursor: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        """Return entities, and the cursor of those that follow. Raises Unavailable."""
        parameters = {"limit": str(limit)} | ({"cursor": cursor} if cursor is not None else {})
        answer = self._ask("GET", "/api/v2/vectors", params=parameters)
        return answer["vectors"], answer["next"]

    def write(self, bodies: Sequence[bytes]) -> dict[int, str]:
        """Write entities, given as JSON texts; return the places of those that are refused, with the reasons.

        Raises:
            Refused: all together are too much; nothing was written.
            Unavailable: there was no clear answer; some may have been written.
        """
        answer = self._ask("POST", "/api/v2/vectors/batch", content=b'{"vectors":[' + b",".join(bodies) + b"]}")
        if not answer["refused"]:
            return {}
        return {i: item["problem"]["detail"] for i, item in enumerate(answer["items"]) if item["status"] == "refused"}

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        end_s = time.monotonic() + self._patience_s
        while True:
            pause_s = _PAUSE_S
            try:
                response = self._http.request(method, path, **options)
            except httpx.UnsupportedProtocol as error:
                raise InvalidRequest(f"{self.url!r} is not a URL: {error}") from error
            except httpx.HTTPError as error:
                problem = str(error) or type(error).__name__
                if not self._met:
                    raise Unavailable(f"no cluster answers at {self.url}: {problem}") from error
            else:
                self._met = True
                if response.status_code not in _TRY_AGAIN:
                    return self._answer(response)
                problem = _detail(response)
                after = response.headers.get("retry-after", "")
                pause_s = float(after) if after.isdigit() else _PAUSE_S
            if time.monotonic() + pause_s > end_s:
                raise Unavailable(f"the cluster at {self.url} did not answer for {self._patience_s:g} s: {problem}")
            time.sleep(pause_s)

    def _answer(self, response: httpx.Response) -> Any:
        if response.is_success:
            try:
                return orjson.loads(response.content)
            except orjson.JSONDecodeError:
                raise Unavailable(f"what answers at {self.url} is no cluster: its answer is not JSON") from None
        if response.status_code in _REFUSED:
            raise Refused(_detail(response))
        if response.status_code in _NOT_LET_IN:
            raise InvalidRequest(f"the cluster at {self.url} does not let this in (see {KEY_ENV}): {_detail(response)}")
        raise Unavailable(f"the cluster at {self.url} answered {response.status_code}: {_detail(response)}")


def _detail(response: httpx.Response) -> str:
    try:
        return str(orjson.loads(response.content)["detail"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"{response.status_code} {response.text[:200]}".strip()
