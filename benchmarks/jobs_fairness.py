"""What a flood of one tenant costs another tenant of the job pool."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import wait
from pathlib import Path
from statistics import median

from benchmarks.naive_jobs import emulator, overlap_work
from benchmarks.pooled_jobs import DEADLINE_S, QuantumPool, asker, job_pool, table, timed
from quantum_db.circuits.template import CircuitBatch
from quantum_db.jobs.queue import Priority

ASKS = 5
FLOOD_CIRCUITS = 20


def ask_beside_flood(
    pool: QuantumPool, backend: str, *, asks: int, flood: int, priority: Priority = "batch", seed: int
) -> tuple[list[float], float]:
    """Let one tenant ask one circuit after the other while another has asked for ``flood`` times 20 at once.

    Returns the latencies of the asks that began before the flood's end (of all, without one), and when that was.
    """
    work = overlap_work(asks, shots=1_000, seed=seed)
    ask = asker(pool, work, backend, tenant="single")
    many = overlap_work(max(1, flood) * FLOOD_CIRCUITS, shots=1_000, seed=seed + 1).batch
    start = time.perf_counter()
    asked = [
        pool.submit(
            CircuitBatch(many.template, many.angles[first : first + FLOOD_CIRCUITS]),
            backend=backend,
            shots=1_000,
            deadline_s=DEADLINE_S,
            tenant="flood",
            priority=priority,
        )
        for first in range(0, flood * FLOOD_CIRCUITS, FLOOD_CIRCUITS)
    ]
    latencies_s: list[float] = []
    for place in range(asks):
        if flood and all(future.done() for future in asked):
            break
        latencies_s.append(timed(ask, place)[0])
    done, late = wait(asked, DEADLINE_S)
    if late or any(future.exception() for future in done):
        raise RuntimeError(f"{len(late)} asks of the flood were not answered, or some failed")
    return latencies_s, time.perf_counter() - start if flood else 0.0


def show_fairness(folder: Path, flood: int, rounds: int, delay_s: float) -> None:
    """Print what another tenant's asks wait for, without a flood and beside one."""
    floods: list[tuple[str, int, Priority]] = [
        ("none", 0, "batch"),
        ("batch", flood, "batch"),
        ("interactive", flood, "interactive"),
    ]
    rows: list[list[object]] = []
    calm_s = 0.0
    seeds = itertools.count(100, 2)
    with emulator(delay_s) as running, job_pool(folder / "fair.sqlite", {"ionq": running}) as pool:
        for name, asks, priority in floods:
            running.reset()
            found = [
                ask_beside_flood(pool, "ionq", asks=ASKS, flood=asks, priority=priority, seed=next(seeds))
                for _ in range(rounds)
            ]
            latencies_s = [latency_s for own, _ in found for latency_s in own]
            calm_s = calm_s or median(latencies_s)
            sizes = [entry["circuits"] for entry in running.ledger()["entries"]]
            seconds = [f"{value:.2f}" for value in (median(latencies_s), max(latencies_s), max(latencies_s) / calm_s)]
            flood_s = f"{median(took_s for _, took_s in found):.1f}" if asks else ""
            rows.append([name, len(latencies_s), *seconds, f"{len(sizes) / rounds:.0f}", max(sizes), flood_s])
    print(
        f"\n{flood} asks of {FLOOD_CIRCUITS} circuits at once by one tenant; another asks one circuit after the other,"
    )
    print(f"interactive; a job takes {delay_s:g} s at the provider\n")
    header = ["flood", "asks", "median s", "most s", "most / median without", "jobs", "circuits of the largest"]
    print(table([*header, "flood's end s"], rows), flush=True)
