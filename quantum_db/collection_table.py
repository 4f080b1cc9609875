"""Which collections there are. Pure; a ``Keeper`` writes the journal.

A collection has a key, which no other one ever had or will have: what is kept under the key of a collection that was
dropped is never found again, also when another one of its name is created. The default tenant's default collection is
always there; its key is empty. Every other tenant's default collection is created by its first use.

    created ──> live ── dropped ──> going (writes and reads are refused) ── erased ──> forgotten
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from quantum_db.errors import Conflict, CorruptData, NoSuchCollection, TooMany
from quantum_db.scope import DEFAULT_COLLECTION, DEFAULT_SCOPE, Scope

Json = dict[str, Any]
Metric = Literal["cosine"]


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection.

    Attributes:
        key: under which its data is kept; see ``quantum_db.scope``.
        dimension: of all its vectors; None where the first write decides it.
        created_at_s: seconds since the epoch.
    """

    scope: Scope
    key: str
    dimension: int | None = None
    metric: Metric = "cosine"
    created_at_s: float = 0.0

    def record(self) -> Json:
        """Return the record of its creation."""
        return {
            "t": "created",
            "tenant": self.scope.tenant,
            "collection": self.scope.collection,
            "key": self.key,
            "dimension": self.dimension,
            "metric": self.metric,
            "at_s": self.created_at_s,
        }


BUILT_IN: Final = Collection(DEFAULT_SCOPE, "")


class CollectionTable:
    """All collections of all tenants. Implements ``journals.keeper.Kept``.

    Attributes:
        going: those that were dropped, and whose data may still be there, by key.
    """

    def __init__(self) -> None:
        """Start with the one that is always there."""
        self.taken = 0
        self.going: dict[str, Collection] = {}
        self._live: dict[Scope, Collection] = {DEFAULT_SCOPE: BUILT_IN}
        self._keys: dict[str, Scope] = {"": DEFAULT_SCOPE}
        self._names: dict[str, list[str]] = {DEFAULT_SCOPE.tenant: [DEFAULT_COLLECTION]}
        self._last = 0

    def get(self, scope: Scope) -> Collection:
        """Return a collection. Raises NoSuchCollection."""
        found = self._live.get(scope)
        if found is None:
            raise NoSuchCollection(
                f"there is no collection {scope.collection!r}; create it by POST /api/v2/collections"
            )
        return found

    def check_live(self, key: str) -> None:
        """Raise NoSuchCollection unless there is a collection with this key."""
        if key not in self._keys:
            raise NoSuchCollection("the collection was deleted meanwhile")

    def is_known(self, key: str) -> bool:
        """Return whether the data under a key may be there: of a collection that is live or going."""
        return key in self._keys or key in self.going

    def known_keys(self) -> list[str]:
        """Return the keys of all that are live or going."""
        return [*self._keys, *self.going]

    def page(self, tenant: str, after: str, limit: int) -> tuple[list[Collection], str | None]:
        """Return the first ``limit`` collections of a tenant whose names come after ``after``, and the next cursor."""
        names = self._names.get(tenant, [])
        start = bisect_right(names, after)
        found = [self._live[Scope(tenant, name)] for name in names[start : start + limit]]
        return found, found[-1].scope.collection if len(names) > start + limit else None

    def plan(
        self, scope: Scope, dimension: int | None, metric: Metric, *, at_s: float, most: int
    ) -> tuple[Collection, bool]:
        """Return the collection to be created, and whether it is there already, the same. Idempotent.

        Raises:
            InvalidRequest: the name is none.
            Conflict: the name stands for a collection with another dimension.
            TooMany: the tenant has ``most`` collections.
        """
        scope.check()
        known = self._live.get(scope)
        if known is not None:
            if known.dimension == dimension:
                return known, True
            raise Conflict(f"name: the collection {scope.collection!r} exists with dimension {known.dimension}")
        if len(self._names.get(scope.tenant, [])) >= most:
            raise TooMany(f"there are {most} collections, which is the limit; delete one that is not needed")
        key = f"{scope.tenant}/{scope.collection}/{self._last + 1}"
        return Collection(scope, key, dimension, metric, at_s), False

    def apply(self, number: int, record: Mapping[str, Any]) -> None:
        """Take in a record. Raises CorruptData."""
        try:
            match record["t"]:
                case "created":
                    self._create(record)
                case "dropped":
                    self._drop(str(record["key"]))
                case "erased":
                    self.going.pop(str(record["key"]), None)
                case "last":
                    self._last = max(self._last, int(record["number"]))
                case kind:
                    raise CorruptData(f"record {number} of the collections is of the unknown kind {kind!r}")
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptData(f"record {number} of the collections cannot be understood: {error!r}") from error
        self.taken += 1

    def size(self) -> int:
        """Return how many collections there are."""
        return len(self._live) + len(self.going)

    def snapshot(self) -> Iterator[Json]:
        """Yield the records that make the same table."""
        named = [one for one in (*self._live.values(), *self.going.values()) if one.key]
        for collection in sorted(named, key=lambda one: _number_of(one.key)):
            yield collection.record()
            if collection.key in self.going:
                yield dropped_record(collection.key)
        yield {"t": "last", "number": self._last}

    def check(self) -> None:
        """Raise CorruptData if the table contradicts itself."""
        names = sorted((scope.tenant, scope.collection) for scope in self._live)
        told = sorted((tenant, name) for tenant, own in self._names.items() for name in own)
        if names != told or {one.key: scope for scope, one in self._live.items()} != self._keys:
            raise CorruptData("the collections contradict themselves; restore the journal from a backup")

    def _create(self, record: Mapping[str, Any]) -> None:
        scope = Scope(str(record["tenant"]), str(record["collection"]))
        key, dimension = str(record["key"]), record["dimension"]
        if _number_of(key) <= self._last:  # told again
            return
        self._last = _number_of(key)
        self._live[scope] = Collection(scope, key, dimension, record["metric"], float(record["at_s"]))
        self._keys[key] = scope
        insort(self._names.setdefault(scope.tenant, []), scope.collection)

    def _drop(self, key: str) -> None:
        scope = self._keys.pop(key, None)
        if scope is None:  # told again
            return
        self.going[key] = self._live.pop(scope)
        self._names[scope.tenant].remove(scope.collection)


def _number_of(key: str) -> int:
    return int(key.rpartition("/")[2])


def dropped_record(key: str) -> Json:
    """Return the record that a collection is there no more; its data may still be."""
    return {"t": "dropped", "key": key}


def erased_record(key: str) -> Json:
    """Return the record that nothing is left of a collection."""
    return {"t": "erased", "key": key}
