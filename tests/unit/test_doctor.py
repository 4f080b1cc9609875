"""The doctor finds each fault that is planted, and nothing where there is none."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from cluster import doctor
from cluster.doctor import FAILED, OK, WARNING, Finding, clock_difference_s, examine, package, space
from cluster.runtime import FREE_PORTS, RUNTIME_FILE, grpc_address_of
from cluster.settings import GrpcSettings, HttpSettings, JobSettings, Settings, StoreSettings
from quantum_db.errors import Unavailable
from quantum_db.jobs.backends import BackendSpec

NOW_S = 1_790_000_000.0


def settings(tmp_path: Path, **sections: Any) -> Settings:
    return Settings(data_dir=tmp_path / "data", **({"http": HttpSettings(port=0)} | sections))


def finding(settings: Settings, name: str, now_s: float = NOW_S) -> Finding:
    (found,) = (one for one in examine(settings, lambda: now_s) if one.name.startswith(name))
    assert (found.remedy is not None) == (found.state != OK), found
    return found


@pytest.fixture
def server() -> Iterator[str]:
    """A server that wants the key ``right`` and whose clock shows the year 2001."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("api-key") or self.headers.get("Authorization", "").removeprefix("apiKey ")
            right = given == "right"
            self.send_response_only(200 if right else 401)
            self.send_header("Date", "Mon, 01 Jan 2001 00:00:00 GMT")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_good_place_has_nothing_to_tell(tmp_path: Path) -> None:
    found = examine(settings(tmp_path), lambda: NOW_S)
    assert {one.state for one in found if not one.name.startswith("disk")} == {OK}
    assert len(found) >= 8
    assert not (tmp_path / "data").exists(), "looking makes nothing"


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        taken = finding(settings(tmp_path, http=HttpSettings(port=port)), "port")
        assert (taken.state, taken.name) == (FAILED, f"port 127.0.0.1:{port}")
    assert finding(settings(tmp_path, http=HttpSettings(port=port)), "port").state == OK


def test_a_port_for_grpc_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        place = settings(tmp_path, grpc=GrpcSettings(port=port))
        taken = finding(place, f"port 127.0.0.1:{port}")
        assert (taken.state, taken.remedy) == (FAILED, "stop what listens there, or set grpc.port")
        with pytest.raises(Unavailable, match=f"gRPC cannot be served on 127.0.0.1:{port}, see grpc.port"):
            grpc_address_of(place)
    assert finding(place, f"port 127.0.0.1:{port}").state == OK
    assert grpc_address_of(place) == f"127.0.0.1:{port}"


def test_grpc_is_served_where_it_is_asked_for(tmp_path: Path) -> None:
    assert grpc_address_of(settings(tmp_path)) is None
    host, port = str(grpc_address_of(settings(tmp_path, grpc=GrpcSettings(port=0)))).split(":")
    assert host == "127.0.0.1"
    assert int(port) in FREE_PORTS


def test_a_data_dir_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = settings(tmp_path)
    place.data_dir.mkdir()
    assert finding(place, "data_dir").state == OK
    (place.data_dir / RUNTIME_FILE).write_text(json.dumps({"pid": 2**22 - 1, "url": "http://a", "ray_address": "a:1"}))
    left = finding(place, "data_dir")
    assert (left.state, "has ended without stopping" in left.what) == (WARNING, True)
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    assert "belongs to" in finding(place, "data_dir").what
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be written" in finding(place, "data_dir").what
    blocked = Settings(data_dir=tmp_path / "file" / "data", http=HttpSettings(port=0))
    (tmp_path / "file").write_text("not a folder")
    assert "is not a folder" in finding(blocked, "data_dir").what


def test_a_clock_that_was_never_set(tmp_path: Path) -> None:
    assert finding(settings(tmp_path), "clock", now_s=0.0).what == "1970-01-01"


def test_packages_that_are_missing_or_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert package("numpy[extra]>=1.0") is None
    assert package("numpy") is None
    old, missing = package("numpy>=999.0"), package("no-such-package-anywhere>=1")
    assert old is not None
    assert missing is not None
    assert ("999.0 or later" in old.what, missing.what) == (True, "is not installed")
    monkeypatch.setattr(doctor, "requires", lambda name: ["numpy>=999.0", 'nobody-has-this; extra == "dev"'])
    assert finding(settings(tmp_path), "package").name == "package numpy"
    monkeypatch.setattr(doctor, "PYTHON", (99, 0))
    assert "use Python 99.0" in str(finding(settings(tmp_path), "python").remedy)


def test_disks_that_are_full() -> None:
    assert [space("/", free).state for free in (10**7, 10**9, 10**11)] == [FAILED, WARNING, OK]


def test_servers_that_do_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QQC_TEST_TOKEN", "right")
    nobody = "http://127.0.0.1:9"
    ionq = BackendSpec(kind="ionq", url=f"{nobody}/v0.4", token_env="QQC_TEST_TOKEN")
    place = settings(
        tmp_path,
        store=StoreSettings(kind="qdrant", url=nobody),
        jobs=JobSettings(
            journal_url="redis://:redis-secret@127.0.0.1:9",
            backends={"simulator": BackendSpec(kind="simulator"), "ionq": ionq},
        ),
    )
    found = examine(place, lambda: NOW_S)
    assert [one.name for one in found if one.state == FAILED] == ["jobs.journal_url", "store.url", "jobs.backends.ionq"]
    assert "secret" not in str(found)
    assert "right" not in str(found)


def test_servers_that_refuse_the_key_or_live_in_another_time(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ionq = BackendSpec(kind="ionq", url=server, token_env="QQC_TEST_TOKEN")
    backends = {"simulator": BackendSpec(kind="simulator"), "ionq": ionq}
    place = settings(
        tmp_path,
        store=StoreSettings(kind="qdrant", url=server, api_key_env="QQC_TEST_TOKEN"),
        jobs=JobSettings(backends=backends),
    )
    monkeypatch.delenv("QQC_TEST_TOKEN", raising=False)
    assert "holds no API key" in finding(place, "jobs.backends.ionq").what
    assert "answers 401" in finding(place, "store.url").what
    monkeypatch.setenv("QQC_TEST_TOKEN", "wrong")
    assert "answers 401" in finding(place, "jobs.backends.ionq").what
    monkeypatch.setenv("QQC_TEST_TOKEN", "right")
    assert finding(place, "store.url").state == OK
    assert finding(place, "jobs.backends.ionq").state == OK
    assert "differ by" in finding(place, "clock of store.url").what


def test_a_date_that_is_none_tells_nothing() -> None:
    assert clock_difference_s(None, 0.0) is None
    assert clock_difference_s("yesterday", 0.0) is None
    assert clock_difference_s("Thu, 01 Jan 1970 00:01:00 GMT", 0.0) == 60.0
