"""From what drivers return to values that JSON can hold, within the limits of a result."""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from sql_synthesizer.engines.ports import JsonValue, Limits
from sql_synthesizer.schema import ColumnKind

INT64: Final = 2**63
OTHER_BYTES: Final = 8
"""About what a value costs that is not text."""


def json_ready(value: Any) -> JsonValue:  # noqa: PLR0911  (one line for each type)
    """Return a value as JSON can hold it, see ``Rows.rows``."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if -INT64 <= value < INT64 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else _not_finite(value)
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, dt.date | dt.time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, Mapping):
        return {str(key): json_ready(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [json_ready(one) for one in value]
    return str(value)  # UUIDs, network addresses, ranges


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _decimal(value: Decimal) -> JsonValue:
    if value.is_nan():
        return "NaN"
    if value.is_infinite():
        return _not_finite(float(value))
    if value.as_tuple().exponent == 0:
        return json_ready(int(value))
    near = float(value)
    return near if Decimal(repr(near)) == value else str(value)


def size_of(value: JsonValue) -> int:
    """Return about how many bytes a value takes as JSON."""
    if isinstance(value, str):
        return len(value) + 3
    if isinstance(value, list):
        return 2 + sum(size_of(one) for one in value)
    if isinstance(value, dict):
        return 2 + sum(len(key) + 4 + size_of(one) for key, one in value.items())
    return OTHER_BYTES


def collect(found: Iterable[Sequence[Any]], limits: Limits) -> tuple[tuple[tuple[JsonValue, ...], ...], bool]:
    """Return the rows that fit into the limits, and whether there were more. Reads at most one row too many."""
    rows: list[tuple[JsonValue, ...]] = []
    size = 0
    for raw in found:
        row = tuple(json_ready(value) for value in raw)
        size += sum(map(size_of, row))
        if len(rows) >= limits.max_rows or size > limits.max_bytes:
            return tuple(rows), True
        rows.append(row)
    return tuple(rows), False


def kind_of_values(values: Iterable[Any]) -> ColumnKind:
    """Return what a column's values are, by the values: where an engine has no types of columns."""
    kinds = {_kind_of(value) for value in values if value is not None}
    if kinds == {ColumnKind.INTEGER, ColumnKind.REAL}:
        return ColumnKind.REAL
    return kinds.pop() if len(kinds) == 1 else ColumnKind.OTHER


def _kind_of(value: Any) -> ColumnKind:
    if isinstance(value, bool):
        return ColumnKind.BOOLEAN
    if isinstance(value, int):
        return ColumnKind.INTEGER
    if isinstance(value, float):
        return ColumnKind.REAL
    return ColumnKind.TEXT if isinstance(value, str) else ColumnKind.OTHER


INTEGERS: Final = """tinyint smallint integer int bigint hugeint utinyint usmallint uinteger ubigint uhugeint int2 int4
    int8 oid mediumint serial bigserial smallserial"""
REALS: Final = "real float double decimal numeric float4 float8 money number"
TEXTS: Final = "text varchar char character nvarchar nchar bpchar string clob citext name enum uuid"
TIMESTAMPS: Final = "timestamp timestamptz datetime timestamp_s timestamp_ms timestamp_ns"
KINDS: Final[Mapping[str, ColumnKind]] = {
    **dict.fromkeys(INTEGERS.split(), ColumnKind.INTEGER),
    **dict.fromkeys(REALS.split(), ColumnKind.REAL),
    **dict.fromkeys(TEXTS.split(), ColumnKind.TEXT),
    **dict.fromkeys(TIMESTAMPS.split(), ColumnKind.TIMESTAMP),
    "boolean": ColumnKind.BOOLEAN,
    "bool": ColumnKind.BOOLEAN,
    "date": ColumnKind.DATE,
    "time": ColumnKind.TIME,
    "timetz": ColumnKind.TIME,
}
"""By the first word of a type."""
QUALIFIERS: Final = frozenset({"native", "unsigned", "signed"})


def kind_of_type(declared: str) -> ColumnKind:
    """Return what a column's values are, by the type as an engine writes it: ``DECIMAL(10, 2)``, ``int8``."""
    if declared.endswith("]"):
        return ColumnKind.OTHER
    words = declared.lower().replace("(", " ").split()
    name = next((word for word in words if word not in QUALIFIERS), "")
    return KINDS.get(name, ColumnKind.OTHER)


def identifier(name: str) -> str:
    """Return a name quoted, in all three dialects."""
    return '"' + name.replace('"', '""') + '"'
