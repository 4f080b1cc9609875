"""Runs the emulator on a free loopback port for a test: in a thread of this process, or as a program of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from quantum_db.clock import SystemClock
from quantum_db.ionq.emulated_jobs import EmulatedJobs
from quantum_db.ionq.emulator import create_app, server

TOKEN = "test-key-7c1e5ab0"  # planted: the tests look for it in errors and logs
START_S = 30.0
STOP_S = 10.0


@dataclass(frozen=True)
class Emulator:
    """A running emulator. ``root`` is the server, ``url`` the API in it."""

    root: str
    jobs: EmulatedJobs | None = None

    @property
    def url(self) -> str:
        return f"{self.root}/v0.4"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"apiKey {TOKEN}"}

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        options = {"headers": self.headers, "timeout": 30, **options}
        return requests.request(method, f"{self.root}{path}", **options)

    def plan(self, *rules: dict[str, Any], seed: int = 0) -> None:
        answer = self.call("PUT", "/emulator/faults", json={"seed": seed, "rules": list(rules)})
        assert answer.status_code == 200, answer.text

    def struck(self) -> list[int]:
        return self.call("GET", "/emulator/faults").json()["struck"]

    def calls(self) -> dict[str, int]:
        return self.call("GET", "/emulator/faults").json()["calls"]

    def ledger(self) -> dict[str, Any]:
        return self.call("GET", "/emulator/ledger").json()

    def reset(self) -> None:
        assert self.call("POST", "/emulator/reset").status_code == 200


@contextlib.contextmanager
def emulator_thread(jobs: EmulatedJobs | None = None, **options: Any) -> Iterator[Emulator]:
    """Run the emulator in a thread; ``options`` go to ``create_app``."""
    jobs = jobs or EmulatedJobs(SystemClock())
    listener = socket.create_server(("127.0.0.1", 0))
    program = server(create_app(jobs, token=TOKEN, **{"control": True, **options}))
    program.config.log_level = "critical"  # a cut connection is an error to uvicorn
    program.config.configure_logging()
    thread = threading.Thread(target=program.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    emulator = Emulator(f"http://127.0.0.1:{listener.getsockname()[1]}", jobs)
    try:
        _wait(emulator, thread.is_alive)
        yield emulator
    finally:
        program.should_exit = True
        thread.join(STOP_S)
        listener.close()
        assert not thread.is_alive(), "the emulator did not stop"


@contextlib.contextmanager
def emulator_process(*arguments: str, quiet: bool = False) -> Iterator[Emulator]:
    """Run ``python -m quantum_db.ionq.emulator`` on a free port; ``quiet`` drops what it says of cut connections."""
    command: Sequence[str] = (sys.executable, "-m", "quantum_db.ionq.emulator", "--port", "0", *arguments)
    environment = {**os.environ, "IONQ_EMULATOR_TOKEN": TOKEN}
    errors = subprocess.DEVNULL if quiet else None
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # ends at the latest when the program does
            assert "http://" in line, f"the emulator did not start: {line!r}"
            emulator = Emulator(line.split()[-1].removesuffix("/v0.4"))
            _wait(emulator, lambda: process.poll() is None)
            yield emulator
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(emulator: Emulator, alive: Any) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        assert alive(), "the emulator ended before it was ready"
        try:
            if requests.get(f"{emulator.url}/backends", timeout=1).status_code == 200:
                return
        except requests.RequestException:
            time.sleep(0.02)
    raise AssertionError("the emulator was not ready in time")
