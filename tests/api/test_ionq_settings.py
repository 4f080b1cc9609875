"""The adapter's settings, and that its API key stays where it belongs."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from quantum_db.errors import InvalidSettings, JobFailed, QuantumDBError, Unavailable
from quantum_db.ionq.backend import IonQBackend
from quantum_db.ionq.target import Target, refuse_dotenv
from tests.api.emulator_server import TOKEN, Emulator
from tests.api.ionq_jobs import FORTE, backend_of, labelled, run
from tests.api.raw_server import http, raw_server


def test_the_key_is_in_no_error_no_repr_and_no_log(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def echo(status: str, connection: socket.socket, request: bytes) -> None:
        """Give the request back, as a careless proxy may, key and all."""
        if request.startswith(b"GET /v0.4/backends/"):
            connection.sendall(http("200 OK", b'{"qubits": 5}'))
        else:
            connection.sendall(http(status, b'{"message": "%s"}' % request.replace(b"\r\n", b" ")[:900]))

    texts = []
    for status in ("400 Bad Request", "401 Unauthorized", "429 Too Many Requests", "503 Unavailable"):
        with raw_server(partial(echo, status)) as (url, seen):
            backend = backend_of(url)
            with pytest.raises(QuantumDBError) as caught:
                run(backend, labelled([1], 1), 5, timeout_s=1.0)
            assert any(TOKEN.encode() in request for request in seen)
        error: BaseException | None = caught.value
        while error is not None:
            texts += [str(error), repr(error)]
            error = error.__cause__ or error.__context__
        texts += [repr(backend), str(pickle.dumps(caught.value)), str(caught.value.problem())]
    emulator.plan({"effect": "cut", "request": "submit"})
    with pytest.raises(Unavailable) as caught:
        run(backend_of(emulator), labelled([1], 1), 5, timeout_s=1.0)
    texts += [str(caught.value), repr(caught.value), caplog.text]
    assert "***" in "".join(texts)
    assert TOKEN not in "".join(texts)


def test_a_wrong_key_is_refused(emulator: Emulator) -> None:
    backend = backend_of(emulator, token="wrong")
    with pytest.raises(JobFailed, match="refused the job: HTTP 401"):
        run(backend, labelled([1], 1), 5)


def test_a_netrc_does_not_replace_the_key(
    backend: IonQBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert run(backend, labelled([1], 1), 5).counts == ({1: 5},)


# --- settings


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"url": "https://api.ionq.co"}, "must end with the API's version"),
        ({"url": "ftp://api.ionq.co/v0.4"}, "must end with the API's version"),
        ({"url": "https://api.ionq.co/v0.4?x=1"}, "must end with the API's version"),
        ({"token": ""}, "is empty"),
        ({"token": f"{TOKEN}\n"}, "cannot be in a header"),
        ({"token": f"{TOKEN}é"}, "cannot be in a header"),
        ({"target": "forte-1"}, "must be simulator or like qpu.forte-1"),
        ({"target": "qpu.x/../../jobs"}, "must be simulator or like qpu.forte-1"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(options: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidSettings, match=what) as caught:
        backend_of("http://127.0.0.1:1/v0.4", **options)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "target", "provenance"),
    [
        ("https://api.ionq.co/v0.4", "simulator", "simulated shots"),
        ("https://api.ionq.co/v0.4/", FORTE, "hardware"),
        ("https://api.ionq.co.example.org/v0.4", FORTE, "emulator"),
        ("https://ionq.example.org/api.ionq.co/v0.4", "simulator", "emulator"),
    ],
)
def test_where_results_come_from_goes_by_the_host(url: str, target: str, provenance: str) -> None:
    assert backend_of(url, target=target)._provenance == provenance


def test_the_environment_is_neither_read_nor_changed(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QISKIT_IONQ_API_URL", "IONQ_API_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/v0.4")
    for name in ("QISKIT_IONQ_API_TOKEN", "IONQ_API_KEY"):
        monkeypatch.setenv(name, "another")
    before = copy.deepcopy(dict(os.environ))
    backend = backend_of(emulator)
    assert backend.limits.max_qubits == 20
    assert run(backend, labelled([1], 1), 5).counts == ({1: 5},)
    assert dict(os.environ) == before


def test_a_dotenv_file_that_would_override_the_settings_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "venv" / "site-packages" / "qiskit_ionq" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.touch()
    refuse_dotenv(package)
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"IONQ_API_KEY={TOKEN}\nexport QISKIT_IONQ_API_URL=http://x\nEDITOR=vi\n")
    with pytest.raises(InvalidSettings) as caught:
        refuse_dotenv(package)
    assert f"{dotenv} sets IONQ_API_KEY, QISKIT_IONQ_API_URL" in caught.value.detail
    assert TOKEN not in caught.value.detail
    (tmp_path / "venv" / ".env").write_text("EDITOR=vi\n")  # nearer, and where the search ends
    refuse_dotenv(package)


def test_threads_that_use_it_first_at_the_same_time_do_not_disturb_each_other() -> None:
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            targets = list(threads.map(lambda qubits: Target("simulator", qubits), range(1, 65)))
    finally:
        sys.setswitchinterval(interval_s)
    assert [target.num_qubits for target in targets] == list(range(1, 65))
