"""The adapter against a provider whose connections are dead, slow, broken or lead elsewhere."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from quantum_db.clock import SystemClock
from quantum_db.errors import InvalidSettings, OutcomeUnclear, QuantumDBError, Unavailable
from quantum_db.ionq.backend import IonQBackend
from tests.api.emulator_server import emulator_process, emulator_thread
from tests.api.ionq_jobs import backend_of, labelled, run, submit, survives_pickling
from tests.api.raw_server import http, raw_server


def test_a_dead_provider_is_unavailable_and_nothing_is_unclear() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    backend = backend_of(f"http://127.0.0.1:{port}/v0.4")
    with pytest.raises(Unavailable, match="does not answer") as caught:
        run(backend, labelled([1], 1), 5)
    assert type(caught.value) is Unavailable
    assert survives_pickling(caught.value)


def test_a_provider_that_dies_before_the_submission_is_unavailable_and_nothing_is_unclear() -> None:
    with emulator_thread() as emulator:
        backend = backend_of(emulator)
        assert backend.limits.max_qubits == 20
    with pytest.raises(Unavailable, match="no connection to the provider") as caught:
        submit(backend, labelled([1], 1), 5)
    assert type(caught.value) is Unavailable


def test_a_connection_closed_without_a_word_leaves_a_submission_unclear() -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"GET /v0.4/backends/"):
            connection.sendall(http("200 OK", b'{"qubits": 5}'))

    with raw_server(answer) as (url, seen):
        with pytest.raises(OutcomeUnclear, match="may have been accepted"):
            submit(backend_of(url), labelled([1], 1), 5)
        assert sum(request.startswith(b"POST") for request in seen) == 1


def test_an_answer_that_trickles_is_cut_off_at_the_deadline() -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(100):
            connection.sendall(b" ")
            time.sleep(0.05)

    with raw_server(answer) as (url, _):
        started_s = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            run(backend_of(url), labelled([1], 1), 5, timeout_s=0.5)
        assert time.monotonic() - started_s < 4.0


@pytest.mark.parametrize("headers", [b"", b"Connection: close\r\n"])
def test_an_answer_that_stalls_is_cut_off_at_the_deadline(headers: bytes) -> None:
    released = threading.Event()

    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n" + headers + b"\r\n{")
        released.wait(20.0)

    with raw_server(answer) as (url, _):
        started_s = time.monotonic()
        try:
            with pytest.raises(Unavailable):
                run(backend_of(url), labelled([1], 1), 5, timeout_s=0.4)
            assert time.monotonic() - started_s < 4.0
        finally:
            released.set()


def test_a_redirect_is_not_followed_with_the_key() -> None:
    with raw_server(lambda connection, _: connection.sendall(http("200 OK", b"{}"))) as (elsewhere, elsewhere_saw):

        def answer(connection: socket.socket, _: bytes) -> None:
            connection.sendall(http("302 Found", b"", f"Location: {elsewhere}/backends/simulator"))

        with raw_server(answer) as (url, _), pytest.raises(Unavailable, match="HTTP 302"):
            run(backend_of(url), labelled([1], 1), 5, timeout_s=2.0)
        assert elsewhere_saw == []


@pytest.mark.parametrize("body", [b"", b"[]", b"not json", b'{"qubits": null}', b'{"qubits": "20"}', b'{"qubits": 0}'])
def test_a_provider_that_does_not_describe_its_target_is_unavailable(body: bytes) -> None:
    with (
        raw_server(lambda connection, _: connection.sendall(http("200 OK", body))) as (url, _),
        pytest.raises(Unavailable),
    ):
        run(backend_of(url), labelled([1], 1), 5, timeout_s=1.0)


def test_an_unknown_target_is_a_setting() -> None:
    with emulator_thread() as emulator, pytest.raises(InvalidSettings, match=r"no target 'qpu.fort-1'"):
        _ = backend_of(emulator, target="qpu.fort-1").limits


@pytest.mark.parametrize(
    ("header", "retry_after_s"),
    [
        ("2.5", 2.5),
        ("-3", 0.0),
        ("Fri, 01 Jan 2100 00:00:30 GMT", 30.0),
        ("Fri, 01 Jan 2021 00:00:00 GMT", 0.0),
        ("inf", None),
        ("soon", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, retry_after_s: float | None) -> None:
    class NewYear2100(SystemClock):
        def now_s(self) -> float:
            return 4_102_444_800.0

    def answer(connection: socket.socket, request: bytes) -> None:
        status = "429 Slow" if request.startswith(b"POST") else "200 OK"
        connection.sendall(http(status, b'{"qubits": 5}', f"Retry-After: {header}"))

    with raw_server(answer) as (url, _), pytest.raises(Unavailable) as caught:
        run(backend_of(url, clock=NewYear2100()), labelled([1], 1), 5)
    assert caught.value.retry_after_s == retry_after_s


# --- providers that never come to anything


@pytest.fixture(params=["dead", "hanging", "429", "cut"])
def bad_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A provider that refuses connections, is silent, is always too busy, or breaks off in each answer."""
    faults = {"429": {"effect": "status", "status": 429}, "cut": {"effect": "cut"}}
    if request.param in faults:
        with emulator_process("--control") as emulator:
            emulator.plan(faults[request.param])
            yield emulator.url
        return
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        port = listener.getsockname()[1]
        if request.param == "dead":
            listener.close()
        yield f"http://127.0.0.1:{port}/v0.4"


