"""Random requests of a few clients over a few entities, so that they meet."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from quantum_db.commits.operations import (
    CreateGroup,
    Delete,
    Deletes,
    Insert,
    Operation,
    Request,
    Transaction,
    Update,
    Upserts,
)
from tests.chaos.commit_history import entity_for, group_for


def ids(count: int) -> list[str]:
    """Return the ids that clients write."""
    return [f"e{n}" for n in range(count)]


class Requests:
    """Makes one client's requests. Tags are unique over all clients."""

    def __init__(self, rng: np.random.Generator, client: int, clients: int, *, entities: int, groups: int) -> None:
        self._rng = rng
        self._ids = ids(entities)
        self._groups = groups
        self._tag = client
        self._clients = clients

    def next(self, known: Mapping[str, int]) -> tuple[int, Request]:
        """Return a tag and a request; ``known`` are versions that the client has seen, which it may rely upon."""
        self._tag += self._clients
        kind = self._rng.random()
        some = [str(one) for one in self._rng.choice(self._ids, size=int(self._rng.integers(1, 5)), replace=False)]
        if kind < 0.2:
            return self._tag, Upserts(tuple(entity_for(one, self._tag) for one in some))
        if kind < 0.27 and (gone := [one for one in some if _may_go(one)]):
            return self._tag, Deletes(tuple(gone))
        return self._tag, self._transaction(some, known)

    def _transaction(self, some: list[str], known: Mapping[str, int]) -> Transaction:
        operations: list[Operation] = []
        left = []
        for entity_id in some:
            expected = known.get(entity_id) if self._rng.random() < 0.3 else None
            operation = self._operation(entity_id, expected)
            operations.append(operation)
            if not _may_go(entity_id):
                left.append(entity_id)
        if len(left) >= 2 and self._rng.random() < 0.35:
            group_id = f"g{self._rng.integers(self._groups)}"
            operations.append(CreateGroup(group_for(group_id, left, self._tag)))
        return Transaction(tuple(operations), f"t:{self._tag}")

    def _operation(self, entity_id: str, expected: int | None) -> Operation:
        kind = self._rng.random()
        entity = entity_for(entity_id, self._tag)
        if kind < 0.55:
            return Insert(entity, "", expected, if_absent=expected is None and kind < 0.1)
        if kind < 0.85:
            changes = {"vector": entity.vector, "contexts": entity.contexts, "metadata": entity.metadata}
            return Update(entity_id, changes, "", expected)
        if not _may_go(entity_id):
            return Insert(entity, "", expected)
        return Delete(entity_id, "", expected)


def _may_go(entity_id: str) -> bool:
    """Whether an entity may be deleted. The others are in groups, which a member that goes would leave."""
    return int(entity_id[1:]) % 2 == 0
