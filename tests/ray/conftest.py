"""One whole cluster for all tests of this folder: the real command line, the real emulator, real Ray and Serve."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from cluster.emulator import running_emulator
from cluster.settings import ADMIN_KEY_ENV
from quantum_db.access.keys import new_token
from quantum_db.client.config import KEY_ENV
from sql_synthesizer.demo import CHINOOK

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0


ADMIN_KEY = str(new_token(secrets.token_bytes))
os.environ[ADMIN_KEY_ENV] = os.environ[KEY_ENV] = ADMIN_KEY
"""Whatever these tests start is told the administrator's key, and whatever they run shows it."""


CHINOOK_ENV = "CHINOOK_URL"
HIDDEN = ["Customer.Email", "Employee"]
SQL_DATABASES = {
    "chinook": {"url_env": CHINOOK_ENV, "tenants": "all", "hidden": HIDDEN, "max_rows": 300, "timeout_s": 5.0},
    "theirs": {"url_env": CHINOOK_ENV, "tenants": ["them"]},
}


def admitted(url: str, timeout_s: float = 60.0, key: str = ADMIN_KEY) -> httpx.Client:
    """Return a client that shows a key."""
    return httpx.Client(base_url=url, headers={"api-key": key}, timeout=timeout_s)


@dataclass(frozen=True)
class LiveCluster:
    url: str
    data_dir: Path
    process: subprocess.Popen[str]


@contextlib.contextmanager
def live_cluster(config: Path, data_dir: Path) -> Iterator[LiveCluster]:
    """Run ``quantum-db serve`` with a config until the block ends; it must stop by itself on SIGINT."""
    command = [sys.executable, "-m", "cluster.cli", "serve", "--config", str(config)]
    log = data_dir.parent / f"{data_dir.name}.log"
    with log.open("w+") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, text=True)
        try:
            yield LiveCluster(_url(process, data_dir, log), data_dir, process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise


def write_config(
    path: Path,
    data_dir: Path,
    emulator_url: str,
    token_env: str,
    redis_url: str | None = None,
    databases: dict[str, Any] | None = None,
) -> Path:
    content = {
        "data_dir": str(data_dir),
        "http": {"port": 0, "max_body_bytes": 4_000_000},
        "grpc": {"port": 0},
        "states": {"shards": 2},
        "groups": {"shards": 2},
        "ray": {"replicas": 2, "redis_url": redis_url},
        "sql": {"databases": databases or {}},
        "jobs": {
            "max_concurrent_circuits": 3,
            "tenants": {"small": {"usd_per_day": 20.0}},
            "backends": {
                "simulator": {"kind": "simulator"},
                "ionq": {"kind": "ionq", "url": emulator_url, "token_env": token_env},
                "forte": {
                    "kind": "ionq",
                    "url": emulator_url,
                    "token_env": token_env,
                    "target": "qpu.forte-1",
                    "price_model": "braket-forte",
                },
                "dead": {"kind": "ionq", "url": "http://127.0.0.1:9/v0.4", "token_env": token_env},
            },
        },
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def descendants(pid: int) -> list[psutil.Process]:
    """Return the processes below ``pid``."""
    return psutil.Process(pid).children(recursive=True)


def actors_below(pid: int, actor: str) -> list[psutil.Process]:
    """Return the processes below ``pid`` that run a class of actors; one that ends meanwhile is left out."""
    found = []
    for process in descendants(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            if f"ray::{actor}" in " ".join(process.cmdline()):
                found.append(process)
    return found


def name_of(process: psutil.Process) -> str:
    """Return a process's name, "" when it has ended."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those of the processes that have not ended."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _url(process: subprocess.Popen[str], data_dir: Path, log: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        for line in log.read_text().splitlines():
            if line.startswith("the cluster answers at "):
                return line.split()[4]
        time.sleep(0.2)
    raise AssertionError(f"the cluster did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    folder = tmp_path_factory.mktemp("cluster")
    data_dir = folder / "data"
    os.environ[CHINOOK_ENV] = f"sqlite:///{shutil.copy(CHINOOK, folder / 'chinook.sqlite')}"
    with running_emulator() as emulator:
        config = write_config(
            folder / "config.yaml", data_dir, emulator.url, emulator.token_env, databases=SQL_DATABASES
        )
        with live_cluster(config, data_dir) as live:
            yield live


@pytest.fixture
def client(cluster: LiveCluster) -> Iterator[httpx.Client]:
    with admitted(cluster.url) as client:
        yield client


os.environ.setdefault("RAY_AUTH_MODE", "disabled")
