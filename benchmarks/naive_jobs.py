"""What is glued around qiskit-ionq without a job pool, and what it costs: ``python -m benchmarks.naive_jobs``.

The peers of the pool, each against the emulator in a process of its own, over HTTP on loopback:

- ``run_serial`` and ``run_threads``: one circuit a job, one after the other or from threads;
- ``run_under_faults``: the same with three attempts, where answers to submissions are lost. There is no job key to look
  for, so a lost answer is a second paid job;
- ``run_within_budget``: a budget that is checked before a submission and charged after it, without a lock between;
- ``wait_for_dead_provider``: a job whose provider dies after it accepted it.

qiskit-ionq asks for a result every 5 s; here it asks every 10 ms, the best that it can be set to for these jobs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import requests
from qiskit import QuantumCircuit
from qiskit_ionq import IonQProvider
from qiskit_ionq.exceptions import IonQError

from quantum_db.circuits.drawing import to_qiskit
from quantum_db.circuits.encoding import encode_span
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.simulator import probabilities
from quantum_db.circuits.template import CircuitBatch
from quantum_db.circuits.verification import verify_distribution
from quantum_db.ionq.pricing import BRAKET_FORTE
from tests.api.emulator_server import TOKEN, Emulator, emulator_process

SIMULATOR = "simulator"
FORTE = "qpu.forte-1"
POLL_S = 0.01
THREADS = 8
ATTEMPTS = 3
START_S = 60.0

DELAYS_S = (0.0, 0.05, 1.0)
"""How long the emulator's jobs run in the table of ``main``."""

Counts = dict[int, int]


@dataclass(frozen=True)
class Work:
    """Circuits of one structure, as qiskit's and as the pool's. Each is one piece of work."""

    circuits: list[QuantumCircuit]
    batch: CircuitBatch
    shots: int

    @property
    def cost_usd(self) -> float:
        """What all pieces cost on Forte if each is paid once."""
        template = self.batch.template
        one_qubit = len(template.structure) - template.two_qubit_gates
        return BRAKET_FORTE.cost_usd(len(self.circuits), self.shots, one_qubit, template.two_qubit_gates)


@dataclass(frozen=True)
class NaiveRun:
    """Attributes: jobs: accepted by the provider; counts: of each circuit, in order."""

    jobs: int
    wall_s: float
    counts: list[Counts]


@dataclass(frozen=True)
class FaultRun:
    """Attributes: jobs: accepted by the provider; duplicates: those beyond one for each piece; lost: pieces without
    a result after ``ATTEMPTS``; paid_usd, fair_usd: what was paid, and what each piece once costs."""

    pieces: int
    jobs: int
    duplicates: int
    lost: int
    paid_usd: float
    fair_usd: float
    wall_s: float


@dataclass(frozen=True)
class BudgetRun:
    """Attributes: paid_usd: by the provider's ledger; overshoot: of the budget, 1 means twice the budget."""

    callers: int
    budget_usd: float
    paid_usd: float
    overshoot: float


@dataclass(frozen=True)
class DeadProviderRun:
    """Attributes: waited_s: until the client gave up, or until it was killed because it had not."""

    waited_s: float
    gave_up: bool


def overlap_work(pieces: int, *, qubits: int = 4, shots: int = 100, seed: int = 0) -> Work:
    """Return overlap circuits of random vectors."""
    vectors = np.random.default_rng(seed).normal(size=(pieces + 1, 1 << qubits))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    encoding = encode_span(vectors[0], vectors[1:], max_qubits=qubits)
    batch = overlap_circuits(encoding, overlap_template(encoding.num_qubits))
    structure = to_qiskit(batch.template)
    rows = batch.template.gate_angles(batch.angles)
    return Work([structure.assign_parameters(row.tolist()) for row in rows], batch, shots)


def emulator(delay_s: float = 0.0) -> contextlib.AbstractContextManager[Emulator]:
    """Run the emulator, whose jobs take ``delay_s``, as a process."""
    return emulator_process("--control", "--started-s", f"{delay_s:g}", quiet=True)


