"""What is done again at a start: transactions that are applied and whose changes a machine crash may have taken back.

A store survives the death of its process at any time, but a crash of the machine only up to its last ``flush``. So the
journal keeps each intent until the store was flushed after it was applied. At a start all of these are held against
the store; what is as new as them stays. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from quantum_db.commits.ledger import Intent
from quantum_db.model import Entity


@dataclass(frozen=True, slots=True)
class Last:
    """The last change that transactions made to an entity: what it became, None for deleted, and the commit."""

    commit: int
    entity: Entity | None


def last_changes(intents: Iterable[Intent]) -> dict[str, Last]:
    """Return the last change of each entity. Intents in the order of their numbers."""
    found: dict[str, Last] = {}
    for intent in intents:
        for entity in intent.upserts:
            found[entity.id] = Last(intent.commit, entity)
        for entity_id in intent.deletes:
            found[entity_id] = Last(intent.commit, None)
    return found


def to_repeat(last: Mapping[str, Last], versions: Sequence[int | None]) -> tuple[list[Entity], list[str]]:
    """Return what has to be written and deleted again, given the stored versions in the order of ``last``.

    What has the same version is written again, too: of an entity with several points the store may have lost a part.
    Asked again after a failure, with nobody writing meanwhile, it gives the same ids.
    """
    upserts, deletes = [], []
    for (entity_id, change), version in zip(last.items(), versions, strict=True):
        if version is not None and version > change.commit:
            continue
        if change.entity is None:
            deletes.append(entity_id)
        else:
            upserts.append(change.entity)
    return upserts, deletes
