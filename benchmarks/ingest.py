"""Ingest by the client over HTTP beside the bare embedded store: ``python -m benchmarks.ingest``.

100,000 vectors of 384 numbers. The peers run first, in this process and on the same disk: the library's upsert, and
the store's, both in batches of a thousand. Then a whole cluster takes the same rows from the client. The work on a row
is also measured step by step, to tell what limits the way over HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import qdrant_edge as edge
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cluster.runtime import running
from cluster.settings import HttpSettings, Settings
from quantum_db import Config, QuantumDB
from quantum_db.client.bulk import MAX_ROWS
from quantum_db.client.http import encoded
from quantum_db.commits.bodies import batch_entities
from quantum_db.frames import batch_of, frame_of
from quantum_db.model import Entity
from quantum_db.stores.qdrant_edge import QdrantEdgeStore

DIMENSION = 384
STEP_ROUNDS = 20


def library(vectors: NDArray[np.float32], folder: Path) -> float:
    """Return rows/s of the library: points of numbered ids without payload."""
    parameters = edge.EdgeVectorParams(size=vectors.shape[1], distance=edge.Distance.Cosine)
    shard = edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors=parameters))
    start = time.perf_counter()
    for begin in range(0, len(vectors), MAX_ROWS):
        batch = vectors[begin : begin + MAX_ROWS]
        points = [edge.Point(begin + i, row.tolist(), {}) for i, row in enumerate(batch)]
        shard.update(edge.UpdateOperation.upsert_points(points))
    taken_s = time.perf_counter() - start
    shard.close()
    return len(vectors) / taken_s


async def store(ids: list[str], vectors: NDArray[np.float32], folder: Path) -> float:
    """Return rows/s of the embedded store."""
    place = QdrantEdgeStore(folder)
    start = time.perf_counter()
    for begin in range(0, len(ids), MAX_ROWS):
        some = range(begin, min(begin + MAX_ROWS, len(ids)))
        await place.upsert([Entity(ids[i], vectors[i]) for i in some])
    taken_s = time.perf_counter() - start
    await place.close()
    return len(ids) / taken_s


def client(ids: list[str], vectors: NDArray[np.float32], config: Config) -> float:
    """Return rows/s of the client over HTTP."""
    with QuantumDB(config).connect() as db:
        start = time.perf_counter()
        outcome = db.insert_batch_sync(ids=ids, vectors=vectors).check()
        taken_s = time.perf_counter() - start
    assert outcome.written == len(ids)
    return len(ids) / taken_s


def steps(ids: list[str], vectors: NDArray[np.float32]) -> dict[str, float]:
    """Return microseconds a row of what is done on the way, each alone: medians of rounds of one batch."""
    body = {"vectors": [{"id": ids[i], "vector": vectors[i]} for i in range(MAX_ROWS)]}
    text, frame = encoded(body), frame_of(body)
    assert frame is not None
    raw, framed = orjson.loads(text), batch_of(frame)
    return {
        "client: encode as bytes": _median_us(lambda: frame_of(body)),
        "replica: decode the bytes": _median_us(lambda: batch_of(frame)),
        "replica: check and normalise": _median_us(lambda: batch_entities(framed)),
        "client: encode as JSON instead": _median_us(lambda: encoded(body)),
        "replica: decode the JSON": _median_us(lambda: orjson.loads(text)),
        "replica: check and normalise what was JSON": _median_us(lambda: batch_entities(raw)),
    }


def _median_us(work: Callable[[], object]) -> float:
    times = []
    for _ in range(STEP_ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) / MAX_ROWS * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    vectors = np.random.default_rng(0).normal(size=(rows, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"row-{i}" for i in range(rows)]
    console = Console()
    with tempfile.TemporaryDirectory(prefix="qqc-ingest-") as folder:
        place = Path(folder)
        (place / "library").mkdir()
        found = {"library": library(vectors, place / "library")}
        found["store"] = asyncio.run(store(ids, vectors, place / "store"))
        settings = Settings(data_dir=place / "cluster", http=HttpSettings(port=0))
        with running(settings) as cluster:
            found["client"] = client(ids, vectors, Config(url=cluster.url, api_key=cluster.admin_key))
    named = {
        "library": "qdrant-edge, points without payload",
        "store": "embedded store, entities",
        "client": "client over HTTP, one replica",
    }
    table = Table(title=f"{rows:,} x {DIMENSION}")
    for column in ("", "rows/s", "over the store", "over the library"):
        table.add_column(column, justify="left" if not column else "right")
    for name, rate in found.items():
        ratios = (f"{rate / found[peer]:.2f}" for peer in ("store", "library"))
        table.add_row(named[name], f"{rate:,.0f}", *ratios)
    console.print(table)
    for step, taken_us in steps(ids, vectors).items():
        console.print(f"{step}: {taken_us:.0f} us a row")


if __name__ == "__main__":
    main()