@contextlib.contextmanager
def naive_runner(running: Emulator, work: Work, target: str) -> Iterator[Callable[[QuantumCircuit], Counts]]:
    """Give a function that runs one circuit as one job.

    The provider's URL is set in the environment too, else qiskit-ionq asks IonQ's public host how many qubits it has.
    """
    before = os.environ.get("QISKIT_IONQ_API_URL")
    os.environ["QISKIT_IONQ_API_URL"] = running.url
    try:
        backend = IonQProvider(token=TOKEN, url=running.url).get_backend(target)

        def run(circuit: QuantumCircuit) -> Counts:
            counts = backend.run(circuit, shots=work.shots).result(wait=POLL_S).get_counts()
            return {int(outcome, 2): int(number) for outcome, number in counts.items()}

        yield run
    finally:
        if before is None:
            del os.environ["QISKIT_IONQ_API_URL"]
        else:
            os.environ["QISKIT_IONQ_API_URL"] = before


def run_serial(running: Emulator, work: Work, target: str = SIMULATOR) -> NaiveRun:
    """Run the circuits one after the other."""
    return run_threads(running, work, threads=1, target=target)


def run_threads(running: Emulator, work: Work, *, threads: int = THREADS, target: str = SIMULATOR) -> NaiveRun:
    """Run the circuits from threads that share one backend."""
    running.reset()
    with naive_runner(running, work, target) as run, ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        counts = list(pool.map(run, work.circuits))
        wall_s = time.perf_counter() - start
    return NaiveRun(len(running.ledger()["entries"]), wall_s, counts)


def run_under_faults(
    running: Emulator, work: Work, *, lost_504: float = 0.1, cut: float = 0.05, seed: int = 0
) -> FaultRun:
    """Run the circuits from threads on a machine that is paid for, with three attempts each.

    Args:
        lost_504: share of submissions that are accepted and answered with 504.
        cut: share of those that are accepted and whose answer is cut off.
    """
    running.reset()
    running.plan(
        {"effect": "status", "request": "submit", "status": 504, "carried_out": True, "probability": lost_504},
        {"effect": "cut", "request": "submit", "carried_out": True, "probability": cut},
        seed=seed,
    )
    with naive_runner(running, work, FORTE) as run, ThreadPoolExecutor(THREADS) as pool:

        def attempt(circuit: QuantumCircuit) -> Counts | None:
            for _ in range(ATTEMPTS):
                with contextlib.suppress(requests.RequestException, IonQError):
                    return run(circuit)
            return None

        start = time.perf_counter()
        found = list(pool.map(attempt, work.circuits))
        wall_s = time.perf_counter() - start
    entries = running.ledger()["entries"]
    paid_usd = sum(entry["cost_usd"] for entry in entries)
    pieces = len(work.circuits)
    return FaultRun(
        pieces, len(entries), len(entries) - pieces, found.count(None), paid_usd, work.cost_usd, wall_s
    )  # fmt: skip


def run_within_budget(running: Emulator, work: Work, budget_usd: float) -> BudgetRun:
    """Let as many threads as there are circuits spend one budget at the same time."""
    running.reset()
    callers = len(work.circuits)
    price_usd = work.cost_usd / callers
    spent_usd = [0.0]
    ready = threading.Barrier(callers, timeout=START_S)
    with naive_runner(running, work, FORTE) as run, ThreadPoolExecutor(callers) as pool:

        def spend(circuit: QuantumCircuit) -> None:
            ready.wait()
            if spent_usd[0] + price_usd <= budget_usd:
                run(circuit)
                spent_usd[0] += price_usd

        list(pool.map(spend, work.circuits))
    paid_usd = sum(entry["cost_usd"] for entry in running.ledger()["entries"])
    return BudgetRun(callers, budget_usd, paid_usd, paid_usd / budget_usd - 1.0)


