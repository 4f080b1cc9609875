"""What serving costs: this cluster beside a bare server with the same store: ``python -m benchmarks.serving``.

Seeded clustered vectors, 128 numbers each, in both. The client is ``benchmarks.light_client``, the same for all, in a
process of its own; every query is asked once and for a fresh answer, but in the lines that say ``repeated``, where the
cluster may give answers that it keeps. Rounds alternate the peers; figures are medians over rounds, and ratios those of
the medians. Beside them stands the way in which one would write it first with qiskit, ``benchmarks.naive_overlap``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.light_client import Load, in_a_process
from cluster.ray_settings import RaySettings
from cluster.runtime import free_port, running
from cluster.settings import CacheSettings, HttpSettings, Settings

Vectors = NDArray[np.float32]

DIMENSION = 128
CLUSTERS = 200
SPREAD = 0.5
TOP_K = 10
CLIENTS = 32
WRITE = 500
REPEATED = 50
KEPT_BYTES = 64 * 2**20
AT_ONCE = 100
REPLICAS = 2
"""One a core, as one would have them here."""
START_S = 60.0
BARE, CLASSICAL, BALANCED, ALWAYS = "bare server", "classical", "balanced", "balanced, always refined"
FASTEST = 2_500
"""Queries a second that no peer reaches here: as many are made for each second of a round."""


@dataclass(frozen=True)
class Peer:
    """Somebody who is measured. ``more`` is what each of its bodies has beside vector and ``top_k``."""

    name: str
    url: str
    path: str
    key: str
    more: dict[str, Any]


@dataclass
class Found:
    """Medians of a peer's rounds."""

    rates: list[float] = field(default_factory=list)
    alone_ms: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def alone(self) -> float:
        return statistics.median(self.alone_ms)


def clustered(count: int, seed: int = 0) -> Vectors:
    """Return unit vectors around ``CLUSTERS`` centres, (count, DIMENSION)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLUSTERS, DIMENSION))
    found = centres[rng.integers(CLUSTERS, size=count)] + SPREAD * rng.normal(size=(count, DIMENSION))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)


def queries(vectors: Vectors, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return stored vectors, slightly moved, (count, DIMENSION)."""
    near = vectors[rng.integers(len(vectors), size=count)] + 0.05 * rng.normal(size=(count, DIMENSION))
    return np.round(near, 5)


def bodies(peer: Peer, asked: NDArray[np.float64]) -> list[bytes]:
    return [orjson.dumps({"vector": vector.tolist(), "top_k": TOP_K, **peer.more}) for vector in asked]


def checked_load(load: Load, name: str) -> Load:
    """Raise RuntimeError where an answer was an error: its time says nothing."""
    if load.errors or not load.ms:
        raise RuntimeError(f"{load.errors} of {len(load.ms)} answers of {name} were errors")
    return load


def checked(load: Load, peer: Peer) -> Load:
    return checked_load(load, peer.name)


@contextmanager
def bare_server(vectors: Vectors, folder: Path) -> Iterator[str]:
    """Run ``benchmarks.bare_server`` with the vectors; yield its URL."""
    port, file = free_port(), folder / "vectors.npy"
    np.save(file, vectors)
    command = [sys.executable, "-m", "benchmarks.bare_server", str(port), str(file), str(folder / "bare")]
    process = subprocess.Popen(command)  # noqa: S603
    try:
        url, until_s = f"http://127.0.0.1:{port}", time.monotonic() + START_S
        while time.monotonic() < until_s and process.poll() is None:
            try:
                httpx.get(f"{url}/docs")
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                yield url
                return
        raise RuntimeError("the bare server did not start")
    finally:
        process.terminate()
        process.wait()


def fill(url: str, key: str, vectors: Vectors) -> None:
    """Write the vectors into the cluster."""
    with httpx.Client(base_url=url, headers={"api-key": key}, timeout=START_S) as client:
        for start in range(0, len(vectors), WRITE):
            some = [{"id": f"e{start + i}", "vector": v.tolist()} for i, v in enumerate(vectors[start : start + WRITE])]
            client.post("/api/v2/vectors/batch", content=orjson.dumps({"vectors": some})).raise_for_status()


