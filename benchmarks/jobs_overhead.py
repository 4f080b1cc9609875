"""What the job pool itself costs: its way against a call of the same backend in the process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from uuid import uuid4

import numpy as np

from benchmarks.jobs_reuse import append_s
from benchmarks.naive_jobs import SIMULATOR, Work, emulator, overlap_work
from benchmarks.pooled_jobs import (
    DEADLINE_S,
    IN_PROCESS,
    QuantumPool,
    asker,
    backend_spec,
    by_callers,
    job_pool,
    piece,
    table,
    timed,
)
from quantum_db.jobs.backends import BackendSpec, build_backend, build_provider
from quantum_db.jobs.retry import RetryPolicy
from tests.api.emulator_server import Emulator

RATE_CALLERS = 32
Here = Callable[[int], object]


@dataclass(frozen=True)
class Overhead:
    """Attributes: direct_s, pooled_s: median latency of one ask; direct_rate, pooled_rate: asks a second of callers."""

    direct_s: float
    pooled_s: float
    direct_rate: float
    pooled_rate: float


def simulator_here(work: Work) -> Here:
    backend = build_backend(IN_PROCESS, BackendSpec(kind="simulator"), np.random.default_rng(0))
    return lambda place: backend.run(piece(work, place), work.shots, job_key="", timeout_s=DEADLINE_S)


def emulator_here(work: Work, running: Emulator) -> Here:
    """Return a function that runs a piece at the emulator by the pool's own adapter, without a pool."""
    provider = build_provider("here", backend_spec(running, SIMULATOR), RetryPolicy(), np.random.default_rng(0))

    def run(place: int) -> object:
        part = piece(work, place)
        job_id = provider.submit([part], work.shots, job_key=uuid4().hex, timeout_s=DEADLINE_S)
        return provider.collect(job_id, [part.template.num_qubits], work.shots, timeout_s=DEADLINE_S)

    return run


def compare(
    pool: QuantumPool, backend: str, here: Callable[[Work], Here], *, asks: int, callers: int, seed: int
) -> Overhead:
    """Ask one by one, then from concurrent callers; first in the process, then of the pool."""
    fresh = [overlap_work(asks, shots=1_000, seed=seed + more) for more in range(4)]
    run = here(fresh[0])
    direct_s = median(timed(run, place)[0] for place in range(asks))
    ask = asker(pool, fresh[1], backend)
    pooled_s = median(timed(ask, place)[0] for place in range(asks))
    direct_rate = asks / by_callers(callers, here(fresh[2]), asks)[0]
    pooled_rate = asks / by_callers(callers, asker(pool, fresh[3], backend), asks)[0]
    return Overhead(direct_s, pooled_s, direct_rate, pooled_rate)


def show_overhead(folder: Path, asks: int) -> None:
    """Print what the way through the pool costs, and the journal's share of it."""
    rows: list[list[object]] = []
    with emulator() as running, job_pool(folder / "overhead.sqlite", {"ionq": running}) as pool:
        heres: list[tuple[str, str, Callable[[Work], Here]]] = [
            ("simulator", IN_PROCESS, simulator_here),
            ("emulator", "ionq", lambda work: emulator_here(work, running)),
        ]
        for place, (name, backend, here) in enumerate(heres):
            found = compare(pool, backend, here, asks=asks, callers=RATE_CALLERS, seed=200 + 10 * place)
            rows.append(
                [
                    name,
                    f"{found.direct_s * 1000:.2f}",
                    f"{found.pooled_s * 1000:.2f}",
                    f"{found.pooled_s / found.direct_s:.1f}",
                    f"{found.direct_rate:.0f}",
                    f"{found.pooled_rate:.0f}",
                    f"{found.pooled_rate / found.direct_rate:.2f}",
                ]
            )
    write_s = 2 * append_s(folder / "appends.sqlite", asks)
    header = ["backend", "direct ms", "pool ms", "pool / direct"]
    header += [f"{name} asks/s, {RATE_CALLERS} callers" for name in ("direct", "pool")] + ["pool / direct"]
    print(f"\n{asks} asks of one circuit, directly in the process and through the pool\n\n{table(header, rows)}")
    print(f"\nA paid job waits for two durable records: {write_s * 1000:.2f} ms, ", end="")
    print(f"{write_s / found.pooled_s:.0%} of an ask at the emulator", flush=True)
