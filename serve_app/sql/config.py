"""What a replica that runs statements has to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sql_synthesizer.quantum.schedules import Mode


@dataclass(frozen=True, slots=True)
class SqlSource:
    """A database.

    Attributes:
        url_env: the name of the environment variable that holds its URL; the URL is read in the replica.
        hidden: tables and columns that nobody may see, as in ``Reflection``.
    """

    url_env: str
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SqlConfig:
    """All databases, and what each replica takes on.

    Attributes:
        statements: that run at a time, of each database.
        max_waiting: that wait beside them, of each database; more are refused.
        mode: how much is spent on join orders; see ``sql_synthesizer.quantum.modes``.
        cache_mib: of the answers and plans that are kept of each database; 0 keeps none.
    """

    sources: Mapping[str, SqlSource]
    statements: int
    max_waiting: int
    mode: Mode
    cache_mib: float

    @property
    def most_requests(self) -> int:
        """What a replica takes on in all."""
        return (self.statements + self.max_waiting) * max(1, len(self.sources))
