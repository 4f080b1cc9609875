"""What a group means for the data: three explicit classical rules, as pure functions. No circuit is involved.

- read: within one session (``quantum_db.sessions``), measuring a member in context c moves its partners' weights to
  (1 - s) w + s delta_c;
- expand: the partners of a hit join the candidates, and their scores move towards the hit's by s;
- write: an update makes what is cached about the member and its partners invalid and, where asked, moves partners by s
  times the change of its vectors.

**Partners and strength.** Partners are entities with a group in common. Where several groups join two entities, their
strength is ``1 - prod(1 - s_g)``: what the rules of reading and expanding give when applied once for each group, in
any order.

**Cycles.** Reading and expanding look one step far and start from values that the rule has not touched. Writing walks
breadth first, reaches each entity once for an update, and a moved entity remembers the update's id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.errors import InvalidRequest
from quantum_db.model import EntanglementGroup, Entity, Vector

GroupsOf = Mapping[str, Sequence[EntanglementGroup]]
"""The groups that each entity is in. An entity that is not a key is in none."""

MIN_STRENGTH: Final = 0.05
"""An update is not carried further once the product of strengths on its way is below this."""
MAX_REACHED: Final = 1_000
"""Bound on the entities that one update moves."""
KEPT_UPDATES: Final = 64
"""How many update ids an entity remembers. One that comes again after as many others is taken for new."""

_NO_DIRECTION: Final = 1e-6
"""A moved vector shorter than this has no direction that could be trusted in float32; the old one is kept."""


def partners(entity_id: str, groups: Iterable[EntanglementGroup]) -> dict[str, float]:
    """Return the strength of each partner of an entity, in the order of ids.

    Args:
        groups: groups that the entity is in; others are passed over.
    """
    uncorrelated: dict[str, float] = {}
    for group in groups:
        if entity_id in group.entity_ids:
            for member in group.entity_ids:
                uncorrelated[member] = uncorrelated.get(member, 1.0) * (1.0 - group.correlation_strength)
    return {member: 1.0 - uncorrelated[member] for member in sorted(uncorrelated) if member != entity_id}


# Read


def weights_after_reading(weights: Mapping[str, float], context: str, strength: float) -> dict[str, float]:
    """Return (1 - s) w + s delta_c, normalised. An entity without the context cannot have that outcome: unchanged.

    Args:
        weights: context -> w_c, not negative, of sum 1.

    Raises:
        InvalidRequest: the strength is outside [0, 1].
    """
    if not 0.0 <= strength <= 1.0:
        raise InvalidRequest.at("correlation_strength", f"must be from 0 to 1, not {strength}")
    if context not in weights:
        return dict(weights)
    moved = {name: (1.0 - strength) * weight for name, weight in weights.items()}
    moved[context] += strength
    total = sum(moved.values())
    return {name: weight / total for name, weight in moved.items()}


# Expand


@dataclass(frozen=True, slots=True)
class Link:
    """A partner of a hit, and how strongly the two are correlated."""

    entity_id: str
    hit_id: str
    strength: float


@dataclass(frozen=True, slots=True)
class BoostedScore:
    """A score after expansion; ``link`` is the hit that raised it, None where ``value`` is the entity's own."""

    value: float
    own: float
    link: Link | None


def links_of_hits(hits: Sequence[str], groups: GroupsOf, known: Iterable[str], limit: int) -> tuple[Link, ...]:
    """Return the links from hits to their partners: all to known candidates, and to at most ``limit`` newcomers.

    Newcomers are preferred by their strongest link, then by the rank of that link's hit, then by id. Links of
    strength 0 are left out.

    Args:
        hits: ids, best first.
        known: ids of entities that are candidates already.
        limit: bound on entities that the caller has to fetch and score; not negative.
    """
    candidates = set(known) | set(hits)
    links = [
        Link(partner, hit, strength)
        for hit in hits
        for partner, strength in partners(hit, groups.get(hit, ())).items()
        if strength > 0.0
    ]
    rank = {hit: place for place, hit in enumerate(hits)}
    newcomers: dict[str, None] = {}
    for link in sorted(links, key=lambda link: (-link.strength, rank[link.hit_id], link.entity_id)):
        if link.entity_id not in candidates and len(newcomers) < limit:
            newcomers.setdefault(link.entity_id)
    return tuple(link for link in links if link.entity_id in candidates or link.entity_id in newcomers)