def same_answers(peers: list[Peer], asked: NDArray[np.float64]) -> float:
    """Return the share of the first peer's hits that the second one has, too."""
    shared = 0
    for vector in asked:
        ids = []
        for peer in peers[:2]:
            answer = httpx.post(
                peer.url + peer.path, content=bodies(peer, vector[None])[0], headers={"api-key": peer.key}
            )
            ids.append({hit["id"] for hit in answer.raise_for_status().json()["hits"]})
        shared += len(ids[0] & ids[1])
    return shared / (TOP_K * len(asked))


def measure(peers: list[Peer], vectors: Vectors, rounds: int, seconds: float) -> dict[str, Found]:
    """Ask all peers in turn, in each round at ``CLIENTS`` clients and at one."""
    rng, found = np.random.default_rng(1), {peer.name: Found() for peer in peers}
    for number in range(rounds + 1):
        for peer in peers:
            made = bodies(peer, queries(vectors, round(FASTEST * seconds), rng))
            many = checked(in_a_process(peer.url, peer.path, peer.key, made, CLIENTS, seconds), peer)
            one = checked(in_a_process(peer.url, peer.path, peer.key, made[::-1], 1, seconds / 2.0), peer)
            if number == 0:
                continue  # what a first round measures is how peers warm up
            into = found[peer.name]
            into.rates.append(many.rate)
            into.p50_ms.append(float(np.median(many.ms)))
            into.p99_ms.append(float(np.percentile(many.ms, 99)))
            into.alone_ms.append(float(np.median(one.ms)))
    return found


def repeated(peer: Peer, vectors: Vectors, rounds: int, seconds: float) -> float:
    """Return the median rate for a few queries that are asked again and again."""
    few = bodies(
        replace(peer, more={**peer.more, "fresh": False}), queries(vectors, REPEATED, np.random.default_rng(2))
    )
    made = few * (round(2 * FASTEST * seconds) // REPEATED)
    asked = [in_a_process(peer.url, peer.path, peer.key, made, CLIENTS, seconds) for _ in range(rounds)]
    return statistics.median(checked(load, peer).rate for load in asked)


def at_once(peer: Peer, vectors: Vectors, rounds: int) -> float:
    """Return the median of the seconds in which ``AT_ONCE`` queries end that come at the same moment."""
    rng = np.random.default_rng(3)
    made = [bodies(peer, queries(vectors, AT_ONCE, rng)) for _ in range(rounds)]
    asked = [in_a_process(peer.url, peer.path, peer.key, some, AT_ONCE, START_S) for some in made]
    return statistics.median(checked(load, peer).seconds for load in asked)


def naive_seconds(vectors: Vectors, asked: NDArray[np.float64]) -> float:
    """Return the median time of a query by ``benchmarks.naive_overlap``."""
    with tempfile.TemporaryDirectory(prefix="qqc-naive-") as folder:
        files = [Path(folder) / "vectors.npy", Path(folder) / "queries.npy"]
        for file, array in zip(files, (vectors, asked), strict=True):
            np.save(file, array)
        command = [sys.executable, "-m", "benchmarks.naive_overlap", *map(str, files)]
        return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)  # noqa: S603


def row(what: str, value: float, sign: str, goal: float) -> None:
    met = value >= goal if sign == ">=" else value <= goal
    print(f"| {what} | {value:.2f} | {sign} {goal:g} | {'yes' if met else 'no'} |", flush=True)


def report(found: dict[str, Found]) -> None:
    print("| peer | queries/s, 32 clients | of bare | p50 ms | p99 ms | p50 ms, 1 client | over bare |")
    print("|---|---|---|---|---|---|---|")
    for name, one in found.items():
        p50, p99 = statistics.median(one.p50_ms), statistics.median(one.p99_ms)
        shares = f"{one.rate / found[BARE].rate:.2f} | {p50:.1f} | {p99:.1f} | {one.alone:.2f}"
        print(f"| {name} | {one.rate:.0f} | {shares} | {one.alone / found[BARE].alone:.2f} |", flush=True)


