"""Diverse top-k: simulated quantum annealing against its named peers, on the same instances in the same run.

    python -m benchmarks.tunneling [--instances N] [--seed S]

Peers: greedy (maximal marginal relevance), swap descent from 64 starts, plain simulated annealing with the same number
of slot updates and the same final descent ("64x20": 64 chains, 20 sweeps; "4x16x20": 4 rings of 16 slices, 20 sweeps;
"16x80": the same updates in fewer, longer chains; 700 starts: a descent that takes about as long), and branch and
bound. Each randomised solver runs three times on each instance with different seeds.

"optimal" is the share of runs at the reference, "gap" is reference minus f: the reference is the proved optimum where
the title says so, else the best value that anything met. "> greedy" is the share of runs above greedy, of those where
the reference is. Times are CPU times of one thread; ratios are to simulated quantum annealing in the same table.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quantum_db import tunneling
from quantum_db.annealing import QuantumSchedule, ThermalSchedule
from quantum_db.errors import InvalidRequest

Floats = NDArray[np.float64]
RUNS = 3
OPTIMAL = 1e-9
SQA = "SQA 4x16x20"


@dataclass(frozen=True)
class Instance:
    relevance: Floats
    similarity: Floats
    diversity: float


@dataclass
class Tally:
    """What one solver did: (instances, runs) values, and seconds."""

    values: list[list[float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


Solver = Callable[[Instance, int, np.random.Generator], tunneling.Selection]


def instance(rng: np.random.Generator, candidates: int, dimension: int, kind: str, diversity: float) -> Instance:
    """Random unit vectors: relevance ((1 + cos)/2)^2 to a query, similarity cos^2 ("overlap") or (1 + cos)/2."""
    vectors = rng.normal(size=(candidates + 1, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors[1:] @ vectors[1:].T
    similarity = cosines**2 if kind == "overlap" else (1 + cosines) / 2
    return Instance(((1 + vectors[1:] @ vectors[0]) / 2) ** 2, similarity, diversity)


def planted(k: int) -> Instance:
    """Two groups of k: greedy starts in the second, and only exchanging all k members leads to the better first."""
    relevance = np.concatenate([np.full(k, 0.95), np.full(k, 1.0)])
    similarity = np.ones((2 * k, 2 * k))
    similarity[:k, :k], similarity[k:, k:] = 0.0, 0.15
    return Instance(relevance, similarity, 1.0)


def thermal(schedule: ThermalSchedule) -> Solver:
    return lambda i, k, rng: tunneling.simulated_annealing(
        i.relevance, i.similarity, k, i.diversity, rng, schedule=schedule
    )


def quantum(schedule: QuantumSchedule) -> Solver:
    return lambda i, k, rng: tunneling.simulated_quantum_annealing(
        i.relevance, i.similarity, k, i.diversity, rng, schedule=schedule
    )


def greedy(i: Instance, k: int, _: np.random.Generator) -> tunneling.Selection:
    return tunneling.greedy(i.relevance, i.similarity, k, i.diversity)


def measure(solvers: dict[str, Solver], instances: list[Instance], k: int, seed: int) -> dict[str, Tally]:
    """Run every solver on every instance, in turn, so that a slow spell of the machine meets all alike."""
    tallies = {name: Tally() for name in solvers}
    for number, one in enumerate(instances):
        for name, solve in solvers.items():
            values = []
            for run in range(RUNS):
                rng = np.random.default_rng([seed, number, run])
                start = time.process_time()
                values.append(solve(one, k, rng).value)
                tallies[name].seconds.append(time.process_time() - start)
            tallies[name].values.append(values)
    return tallies


def print_table(title: str, tallies: dict[str, Tally], reference: Floats, exact_seconds: list[float]) -> None:
    print(f"\n{title}")
    print(
        f"{'solver':26} {'optimal':>8} {'mean gap':>9} {'gap/SQA':>8} {'> greedy':>8} {'median ms':>9} {'time/SQA':>8}"
    )
    base = np.array(tallies["greedy"].values)
    unit = statistics.median(tallies[SQA].seconds)
    sqa_gap = float((reference[:, None] - np.array(tallies[SQA].values)).mean())
    for name, tally in tallies.items():
        values = np.array(tally.values)
        gaps = reference[:, None] - values
        beatable = (reference[:, None] - base > OPTIMAL) & np.ones_like(values, dtype=bool)
        above = float((values - base > OPTIMAL)[beatable].mean()) if beatable.any() else 0.0
        seconds = statistics.median(tally.seconds)
        ratio = f"{gaps.mean() / sqa_gap:8.2f}" if sqa_gap > OPTIMAL else "       -"
        print(
            f"{name:26} {(gaps < OPTIMAL).mean():8.1%} {gaps.mean():9.5f} {ratio} {above:8.1%}"
            f" {1e3 * seconds:9.2f} {seconds / unit:8.2f}"
        )
    if exact_seconds:
        median = statistics.median(exact_seconds)
        print(f"{'exact (proof)':26} {1:8.1%} {0:9.5f} {'':8} {'':8} {1e3 * median:9.2f} {median / unit:8.2f}")


def print_duel(tallies: dict[str, Tally], peer: str) -> None:
    ours, theirs = np.array(tallies[SQA].values).mean(axis=1), np.array(tallies[peer].values).mean(axis=1)
    better, worse = int((ours > theirs + OPTIMAL).sum()), int((ours < theirs - OPTIMAL).sum())
    print(f"  {SQA} against {peer}: better on {better}, equal on {len(ours) - better - worse}, worse on {worse}")


def prove(instances: list[Instance], k: int) -> tuple[list[Instance], Floats, list[float]]:
    """Return the instances that branch and bound settles within its nodes, their optima, and the seconds it took."""
    settled, optima, seconds = [], [], []
    for one in instances:
        start = time.process_time()
        try:
            best = tunneling.exact(one.relevance, one.similarity, k, one.diversity, max_nodes=200_000)
        except InvalidRequest:
            continue
        seconds.append(time.process_time() - start)
        settled.append(one)
        optima.append(best.value)
    return settled, np.array(optima), seconds


def small(count: int, seed: int) -> None:
    """K = 30, k = 10, against proved optima; then the annealers without their descent."""
    rng = np.random.default_rng([seed, 30])
    solvers: dict[str, Solver] = {
        "greedy": greedy,
        "descent, 64 starts": thermal(ThermalSchedule(sweeps=0)),
        "SA 64x20": thermal(ThermalSchedule()),
        SQA: quantum(QuantumSchedule()),
        "SA 64x20, no descent": thermal(ThermalSchedule(polish=False)),
        "SQA 4x16x20, no descent": quantum(QuantumSchedule(polish=False)),
        "SA 16x10": thermal(ThermalSchedule(chains=16, sweeps=10)),
        "SQA 1x16x10": quantum(QuantumSchedule(restarts=1, sweeps=10)),
    }
    for kind, weights in (("overlap", (0.1, 0.5, 1.0)), ("cosine", (0.1, 0.3, 0.5))):
        drawn = [
            instance(rng, 30, (8, 12, 16)[number % 3], kind, weights[number // 3 % 3]) for number in range(3 * count)
        ]
        settled, optima, seconds = prove(drawn, 10)
        tallies = measure(solvers, settled, 10, seed)
        title = f"K = 30, k = 10, {kind}, mu in {weights}: {len(settled)} of {len(drawn)} instances proved, {RUNS} runs"
        print_table(title, tallies, optima, seconds)
        print_duel(tallies, "SA 64x20")


def large(count: int, seed: int) -> None:
    """K = 200, where nothing is proved: gaps to the best value met, long runs of both annealers included."""
    solvers: dict[str, Solver] = {
        "greedy": greedy,
        "descent, 64 starts": thermal(ThermalSchedule(sweeps=0)),
        "SA 64x20": thermal(ThermalSchedule()),
        "SA 16x80": thermal(ThermalSchedule(chains=16, sweeps=80)),
        "descent, 700 starts": thermal(ThermalSchedule(chains=700, sweeps=0)),
        SQA: quantum(QuantumSchedule()),
    }
    long_runs = (quantum(QuantumSchedule(sweeps=60)), thermal(ThermalSchedule(chains=32, sweeps=120)))
    for k in (10, 20):
        rng = np.random.default_rng([seed, 200, k])
        drawn = [
            instance(rng, 200, (8, 12, 16)[n % 3], ("overlap", "cosine")[n // 3 % 2], (0.3, 1.0)[n // 6 % 2])
            for n in range(count)
        ]
        tallies = measure(solvers, drawn, k, seed)
        met = [max(max(tally.values[n]) for tally in tallies.values()) for n in range(count)]
        for n, one in enumerate(drawn):
            met[n] = max(met[n], *(solve(one, k, np.random.default_rng([seed, n, 99])).value for solve in long_runs))
        title = (
            f"K = 200, k = {k}, overlap and cosine, mu in (0.3, 1.0): {count} instances, best value met, {RUNS} runs"
        )
        print_table(title, tallies, np.array(met), [])
        for peer in ("SA 64x20", "SA 16x80", "descent, 700 starts"):
            print_duel(tallies, peer)


def stuck(seed: int) -> None:
    """The planted instances; one ring that starts wholly in greedy's choice shows what the field alone does there."""
    print("\nPlanted: all k members must change at once. Share of 30 runs that end in the optimum")
    solvers: dict[str, Solver] = {
        "greedy": greedy,
        "descent, 64 starts": thermal(ThermalSchedule(sweeps=0)),
        "SA 64x20": thermal(ThermalSchedule()),
        SQA: quantum(QuantumSchedule()),
        "SQA, all slices at greedy": quantum(QuantumSchedule(restarts=1)),
        "same, temperature 0.5": quantum(QuantumSchedule(restarts=1, temperature=0.5)),
    }
    for name, solve in solvers.items():
        shares = []
        for k in (4, 8):
            one = planted(k)
            values = [solve(one, k, np.random.default_rng([seed, run])).value for run in range(30)]
            shares.append(sum(value > 0.95 * k - OPTIMAL for value in values) / 30)
        print(f"{name:26} k = 4: {shares[0]:6.1%}   k = 8: {shares[1]:6.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=8, help="size of the tables; 8 takes less than a minute")
    parser.add_argument("--seed", type=int, default=2002)
    args = parser.parse_args()
    start = time.perf_counter()
    small(args.instances, args.seed)
    large(2 * args.instances, args.seed)
    stuck(args.seed)
    print(f"\n{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
