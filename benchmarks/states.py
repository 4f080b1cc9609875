"""A table of 1,000,000 states against the same table as a dict of dataclasses: ``python -m benchmarks.states``.

Ours is ``quantum_db.states.StateTable``; the peer is ``benchmarks.dict_states``, which follows the same lifecycle event
by event. Both get the same events, ours as columns, as they come from the replicas, the peer as ``StateEvent`` objects;
the time to make columns of objects is told as well. Batches of 10,000 events, one thread, medians of its CPU time, so
that other work on the machine counts less.

- Steps: new states; live ones, measured; decohered ones, prepared and measured; popular ones (Zipf 1.2), which come
  many times in a batch; new ones in a full table, so that others are evicted; and the worst case, one entity written
  anew all the time. Both tables must make the same steps.
- Expiry: calls of ``advance`` (5,000 states at most) at every 1/64 s until all have decohered; the peer looks at every
  state in one sweep. What counts is the longest call, for it is what a query waits for; here by the clock, too.
- Snapshots: a shard of 200,000 states takes one event after the other while a snapshot is made and written (SQLite).
  The longest time for which no event was applied, against making the whole snapshot while the shard is held.
- Memory: growth of the process's resident memory, in a process of its own; ids of 12 or 36 characters.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil

from benchmarks.dict_states import DictStates
from quantum_db.errors import Fenced
from quantum_db.journals.keeper import Keeper
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.lifecycle import Happening, StateEvent
from quantum_db.state_store import StateShard, events_record
from quantum_db.states.batches import happened
from quantum_db.states.events import EventBatch
from quantum_db.states.packing import pack
from quantum_db.states.table import StateTable

BATCH = 10_000
COHERENCE_MS = 60_000.0
LIMIT = 5_000
START_S = 1_700_000_000.0

Batches = Iterator[EventBatch]


def name(number: int, length: int = 12) -> str:
    return f"doc-{number:0{length - 4}d}"


def batch(
    numbers: Sequence[int], codes: Sequence[Happening], at_s: float, coherence_ms: float | np.ndarray
) -> EventBatch:
    """Return one event for each number and code: all of the first code, then all of the second. Ids are new strings."""
    ids = [name(number) for _ in codes for number in numbers]
    count = len(ids)
    return EventBatch(
        np.array(ids, dtype=np.object_),
        np.repeat(np.array([code.code for code in codes], dtype=np.uint8), len(numbers)),
        np.full(count, at_s),
        np.broadcast_to(np.asarray(coherence_ms, dtype=np.float32), count).copy(),
        np.zeros(count, dtype=np.int64),
    )


def filling(states: int, coherence_ms: float | np.ndarray = COHERENCE_MS) -> Batches:
    for first in range(0, states, BATCH):
        numbers = range(first, min(first + BATCH, states))
        given = coherence_ms[numbers.start : numbers.stop] if isinstance(coherence_ms, np.ndarray) else coherence_ms
        yield batch(numbers, [Happening.PREPARED], START_S, given)


def workloads(states: int, rounds: int) -> Iterator[tuple[str, list[EventBatch]]]:
    """Yield name and batches. Later workloads find the table as the earlier ones left it."""
    rng, both, now_s = np.random.default_rng(0), [Happening.PREPARED, Happening.MEASURED], START_S + 1.0
    late_s = [now_s + 100.0 * (1 + place) for place in range(rounds)]
    every = [rng.choice(states, BATCH, replace=False).tolist() for _ in range(rounds)]
    yield "live: measured", [batch(one, both[1:], now_s, 0.0) for one in every]
    half = [rng.choice(states, BATCH // 2, replace=False).tolist() for _ in range(rounds)]
    decohered = [batch(one, both, at_s, COHERENCE_MS) for one, at_s in zip(half, late_s, strict=True)]
    yield "decohered: prepared, measured", decohered
    popular = [(rng.zipf(1.2, BATCH // 2) % states).tolist() for _ in range(rounds)]
    yield "popular: prepared, measured", [batch(one, both, late_s[-1], COHERENCE_MS) for one in popular]
    fresh = [range(states + place * BATCH, states + (place + 1) * BATCH) for place in range(rounds)]
    yield "new: created, others evicted", [batch(one, [Happening.CREATED], late_s[-1], COHERENCE_MS) for one in fresh]
    rewriting = batch([states + 1] * (BATCH // 2), [Happening.CREATED, Happening.PREPARED], late_s[-1], COHERENCE_MS)
    alternately = np.arange(BATCH).reshape(2, -1).T.ravel()
    yield "one entity: created, prepared", [rewriting.take(alternately) for _ in range(rounds)]


def timed(run: Callable[[], object]) -> float:
    start = time.thread_time()
    run()
    return 1e3 * (time.thread_time() - start)


def applied(
    table: StateTable | DictStates, states: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[int]]]:
    """Fill a table and apply the workloads; return for each the times of the batches in ms and the steps they made."""
    times: dict[str, list[float]] = {}
    made: dict[str, list[int]] = {}
    for title, batches in (("new: prepared", filling(states)), *workloads(states, rounds)):
        times[title], made[title] = [], []
        for events in batches:
            given = events if isinstance(table, StateTable) else list(events)
            found: list[object] = []
            times[title].append(timed(lambda given=given, found=found: found.append(table.apply(given))))
            steps_made = found[0].transitions if isinstance(table, StateTable) else found[0][0]
            made[title].append(len(steps_made))
    return times, made


def steps(states: int, rounds: int) -> None:
    ours, made = applied(StateTable(states), states, rounds)
    peer, expected = applied(DictStates(states), states, rounds)
    assert made == expected
    given = list(next(filling(BATCH)))
    columns_ms = statistics.median(timed(lambda: EventBatch.of(given)) for _ in range(rounds))
    head(
        f"Steps: {states:,} states, batches of {BATCH:,} events; to make columns of one takes {columns_ms:.1f} ms",
        [
            "batch",
            "steps",
            "ours ms",
            "longest",
            "dict ms",
            "longest",
            "ours steps/s",
            "dict / ours",
            "with columns made",
        ],
    )
    for title, times in ours.items():
        mine, theirs, count = statistics.median(times), statistics.median(peer[title]), statistics.mean(made[title])
        row(
            [
                title,
                f"{count:,.0f}",
                f"{mine:.2f}",
                f"{max(times):.1f}",
                f"{theirs:.1f}",
                f"{max(peer[title]):.0f}",
                f"{1e3 * sum(made[title]) / sum(times):,.0f}",
                f"{theirs / mine:.1f}",
                f"{theirs / (mine + columns_ms):.1f}",
            ]
        )


def expiry(states: int) -> None:
    rng = np.random.default_rng(0)
    head(
        f"Expiry of {states:,} states",
        [
            "they expire",
            "steps",
            "calls",
            "longest call ms",
            "longest by the clock",
            "all calls ms",
            "dict: one sweep ms",
            "sweep / longest call",
        ],
    )
    for title, spread_ms in (
        ("within 60 s", rng.uniform(1.0, 6e4, states)),
        ("within 1 h", rng.uniform(1.0, 3.6e6, states)),
        ("at one time", np.full(states, 6e4)),
    ):
        ours = StateTable(states)
        for events in filling(states, spread_ms.astype(np.float32)):
            ours.apply(events)
        calls, cpu, found, now_s = [], [], 0, START_S
        end_s = START_S + float(spread_ms.max()) / 1e3 + 1.0
        while now_s < end_s:
            now_s += 1 / 64
            while ours.due(now_s):
                start, cpu_start = time.perf_counter(), time.thread_time()
                found += len(ours.advance(now_s, LIMIT))
                cpu.append(1e3 * (time.thread_time() - cpu_start))
                calls.append(1e3 * (time.perf_counter() - start))
        assert found == states == len(ours)
        del ours
        peer = DictStates(states)
        for events in filling(states, spread_ms.astype(np.float32)):
            peer.apply(list(events))
        sweep = timed(lambda peer=peer, end_s=end_s: peer.sweep(end_s))
        longest = max(cpu)
        row(
            [
                title,
                found,
                len(calls),
                f"{longest:.2f}",
                f"{max(calls):.2f}",
                f"{sum(cpu):.0f}",
                f"{sweep:.0f}",
                f"{sweep / longest:.0f}",
            ]
        )


def filled_bytes(kind: str, states: int, length: int) -> tuple[float, float]:
    """Return bytes a state: by resident memory, and of the arrays."""
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    table = StateTable(states) if kind == "ours" else DictStates(states)
    for first in range(0, states, BATCH):
        events = EventBatch.of(
            [
                StateEvent(name(number, length), Happening.PREPARED, START_S, 1e4 + number % 1000)
                for number in range(first, first + BATCH)
            ]
        )
        if isinstance(table, StateTable):
            table.apply(events)
        else:
            table.apply(list(events))
    gc.collect()
    arrays = table.nbytes if isinstance(table, StateTable) else 0
    return (process.memory_info().rss - before) / states, arrays / states


def memory(states: int) -> None:
    head(
        f"Memory of {states:,} prepared states, bytes a state",
        ["ids", "ours, resident", "of it arrays", "dict, resident", "dict / ours"],
    )
    for length in (12, 36):
        found = []
        for kind in ("ours", "dict"):
            program = f"from benchmarks.states import filled_bytes; print(*filled_bytes({kind!r}, {states}, {length}))"
            made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 - our own
            found.append([float(value) for value in made.stdout.split()])
        (ours, arrays), (peer, _) = found
        row([f"{length} characters", f"{ours:.0f}", f"{arrays:.0f}", f"{peer:.0f}", f"{peer / ours:.1f}"])


def restart(states: int) -> None:
    table = StateTable(states)
    for events in filling(states):
        table.apply(events)
    records: list[dict[str, object]] = []
    written = timed(lambda: records.extend(table.snapshot()))
    again = StateTable(states)
    read = timed(lambda: again.restore(records))
    assert len(again) == states
    print(f"\nA snapshot of {states:,} states takes {written / 1e3:.1f} s, restoring it {read / 1e3:.1f} s.")


class HeldKeeper(Keeper[StateShard]):
    """The peer: nothing is applied while the records of a snapshot are made, one for each state and then in runs."""

    async def compact(self) -> None:
        assert self._commit is not None
        async with self.alone:
            through = self._number
            records = await asyncio.to_thread(lambda: list(pack(self.kept.records())))
        await self._commit.run(lambda: self._journal.compact(self._stream, through, records, epoch=self.epoch))


async def stalls(kind: type[Keeper[StateShard]], states: int, folder: Path) -> tuple[float, float, float]:
    """Return in seconds: the longest wait for the shard, the longest time between two turns of the loop, the whole."""

    def fail(error: Fenced) -> None:
        raise error

    keeper = kind(StateShard(states), SqliteJournal(folder / f"{kind.__name__}.sqlite"), "states", fail)
    await keeper.load()
    for events in filling(states):
        keeper.kept.table.apply(events)
    await keeper.write([events_record(happened(Happening.MEASURED, [name(0)], START_S), START_S)])
    start = time.perf_counter()
    snapshot = asyncio.create_task(keeper.compact())
    held, turn, before = 0.0, 0.0, start
    while not snapshot.done():
        asked = time.perf_counter()
        async with keeper.alone:
            held = max(held, time.perf_counter() - asked)
        await asyncio.sleep(0)
        turn, before = max(turn, time.perf_counter() - before), time.perf_counter()
    await snapshot
    whole = time.perf_counter() - start
    await keeper.close()
    return held, turn, whole


def snapshots(states: int) -> None:
    head(
        f"A snapshot of {states:,} states while events come in, ms",
        ["how", "longest wait for the shard", "longest turn of the loop", "until it is durable"],
    )
    with tempfile.TemporaryDirectory() as folder:
        for title, kind in (("copied, then written", Keeper), ("shard held meanwhile", HeldKeeper)):
            row([title, *(f"{1e3 * value:.0f}" for value in asyncio.run(stalls(kind, states, Path(folder))))])


def row(cells: Sequence[object]) -> None:
    print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


def head(title: str, names: Sequence[str]) -> None:
    print(f"\n{title}\n")
    row(names)
    print(f"|{'---|' * len(names)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    steps(args.states, args.rounds)
    expiry(args.states)
    snapshots(min(args.states, 200_000))
    memory(args.states)
    restart(args.states)


if __name__ == "__main__":
    main()
