"""Which collections have changed, told to all who keep answers about them before a write is acknowledged.

Changes are numbered, and a number is shown to followers as a commit is to readers of a store (``commits.showing``): a
write ends when each follower whose lease has not run out has been told of it. So what a follower keeps under a version
that it holds is never older than the last acknowledged write. A follower without a lease has no version, and may use
nothing that it keeps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from quantum_db.commits.changed_ids import ChangedIds
from quantum_db.commits.showing import FollowedSnapshots, ShownCommits
from quantum_db.commits.visibility import LEASE_S, Told
from quantum_db.ports import Clock

Place = tuple[str, int]
"""Up to where a follower knows of changes: who told it, and the number of the last one."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a follower is told.

    Attributes:
        teller: who tells, by a name that nobody else has, or ever had: its numbers say nothing about another's.
        told: the number of the last change as its commit, and the lease.
        collections: those that have changed since what the follower knows, each with the number of its last change.
    """

    teller: str
    told: Told
    collections: Mapping[str, int]


AskChanges = Callable[[str, Place | None, float], Awaitable[Changes]]
"""Asks the teller: who asks, up to where it knows, and for how long (seconds) the question may be held."""


class Watch(Protocol):
    """Is told of all that changes in the stores."""

    def changing(self, collection: str, ids: Sequence[str]) -> AbstractContextManager[None]:
        """Return a block inside which these entities of a collection may change in the store."""

    async def changed(self, collection: str) -> None:
        """Return when all who keep what they read of a collection know that it has changed."""


class Unwatched:
    """Implements ``Watch`` where nobody keeps what was read."""

    def changing(self, collection: str, ids: Sequence[str]) -> AbstractContextManager[None]:  # noqa: ARG002
        """See ``Watch``."""
        return nullcontext()

    async def changed(self, collection: str) -> None:
        """See ``Watch``."""


class ChangeTeller:
    """The side of the writes. Implements ``Watch``.

    Attributes:
        ids: which entities have changed, for those who follow with a copy.
    """

    def __init__(self, teller: str, clock: Clock, *, lease_s: float = LEASE_S) -> None:
        """Start without changes. Writes that end within ``lease_s`` wait until an earlier teller's leases ran out."""
        self._teller = teller
        self._shown = ShownCommits(clock, lease_s=lease_s, keep_s=0.0)
        self._number = 0
        self._last: dict[str, int] = {}
        self.ids = ChangedIds()

    def changing(self, collection: str, ids: Sequence[str]) -> AbstractContextManager[None]:
        """See ``Watch``."""
        return self.ids.changing(collection, ids)

    async def changed(self, collection: str) -> None:
        """Return when every follower knows, or has no lease any more: see ``Watch``."""
        self._number += 1
        number = self._number
        self._last.pop(collection, None)
        self._last[collection] = number  # the newest is the last one
        self._shown.raise_to(number)
        self._shown.droppable()
        await self._shown.show(number)

    def place(self, collection: str) -> Place:
        """Return the last change of a collection."""
        return self._teller, self._last.get(collection, 0)

    async def follow(self, follower: str, known: Place | None, hold_s: float) -> Changes:
        """Answer a follower: at once if there is news, or after ``hold_s``."""
        number = known[1] if known is not None and known[0] == self._teller else None
        told = await self._shown.follow(follower, number, hold_s)
        return Changes(self._teller, told, dict(self._since(0 if number is None else number)))

    def _since(self, number: int) -> list[tuple[str, int]]:
        found = []
        for collection in reversed(self._last):
            if self._last[collection] <= number:
                break
            found.append((collection, self._last[collection]))
        return found


class FollowedChanges:
    """A follower's side. Implements ``Versions``."""

    def __init__(self, follower: str, ask: AskChanges, clock: Clock) -> None:
        """Start without a lease. ``follower`` is a name that nobody else has, or ever had."""
        self._ask = ask
        self._teller: str | None = None
        self._numbers: dict[str, int] = {}
        self._lease = FollowedSnapshots(follower, self._told, clock)

    def start(self) -> None:
        """Begin to ask, and go on for as long as the event loop runs. Idempotent."""
        self._lease.start()

    async def stop(self) -> None:
        """Ask no more."""
        await self._lease.stop()

    def version(self, collection: str) -> str | None:
        """See ``Versions``."""
        place = self.place(collection)
        return None if place is None else f"{place[0]}-{place[1]}"

    def place(self, collection: str) -> Place | None:
        """Return the last change of a collection that has been acknowledged; None where that is not known."""
        if self._lease.at() is None or self._teller is None:
            return None
        return self._teller, self._numbers.get(collection, 0)

    async def _told(self, follower: str, number: int | None, hold_s: float) -> Told:
        known = None if number is None or self._teller is None else (self._teller, number)
        found = await self._ask(follower, known, hold_s)
        if found.teller != self._teller:
            self._teller = found.teller
            self._numbers.clear()
        self._numbers.update(found.collections)
        return found.told
