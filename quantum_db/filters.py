"""Filters on an entity's metadata, in Qdrant's shape, and what they mean.

A filter is parsed from JSON once, at the edge (``Filter.parse``), and is a frozen, hashable value from there on.
``matches`` is its meaning in plain Python. The stores translate a filter into their own language; the contract
tests hold them to ``matches``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, Self, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from quantum_db.errors import FieldError, InvalidRequest

MAX_DEPTH: Final = 8
MAX_CONDITIONS: Final = 256
MAX_VALUES: Final = 4096

JsonPath: TypeAlias = tuple[str | int | None, ...]
"""A parsed key: a member by name, an element by position, or None for every element."""

_CLAUSES: Final = ("must", "should", "must_not")
_STEP: Final = re.compile(r'(?:"(?P<quoted>[^"]+)"|(?P<plain>(?:[^\W]|-)+))(?P<brackets>(?:\[[0-9]{0,9}\])*)')
_BRACKET: Final = re.compile(r"\[([0-9]*)\]")
_TOKEN: Final = re.compile(r"[^\W_]+")
_KEY_HELP: Final = 'must be names joined by dots, like a.b, a[].b, a[0] or "a name with spaces".b'


@lru_cache(maxsize=4096)
def parse_key(key: str) -> JsonPath:
    """Return the steps of a key such as ``authors[].name``. Raises ValueError when it is not a path."""
    steps: list[str | int | None] = []
    position = 0
    while True:
        found = _STEP.match(key, position)
        if found is None:
            raise ValueError(_KEY_HELP)
        steps.append(found["quoted"] or found["plain"])
        steps += [int(index) if index else None for index in _BRACKET.findall(found["brackets"])]
        position = found.end()
        if position == len(key):
            return tuple(steps)
        if key[position] != ".":
            raise ValueError(_KEY_HELP)
        position += 1


def _checked_key(value: object) -> object:
    if isinstance(value, str):
        parse_key(value)
    return value


def _is_int64(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _scalar(value: object) -> object:
    # Checked here as a whole: a union would answer with one error for each of its members.
    if not (isinstance(value, str | bool) or _is_int64(value)):
        raise ValueError("must be a string, a boolean or a 64-bit integer (for other numbers use range)")
    return value


def _alike(value: object) -> object:
    if (
        not isinstance(value, list | tuple)
        or len(value) > MAX_VALUES
        or not (all(isinstance(item, str) for item in value) or all(_is_int64(item) for item in value))
    ):
        raise ValueError(f"must be a list of strings or a list of 64-bit integers, at most {MAX_VALUES}")
    return tuple(value)


def _listed(value: object) -> object:
    """Qdrant takes one condition where a list of them is meant, and null for none."""
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


_Key = Annotated[StrictStr, BeforeValidator(_checked_key), Field(max_length=512, description=f"A path: {_KEY_HELP}")]
_Scalar = Annotated[bool | int | str, BeforeValidator(_scalar, json_schema_input_type=bool | int | str)]
_Alike = Annotated[
    tuple[StrictStr | StrictInt, ...], BeforeValidator(_alike, json_schema_input_type=list[str] | list[int])
]
_Bound = Annotated[StrictFloat, Field(allow_inf_nan=False)] | None
_Number = Annotated[StrictInt, Field(ge=0, le=2**32)] | None


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)


def _given(shape: BaseModel, names: Sequence[str]) -> int:
    return sum(getattr(shape, name) is not None for name in names)


class Match(_Shape):
    """Exactly one of: equal to ``value``, to one of ``any``, to none of ``except``; holding every word of ``text``.

    A list under the key passes when one of its elements does. ``text`` compares whole words without case.
    """

    value: _Scalar | None = None
    any: _Alike | None = None
    except_: _Alike | None = Field(default=None, alias="except")
    text: StrictStr | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if _given(self, ("value", "any", "except_", "text")) != 1:
            raise ValueError("needs exactly one of value, any, except, text")
        return self


class _Bounds(_Shape):
    @model_validator(mode="after")
    def _some_bound(self) -> Self:
        if not _given(self, ("gt", "gte", "lt", "lte")):
            raise ValueError("needs at least one of gt, gte, lt, lte")
        return self


class Range(_Bounds):
    """Bounds of a number; at least one."""

    gt: _Bound = None
    gte: _Bound = None
    lt: _Bound = None
    lte: _Bound = None


class ValuesCount(_Bounds):
    """Bounds of the number of values under a key; at least one. A missing key has none."""

    gt: _Number = None
    gte: _Number = None
    lt: _Number = None
    lte: _Number = None


class FieldCondition(_Shape):
    """A condition on the values under one key; exactly one of ``match``, ``range``, ``values_count``."""

    key: _Key
    match: Match | None = None
    range: Range | None = None
    values_count: ValuesCount | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if _given(self, ("match", "range", "values_count")) != 1:
            raise ValueError("needs exactly one of match, range, values_count")
        return self


class KeyRef(_Shape):
    """Names a key."""

    key: _Key


class IsEmpty(_Shape):
    """True where the key is missing, null or an empty list."""

    is_empty: KeyRef


class IsNull(_Shape):
    """True where the key is there and is null, or is a list that holds a null."""

    is_null: KeyRef


class HasId(_Shape):
    """True for the entities with one of these ids."""

    has_id: tuple[StrictStr, ...] = Field(max_length=MAX_VALUES)


def _kind(value: object) -> str | None:
    """Choose the shape that a condition is read as, so that an error speaks of this shape only."""
    names = type(value).model_fields if isinstance(value, BaseModel) else value
    if not isinstance(names, Mapping):
        return None
    for name in ("key", "is_empty", "is_null", "has_id"):
        if name in names:
            return f"#{name}"
    return "#filter" if not names or any(clause in names for clause in _CLAUSES) else None


# The tags become part of pydantic's error locations; "#" lets path_of take them out again.
Condition = Annotated[
    Annotated[FieldCondition, Tag("#key")]
    | Annotated[IsEmpty, Tag("#is_empty")]
    | Annotated[IsNull, Tag("#is_null")]
    | Annotated[HasId, Tag("#has_id")]
    | Annotated["Filter", Tag("#filter")],
    Discriminator(
        _kind,
        custom_error_type="condition",
        custom_error_message="must be an object with one of key, is_empty, is_null, has_id, must, should, must_not",
    ),
]
_Conditions = Annotated[
    tuple[Condition, ...],
    BeforeValidator(_listed, json_schema_input_type=list[Condition] | Condition | None),
]


class Filter(_Shape):
    """All of ``must``, at least one of ``should`` (if any are given), none of ``must_not``."""

    must: _Conditions = ()
    should: _Conditions = ()
    must_not: _Conditions = ()

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, value: object) -> object:
        # Before the members are read: a hostile filter is refused without building it.
        _check_size(value)
        return value

    @classmethod
    def parse(cls, value: object, path: str = "filter") -> Filter:
        """Return the filter that a JSON value describes.

        Args:
            value: what a JSON parser gave.
            path: where the value stands in the request; the errors' paths begin with it.

        Raises:
            InvalidRequest: with one error for each wrong place, such as ``filter.must[0].match.value``.

        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            found = [FieldError(path_of(e["loc"], path), message_of(e)) for e in error.errors(include_url=False)]
            raise InvalidRequest("; ".join(f"{e.path}: {e.message}" for e in found[:3]), errors=found) from None


