"""Measures what requests cost each part of a cluster, and holds the model to two other loads.

``python -m benchmarks.capacity_check`` starts two clusters, one after the other: one whose replicas read copies of the
store, and one whose replicas ask the store, as they do while it is written. Each kind of request is sent alone first;
its processor time by part, over that of the idle cluster, is written into ``benchmarks/capacity.json``. Then kinds are
mixed, and what ``benchmarks.capacity`` predicts for the rates that were reached is compared with what was used.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil

from benchmarks.capacity import COSTS, use_of
from benchmarks.light_client import Load, in_a_process
from benchmarks.serving import TOP_K, Vectors, checked_load, clustered, fill, queries, settle
from cluster.emulator import running_emulator
from cluster.runtime import running
from cluster.settings import HttpSettings, JobSettings, Settings, StoreSettings
from quantum_db.jobs.backends import BackendSpec

PARTS = {
    "ray::ServeReplica": "replica",
    "ray::StoreShard": "store",
    "ray::JobPool": "pool",
    "ray::JobWorker": "worker",
    "ray::StateManager": "states",
    "haproxy": "proxy",
}
REST = "rest"
WARM_S = 4.0
EACH_CLIENTS = 4
COPY, STORE = "copy", "store"

Bodies = Callable[[int], list[bytes]]


@dataclass(frozen=True)
class Kind:
    """A kind of request: its path, and bodies of it."""

    name: str
    path: str
    bodies: Bodies


def part_of(process: psutil.Process) -> str:
    """Return which part of the cluster a process is."""
    line = " ".join(process.cmdline())
    return next((part for sign, part in PARTS.items() if sign in line), REST)


def used_s(processes: list[psutil.Process]) -> dict[str, float]:
    """Return the processor time of each part so far."""
    found: dict[str, float] = {}
    for process in processes:
        try:
            times, part = process.cpu_times(), part_of(process)
        except psutil.NoSuchProcess:
            continue
        found[part] = found.get(part, 0.0) + times.user + times.system
    return found


@dataclass(frozen=True)
class Use:
    """What some work took: seconds of each part's processor time beyond those of the idle cluster, and of the clock."""

    cpu_s: dict[str, float]
    wall_s: float
    loads: dict[str, Load]


class Meter:
    """Reads processor times of a cluster that was started below this process."""

    def __init__(self) -> None:
        self._processes = psutil.Process().children(recursive=True)
        self._idle: dict[str, float] = {}

    def rest(self, seconds: float) -> None:
        """Learn what the idle cluster uses."""
        use = self.over(lambda: (time.sleep(seconds), {})[1])
        self._idle = {part: cpu_s / use.wall_s for part, cpu_s in use.cpu_s.items()}

    def over(self, work: Callable[[], dict[str, Load]]) -> Use:
        """Return what some work took."""
        before, start = used_s(self._processes), time.perf_counter()
        loads = work()
        after, wall_s = used_s(self._processes), time.perf_counter() - start
        cpu_s = {
            part: max(0.0, after[part] - before.get(part, 0.0) - wall_s * self._idle.get(part, 0.0)) for part in after
        }
        return Use(cpu_s, wall_s, loads)


def asks(vectors: Vectors, seed: int, **more: Any) -> Bodies:
    def made(count: int) -> list[bytes]:
        asked = queries(vectors, count, np.random.default_rng(seed))
        return [orjson.dumps({"vector": one.tolist(), "top_k": TOP_K, "timeout_ms": 60_000, **more}) for one in asked]

    return made


def writes(vectors: Vectors) -> Bodies:
    def made(count: int) -> list[bytes]:
        return [orjson.dumps({"id": f"w{i % 500}", "vector": vectors[i % 500].tolist()}) for i in range(count)]

    return made


def kinds(vectors: Vectors, where: str) -> list[Kind]:
    found = [
        Kind(f"classical, {where}", "/api/v2/query", asks(vectors, 1, mode="classical")),
        Kind(f"refined, {where}", "/api/v2/query", asks(vectors, 2, mode="balanced", refine="always")),
    ]
    if where == STORE:
        at_provider = asks(vectors, 3, mode="balanced", refine="always", backend="ionq")
        found += [Kind("write", "/api/v2/vectors", writes(vectors)), Kind("provider", "/api/v2/query", at_provider)]
    return found


@contextmanager
def measured_cluster(where: str, vectors: Vectors) -> Iterator[tuple[str, str, Meter]]:
    """Run a cluster that holds the vectors, with or without copies; yield its URL, its key and a meter."""
    with tempfile.TemporaryDirectory(prefix="qqc-capacity-") as folder, running_emulator() as emulator:
        ionq = BackendSpec(kind="ionq", url=emulator.url, token_env=emulator.token_env)
        settings = Settings(
            data_dir=Path(folder),
            http=HttpSettings(port=0),
            store=StoreSettings(**({} if where == COPY else {"copies_bytes": 0})),
            jobs=JobSettings(backends={"simulator": BackendSpec(kind="simulator"), "ionq": ionq}),
        )
        with running(settings) as cluster:
            fill(cluster.url, str(cluster.admin_key), vectors)
            if where == COPY:
                settle(cluster.url, str(cluster.admin_key), queries(vectors, 50, np.random.default_rng(5)), replicas=1)
            yield cluster.url, str(cluster.admin_key), Meter()


