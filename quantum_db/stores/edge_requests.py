"""What the embedded store is asked for, in its library's terms."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import qdrant_edge as edge

from quantum_db import filters
from quantum_db.model import Search
from quantum_db.stores.decoding import RECORD, SLOT
from quantum_db.stores.points import CONTEXTS, ENTITY, SEARCH_EF, payload_key


def first_slot() -> edge.Filter:
    """Return the filter for the first point of each entity."""
    return edge.Filter(must=[edge.FieldCondition(SLOT, match=edge.MatchValue(0))])


def nearest_points(search: Search, limit: int) -> edge.QueryRequest:
    """Return the request for the nearest points of a search. Scores are those of the vectors as they were written."""
    return edge.QueryRequest(
        limit=limit,
        query=edge.Query.Nearest(search.vector.tolist()),
        filter=_search_filter(search),
        with_payload=[RECORD, SLOT],
        with_vector=True,
        params=edge.SearchParams(
            hnsw_ef=max(limit, SEARCH_EF), quantization=edge.QuantizationSearchParams(rescore=True, oversampling=2.0)
        ),
    )


def first_points(first: str | None, limit: int) -> edge.ScrollRequest:
    """Return the request for first points, in the order of their ids, from one on."""
    return edge.ScrollRequest(
        offset=first, limit=limit, filter=first_slot(), with_payload=[RECORD, SLOT], with_vector=True
    )


def _search_filter(search: Search) -> edge.Filter | None:
    must: list[Any] = []
    if len(search.contexts) == 1:
        must.append(edge.FieldCondition(CONTEXTS, match=edge.MatchValue(search.contexts[0])))
    elif search.contexts:
        must.append(edge.FieldCondition(CONTEXTS, match=edge.MatchAny(list(search.contexts))))
    if search.filter is not None:
        must.append(_filter(search.filter))
    return edge.Filter(must=must) if must else None


def _filter(given: filters.Filter) -> edge.Filter:
    return edge.Filter(
        must=[_condition(condition) for condition in given.must],
        should=[_condition(condition) for condition in given.should] or None,
        must_not=[_condition(condition) for condition in given.must_not],
    )


def _condition(given: filters.Condition) -> Any:
    if isinstance(given, filters.Filter):
        return _filter(given)
    if isinstance(given, filters.HasId):
        return edge.FieldCondition(ENTITY, match=edge.MatchAny(list(given.has_id)))
    if isinstance(given, filters.IsEmpty):
        return edge.IsEmptyCondition(payload_key(given.is_empty.key))
    if isinstance(given, filters.IsNull):
        return edge.IsNullCondition(payload_key(given.is_null.key))
    return edge.FieldCondition(
        payload_key(given.key),
        match=_match(given.match) if given.match is not None else None,
        range=edge.RangeFloat(**dict(given.range)) if given.range is not None else None,
        values_count=edge.ValuesCount(**dict(given.values_count)) if given.values_count is not None else None,
    )


def _match(given: filters.Match) -> Any:
    if given.text is not None:
        return edge.MatchText(given.text)
    if given.any is not None:
        return edge.MatchAny(cast("list[str]", list(given.any)))
    if given.except_ is not None:
        return edge.MatchExcept(cast("list[str]", list(given.except_)))
    # The library reads Python's True as the number 1, but NumPy's as a boolean.
    value: Any = np.bool_(given.value) if isinstance(given.value, bool) else given.value
    return edge.MatchValue(value)
