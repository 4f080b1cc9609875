"""Results that are kept: the same circuits asked again, and the journal that they are kept in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.naive_jobs import FORTE, emulator, overlap_work
from benchmarks.pooled_jobs import DEADLINE_S, QuantumPool, job_pool, table, timed
from quantum_db.clock import SystemClock
from quantum_db.errors import Fenced
from quantum_db.jobs.assembly import PoolPolicy
from quantum_db.jobs.budget import Account, Allowance, Budgets, Charge, day_of
from quantum_db.jobs.job_journal import JobJournal
from quantum_db.jobs.ledger import STREAM, Ledger, OpenSubmission, counts_to_json
from quantum_db.journals.sqlite import SqliteJournal
from tests.api.emulator_server import Emulator

QUBITS = 4
SHOTS = 1_000
JOB_CIRCUITS = 1_000


@dataclass(frozen=True)
class JournalSize:
    """Attributes: results: kept; bytes: of the file; load_s: until the ledger is read back; compact_s: to write it as
    a snapshot; compacted_load_s: to read that."""

    results: int
    bytes: int
    load_s: float
    compact_s: float
    compacted_load_s: float


def grow_journal(path: Path, results: int) -> JournalSize:
    """Write the journal of paid jobs that gave so many results, and read it back as a starting pool does.

    Raises RuntimeError if what is read back is not what was written.
    """
    asyncio.run(_grow(path, results))
    size = path.stat().st_size
    load_s, compact_s = asyncio.run(_load(path, results, compact=True))
    compacted_load_s, _ = asyncio.run(_load(path, results, compact=False))
    return JournalSize(results, size, load_s, compact_s, compacted_load_s)


def append_s(path: Path, appends: int) -> float:
    """Return the median time of making one record of one circuit's job durable."""
    rng = np.random.default_rng(0)
    journal = SqliteJournal(path)
    try:
        epoch = journal.begin_epoch(STREAM)
        took_s = []
        for number in range(appends // 2):
            for record in job_records(number, 1, rng):
                start = time.perf_counter()
                journal.append(STREAM, [record], epoch=epoch)
                took_s.append(time.perf_counter() - start)
        return median(took_s)
    finally:
        journal.close()


def job_records(number: int, circuits: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Yield what the pool writes of one paid job: its intent, and its end with random counts."""
    key, now_s = f"{number:032x}", SystemClock().now_s()
    charge = Charge(Account("default", day_of(now_s), "forte"), 80_300_000 * circuits, SHOTS * circuits, circuits)
    digests = tuple(f"{number:024x}{place:032x}" for place in range(circuits))
    submission = OpenSubmission(key, "forte", SHOTS, (QUBITS,) * circuits, digests, {key: charge}, now_s)
    yield {"t": "intent", "key": key, **submission.intent()}
    drawn = rng.multinomial(SHOTS, rng.dirichlet(np.full(1 << QUBITS, 0.5), circuits))
    yield {
        "t": "done",
        "key": key,
        "counts": [counts_to_json({int(i): int(row[i]) for i in np.flatnonzero(row)}) for row in drawn],
        "provenance": "emulator",
        "job_id": f"{number:036x}",
        "at_s": now_s,
        "micro_usd": {key: charge.micro_usd},
    }


async def _grow(path: Path, results: int) -> None:
    rng = np.random.default_rng(results)
    journal = _opened(path)
    await journal.load()
    for number in range(-(-results // JOB_CIRCUITS)):
        for record in job_records(number, min(JOB_CIRCUITS, results - number * JOB_CIRCUITS), rng):
            await journal.write(record)
    await journal.close()


async def _load(path: Path, results: int, *, compact: bool) -> tuple[float, float]:
    journal = _opened(path)
    start = time.perf_counter()
    await journal.load()
    loaded = time.perf_counter()
    if journal.ledger.size() != results:
        raise RuntimeError(f"{journal.ledger.size()} of {results} results were read back")
    if compact:
        await journal.compact()
    compact_s = time.perf_counter() - loaded
    await journal.close()
    return loaded - start, compact_s


def _opened(path: Path) -> JobJournal:
    def give_way(error: Fenced) -> None:
        raise error

    ledger = Ledger(Budgets(lambda _: Allowance()), PoolPolicy().retention)
    return JobJournal(SqliteJournal(path), ledger, SystemClock(), give_way)


def show_reuse(folder: Path, circuits: int) -> None:
    """Print what the same circuits cost when they are asked again, also of a pool that was started anew."""
    work, journal = overlap_work(circuits, shots=SHOTS, seed=21), folder / "reuse.sqlite"
    rows: list[list[object]] = []

    def ask(name: str, pool: QuantumPool, running: Emulator) -> None:
        asked = pool.submit(work.batch, backend="forte", shots=SHOTS, deadline_s=DEADLINE_S)
        took_s, result = timed(lambda _: asked.result(DEADLINE_S), 0)
        paid_usd = sum(entry["cost_usd"] for entry in running.ledger()["entries"])
        rows.append([name, f"{took_s:.3f}", f"{result.cost_usd:,.2f}", result.reused_circuits, f"{paid_usd:,.2f}"])

    with emulator() as running:
        with job_pool(journal, {"forte": running}, FORTE) as pool:
            ask("first", pool, running)
            ask("again", pool, running)
        with job_pool(journal, {"forte": running}, FORTE) as pool:
            ask("after a restart of the pool", pool, running)
    print(f"\nThe same {circuits:,} circuits on Forte, asked as one\n")
    print(table(["asked", "s", "cost $", "circuits reused", "paid at the provider so far $"], rows), flush=True)


def show_journal(folder: Path, kept: tuple[int, ...]) -> None:
    """Print how large the journal of kept results is, and how long a pool reads it at its start."""
    rows: list[list[object]] = []
    for results in kept:
        size = grow_journal(folder / f"kept-{results}.sqlite", results)
        times = [f"{seconds:.2f}" for seconds in (size.load_s, size.compact_s, size.compacted_load_s)]
        rows.append([f"{results:,}", f"{size.bytes / 1e6:.1f}", f"{size.bytes / results:.0f}", *times])
    header = ["kept results", "MB", "bytes a result", "load s", "compact s", "load s after that"]
    print(f"\nThe journal, results of {QUBITS} qubits and {SHOTS:,} shots\n\n{table(header, rows)}", flush=True)
