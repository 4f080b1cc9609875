"""The job pool as the benchmarks ask it: real Ray on loopback, a coordinator and a worker, the emulator over HTTP.

The same work as in ``benchmarks.naive_jobs``, asked of ``QuantumPool`` by callers in threads. Importing this sets what
Ray reads from the environment, as ``cluster.runtime`` does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from cluster.runtime import use_local_ray

use_local_ray()
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import ray

from actors.job_pool import PoolSettings
from actors.pool_client import QuantumPool
from benchmarks.naive_jobs import SIMULATOR, START_S, Counts, Work
from quantum_db.backend_ports import BackendResult
from quantum_db.circuits.template import CircuitBatch
from quantum_db.jobs.assembly import PoolPolicy
from quantum_db.jobs.backends import BackendSpec
from tests.api.emulator_server import TOKEN, Emulator

CALLERS = 64
DEADLINE_S = 120.0
STOP_S = 20.0
TOKEN_ENV = "QQC_BENCHMARK_TOKEN"  # noqa: S105 - the name of a variable
IN_PROCESS = "simulator"
"""The backend that runs in the worker itself."""

Ask = Callable[[int], BackendResult]


@dataclass(frozen=True)
class PooledRun:
    """Attributes: jobs: accepted by the provider; largest: circuits of the largest job; counts, latencies_s: of each
    circuit, in order."""

    jobs: int
    largest: int
    wall_s: float
    counts: list[Counts]
    latencies_s: list[float]


@contextlib.contextmanager
def local_ray() -> Iterator[Path]:
    """Run Ray on loopback; give a folder that is deleted with it. No process of it is left behind."""
    os.environ[TOKEN_ENV] = TOKEN  # inherited by the workers
    before = set(psutil.Process().children(recursive=True))
    scratch = Path(tempfile.mkdtemp(prefix="qqc-"))  # short: Ray puts sockets below it, and their paths are bounded
    try:
        ray.init(
            address="local",
            num_cpus=os.cpu_count(),
            include_dashboard=False,
            namespace="quantum-db",
            log_to_driver=False,
            logging_level="warning",
            _node_ip_address="127.0.0.1",
            _temp_dir=str(scratch / "ray"),
        )
        yield scratch
    finally:
        started = set(psutil.Process().children(recursive=True)) - before
        ray.shutdown()
        _, alive = psutil.wait_procs(started, timeout=STOP_S)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def job_pool(
    journal: Path, emulators: Mapping[str, Emulator], target: str = SIMULATOR, policy: PoolPolicy | None = None
) -> Iterator[QuantumPool]:
    """Run a pool with a backend for each emulator, by its name, and one that runs in the worker."""
    backends = {IN_PROCESS: BackendSpec(kind="simulator")}
    backends |= {name: backend_spec(running, target) for name, running in emulators.items()}
    pool = QuantumPool.start(PoolSettings(backends, f"sqlite:///{journal}", policy=policy or PoolPolicy()))
    try:
        yield pool
    finally:
        pool.stop()


def backend_spec(running: Emulator, target: str) -> BackendSpec:
    price = "free" if target == SIMULATOR else "braket-forte"
    return BackendSpec(kind="ionq", url=running.url, token_env=TOKEN_ENV, target=target, price_model=price)


def piece(work: Work, place: int) -> CircuitBatch:
    """Return one circuit of the work in the pool's own form."""
    return CircuitBatch(work.batch.template, work.batch.angles[place : place + 1])


def asker(pool: QuantumPool, work: Work, backend: str, *, alone: bool = False, **options: Any) -> Ask:
    """Return a function that asks for one piece of the work and waits for its counts.

    Args:
        alone: no piece shares a job with another, because none has the same number of shots; of each 1,000 shots, at
            most one in a thousand more for each piece.
    """

    def ask(place: int) -> BackendResult:
        shots = work.shots + (place if alone else 0)
        asked = pool.submit(piece(work, place), backend=backend, shots=shots, deadline_s=DEADLINE_S, **options)
        return asked.result(DEADLINE_S + START_S)

    return ask


def timed(ask: Callable[[int], Any], place: int) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = ask(place)
    return time.perf_counter() - start, answer


def by_callers(callers: int, ask: Callable[[int], Any], pieces: int) -> tuple[float, list[tuple[float, Any]]]:
    """Let callers take pieces until there is none left; return the wall time, and latency and answer of each piece."""
    with ThreadPoolExecutor(callers) as threads:
        start = time.perf_counter()
        answers = list(threads.map(lambda place: timed(ask, place), range(pieces)))
        return time.perf_counter() - start, answers


def run_pooled(
    pool: QuantumPool, running: Emulator, work: Work, backend: str, *, callers: int = CALLERS, alone: bool = False
) -> PooledRun:
    """Run the circuits, asked one by one by concurrent callers."""
    running.reset()
    wall_s, answers = by_callers(callers, asker(pool, work, backend, alone=alone), len(work.circuits))
    entries = running.ledger()["entries"]
    counts = [dict(answer.counts[0]) for _, answer in answers]
    return PooledRun(
        len(entries), max(entry["circuits"] for entry in entries), wall_s, counts, [latency for latency, _ in answers]
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(map(str, line))} |" for line in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])
