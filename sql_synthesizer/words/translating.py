"""The reader as what ``QueryAgent`` takes to turn words into SQL."""

from __future__ import annotations

import threading

from quantum_db.errors import AmbiguousQuestion, UnclearQuestion
from sql_synthesizer.schema import Schema
from sql_synthesizer.translating import Translation
from sql_synthesizer.words.confidence import THRESHOLD
from sql_synthesizer.words.reading import Unclear, WordsReader
from sql_synthesizer.words.state import Link


class WordsTranslator:
    """Implements ``Translator`` without a language model. Safe to call from several threads."""

    def __init__(self, *, threshold: float = THRESHOLD) -> None:
        """Ask back where a reading's confidence is below the threshold."""
        self._threshold = threshold
        self._lock = threading.Lock()
        self._known: tuple[Schema, WordsReader] | None = None

    def __call__(self, question: str, schema: Schema) -> Translation:
        """See ``Translator``."""
        found = self._reader(schema).read(question)
        if not isinstance(found, Unclear):
            return Translation(found.sql, tuple(map(explained, found.links)), found.confidence)
        if len(found.readings) > 1:
            error = AmbiguousQuestion.between([reading.sql for reading in found.readings])
            raise AmbiguousQuestion(found.question, errors=error.errors)
        raise UnclearQuestion(found.question)

    def _reader(self, schema: Schema) -> WordsReader:
        """Return the reader of a schema; an engine gives the same object until the data has changed."""
        with self._lock:
            if self._known is None or self._known[0] is not schema:
                self._known = schema, WordsReader(schema, threshold=self._threshold)
            return self._known[1]


def explained(link: Link) -> str:
    """Return a link as one line for people."""
    return f'"{link.words}": {link.kind} {link.what} ({link.why}, {link.score:.2f})'
