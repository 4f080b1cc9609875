"""Join order search against its named peers, on the same random graphs in the same run.

    python -m benchmarks.sql_joins [--instances N] [--long SECONDS] [--seed S]

Graphs: rows and domains after Steinbrunn, Moerkotte and Kemper (VLDB Journal 6, 1997): 10 to 100 rows in 15% of the
relations, to 1,000 in 30%, to 10,000 in 35%, to 100,000 in 20%; domains of 2 to 10 in 5%, to 100 in 50%, to 500 in 35%,
relations, to 1,000 in 30%, to 10,000 in 35%, to 100,000 in 20%; domains of 2 to 10 in 5%, to 100 in 50%, to 500
in 35%, to 1,000 in 15%; a predicate keeps one over the larger domain. Chains, stars, cycles, trees, cliques and
snowflakes. "hard": a predicate keeps one over the rows of one of its sides, times a log-normal factor, so that results
do not simply grow.

Peers: exact DP over all connected subsets without any bound (the reference up to 20 relations, where its splits are
below a limit; above it the best of all and of a search of 3 s), greedy operator ordering, IKKBZ, and plain simulated
annealing on permutations (left-deep, 10,000 moves). Larger graphs are compared with the same search given much longer.
Times are CPU times of the process.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np

from sql_synthesizer.joins import exact, improve, search, seeds
from sql_synthesizer.joins.graph import JoinGraph, joinable, log_c_out

SHAPES = ("chain", "cycle", "star", "tree", "snowflake", "clique")
ROWS = ((15, 10, 100), (30, 100, 1_000), (35, 1_000, 10_000), (20, 10_000, 100_000))
DOMAINS = ((5, 2, 10), (50, 10, 100), (35, 100, 500), (15, 500, 1_000))
SA_MOVES = 10_000
REFERENCE_SPLITS = 4e7
BUDGET_S, LARGE_BUDGET_S = 0.04, 0.23
"""What the search is given: a little less than the goals of 50 and 250 ms, which count building its arrays too."""


def edges(shape: str, n: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    if shape == "clique":
        return [(i, j) for j in range(n) for i in range(j)]
    if shape == "cycle":
        return [(i, (i + 1) % n) for i in range(n)]
    hubs = max(2, round(math.sqrt(n)))
    parents = {
        "chain": lambda i: i - 1,
        "star": lambda _: 0,
        "tree": lambda i: int(rng.integers(i)),
        "snowflake": lambda i: 0 if i <= hubs else int(rng.integers(1, hubs + 1)),
    }
    return [(parents[shape](i), i) for i in range(1, n)]


def drawn(bands: tuple[tuple[int, int, int], ...], rng: np.random.Generator) -> int:
    weights = np.array([band[0] for band in bands], dtype=np.float64)
    _, low, high = bands[rng.choice(len(bands), p=weights / weights.sum())]
    return int(rng.integers(low, high))


def instance(shape: str, n: int, rng: np.random.Generator, *, hard: bool = False) -> JoinGraph:
    rows = np.log([drawn(ROWS, rng) for _ in range(n)])
    between = np.zeros((n, n))
    for i, j in edges(shape, n, rng):
        kept = -math.log(max(drawn(DOMAINS, rng), drawn(DOMAINS, rng)))
        if hard:
            kept = min(-rows[i if rng.random() < 0.5 else j] + rng.normal(0.0, 1.5), -1e-3)
            kept = kept * 2.0 / n if shape == "clique" else kept
        between[i, j] = between[j, i] = kept
    return JoinGraph(tuple(f"r{i}" for i in range(n)), rows, between)


def plain_dp(graph: JoinGraph) -> float | None:
    """The log cost of the best tree by DP over all connected subsets, without a bound; None above the limit."""
    n, joined = graph.size, joinable(graph)
    logs, costs = np.empty(1 << n), np.empty(1 << n)
    alive, splits = np.empty(1 << n, dtype=np.bool_), np.zeros(1 << n, dtype=np.int64)
    exact.subset_logs(graph.log_rows, graph.log_selectivity, logs)
    tried = exact.candidates(logs, joined @ (1 << np.arange(n)), math.inf, alive)
    if len(graph.edges()) == n - 1:
        below, above = search.rooted(joined)
        return math.log(exact.tree_dp(logs, 0.0, below, above, alive, costs, splits))
    if tried > REFERENCE_SPLITS:
        return None
    return math.log(exact.subset_dp(logs, 0.0, alive, costs, splits))


def greedy(graph: JoinGraph, _: np.random.Generator) -> float:
    pairs = seeds.greedy_operators(graph.log_rows, graph.log_selectivity, joinable(graph))
    return log_c_out(graph, search.from_pairs(pairs, 2 * graph.size - 2))


def ikkbz(graph: JoinGraph, _: np.random.Generator) -> float:
    shift = search.shift_of(graph)
    return math.log(seeds.ikkbz(graph.log_rows, graph.log_selectivity, joinable(graph), shift)[0]) + shift


def permutation_sa(graph: JoinGraph, rng: np.random.Generator) -> float:
    """Geometric cooling over all moves from a random order, cross products allowed: nothing but annealing."""
    order = rng.permutation(graph.size).astype(np.int64)
    best, state, shift = order.copy(), np.full(2, math.inf), search.shift_of(graph)
    everything = ~np.eye(graph.size, dtype=np.bool_)
    for temperature in np.geomspace(2.0, 0.01, 100):
        draws = rng.random((SA_MOVES // 100, 4))
        improve.anneal_prefixes(
            order, best, state, graph.log_rows, graph.log_selectivity, everything, shift, temperature, draws
        )
    return float(state[1]) + shift


def ours(graph: JoinGraph, _: np.random.Generator) -> float:
    return search.order_joins(graph, seconds=BUDGET_S if graph.size <= 20 else LARGE_BUDGET_S).log_cost


SOLVERS: dict[str, Callable[[JoinGraph, np.random.Generator], float]] = {
    "ours": ours,
    "greedy": greedy,
    "IKKBZ": ikkbz,
    "permutation SA": permutation_sa,
}


def compare(graphs: list[JoinGraph], references: list[float], rng: np.random.Generator) -> list[str]:
    """One table row a solver: ratios to the reference, and times of the process."""
    lines = []
    for name, solver in SOLVERS.items():
        ratios, times = [], []
        for graph, reference in zip(graphs, references, strict=True):
            begun = time.process_time()
            ratios.append(math.exp(min(solver(graph, rng) - reference, 60.0)))
            times.append((time.process_time() - begun) * 1e3)
        found = np.array(ratios)
        lines.append(
            f"| {name} | {np.exp(np.log(found).mean()):.3f} | {np.quantile(found, 0.99):.3f} | {found.max():.3g} "
            f"| {(found <= 1.05).mean():.1%} | {np.median(times):.2f} | {np.quantile(times, 0.95):.2f} |"
        )
    return lines


HEAD = "| solver | gmean ratio | p99 | worst | <= 1.05 | median ms | p95 ms |\n|---|---|---|---|---|---|---|"


def small(count: int, rng: np.random.Generator, *, hard: bool) -> None:
    graphs, references, proved = [], [], 0
    for shape in SHAPES:
        for _ in range(count):
            graph = instance(shape, int(rng.integers(5, 21)), rng, hard=hard)
            reference = plain_dp(graph)
            proved += reference is not None
            if reference is None:
                reference = min(
                    search.order_joins(graph, seconds=3.0).log_cost,
                    *(solver(graph, rng) for name, solver in SOLVERS.items() if name != "permutation SA"),
                )
            graphs.append(graph)
            references.append(reference)
    print(
        f"\n5 to 20 relations{', hard' if hard else ''}: {len(graphs)} graphs, {proved} with a proved optimum\n\n{HEAD}"
    )
    print("\n".join(compare(graphs, references, rng)), flush=True)


def large(count: int, seconds: float, rng: np.random.Generator, *, hard: bool) -> None:
    graphs = [instance(shape, n, rng, hard=hard) for shape in SHAPES for n in (50, 75, 100)[:count]]
    references = [search.order_joins(graph, seconds=seconds, seed=1).log_cost for graph in graphs]
    sizes = "50 to 100 relations" + (", hard" if hard else "")
    print(f"\n{sizes}: {len(graphs)} graphs, against the same search in {seconds:g} s\n\n{HEAD}")
    print("\n".join(compare(graphs, references, rng)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=20, help="graphs of each shape up to 20 relations")
    parser.add_argument("--large", type=int, default=1, help="sizes of each shape from 50 relations on, 1 to 3")
    parser.add_argument("--long", type=float, default=5.0, help="seconds of the long search; the goal is stated for 60")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    print(f"kernels compiled in {search.warm_up():.1f} s, once a process", flush=True)
    for hard in (False, True):
        small(given.instances, rng, hard=hard)
        large(given.large, given.long, rng, hard=hard)


if __name__ == "__main__":
    main()
