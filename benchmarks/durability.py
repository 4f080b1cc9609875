"""What durable transactions cost, and how long a restart takes: ``python -m benchmarks.durability``.

**Commits.** The coordinator as the store's process has it (embedded store, SQLite journal, registry of groups), in this
process, inserts entities of 128 numbers. The peers write the same entities into the same kind of store: once after one
INSERT of the intent's JSON into a SQLite table with the journal's flush policy (WAL, synchronous FULL), which neither
keeps apart nor checks anything, and once with no log at all, where a machine that dies takes the last writes with it.
Medians over rounds that alternate the three. ``--ray`` adds the store's actor, called by handle.

**Recovery.** Journals of 10^3 to 10^5 records (``--million`` adds 10^6): the time from opening the file until the
coordinator lets readers in, with the last transactions still to be applied, and until the job ledger is there. Then the
same with the records compacted into a snapshot, as a running process does from time to time.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import itertools
import json
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from quantum_db.clock import SystemClock
from quantum_db.commits.coordinator import CommitPolicy, Coordinator
from quantum_db.commits.group_commits import GroupCommits
from quantum_db.commits.ledger import STREAM as COMMITS
from quantum_db.commits.ledger import CommitLedger, Intent, KeyRetention, flushed_record, receipt_record, reserve_record
from quantum_db.commits.operations import Insert, Transaction
from quantum_db.commits.pending_groups import PendingGroups
from quantum_db.commits.showing import ShownCommits
from quantum_db.commits.upkeep import UNFLUSHED_COMMITS
from quantum_db.errors import Fenced
from quantum_db.jobs.budget import Account, Allowance, Budgets, Charge
from quantum_db.jobs.job_journal import JobJournal
from quantum_db.jobs.ledger import STREAM as JOBS
from quantum_db.jobs.ledger import Ledger, OpenSubmission, Retention, counts_to_json
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.lifecycle import StateEvent
from quantum_db.model import EntanglementGroup, Entity
from quantum_db.ports import VectorStore
from quantum_db.stores.places import OneStore
from quantum_db.stores.qdrant_edge import QdrantEdgeStore

DIMENSION = 128
SIZES = (1, 10, 100)
CALLERS = 64
OPEN = 10
"""Transactions, or submissions, that a killed process leaves behind."""
CHUNK = 20_000
WAIT_S = 600.0

Json = dict[str, Any]
Write = Callable[[Sequence[Entity]], Awaitable[Any]]


class CountedStates:
    """Implements ``StateLog``: the notes go to other processes in the background, and are counted here."""

    def __init__(self) -> None:
        self.noted = 0

    def record(self, events: Sequence[StateEvent]) -> None:
        self.noted += len(events)


class PlainLog:
    """One durable INSERT for each call."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "CREATE TABLE records (number INTEGER PRIMARY KEY, body TEXT)",
        ):
            self._connection.execute(statement)

    def append(self, record: Json) -> None:
        self._connection.execute("INSERT INTO records (body) VALUES (?)", (json.dumps(record),))


def entities(numbers: Iterator[int], count: int, rng: np.random.Generator) -> list[Entity]:
    vectors = rng.standard_normal((count, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [Entity(f"entity-{next(numbers)}", vector, metadata={"kind": "bench"}) for vector in vectors]


def intent_of(commit: int, written: Sequence[Entity], key: str | None = None) -> Intent:
    results = tuple({"op": "insert", "id": one.id, "version": commit} for one in written)
    return Intent(commit, time.time(), key, "0" * 32, tuple(written), (), (), results)


def end(error: Fenced) -> None:
    raise SystemExit(f"nobody else writes here: {error.detail}")


class Registry(GroupCommits):
    """The registry's part in transactions, of which none makes groups here."""

    def __init__(self, path: Path) -> None:
        journal, pending = SqliteJournal(path), PendingGroups()

        def never(group: EntanglementGroup) -> EntanglementGroup:
            raise SystemExit(f"no group is written here: {group}")

        async def keep(_: Sequence[EntanglementGroup], record: Json) -> None:
            pending.apply(journal.append("groups", [record]), record)

        super().__init__(pending, never, keep)

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:  # noqa: ARG002
        return []

    async def entity_deleted(self, entity_id: str) -> None:  # noqa: ARG002
        return None

    async def entities_written(self, entity_ids: Sequence[str]) -> None:  # noqa: ARG002
        return None


def coordinator(
    folder: Path, store: VectorStore, states: CountedStates, shown: ShownCommits | None = None
) -> Coordinator:
    return Coordinator(
        stores=OneStore(store),
        groups=Registry(folder / "groups.sqlite"),
        states=states,
        open_journal=lambda: SqliteJournal(folder / "commits.sqlite"),
        clock=SystemClock(),
        rng=np.random.default_rng(0),
        on_fenced=end,
        shown=shown,
        policy=CommitPolicy(wait_s=WAIT_S),
    )


def inserts(written: Sequence[Entity]) -> Transaction:
    return Transaction(tuple(Insert(one) for one in written))


# --- commits


@asynccontextmanager
async def writers(folder: Path) -> Any:
    """Yield the three ways to write, each with a store of its own: name -> write."""
    states, log, commits = CountedStates(), PlainLog(folder / "plain.sqlite"), itertools.count(1)
    stores = {name: QdrantEdgeStore(folder / name) for name in ("ours", "logged", "bare")}
    ours = coordinator(folder, stores["ours"], states)
    await ours.readable()

    async def logged(written: Sequence[Entity]) -> None:
        log.append(intent_of(next(commits), written).record())
        await stores["logged"].upsert(written)

    yield {"ours": lambda written: ours.do(inserts(written)), "logged": logged, "bare": stores["bare"].upsert}
    counts = {name: await store.count() for name, store in stores.items()}
    expect(len(set(counts.values())), 1)
    expect(states.noted, counts["ours"])
    await ours.close()
    for store in stores.values():
        await store.close()


async def one_caller(write: Write, batches: Sequence[Sequence[Entity]]) -> list[float]:
    """Return how long each write took, in ms."""
    found = []
    for batch in batches:
        began = time.perf_counter()
        await write(batch)
        found.append(1000.0 * (time.perf_counter() - began))
    return found


async def many_callers(write: Write, batches: Sequence[Sequence[Entity]]) -> float:
    """Return how long all writes took together, in ms, asked for by ``CALLERS``."""
    waiting = iter(batches)

    async def call() -> None:
        for batch in waiting:
            await write(batch)

    began = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(CALLERS)))
    return 1000.0 * (time.perf_counter() - began)