_MESSAGES: Final = {
    "extra_forbidden": "is not a known field",
    "missing": "is required",
    "model_type": "must be an object",
    "float_type": "must be a number",
    "int_type": "must be an integer",
    "string_type": "must be a string",
    "tuple_type": "must be a list",
}


def path_of(location: Sequence[int | str], root: str = "") -> str:
    """Return a pydantic error location as a path, without the tags of this module's unions: ``must[0].match``."""
    path = root
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith(("#", "tuple[", "function-")):
            path += f".{part}" if path else part
    return path


def message_of(error: Mapping[str, Any]) -> str:
    """Return a pydantic error's message as this project words it."""
    if error["type"] in _MESSAGES:
        return _MESSAGES[error["type"]]
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _check_size(value: object) -> None:
    """Walk raw JSON and raise as soon as it is nested too deep or holds too many conditions."""
    seen = 0
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [condition for member in level for condition in _raw_conditions(member)]
        seen += len(level)
        if seen > MAX_CONDITIONS:
            raise PydanticCustomError("filter_size", "has more than {limit} conditions", {"limit": MAX_CONDITIONS})
        if not level:
            return
    if any(_kind(condition) == "#filter" for condition in level):
        raise PydanticCustomError("filter_depth", "is nested deeper than {limit} levels", {"limit": MAX_DEPTH})


