"""Searches of 10^4, 10^5 and 10^6 vectors, at rest, during ingest, and while an index is built.

``python -m benchmarks.scale --sizes 10000 100000 1000000``. The store is in a process of its own, as in the cluster,
behind a socket instead of Ray. Its index is first built while nothing is asked, then again after the ingest, while
queries come. Queries come at fixed times, whether or not earlier ones have been answered; a latency
counts from the time at which the query was due, so that whoever has to wait for a store that stands still is seen.
The peers run on the same vectors: NumPy's brute force, and the library's bare shard in this process.

The vectors are mixtures of 256 clusters on 24 dimensions, turned into 128, with a little noise: like embeddings in
that few directions carry most of what they say. Vectors without any structure are asked for by ``--isotropic``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.scale_store import DIMENSION, TOP_K, Ask, frame, read_frame, start
from quantum_db.stores.edge_index import IndexSettings
from quantum_db.stores.points import SEARCH_EF, point_id

Vectors = NDArray[np.float32]

LATENT, CLUSTERS, NOISE = 24, 256, 0.02
BATCH = 500
CONNECTIONS = 8
WARM_UP = 50
ATTEMPTS_S = 60.0


def vectors_of(number: int, seed: int, *, isotropic: bool) -> Vectors:
    """Return unit vectors."""
    shape, rng = np.random.default_rng(0), np.random.default_rng([seed, number])
    basis = shape.standard_normal((LATENT, DIMENSION)).astype(np.float32)
    centres = 0.7 * shape.standard_normal((CLUSTERS, LATENT)).astype(np.float32)
    made = np.empty((number, DIMENSION), dtype=np.float32)
    for begin in range(0, number, 50_000):
        rows = rng.standard_normal((min(50_000, number - begin), DIMENSION)).astype(np.float32)
        if not isotropic:
            latent = centres[rng.integers(CLUSTERS, size=len(rows))] + rows[:, :LATENT]
            noise = rng.standard_normal(rows.shape).astype(np.float32)
            rows = latent @ basis + NOISE * np.sqrt(LATENT) * noise
        made[begin : begin + len(rows)] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return made


class Store:
    """The store's process, as its clients see it."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def connect(self) -> None:
        async with asyncio.timeout(ATTEMPTS_S):
            while not self._socket.exists():  # noqa: ASYNC110 - a process that starts sends no event
                await asyncio.sleep(0.05)
        for _ in range(CONNECTIONS):
            self._idle.put_nowait(await asyncio.open_unix_connection(self._socket))

    async def close(self) -> None:
        """Have the process end."""
        await self.ask(Ask.CLOSE)
        while not self._idle.empty():
            self._idle.get_nowait()[1].close()

    async def ask(self, ask: Ask, number: int = 0, vectors: Vectors | None = None) -> Any:
        connection = await self._idle.get()
        try:
            connection[1].write(frame(ask, number, b"" if vectors is None else vectors.tobytes()))
            failed, _, content = await read_frame(connection[0])
        finally:
            self._idle.put_nowait(connection)
        if failed:
            raise RuntimeError(content.decode())
        return json.loads(content)

    async def write(self, first: int, vectors: Vectors) -> None:
        for begin in range(0, len(vectors), BATCH):
            await self.ask(Ask.WRITE, first + begin, vectors[begin : begin + BATCH])


@asynccontextmanager
async def running(folder: Path, index: IndexSettings) -> AsyncIterator[Store]:
    socket = folder.with_suffix(".socket")
    process = start(folder, socket, index)
    try:
        store = Store(socket)
        await store.connect()
        yield store
        await store.close()
        await asyncio.to_thread(process.wait, 60.0)
    finally:
        process.kill()
        process.wait()
        socket.unlink(missing_ok=True)


@dataclass
class Load:
    """Queries at fixed times."""

    store: Store
    queries: Vectors
    rate: float
    latencies_s: list[float] = field(default_factory=list)

    async def during(self, work: Awaitable[object]) -> float:
        """Ask until something is done; return how long that took."""
        begin = time.perf_counter()
        done = asyncio.ensure_future(work)
        asked: list[asyncio.Task[None]] = []
        while not done.done():
            due = begin + len(asked) / self.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asked.append(asyncio.create_task(self._ask(due, self.queries[len(asked) % len(self.queries)])))
        taken_s = time.perf_counter() - begin
        await asyncio.gather(*asked)
        await done
        return taken_s

    async def _ask(self, due: float, query: Vectors) -> None:
        await self.store.ask(Ask.SEARCH, TOP_K, query)
        self.latencies_s.append(time.perf_counter() - due)

    def quantile(self, q: float) -> float:
        """Return a quantile of the latencies in ms."""
        return 1e3 * float(np.quantile(self.latencies_s, q))


def recall(answers: list[list[int]], exact: list[list[int]]) -> float:
    """Return how many of the nearest are among those that were found."""
    hits = sum(len(set(found) & set(wanted)) for found, wanted in zip(answers, exact, strict=True))
    return hits / sum(map(len, exact))


def timed(call: Callable[[Vectors], Any], queries: Vectors) -> tuple[float, list[Any]]:
    """Return the median time of a call in ms, and what it returned."""
    taken, answers = [], []
    for query in queries:
        begin = time.perf_counter()
        answers.append(call(query))
        taken.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(taken)), answers


def brute_force(vectors: Vectors) -> Callable[[Vectors], list[int]]:
    """Return the search of NumPy: all scores, then the best."""

    def nearest(query: Vectors) -> list[int]:
        scores = vectors @ query
        best = np.argpartition(-scores, TOP_K)[:TOP_K]
        return [int(one) for one in best[np.argsort(-scores[best])]]

    return nearest


