"""The instances that an entity's state had before the current one: the latest few, for whoever asks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from quantum_db.last_numbers import is_of_numbers
from quantum_db.lifecycle import Phase, State
from quantum_db.states.records import record_of, state_of


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of archived instances; whatever is beyond any of the bounds goes.

    Attributes:
        per_entity: instances of one entity, the latest ones.
        max_age_s: since an instance was archived.
        instances: of all entities, about 0.4 kB each; entities that were archived longest ago go first, as a whole.
    """

    per_entity: int = 8
    max_age_s: float = 7 * 86_400.0
    instances: int = 100_000


@dataclass(frozen=True, slots=True)
class Instances:
    """The current instance of an entity, or the last one if that is archived, and those before it, newest first."""

    current: State
    earlier: tuple[State, ...] = ()


class History:
    """Archived instances by entity."""

    def __init__(self, retention: Retention | None = None) -> None:
        """Start empty."""
        self._retention = retention or Retention()
        self._kept: OrderedDict[str, tuple[State, ...]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, archived: Iterable[State], now_s: float) -> None:
        """Keep instances, those of one entity oldest first. One that is known already changes nothing."""
        for state in archived:
            known = self._kept.get(state.entity_id, ())
            if known and known[-1].generation >= state.generation:
                continue
            kept = (*known, state)[-self._retention.per_entity :]
            self._kept[state.entity_id] = kept
            self._kept.move_to_end(state.entity_id)
            self._count += len(kept) - len(known)
        while self._kept and (self._count > self._retention.instances or self._is_old(self._oldest()[-1], now_s)):
            self._count -= len(self._kept.popitem(last=False)[1])

    def last_commit(self, entity_id: str) -> int:
        """Return the number of the last write that the archived instances of an entity know of, 0 if of none."""
        known = self._kept.get(entity_id)
        return known[-1].commit if known else 0

    def of(self, entity_id: str, current: State | None, now_s: float) -> Instances | None:
        """Return the instances of an entity, or None if there is none.

        Args:
            current: its state as the table has it.
        """
        kept = reversed(self._kept.get(entity_id, ()))
        found = [*([current] if current else []), *(state for state in kept if not self._is_old(state, now_s))]
        return Instances(found[0], tuple(found[1:])) if found else None

    def snapshot(self, now_s: float) -> Iterator[dict[str, Any]]:
        """Return the records of what is kept and not too old, oldest first, as it is when this is called."""
        kept = list(self._kept.values())
        return (record_of(state) for states in kept for state in states if not self._is_old(state, now_s))

    def restore(self, records: Iterable[Mapping[str, Any]], now_s: float) -> None:
        """Take in records, oldest first; only those of archived instances count. Idempotent. Raises CorruptData."""
        states = (state_of(record) for record in records if not is_of_numbers(record))
        for state in states:
            if state.phase is Phase.ARCHIVED:
                self.add([state], now_s)

    def _oldest(self) -> tuple[State, ...]:
        return next(iter(self._kept.values()))

    def _is_old(self, state: State, now_s: float) -> bool:
        return now_s - state.since_s > self._retention.max_age_s
