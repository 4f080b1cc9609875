"""A replica's collections: each with its database, opened when a call first is about it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from quantum_db.collection_table import BUILT_IN, Collection
from quantum_db.database import Database
from quantum_db.errors import NoSuchCollection
from quantum_db.measurement import GroupMeasurement
from quantum_db.ports import Clock, Collections, Sessions
from quantum_db.scope import DEFAULT_SCOPE, Scope

KEPT_S: Final = 5.0
"""How long a replica believes that a collection is there; after it was deleted, reads may go on for so long."""

MOST: Final = 1_000

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Inside:
    """What calls about one collection work with."""

    collection: Collection
    database: Database
    measurement: GroupMeasurement
    sessions: Sessions


class Directory:
    """Finds what belongs to a scope. For one event loop."""

    def __init__(self, collections: Collections, build: Callable[[Collection], Inside], clock: Clock) -> None:
        """Join the parts. ``build`` makes what a collection's calls work with; it asks nobody."""
        self.collections = collections
        self._build = build
        self._clock = clock
        self._inside: OrderedDict[Scope, tuple[Inside, float]] = OrderedDict()
        self._built_in = build(BUILT_IN)

    async def do(self, scope: Scope, work: Callable[[Inside], Awaitable[Result]]) -> Result:
        """Do something in a collection; once more where the one that was known has been deleted and created anew.

        Raises NoSuchCollection, and what ``work`` raises.
        """
        if scope == DEFAULT_SCOPE:
            return await work(self._built_in)
        known = self._known(scope)
        if known is not None:
            try:
                return await work(known)
            except NoSuchCollection:  # nothing was done
                del self._inside[scope]
        return await work(await self._found(scope))

    def forget(self, scope: Scope) -> None:
        """Ask anew whether a collection is there, the next time. Idempotent."""
        self._inside.pop(scope, None)

    def _known(self, scope: Scope) -> Inside | None:
        inside, until_s = self._inside.get(scope, (None, 0.0))
        return inside if self._clock.monotonic_s() < until_s else None

    async def _found(self, scope: Scope) -> Inside:
        collection = await self.collections.resolve(scope)
        before, _ = self._inside.pop(scope, (None, 0.0))
        same = before is not None and before.collection.key == collection.key
        inside = before if same and before is not None else self._build(collection)
        self._inside[scope] = (inside, self._clock.monotonic_s() + KEPT_S)
        while len(self._inside) > MOST:
            self._inside.popitem(last=False)
        return inside
