"""What the synthesizer needs of what turns texts into statements."""

from __future__ import annotations

from typing import Protocol

from sql_synthesizer.engines.ports import Engine, Limits
from sql_synthesizer.guard.check import Checked


class StatementSource(Protocol):
    """Turns a text into a statement that may run, for one database. Synchronous; may be called from several threads."""

    @property
    def engine(self) -> Engine:
        """The database."""

    def checked(self, text: str, limits: Limits) -> Checked:
        """Return the statement of a text, SQL or words.

        Raises:
            SqlInvalid, SqlRefused: it cannot, or must not, run.
            UnclearQuestion: words that cannot be tied to tables and columns well enough.
        """
