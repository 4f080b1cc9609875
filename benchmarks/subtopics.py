"""Does tunnelling help on ambiguous words without a context? Sub-topic recall of diverse top-10.

    python -m benchmarks.subtopics [--words N] [--seed S]

A query is a word of the corpus with senses in at least three domains; its vector is the plain mean of its senses, for
no word's bare vector is shipped, and a mean weighted by frequency asks for the leading sense, not for all. Candidates
are the 60 senses nearest to it. Recall is the share of the word's domains that appear among the 10 chosen, after
Zhai, Cohen and Lafferty (SIGIR 2003). Two fields: the senses of all words, where a word's own senses lie nearest to
their mean; and those of the other words, where recall has room to differ.

Relevance is the cosine (the default rule's score of an entity with one context) and similarity its square, as in
`quantum_db.diversity`. Peers: plain top-10 by score, greedy on the same objective, maximal marginal relevance with its
maximum in place of our sum (Carbonell and Goldstein, SIGIR 1998), simulated annealing with as many updates, a random 10
of the 60, and branch and bound on the 30 nearest (at 60 it gives no proof).

At weight 0 all but the random choice are plain top-10; the run checks it. The weight of MMR counts one pair where ours
counts nine: compare it by the relevance kept. "f > greedy's" is the share of words where the objective is above
greedy's. Intervals: 95%, bootstrap over words, paired. Times are CPU times of one thread, medians.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantum_db import tunneling
from quantum_db.corpus import Corpus, load_corpus
from quantum_db.diversity import DIVERSITY
from quantum_db.errors import InvalidRequest

Floats = NDArray[np.float64]

CANDIDATES, PROVABLE, CHOSEN, LEAST_DOMAINS = 60, 30, 10, 3
WEIGHTS = (0.03, 0.1, 0.3, 1.0)
KEPT = 0.95
"""The trade-off: the most recall for at most a twentieth of plain top-10's mean relevance."""
RESAMPLES = 2_000
ROUNDING = 1e-9


@dataclass(frozen=True)
class Topic:
    """One query: K candidates by falling relevance, their domains, and the domains that are wanted."""

    relevance: Floats
    similarity: Floats
    domains: tuple[str, ...]
    wanted: frozenset[str]

    def nearest(self, count: int) -> Topic:
        return Topic(self.relevance[:count], self.similarity[:count, :count], self.domains[:count], self.wanted)

    def recall(self, chosen: Sequence[int]) -> float:
        return len(self.wanted & {self.domains[i] for i in chosen}) / len(self.wanted)

    def value(self, chosen: Sequence[int], diversity: float) -> float:
        return tunneling.objective(self.relevance, self.similarity, chosen, diversity)


Solver = Callable[[Topic, float, np.random.Generator], Sequence[int]]


