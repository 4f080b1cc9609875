"""The shipped corpus: ambiguous nouns of WordNet 3.0 as entities, their lexicographer domains as contexts.

How it was made: scripts/build_corpus.py and data/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantum_db.errors import CorruptData, Unavailable
from quantum_db.model import Vector

CORPUS_PATH = Path(__file__).parents[1] / "data" / "wordnet_nouns.npz"


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """W words with C contexts in all, and X usage examples.

    Attributes:
        words: of length W.
        first_context: (W + 1,), word w has the contexts first_context[w] to first_context[w + 1].
        domains, glosses: of length C.
        weights: (C,), sum to 1 for each word.
        vectors: (C, 384) unit vectors.
        example_words: (X,), the word that an example shows.
        example_domains, example_texts: of length X.
        example_vectors: (X, 384) unit vectors.
    """

    words: tuple[str, ...]
    first_context: NDArray[np.int64]
    domains: tuple[str, ...]
    glosses: tuple[str, ...]
    weights: NDArray[np.float32]
    vectors: Vector
    example_words: NDArray[np.int64]
    example_domains: tuple[str, ...]
    example_texts: tuple[str, ...]
    example_vectors: Vector

    def bodies(self, digits: int = 4) -> Iterator[dict[str, Any]]:
        """Yield each word as the body of ``POST /api/v2/vectors``, with vectors rounded to ``digits``."""
        rounded = np.round(self.vectors, digits).astype(np.float64)
        for number, word in enumerate(self.words):
            rows = range(self.first_context[number], self.first_context[number + 1])
            yield {
                "id": word,
                "contexts": [
                    {"name": self.domains[row], "weight": float(self.weights[row]), "vector": rounded[row].tolist()}
                    for row in rows
                ],
                "metadata": {"glosses": {self.domains[row]: self.glosses[row] for row in rows}},
            }


def load_corpus(path: Path = CORPUS_PATH) -> Corpus:
    """Read the corpus file.

    Raises:
        Unavailable: there is no such file.
        CorruptData: it is not a corpus.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            examples = [json.loads(line) for line in _lines(arrays["examples"])]
            return Corpus(
                words=_lines(arrays["words"]),
                first_context=np.concatenate([[0], np.cumsum(arrays["word_sizes"], dtype=np.int64)]),
                domains=_lines(arrays["domains"]),
                glosses=_lines(arrays["glosses"]),
                weights=arrays["weights"],
                vectors=_unit(arrays["vectors"], arrays["vector_scales"]),
                example_words=arrays["example_words"].astype(np.int64),
                example_domains=tuple(domain for domain, _ in examples),
                example_texts=tuple(text for _, text in examples),
                example_vectors=_unit(arrays["example_vectors"], arrays["example_scales"]),
            )
    except FileNotFoundError as error:
        raise Unavailable(f"the corpus {path} is missing") from error
    except (KeyError, ValueError, OSError) as error:
        raise CorruptData(f"{path} is not a corpus: {error}") from error


def _lines(packed: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(packed.tobytes().decode().split("\n"))


def _unit(packed: NDArray[np.int8], scales: NDArray[np.float32]) -> Vector:
    vectors = packed * scales[:, None]
    unit: Vector = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit
