"""What the agent needs of what understands words, as a protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sql_synthesizer.schema import Schema


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
