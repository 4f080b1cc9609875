"""qiskit-ionq's REST client with every wait bounded and every submission sent once.

What is wrong with the original, as of qiskit-ionq 1.1.1: a submission is sent up to five times when the answer is a
504, though the first may have been accepted; reads are repeated for ever; there is no pooling; ``Retry-After`` is
ignored. Here all reads go through one overridden method that never lets the original's decorators see a retriable
error and repeats by a ``RetryPolicy``, and the submission is an undecorated method of its own. Nothing is patched:
other users of qiskit-ionq in the process are not affected.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
import socket
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, cast
from urllib.parse import urlsplit

import numpy as np
import requests
import urllib3
from qiskit_ionq.ionq_client import IonQClient
from requests.adapters import HTTPAdapter

from quantum_db.errors import DeadlineExceeded, OutcomeUnclear, Unavailable
from quantum_db.ionq.payload import payload
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.ports import Clock

MAX_BODY_BYTES: Final = 256 * 1024 * 1024
_CHUNK_BYTES: Final = 256 * 1024
_QUOTED_CHARS: Final = 300

_TRANSIENT: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


class RefusedError(Exception):
    """The provider's answer is a final no."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class BoundedClient(IonQClient):
    """An ``IonQClient`` that may be shared by threads. Calls are made on what ``until`` returns."""

    def __init__(
        self,
        token: str,
        url: str,
        *,
        clock: Clock,
        rng: np.random.Generator,
        retry: RetryPolicy,
        sleep: Callable[[float], None] = time.sleep,
        call_timeout_s: float = 30.0,
        connections: int = 16,
    ) -> None:
        """Open no connection yet.

        Args:
            token: the API key.
            url: the API's base, with its version.
            clock: for deadlines.
            rng: draws the pauses between attempts.
            retry: how often a read is tried. A submission never is again.
            sleep: waits between attempts.
            call_timeout_s: the longest that one HTTP call may take.
            connections: how many are kept open; one for each thread is enough.
        """
        super().__init__(token, url)
        self._clock = clock
        self._rng = rng
        self._retry = retry
        self._sleep = sleep
        self._call_timeout_s = call_timeout_s
        self._deadline_s = float("-inf")
        self._session = requests.Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # a cookie jar is not thread-safe
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=2, pool_maxsize=connections, max_retries=0))

    def __repr__(self) -> str:
        return f"BoundedClient({self._url!r})"

    def until(self, deadline_s: float) -> BoundedClient:
        """Return this client, with the same connections, bound to a deadline on the monotonic clock."""
        bound = copy.copy(self)
        bound._deadline_s = deadline_s
        return bound

    @property
    def deadline_s(self) -> float:
        """The deadline on the monotonic clock."""
        return self._deadline_s

    @property
    def left_s(self) -> float:
        """Seconds to the deadline; negative after it."""
        return self._deadline_s - self._clock.monotonic_s()

    def pause(self, longest_s: float) -> None:
        """Wait, but at most for half of the time that is left, so that there is time to act on what comes after."""
        self._sleep(max(0.0, min(longest_s, self.left_s / 2.0)))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def submit_job(self, job: Any) -> dict[str, Any]:
        """Send a submission exactly once.

        Raises:
            DeadlineExceeded: no time was left; nothing was sent.
            Unavailable: it was certainly not accepted, and may be later.
            RefusedError: it was refused.
            OutcomeUnclear: it may have been accepted.
        """
        body = payload(job)
        self._resolve_host()
        try:
            response = self._send("POST", self.make_path("jobs"), data=body)
        except requests.RequestException as error:
            if _never_sent(error):
                raise Unavailable(f"no connection to the provider: {self.clean(error)}") from error
            raise _unclear(self.clean(error)) from error
        status = response.status_code
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise Unavailable(
                f"the provider takes no more submissions now: {self._reason(response)}",
                retry_after_s=self._retry_after_s(response),
            )
        if status in _TRANSIENT or status >= 500:
            raise _unclear(self._reason(response), self._retry_after_s(response))
        if status >= 300:
            raise RefusedError(status, self._reason(response))
        try:
            accepted = response.json()
        except requests.JSONDecodeError as error:
            raise _unclear("the answer is not JSON") from error
        if not isinstance(accepted, dict) or not isinstance(accepted.get("id"), str):
            raise _unclear("the answer names no job")
        return accepted

    def get_with_retry(
        self,
        req_path: str,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,  # noqa: ARG002
        timeout: float = 30,  # noqa: ARG002
    ) -> requests.Response:
        """Read, and by the retry policy repeat what may pass. All reads of the original come through here.

        Raises:
            Unavailable: the provider does not answer, or not well; or it asks to come back after the deadline.
            RefusedError: the answer is a final no.
        """
        return self._repeat("GET", req_path, params=params)

    def retrieve_job(self, job_id: str) -> dict[str, Any]:
        """Return a job. Raises what ``get_with_retry`` raises."""
        return self._json(self.get_with_retry(self.make_path("jobs", job_id)))

    def get_results(
        self, results_url: str, sharpen: bool | None = None, extra_query_params: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return results, with keys in the order of the JSON. Raises what ``get_with_retry`` raises."""
        try:
            return cast(dict[str, Any], super().get_results(results_url, sharpen, extra_query_params))
        except ValueError as error:
            raise Unavailable("the provider's answer is not JSON") from error

    def cancel_job(self, job_id: str) -> dict[str, Any]:
        """Cancel a job. Idempotent. Raises what ``get_with_retry`` raises; RefusedError 409 when the job has ended."""
        return self._json(self._repeat("PUT", self.make_path("jobs", job_id, "status", "cancel")))

    def delete_job(self, job_id: str) -> dict[str, Any]:
        """Delete a job. Idempotent. Raises what ``get_with_retry`` raises."""
        return self._json(self._repeat("DELETE", self.make_path("jobs", job_id)))

    def put(self, *path_parts: str, json_body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Put a body. Idempotent. Raises what ``get_with_retry`` raises."""
        return self._json(self._repeat("PUT", self.make_path(*path_parts), json=json_body))

    def post(self, *path_parts: str, json_body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Post a body once. Raises Unavailable or RefusedError."""
        try:
            response = self._send("POST", self.make_path(*path_parts), json=json_body)
        except requests.RequestException as error:
            raise Unavailable(f"the provider does not answer: {self.clean(error)}") from error
        if response.status_code in _TRANSIENT or response.status_code >= 500:
            raise Unavailable(self._reason(response), retry_after_s=self._retry_after_s(response))
        if response.status_code >= 300:
            raise RefusedError(response.status_code, self._reason(response))
        return self._json(response)

    def backend(self, target: str) -> dict[str, Any]:
        """Return a backend. Raises what ``get_with_retry`` raises."""
        return self._json(self.get_with_retry(self.make_path("backends", target)))

    def estimate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return an estimate, as it came. Raises what ``get_with_retry`` raises."""
        return self._json(self.get_with_retry(self.make_path("jobs", "estimate"), params=params))

    def cost(self, job_id: str) -> dict[str, Any]:
        """Return what a job costs. Raises what ``get_with_retry`` raises."""
        return self._json(self.get_with_retry(self.make_path("jobs", job_id, "cost")))

    def list_jobs(self, params: Mapping[str, Any], cursor: str | None) -> tuple[list[dict[str, Any]], str | None]:
        """Return a page of jobs, and the cursor of the next one if there is one. Raises what ``get_with_retry`` raises.

        Raises Unavailable also for a page that is none: taken for an empty one, it would say that there is no job.
        """
        where = params if cursor is None else {**params, "next": cursor}
        page = self._json(self.get_with_retry(self.make_path("jobs"), params=where))
        jobs, following = page.get("jobs"), page.get("next")
        if not isinstance(jobs, list) or not all(isinstance(job, dict) and "id" in job for job in jobs):
            raise Unavailable("the provider's list of jobs cannot be read")
        return jobs, following if following is None else str(following)

    def clean(self, text: object) -> str:
        """Return a text that came from outside, short and without the API key."""
        return str(text).replace(str(self._token), "***")[:_QUOTED_CHARS]

    def _repeat(self, method: str, url: str, **options: Any) -> requests.Response:
        attempt = 1
        problem = "no time was left to ask"
        while True:
            retry_after_s = None
            try:
                response = self._send(method, url, **options)
            except requests.RequestException as error:
                problem = self.clean(error)
            except DeadlineExceeded as error:
                raise Unavailable(f"the provider does not answer: {problem}") from error
            else:
                status = response.status_code
                if status < 300:
                    return response
                # Cloudflare, which stands before the API, answers 409 to a read when it cannot resolve a name.
                if not (status in _TRANSIENT or status >= 500 or (method == "GET" and status == HTTPStatus.CONFLICT)):
                    raise RefusedError(status, self._reason(response))
                problem = self._reason(response)
                retry_after_s = self._retry_after_s(response)
            wait_s = self._retry.pause_s(attempt, self._rng, retry_after_s)
            if not self._retry.may_retry(attempt) or self.left_s <= wait_s:
                raise Unavailable(f"the provider does not answer: {problem}", retry_after_s=retry_after_s)
            self._sleep(wait_s)
            attempt += 1

    def _resolve_host(self) -> None:
        """Have the name server asked before the deadline is looked at: its slowness is in no timeout of requests.

        A submission must not leave later than it may: whoever looks for it counts on that. What this finds is cached.
        """
        where = urlsplit(self._url)
        with contextlib.suppress(OSError):  # the request itself will say so
            socket.getaddrinfo(where.hostname, where.port or where.scheme)

    def _send(self, method: str, url: str, **options: Any) -> requests.Response:
        """Make one call within the deadline and read its whole body."""
        left_s = min(self.left_s, self._call_timeout_s)
        if left_s <= 0.0:
            raise DeadlineExceeded("the deadline passed before a call to the provider")
        end_s = self._clock.monotonic_s() + left_s
        response = self._session.request(
            method,
            url,
            headers=self.api_headers,
            auth=_as_it_is,
            timeout=urllib3.Timeout(total=left_s),  # type: ignore[arg-type]  # requests takes it; its types do not say so
            stream=True,
            allow_redirects=False,  # the key goes to the configured host and nowhere else
            **options,
        )
        try:
            body = self._read(response, end_s)
        except urllib3.exceptions.HTTPError as error:
            response.close()
            raise requests.ConnectionError(f"the answer broke off: {type(error).__name__}") from error
        except requests.RequestException:
            response.close()
            raise
        response.raw.release_conn()
        response.raw = io.BytesIO(body)
        return response

    def _read(self, response: requests.Response, end_s: float) -> bytes:
        """Return the body. The timeout of requests is for each packet; this one is for all of them."""
        chunks: list[bytes] = []
        size = 0
        while True:
            left_s = end_s - self._clock.monotonic_s()
            if left_s <= 0.0:
                raise requests.ReadTimeout("the answer did not end in time")
            connection = response.raw.connection
            if connection is not None and connection.sock is not None:  # else the whole body is here, or close follows
                connection.sock.settimeout(left_s)
            chunk = response.raw.read1(_CHUNK_BYTES, decode_content=True)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise requests.ConnectionError(f"the answer is larger than {MAX_BODY_BYTES} bytes")

    def _json(self, response: requests.Response) -> dict[str, Any]:
        try:
            body = response.json()
        except requests.JSONDecodeError as error:
            raise Unavailable("the provider's answer is not JSON") from error
        if not isinstance(body, dict):
            raise Unavailable("the provider's answer is not a JSON object")
        return body

    def _reason(self, response: requests.Response) -> str:
        try:
            body = response.json()
        except requests.JSONDecodeError:
            body = None
        message = body.get("message") if isinstance(body, dict) else None
        return self.clean(f"HTTP {response.status_code}: {message or response.reason}")

    def _retry_after_s(self, response: requests.Response) -> float | None:
        """Return the header in seconds from now; it may be a number or a date."""
        value = response.headers.get("Retry-After", "")
        try:
            seconds = float(value)
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - self._clock.now_s()
            except ValueError:
                return None
        return max(0.0, seconds) if math.isfinite(seconds) else None


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Authorize nothing: the header is set. Without this, an entry in ~/.netrc would replace it."""
    return request


def _unclear(why: str, retry_after_s: float | None = None) -> OutcomeUnclear:
    return OutcomeUnclear(f"the job may have been accepted: {why}", retry_after_s=retry_after_s)


def _never_sent(error: requests.RequestException) -> bool:
    """Whether the connection was never made."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(
        reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.NameResolutionError
    )