_CHILD = """
import sys
from benchmarks.naive_jobs import POLL_S, SIMULATOR, overlap_work
from qiskit_ionq import IonQProvider
url, token = sys.argv[1:]
job = IonQProvider(token=token, url=url).get_backend(SIMULATOR).run(overlap_work(1).circuits[0], shots=100)
print(job.job_id(), flush=True)
job.result(wait=POLL_S)
"""


def wait_for_dead_provider(bound_s: float = 20.0) -> DeadProviderRun:
    """Let a client submit a job, end its provider, and see for ``bound_s`` whether the client gives up."""
    with emulator(delay_s=3_600.0) as running:
        child = subprocess.Popen(  # noqa: S603 - our own
            [sys.executable, "-c", _CHILD, running.url, TOKEN],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "QISKIT_IONQ_API_URL": running.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        guard = threading.Timer(START_S, child.kill)
        guard.start()
        assert child.stdout is not None
        accepted = child.stdout.readline().strip()
    guard.cancel()
    start = time.perf_counter()
    try:
        if not accepted:
            raise RuntimeError("the client did not submit its job")
        child.wait(bound_s)
        gave_up = True
    except subprocess.TimeoutExpired:
        gave_up = False
    finally:
        waited_s = time.perf_counter() - start
        child.kill()
        child.communicate()
    return DeadProviderRun(waited_s, gave_up)


def print_times(pieces: int) -> None:
    work = overlap_work(pieces)
    exact = probabilities(work.batch)
    print(f"\n{pieces} circuits of 4 qubits, {work.shots} shots each, one circuit a job\n")
    print("| client | a job takes | jobs | wall s | circuits/s |")
    print("|---|---|---|---|---|")
    for delay_s in DELAYS_S:
        with emulator(delay_s) as running:
            run_serial(running, overlap_work(1))  # connections and code are warm
            for name, run in (("serial", run_serial), (f"{THREADS} threads", run_threads)):
                found = run(running, work)
                verify_distribution(found.counts, exact)
                rate = pieces / found.wall_s
                print(f"| {name} | {delay_s:g} s | {found.jobs} | {found.wall_s:.2f} | {rate:.1f} |", flush=True)


def print_faults(pieces: int) -> None:
    print(f"\n{pieces} pieces of work on Forte, {THREADS} threads, up to {ATTEMPTS} attempts each\n")
    print("| accepted, then 504 | accepted, then cut | jobs | duplicates | lost | paid $ | each once $ | paid / fair |")
    print("|---|---|---|---|---|---|---|---|")
    work = overlap_work(pieces)
    with emulator() as running:
        for lost_504, cut in ((0.0, 0.0), (0.1, 0.0), (0.0, 0.1), (0.1, 0.1)):
            found = run_under_faults(running, work, lost_504=lost_504, cut=cut)
            print(
                f"| {lost_504:.0%} | {cut:.0%} | {found.jobs} | {found.duplicates} | {found.lost} "
                f"| {found.paid_usd:,.2f} | {found.fair_usd:,.2f} | {found.paid_usd / found.fair_usd:.2f} |",
                flush=True,
            )


def print_budget(callers: int) -> None:
    work = overlap_work(callers)
    print(f"\n{callers} callers at the same time, {work.cost_usd / callers:.2f} $ each, one budget\n")
    print("| a job takes | budget $ | paid $ | overshoot |")
    print("|---|---|---|---|")
    for delay_s in DELAYS_S[:2]:
        with emulator(delay_s) as running:
            found = run_within_budget(running, work, 0.1 * work.cost_usd)
            print(
                f"| {delay_s:g} s | {found.budget_usd:.2f} | {found.paid_usd:.2f} | {found.overshoot:.0%} |", flush=True
            )


def main() -> None:
    logging.getLogger("qiskit_ionq").setLevel(logging.CRITICAL)  # it tells of each retry
    print_times(20)
    print_faults(200)
    print_budget(100)
    dead = wait_for_dead_provider()
    told = f"{dead.waited_s:.1f} s" if dead.gave_up else f">= {dead.waited_s:.0f} s; it was killed"
    print(f"\nA provider dies after it accepted a job; the client gives up after: {told}")


if __name__ == "__main__":
    main()
