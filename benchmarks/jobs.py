"""The quantum job pool against what is glued around qiskit-ionq without one: ``python -m benchmarks.jobs``.

The peers are those of ``benchmarks.naive_jobs``, in the same run, against the same emulator over HTTP on loopback. Work
is overlap circuits of 4 qubits with 1,000 shots. The emulator's jobs take a fixed time, however many circuits they
have, and it takes any number of jobs at a time.

``--quick`` shows that everything runs; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.jobs_fairness import show_fairness
from benchmarks.jobs_faults import show_budget, show_faults
from benchmarks.jobs_overhead import show_overhead
from benchmarks.jobs_recovery import show_dead_provider, show_kills
from benchmarks.jobs_reuse import show_journal, show_reuse
from benchmarks.jobs_throughput import show_throughput
from benchmarks.naive_jobs import DELAYS_S
from benchmarks.pooled_jobs import local_ray


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    pieces: int
    delays_s: tuple[float, ...]
    fault_pieces: int
    budget_callers: int
    dead_bound_s: float
    kills: int
    job_s: float
    flood: int
    asks: int
    reused: int
    kept: tuple[int, ...]


FULL = Scale(3, 128, DELAYS_S, 200, 100, 20.0, 5, 2.0, 300, 200, 1_000, (10_000, 100_000))
QUICK = Scale(1, 16, (0.0, 0.05), 20, 10, 2.0, 1, 1.0, 20, 20, 50, (1_000,))
FLOODS = 2

THEMES: Mapping[str, Callable[[Scale, Path], None]] = {
    "throughput": lambda scale, folder: show_throughput(folder, scale.rounds, scale.pieces, scale.delays_s),
    "faults": lambda scale, folder: show_faults(folder, scale.fault_pieces),
    "budget": lambda scale, folder: show_budget(folder, scale.budget_callers),
    "dead-provider": lambda scale, folder: show_dead_provider(folder, scale.dead_bound_s),
    "kills": lambda scale, folder: show_kills(folder, scale.kills, scale.job_s),
    "fairness": lambda scale, folder: show_fairness(folder, scale.flood, FLOODS, 1.0),
    "overhead": lambda scale, folder: show_overhead(folder, scale.asks),
    "reuse": lambda scale, folder: show_reuse(folder, scale.reused),
    "journal": lambda scale, folder: show_journal(folder, scale.kept),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--only", nargs="+", choices=THEMES, default=tuple(THEMES))
    arguments = parser.parse_args()
    logging.getLogger("qiskit_ionq").setLevel(logging.CRITICAL)  # it tells of each retry
    scale, start = QUICK if arguments.quick else FULL, time.perf_counter()
    with local_ray() as folder:
        for name in arguments.only:
            began = time.perf_counter()
            THEMES[name](scale, folder)
            print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    print(f"{time.perf_counter() - start:.0f} s in all", file=sys.stderr)


if __name__ == "__main__":
    main()
