"""The shipped corpus is what its page says; what is not a corpus is refused; how WordNet's files are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quantum_db.corpus import CORPUS_PATH, Corpus, load_corpus
from quantum_db.errors import CorruptData, Unavailable
from quantum_db.requests import EntityBody, parse
from scripts.build_corpus import quantised, read_senses, usage_examples


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus()


def test_it_has_all_the_words_and_is_small(corpus: Corpus) -> None:
    assert (len(corpus.words), len(corpus.domains), len(corpus.example_words)) == (9_891, 24_728, 5_662)
    assert len(set(corpus.words)) == 9_891
    assert CORPUS_PATH.stat().st_size < 20_000_000
    assert (np.diff(corpus.first_context) >= 2).all()


def test_vectors_are_unit_vectors_and_weights_sum_to_one(corpus: Corpus) -> None:
    for vectors in (corpus.vectors, corpus.example_vectors):
        assert vectors.shape[1] == 384
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.add.reduceat(corpus.weights, corpus.first_context[:-1]), 1.0, atol=1e-5)


def test_every_example_shows_its_word_in_a_domain_that_the_word_has(corpus: Corpus) -> None:
    for word, domain, text in zip(corpus.example_words, corpus.example_domains, corpus.example_texts, strict=True):
        contexts = corpus.domains[corpus.first_context[word] : corpus.first_context[word + 1]]
        assert domain in contexts
        assert corpus.words[word].lower() in text.lower()


def test_words_are_valid_bodies(corpus: Corpus) -> None:
    body = next(corpus.bodies())
    entity = parse(EntityBody, body).to_entity()
    assert entity.id == corpus.words[0]
    assert {context.name for context in entity.contexts} == set(corpus.domains[: corpus.first_context[1]])


def test_what_is_not_a_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="is missing"):
        load_corpus(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", words=np.zeros(3, dtype=np.uint8))
    with pytest.raises(CorruptData, match="is not a corpus"):
        load_corpus(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(CorruptData, match="is not a corpus"):
        load_corpus(tmp_path / "text.npz")


def test_wordnets_files_are_read(tmp_path: Path) -> None:
    """Two senses of one word in two domains, a second sense in one of them, and a word of one domain only."""
    licence = "  1 This software\n"
    (tmp_path / "data.noun").write_text(
        licence
        + '00000001 05 n 01 bat 0 000 | nocturnal mouselike mammal; "a bat flew out"; "it flew"  \n'
        + '00000002 06 n 01 bat 0 000 | a club used for hitting a ball; "he swung the bat" - A. Writer  \n'
        + "00000003 05 n 01 bat 0 000 | another animal  \n"
    )
    (tmp_path / "index.noun").write_text(
        licence + "bat n 3 0 3 1 00000001 00000002 00000003  \ncat n 1 0 1 1 00000001  \n"
    )
    (tmp_path / "cntlist.rev").write_text("bat%1:05:00:: 1 7\nbat%2:35:00:: 1 99\n")
    (senses,) = read_senses(tmp_path)
    assert [(s.domain, s.gloss, s.tagged_count) for s in senses] == [
        ("noun.animal", "nocturnal mouselike mammal", 7),
        ("noun.artifact", "a club used for hitting a ball", 0),
    ]
    assert usage_examples(senses) == ['["noun.animal", "a bat flew out"]', '["noun.artifact", "he swung the bat"]']


def test_quantisation_stays_within_half_a_step() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    packed, scales = quantised(vectors)
    assert np.abs(packed * scales[:, None] - vectors).max() <= scales.max() / 2 + 1e-6
