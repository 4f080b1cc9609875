"""What in a replica caches answers about entities learns here that they are stale."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Final, Protocol

MAX_RECENT: Final = 10_000


class Invalidation(Protocol):
    """Something that caches what depends on entities."""

    def invalidate(self, entity_ids: Collection[str]) -> None:
        """Drop what depends on any of these entities. Idempotent; does not wait."""

    def drop_all(self) -> None:
        """Drop everything: which entities have changed is not known. Idempotent; does not wait."""


class Invalidations:
    """Passes on to all subscribers. Implements ``Invalidation``."""

    def __init__(self) -> None:
        """Start without subscribers."""
        self._subscribers: list[Invalidation] = []

    def subscribe(self, subscriber: Invalidation) -> None:
        """Let a cache know from now on."""
        self._subscribers.append(subscriber)

    def invalidate(self, entity_ids: Collection[str]) -> None:
        """See ``Invalidation``."""
        for subscriber in self._subscribers:
            subscriber.invalidate(entity_ids)

    def drop_all(self) -> None:
        """See ``Invalidation``."""
        for subscriber in self._subscribers:
            subscriber.drop_all()


class RecentlyInvalidated:
    """How often each entity was invalidated lately, in bounded memory. Implements ``Invalidation``.

    Attributes:
        invalidated: entities, each as often as it was.
        dropped_all: times that everything was.
    """

    def __init__(self, bound: int = MAX_RECENT) -> None:
        """Start empty; beyond ``bound`` entities the one that was invalidated longest ago is forgotten."""
        self._bound = bound
        self._counts: OrderedDict[str, int] = OrderedDict()
        self.invalidated = 0
        self.dropped_all = 0

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, entity_id: str) -> int:
        """Return how often an entity was invalidated, as far as that is remembered."""
        return self._counts.get(entity_id, 0)

    def invalidate(self, entity_ids: Collection[str]) -> None:
        """See ``Invalidation``."""
        self.invalidated += len(entity_ids)
        for entity_id in entity_ids:
            self._counts[entity_id] = self._counts.pop(entity_id, 0) + 1
            if len(self._counts) > self._bound:
                self._counts.popitem(last=False)

    def drop_all(self) -> None:
        """See ``Invalidation``."""
        self.dropped_all += 1
        self._counts.clear()
