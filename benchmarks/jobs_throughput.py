"""Jobs at the provider and circuits a second: the pool against clients without one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.naive_jobs import THREADS, NaiveRun, Work, emulator, overlap_work, run_serial, run_threads
from benchmarks.pooled_jobs import CALLERS, PooledRun, QuantumPool, job_pool, run_pooled, table
from quantum_db.circuits.simulator import probabilities
from quantum_db.circuits.verification import verify_distribution
from quantum_db.jobs.assembly import PoolPolicy
from tests.api.emulator_server import Emulator

SHOTS = 1_000
ROUND_S = 4.0
"""About the longest that one client works in a round: slow ones get fewer circuits."""

Run = NaiveRun | PooledRun
Client = Callable[[Work], Run]


@dataclass(frozen=True)
class Rates:
    """Medians over rounds.

    Attributes:
        saved: circuits a job.
    """

    client: str
    pieces: int
    jobs: float
    wall_s: float
    circuits_per_s: float

    @property
    def saved(self) -> float:
        return self.pieces / self.jobs


def show_throughput(folder: Path, rounds: int, pieces: int, delays_s: tuple[float, ...]) -> None:
    """Print a table for each delay."""
    with contextlib.ExitStack() as stack:
        emulators = {f"{delay_s:g} s": stack.enter_context(emulator(delay_s)) for delay_s in delays_s}
        found: dict[str, list[Rates]] = {name: [] for name in emulators}
        with job_pool(folder / "rates.sqlite", emulators) as pool:
            for name, delay_s in zip(emulators, delays_s, strict=True):
                for client, at_once, run in clients(pool, emulators[name], name):
                    found[name].append(rates(client, run, pieces_in(pieces, at_once, delay_s), rounds))
        for name, rows in found.items():
            print(f"\nA job takes {name} at the provider\n\n{throughput_table(rows)}", flush=True)


def clients(pool: QuantumPool, running: Emulator, backend: str) -> list[tuple[str, int, Client]]:
    """Return each client with how many circuits it has at the provider at once."""
    return [
        ("naive, serial", 1, lambda work: run_serial(running, work)),
        (f"naive, {THREADS} threads", THREADS, lambda work: run_threads(running, work)),
        (f"naive, {CALLERS} threads", CALLERS, lambda work: run_threads(running, work, threads=CALLERS)),
        ("pool, one circuit a job", PoolPolicy().max_in_flight, pooled(pool, running, backend, alone=True)),
        ("pool", CALLERS, pooled(pool, running, backend)),
    ]


def pooled(pool: QuantumPool, running: Emulator, backend: str, *, alone: bool = False) -> Client:
    return lambda work: run_pooled(pool, running, work, backend, alone=alone)


def pieces_in(most: int, at_once: int, delay_s: float) -> int:
    """Return how many circuits a client gets in a round, a multiple of what it runs at once."""
    turns = max(1, int(ROUND_S / delay_s)) if delay_s else most
    return min(most, turns * at_once)


def rates(client: str, run: Client, pieces: int, rounds: int) -> Rates:
    """Run a client several times, each on circuits of its own, and check what it returns."""
    found: list[Run] = []
    run(overlap_work(2, shots=SHOTS, seed=_seed()))  # connections and code are warm
    for _ in range(rounds):
        work = overlap_work(pieces, shots=SHOTS, seed=_seed())
        found.append(run(work))
        verify_distribution(found[-1].counts, probabilities(work.batch))
    wall_s = median(one.wall_s for one in found)
    return Rates(client, pieces, median(one.jobs for one in found), wall_s, pieces / wall_s)


def throughput_table(rows: list[Rates]) -> str:
    """Return a table with ratios against one circuit a job."""
    peer = next(row for row in rows if "one circuit" in row.client)
    header = ["client", "circuits", "jobs", "wall s", "circuits/s", "circuits a job", "circuits/s over one a job"]
    return table(
        header,
        [
            [
                row.client,
                row.pieces,
                f"{row.jobs:g}",
                f"{row.wall_s:.2f}",
                f"{row.circuits_per_s:.1f}",
                f"{row.saved:.1f}",
                f"{row.circuits_per_s / peer.circuits_per_s:.2f}",
            ]
            for row in rows
        ],
    )


_seeds = iter(range(1_000, 1_000_000))


def _seed() -> int:
    """Return a number that no work had before: the pool would know its results."""
    return next(_seeds)
