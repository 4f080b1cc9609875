"""What the database needs from outside, as protocols. Adapters: ``stores``, ``journals``, ``ionq``, ``actors``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quantum_db.circuits.template import Template
from quantum_db.collection_table import Collection, Metric
from quantum_db.groups import GroupPage, GroupUpdate
from quantum_db.model import Candidates, EntanglementGroup, Entity, Search
from quantum_db.scope import Scope
from quantum_db.sessions import Observation, SessionKey
from quantum_db.states.events import EventBatch
from quantum_db.states.history import Instances


class VectorReader(Protocol):
    """What queries need of a store. All methods raise ``Unavailable`` when it does not answer."""

    async def dimension(self) -> int | None:
        """Return the length of the stored vectors, or None before the first write."""

    async def fetch(self, ids: Sequence[str]) -> list[Entity | None]:
        """Return the entities in the order of ``ids``, None for each unknown one."""

    async def search(self, searches: Sequence[Search]) -> list[Candidates]:
        """Answer several searches in one call. A store without data answers with no candidates."""

    async def context_names(self) -> list[str]:
        """Return the names of all contexts that some entity has. Slow: for error messages."""


class Snapshots(Protocol):
    """At which commit the readers of a store look that several processes search."""

    def taken(self) -> AbstractAsyncContextManager[int]:
        """Return a context in which a reader looks at one commit: what transactions up to it wrote, and none later.

        Raises:
            Unavailable: on entering, that it is not known in time which commit that is; on leaving, that the look has
                taken so long that older versions may have been dropped meanwhile.
        """


class Versions(Protocol):
    """What a collection holds, by a name: as long as it is the same, no write to it has been acknowledged."""

    def version(self, collection: str) -> str | None:
        """Return the name of what a collection holds now; None where that is not known. Does not wait."""


class ScrollableReader(VectorReader, Protocol):
    """A reader that can list all entities."""

    async def scroll(self, after: str | None, limit: int) -> tuple[list[Entity], str | None]:
        """Return the next entities of all, and the cursor of those that follow, None at the end.

        The order is the store's own and does not change: an entity that is there during the whole of a scroll comes
        exactly once, however many are written or deleted meanwhile.

        Args:
            after: the cursor that the call before returned; None begins.
            limit: at least 1; there may be fewer before the end, where entities are large.
        """


class VectorStore(ScrollableReader, Protocol):
    """Entities with their vectors, contexts and metadata, durable when a write returns.

    The dimension is set by the first entity ever written and stays.
    """

    async def upsert(self, entities: Sequence[Entity]) -> None:
        """Write the entities, replacing those with the same id as a whole. Idempotent.

        Ids within one call are distinct. Raises InvalidRequest when a dimension is wrong; nothing is written then.
        """

    async def delete(self, ids: Sequence[str]) -> list[bool]:
        """Delete the entities; return for each id whether it was there. Idempotent in effect."""

    async def apply(self, commit: int, upserts: Sequence[Entity], deletes: Sequence[str]) -> None:
        """Write some entities and delete others: no search or fetch sees a part of it. Idempotent.

        All ids of one call are distinct; unknown ones are deleted already. Where one process reads the store, all is
        seen at once; where others do, by those who look at ``commit`` or a later one. When it fails midway, the
        former's reads raise Unavailable until a call with the same ids has succeeded. Of a store that was killed
        midway, the owner calls again before it lets readers in.

        Raises:
            InvalidRequest: a dimension is wrong; nothing was written.
        """

    async def newest_commit(self) -> int:
        """Return the highest commit that has left a mark for readers, 0 if none has."""

    async def sweep(self, through: int) -> None:
        """Drop what nobody sees any more who looks at commit ``through`` or a later one. Idempotent."""

    async def versions(self, ids: Sequence[str]) -> list[int | None]:
        """Return the versions of the entities in the order of ``ids``, None for each unknown one. Reads no vectors."""

    async def count(self) -> int:
        """Return the number of entities."""

    async def flush(self) -> None:
        """Let what was written survive a crash of the machine, too, when this returns; its process's death it does.

        A server that others run does that by itself, as it is set up to.
        """

    async def optimize(self) -> None:
        """Build what makes searches fast. Optional after a bulk load; may take minutes."""

    async def close(self) -> None:
        """Flush and release. Idempotent."""


class Templates(Protocol):
    """Circuit structures, built once and shared."""

    async def overlap(self, num_qubits: int) -> Template:
        """Return ``overlap_template(num_qubits)``."""

    def note(self, template: Template) -> None:
        """Let the cluster know a structure that has been used, so that ``get`` finds it. Does not wait."""

    async def get(self, key: str) -> Template:
        """Return the structure with this key. Raises NotFound when it is not in the cluster's cache (any more)."""


class StateLog(Protocol):
    """Takes note of what happens to states. Does not wait, and a lost note changes no answer."""

    def record(self, events: EventBatch) -> None:
        """Note the events, in order."""


class States(StateLog, Protocol):
    """A ``StateLog`` that can be asked."""

    async def instances(self, entity_id: str) -> Instances:
        """Return the instances of an entity's state. Raises NotFound where there is none, or none is kept any more."""


