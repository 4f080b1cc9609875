"""The calls that an adapter provides, of which ``quantum_db.stores.point_store`` makes a vector store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from quantum_db.model import Search
from quantum_db.stores.decoding import Found
from quantum_db.stores.points import Place, Point


class PointCalls(ABC):
    """What is different from one point store to another. All may raise ``Unavailable``."""

    @abstractmethod
    async def dimension(self) -> int | None:
        """Return the length of the stored vectors, or None before the first write."""

    async def flush(self) -> None:
        """See ``VectorStore.flush``."""
        return  # a server does it by itself

    @abstractmethod
    async def count(self) -> int:
        """Return the number of entities."""

    @abstractmethod
    async def context_names(self) -> list[str]:
        """Return the names of all contexts that some entity has, sorted."""

    @abstractmethod
    async def optimize(self) -> None:
        """Build what makes searches fast."""

    @abstractmethod
    async def close(self) -> None:
        """Flush and release. Idempotent."""

    @abstractmethod
    async def _create(self, dimension: int) -> int:
        """Make the store ready for its first write; return its dimension. Idempotent."""

    async def _ready(self, points: Sequence[Point]) -> None:  # noqa: ARG002
        """Do what can be done before points are written by one or several operations, none of which may suspend."""
        return

    def _counted(self, change: int | None) -> None:  # noqa: ARG002
        """Take in that so many entities have been added; None where it is not known."""
        return

    @abstractmethod
    async def _write(self, points: Sequence[Point]) -> None:
        """Write the points by one operation, replacing those with the same ids."""

    @abstractmethod
    async def _erase(self, point_ids: Sequence[str]) -> None:
        """Delete points; unknown ids are ignored."""

    @abstractmethod
    async def _places(self, entity_ids: Sequence[str]) -> dict[str, Place]:
        """Return where the latest versions of entities are, of those of which something is there."""

    @abstractmethod
    async def _records(self, entity_ids: Sequence[str], at: int) -> dict[str, object]:
        """Return the ``RECORD`` field of the entities that exist at commit ``at``."""

    @abstractmethod
    async def _firsts(self, entity_ids: Sequence[str], at: int) -> list[Found]:
        """Return the points of slot 0 of the entities that exist at commit ``at``, with record and vector."""

    @abstractmethod
    async def _read(self, point_ids: Sequence[str]) -> dict[str, Found]:
        """Return the points that exist, with record and vector."""

    @abstractmethod
    async def _heads(self, first: str | None, limit: int, at: int) -> tuple[list[Found], str | None]:
        """Return the points of slot 0 at commit ``at``, by ids, and where those after them begin, None at the end.

        They begin with the id ``first``, or the next one if there is none of this id (any more).
        """

    @abstractmethod
    async def _nearest(self, asked: Sequence[tuple[Search, int]], at: int) -> list[list[Found]]:
        """Return for each search its nearest points at commit ``at``, best first, so many as are asked for."""

    @abstractmethod
    async def newest_commit(self) -> int:
        """Return the highest commit that has left a mark for readers, 0 if none has."""

    @abstractmethod
    async def sweep(self, through: int) -> None:
        """Drop what nobody sees any more who looks at commit ``through`` or a later one. Idempotent."""
