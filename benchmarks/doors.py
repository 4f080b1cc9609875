"""gRPC beside HTTP on one cluster: ``python -m benchmarks.doors``.

Rows of 384 numbers go in over HTTP (the peer: JSON bodies of a thousand, one after another), by the client over HTTP,
and by gRPC, as batches of a thousand and as a stream; then one caller asks classical queries by both. Each way writes
into a collection of its own in each round. Medians over rounds that alternate the ways.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import orjson
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cluster.runtime import Running, running
from cluster.settings import GrpcSettings, HttpSettings, Settings
from quantum_db import Config, QuantumDB
from serve_app.rpc import quantum_db_pb2 as pb
from serve_app.rpc.quantum_db_pb2_grpc import QuantumDBStub

DIMENSION, BATCH, IN_A_MESSAGE = 384, 1_000, 100
UNBOUNDED = [("grpc.max_receive_message_length", -1)]


@dataclass
class Callers:
    """A caller of each door, and the rows that they write."""

    cluster: Running
    http: httpx.Client
    stub: Any
    vectors: NDArray[np.float32]

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("api-key", str(self.cluster.admin_key)),)

    def batches(self, size: int) -> Iterator[range]:
        return (range(begin, min(begin + size, len(self.vectors))) for begin in range(0, len(self.vectors), size))

    def entities(self, rows: range) -> list[pb.Entity]:
        return [pb.Entity(id=f"row-{i}", vector=self.vectors[i].tolist()) for i in rows]


def by_http(callers: Callers, collection: str) -> int:
    written = 0
    for rows in callers.batches(BATCH):
        body = {"vectors": [{"id": f"row-{i}", "vector": callers.vectors[i]} for i in rows]}
        text = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        answer = callers.http.post("/api/v2/vectors/batch", params={"collection": collection}, content=text)
        written += answer.raise_for_status().json()["written"]
    return written


def by_client(callers: Callers, collection: str) -> int:
    config = Config(url=callers.cluster.url, api_key=callers.cluster.admin_key, collection=collection)
    ids = [f"row-{i}" for i in range(len(callers.vectors))]
    with QuantumDB(config).connect() as db:
        return db.insert_batch_sync(ids=ids, vectors=callers.vectors).check().written


def by_batches(callers: Callers, collection: str) -> int:
    written = 0
    for rows in callers.batches(BATCH):
        request = pb.InsertBatchRequest(collection=collection, vectors=callers.entities(rows))
        written += callers.stub.InsertBatch(request, metadata=callers.metadata).written
    return written


def by_stream(callers: Callers, collection: str) -> int:
    messages = (
        pb.InsertStreamRequest(collection=collection, vectors=callers.entities(rows))
        for rows in callers.batches(IN_A_MESSAGE)
    )
    return int(callers.stub.InsertStream(messages, metadata=callers.metadata).written)


WRITES: dict[str, Callable[[Callers, str], int]] = {
    "HTTP, batches": by_http,
    "HTTP, the client": by_client,
    "gRPC, batches": by_batches,
    "gRPC, a stream": by_stream,
}


def query_http(callers: Callers, vector: NDArray[np.float32], collection: str) -> str:
    body = orjson.dumps({"vector": vector, "mode": "classical"}, option=orjson.OPT_SERIALIZE_NUMPY)
    answer = callers.http.post("/api/v2/query", params={"collection": collection}, content=body)
    return str(orjson.loads(answer.raise_for_status().content)["hits"][0]["id"])


def query_grpc(callers: Callers, vector: NDArray[np.float32], collection: str) -> str:
    request = pb.QueryRequest(collection=collection, vector=vector.tolist(), mode="classical")
    return str(callers.stub.Query(request, metadata=callers.metadata).hits[0].id)


QUERIES = {"HTTP": query_http, "gRPC": query_grpc}


def written(callers: Callers, rounds: int) -> dict[str, list[float]]:
    """Return rows/s of each way in each round."""
    found: dict[str, list[float]] = {name: [] for name in WRITES}
    for number in range(rounds):
        for place, (name, write) in enumerate(WRITES.items()):
            collection = f"way{place}-{number}"
            made = {"name": collection, "dimension": DIMENSION}
            callers.http.post("/api/v2/collections", json=made).raise_for_status()
            start_s = time.perf_counter()
            count = write(callers, collection)
            found[name].append(count / (time.perf_counter() - start_s))
            assert count == len(callers.vectors)
    return found


def asked(callers: Callers, rounds: int, queries: int) -> dict[str, list[float]]:
    """Return the median latency of each door in each round, in ms."""
    found: dict[str, list[float]] = {name: [] for name in QUERIES}
    for number in range(rounds + 1):
        for name, query in QUERIES.items():
            taken_ms = []
            for row in range(queries):
                start_s = time.perf_counter()
                nearest = query(callers, callers.vectors[row], "way0-0")
                taken_ms.append((time.perf_counter() - start_s) * 1000.0)
                assert nearest == f"row-{row}"
            if number:  # the first round warms up
                found[name].append(statistics.median(taken_ms))
    return found


def show(console: Console, title: str, unit: str, found: dict[str, list[float]]) -> None:
    table = Table(title=title)
    peer = next(iter(found))
    for column in ("", unit, f"over {peer}"):
        table.add_column(column, justify="left" if not column else "right")
    for name, rounds in found.items():
        ratios = [one / other for one, other in zip(rounds, found[peer], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        table.add_row(name, f"{statistics.median(rounds):,.2f}", "1" if name == peer else spread)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=300, help="in a round")
    arguments = parser.parse_args()
    vectors = np.random.default_rng(0).normal(size=(arguments.rows, DIMENSION)).astype(np.float32)
    console = Console()
    console.print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="qqc-doors-") as folder:
        settings = Settings(data_dir=Path(folder), http=HttpSettings(port=0), grpc=GrpcSettings(port=0))
        with (
            running(settings) as cluster,
            httpx.Client(base_url=cluster.url, headers={"api-key": str(cluster.admin_key)}, timeout=60.0) as http,
            grpc.insecure_channel(str(cluster.grpc_address), options=UNBOUNDED) as channel,
        ):
            callers = Callers(cluster, http, QuantumDBStub(channel), vectors)
            rates = written(callers, arguments.rounds)
            latencies = asked(callers, arguments.rounds, arguments.queries)
    title = f"{arguments.rows:,} rows of {DIMENSION} numbers, {arguments.rounds} rounds"
    show(console, title, "rows/s", rates)
    show(console, f"{arguments.queries} classical queries, one caller", "p50 ms", latencies)


if __name__ == "__main__":
    main()