CALLS: tuple[Callable[[IonQBackend, float], object], ...] = (
    lambda backend, timeout_s: backend.find("k", timeout_s=timeout_s),
    lambda backend, timeout_s: backend.collect("1", [1], 5, timeout_s=timeout_s),
    lambda backend, timeout_s: backend.cancel("1", timeout_s=timeout_s),
    lambda backend, timeout_s: backend.estimate([labelled([1], 1)], 5, timeout_s=timeout_s),
    lambda backend, timeout_s: backend.queue_time_s(timeout_s=timeout_s),
    lambda backend, timeout_s: backend.submit([labelled([1], 1)], 5, job_key="k", timeout_s=timeout_s),
)


def threads_and_sockets() -> tuple[int, int]:
    process = psutil.Process()
    return process.num_threads(), len(process.net_connections("tcp"))


def test_no_call_outlasts_its_deadline_or_leaves_a_thread_or_a_connection_behind(bad_url: str) -> None:
    backend = backend_of(bad_url)

    def fails(call: Callable[[IonQBackend, float], object]) -> None:
        started_s = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer") as caught:
            call(backend, 0.1)
        assert time.monotonic() - started_s < 4.0
        assert survives_pickling(caught.value)

    fails(CALLS[0])
    before = threads_and_sockets()
    for index in range(50):
        fails(CALLS[index % len(CALLS)])
    threads, sockets = threads_and_sockets()
    assert threads <= before[0]
    assert sockets <= before[1]
    backend.close()


def test_a_connection_left_open_is_counted() -> None:
    """The count that the test above relies on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        before = threads_and_sockets()
        with socket.create_connection(listener.getsockname()):
            assert threads_and_sockets()[1] > before[1]
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        assert threads_and_sockets()[0] > before[0]
        stop.set()
        thread.join()


def test_a_submission_that_nobody_answers_is_unclear_at_the_deadline() -> None:
    silent = threading.Event()

    def answer(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"GET /v0.4/backends/"):
            connection.sendall(http("200 OK", b'{"qubits": 5}'))
        else:
            silent.wait(20.0)

    with raw_server(answer) as (url, seen):
        try:
            with pytest.raises(OutcomeUnclear) as caught:
                backend_of(url).submit([labelled([1], 1)], 5, job_key="k", timeout_s=0.4)
        finally:
            silent.set()
    assert survives_pickling(caught.value)
    assert [request.split()[0] for request in seen] == [b"GET", b"POST"]


@pytest.mark.parametrize("call", CALLS, ids=["find", "collect", "cancel", "estimate", "queue time", "submit"])
@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"1", b"not json", b"{}", b'{"jobs": [1], "status": [], "qubits": 1, "average_queue_time": "long"}'],
)
def test_an_answer_that_says_nothing_is_an_error_that_pickles(
    body: bytes, call: Callable[[IonQBackend, float], object]
) -> None:
    with (
        raw_server(lambda connection, _: connection.sendall(http("200 OK", body))) as (url, _),
        pytest.raises(QuantumDBError) as caught,
    ):
        call(backend_of(url), 0.2)
    assert survives_pickling(caught.value)
