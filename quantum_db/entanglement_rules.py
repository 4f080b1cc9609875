"""What a group means for the data: three explicit classical rules, as pure functions. No circuit is involved.

- read: within one session (``quantum_db.sessions``), measuring a member in context c moves its partners' weights to
  (1 - s) w + s delta_c;
- expand: the partners of a hit join the candidates, and their scores move towards the hit's by s;
- write: an update makes what is cached about the member and its partners invalid and, where asked, moves partners by s
  times the change (``quantum_db.propagation``).

**Partners and strength.** Partners are entities with a group in common. Where several groups join two entities, their
strength is ``1 - prod(1 - s_g)``: what the rules of reading and expanding give when applied once for each group, in
any order.

**Cycles.** All three look one step far and start from values that the rule has not touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from quantum_db.errors import InvalidRequest
from quantum_db.model import EntanglementGroup

GroupsOf = Mapping[str, Sequence[EntanglementGroup]]
"""The groups that each entity is in. An entity that is not a key is in none."""


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


def invalidated(entity_id: str, groups: Iterable[EntanglementGroup]) -> frozenset[str]:
    """Return whose cached answers and circuits a write of an entity makes invalid: its own and its partners'.

    Args:
        groups: the groups of the entity.
    """
    return frozenset({entity_id, *partners(entity_id, groups)})
