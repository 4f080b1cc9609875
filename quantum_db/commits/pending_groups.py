"""Groups that transactions have reserved, as the registry keeps them. Pure; the caller writes the journal."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from quantum_db.commits.records import group_of, group_record
from quantum_db.errors import CorruptData, Unavailable
from quantum_db.model import EntanglementGroup

_FORGOTTEN: Final = 1_000

Json = dict[str, Any]


class PendingGroups:
    """Commits by number: prepared, then finished, then forgotten. Records may be applied again.

    A message may come late, or twice: what is over is remembered, so that nothing is reserved for it once more. The
    coordinator of today has no commit below ``first``; of its own, the last 1,000 that were forgotten are known.

    Attributes:
        number: of the journal's last record that was applied.
        first: commit of the coordinator that came last.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.number = 0
        self._groups: dict[int, tuple[EntanglementGroup, ...]] = {}
        self._finished: set[int] = set()
        self._of_group: dict[str, int] = {}
        self._of_member: dict[str, set[int]] = {}
        self._forgotten: OrderedDict[int, None] = OrderedDict()
        self.first = 0

    def apply(self, number: int, record: Mapping[str, Any]) -> None:
        """Take in the record with this number. Raises CorruptData when it is none of these."""
        try:
            kind, commit = record["t"], int(record["commit"])
            if kind == "prepared":
                self._prepare(commit, tuple(group_of(one) for one in record["groups"]))
            elif kind == "finished":
                self._unreserve(commit)
                self._finished.add(commit)
            elif kind == "forgotten":
                self._unreserve(commit)
                self._groups.pop(commit, None)
                self._finished.discard(commit)
                self._remember(commit)
            elif kind == "first":
                self.first = max(self.first, commit)
            else:
                raise CorruptData(f"record {number} of the pending groups is of the unknown kind {kind!r}")
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptData(f"record {number} of the pending groups cannot be understood: {error!r}") from error
        self.number = max(self.number, number)

    def commits(self) -> tuple[int, ...]:
        """Return all that are not forgotten."""
        return tuple(self._groups)

    def is_over(self, commit: int) -> bool:
        """Whether a commit is forgotten, or is one of an earlier coordinator that never prepared it."""
        return commit not in self._groups and (commit < self.first or commit in self._forgotten)

    def prepared(self, commit: int) -> tuple[EntanglementGroup, ...] | None:
        """Return the groups of a commit that was prepared and is not forgotten."""
        return self._groups.get(commit)

    def is_finished(self, commit: int) -> bool:
        """Whether the groups of a commit are real. Raises CorruptData for a commit that is not known."""
        if commit not in self._groups:
            raise CorruptData(f"commit {commit} is to finish groups that were never prepared, or are forgotten")
        return commit in self._finished

    def is_pending(self, group_id: str) -> bool:
        """Whether a commit that is not finished creates the group."""
        return group_id in self._of_group

    def is_member_pending(self, entity_id: str) -> bool:
        """Whether a commit that is not finished creates a group of the entity."""
        return bool(self._of_member.get(entity_id))

    def check_free(self, groups: Iterable[EntanglementGroup]) -> None:
        """Raise Unavailable where a group is reserved by a commit that is being ended."""
        for group in groups:
            if group.group_id in self._of_group:
                raise Unavailable(f"the group {group.group_id!r} is in another transaction", retry_after_s=1.0)

    def ended_records(self) -> Iterator[Json]:
        """Yield the records of what is over, which all shards have to know."""
        yield first_record(self.first)
        yield from map(forgotten_record, self._forgotten)

    def records(self) -> Iterator[Json]:
        """Yield the records that stand for all so far."""
        yield from self.ended_records()
        for commit, groups in self._groups.items():
            yield prepared_record(commit, groups)
            if commit in self._finished:
                yield finished_record(commit)

    def _prepare(self, commit: int, groups: tuple[EntanglementGroup, ...]) -> None:
        self._groups[commit] = groups
        for group in groups:
            self._of_group[group.group_id] = commit
            for member in group.entity_ids:
                self._of_member.setdefault(member, set()).add(commit)

    def _remember(self, commit: int) -> None:
        self._forgotten[commit] = None
        while len(self._forgotten) > _FORGOTTEN or (self._forgotten and next(iter(self._forgotten)) < self.first):
            self._forgotten.popitem(last=False)

    def _unreserve(self, commit: int) -> None:
        for group in self._groups.get(commit, ()):
            if self._of_group.get(group.group_id) == commit:
                del self._of_group[group.group_id]
            for member in group.entity_ids:
                owners = self._of_member.get(member, set())
                owners.discard(commit)
                if not owners:
                    self._of_member.pop(member, None)


def prepared_record(commit: int, groups: Iterable[EntanglementGroup]) -> Json:
    """Return the record of a reservation."""
    return {"t": "prepared", "commit": commit, "groups": [group_record(group) for group in groups]}


def finished_record(commit: int) -> Json:
    """Return the record that a commit's groups are real."""
    return {"t": "finished", "commit": commit}


def first_record(commit: int) -> Json:
    """Return the record that a new coordinator gives out numbers from this one on."""
    return {"t": "first", "commit": commit}


def forgotten_record(commit: int) -> Json:
    """Return the record that ends all about a commit."""
    return {"t": "forgotten", "commit": commit}
