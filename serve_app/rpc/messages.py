"""Messages and the API's JSON, each made of the other: by the names of their fields, so that none is forgotten.

A field ``x_json`` of a message is the JSON text of what the API has under ``x``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar

import numpy as np
import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from quantum_db.access.sizes import SizeLimits
from quantum_db.errors import BodyTooLarge, InvalidRequest

Json = dict[str, Any]
Descriptor = Any
"""Of a message's type; the library has two classes for it, which share no base."""
SomeMessage = TypeVar("SomeMessage", bound=Message)

JSON_SUFFIX: Final = "_json"


@dataclass(frozen=True, slots=True)
class _Field:
    """How a field is read and written.

    Attributes:
        name: in the message; ``key`` is its name in the API's JSON.
        inner: the type of the messages in it, None where it holds plain values.
    """

    name: str
    key: str
    is_json: bool
    is_vector: bool
    is_repeated: bool
    inner: Descriptor | None


@cache
def _fields(kind: Descriptor) -> Mapping[str, _Field]:
    return {
        field.name: _Field(
            name=field.name,
            key=field.name.removesuffix(JSON_SUFFIX),
            is_json=field.name.endswith(JSON_SUFFIX),
            is_vector=field.is_repeated and field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT,
            is_repeated=field.is_repeated,
            inner=field.message_type,
        )
        for field in kind.fields
    }


def decoded(kind: type[SomeMessage], raw: bytes, max_bytes: int | None) -> SomeMessage:
    """Return the message that bytes are.

    Raises:
        BodyTooLarge: they are more than ``max_bytes``.
        InvalidRequest: they are no such message.
    """
    if max_bytes is not None and len(raw) > max_bytes:
        raise BodyTooLarge(f"the message is larger than {max_bytes} bytes; send fewer vectors at a time")
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise InvalidRequest(f"the bytes are no {kind.DESCRIPTOR.name}: {error}") from None


def granted_bytes(sizes: SizeLimits, max_bytes: int) -> int:
    """Return how large a message may be."""
    return max_bytes if sizes.body_bytes is None else min(max_bytes, sizes.body_bytes)


def body_of(message: Message, at: str = "") -> Json:
    """Return a request as the API takes it: what is set in it, by name. Vectors are (d,) float32 arrays.

    Args:
        at: where the message is, as a path that ends in a dot; for errors.

    Raises:
        InvalidRequest: a JSON text is none.
    """
    fields = _fields(message.DESCRIPTOR)
    body: Json = {}
    for descriptor, value in message.ListFields():
        field = fields[descriptor.name]
        body[field.key] = _value_of(field, value, f"{at}{field.name}")
    return body


def _value_of(field: _Field, value: Any, path: str) -> Any:
    if field.is_vector:
        return np.array(value, dtype=np.float32)
    if field.is_json:
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest.at(path, f"is not valid JSON: {error}") from None
    if field.inner is None:
        return list(value) if field.is_repeated else value
    if field.is_repeated:
        return [body_of(one, f"{path}[{place}].") for place, one in enumerate(value)]
    return body_of(value, f"{path}.")


def message_of(kind: type[SomeMessage], view: Mapping[str, Any]) -> SomeMessage:
    """Return an answer of the API as a message. What is None is left unset; what has no field is left out."""
    return kind(**_arguments(kind.DESCRIPTOR, view))


def _arguments(kind: Descriptor, view: Mapping[str, Any]) -> Json:
    found: Json = {}
    for field in _fields(kind).values():
        value = view.get(field.key)
        if value is None:
            continue
        if field.is_json:
            value = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
        elif field.inner is not None:
            inner = field.inner
            value = [_arguments(inner, one) for one in value] if field.is_repeated else _arguments(inner, value)
        found[field.name] = value
    return found


def without_field(kind: Descriptor, view: Mapping[str, Any], at: str = "") -> list[str]:
    """Return the paths in an answer of the API for which a message has no field."""
    fields = {field.key: field for field in _fields(kind).values()}
    missing = []
    for name, value in view.items():
        field = fields.get(name)
        if field is None:
            missing.append(f"{at}{name}")
        elif field.inner is not None and value is not None:
            for one in value if field.is_repeated else [value]:
                missing += without_field(field.inner, one, f"{at}{name}.")
    return missing
