"""Query latency by stage on a whole cluster, over HTTP: ``python -m benchmarks.latency``.

Starts a cluster with the WordNet corpus, then asks usage examples in their context: 1 and 32 clients, without the
quantum stage (mode classical, the peer) and with it (mode balanced). Medians over rounds that alternate the modes.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import orjson
from rich.console import Console

from cluster.demo import load
from cluster.runtime import running
from cluster.settings import HttpSettings, Settings
from quantum_db.corpus import Corpus, load_corpus

STAGES = ("parse_ms", "filter_ms", "refine_ms", "rank_ms")


@dataclass
class Round:
    """One round of one mode at one number of clients."""

    seconds: float
    total_ms: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})


def bodies(corpus: Corpus, mode: str, count: int) -> list[bytes]:
    return [
        orjson.dumps(
            {
                "vector": corpus.example_vectors[row].astype(float).round(4).tolist(),
                "context": corpus.example_domains[row],
                "mode": mode,
                "refine": "always",
                "timeout_ms": 60_000,
                "explain": True,
            }
        )
        for row in np.random.default_rng(0).choice(len(corpus.example_words), count, replace=False)
    ]


async def ask(client: httpx.AsyncClient, queue: list[bytes], into: Round) -> None:
    while queue:
        body = queue.pop()
        start = time.perf_counter()
        response = await client.post("/api/v2/query", content=body)
        into.total_ms.append((time.perf_counter() - start) * 1000.0)
        answer = response.raise_for_status().json()
        for stage in STAGES:
            into.stages[stage].append(answer["stages"][stage])


async def measure(url: str, key: str, queries: list[bytes], clients: int) -> Round:
    queue, result = list(queries), Round(0.0)
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, headers={"api-key": key}, timeout=60.0, limits=limits) as client:
        start = time.perf_counter()
        await asyncio.gather(*(ask(client, queue, result) for _ in range(clients)))
        result.seconds = time.perf_counter() - start
    return result


def row(clients: int, mode: str, rounds: list[Round], peer_ms: float | None) -> tuple[str, float]:
    pooled = [value for one in rounds for value in one.total_ms]
    p50 = statistics.median(statistics.median(one.total_ms) for one in rounds)
    rate = statistics.median(len(one.total_ms) / one.seconds for one in rounds)
    stages = [statistics.median(value for one in rounds for value in one.stages[stage]) for stage in STAGES]
    cells = [clients, mode, *(f"{value:.2f}" for value in stages), f"{p50:.1f}", f"{np.percentile(pooled, 99):.1f}"]
    cells += [f"{rate:.0f}", f"{p50 / peer_ms:.2f}" if peer_ms else "1"]
    return f"| {' | '.join(map(str, cells))} |", p50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=300, help="in a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    corpus = load_corpus()
    with (
        tempfile.TemporaryDirectory(prefix="qqc-bench-") as folder,
        running(Settings(data_dir=Path(folder), http=HttpSettings(port=0))) as cluster,
    ):
        key = str(cluster.admin_key)
        with httpx.Client(base_url=cluster.url, headers={"api-key": key}, timeout=60.0) as client:
            load(client, corpus, Console(stderr=True))
        print(f"{len(corpus.words):,} entities of {len(corpus.vectors):,} vectors; {arguments.rounds} rounds\n")
        print("| clients | mode | parse | filter | refine | rank | p50 ms | p99 ms | queries/s | p50 over classical |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        for clients in (1, 32):
            measure_clients(cluster.url, key, corpus, clients, arguments.rounds, arguments.queries)


def measure_clients(url: str, key: str, corpus: Corpus, clients: int, rounds: int, queries: int) -> None:
    found: dict[str, list[Round]] = {"classical": [], "balanced": []}
    for _ in range(rounds):
        for mode, done in found.items():
            done.append(asyncio.run(measure(url, key, bodies(corpus, mode, queries), clients)))
    peer: float | None = None
    for mode, done in found.items():
        line, p50 = row(clients, mode, done, peer)
        peer = peer or p50
        print(line, flush=True)


if __name__ == "__main__":
    main()
