"""Retrieval on real data: 1,500 usage examples of WordNet against all 9,891 words.

Bounds are what was measured less three standard errors of a paired difference over this sample (about 0.03).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.retrieval import figures, rank_all
from quantum_db.corpus import Corpus, load_corpus

EXAMPLES = 1_500


@pytest.fixture(scope="module")
def recall() -> dict[str, float]:
    corpus = load_corpus()
    rows = np.sort(np.random.default_rng(3).choice(len(corpus.example_words), EXAMPLES, replace=False))
    sample: Corpus = replace(
        corpus,
        example_words=corpus.example_words[rows],
        example_domains=tuple(corpus.example_domains[row] for row in rows),
        example_texts=tuple(corpus.example_texts[row] for row in rows),
        example_vectors=corpus.example_vectors[rows],
    )
    lines = rank_all(sample, [100, 4_096, 1_000_000], np.random.default_rng(4)).lines
    return {line: float(figures(np.concatenate(blocks))[:, 0].mean()) for line, blocks in lines.items()}


def test_a_context_finds_more_than_plain_cosine(recall: dict[str, float]) -> None:
    assert recall["with context (classical, exact)"] > recall["plain cosine, mean of a word's senses"] + 0.06


def test_the_default_rule_without_a_context_is_not_worse_than_plain_cosine(recall: dict[str, float]) -> None:
    (soft,) = (value for line, value in recall.items() if line.startswith("no context, soft"))
    assert soft > recall["plain cosine, mean of a word's senses"] - 0.02


def test_the_quantum_line_converges_to_the_classical_one_from_below(recall: dict[str, float]) -> None:
    exact = recall["with context (classical, exact)"]
    by_shots = [value for line, value in recall.items() if "quantum" in line]
    assert by_shots[0] < by_shots[1] - 0.05
    assert abs(by_shots[1] - exact) < 0.03
    assert abs(by_shots[2] - exact) < 0.01