def boost(own: float, hit: float, strength: float) -> float:
    """Return max(F, (1 - s) F + s F_hit): towards the hit by s, never past it and never down.

    It does not fall with either score, so that applied to both ends of two intervals it gives the ends of the result's.
    """
    return max(own, min((1.0 - strength) * own + strength * hit, max(own, hit)))


def boosted_scores(scores: Mapping[str, float], links: Iterable[Link]) -> dict[str, BoostedScore]:
    """Return the scores after expansion, best first.

    Equal ones stand by their own score, so that a hit comes before who follows it, and then by id.
    All hits count with their own scores, so a boost is not passed on. Of several links the one that raises most counts,
    and of equals the first; they do not add up. A link to or from an entity without a score (it lacks the asked
    context, does not pass the filter, or is deleted) has no effect.

    Args:
        scores: own scores of all candidates, newcomers included.
    """
    boosted = {entity_id: BoostedScore(own, own, None) for entity_id, own in scores.items()}
    for link in links:
        if link.entity_id in scores and link.hit_id in scores:
            value = boost(scores[link.entity_id], scores[link.hit_id], link.strength)
            if value > boosted[link.entity_id].value:
                boosted[link.entity_id] = BoostedScore(value, scores[link.entity_id], link)
    order = sorted(boosted, key=lambda entity_id: (-boosted[entity_id].value, -boosted[entity_id].own, entity_id))
    return {entity_id: boosted[entity_id] for entity_id in order}


# Write


@dataclass(frozen=True, slots=True)
class Reach:
    """How an update comes to an entity: the product of the strengths, the number of steps, and the last one's start."""

    strength: float
    hops: int
    via: str | None


@dataclass(frozen=True, slots=True)
class Spread:
    """How far an update has come, breadth first.

    Attributes:
        reached: the updated entity and the partners that it moves.
        newest: those of the last step, by id; empty when the walk has ended.
        touched: everything that is reached or a partner of it.
        truncated: whether ``MAX_REACHED`` left someone out.
    """

    reached: Mapping[str, Reach]
    newest: tuple[str, ...]
    touched: frozenset[str]
    truncated: bool = False

    @classmethod
    def start(cls, entity_id: str) -> Spread:
        """Return the walk before its first step."""
        return cls({entity_id: Reach(1.0, 0, None)}, (entity_id,), frozenset({entity_id}))

    def step(self, groups: GroupsOf, *, min_strength: float = MIN_STRENGTH, max_reached: int = MAX_REACHED) -> Spread:
        """Return the walk one step further. Every step reaches someone new or ends the walk.

        Who is reached by several ways of equal length takes the strongest, and of equals the one by the lowest id; who
        was reached before keeps the shorter way, even where a longer one is stronger: a direct strength is what
        somebody declared.

        Args:
            groups: the groups of every entity of ``newest``.
        """
        found: dict[str, Reach] = {}
        touched = set(self.touched)
        for entity_id in self.newest:
            here = self.reached[entity_id]
            for partner, strength in partners(entity_id, groups.get(entity_id, ())).items():
                touched.add(partner)
                product = here.strength * strength
                if partner in self.reached or product < min_strength or product == 0.0:
                    continue
                if partner not in found or product > found[partner].strength:
                    found[partner] = Reach(product, here.hops + 1, entity_id)
        order = sorted(found, key=lambda partner: (-found[partner].strength, partner))
        kept = order[: max(0, max_reached + 1 - len(self.reached))]
        return Spread(
            reached={**self.reached, **{partner: found[partner] for partner in kept}},
            newest=tuple(sorted(kept)),
            touched=frozenset(touched),
            truncated=self.truncated or len(kept) < len(order),
        )


def spread(
    entity_id: str,
    groups_of: Callable[[str], Sequence[EntanglementGroup]],
    *,
    min_strength: float = MIN_STRENGTH,
    max_reached: int = MAX_REACHED,
) -> Spread:
    """Walk from an updated entity until nobody new is reached. See ``Spread.step``."""
    walk = Spread.start(entity_id)
    while walk.newest:
        groups = {member: groups_of(member) for member in walk.newest}
        walk = walk.step(groups, min_strength=min_strength, max_reached=max_reached)
    return walk


