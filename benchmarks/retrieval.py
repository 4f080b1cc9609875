"""Retrieval quality on WordNet usage examples that are in no vector: ``python -m benchmarks.retrieval``.

Given an example's vector (and its domain, where the line says so), the right word of 9,891 should rank first.
Intervals: 95%, bootstrap over examples. The quantum lines draw shots from the exact probabilities of the overlap
circuits; with a context every candidate has one circuit.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from quantum_db.circuits.encoding import fidelity_of_cosine
from quantum_db.corpus import Corpus, load_corpus
from quantum_db.modes import MODES
from quantum_db.retrieval import SOFT_BETA

Array = NDArray[np.float64]
BLOCK = 500
WORST = -9.0


def cosines(corpus: Corpus) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield the cosines of all contexts with blocks of examples, so that memory stays bounded."""
    for start in range(0, len(corpus.example_words), BLOCK):
        block = slice(start, min(start + BLOCK, len(corpus.example_words)))
        yield block, corpus.example_vectors[block] @ corpus.vectors.T


def mean_vectors(corpus: Corpus) -> NDArray[np.float32]:
    means = np.add.reduceat(corpus.vectors, corpus.first_context[:-1], axis=0)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


class Ranks:
    """Collects, for each line of the table, the rank of the right word for every example (0 is best)."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.lines: dict[str, list[NDArray[np.int64]]] = {}

    def add(self, line: str, block: slice, scores: Array) -> None:
        """Note the ranks of a block of examples by the (examples, words) scores; ties count against us."""
        right = self.corpus.example_words[block]
        own = scores[np.arange(len(right)), right]
        self.lines.setdefault(line, []).append((scores >= own[:, None]).sum(axis=1) - 1)


def rank_all(corpus: Corpus, shot_counts: list[int], rng: np.random.Generator) -> Ranks:
    ranks = Ranks(corpus)
    means = mean_vectors(corpus)
    starts = corpus.first_context[:-1]
    owner = np.repeat(np.arange(len(corpus.words)), np.diff(corpus.first_context))
    domains = np.array(corpus.domains)
    for block, cosine in cosines(corpus):
        plain = (corpus.example_vectors[block] @ means.T).astype(np.float64)
        in_context = np.full_like(plain, WORST)
        has_context = np.zeros(plain.shape, dtype=bool)
        joint = np.full_like(plain, WORST)
        for row, domain in enumerate(corpus.example_domains[block]):
            contexts = np.flatnonzero(domains == domain)
            in_context[row, owner[contexts]] = cosine[row, contexts]
            joint[row, owner[contexts]] = fidelity_of_cosine(cosine[row, contexts]) * corpus.weights[contexts]
            has_context[row, owner[contexts]] = True
        fidelities = fidelity_of_cosine(cosine)
        ranks.add("plain cosine, mean of a word's senses", block, plain)
        ranks.add("no context, best sense", block, np.maximum.reduceat(cosine, starts, axis=1).astype(np.float64))
        ranks.add("no context, traced", block, np.add.reduceat(fidelities * corpus.weights, starts, axis=1))
        soft = np.add.reduceat(np.exp(SOFT_BETA * cosine.astype(np.float64)), starts, axis=1)
        ranks.add(f"no context, soft (beta {SOFT_BETA:.0f}; default)", block, soft)
        ranks.add("mean of the senses, words without the context left out", block, np.where(has_context, plain, WORST))
        ranks.add("with context, joint", block, joint)
        ranks.add("with context (classical, exact)", block, in_context)
        for shots in shot_counts:
            ranks.add(f"with context (quantum, {shots:,} shots a candidate)", block, drawn(in_context, shots, rng))
    return ranks


def drawn(in_context: Array, shots: int, rng: np.random.Generator) -> Array:
    """Return the scores after the quantum stage: the mode's candidates by shots, all others behind them."""
    candidates = MODES["balanced"].candidates
    best = np.argpartition(-in_context, candidates, axis=1)[:, :candidates]
    cosine = np.take_along_axis(in_context, best, axis=1)
    present = cosine > WORST
    fidelity = np.where(present, fidelity_of_cosine(np.clip(cosine, -1.0, 1.0)), 0.0)
    estimate = rng.binomial(shots, np.clip(fidelity, 0.0, 1.0)) / shots
    tie_break = 1e-9 * cosine  # equal counts are ranked by the exact score, as the database does
    scores = in_context - 10.0
    np.put_along_axis(scores, best, np.where(present, estimate + tie_break, WORST), axis=1)
    return scores


def figures(ranks: NDArray[np.int64]) -> Array:
    """Return recall@1, recall@10 and nDCG@10 of each example, (X, 3)."""
    gain = np.where(ranks < 10, 1.0 / np.log2(ranks + 2.0), 0.0)
    return np.stack([(ranks < 1).astype(float), (ranks < 10).astype(float), gain], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shots", type=int, nargs="*", default=[100, 1_024, 4_096, 65_536, 1_000_000])
    parser.add_argument("--resamples", type=int, default=1_000)
    arguments = parser.parse_args()
    rng = np.random.default_rng(20_260)
    corpus = load_corpus()
    print(
        f"{len(corpus.words):,} words, {len(corpus.vectors):,} contexts, {len(corpus.example_words):,} usage examples\n"
    )
    print("| ranking | recall@1 | recall@10 | nDCG@10 | recall@1 over plain cosine |")
    print("|---|---|---|---|---|")
    peer = 0.0
    for line, blocks in rank_all(corpus, arguments.shots, rng).lines.items():
        each = figures(np.concatenate(blocks))
        picks = rng.integers(0, len(each), size=(arguments.resamples, len(each)))
        low, high = np.percentile(np.array([each[pick].mean(axis=0) for pick in picks]), [2.5, 97.5], axis=0)
        mean = each.mean(axis=0)
        peer = peer or float(mean[0])
        cells = [f"{m:.3f} ({a:.3f} to {b:.3f})" for m, a, b in zip(mean, low, high, strict=True)]
        print(f"| {line} | {' | '.join(cells)} | {mean[0] / peer:.2f} |", flush=True)


if __name__ == "__main__":
    main()
