"""From words to SQL, as the agent asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from quantum_db.errors import AmbiguousQuestion, FieldError, UnclearQuestion
from sql_synthesizer.schema import Schema
from sql_synthesizer.words import Unclear, WordsReader


@dataclass(frozen=True, slots=True)
class Translation:
    """What words were taken to mean.

    Attributes:
        sql: in the dialect of the schema.
        explanation: one line for each link between the words and the database.
        confidence: 0 to 1, that it is what was asked.
    """

    sql: str
    explanation: tuple[str, ...] = ()
    confidence: float = 1.0


class Translator(Protocol):
    """Turns a question into SQL. May be called from several threads."""

    def __call__(self, question: str, schema: Schema) -> Translation:
        """Return the statement.

        Raises:
            AmbiguousQuestion: there are several readings, which the error lists.
            UnclearQuestion: the words cannot be tied to the database well enough.
        """


class WordsTranslator:
    """Implements ``Translator`` by the rules of ``sql_synthesizer.words``, without any model."""

    def __init__(self) -> None:
        """Know of no schema yet."""
        self._known: tuple[Schema, WordsReader] | None = None

    def __call__(self, question: str, schema: Schema) -> Translation:
        """See ``Translator``. What is to be known of a schema is made ready once."""
        known = self._known
        if known is None or known[0] is not schema:
            known = self._known = (schema, WordsReader(schema))
        found = known[1].read(question)
        if isinstance(found, Unclear):
            raise _asked(found)
        lines = tuple(f'"{link.words}" is {_article(link.kind)} {link.what}: {link.why}' for link in found.links)
        return Translation(found.sql, lines, found.confidence)


def _asked(unclear: Unclear) -> UnclearQuestion:
    readings = [FieldError(f"readings[{place}]", one.sql) for place, one in enumerate(unclear.readings)]
    kind = AmbiguousQuestion if len(readings) > 1 else UnclearQuestion
    return kind(unclear.question, errors=readings)


def _article(kind: str) -> str:
    return "a" if kind == "rule" else f"the {kind}"
