"""Queries from another Ray job by handle, beside HTTP: ``python -m benchmarks.handles``.

One cluster, the same vectors and bodies for all. A child process joins its Ray cluster and asks by
``cluster.connect.remote`` and ``ray.get``: one at a time, 32 at a time, and batches of a thousand queries, one batch
after another or two at a time. The peer is HTTP with one query a request, at one client and at 32. Queries are
classical and fresh; figures are medians over rounds that alternate the ways.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks import light_client
from benchmarks.serving import clustered, fill, queries
from cluster.connect import connect_ray, remote
from cluster.runtime import running
from cluster.settings import HttpSettings, Settings

PATH = "/api/v2/query"
AT_ONCE = 32
BATCH = 1_000
CALL_TIMEOUT_S = 60.0
HTTP_ONE, HTTP_MANY = "HTTP, 1 client", f"HTTP, {AT_ONCE} clients"
HANDLE_ONE, HANDLE_MANY = "handle, one at a time", f"handle, {AT_ONCE} at a time"
BATCHES, TWO_BATCHES = f"handle, a batch of {BATCH:,}", f"handle, two batches of {BATCH:,} at a time"
Timed = tuple[float, float]
"""Queries a second, and the median time of a call in ms."""


def asked(method: str, bodies: Sequence[Any], at_once: int, seconds: float, in_a_call: int) -> Timed:
    """Call again and again with so many calls on their way; every answer is fetched and looked at."""
    import ray  # noqa: PLC0415 - this process joins a cluster before it needs it

    begun: dict[Any, float] = {}
    took_ms, sent, start_s = list[float](), 0, time.perf_counter()
    while True:
        while len(begun) < at_once and time.perf_counter() - start_s < seconds:
            begun[remote(method, bodies[sent % len(bodies)])] = time.perf_counter()
            sent += 1
        if not begun:
            break
        (done, *_), _ = ray.wait(list(begun), timeout=CALL_TIMEOUT_S)
        answer = ray.get(done)
        took_ms.append((time.perf_counter() - begun.pop(done)) * 1000.0)
        if answer.get("failed") or not (answer.get("hits") or answer.get("items")):
            raise RuntimeError(f"a call of {method} was not answered: {str(answer)[:300]}")
    return in_a_call * len(took_ms) / (time.perf_counter() - start_s), statistics.median(took_ms)


def child(folder: Path, seconds: float) -> None:
    """Join the cluster with its data in a folder, and tell what each way took, as JSON."""
    connect_ray(data_dir=folder)
    vectors = np.load(folder / "queries.npy")
    bodies = [body_of(vector) for vector in vectors]
    batches = [{"queries": bodies[begin : begin + BATCH]} for begin in range(0, len(bodies), BATCH)]
    found = {
        HANDLE_ONE: asked("query", bodies, 1, seconds, 1),
        HANDLE_MANY: asked("query", bodies, AT_ONCE, seconds, 1),
        BATCHES: asked("query_batch", batches, 1, seconds, BATCH),
        TWO_BATCHES: asked("query_batch", batches, 2, seconds, BATCH),
    }
    print(orjson.dumps(found).decode())


def of_another_job() -> dict[str, str]:
    """Return the environment of a job that knows nothing of how this process starts the cluster."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_SERVE_")}


def body_of(vector: Any) -> dict[str, Any]:
    return {"vector": vector.tolist(), "top_k": 10, "mode": "classical", "fresh": True, "timeout_ms": 60_000}


def child_output(command: list[str]) -> bytes:
    """Run a child and return the last line of what it prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=of_another_job())  # noqa: S603
    return done.stdout.splitlines()[-1]


def http(url: str, key: str, bodies: Sequence[bytes], clients: int, seconds: float) -> Timed:
    load = light_client.in_a_process(url, PATH, key, bodies, clients, seconds)
    if load.errors:
        raise RuntimeError(f"{load.errors} queries failed")
    return load.rate, statistics.median(load.ms)


def measured(count: int, rounds: int, seconds: float) -> dict[str, Timed]:
    """Return the medians of each way."""
    vectors, found = clustered(count), defaultdict[str, list[Timed]](list)
    with tempfile.TemporaryDirectory(prefix="qqc-handles-") as name:
        folder = Path(name)
        with running(Settings(data_dir=folder, http=HttpSettings(port=0))) as cluster:
            url, key = cluster.url, str(cluster.admin_key)
            fill(url, key, vectors)
            made = queries(vectors, 5 * BATCH, np.random.default_rng(1))
            np.save(folder / "queries.npy", made)
            bodies = [orjson.dumps(body_of(vector)) for vector in made]
            for number in range(rounds + 1):
                command = [sys.executable, "-m", "benchmarks.handles", "--child", name, "--seconds", str(seconds)]
                told = {
                    HTTP_ONE: http(url, key, bodies, 1, seconds),
                    HTTP_MANY: http(url, key, bodies, AT_ONCE, seconds),
                    **orjson.loads(child_output(command)),
                }
                if number:  # what a first round measures is how all warm up
                    for way, timed in told.items():
                        found[way].append(timed)
    return {
        way: (statistics.median(rate for rate, _ in timed), statistics.median(ms for _, ms in timed))
        for way, timed in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.handles", description=__doc__)
    parser.add_argument("--vectors", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--child", type=Path)
    given = parser.parse_args()
    if given.child is not None:
        child(given.child, given.seconds)
        return
    found = measured(given.vectors, given.rounds, given.seconds)
    print(f"| way | queries/s | of {HTTP_ONE} | of {HTTP_MANY} | p50 ms a call |\n|---|---|---|---|---|")
    for way, (rate, ms) in found.items():
        print(f"| {way} | {rate:.0f} | {rate / found[HTTP_ONE][0]:.2f} | {rate / found[HTTP_MANY][0]:.2f} | {ms:.2f} |")
    best = max(found[BATCHES][0], found[TWO_BATCHES][0])
    print(
        f"\nbatches by handle over HTTP one by one: {best / found[HTTP_ONE][0]:.1f} times one client's (wanted: >= 5)"
    )


if __name__ == "__main__":
    main()
