"""Which entities of a store may have changed since a moment: for copies that follow it. For one event loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

MOST_IDS: Final = 10_000
"""Of one collection: who is further behind copies all of it."""


@dataclass(slots=True)
class _Log:
    newest: int = 0
    forgotten: int = 0
    ids: int = 0
    changes: deque[tuple[int, Sequence[str]]] = field(default_factory=deque)
    under_way: set[int] = field(default_factory=set)


class ChangedIds:
    """Ids by collection, each under the number of the change, which is given before the store is touched.

    A mark is the number of the newest change for which nothing of an earlier one, or of itself, can still come.
    """

    def __init__(self, most: int = MOST_IDS) -> None:
        """Start without changes. ``most`` ids are known of each collection."""
        self._most = most
        self._logs: dict[str, _Log] = {}

    @contextmanager
    def changing(self, collection: str, ids: Sequence[str]) -> Iterator[None]:
        """Say inside which block the store may change in these entities."""
        log = self._logs.setdefault(collection, _Log())
        log.newest += 1
        number = log.newest
        log.changes.append((number, ids))
        log.under_way.add(number)
        log.ids += len(ids)
        while log.ids > self._most:
            log.forgotten, gone = log.changes.popleft()
            log.ids -= len(gone)
        try:
            yield
        finally:
            log.under_way.discard(number)

    def mark(self, collection: str) -> int:
        """Return the mark of what the store holds now."""
        log = self._logs.get(collection)
        if log is None:
            return 0
        return min(log.under_way) - 1 if log.under_way else log.newest

    def since(self, collection: str, mark: int) -> list[str] | None:
        """Return who may have changed since a mark, each once; None where that is not known any more."""
        log = self._logs.get(collection)
        if log is None:
            return []
        if mark < log.forgotten:
            return None
        found: dict[str, None] = {}
        for number, ids in reversed(log.changes):
            if number <= mark:
                break
            found.update(dict.fromkeys(ids))
        return list(found)

    def renew(self, collection: str) -> None:
        """Let all who follow copy all of it: the same entities lie in another way."""
        log = self._logs.setdefault(collection, _Log())
        log.newest += 1
        log.forgotten = log.newest
        log.changes.clear()
        log.ids = 0

    def forget(self, collection: str) -> None:
        """Drop what is known of a collection that has been deleted: its key never comes again."""
        self._logs.pop(collection, None)
