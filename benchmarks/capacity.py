"""How large a cluster has to be for a load: ``python -m benchmarks.capacity --classical 500 --refined 50 --writes 5``.

A model of processor time: each kind of request takes so many milliseconds of each part of the cluster, as
``benchmarks.capacity_check`` measured them on one machine (``benchmarks/capacity.json``). A part that is one process
has one core; it is planned to be busy for ``BUSY`` of the time at most. The rest is arithmetic that is told in full.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from quantum_db.circuits.planner import shape_of
from quantum_db.ionq.pricing import PRICE_MODELS, price_model
from quantum_db.modes import DEFAULT_MODE, MODES

COSTS = Path(__file__).parent / "capacity.json"
BUSY = 0.6
"""Above that, waiting grows faster than the load: a queue of one server is as long as its service time at 0.5."""
INDEX_FACTOR = 1.5
"""Memory of vectors with their index over the vectors alone, as Qdrant's guide to capacity planning has it."""
NODE_BYTES = 32e9
USED = 0.7
"""Of a node's memory, for the store."""
FLOAT_BYTES = 4
SECONDS_A_DAY = 86_400.0

Costs = Mapping[str, Mapping[str, float]]
"""Kind of request -> part of the cluster -> milliseconds of processor time."""


@dataclass(frozen=True)
class Load:
    """What is asked of the cluster, in requests a second, and what is in it.

    Attributes:
        refined: queries whose circuits are simulated.
        provider: queries whose circuits run at a provider.
        job_s: how long a job takes there; ``queries_a_job`` share one.
    """

    classical: float = 0.0
    refined: float = 0.0
    writes: float = 0.0
    provider: float = 0.0
    vectors: float = 100_000.0
    dimension: int = 384
    payload_bytes: float = 500.0
    job_s: float = 5.0
    queries_a_job: float = 1.0
    max_in_flight: int = 10
    price: str = "braket-forte"

    def rates(self) -> dict[str, float]:
        """Return requests a second by the kinds of ``Costs``: writes keep replicas from reading their own copies."""
        where = "store" if self.writes else "copy"
        return {
            f"classical, {where}": self.classical,
            f"refined, {where}": self.refined,
            "write": self.writes,
            "provider": self.provider,
        }


@dataclass(frozen=True)
class Plan:
    """How large the parts are. ``why`` tells each figure's arithmetic."""

    cores: float
    replicas: int
    store: str
    qdrant_nodes: int
    workers: int
    usd_a_day: float
    why: list[str] = field(default_factory=list)


def use_of(costs: Costs, rates: Mapping[str, float]) -> dict[str, float]:
    """Return for how many cores each part has work: the sum of rate times demand (the utilisation law)."""
    used: dict[str, float] = {}
    for kind, rate in rates.items():
        if rate:
            for part, ms in costs[kind].items():
                used[part] = used.get(part, 0.0) + rate * ms / 1000.0
    return used


def processes(cores: float) -> int:
    """Return how many processes of one core each share this work."""
    return max(1, math.ceil(cores / BUSY))


def plan(load: Load, costs: Costs) -> Plan:
    """Return what a load needs."""
    used = use_of(costs, load.rates())
    why = [f"{part}: {cores:.2f} cores" for part, cores in sorted(used.items())]
    replicas = processes(used.get("replica", 0.0))
    store_cores, stored = used.get("store", 0.0), load.vectors * (load.dimension * FLOAT_BYTES * INDEX_FACTOR)
    stored += load.vectors * load.payload_bytes
    embedded = store_cores <= BUSY and stored <= NODE_BYTES * USED
    by_memory, by_work = math.ceil(stored / (NODE_BYTES * USED)), processes(store_cores)
    nodes = 0 if embedded else max(by_memory, by_work)
    why.append(
        f"store: {stored / 1e9:.1f} GB with its index; the embedded one is one process of one machine"
        + ("" if embedded else f", so a Qdrant server: {by_memory} nodes by memory, {by_work} by work")
    )
    jobs_a_s = load.provider / load.queries_a_job
    in_flight = jobs_a_s * load.job_s
    if in_flight > load.max_in_flight:
        why.append(
            f"provider: {jobs_a_s:.2g} jobs a second of {load.job_s:g} s are {in_flight:.0f} in flight (Little's law), "
            f"and {load.max_in_flight} are allowed: at most {load.max_in_flight / load.job_s * load.queries_a_job:.2g} "
            "queries a second"
        )
    workers = processes(used.get("worker", 0.0))
    usd = jobs_a_s * SECONDS_A_DAY * job_usd(load.price, load.queries_a_job)
    if usd:
        model = PRICE_MODELS[load.price]
        why.append(f"cost: {jobs_a_s * SECONDS_A_DAY:,.0f} jobs a day at {model.name} ({model.source})")
    where = "embedded" if embedded else "Qdrant server"
    return Plan(sum(used.values()), replicas, where, nodes, workers, usd, why)


def job_usd(price: str, queries_a_job: float) -> float:
    """Return the price of a job of so many queries of the default mode, by merged overlap circuits."""
    mode = MODES[DEFAULT_MODE]
    shape = shape_of("merged", mode.candidates, mode.candidates + 1)
    circuits = math.ceil(queries_a_job * shape.circuits)
    return price_model(price).cost_usd(circuits, mode.shots, shape.one_qubit_gates, shape.two_qubit_gates)


def _at_least_0(kind: type[int] | type[float], text: str) -> float:
    """Return a number that is given. Raises ArgumentTypeError for what is none, or below 0."""
    try:
        found = kind(float(text))
    except (ValueError, OverflowError):
        found = -1
    if not 0 <= found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of at least 0")
    return found


def read_costs() -> Costs:
    """Return what was measured."""
    read: dict[str, Any] = json.loads(COSTS.read_text())
    costs: Costs = read["costs_ms"]
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    given = Load()
    for name, value in vars(given).items():
        choices = sorted(PRICE_MODELS) if name == "price" else None
        kind = str if isinstance(value, str) else partial(_at_least_0, type(value))
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=value, choices=choices)
    load = Load(**vars(parser.parse_args()))
    found = plan(load, read_costs())
    figures = {
        "cores busy": f"{found.cores:.1f}",
        "replicas": found.replicas,
        "store": found.store,
        "Qdrant nodes": found.qdrant_nodes,
        "job workers": found.workers,
        "USD a day": f"{found.usd_a_day:,.2f}",
    }
    for name, figure in figures.items():
        print(f"{name:<14}{figure}")
    print("\n" + "\n".join(found.why))


if __name__ == "__main__":
    main()