class Groups(Protocol):
    """Entanglement groups, durable when a write returns."""

    async def create(self, group: EntanglementGroup) -> EntanglementGroup:
        """Write a group; return it with its version. Idempotent; Conflict if the id stands for another group."""

    async def get(self, group_id: str) -> EntanglementGroup:
        """Return a group. Raises NotFound."""

    async def of_member(self, entity_id: str) -> list[EntanglementGroup]:
        """Return the groups that an entity is in, by id."""

    async def update(self, group_id: str, update: GroupUpdate, version: int) -> EntanglementGroup | None:
        """Change a group that is at ``version``; return it, or None if it fell below two members and is deleted.

        Raises:
            NotFound: there is no such group.
            Conflict: the group is not at ``version``.
            InvalidRequest: it would have too many members.
        """

    async def delete(self, group_id: str, version: int | None) -> int:
        """Delete a group, at ``version`` or whatever its version; return the version of the deletion.

        Raises NotFound, and Conflict as ``update`` does.
        """

    async def page(self, member: str | None, after: str, limit: int) -> GroupPage:
        """Return the first ``limit`` groups (of a member, or all) whose ids come after ``after``."""

    async def entity_deleted(self, entity_id: str) -> None:
        """Let an entity leave all its groups; those that fall below two members are deleted. Idempotent."""

    async def entities_written(self, entity_ids: Sequence[str]) -> None:
        """Tell everyone who caches that these entities have other vectors or contexts now.

        Does not raise where a part of the groups does not answer: after a restart it tells that all may be stale.
        """


class Sessions(Protocol):
    """What sessions have measured, durable when a write returns. All methods raise ``Unavailable``."""

    async def weights(self, key: SessionKey, candidates: Candidates) -> NDArray[np.float64]:
        """Return the weights of the candidates' rows as a session sees them, (N,); the stored ones without one."""

    async def observe(
        self,
        key: SessionKey,
        seen: Observation,
        groups: Sequence[EntanglementGroup],
        contexts: Mapping[str, Sequence[str]],
    ) -> None:
        """Let a session note a measurement; see ``SessionTable.observe``. Idempotent by the measurement's id."""

    async def get(self, key: SessionKey) -> Mapping[str, Any]:
        """Return the record of a session. Raises NotFound."""

    async def end(self, key: SessionKey) -> None:
        """Forget a session. Idempotent."""


class Collections(Protocol):
    """The collections of all tenants, durable when a write returns. All methods raise ``Unavailable``."""

    async def resolve(self, scope: Scope) -> Collection:
        """Return a collection; a tenant's default one is created by the first call. Raises NoSuchCollection."""

    async def create(self, scope: Scope, dimension: int | None, metric: Metric) -> Collection:
        """Create a collection. Idempotent.

        Raises:
            InvalidRequest: the name is none.
            Conflict: the name stands for a collection with another dimension.
            TooMany: the tenant has as many as it may.
        """

    async def drop(self, scope: Scope) -> Collection:
        """Drop a collection with all that is in it. Raises NoSuchCollection, and Conflict for a default one."""

    async def describe(self, scope: Scope) -> tuple[Collection, int | None, int]:
        """Return a collection, the dimension of its vectors (None before the first), and how many entities it has."""

    async def page(self, tenant: str, after: str, limit: int) -> tuple[list[Collection], str | None]:
        """Return a tenant's collections whose names come after ``after``, and the cursor of the next page."""


class Journal(Protocol):
    """An append-only record of facts, in named streams that are numbered from 1 without gaps. Synchronous.

    One thread of the owner writes; others may read meanwhile. Every wait is bounded. All methods raise ``Unavailable``
    when the journal does not answer, refuses to write (full, read-only) or is closed, and ``CorruptData`` when what it
    holds is damaged or less than this object has seen. Whether a write that raised Unavailable took place is not
    known; it did as a whole or not at all.
    """

    def begin_epoch(self, stream: str) -> int:
        """Become the stream's writer: return a new epoch, one above the last. Durable when it returns.

        From now on writes with an earlier epoch are refused.
        """

    def append(self, stream: str, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None) -> int:
        """Append JSON records, all or none, and return the number of the last one. Durable when it returns.

        Appending nothing returns the number of the stream's last record.

        Args:
            epoch: the writer's own, from ``begin_epoch``; None is never refused.

        Raises:
            Fenced: ``epoch`` is not the newest; nothing was written.
            TypeError, ValueError: a record is not JSON (NaN isn't); nothing was written.
        """

    def read(self, stream: str, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (number, record) for what is there when the reading begins and numbered above ``after``, in order.

        Where ``compact`` has replaced records above ``after``, the snapshot comes first, each of its records with the
        number up to which it stands for the stream. Records are loaded in batches of bounded number.

        Raises:
            CorruptData: a record or the snapshot is missing or fails its checksum, or ``after`` is beyond the last
                number: never silently short.
            Unavailable: also when a compaction has overtaken this reading; a new one succeeds.
        """

    def last(self, stream: str) -> int:
        """Return the number of the stream's last record, 0 if it never had one."""

    def compact(
        self, stream: str, through: int, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None
    ) -> None:
        """Replace all up to and including number ``through`` by ``records``, the snapshot. Atomic and idempotent.

        Numbers of later records stay. Durable when it returns.

        Raises:
            Fenced: ``epoch`` is not the newest; nothing was changed.
            TypeError, ValueError: a record is not JSON.
            ValueError: ``through`` lies beyond the last record or before the existing snapshot; nothing was changed.
        """

    def close(self) -> None:
        """Release the journal. Idempotent."""


class Clock(Protocol):
    """Time, so that tests can hold it still."""

    def now_s(self) -> float:
        """Seconds since the epoch, for records and ages."""

    def monotonic_s(self) -> float:
        """Seconds that never go back, for deadlines and durations."""
