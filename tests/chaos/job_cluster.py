"""A whole cluster that is killed in parts or at once, over an emulator that remembers what it accepted."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import psutil
import yaml

from tests.api.emulator_server import TOKEN, Emulator, emulator_process
from tests.chaos.job_process import TOKEN_ENV
from tests.chaos.job_trials import paid_entries
from tests.ray.conftest import LiveCluster, admitted, descendants, live_cluster

COORDINATOR: Final = "ray::JobPool"
WORKER: Final = "ray::JobWorker"
PLACES: Final = 3
RUN_S: Final = 0.4
BOUND_S: Final = 90.0
"""How long anything may take here, on a slow machine."""

CONTEXT: Final = "chaos-near"
BELL: Final = 'OPENQASM 3; include "stdgates.inc"; qubit[2] q; h q[0]; cx q[0], q[1];'
_shots = itertools.count(100)

T = TypeVar("T")


@contextlib.contextmanager
def emulator() -> Iterator[Emulator]:
    arguments = ("--control", "--shuffle-results", "--listing-lag-s", "0.2", "--started-s", str(RUN_S))
    with emulator_process(*arguments, quiet=True) as running:
        yield running


def write_config(path: Path, backends: dict[str, str]) -> Path:
    """Write settings for backends at these URLs. The protocol's times are short, so that a test does not wait long."""
    provider = {"kind": "ionq", "token_env": TOKEN_ENV, "target": "qpu.forte-1", "price_model": "braket-forte"}
    content = {
        "data_dir": str(path.parent / "data"),
        "http": {"port": 0},
        "jobs": {
            "workers": 2,
            "max_concurrent_circuits": PLACES,
            "on_backend_failure": "fail",
            "protocol": {"begin_s": 1.0, "call_s": 2.0, "settle_s": 2.0, "longest_pause_s": 0.5},
            "retry": {"attempts": 3, "first_s": 0.1, "longest_s": 0.5},
            "breaker": {"failures": 5, "open_s": 1.0},
            "backends": {
                "simulator": {"kind": "simulator"},
                **{name: {**provider, "url": url} for name, url in backends.items()},
            },
        },
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@dataclass
class Cluster:
    """A running cluster. ``asked`` counts circuits by their number of shots, which no two pieces of work share."""

    live: LiveCluster
    emulator: Emulator
    client: httpx.Client
    asked: Counter[int] = field(default_factory=Counter)

    def reset(self) -> None:
        """Let the emulator, and this, forget what was asked."""
        self.emulator.reset()
        self.asked.clear()

    def new_shots(self, circuits: int) -> int:
        """Return a number of shots that was never asked for, and note that it is for so many circuits."""
        shots = next(_shots)
        self.asked[shots] = circuits
        return shots

    def submit(self) -> str:
        """Submit a job that no other one is equal to; return its location.

        Again, until it is taken: where an answer was lost it is stored twice, and paid for once all the same.
        """
        shots = self.new_shots(circuits=1)
        body = {
            "backend": "ionq",
            "shots": shots,
            "circuits": [{"format": "qasm3", "source": BELL}],
            "name": f"{shots}",
        }

        def take() -> str | None:
            answer = self.client.post("/api/v2/jobs", json=body)
            return answer.headers["location"] if answer.status_code == 202 else None

        return until(take, "no job is taken")

    def ended(self, location: str) -> dict[str, Any]:
        """Wait for a job's end; it must have run."""

        def look() -> dict[str, Any] | None:
            answer = self.client.get(location)
            return answer.json() if answer.status_code == 200 and answer.json()["ended_at_s"] is not None else None

        job = until(look, f"{location} does not end")
        assert job["status"] == "completed", job
        return job

    def query(self, shots: int, backend: str = "ionq", timeout_ms: int = 20_000) -> httpx.Response:
        """Ask for the points of ``ring(CONTEXT...)`` near a direction, by a circuit for each."""
        body = {"vector": [1.0, 0.0], "context": CONTEXT, "top_k": 12, "refine": "always"}
        body |= {"backend": backend, "shots": shots, "timeout_ms": timeout_ms, "on_timeout": "error"}
        return self.client.post("/api/v2/query", json=body)

    def processes(self, name: str) -> list[psutil.Process]:
        return [process for process in descendants(self.live.process.pid) if _title(process).startswith(name)]

    def kill(self, name: str) -> None:
        """SIGKILL the processes of an actor."""
        found = self.processes(name)
        assert found, f"there is no {name}"
        for process in found:
            process.kill()
        psutil.wait_procs(found, timeout=BOUND_S)

    def wrongly_paid(self) -> dict[int, tuple[int, int]]:
        """Return shots -> circuits asked for and paid for, where they differ."""
        paid = Counter[int]()
        for entry in paid_entries(self.emulator):
            paid[entry["shots"]] += entry["circuits"]
        twice = {key: times for key, times in self.emulator.ledger()["times_accepted"].items() if times > 1}
        assert not twice, f"accepted more than once under one key: {twice}"
        return {
            shots: (self.asked[shots], paid[shots]) for shots in self.asked | paid if self.asked[shots] != paid[shots]
        }


@contextlib.contextmanager
def cluster(config: Path, emulator: Emulator) -> Iterator[Cluster]:
    """Start a cluster with these settings; it may be dead at the end of the block."""
    os.environ[TOKEN_ENV] = TOKEN
    with (
        live_cluster(config, config.parent / "data") as live,
        admitted(live.url, BOUND_S) as client,
    ):
        until(lambda: client.get("/readyz").status_code == 200 or None, "the cluster is not ready")
        yield Cluster(live, emulator, client)


def kill_all(live: LiveCluster) -> None:
    """SIGKILL a cluster at once: the process that serves it, and all that are below it when this is called."""
    below = descendants(live.process.pid)
    folders = [_scratch(process) for process in below if process.name() == "raylet"]
    below.sort(key=lambda process: process.name() != "raylet")  # which starts others, so it goes first
    live.process.kill()
    for process in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    live.process.wait(BOUND_S)
    _, alive = psutil.wait_procs(below, timeout=BOUND_S)
    assert not alive, f"not even SIGKILL ends {alive}"
    for folder in folders:
        shutil.rmtree(folder)


def _scratch(raylet: psutil.Process) -> Path:
    """Return the folder that the cluster has made for itself."""
    (ray_folder,) = [word.partition("=")[2] for word in raylet.cmdline() if word.startswith("--temp_dir=")]
    folder = Path(ray_folder).parent
    assert folder.name.startswith("qqc-"), folder
    return folder


def _title(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except psutil.NoSuchProcess:
        return ""


def until(look: Callable[[], T | None], what: str) -> T:
    """Look until there is something."""
    deadline_s = time.monotonic() + BOUND_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(httpx.TransportError):
            found = look()
            if found is not None:
                return found
        time.sleep(0.05)
    raise AssertionError(f"{what} within {BOUND_S:g} s")
