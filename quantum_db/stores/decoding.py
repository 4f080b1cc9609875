"""What a point that a store answered with means: an entity's record, one of its vectors, and a score."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

import orjson

from quantum_db.errors import CorruptData

# Payload fields.
RECORD: Final = "record"
SLOT: Final = "slot"
BORN: Final = "born"

DECODED_BYTES: Final = 32 * 2**20
_ENTRY_BYTES: Final = 1_000
"""What a record takes besides its text and vectors, about."""


@dataclass(frozen=True)
class Record:
    """An entity without its vectors.

    Attributes:
        digest: of the vectors, so that points of two versions of an entity are never mixed.
        own: whether the entity has a vector of its own, which then is slot 0.
        contexts: name, weight and slot of each, in the entity's order.
        version: number of the commit that wrote it; older records have none.

    """

    digest: str
    entity_id: str
    own: bool
    coherence_time_ms: float
    contexts: list[tuple[str, float, int]]
    metadata: dict[str, Any]
    version: int = 0

    @cached_property
    def slots(self) -> int:
        """Number of distinct vectors."""
        return max([int(self.own)] + [slot + 1 for _, _, slot in self.contexts])


@dataclass(slots=True, eq=False)
class Found:
    """One point of a store's answer: its score (0 when it was read by id), record and vector (as float32 bytes)."""

    text: str
    record: Record
    slot: int
    score: float
    vector: bytes
    born: int = 0


@dataclass(slots=True, eq=False)
class Gathered:
    """An entity being put together from its points; complete when every slot has its vector."""

    text: str
    record: Record
    vectors: dict[int, bytes]
    born: int = 0

    def missing(self) -> list[int]:
        """Return the slots that have not been read yet."""
        return [slot for slot in range(self.record.slots) if slot not in self.vectors]


def read_record(text: object) -> Record:
    """Return the record of a point. Raises CorruptData when it is not one."""
    try:
        return Record(*orjson.loads(text))  # type: ignore[arg-type] # whatever the store gave
    except (TypeError, ValueError) as error:
        raise CorruptData(f"A stored point has no readable record: {error}") from error


def found(payload: Mapping[str, Any] | None, score: float, vector: object) -> Found:
    """Return a point as the store answered it. Raises CorruptData when its payload is not ours."""
    given = payload or {}
    text, slot = given.get(RECORD), given.get(SLOT)
    if not isinstance(text, str) or not isinstance(slot, int) or not isinstance(vector, list):
        raise CorruptData("A stored point lacks its record, slot or vector")
    record = read_record(text)
    # A slot above the entity's own is a copy of slot 0.
    return Found(text, record, slot if slot < record.slots else 0, score, packed(vector), given.get(BORN) or 0)


def packed(vector: list[float]) -> bytes:
    """Return a list of floats as float32. Three times as fast as NumPy, and the list can go while it is in cache."""
    return struct.pack(f"{len(vector)}f", *vector)


class Answered(Protocol):
    """A point as the library gives it; reading its vector makes a list of its floats."""

    @property
    def payload(self) -> Mapping[str, Any] | None:
        """Its payload."""

    @property
    def score(self) -> float:
        """How near it is."""

    @property
    def vector(self) -> object:
        """Its vector, a list of floats."""


@dataclass(slots=True)
class _Decoded:
    record: Record
    vectors: dict[int, bytes]


class Decoder:
    """Decodes points, and knows again those that it has decoded: most of a search's time went into that.

    A record's text tells its vectors by their digest, so that what is known never differs from what is stored. Nobody
    may change the metadata of what this returns.
    """

    def __init__(self, most_bytes: int = DECODED_BYTES) -> None:
        """Know nothing yet. Of more than ``most_bytes``, what came first goes first."""
        self._most_bytes = most_bytes
        self._bytes = 0
        self._known: dict[str, _Decoded] = {}

    def found(self, point: Answered) -> Found:
        """Return a point as the store answered it. Raises CorruptData when its payload is not ours."""
        given = point.payload or {}
        text, slot = given.get(RECORD), given.get(SLOT)
        if isinstance(text, str) and isinstance(slot, int) and (known := self._known.get(text)) is not None:
            record = known.record
            place = slot if slot < record.slots else 0
            packed_vector = known.vectors.get(place)
            if packed_vector is not None:
                return Found(text, record, place, point.score, packed_vector, given.get(BORN) or 0)
        decoded = found(point.payload, point.score, point.vector)
        self._keep(decoded)
        return decoded

    def _keep(self, point: Found) -> None:
        known = self._known.get(point.text)
        if known is None:
            known = self._known[point.text] = _Decoded(point.record, {})
            self._bytes += _size(point.text, known)
        known.vectors[point.slot] = point.vector
        self._bytes += len(point.vector)
        while self._bytes > self._most_bytes:
            text = next(iter(self._known))
            self._bytes -= _size(text, self._known.pop(text))


def _size(text: str, decoded: _Decoded) -> int:
    return _ENTRY_BYTES + 4 * len(text) + sum(map(len, decoded.vectors.values()))