def invalidated(entity_id: str, groups: Iterable[EntanglementGroup], walk: Spread | None = None) -> frozenset[str]:
    """Return whose cached answers and circuits an update makes invalid: the entity, its partners and who they move.

    Args:
        groups: the groups of the updated entity.
        walk: the finished walk where the update is propagated. Partners of each moved entity are then in it too.
    """
    direct = frozenset({entity_id, *partners(entity_id, groups)})
    return direct if walk is None else direct | walk.touched


Changes = Mapping[str | None, NDArray[np.float64]]
"""By context, or None for an entity's own vector: new unit vector minus old one, (d,)."""


def changes_between(old: Entity, new: Entity) -> dict[str | None, NDArray[np.float64]]:
    """Return the changes of vectors; those that are zero, or where one side has no such vector, are left out.

    The vector of a context that has none of its own is the entity's.
    """
    before, after = _vectors(old), _vectors(new)
    changes = {
        name: after[name].astype(np.float64) - before[name].astype(np.float64) for name in after if name in before
    }
    return {name: change for name, change in changes.items() if change.any()}


def moved(entity: Entity, changes: Changes, strength: float) -> Entity:
    """Return the entity with each vector moved by s times the change of its namesake, and normalised again.

    The entity's own vector follows the change of the updated entity's own; a context's own vector follows the change
    in that context. What has no namesake stays, and so do weights. A vector that the change would cancel stays too,
    because the sum has no direction.
    """
    return replace(
        entity,
        vector=_moved_vector(entity.vector, changes.get(None), strength),
        contexts=tuple(
            replace(context, vector=_moved_vector(context.vector, changes.get(context.name), strength))
            for context in entity.contexts
        ),
    )


@dataclass(frozen=True, slots=True)
class Version:
    """How often an entity was written or moved, and by which updates of late (at most ``KEPT_UPDATES``)."""

    number: int = 0
    recent: tuple[str, ...] = ()

    def after(self, update_id: str) -> Version:
        """Return the version that the update makes; itself if it has been made already."""
        if update_id in self.recent:
            return self
        return Version(self.number + 1, (*self.recent, update_id)[-KEPT_UPDATES:])


@dataclass(frozen=True, slots=True)
class Move:
    """A partner as an update leaves it. Write it only over version ``version.number - 1``."""

    entity: Entity
    version: Version
    strength: float


def propagate(
    update_id: str,
    changes: Changes,
    walk: Spread,
    entities: Mapping[str, Entity],
    versions: Mapping[str, Version],
) -> tuple[Move, ...]:
    """Return the moves that are still to be made, by id; empty for an update that has been made.

    An entity that has the update's id among its recent ones is left alone, so that after a crash half way the rest is
    made and nothing twice. The updated entity itself, and entities that no longer exist, are left out.

    Args:
        walk: from the updated entity.
        entities: the reached entities as they are stored.
        versions: theirs; missing means never written.
    """
    moves = []
    for entity_id in sorted(walk.reached):
        reach, entity = walk.reached[entity_id], entities.get(entity_id)
        before = versions.get(entity_id, Version())
        after = before.after(update_id)
        if reach.hops > 0 and entity is not None and after is not before:
            moves.append(Move(moved(entity, changes, reach.strength), after, reach.strength))
    return tuple(moves)


def _vectors(entity: Entity) -> dict[str | None, Vector]:
    vectors: dict[str | None, Vector] = {} if entity.vector is None else {None: entity.vector}
    for context in entity.contexts:
        vector = entity.vector if context.vector is None else context.vector
        assert vector is not None
        vectors[context.name] = vector
    return vectors


def _moved_vector(vector: Vector | None, change: NDArray[np.float64] | None, strength: float) -> Vector | None:
    if vector is None or change is None:
        return vector
    wide = vector.astype(np.float64) + strength * change
    norm = float(np.linalg.norm(wide))
    return vector if norm < _NO_DIRECTION else np.asarray(wide / norm, dtype=np.float32)
