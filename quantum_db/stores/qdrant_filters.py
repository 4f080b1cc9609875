"""What a Qdrant server is asked to look at, in its own terms: the user's filter, and what a reader may see."""

from __future__ import annotations

from collections.abc import Sequence

from qdrant_client import models

from quantum_db import filters
from quantum_db.model import Search
from quantum_db.stores.decoding import BORN, SLOT
from quantum_db.stores.points import CONTEXTS, DIED, ENTITY, payload_key


def seen_at(commit: int, *must: models.Condition) -> models.Filter:
    """Return the filter for the points that fulfil the conditions, and are seen at a commit.

    Points that no transaction has touched have no marks, which no range matches.
    """
    unseen: list[models.Condition] = [
        models.FieldCondition(key=BORN, range=models.Range(gt=commit)),
        models.FieldCondition(key=DIED, range=models.Range(lte=commit)),
    ]
    return models.Filter(must=list(must) or None, must_not=unseen)


def superseded_by(commit: int, entity_ids: Sequence[str]) -> models.Filter:
    """Return the filter for the versions of entities that the commit puts an end to: the latest ones before it."""
    alive = models.IsEmptyCondition(is_empty=models.PayloadField(key=DIED))
    own = models.FieldCondition(key=BORN, range=models.Range(gte=commit))
    return models.Filter(must=[of_entities(entity_ids), alive], must_not=[own])


def dead_by(commit: int) -> models.Filter:
    """Return the filter for the versions that nobody sees who looks at the commit, or at a later one."""
    return models.Filter(must=[models.FieldCondition(key=DIED, range=models.Range(lte=commit))])


def of_entities(entity_ids: Sequence[str]) -> models.FieldCondition:
    """Return the condition for the points of some entities."""
    return models.FieldCondition(key=ENTITY, match=models.MatchAny(any=list(entity_ids)))


def first_slot() -> models.FieldCondition:
    """Return the condition for the first point of each version of an entity."""
    return models.FieldCondition(key=SLOT, match=models.MatchValue(value=0))


def search_filter(search: Search, commit: int) -> models.Filter:
    """Return the filter for what a search may find at a commit."""
    must: list[models.Condition] = []
    if len(search.contexts) == 1:
        must.append(models.FieldCondition(key=CONTEXTS, match=models.MatchValue(value=search.contexts[0])))
    elif search.contexts:
        must.append(models.FieldCondition(key=CONTEXTS, match=models.MatchAny(any=list(search.contexts))))
    if search.filter is not None:
        must.append(_filter(search.filter))
    return seen_at(commit, *must)


def _filter(given: filters.Filter) -> models.Filter:
    return models.Filter(
        must=[_condition(condition) for condition in given.must],
        should=[_condition(condition) for condition in given.should] or None,
        must_not=[_condition(condition) for condition in given.must_not],
    )


def _condition(given: filters.Condition) -> models.Condition:
    if isinstance(given, filters.Filter):
        return _filter(given)
    if isinstance(given, filters.HasId):
        return models.FieldCondition(key=ENTITY, match=models.MatchAny(any=list(given.has_id)))
    if isinstance(given, filters.IsEmpty):
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=payload_key(given.is_empty.key)))
    if isinstance(given, filters.IsNull):
        return models.IsNullCondition(is_null=models.PayloadField(key=payload_key(given.is_null.key)))
    return models.FieldCondition(
        key=payload_key(given.key),
        match=_match(given.match) if given.match is not None else None,
        range=models.Range(**dict(given.range)) if given.range is not None else None,
        values_count=models.ValuesCount(**dict(given.values_count)) if given.values_count is not None else None,
    )


def _match(given: filters.Match) -> models.Match:
    if given.text is not None:
        return models.MatchText(text=given.text)
    if given.any is not None:
        return models.MatchAny.model_validate({"any": given.any})
    if given.except_ is not None:
        return models.MatchExcept.model_validate({"except": given.except_})
    return models.MatchValue.model_validate({"value": given.value})