def settings(data_dir: Path) -> Settings:
    return Settings(
        data_dir=data_dir,
        http=HttpSettings(port=0),
        ray=RaySettings(replicas=REPLICAS),
        cache=CacheSettings(max_bytes=KEPT_BYTES),
    )


def settle(url: str, key: str, asked: NDArray[np.float64], replicas: int = REPLICAS) -> None:
    """Ask until each replica has a copy of the store. Raises RuntimeError when one has none in time."""
    bodies_made = [{"vector": vector.tolist(), "top_k": TOP_K, "mode": "classical", "fresh": True} for vector in asked]
    until_s = time.monotonic() + START_S
    with httpx.Client(base_url=url, headers={"api-key": key}, timeout=START_S) as client:
        while time.monotonic() < until_s:
            for body in bodies_made:
                client.post("/api/v2/query", json=body).raise_for_status()
            lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("store_copies{")]
            if sum(float(line.rpartition(" ")[2]) >= 1.0 for line in lines) >= replicas:
                return
            time.sleep(0.5)
    raise RuntimeError("not every replica has a copy of the store")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each peer in a round, at 32 clients")
    parser.add_argument("--quick", action="store_true", help="tiny: shows that it works, and measures nothing")
    given = parser.parse_args()
    if given.quick:
        given.vectors, given.rounds, given.seconds = 500, 1, 0.3
    vectors = clustered(given.vectors)
    with (
        tempfile.TemporaryDirectory(prefix="qqc-serving-") as scratch,
        bare_server(vectors, Path(scratch)) as bare,
        running(settings(Path(scratch) / "data")) as cluster,
    ):
        key = str(cluster.admin_key)
        fill(cluster.url, key, vectors)
        settle(cluster.url, key, queries(vectors, 50, np.random.default_rng(5)))
        ours = [
            Peer(name, cluster.url, "/api/v2/query", key, {"timeout_ms": 60_000, "fresh": True, **more})
            for name, more in (
                (CLASSICAL, {"mode": "classical"}),
                (BALANCED, {"mode": "balanced"}),
                (ALWAYS, {"mode": "balanced", "refine": "always"}),
            )
        ]
        peers = [Peer(BARE, bare, "/query", "", {}), *ours]
        compare(peers, vectors, given.rounds, given.seconds)


def compare(peers: list[Peer], vectors: Vectors, rounds: int, seconds: float) -> None:
    asked = queries(vectors, 20, np.random.default_rng(4))
    share = same_answers(peers, asked)
    print(
        f"{len(vectors):,} vectors of {DIMENSION}; {rounds} rounds of {seconds:g} s; "
        f"{share:.0%} of the bare server's hits are classical's, too\n"
    )
    found = measure(peers, vectors, rounds, seconds)
    report(found)
    naive_s = naive_seconds(vectors, asked[: min(3, rounds)])
    print(f"\nthe naive quantum way: {naive_s:.2f} s a query ({1.0 / naive_s:.2f}/s)\n")
    print("| goal | measured | wanted | met |\n|---|---|---|---|")
    bare, classical, balanced = found[BARE], found[CLASSICAL], found[BALANCED]
    row("classical: throughput, of the bare server's", classical.rate / bare.rate, ">=", 0.85)
    row("classical: p50 at one client, over the bare server's", classical.alone / bare.alone, "<=", 2.0)
    row("balanced: throughput, of classical's", balanced.rate / classical.rate, ">=", 0.7)
    row("balanced: throughput, over the naive way's", balanced.rate * naive_s, ">=", 200.0)
    row(f"{AT_ONCE} refined queries at once: seconds", at_once(peers[3], vectors, rounds), "<=", 1.0)
    cached = repeated(peers[1], vectors, rounds, seconds) / bare.rate
    row("classical, repeated: throughput, of the bare server's", cached, ">=", 1.5)


if __name__ == "__main__":
    main()
