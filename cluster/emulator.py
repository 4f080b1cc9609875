"""Runs the IonQ emulator beside a cluster, as a process of its own."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from cluster.runtime import free_port
from quantum_db.errors import Unavailable

TOKEN_ENV = "QQC_EMULATOR_TOKEN"  # noqa: S105 - the name of a variable, not a secret
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Emulator:
    """Where the emulator answers, and the variable that holds its key (made anew for each run)."""

    url: str
    token_env: str


@contextmanager
def running_emulator(options: Sequence[str] = ()) -> Iterator[Emulator]:
    """Start the emulator on a free loopback port; stop it at the end. ``options`` are more of its command line.

    Raises:
        Unavailable: it ended at once or did not answer in time.
    """
    port = free_port()
    os.environ[TOKEN_ENV] = secrets.token_hex(16)
    command = [sys.executable, "-m", "quantum_db.ionq.emulator", "--port", str(port), "--token-env", TOKEN_ENV]
    command += options
    # A session of its own: Ctrl-C is for the program that started it, which then stops it in its turn.
    process = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - our own program
    try:
        _wait(process, f"http://127.0.0.1:{port}/v0.4/backends")
        yield Emulator(f"http://127.0.0.1:{port}/v0.4", TOKEN_ENV)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    headers = {"Authorization": f"apiKey {os.environ[TOKEN_ENV]}"}
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Unavailable(f"the IonQ emulator ended with exit code {process.returncode}")
        try:
            httpx.get(url, headers=headers, timeout=1.0).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise Unavailable(f"the IonQ emulator did not answer within {START_TIMEOUT_S} s")
