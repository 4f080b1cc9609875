"""The job pool when something dies: the provider for good, or the coordinator for a moment."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import requests
from qiskit_ionq.exceptions import IonQError

from benchmarks.naive_jobs import FORTE, SIMULATOR, emulator, naive_runner, overlap_work, wait_for_dead_provider
from benchmarks.pooled_jobs import DEADLINE_S, IN_PROCESS, asker, job_pool, piece, table, timed
from quantum_db.errors import BreakerOpen, QuantumDBError, Unavailable
from tests.api.emulator_server import Emulator

ACCEPT_S = 30.0
GIVE_UP_S = 60.0
MOST_ASKS = 20
"""Asks of a dead provider until its breaker must be open."""


@dataclass(frozen=True)
class PooledDeadRun:
    """How long callers wait for word of a provider that died.

    Attributes:
        in_flight_s: the one whose job it had accepted.
        fresh_s: those who ask after that, while the breaker is closed.
        open_s: those who ask once it is open.
    """

    in_flight_s: float
    fresh_s: list[float]
    open_s: list[float]


@dataclass(frozen=True)
class KillRun:
    """What killing the coordinator costs.

    Attributes:
        delay_s: how long a job takes at the provider.
        answers_s: from each kill until the next ask was answered, on the backend in the worker.
        calm_s, killed_s: how long a job takes in all, without and with a kill while it is in flight.
        asked, jobs: pieces of paid work, and jobs that the provider accepted for them.
    """

    delay_s: float
    answers_s: list[float]
    calm_s: list[float]
    killed_s: list[float]
    asked: int
    jobs: int


def outlive_dead_provider(folder: Path) -> PooledDeadRun:
    """End a provider that has accepted a job, and see when the pool's callers hear of it."""
    work = overlap_work(2 * MOST_ASKS + 1, seed=4)
    with contextlib.ExitStack() as living:
        running = living.enter_context(emulator(delay_s=3_600.0))
        with job_pool(folder / "dead.sqlite", {"dying": running}) as pool:
            ask = asker(pool, work, "dying")
            asked = pool.submit(piece(work, 0), backend="dying", shots=work.shots, deadline_s=DEADLINE_S)
            wait_for_jobs(running, 1)
            living.close()
            in_flight_s, error = timed(lambda _: asked.exception(GIVE_UP_S), 0)
            if not isinstance(error, Unavailable):
                raise RuntimeError(f"the caller of a job that is lost was told {error!r}")
            fresh_s, place = list[float](), 1
            while not isinstance(error, BreakerOpen):
                waited_s, error = timed(lambda place: error_of(ask, place), place)
                fresh_s.append(waited_s)
                place += 1
                if place > MOST_ASKS:
                    raise RuntimeError(f"after {MOST_ASKS} failures the breaker is still closed")
            open_s = [timed(lambda place: error_of(ask, place), place + more)[0] for more in range(MOST_ASKS)]
    return PooledDeadRun(in_flight_s, fresh_s[:-1], open_s)


def ask_dead_provider(bound_s: float) -> float | None:
    """Return how long a client without a pool takes to fail when its provider is dead, None if it has not in time."""
    work = overlap_work(1)
    with contextlib.ExitStack() as living:
        running = living.enter_context(emulator())
        with naive_runner(running, work, SIMULATOR) as run:
            living.close()

            def ask() -> None:
                with contextlib.suppress(requests.RequestException, IonQError):
                    run(work.circuits[0])

            asking = threading.Thread(target=ask, daemon=True)
            start = time.perf_counter()
            asking.start()
            asking.join(bound_s)
            return None if asking.is_alive() else time.perf_counter() - start


def error_of(ask: Callable[[int], object], place: int) -> QuantumDBError:
    try:
        ask(place)
    except QuantumDBError as error:
        return error
    raise RuntimeError("a dead provider has answered")


def kill_coordinators(folder: Path, kills: int, delay_s: float, seed: int = 0) -> KillRun:
    """Kill the coordinator several times, each time at a random moment of a job's life at the provider."""
    rng = np.random.default_rng(seed)
    paid, free = overlap_work(kills + 3, seed=5), overlap_work(kills + 1, seed=6)
    with emulator(delay_s) as running, job_pool(folder / "kills.sqlite", {"forte": running}, FORTE) as pool:
        ask, ask_here = asker(pool, paid, "forte"), asker(pool, free, IN_PROCESS)
        ask_here(kills)
        calm_s = [timed(ask, kills + more)[0] for more in range(3)]
        running.reset()
        answers_s, killed_s = list[float](), list[float]()
        for place in range(kills):
            began_s = time.perf_counter()
            asked = pool.submit(piece(paid, place), backend="forte", shots=paid.shots, deadline_s=DEADLINE_S)
            wait_for_jobs(running, place + 1)
            time.sleep(rng.uniform(0.1, 0.6) * delay_s)
            coordinator().kill()
            answers_s.append(timed(ask_here, place)[0])
            asked.result(DEADLINE_S)
            killed_s.append(time.perf_counter() - began_s)
        return KillRun(delay_s, answers_s, calm_s, killed_s, kills, len(running.ledger()["entries"]))


def coordinator() -> psutil.Process:
    """Return the process of the pool's coordinator: Ray names its processes after the actor's class."""
    (found,) = (
        process
        for process in psutil.Process().children(recursive=True)
        if " ".join(process.cmdline()).startswith("ray::JobPool")
    )
    return found


def wait_for_jobs(running: Emulator, jobs: int) -> None:
    """Wait until the provider has accepted so many."""
    end_s = time.monotonic() + ACCEPT_S
    while len(running.ledger()["entries"]) < jobs:
        if time.monotonic() > end_s:
            raise TimeoutError(f"the provider did not accept job {jobs} within {ACCEPT_S:g} s")
        time.sleep(0.02)


def show_dead_provider(folder: Path, bound_s: float) -> None:
    """Print when a caller hears that a provider is dead."""
    waiting, asking = wait_for_dead_provider(bound_s), ask_dead_provider(bound_s)
    pooled = outlive_dead_provider(folder)
    never = f"> {bound_s:g}, killed"
    after = never if asking is None else f"{asking:.3f}"
    rows = [
        [
            "its job had been accepted",
            f"{waiting.waited_s:.2f}" if waiting.gave_up else never,
            f"{pooled.in_flight_s:.2f}",
        ],
        ["asked after that", after, f"{median(pooled.fresh_s):.2f}" if pooled.fresh_s else "breaker was open"],
        ["asked with the breaker open", after, f"{median(pooled.open_s):.4f}"],
    ]
    print("\nA provider dies; how long until a caller knows\n")
    print(table(["caller", "naive s", "pool s"], rows), flush=True)


def show_kills(folder: Path, kills: int, delay_s: float) -> None:
    """Print what killing the coordinator costs."""
    with contextlib.redirect_stdout(sys.stderr):  # Ray tells of each
        found = kill_coordinators(folder, kills, delay_s)
    calm_s = median(found.calm_s)
    longer_s = [killed_s - calm_s for killed_s in found.killed_s]
    rows = [
        ["until the next ask is answered", f"{median(found.answers_s):.2f}", f"{max(found.answers_s):.2f}"],
        [f"a job of {calm_s:.2f} s takes longer by", f"{median(longer_s):.2f}", f"{max(longer_s):.2f}"],
    ]
    print(f"\nSIGKILL of the coordinator, {kills} times, while a job of {delay_s:g} s is at the provider;")
    print(f"{found.asked} circuits asked, {found.jobs} jobs at the provider\n")
    print(table(["seconds", "median", "most"], rows), flush=True)