async def measure_commits(ways: Mapping[str, Write], rounds: int, inserted: int) -> None:
    """Print one line for each size of a transaction; ``inserted`` entities in each round."""
    rng, numbers = np.random.default_rng(1), itertools.count()
    print("| callers | inserts a commit | way | ms a commit, median | p99 | inserts/s | time over logged | over bare |")
    print("|---|---|---|---|---|---|---|---|")
    for callers, size in (*((1, size) for size in SIZES), (CALLERS, 1), (CALLERS, 10)):
        each = max(5, inserted // size)
        times: dict[str, list[float]] = {way: [] for way in ways}
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            batches = [entities(numbers, size, rng) for _ in range(each)]
            for way, write in ways.items():
                if callers == 1:
                    found = await one_caller(write, batches)
                    times[way] += found
                    rates[way].append(1000.0 * size * each / sum(found))
                else:
                    rates[way].append(1000.0 * size * each / await many_callers(write, batches))
        rate = {way: statistics.median(values) for way, values in rates.items()}
        for way in ways:
            latency = [f"{np.quantile(times[way], share):.2f}" if callers == 1 else "" for share in (0.5, 0.99)]
            cost = {one: statistics.median(times[one]) if callers == 1 else 1.0 / rate[one] for one in ways}
            over = [f"{cost[way] / cost[peer]:.2f}" for peer in ("logged", "bare")]
            told = " | ".join([*latency, f"{rate[way]:,.0f}", *over])
            print(f"| {callers} | {size} | {way} | {told} |", flush=True)


async def commits(folder: Path, rounds: int, inserted: int, on_ray: bool) -> None:
    async with writers(folder) as ways:
        if not on_ray:
            await measure_commits(ways, rounds, inserted)
            return
        with importlib.import_module("benchmarks.durability_actor").store_actor(folder) as do:
            await measure_commits({**ways, "actor": lambda written: do(inserts(written))}, rounds, inserted)


# --- recovery


def commit_records(count: int, rng: np.random.Generator) -> Iterator[Json]:
    """Yield what ``count`` records say: transactions with keys, all but the last ``OPEN`` of them applied.

    Beside them, the store was flushed as often as the coordinator has it flushed.
    """
    numbers, done = itertools.count(), (count - 1 - OPEN) // 2
    yield reserve_record(10 * count)
    number = 1
    for commit in range(1, done + 1):
        yield intent_of(commit, entities(numbers, 1, rng), f"key-{commit}").record()
        yield receipt_record(commit)
        number += 2
        if commit % UNFLUSHED_COMMITS == 0:
            yield flushed_record(number)
            number += 1
    for commit in range(done + 1, count - done):
        yield intent_of(commit, entities(numbers, 1, rng), f"key-{commit}").record()


def job_records(count: int, rng: np.random.Generator) -> Iterator[Json]:
    """Yield what ``count`` records say: jobs of a circuit with 16 outcomes; the last ``OPEN`` are at the provider."""
    counts = counts_to_json(
        {outcome: int(number) for outcome, number in enumerate(rng.multinomial(4096, [1 / 16] * 16))}
    )
    account, jobs = Account("default", "2026-11-25", "ionq"), (count + 2) // 3
    for job in range(jobs):
        key, now_s, ends = f"job-{job}", time.time(), job < jobs - OPEN
        charge = Charge(account, 12_416_600, 4096, 1)
        yield {
            "t": "intent",
            "key": key,
            **OpenSubmission(key, "ionq", 4096, (4,), (f"{job:032x}",), {key: charge}, now_s).intent(),
        }
        if 3 * job + 1 < count:
            yield {"t": "accepted", "key": key, "job_id": f"provider-{job}"}
        if 3 * job + 2 < count and ends:
            done = {"counts": [counts], "micro_usd": {key: 12_416_600}, "provenance": "hardware", "at_s": now_s}
            yield {"t": "done", "key": key, "job_id": f"provider-{job}", **done}


def write_journal(path: Path, stream: str, records: Iterator[Json]) -> int:
    """Return how many records were written."""
    journal = SqliteJournal(path)
    while chunk := list(itertools.islice(records, CHUNK)):
        journal.append(stream, chunk)
    last = journal.last(stream)
    journal.close()
    return last


def compact_commits(path: Path) -> None:
    journal, ledger = SqliteJournal(path), CommitLedger(KeyRetention())
    for number, record in journal.read(COMMITS):
        ledger.apply(number, record)
    journal.compact(COMMITS, ledger.number, ledger.snapshot(time.time()))
    journal.close()


async def recover_commits(path: Path, folder: Path) -> float:
    """Return the seconds until readers are let in; the transactions that were left open are in the store then."""
    store = QdrantEdgeStore(folder / "store")
    await store.upsert(entities(itertools.count(10**9), 1, np.random.default_rng(3)))  # it is no new one
    shutil.copy(path, folder / "commits.sqlite")
    began = time.perf_counter()
    ours = coordinator(folder, store, CountedStates())
    await ours.readable()
    took_s = time.perf_counter() - began
    expect(await store.count() > OPEN, True)
    await ours.close()
    await store.close()
    return took_s


def ledger() -> Ledger:
    return Ledger(Budgets(lambda _: Allowance()), Retention())


async def recover_jobs(path: Path, folder: Path) -> float:
    """Return the seconds until the ledger is there, and who submits is the only one to write."""
    shutil.copy(path, folder / "jobs.sqlite")
    began = time.perf_counter()
    journal = JobJournal(SqliteJournal(folder / "jobs.sqlite"), ledger(), SystemClock(), end)
    await journal.load()
    took_s = time.perf_counter() - began
    expect(len(journal.ledger.open), OPEN)
    await journal.close()
    return took_s


async def compact_jobs(path: Path) -> None:
    journal = JobJournal(SqliteJournal(path), ledger(), SystemClock(), end)
    await journal.load()
    await journal.compact()
    await journal.close()


async def median_of(recover: Callable[[Path, Path], Awaitable[float]], path: Path, rounds: int) -> float:
    found = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            found.append(await recover(path, Path(folder)))
    return statistics.median(found)


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise SystemExit(f"found {found} instead of {wanted}")


async def recovery(folder: Path, sizes: Sequence[int], rounds: int) -> None:
    print("\n| journal | records | MB | ready after s | us a record | with a snapshot s | over without |")
    print("|---|---|---|---|---|---|---|")
    for size in sizes:
        for name, stream, records, recover in (
            ("commits", COMMITS, commit_records, recover_commits),
            ("jobs", JOBS, job_records, recover_jobs),
        ):
            path, times = folder / f"{name}-{size}.sqlite", rounds if size <= 100_000 else 1
            count = write_journal(path, stream, records(size, np.random.default_rng(2)))
            megabytes = path.stat().st_size / 1e6
            whole = await median_of(recover, path, times)
            if name == "commits":
                compact_commits(path)
            else:
                await compact_jobs(path)
            short = await median_of(recover, path, times)
            path.unlink()
            cells = [f"{count:,}", f"{megabytes:.1f}", f"{whole:.3f}", f"{1e6 * whole / count:.0f}"]
            print(f"| {name} | {' | '.join(cells)} | {short:.3f} | {short / whole:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds: some 20 s")
    parser.add_argument("--million", action="store_true", help="recover 10^6 records too: minutes more, 1.5 GB of disk")
    parser.add_argument("--ray", action="store_true", help="measure the store's actor too")
    arguments = parser.parse_args()
    rounds, inserted = (2, 100) if arguments.quick else (7, 300)
    sizes = [1_000, 10_000] if arguments.quick else [1_000, 10_000, 100_000]
    if arguments.million:
        sizes.append(1_000_000)
    with tempfile.TemporaryDirectory(prefix="qqc-bench-") as folder:
        asyncio.run(commits(Path(folder), rounds, inserted, arguments.ray))
        asyncio.run(recovery(Path(folder), sizes, 2 if arguments.quick else 3))


if __name__ == "__main__":
    main()
