"""What transactions need from outside, and what they are to the rest of the database, as protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from quantum_db.commits.operations import Request
from quantum_db.model import EntanglementGroup
from quantum_db.ports import VectorStore


class CommitGroups(Protocol):
    """The groups' part in transactions. Durable when a method returns; all methods are idempotent.

    What is prepared is not shown: who asks for such a group meanwhile waits for a moment. All methods raise
    ``Unavailable`` when the registry does not answer.
    """

    async def prepare(self, commit: int, groups: Sequence[EntanglementGroup]) -> tuple[EntanglementGroup, ...]:
        """Check and reserve groups; return them with their versions.

        Raises:
            Conflict: an id stands for another group; nothing was reserved.
        """

    async def finish(self, commit: int) -> None:
        """Make the groups of a commit real."""

    async def forget(self, commit: int) -> None:
        """Let go of a commit: what it reserved is free again, and what it finished stays.

        A ``prepare`` of this commit that comes later is refused.
        """

    async def sweep(self, first: int) -> tuple[int, ...]:
        """Return the commits that are not forgotten. Of those below ``first``, none is prepared from now on."""

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        """See ``Groups.of_member``."""

    async def entity_deleted(self, entity_id: str) -> None:
        """See ``Groups.entity_deleted``."""

    async def entities_written(self, entity_ids: Sequence[str]) -> None:
        """See ``Groups.entities_written``."""


class Stores(Protocol):
    """The stores of all collections. All methods raise ``Unavailable`` when a store does not answer."""

    def of(self, collection: str) -> VectorStore:
        """Return the store of a collection by its key. Raises NoSuchCollection."""

    async def flush(self) -> None:
        """Bring what was written to the disk; see ``VectorStore.flush``."""

    async def newest_commit(self) -> int:
        """Return the highest commit that has left a mark for readers anywhere, 0 if none has."""

    async def sweep(self, through: int) -> None:
        """Drop what nobody sees any more who looks at commit ``through`` or a later one. Idempotent."""


class Writes(Protocol):
    """The one way in which a collection is written."""

    async def do(self, request: Request) -> Mapping[str, Any]:
        """Do what is asked, and return its answer once it is durable and all readers see it.

        Returns:
            ``commit``, the number that all it wrote has as its version; ``results`` of each operation for a
            ``Transaction``; ``existed`` for ``Deletes``.

        Raises:
            Conflict, NotFound, InvalidRequest: a transaction cannot take place; nothing was written.
            Unavailable: it was not done in time. A transaction may still take place, as a whole; asked again with its
                key it is not done twice.
        """
