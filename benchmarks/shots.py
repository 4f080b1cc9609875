"""Adaptive shots against the same number for each circuit, and routing: ``python -m benchmarks.shots``.

K = 50 candidates, k = 10 wanted; 500 instances of each kind. Real: fidelities of a usage example with its 50 nearest
words in its context. Random: uniform in [0, 1]. Only the counts are drawn; they are binomial at the exact fidelities.
The peer is uniform allocation: its shots at equal recall@10 are interpolated on a grid (in the logarithm).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from quantum_db.circuits.adaptive import AdaptiveAllocation
from quantum_db.circuits.encoding import fidelity_of_cosine
from quantum_db.corpus import Corpus, load_corpus
from quantum_db.modes import MODES
from quantum_db.routing import report

Array = NDArray[np.float64]
CANDIDATES, TOP_K = 50, 10
UNIFORM_TOTALS = np.geomspace(2e4, 1e8, 24)
REPEATS = 4


@dataclass(frozen=True)
class Setting:
    epsilon: float
    confidence: float
    max_shots: int


SETTINGS = (
    Setting(0.0, 0.95, 40_000),
    Setting(0.0, 0.95, 100_000),
    Setting(0.0, 0.95, 2_000_000),
    Setting(0.0, 0.80, 3_000_000),
    Setting(0.0, 0.95, 3_000_000),
    Setting(0.0, 0.95, 10_000_000),
    Setting(0.002, 0.80, 3_000_000),
    Setting(0.002, 0.95, 3_000_000),
    Setting(0.02, 0.95, 50_000),
    Setting(0.02, 0.80, 3_000_000),
    Setting(0.02, 0.95, 3_000_000),
)


def context_fidelities(corpus: Corpus, example: int, rows: NDArray[np.intp], count: int) -> Array:
    """Return the fidelities of an example with its nearest words in its context, best first."""
    cosines = corpus.vectors[rows].astype(np.float64) @ corpus.example_vectors[example].astype(np.float64)
    return np.sort(fidelity_of_cosine(np.clip(cosines, -1.0, 1.0)))[::-1][:count]


def real_instances(corpus: Corpus, count: int, limit: int, rng: np.random.Generator) -> list[Array]:
    domains = np.array(corpus.domains)
    rows_of = {domain: np.flatnonzero(domains == domain) for domain in set(corpus.domains)}
    found: list[Array] = []
    for example in rng.permutation(len(corpus.example_words)):
        rows = rows_of[corpus.example_domains[example]]
        if rows.size >= count:
            found.append(context_fidelities(corpus, int(example), rows, count))
        if len(found) == limit:
            break
    return found


def uniform_recall(instances: Array, shots: int, rng: np.random.Generator) -> float:
    """Return recall@10 of equal shots; rows are sorted, and equal counts are broken at random."""
    recalls = []
    for _ in range(REPEATS):
        counts = rng.binomial(shots, instances) + rng.random(instances.shape) * 0.5
        recalls.append((np.argpartition(-counts, TOP_K, axis=1)[:, :TOP_K] < TOP_K).mean())
    return float(np.mean(recalls))


def shots_at(recall: float, curve: list[float]) -> float:
    """Return uniform's total at this recall; infinite if it lies above the grid."""
    for (low, high), (a, b) in zip(pairwise(UNIFORM_TOTALS), pairwise(np.maximum.accumulate(curve)), strict=True):
        if a <= recall < b:
            return float(np.exp(np.interp(recall, [a, b], np.log([low, high]))))
    return float("inf") if recall >= max(curve) else float(UNIFORM_TOTALS[0])


def adaptive_row(instances: Array, setting: Setting, rng: np.random.Generator) -> dict[str, float]:
    rows = []
    for exact in instances:
        truth = rng.permutation(exact)
        allocation = AdaptiveAllocation(
            truth.size,
            TOP_K,
            epsilon=setting.epsilon,
            confidence=setting.confidence,
            max_shots=setting.max_shots,
        )
        while (current := allocation.next_round()) is not None:
            allocation.observe(rng.binomial(current.shots, truth[current.indices]))
        result = allocation.result()
        missed = np.delete(truth, result.indices)
        good = missed.max() - truth[result.indices].min() <= setting.epsilon + 1e-12
        recall = (truth[result.indices] >= exact[TOP_K - 1]).mean()
        covered = ((result.low <= truth) & (truth <= result.high)).mean()
        rows.append((recall, good, result.decided, result.total_shots, result.rounds, covered))
    recall, good, decided, shots, rounds, covered = np.array(rows, dtype=np.float64).T
    return {
        "recall": float(recall.mean()),
        "good": float(good.mean()),
        "wrong": float(((decided == 1.0) & (good == 0.0)).mean()),
        "decided": float(decided.mean()),
        "mean": float(shots.mean()),
        "median": float(np.median(shots)),
        "rounds": float(np.median(rounds)),
        "covered": float(covered.mean()),
    }


def allocation_tables(kinds: dict[str, Array], rng: np.random.Generator) -> None:
    for name, instances in kinds.items():
        curve = [uniform_recall(instances, int(total / CANDIDATES), rng) for total in UNIFORM_TOTALS]
        print(f"\n**{name}**: uniform reaches recall@10 .985 with {shots_at(0.985, curve):,.0f} shots in all\n")
        print(
            "| epsilon | confidence | budget | recall@10 | as asked | claimed and wrong | decided | mean shots ", end=""
        )
        print("| median shots | rounds | interval coverage | uniform's shots at this recall | uniform / mean |")
        print("|---" * 13 + "|")
        for setting in SETTINGS:
            row = adaptive_row(instances, setting, rng)
            peer = shots_at(row["recall"], curve)
            print(
                f"| {setting.epsilon:g} | {setting.confidence:.2f} | {setting.max_shots:,} | {row['recall']:.4f} "
                f"| {row['good']:.3f} | {row['wrong']:.3f} | {row['decided']:.2f} | {row['mean']:,.0f} "
                f"| {row['median']:,.0f} | {row['rounds']:.0f} | {row['covered']:.3f} | {peer:,.0f} "
                f"| {peer / row['mean']:.1f} |",
                flush=True,
            )


def routing_table(corpus: Corpus, rng: np.random.Generator) -> None:
    print("\n**Routing** of corpus queries with their context (peer: the circuits run for every query)\n")
    print("| mode | answer | shots a candidate | queries | routed past | of these, changed by circuits ", end="")
    print("| of the others, changed by circuits |")
    print("|---|---|---|---|---|---|---|")
    for mode in (MODES["exploratory"], MODES["balanced"], MODES["precise"]):
        instances = real_instances(corpus, mode.candidates, 2_000, rng)
        for top_k, aim in ((1, "set"), (3, "set"), (10, "set"), (10, "order")):
            seen = report(instances, mode.shots, top_k, 0.95, rng, aim=aim)  # type: ignore[arg-type]
            print(
                f"| {mode.name} | {aim} of {top_k} | {mode.shots:,} | {seen.queries:,} | {seen.skipped_share:.3f} "
                f"| {seen.changed_share:.4f} | {seen.changed_share_of_run:.3f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=500)
    arguments = parser.parse_args()
    rng = np.random.default_rng(20_261)
    corpus = load_corpus()
    random = np.sort(rng.uniform(size=(arguments.instances, CANDIDATES)), axis=1)[:, ::-1]
    real = np.array(real_instances(corpus, CANDIDATES, arguments.instances, rng))
    allocation_tables({"random": random, "real candidates": real}, rng)
    routing_table(corpus, rng)


if __name__ == "__main__":
    main()