def bare_shard(folder: Path) -> tuple[edge.EdgeShard, Callable[[Vectors], list[str]]]:
    """Open the library's shard of a store that is closed, and return it with its search: ids and scores alone."""
    manifest = json.loads((folder / "data" / "manifest.json").read_text())
    shard = edge.EdgeShard.load(str(folder / "data" / manifest["shard"]))

    def nearest(query: Vectors) -> list[str]:
        request = edge.QueryRequest(
            limit=TOP_K, query=edge.Query.Nearest(query.tolist()), params=edge.SearchParams(hnsw_ef=SEARCH_EF)
        )
        return [str(point.id) for point in shard.query(request)]

    return shard, nearest


async def measured(folder: Path, size: int, options: argparse.Namespace, index: IndexSettings) -> dict[str, float]:
    """Measure one size."""
    isotropic: bool = options.isotropic
    vectors, queries = vectors_of(size, 1, isotropic=isotropic), vectors_of(options.queries, 2, isotropic=isotropic)
    fresh = vectors_of(options.ingest, 3, isotropic=isotropic)
    row: dict[str, float] = {"vectors": size}
    row["NumPy p50"], exact = timed(brute_force(vectors), queries)
    async with running(folder, index) as store:
        begin = time.perf_counter()
        await store.write(0, vectors)
        row["load s"] = time.perf_counter() - begin
        state: dict[str, Any] = await store.ask(Ask.STATE)
        row["unindexed"] = float(state["unindexed"])
        peak = asyncio.create_task(peak_of_child(store))
        begin = time.perf_counter()
        await store.ask(Ask.OPTIMIZE)
        row["build s"] = time.perf_counter() - begin
        row["child MB"] = await stopped(peak) / 1e6
        answers = [await store.ask(Ask.SEARCH, TOP_K, query) for query in queries]
        row["recall@10"] = recall(answers, exact)
        resting = Load(store, queries, options.rate)
        await resting.during(asyncio.sleep(options.rest_s))
        row["p50"], row["p99"] = resting.quantile(0.5), resting.quantile(0.99)
        state = await store.ask(Ask.STATE)
        row["RSS MB"], row["unshared MB"] = state["rss"] / 1e6, state["unshared"] / 1e6
        row["disk MB"] = state["disk"] / 1e6
        ingesting = Load(store, queries, options.rate)
        row["ingest/s"] = len(fresh) / await ingesting.during(store.write(size, fresh))
        row["p50 ingest"], row["p99 ingest"] = ingesting.quantile(0.5), ingesting.quantile(0.99)
        row["max ingest"] = ingesting.quantile(1.0)
        building = Load(store, queries, options.rate)
        if size <= options.rebuild_up_to:
            row["rebuild s"] = await building.during(store.ask(Ask.OPTIMIZE))
            row["p50 building"], row["p99 building"] = building.quantile(0.5), building.quantile(0.99)
            row["max building"] = building.quantile(1.0)
    shard, nearest = bare_shard(folder)
    for query in queries[:WARM_UP]:
        nearest(query)
    row["bare p50"], found = timed(nearest, queries)
    numbers = {point_id(str(number), 0): number for number in range(size + len(fresh))}
    older = [[numbers[one] for one in ids if numbers[one] < size] for ids in found]
    row["bare recall@10"] = recall(older, [wanted[: len(ids)] for wanted, ids in zip(exact, older, strict=True)])
    shard.close()
    row["p99 ingest / p99"] = row["p99 ingest"] / row["p99"]
    return row


async def peak_of_child(store: Store) -> float:
    """Return the most memory that a child of the store's process has had, in bytes; runs until it is cancelled."""
    peak = 0.0
    try:
        while True:
            peak = max(peak, float((await store.ask(Ask.STATE))["child"]))
            await asyncio.sleep(2.0)
    except asyncio.CancelledError:
        return peak


async def stopped(task: asyncio.Task[float]) -> float:
    task.cancel()
    return await task


def report(rows: list[dict[str, float]], console: Console) -> None:
    table = Table("", *[f"{int(row['vectors']):,}" for row in rows])
    for name in dict.fromkeys(name for row in rows for name in row):
        table.add_row(
            name, *["" if name not in row else f"{row[name]:,.{3 if row[name] < 10 else 0}f}" for row in rows]
        )
    console.print(table)
    first, last = rows[0], rows[-1]
    console.print(
        f"p50 at {last['vectors']:,.0f} over p50 at {first['vectors']:,.0f}: {last['p50'] / first['p50']:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--ingest", type=int, default=25_000, help="vectors that are written while queries come")
    parser.add_argument("--rebuild-up-to", type=int, default=100_000, help="the largest size that is indexed twice")
    parser.add_argument("--rate", type=float, default=40.0, help="queries a second")
    parser.add_argument("--rest-s", type=float, default=15.0)
    parser.add_argument("--quantization", choices=["none", "int8"], default="none")
    parser.add_argument("--on-disk", action="store_true")
    parser.add_argument("--isotropic", action="store_true")
    options = parser.parse_args()
    index = IndexSettings(on_disk=options.on_disk, quantization=options.quantization)
    console, rows = Console(width=120), []
    with tempfile.TemporaryDirectory(prefix="qqc-scale-") as folder:
        for size in options.sizes:
            rows.append(asyncio.run(measured(Path(folder) / str(size), size, options, index)))
            console.print(rows[-1])
    report(rows, console)


if __name__ == "__main__":
    main()
