"""What clients asked for, what they were told, and what readers saw; and everything that is wrong with it.

In the manner of Qdrant's crasher: missing, phantom, duplicate, half-applied, stale and malformed data, and further
numbers that come twice or do not grow, and updates that were lost. Each request has a ``tag``; all that it writes
carries it and can be computed from it, so whatever is found tells who wrote it, and whether it is whole.
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from quantum_db.commits.operations import CreateGroup, Delete, Deletes, Insert, Request, Transaction, Update, Upserts
from quantum_db.model import Context, EntanglementGroup, Entity, Vector


@dataclass(slots=True, eq=False)
class Asked:
    """One request of a client, over all its attempts.

    Attributes:
        begun_at, ended_at: by a clock that all clients share.
        outcome: ``unclear`` until there is an answer, then ``done`` or ``refused``. A refused request left nothing.
        commits: that it was told of, in its attempts.
    """

    tag: int
    request: Request
    begun_at: float
    ended_at: float = math.inf
    outcome: str = "unclear"
    commits: list[int] = field(default_factory=list)
    writes: dict[str, bool] = field(init=False)
    group: EntanglementGroup | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.writes = dict(_writes(self.request))
        for operation in self.request.operations if isinstance(self.request, Transaction) else ():
            if isinstance(operation, CreateGroup):
                self.group = operation.group

    @property
    def is_whole(self) -> bool:
        """Whether it takes place all at once."""
        return isinstance(self.request, Transaction)

    def done(self, commit: int, at: float) -> None:
        self.outcome, self.ended_at = "done", at
        self.commits.append(commit)

    def refused(self, at: float) -> None:
        self.outcome, self.ended_at = "refused", at


@dataclass(slots=True, eq=False)
class Seen:
    """What one reader saw at one moment: of each id the entity, or None. ``groups`` were read after the entities."""

    begun_at: float
    ended_at: float
    entities: Mapping[str, Entity | None]
    groups: Mapping[str, EntanglementGroup | None] = field(default_factory=dict)


class History:
    """Collects, and judges at the end, when it is known what became of everything."""

    def __init__(self) -> None:
        self.asked: dict[int, Asked] = {}
        self.seen: list[Seen] = []

    def ask(self, tag: int, request: Request, at: float) -> Asked:
        """Note a new request."""
        one = Asked(tag, request, at)
        self.asked[one.tag] = one
        return one

    def check(self) -> list[str]:
        """Return what is wrong; the last thing ``seen`` must be the end of it all."""
        return list(dict.fromkeys(_Judge(self).wrong()))


class _Judge:
    def __init__(self, history: History) -> None:
        self._history = history
        self._asked = history.asked
        self._versions: defaultdict[int, set[int]] = defaultdict(set)
        self._writers: defaultdict[int, set[int]] = defaultdict(set)
        self._of_id: defaultdict[str, list[Asked]] = defaultdict(list)
        for one in self._asked.values():
            for commit in one.commits:
                self._note(one.tag, commit)
            for entity_id in one.writes if one.outcome != "refused" else ():
                self._of_id[entity_id].append(one)
        for seen in history.seen:
            for entity in seen.entities.values():
                if entity is not None:
                    self._note(tag_of(entity), entity.version)

    def _note(self, tag: int, version: int) -> None:
        self._versions[tag].add(version)
        self._writers[version].add(tag)

    def wrong(self) -> Iterator[str]:
        yield from self._numbers()
        yield from self._lost_updates()
        for seen in self._history.seen:
            for entity_id, entity in seen.entities.items():
                yield from self._entity(seen, entity_id, entity)
            yield from self._halves(seen)
            yield from self._groups(seen)

    # The history as a whole

    def _numbers(self) -> Iterator[str]:
        for tag, versions in self._versions.items():
            if len(versions) > 1:
                yield f"duplicate: request {tag} took place as {sorted(versions)}"
        for version, tags in self._writers.items():
            if len(tags) > 1:
                yield f"number {version} was given to the requests {sorted(tags)}"
        done = sorted((one.ended_at, one.commits[0]) for one in self._asked.values() if one.outcome == "done")
        ends = [at for at, _ in done]
        highest = np.maximum.accumulate([commit for _, commit in done]) if done else []
        for one in self._asked.values():
            before = bisect.bisect_left(ends, one.begun_at)
            if one.outcome == "done" and before and highest[before - 1] >= one.commits[0]:
                yield f"number {one.commits[0]} of request {one.tag} came after {highest[before - 1]}"

    def _lost_updates(self) -> Iterator[str]:
        """What was expected of an entity must have been so: no acknowledged write lies in between."""
        for one in self._asked.values():
            if one.outcome != "done" or not isinstance(one.request, Transaction):
                continue
            for operation in one.request.operations:
                expected = None if isinstance(operation, CreateGroup) else operation.expected_version
                if expected is None or isinstance(operation, CreateGroup):
                    continue
                entity_id = operation.entity.id if isinstance(operation, Insert) else operation.entity_id
                between = [o.tag for o in self._done(entity_id) if expected < o.commits[0] < one.commits[0]]
                if between:
                    yield f"lost update: {one.tag} expected {entity_id} at {expected}, after {between} had written it"

    # One thing that was seen

    def _entity(self, seen: Seen, entity_id: str, entity: Entity | None) -> Iterator[str]:
        done = [one for one in self._done(entity_id) if one.ended_at < seen.begun_at]
        last = max(done, key=lambda one: one.commits[0], default=None)
        if entity is None:
            if last is not None and last.writes[entity_id] and not self._may_be_gone(seen, entity_id, last.commits[0]):
                yield f"missing: {entity_id}, which request {last.tag} wrote as {last.commits[0]}"
            return
        tag = tag_of(entity)
        writer = self._asked.get(tag)
        if writer is None or not writer.writes.get(entity_id) or writer.begun_at > seen.ended_at:
            yield f"phantom: {entity_id} with the tag {tag}, which nobody wrote there"
        elif writer.outcome == "refused":
            yield f"phantom: {entity_id} of request {tag}, which was refused"
        elif not same(entity, entity_for(entity_id, tag)):
            yield f"malformed: {entity_id} is not what request {tag} wrote"
        if last is not None and entity.version < last.commits[0]:
            yield f"stale: {entity_id} at {entity.version}, when {last.commits[0]} of {last.tag} was acknowledged"

    def _halves(self, seen: Seen) -> Iterator[str]:
        """Of a transaction that shows in one place, all of it must show, or have been written over since."""
        for tag in {tag_of(entity) for entity in seen.entities.values() if entity is not None}:
            one = self._asked.get(tag)
            if one is None or not one.is_whole:
                continue
            version = min(e.version for e in seen.entities.values() if e is not None and tag_of(e) == tag)
            for entity_id, is_written in one.writes.items():
                if entity_id not in seen.entities:
                    continue
                entity = seen.entities[entity_id]
                if entity is None and is_written and not self._may_be_gone(seen, entity_id, version):
                    yield f"half-applied: request {tag} as {version}, without {entity_id}"
                if entity is not None and entity.version < version:
                    yield f"half-applied: request {tag} as {version}, with {entity_id} still at {entity.version}"
            group = one.group
            if group is not None and group.group_id in seen.groups and seen.groups[group.group_id] is None:
                yield f"half-applied: request {tag} as {version}, without its group {group.group_id}"

    def _groups(self, seen: Seen) -> Iterator[str]:
        makers = [one for one in self._asked.values() if one.group is not None]
        for group_id, group in seen.groups.items():
            if group is None:
                missing = (o.tag for o in makers if o.group is not None and o.group.group_id == group_id)
                for tag in missing:
                    if self._asked[tag].outcome == "done" and self._asked[tag].ended_at < seen.begun_at:
                        yield f"missing: the group {group_id} of request {tag}"
                continue
            found = [o for o in makers if o.outcome != "refused" and o.group is not None and _alike(o.group, group)]
            if not found:
                yield f"phantom: the group {group_id}, as nobody wrote it"
            for one in found if seen is self._history.seen[-1] else ():
                yield from self._group_without_entities(seen, one)

    def _group_without_entities(self, seen: Seen, one: Asked) -> Iterator[str]:
        for entity_id, is_written in one.writes.items():
            entity = seen.entities.get(entity_id)
            writer = None if entity is None else self._asked.get(tag_of(entity))
            if writer is not None and writer.ended_at < one.begun_at:
                yield f"half-applied: the group of request {one.tag}, with {entity_id} as it was before"
            if entity is None and is_written and not self._may_be_gone(seen, entity_id, 0, one):
                yield f"half-applied: the group of request {one.tag}, without {entity_id}"

    def _done(self, entity_id: str) -> list[Asked]:
        return [one for one in self._of_id[entity_id] if one.outcome == "done"]

    def _may_be_gone(self, seen: Seen, entity_id: str, since: int, after: Asked | None = None) -> bool:
        """Whether somebody may have deleted an entity after it was written as ``since``."""
        return any(
            not one.writes[entity_id]
            and one.begun_at <= seen.ended_at
            and (one.outcome != "done" or one.commits[0] > since)
            and (after is None or one.ended_at >= after.begun_at)
            for one in self._of_id[entity_id]
        )


# What a tag stands for


def entity_for(entity_id: str, tag: int) -> Entity:
    """Return what the request with this tag writes under an id."""
    angle = math.fmod(tag * 0.731 + sum(map(ord, entity_id)) * 0.117, math.tau)
    contexts = (Context("a", 0.25, _unit(angle + 1.0)), Context("b", 0.75, _unit(angle + 2.0))) if tag % 3 == 0 else ()
    return Entity(entity_id, _unit(angle), contexts, metadata={"tag": tag})


def group_for(group_id: str, members: Sequence[str], tag: int) -> EntanglementGroup:
    """Return the group that the request with this tag creates under an id."""
    return EntanglementGroup(group_id, tuple(members), 0.25 + (tag % 100_000) / 262_144.0)


def same(found: Entity, wanted: Entity) -> bool:
    """Whether two entities are alike but for their versions."""
    contexts = len(found.contexts) == len(wanted.contexts) and all(
        (a.name, a.weight) == (b.name, b.weight) and _close(a.vector, b.vector)
        for a, b in zip(found.contexts, wanted.contexts, strict=True)
    )
    return contexts and found.metadata == wanted.metadata and _close(found.vector, wanted.vector)


def tag_of(entity: Entity) -> int:
    """Return whose an entity is; -1 for nobody's."""
    tag = entity.metadata.get("tag", -1)
    return tag if isinstance(tag, int) else -1


def _writes(request: Request) -> Iterator[tuple[str, bool]]:
    """Yield each id with whether an entity is there afterwards."""
    if isinstance(request, Upserts):
        yield from ((entity.id, True) for entity in request.entities)
    elif isinstance(request, Deletes):
        yield from ((entity_id, False) for entity_id in request.ids)
    else:
        for operation in request.operations:
            if isinstance(operation, Insert):
                yield operation.entity.id, True
            elif isinstance(operation, Update | Delete):
                yield operation.entity_id, isinstance(operation, Update)


def _alike(a: EntanglementGroup, b: EntanglementGroup) -> bool:
    key = (a.group_id, set(a.entity_ids), a.correlation_strength)
    return key == (b.group_id, set(b.entity_ids), b.correlation_strength)


def _unit(angle: float) -> Vector:
    return np.array([math.cos(angle), math.sin(angle)], dtype=np.float32)


def _close(a: Vector | None, b: Vector | None) -> bool:
    if a is None or b is None:
        return a is b
    return bool(np.abs(a - b).max() < 1e-5)
