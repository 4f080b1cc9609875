"""How large a request may be: what a caller is granted below the bounds that hold for everybody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from quantum_db.errors import FieldError, InvalidRequest
from quantum_db.model import DEFAULT_MAX_SHOTS
from quantum_db.modes import DEFAULT_MODE, MODES

_LISTS: Final = ("vectors", "queries", "operations", "circuits", "entity_ids", "add", "remove", "statements")


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """None is no limit but everybody's.

    Attributes:
        body_bytes: of a request's body; above it is 413.
        dimension: of a vector.
        batch: items of a list: entities, operations, circuits, members of a group.
        top_k: hits of a query.
        shots: of one circuit, or of all rounds where they adapt.
    """

    body_bytes: int | None = None
    dimension: int | None = None
    batch: int | None = None
    top_k: int | None = None
    shots: int | None = None

    def and_also(self, other: SizeLimits) -> SizeLimits:
        """Return the narrower of both, of each."""
        if UNLIMITED in (other, self):
            return self if other == UNLIMITED else other
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return SizeLimits(*(min((one for one in pair if one is not None), default=None) for pair in pairs))


UNLIMITED: Final = SizeLimits()


def check_sizes(action: str, raw: object, limits: SizeLimits) -> None:
    """Raise InvalidRequest if a decoded body is larger than granted; each field is told by its path.

    What is no valid body is left to be refused by its own rules.
    """
    if limits == UNLIMITED or not isinstance(raw, Mapping):
        return
    found = list(_found(raw, "", limits))
    if limits.shots is not None:
        for at, query in _queries(action, raw):
            found += _shots_of(query, at, limits.shots)
    if found:
        errors = [FieldError(path, message) for path, message in found[:20]]
        raise InvalidRequest("; ".join(f"{one.path}: {one.message}" for one in errors[:3]), errors=errors)


def _found(raw: Mapping[str, Any], at: str, limits: SizeLimits) -> Iterator[tuple[str, str]]:
    vector = raw.get("vector")
    if limits.dimension is not None and _longer(vector, limits.dimension):
        yield f"{at}vector", f"has more than the {limits.dimension} components that are granted"
    for name, bound, what in (("top_k", limits.top_k, "hits"), ("shots", limits.shots, "shots")):
        value = raw.get(name)
        if bound is not None and isinstance(value, int) and value > bound:
            yield f"{at}{name}", f"must be at most {bound}, the {what} that are granted"
    for name in _LISTS:
        if limits.batch is not None and _longer(raw.get(name), limits.batch):
            yield f"{at}{name}", f"has more than the {limits.batch} items that are granted"
            return  # nothing is gained by looking at each of too many
    for name in (*_LISTS, "contexts"):
        for place, item in enumerate(_items(raw.get(name))):
            yield from _found(item, f"{at}{name}[{place}].", limits)
    for name in ("query", "insert", "update"):
        inner = raw.get(name)
        if isinstance(inner, Mapping):
            yield from _found(inner, f"{at}{name}.", limits)


def _queries(action: str, raw: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the queries of a body, each with the beginning of its fields' paths."""
    if action == "query":
        yield "", raw
    elif action == "query_under" and isinstance(raw.get("query"), Mapping):
        yield "query.", raw["query"]
    elif action == "query_batch":
        yield from ((f"queries[{place}].", query) for place, query in enumerate(_items(raw.get("queries"))))


def _shots_of(query: Mapping[str, Any], at: str, bound: int) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the shots that a query takes without saying so."""
    if query.get("epsilon") is not None:
        adaptive = query.get("max_shots", DEFAULT_MAX_SHOTS)
        if isinstance(adaptive, int) and adaptive > bound:
            yield f"{at}max_shots", f"must be at most {bound}, the shots that are granted; left out it is more"
    elif query.get("shots") is None:
        mode = MODES.get(str(query.get("mode", DEFAULT_MODE)))
        if mode is not None and mode.shots > bound:
            yield f"{at}shots", f"must be at most {bound}, the shots that are granted; the mode takes {mode.shots}"


def _longer(value: object, bound: int) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | Mapping) and len(value) > bound


def _items(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list | tuple):
        yield from (item if isinstance(item, Mapping) else {} for item in value)