def mixes(where: str) -> list[dict[str, int]]:
    """Return how many clients ask each kind, of loads that the model was not made from."""
    if where == COPY:
        return [{"classical, copy": 6, "refined, copy": 2}]
    return [{"classical, store": 4, "refined, store": 2, "write": 2}]


def measure(where: str, seconds: float, count: int) -> dict[str, Any]:
    """Return the costs of each kind, and for each mix the rates and the cores that were used."""
    vectors = clustered(count)
    costs: dict[str, dict[str, float]] = {}
    checks = []
    with measured_cluster(where, vectors) as (url, key, meter):
        known = {kind.name: kind for kind in kinds(vectors, where)}

        def sent(clients: dict[str, int], for_s: float) -> dict[str, Load]:
            found: dict[str, Load] = {}

            def one(kind: Kind, number: int) -> None:
                found[kind.name] = in_a_process(url, kind.path, key, kind.bodies(round(800 * for_s)), number, for_s)

            threads = [threading.Thread(target=one, args=(known[name], number)) for name, number in clients.items()]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return {name: checked_load(load, name) for name, load in found.items()}

        for name in known:
            sent({name: EACH_CLIENTS}, WARM_S)
        meter.rest(seconds)
        for name in known:
            use = meter.over(lambda name=name: sent({name: EACH_CLIENTS}, seconds))
            answers = len(use.loads[name].ms)
            costs[name] = {part: 1000.0 * cpu_s / answers for part, cpu_s in use.cpu_s.items()}
            print(f"{name}: {use.loads[name].rate:.0f}/s", file=sys.stderr, flush=True)
        for mix in mixes(where):
            use = meter.over(lambda mix=mix: sent(mix, seconds))
            rates = {name: len(load.ms) / use.wall_s for name, load in use.loads.items()}
            checks.append({"rates": rates, "cores": {part: cpu_s / use.wall_s for part, cpu_s in use.cpu_s.items()}})
    return {"costs_ms": costs, "checks": checks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each kind and mix")
    parser.add_argument("--vectors", type=int, default=10_000)
    parser.add_argument("--where", choices=(COPY, STORE), help="one cluster alone; its figures go to --out")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.where is not None:
        given.out.write_text(json.dumps(measure(given.where, given.seconds, given.vectors)))
        return
    found = []
    with tempfile.TemporaryDirectory(prefix="qqc-capacity-") as folder:
        for where in (COPY, STORE):  # a process starts one cluster in its life
            out = Path(folder) / where
            command = [sys.executable, "-m", "benchmarks.capacity_check", "--where", where, "--out", str(out)]
            command += ["--seconds", str(given.seconds), "--vectors", str(given.vectors)]
            subprocess.run(command, stdout=sys.stderr, check=True)  # noqa: S603
            found.append(json.loads(out.read_text()))
    costs = {name: parts for one in found for name, parts in one["costs_ms"].items()}
    report(costs, [check for one in found for check in one["checks"]])
    rounded = {name: {part: round(ms, 3) for part, ms in sorted(parts.items())} for name, parts in costs.items()}
    COSTS.write_text(json.dumps({"costs_ms": rounded}, indent=1) + "\n")


def report(costs: dict[str, dict[str, float]], checks: list[dict[str, Any]]) -> None:
    parts = sorted({part for one in costs.values() for part in one})
    print("| processor ms a request | " + " | ".join(parts) + " | all |\n|---|" + "---|" * (len(parts) + 1))
    for name, one in costs.items():
        figures = " | ".join(f"{one.get(part, 0.0):.2f}" for part in parts)
        print(f"| {name} | {figures} | {sum(one.values()):.2f} |")
    print("\n| load | part | predicted cores | measured | predicted / measured |\n|---|---|---|---|---|")
    for check in checks:
        told = ", ".join(f"{rate:.0f}/s {name}" for name, rate in check["rates"].items())
        predicted, measured = use_of(costs, check["rates"]), check["cores"]
        for part in ("replica", "store", "all"):
            before = sum(predicted.values()) if part == "all" else predicted.get(part, 0.0)
            after = sum(measured.values()) if part == "all" else measured.get(part, 0.0)
            if after >= 0.02:
                print(f"| {told} | {part} | {before:.2f} | {after:.2f} | {before / after:.2f} |")


if __name__ == "__main__":
    main()
