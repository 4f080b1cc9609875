"""Rebuild data/wordnet_nouns.npz from WordNet 3.0.

    apt-get install wordnet-base
    pip install '.[embed]'
    python scripts/build_corpus.py

Data file formats: https://wordnet.princeton.edu/documentation/wndb5wn and .../senseidx5wn
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantum_db.embedding import Embedder

# Lexicographer files 3 to 28 hold the nouns: https://wordnet.princeton.edu/documentation/lexnames5wn
_DOMAIN_NAMES = """
    Tops act animal artifact attribute body cognition communication event feeling food group location motive object
    person phenomenon plant possession process quantity relation shape state substance time
"""
DOMAINS = dict(enumerate(_DOMAIN_NAMES.split(), start=3))


@dataclass(frozen=True)
class Sense:
    """The first sense of a word in one lexicographer domain."""

    word: str
    domain: str
    gloss: str
    examples: tuple[str, ...]
    tagged_count: int


def read_synsets(path: Path) -> dict[int, tuple[int, str, tuple[str, ...]]]:
    """Return offset -> (lexicographer file number, gloss, examples) for every noun synset."""
    synsets = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):  # the licence header
            continue
        head, _, text = line.partition("|")
        offset, file_number = head.split()[:2]
        examples = tuple(re.findall(r'"([^"]+)"', text))
        gloss = re.sub(r'[;:,]?\s*"[^"]*"?(\s*-\s*[A-Z][^;]*)?', "", text).strip(" ;")
        synsets[int(offset)] = (int(file_number), gloss, examples)
    return synsets


def read_tagged_counts(path: Path) -> dict[tuple[str, int], int]:
    """Return (lemma, sense number) -> tagged count for nouns."""
    counts = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        key, number, count = line.split()
        lemma, _, rest = key.partition("%")
        if rest.startswith("1:"):
            counts[lemma, int(number)] = int(count)
    return counts


def read_senses(folder: Path) -> list[list[Sense]]:
    """Return, for each one-word noun with two or more domains, its first sense in each of them."""
    synsets = read_synsets(folder / "data.noun")
    counts = read_tagged_counts(folder / "cntlist.rev")
    words = []
    for line in (folder / "index.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue
        fields = line.split()
        lemma, sense_count = fields[0], int(fields[2])
        if "_" in lemma:
            continue
        by_domain: dict[str, Sense] = {}
        for number, offset in enumerate(fields[-sense_count:], start=1):
            file_number, gloss, examples = synsets[int(offset)]
            domain = f"noun.{DOMAINS[file_number]}"
            count = counts.get((lemma, number), 0)
            by_domain.setdefault(domain, Sense(lemma, domain, gloss, examples, count))
        if len(by_domain) >= 2:
            words.append(list(by_domain.values()))
    return words


def usage_examples(senses: list[Sense]) -> list[str]:
    """Return the examples that show the word itself, not only a synonym of it."""
    pattern = re.compile(rf"\b{re.escape(senses[0].word)}", re.IGNORECASE)
    return [json.dumps([sense.domain, text]) for sense in senses for text in sense.examples if pattern.search(text)]


def quantised(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 rows with a scale for each: row * scale is within half a step of the vector."""
    scales = np.abs(vectors).max(axis=1, keepdims=True) / 127.0
    return np.rint(vectors / scales).astype(np.int8), scales[:, 0].astype(np.float32)


def text_bytes(lines: list[str]) -> NDArray[np.uint8]:
    """Return one UTF-8 line for each string, as bytes: NumPy stores strings at four bytes a letter, padded."""
    return np.frombuffer("\n".join(lines).encode(), dtype=np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--out", type=Path, default=Path("data/wordnet_nouns.npz"))
    arguments = parser.parse_args()

    words = read_senses(arguments.wordnet)
    senses = [sense for word in words for sense in word]
    shares = []
    for word in words:
        total = sum(sense.tagged_count + 1 for sense in word)
        shares += [(sense.tagged_count + 1) / total for sense in word]
    example_words, examples = [], []
    for number, word in enumerate(words):
        for example in usage_examples(word):
            example_words.append(number)
            examples.append(example)
    print(f"{len(words)} words, {len(senses)} contexts, {len(examples)} usage examples")

    embedder = Embedder()
    texts = [f"{sense.word}: {sense.gloss}" for sense in senses] + [json.loads(line)[1] for line in examples]
    vectors = embedder.embed(texts, on_progress=lambda done: print(f"\r{done}/{len(texts)}", end="", flush=True))
    print()
    packed, scales = quantised(vectors)
    unpacked = packed * scales[:, None]
    unpacked /= np.linalg.norm(unpacked, axis=1, keepdims=True)
    print(f"worst cosine after quantisation: {(unpacked * vectors).sum(axis=1).min():.6f}")
    np.savez_compressed(
        arguments.out,
        words=text_bytes([word[0].word for word in words]),
        word_sizes=np.array([len(word) for word in words], dtype=np.uint8),
        domains=text_bytes([sense.domain for sense in senses]),
        glosses=text_bytes([sense.gloss for sense in senses]),
        weights=np.array(shares, dtype=np.float32),
        vectors=packed[: len(senses)],
        vector_scales=scales[: len(senses)],
        example_words=np.array(example_words, dtype=np.uint16),
        examples=text_bytes(examples),
        example_vectors=packed[len(senses) :],
        example_scales=scales[len(senses) :],
    )
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
