"""The sub-topic benchmark measures what the database does, and its recall and its peer are what they are called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.subtopics import CHOSEN, Topic, ambiguous_words, marginal, plain, topic, tunnelled
from quantum_db import retrieval
from quantum_db.corpus import Corpus, load_corpus
from quantum_db.diversity import DIVERSITY, Diversifier
from quantum_db.jobs.budget import NO_LIMIT
from quantum_db.model import Candidates, Query
from quantum_db.refinement import exact_scores
from tests.unit.fakes import FakeJobs

SEED = 5


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus()


@pytest.fixture(scope="module")
def words(corpus: Corpus) -> list[int]:
    return ambiguous_words(corpus, 8, np.random.default_rng(1)).tolist()


def query_of(corpus: Corpus, word: int) -> Query:
    own = slice(corpus.first_context[word], corpus.first_context[word + 1])
    vector = corpus.vectors[own].astype(np.float64).mean(axis=0)
    vector = (vector / np.linalg.norm(vector)).astype(np.float32)
    return Query(vector=vector, contexts=(), mode="classical", top_k=CHOSEN, timeout_s=1.0, enable_tunneling=True)


def senses(corpus: Corpus, word: int, count: int) -> Candidates:
    """Return the other words' senses as entities of one context; found by sorting, not by the benchmark."""
    vector = query_of(corpus, word).vector
    others = [
        i for i in range(len(corpus.vectors)) if not corpus.first_context[word] <= i < corpus.first_context[word + 1]
    ]
    rows = sorted(others, key=lambda i: -float(corpus.vectors[i] @ vector))[:count]
    return Candidates(
        entity_ids=tuple(str(place) for place in range(count)),
        metadata=({},) * count,
        coherence_time_ms=(1000.0,) * count,
        owner=np.arange(count, dtype=np.int32),
        contexts=tuple(corpus.domains[row] for row in rows),
        weights=np.ones(count),
        vectors=corpus.vectors[rows],
    )


async def chosen_by_the_database(corpus: Corpus, word: int, count: int) -> set[int]:
    query = query_of(corpus, word)
    candidates, scores = exact_scores(query, senses(corpus, word, count))
    hits = retrieval.rank(candidates, scores, None)
    diversifier = Diversifier(FakeJobs(), np.random.default_rng(SEED), "simulator", lambda: "key")
    chosen, _ = await diversifier.choose(query, candidates, hits, scores, NO_LIMIT)
    return {int(hit.id) for hit in chosen}


async def test_the_benchmark_chooses_what_the_database_chooses(corpus: Corpus, words: list[int]) -> None:
    unsquared = 0
    for word in words:
        one = topic(corpus, word, own_senses=False)
        expected = await chosen_by_the_database(corpus, word, len(one.relevance))
        assert set(tunnelled(one, DIVERSITY, np.random.default_rng(SEED))) == expected
        fault = replace(one, similarity=np.sqrt(one.similarity))
        unsquared += set(tunnelled(fault, DIVERSITY, np.random.default_rng(SEED))) != expected
    assert unsquared > 0, "another similarity must show"


def test_own_senses_are_candidates_only_where_asked(corpus: Corpus, words: list[int]) -> None:
    for word in words:
        own = corpus.vectors[corpus.first_context[word] : corpus.first_context[word + 1]].astype(np.float64)
        query = own.mean(axis=0) / np.linalg.norm(own.mean(axis=0))
        nearest = (own @ query).max()
        among, without = (topic(corpus, word, own_senses=flag) for flag in (True, False))
        assert among.relevance[0] >= nearest - 1e-5
        assert not np.isclose(without.relevance, nearest, atol=1e-7).any()
        assert among.wanted == without.wanted
        assert len(among.wanted) >= 3


def line_of_twins() -> Topic:
    """Two near-duplicates lead; the third, of another domain, is unlike them; the rest are as alike as can be."""
    relevance = np.array([1.0, 0.99, 0.9, *[0.1] * CHOSEN])
    similarity = np.zeros((len(relevance), len(relevance)))
    similarity[0, 1] = similarity[1, 0] = 1.0
    return Topic(relevance, similarity, ("a", "a", "b", *["c"] * CHOSEN), frozenset("abz"))


def test_recall_counts_each_wanted_domain_once() -> None:
    one = line_of_twins()
    assert one.recall([0]) == one.recall([0, 1]) == pytest.approx(1 / 3)
    assert one.recall([0, 2]) == one.recall(range(len(one.relevance))) == pytest.approx(2 / 3)
    assert one.recall([3, 4]) == 0.0


def test_marginal_relevance_delays_the_twin_and_is_plain_at_weight_zero() -> None:
    one, rng = line_of_twins(), np.random.default_rng(0)
    assert list(marginal(one, 0.0, rng)) == list(plain(one, 0.0, rng))
    assert list(marginal(one, 0.2, rng))[:3] == [0, 2, 1]
    assert 1 not in marginal(one, 1.0, rng)
