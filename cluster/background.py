"""A cluster that runs in the background: started, found again by its data folder, and stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from cluster.connect import running_cluster
from cluster.runtime import RUNTIME_FILE
from quantum_db.errors import Unavailable

LOG_FILE: Final = "cluster.log"
START_TIMEOUT_S: Final = 150.0
STOP_TIMEOUT_S: Final = 60.0
LOOK_S: Final = 0.1
TAIL_LINES: Final = 5
_KEY: Final = re.compile(rb"qdb_[0-9a-f]{12}_[0-9a-f]{64}")
_CLOCK_TICK_S: Final = 2.0
"""How far the time of a file and that at which a process began may differ by rounding."""


@dataclass(frozen=True, slots=True)
class Background:
    """A cluster that answers: its process, where, by gRPC where it does, and how another Ray job joins it."""

    pid: int
    url: str
    ray_address: str
    grpc: str | None


def found(data_dir: Path) -> Background | None:
    """Return the cluster that runs with its data in a folder, None where none does, whatever a dead one has left."""
    try:
        told = running_cluster(data_dir)
        cluster = Background(int(told["pid"]), str(told["url"]), str(told["ray_address"]), told.get("grpc"))
    except (Unavailable, KeyError, ValueError):
        return None
    return cluster if _process_of(cluster.pid, data_dir) is not None else None


def launch(data_dir: Path, arguments: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Begin ``serve`` in a session of its own, which a closed terminal does not end; it logs into the data folder."""
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / RUNTIME_FILE).unlink(missing_ok=True)
    command = [sys.executable, "-m", "cluster.cli", "serve", *arguments]
    with open(data_dir / LOG_FILE, "wb", opener=_private) as log:
        return subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(environment),
            start_new_session=True,
        )


def begun(process: subprocess.Popen[bytes], data_dir: Path) -> Background | None:
    """Return the cluster once it answers, None until then. Raises Unavailable when its process has ended."""
    if process.poll() is not None:
        raise Unavailable(f"the cluster ended with exit code {process.returncode}: {tail(data_dir)}")
    cluster = found(data_dir)
    return cluster if cluster is not None and cluster.pid == process.pid else None


def start(data_dir: Path, arguments: list[str], environment: Mapping[str, str], timeout_s: float) -> Background:
    """Start a cluster and wait until it answers. What does not answer in time is stopped again.

    Raises:
        Unavailable: it ended or did not answer in time; the message has the end of its log.
    """
    process = launch(data_dir, arguments, environment)
    deadline_s = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline_s:
            cluster = begun(process, data_dir)
            if cluster is not None:
                return cluster
            time.sleep(LOOK_S)
        raise Unavailable(f"the cluster did not answer within {timeout_s:.0f} s: {tail(data_dir)}")
    except BaseException:
        if process.poll() is None:
            _end(psutil.Process(process.pid), signal.SIGTERM, STOP_TIMEOUT_S)
        raise


def stop(data_dir: Path, timeout_s: float = STOP_TIMEOUT_S) -> bool:
    """Stop the cluster of a data folder, all its processes; return whether one ran. Idempotent."""
    try:
        process = _process_of(int(running_cluster(data_dir)["pid"]), data_dir)
    except (Unavailable, KeyError, ValueError):
        return False
    if process is not None:
        _end(process, signal.SIGTERM, timeout_s)
    (data_dir / RUNTIME_FILE).unlink(missing_ok=True)
    return process is not None


def told_once(data_dir: Path) -> list[str]:
    """Return the lines of a cluster's log that hold a key, and take the keys out of the log.

    A key is shown once, to whoever starts the cluster, and is not left in a file.
    """
    path = data_dir / LOG_FILE
    told = []
    with path.open("r+b") as log:
        content = log.read()
        for found in _KEY.finditer(content):
            begin, end = content.rfind(b"\n", 0, found.start()) + 1, content.find(b"\n", found.end())
            told.append(content[begin : end if end >= 0 else None].decode(errors="replace"))
            log.seek(found.start())
            log.write(b"*" * len(found.group()))
    return told


def tail(data_dir: Path) -> str:
    """Return the last lines of a cluster's log, as one line."""
    try:
        lines = (data_dir / LOG_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "it has written no log"
    return " | ".join(line.strip() for line in lines[-TAIL_LINES:] if line.strip()) or "its log is empty"


def _process_of(pid: int, data_dir: Path) -> psutil.Process | None:
    """Return the process that wrote the folder's runtime file, None when it has ended and its number is another's."""
    try:
        process = psutil.Process(pid)
        begun_s, written_s = process.create_time(), (data_dir / RUNTIME_FILE).stat().st_mtime
        alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return None
    return process if alive and begun_s <= written_s + _CLOCK_TICK_S else None


def _end(process: psutil.Process, number: int, timeout_s: float) -> None:
    """Ask a process to end, and kill what is left of it and of those below it after a while."""
    try:
        below = process.children(recursive=True)
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
    _, alive = psutil.wait_procs([process], timeout=timeout_s)
    for one in [*alive, *(child for child in below if child.is_running())]:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue


def _private(path: str, flags: int) -> int:
    """Open a file that nobody else may read."""
    return os.open(path, flags, 0o600)


def environment_with(more: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with some variables set."""
    return {**os.environ, **more}