def ambiguous_words(corpus: Corpus, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return ``count`` words, drawn from those with at least `LEAST_DOMAINS`; a word has one sense in each domain."""
    return rng.choice(np.flatnonzero(np.diff(corpus.first_context) >= LEAST_DOMAINS), count, replace=False)


def topic(corpus: Corpus, word: int, *, own_senses: bool) -> Topic:
    own = slice(int(corpus.first_context[word]), int(corpus.first_context[word + 1]))
    query = corpus.vectors[own].astype(np.float64).mean(axis=0)
    cosines = corpus.vectors @ (query / np.linalg.norm(query)).astype(np.float32)
    if not own_senses:
        cosines[own] = -np.inf
    rows = np.argsort(-cosines, kind="stable")[:CANDIDATES]
    vectors = corpus.vectors[rows].astype(np.float64)
    similarity = (vectors @ vectors.T).clip(0.0, 1.0) ** 2
    similarity = (similarity + similarity.T) / 2.0
    np.fill_diagonal(similarity, 0.0)
    domains = tuple(corpus.domains[row] for row in rows)
    return Topic(cosines[rows].astype(np.float64), similarity, domains, frozenset(corpus.domains[own]))


def plain(one: Topic, _diversity: float, _rng: np.random.Generator) -> Sequence[int]:
    return [int(i) for i in np.argsort(-one.relevance, kind="stable")[:CHOSEN]]


def drawn(one: Topic, _diversity: float, rng: np.random.Generator) -> Sequence[int]:
    return [int(i) for i in rng.choice(len(one.relevance), CHOSEN, replace=False)]


def marginal(one: Topic, diversity: float, _rng: np.random.Generator) -> Sequence[int]:
    """Add, ten times, the candidate of the largest r_i - mu * (its similarity to the nearest chosen one)."""
    nearest, chosen = np.zeros(len(one.relevance)), list[int]()
    for _ in range(CHOSEN):
        gains = one.relevance - diversity * nearest
        gains[chosen] = -np.inf
        chosen.append(int(gains.argmax()))
        nearest = np.maximum(nearest, one.similarity[chosen[-1]])
    return chosen


def greedy(one: Topic, diversity: float, _rng: np.random.Generator) -> Sequence[int]:
    return tunneling.greedy(one.relevance, one.similarity, CHOSEN, diversity).indices


def annealed(one: Topic, diversity: float, rng: np.random.Generator) -> Sequence[int]:
    return tunneling.simulated_annealing(one.relevance, one.similarity, CHOSEN, diversity, rng).indices


def tunnelled(one: Topic, diversity: float, rng: np.random.Generator) -> Sequence[int]:
    return tunneling.tunnel(one.relevance, one.similarity, CHOSEN, diversity, rng).selection.indices


SOLVERS: dict[str, Solver] = {
    "MMR (maximum)": marginal,
    "greedy": greedy,
    "simulated annealing": annealed,
    "SQA (`tunnel`)": tunnelled,
}
SQA = "SQA (`tunnel`)"


@dataclass(frozen=True)
class Line:
    """What one solver did at one weight: (words,) recall, mean relevance, objective, CPU milliseconds."""

    recall: Floats
    relevance: Floats
    value: Floats
    ms: Floats


def line(solve: Solver, topics: Sequence[Topic], diversity: float, seed: int) -> Line:
    cells = []
    for number, one in enumerate(topics):
        rng = np.random.default_rng([seed, number])
        start = time.process_time()
        chosen = solve(one, diversity, rng)
        elapsed_ms = 1e3 * (time.process_time() - start)
        value = one.value(chosen, diversity)
        cells.append((one.recall(chosen), one.relevance[list(chosen)].mean(), value, elapsed_ms))
    return Line(*np.array(cells).T)


class Bootstrap:
    """95% intervals of means and of ratios of means; the same words are drawn for all, so differences are paired."""

    def __init__(self, words: int, rng: np.random.Generator) -> None:
        self._picks = rng.integers(0, words, size=(RESAMPLES, words))

    def mean(self, values: Floats) -> tuple[float, float, float]:
        low, high = np.percentile(values[self._picks].mean(axis=1), [2.5, 97.5])
        return float(values.mean()), float(low), float(high)

    def ratio(self, values: Floats, peer: Floats) -> tuple[float, float, float]:
        ratios = values[self._picks].mean(axis=1) / peer[self._picks].mean(axis=1)
        low, high = np.percentile(ratios, [2.5, 97.5])
        return float(values.mean() / peer.mean()), float(low), float(high)


def shown(figure: tuple[float, float, float], sign: str = "") -> str:
    return f"{figure[0]:{sign}.3f} ({figure[1]:{sign}.3f} to {figure[2]:{sign}.3f})"


def compare(title: str, topics: Sequence[Topic], seed: int) -> None:
    """Print the table of one field, and what follows from it."""
    boot = Bootstrap(len(topics), np.random.default_rng([seed, 1]))
    peer, chance = line(plain, topics, 0.0, seed), line(drawn, topics, 0.0, seed)
    for name, solve in SOLVERS.items():
        if np.abs(line(solve, topics, 0.0, seed).value - peer.value).max() > ROUNDING:
            raise AssertionError(f"{name} at weight 0 is not plain top-{CHOSEN}")
    lines = {(name, mu): line(solve, topics, mu, seed) for mu in WEIGHTS for name, solve in SOLVERS.items()}
    reachable = np.mean([one.recall(range(CANDIDATES)) for one in topics])
    print(f"\n{title}: {len(topics)} words, {CHOSEN} of {CANDIDATES}; all {CANDIDATES} hold {reachable:.3f}\n")
    print("| solver | diversity | sub-topic recall@10 | recall / plain | relevance / plain", end="")
    print(" | f > greedy's | recall minus greedy's | ms | time / greedy |\n|---|---|---|---|---|---|---|---|---|")
    for name, one in (("plain top-10", peer), ("random 10", chance)):
        print(f"| {name} |  | {against_plain(one, peer, boot)} |  |  | {np.median(one.ms):.2f} |  |")
    for (name, weight), one in lines.items():
        base = lines["greedy", weight]
        above = f"{(one.value > base.value + ROUNDING).mean():.0%}"
        difference = shown(boot.mean(one.recall - base.recall), "+")
        ms, base_ms = np.median(one.ms), np.median(base.ms)
        cells = [against_plain(one, peer, boot), above, difference, f"{ms:.2f}", f"{ms / base_ms:.1f}"]
        print(f"| {name} | {weight:g} | {' | '.join(cells)} |")
    print(f"\n{verdict(lines, peer, boot)}")


def against_plain(one: Line, peer: Line, boot: Bootstrap) -> str:
    recall, relevance = boot.ratio(one.recall, peer.recall), boot.ratio(one.relevance, peer.relevance)
    return f"{shown(boot.mean(one.recall))} | {shown(recall)} | {shown(relevance)}"


def verdict(lines: dict[tuple[str, float], Line], peer: Line, boot: Bootstrap) -> str:
    """Say which weight is best by the trade-off `KEPT`, and what SQA does there and elsewhere that greedy does not."""
    allowed = [mu for mu in WEIGHTS if lines[SQA, mu].relevance.mean() >= KEPT * peer.relevance.mean()]
    if not allowed:
        return f"No diversity keeps {KEPT:.0%} of the relevance."
    best = max(allowed, key=lambda mu: float(lines[SQA, mu].recall.mean()))
    recall = {mu: boot.mean(lines[SQA, mu].recall - lines["greedy", mu].recall) for mu in WEIGHTS}
    more = [f"{mu:g}" for mu in WEIGHTS if recall[mu][1] > 0.0]
    fewer = [f"{mu:g}" for mu in WEIGHTS if recall[mu][2] < 0.0]
    relevance = boot.mean(lines[SQA, best].relevance - lines["greedy", best].relevance)
    better = (lines[SQA, best].value > lines["greedy", best].value + ROUNDING).mean()
    return (
        f"Most recall for {1 - KEPT:.0%} of relevance: diversity {best:g} (the database uses {DIVERSITY:g}). There SQA"
        f" has a better objective than greedy on {better:.0%} of the words, {shown(recall[best], '+')} of recall and"
        f" {shown(relevance, '+')} of relevance. It finds more sub-topics than greedy at diversity:"
        f" {', '.join(more) or 'none'}; fewer at: {', '.join(fewer) or 'none'}."
    )


def against_proof(topics: Sequence[Topic], seed: int) -> None:
    """Print what the proved optimum of the objective is worth in recall: the limit of any better solver."""
    diversity = DIVERSITY
    settled, proofs, proof_ms = [], [], []
    for one in (whole.nearest(PROVABLE) for whole in topics):
        start = time.process_time()
        try:
            best = tunneling.exact(one.relevance, one.similarity, CHOSEN, diversity, max_nodes=100_000)
        except InvalidRequest:
            continue
        proof_ms.append(1e3 * (time.process_time() - start))
        settled.append(one)
        proofs.append(best.indices)
    boot = Bootstrap(len(settled), np.random.default_rng([seed, 2]))
    proofs_left = iter(proofs)
    exact = line(lambda *_: next(proofs_left), settled, diversity, seed)
    peer = line(plain, settled, diversity, seed)
    print(
        f"\nOther words' senses, {CHOSEN} of the {PROVABLE} nearest, diversity {diversity:g}:"
        f" {len(settled)} of {len(topics)} words proved\n"
    )
    print("| solver | optimal | sub-topic recall@10 | recall / plain | recall minus the optimum's | ms |")
    print("|---|---|---|---|---|---|")
    rows = {"plain top-10": (peer, peer.ms), "exact (proof)": (exact, np.array(proof_ms))}
    for name, solve in SOLVERS.items():
        found = line(solve, settled, diversity, seed)
        rows[name] = (found, found.ms)
    for name, (found, ms) in rows.items():
        optimal = f"{(found.value > exact.value - ROUNDING).mean():.0%}"
        cells = [shown(boot.mean(found.recall)), shown(boot.ratio(found.recall, peer.recall))]
        cells.append(shown(boot.mean(found.recall - exact.recall), "+"))
        print(f"| {name} | {optimal} | {' | '.join(cells)} | {np.median(ms):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=300, help="drawn; 300 take a minute")
    parser.add_argument("--seed", type=int, default=2003)
    args = parser.parse_args()
    start = time.perf_counter()
    corpus = load_corpus()
    words = ambiguous_words(corpus, args.words, np.random.default_rng([args.seed, 0]))
    others = [topic(corpus, int(word), own_senses=False) for word in words]
    compare("Other words' senses", others, args.seed)
    compare("All words' senses", [topic(corpus, int(word), own_senses=True) for word in words[::2]], args.seed)
    against_proof(others[::3], args.seed)
    print(f"\n{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
