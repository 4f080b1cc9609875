"""More than the cluster can answer: ``python -m benchmarks.overload``.

The peak is found in the same run by clients that wait for their answers; then queries arrive at once, twice and three
times that rate, whether others have been answered or not. Counted as good is what is answered within a second of its
scheduled time. The peer is the same cluster without a bound on what it takes on. Each runs in a process of its own, as
Ray reads its settings once; the client shares the two cores, and takes more of them the more it sends.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson
import psutil

from benchmarks import light_client, open_loop
from benchmarks.serving import clustered, fill, queries
from benchmarks.watcher import Watcher
from cluster.ray_settings import RaySettings
from cluster.runtime import running
from cluster.settings import HttpSettings, Settings

PATH = "/api/v2/query"
CLIENTS = 32
GOOD_WITHIN_S = 1.0
TIMES = (1.0, 2.0, 3.0)
PAUSE_S = 3.0
WITHOUT = RaySettings(max_ongoing_requests=100_000, max_queued_requests=-1, max_wait_s=1e9)


@dataclass(frozen=True)
class Line:
    """What was found at one rate. Rates are a second; ``told`` is the share of refusals that say when to come back."""

    times: float
    sent: float
    good: float
    p99_ms: float
    refused: int
    told: float
    unanswered: int
    late: int
    memory_mb: float


@dataclass(frozen=True)
class Found:
    """What was found of one cluster: its peak before and after the overload, and a line for each rate."""

    peak: float
    peak_after: float
    memory_mb: float
    lines: list[Line]


class Memory(Watcher):
    """The most that the processes below this one held together, in MB, looked at twice a second."""

    def __init__(self) -> None:
        super().__init__(every_s=0.5)
        self.most_mb = 0.0

    def look(self) -> None:
        self.most_mb = max(self.most_mb, held_mb())


def held_mb() -> float:
    """Return the memory that the cluster's processes have to themselves (USS)."""
    held = 0
    for process in psutil.Process().children(recursive=True):
        try:
            if "benchmarks.open_loop" not in process.cmdline():
                held += process.memory_full_info().uss
        except psutil.Error:
            continue
    return held / 2**20


def peak(url: str, key: str, bodies: Sequence[bytes], rounds: int, seconds: float) -> float:
    """Return the median rate of clients that wait for their answers."""
    loads = [light_client.in_a_process(url, PATH, key, bodies, CLIENTS, seconds) for _ in range(rounds)]
    if any(load.errors for load in loads):
        raise RuntimeError("queries failed before there was any overload")
    return statistics.median(load.rate for load in loads)


def measured(bounded: bool, count: int, rounds: int, seconds: float) -> Found:
    """Start a cluster, load it, stop it."""
    vectors, rng = clustered(count), np.random.default_rng(1)
    with tempfile.TemporaryDirectory(prefix="qqc-over-") as folder:
        settings = Settings(data_dir=Path(folder), http=HttpSettings(port=0), ray=RaySettings() if bounded else WITHOUT)
        with running(settings) as cluster:
            url, key = cluster.url, str(cluster.admin_key)
            fill(url, key, vectors)
            asked = queries(vectors, 5_000, rng)
            bodies = [orjson.dumps({"vector": v.tolist(), "top_k": 10, "mode": "classical"}) for v in asked]
            asks = [(PATH, body) for body in bodies]
            peak(url, key, bodies, 1, seconds / 2.0)  # it warms up
            found, before_mb = peak(url, key, bodies * 4, rounds, seconds), held_mb()
            lines = []
            for times in TIMES:
                with Memory() as memory:
                    answers = open_loop.in_a_process(url, key, asks, times * found, seconds)
                lines.append(
                    Line(
                        times,
                        times * found,
                        answers.rate(GOOD_WITHIN_S),
                        answers.p99_ms(),
                        answers.count(503),
                        answers.told_share(503),
                        answers.count(open_loop.NO_ANSWER),
                        answers.late,
                        memory.most_mb,
                    )
                )
            return Found(found, peak(url, key, bodies * 4, rounds, seconds), before_mb, lines)


def in_a_process(bounded: bool, arguments: Sequence[str]) -> Found:
    """Run ``measured`` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.overload", "--only", "bounded" if bounded else "unbounded", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603
    told = orjson.loads(done.stdout.splitlines()[-1])
    return Found(**{**told, "lines": [Line(**line) for line in told["lines"]]})


HEAD = (
    "| cluster | rate, of the peak | sent/s | good/s | of the peak | p99 ms of answers | 503 | with Retry-After | "
    "no answer | memory MB |\n|---|---|---|---|---|---|---|---|---|---|"
)


def rows(name: str, one: Found) -> str:
    """Return a cluster's figures as rows of the table."""
    found = [f"| {name} | its peak | | {one.peak:.0f} | 1.00 | | | | | {one.memory_mb:.0f} |"]
    found += [
        f"| {name} | {line.times:g} | {line.sent:.0f} | {line.good:.0f} | {line.good / one.peak:.2f} | "
        f"{line.p99_ms:.0f} | {line.refused} | {line.told:.0%} | {line.unanswered} | {line.memory_mb:.0f} |"
        for line in one.lines
    ]
    after = f"{one.peak_after:.0f} | {one.peak_after / one.peak:.2f}"
    found.append(f"| {name} | the peak, after it | | {after} | | | | | |")
    return "\n".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.overload", description=__doc__)
    parser.add_argument("--vectors", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--only", choices=["bounded", "unbounded"])
    given = parser.parse_args()
    if given.only is not None:
        one = measured(given.only == "bounded", given.vectors, given.rounds, given.seconds)
        print(orjson.dumps(asdict(one)).decode())
        return
    passed = ["--vectors", str(given.vectors), "--rounds", str(given.rounds), "--seconds", str(given.seconds)]
    print(HEAD)
    found = in_a_process(True, passed)
    print(rows("bounded", found), flush=True)
    print(rows("unbounded", in_a_process(False, passed)))
    worst = found.lines[-1]
    ratio = worst.good / found.peak
    print(f"\ngoodput at {worst.times:g} times the peak, of the peak: {ratio:.2f} (wanted: >= 0.8)")


if __name__ == "__main__":
    main()
