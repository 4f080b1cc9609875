"""A quarter of an hour under a low, steady load: ``python -m benchmarks.soak``.

Memory, threads and open files of every process of the cluster are read every few seconds, and a line is fitted to each
(``benchmarks.growth``). What the cluster keeps up to a bound has a small bound here, so that it is full before the fit
begins: kept results and jobs, states and their history, kept answers. Reads, writes, refined queries and jobs arrive by
a schedule that does not wait for answers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import psutil

from benchmarks.growth import LEAST, Trend, trend
from benchmarks.open_loop import in_a_process
from benchmarks.watcher import Watcher
from cluster.runtime import running
from cluster.settings import CacheSettings, HttpSettings, JobSettings, Settings, StateSettings
from loadtests.mixes import Ask, asks
from loadtests.run import Target, load_data

EVERY_S = 5.0
SOAKED = Settings(
    jobs=JobSettings(kept_results=2_000, kept_jobs=50),
    states=StateSettings(capacity=500, history_instances=500),
    cache=CacheSettings(max_bytes=4 * 2**20, ttl_s=30.0),
)
MIXES = {"read-heavy": 0.6, "write-heavy": 0.2, "quantum-heavy": 0.2}


@dataclass
class Readings:
    """What was read of one process."""

    name: str
    at_s: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)
    files: list[float] = field(default_factory=list)


class Reader(Watcher):
    """Reads the processes of the cluster."""

    def __init__(self, processes: list[psutil.Process], every_s: float = EVERY_S) -> None:
        super().__init__(every_s)
        self.found = {process.pid: Readings(name_of(process)) for process in processes}
        self._processes = processes

    def look(self) -> None:
        for process in self._processes:
            into = self.found[process.pid]
            try:
                with process.oneshot():
                    held = process.memory_full_info().uss / 2**20, process.num_threads(), process.num_fds()
            except psutil.Error:
                continue  # it has ended; that it was not there to the end is told
            into.at_s.append(time.monotonic())
            for values, value in zip((into.memory_mb, into.threads, into.files), held, strict=True):
                values.append(value)


def name_of(process: psutil.Process) -> str:
    """Return what tells a process from others of its program: Ray writes the actor into its title."""
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return "gone"
    return title[:48] if title.startswith("ray::") else process.name()


def trends(readings: Readings) -> dict[str, Trend]:
    """Return the trend of each kind."""
    return {kind: trend(readings.at_s, getattr(readings, kind), kind) for kind in LEAST}


def mixed(count: int) -> list[Ask]:
    """Return the requests of the mixes, by their shares, one after another."""
    parts = [asks(mix, max(1, round(share * count)), seed) for seed, (mix, share) in enumerate(MIXES.items())]
    order = defaultdict[float, list[Ask]](list)
    for part in parts:
        for place, ask in enumerate(part):
            order[place / len(part)].append(ask)
    return [ask for place in sorted(order) for ask in order[place]]


def table(found: list[tuple[str, dict[str, Trend]]]) -> str:
    """Return the trends as a table, one line a process."""
    rows = [
        "| process | memory MB | MB an hour (99% interval) | threads | an hour | files | an hour | grows |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found:
        memory, threads, files = one["memory_mb"], one["threads"], one["files"]
        growing = ", ".join(kind for kind, of in one.items() if of.grows) or "no"
        rows.append(
            f"| {name} | {memory.level:.0f} | {memory.an_hour:+.1f} ({memory.low:+.1f} to {memory.high:+.1f}) | "
            f"{threads.level:.0f} | {threads.an_hour:+.1f} | {files.level:.0f} | {files.an_hour:+.1f} | {growing} |"
        )
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--rate", type=float, default=15.0, help="requests a second")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qqc-soak-") as folder:
        settings = SOAKED.model_copy(update={"data_dir": Path(folder), "http": HttpSettings(port=0)})
        with running(settings) as cluster:
            processes = psutil.Process().children(recursive=True)
            load_data(Target(cluster.url, str(cluster.admin_key), processes))
            asked = [ask for ask in mixed(5_000) if ask.method == "POST"]
            made = [(ask.path, orjson.dumps(ask.body)) for ask in asked]
            every_s = min(EVERY_S, given.seconds / 60.0)
            with Reader(processes, every_s) as reader:
                answers = in_a_process(cluster.url, str(cluster.admin_key), made, given.rate, given.seconds)
            after = {process.pid for process in psutil.Process().children(recursive=True)}
    good = sum(200 <= status < 300 for status in answers.statuses)
    print(f"{good:,} of {len(answers.statuses):,} requests answered, p99 {answers.p99_ms():.0f} ms")
    stayed = [one for pid, one in reader.found.items() if pid in after]
    print(f"{len(stayed)} of {len(processes)} processes were there to the end; {len(after - set(reader.found))} came")
    found = sorted(((one.name, trends(one)) for one in stayed), key=lambda one: -one[1]["memory_mb"].level)
    print(table(found))
    growing = [name for name, one in found if any(of.grows for of in one.values())]
    print(f"\nverdict: {'it grows: ' + ', '.join(growing) if growing else 'nothing grows'}")
    return 1 if growing or good < len(answers.statuses) else 0


if __name__ == "__main__":
    sys.exit(main())
