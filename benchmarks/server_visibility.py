"""What visibility by commits costs on a Qdrant server: ``python -m benchmarks.server_visibility``.

**Queries.** Searches with the two conditions on a point's birth and death, against the same ones without, on Qdrant's
own engine: the embedded shard stands in for the server, with the indexes that the server's adapter makes. A tenth of
the entities were written by transactions, and one in twenty is an older version. Rounds alternate.

**Writes.** A transaction through the coordinator (SQLite journal, readers that follow by themselves) against the same
entities written plainly through it. The server is qdrant-client's local mode in this process, without a network: the
times are what the way takes besides the server's own work.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge
from qdrant_client import AsyncQdrantClient

from benchmarks.durability import CountedStates, coordinator, entities, inserts
from quantum_db.clock import SystemClock
from quantum_db.commits.operations import Upserts
from quantum_db.commits.showing import FollowedSnapshots, ShownCommits
from quantum_db.model import Entity, Search
from quantum_db.stores import qdrant_edge
from quantum_db.stores.decoding import BORN
from quantum_db.stores.points import DIED, Place, lay_out
from quantum_db.stores.qdrant import QdrantStore
from quantum_db.stores.qdrant_edge import QdrantEdgeStore

SIZES = (1, 10, 100)
FOLLOWERS = 4


async def ms(call: Any) -> float:
    """Return how long an awaitable took."""
    began = time.perf_counter()
    await call
    return 1000.0 * (time.perf_counter() - began)


async def queries(folder: Path, stored: int, rounds: int) -> None:
    """Print what a search takes, with the conditions and without."""
    store = QdrantEdgeStore(folder / "edge")
    rng, numbers = np.random.default_rng(0), itertools.count()
    await store.upsert(entities(numbers, 1, rng))
    for field in (BORN, DIED):
        index = edge.IntegerIndexParams(lookup=False, range=True, enable_hnsw=False)
        store._change(edge.UpdateOperation.create_field_index(field, index))
    for commit in range(1, stored // 1000 + 1):
        batch = entities(numbers, 1000, rng)
        await store.upsert(batch[100:])
        points = [point for one in batch[:100] for point in lay_out(one, one.id, Place(commit, 0))]
        for point in points[:50]:
            point.payload[DIED] = commit + 1
        await store._write(points)
    await store.optimize()
    searches = [Search(one.vector, 50) for one in entities(numbers, 50, rng) if one.vector is not None]
    seen = edge.Filter(
        must_not=[
            edge.FieldCondition(BORN, range=edge.RangeFloat(gt=stored)),
            edge.FieldCondition(DIED, range=edge.RangeFloat(lte=stored)),
        ]
    )
    ways = {"plain": None, "visible": seen}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for search in searches:
            for way, conditions in ways.items():
                qdrant_edge._search_filter = lambda _, conditions=conditions: conditions  # type: ignore[assignment]
                times[way].append(await ms(store.search([search])))
    plain, visible = (statistics.median(times[way]) for way in ways)
    ratio = visible / plain
    print(
        f"a search over {stored:,} points: {plain:.2f} ms plain, {visible:.2f} ms with both conditions: x {ratio:.2f}"
    )
    await store.close()


async def writes(folder: Path, rounds: int) -> None:
    """Print what transactions and plain writes take, by size and number of readers."""
    rng, numbers = np.random.default_rng(1), itertools.count()
    print("| entities | readers | plain write | transaction | ratio |")
    print("|---|---|---|---|---|")
    for size, followers in itertools.product(SIZES, (0, FOLLOWERS)):
        times: dict[str, list[float]] = {"plain": [], "transaction": []}
        client = AsyncQdrantClient(":memory:")
        place = folder / f"{size}-{followers}"
        place.mkdir()
        shown = ShownCommits(SystemClock())
        ours = coordinator(place, QdrantStore(client, "things"), CountedStates(), shown)
        following = [FollowedSnapshots(f"r{n}", ours.follow, SystemClock()) for n in range(followers)]
        for one in following:
            one.start()
        await ours.do(inserts(entities(numbers, 1, rng)))  # waits for readers of an earlier life
        for _ in range(rounds):
            batches: Sequence[Sequence[Entity]] = [entities(numbers, size, rng) for _ in range(2)]
            times["plain"].append(await ms(ours.do(Upserts(tuple(batches[0])))))
            times["transaction"].append(await ms(ours.do(inserts(batches[1]))))
        plain, whole = (statistics.median(times[way]) for way in ("plain", "transaction"))
        print(f"| {size} | {followers} | {plain:.2f} ms | {whole:.2f} ms | {whole / plain:.2f} |", flush=True)
        for one in following:
            await one.stop()
        await ours.close()
        await client.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stored", type=int, default=20_000, help="points that are searched")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="Payload indexes have no effect|Local mode")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(queries(Path(folder), arguments.stored, arguments.rounds))
        asyncio.run(writes(Path(folder), arguments.rounds))


if __name__ == "__main__":
    main()