def _raw_conditions(value: object) -> Iterator[object]:
    for clause in _CLAUSES:
        found = value.get(clause) if isinstance(value, Mapping) else getattr(value, clause, None)
        if found is not None:
            yield from found if isinstance(found, list | tuple) else (found,)


def matches(filter: Filter, entity_id: str, metadata: Mapping[str, Any]) -> bool:  # noqa: A002 - the public word
    """Return whether an entity passes the filter. This is the definition that every store is tested against."""
    return (
        all(_holds(condition, entity_id, metadata) for condition in filter.must)
        and not any(_holds(condition, entity_id, metadata) for condition in filter.must_not)
        and (not filter.should or any(_holds(condition, entity_id, metadata) for condition in filter.should))
    )


def _holds(condition: Condition, entity_id: str, metadata: Mapping[str, Any]) -> bool:
    match condition:
        case Filter():
            return matches(condition, entity_id, metadata)
        case HasId():
            return entity_id in condition.has_id
        case IsEmpty():
            return all(v is None or v == [] for v in _values(metadata, condition.is_empty.key))
        case IsNull():
            return any(
                v is None or (isinstance(v, list) and None in v) for v in _values(metadata, condition.is_null.key)
            )
        case _:
            return _field_holds(condition, list(_values(metadata, condition.key)))


def _values(value: object, key: str) -> Iterator[Any]:
    """Yield each value that the key leads to; lists at its end stay whole."""
    found = [value]
    for step in parse_key(key):
        if isinstance(step, str):
            found = [v[step] for v in found if isinstance(v, Mapping) and step in v]
        elif step is None:
            found = [item for v in found if isinstance(v, list) for item in v]
        else:
            found = [v[step] for v in found if isinstance(v, list) and step < len(v)]
    yield from found


def _field_holds(condition: FieldCondition, values: list[Any]) -> bool:
    if condition.values_count is not None:
        return any(_within(condition.values_count, _count(value)) for value in values or [None])
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    if condition.range is not None:
        numbers = (v for v in flat if isinstance(v, int | float) and not isinstance(v, bool))
        return any(_within(condition.range, float(v)) for v in numbers)
    match = condition.match
    return match is not None and any(_match_holds(match, value) for value in flat if value is not None)


def _count(value: object) -> int:
    return len(value) if isinstance(value, list) else int(value is not None)


def _within(bounds: Range | ValuesCount, value: float) -> bool:
    return (
        (bounds.gt is None or value > bounds.gt)
        and (bounds.gte is None or value >= bounds.gte)
        and (bounds.lt is None or value < bounds.lt)
        and (bounds.lte is None or value <= bounds.lte)
    )


def _match_holds(match: Match, value: object) -> bool:
    if match.text is not None:
        words = _words(match.text)
        return isinstance(value, str) and bool(words) and words <= _words(value)
    if match.any is not None:
        return any(_equal(value, wanted) for wanted in match.any)
    if match.except_ is not None:
        return not any(_equal(value, unwanted) for unwanted in match.except_)
    return _equal(value, match.value)


def _equal(value: object, wanted: object) -> bool:
    # JSON's true, 1 and 1.0 are three values, Python's are one.
    return type(value) is type(wanted) and value == wanted


def _words(text: str) -> set[str]:
    return {token.lower() for token in _TOKEN.findall(text)}
