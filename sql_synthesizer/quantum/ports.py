"""What the synthesizer needs of what turns texts into statements."""

from __future__ import annotations

from typing import Protocol

from sql_synthesizer.agent import Reading
from sql_synthesizer.engines.ports import Engine, Limits


class StatementSource(Protocol):
    """Turns a text into a statement that may run, for one database. Synchronous; may be called from several threads."""

    @property
    def engine(self) -> Engine:
        """The database."""

    def read(self, text: str, limits: Limits | None = None, *, only_sql: bool = False) -> Reading:
        """Return what a text, SQL or words, is taken for.

        Raises:
            SqlInvalid, SqlRefused: it cannot, or must not, run.
            AmbiguousQuestion, UnclearQuestion: words that cannot be tied to tables and columns well enough.
        """
