"""How entities lie in a point store, and what a point store's answers mean: the part that all adapters share.

An entity is one point for each of its distinct vectors ("slots", in the order of ``Entity.distinct_vectors``), under
ids computed from the entity's id, so that reading and deleting by id never scans. Its points are written by one
operation, which is what makes a replacement atomic: where the older version had more slots, their points are
overwritten with copies of slot 0 by the same operation and deleted afterwards. A process killed in between leaves
copies that a search folds into their entity, never a vector of the older version.

The record that an entity is rebuilt from is JSON text in one payload field. Qdrant reads payload numbers back with an
error in the last bit (one in five float64), and a string crosses its bindings faster than nested objects.

Where others search the store by themselves, an entity has several versions for a while. A transaction writes its
version under ids of its own, ``born`` with it, and marks the one before as ``died``. A reader who looks at commit
V sees what was born at V or earlier and has not died by then, which is one version of an entity at most:

    version   written plainly     by transaction 5        by transaction 9
    marks     died: 5             born: 5, died: 9        born: 9
    seen at   V < 5               5 <= V < 9              9 <= V

What is written plainly replaces the latest version in its place, and keeps its birth.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from quantum_db.errors import CorruptData, InvalidRequest
from quantum_db.filters import parse_key
from quantum_db.model import Candidates, Context, Entity, Search, Vector
from quantum_db.stores.decoding import BORN, RECORD, SLOT, Found, Gathered, Record

# Payload fields.
ENTITY: Final = "entity"
HIGH: Final = "high"
CONTEXTS: Final = "contexts"
METADATA: Final = "metadata"
DIED: Final = "died"

# Qdrant writes payloads nested deeper than about 120 levels but cannot read them back, nor its log with them.
MAX_METADATA_DEPTH: Final = 64
# How many points a search of the index looks at. On 24,728 sentence embeddings the nearest 50 are found with recall
# .976 by default (about 100), .985 with 128 and .996 with 256, which adds 0.3 ms to a search.
SEARCH_EF: Final = 256
_FLOATS_A_WRITE: Final = 1_000_000
_FLOATS_A_READ: Final = 1_000_000
_HALF: Final = 8
_NAMESPACE: Final = uuid.UUID("6a2f1c04-5d0b-4a57-9a3e-7c1f6e0b9d42")

_Row = tuple[str | None, float, bytes]


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """What is written: one vector of an entity with its payload."""

    id: str
    vector: Vector
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the latest version of an entity is: its birth, which is in the ids, and how many slots may have points.

    No slots: there is none, and one that is written may be put there.
    """

    born: int
    high: int


NOWHERE: Final = Place(0, 0)


def point_id(entity_id: str, slot: int, born: int = 0) -> str:
    """Return the id of one point of an entity: a version 5 UUID. Its first half is the same for all versions."""
    digest = _digest(f"{slot}:{entity_id}")
    if born:
        digest = digest[:_HALF] + _digest(f"{born}:{slot}:{entity_id}")
    return str(uuid.UUID(bytes=digest[:16], version=5))


def scroll_start(head_id: str) -> str:
    """Return an id that is below those of all versions of the entity with this first point, and above all others."""
    return str(uuid.UUID(bytes=uuid.UUID(head_id).bytes[:_HALF] + bytes(16 - _HALF)))


def is_point_id(text: str) -> bool:
    """Tell whether a text is written like the id of a point."""
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) is not None


def _digest(name: str) -> bytes:
    # uuid.uuid5 refuses the lone surrogates that a JSON string may hold; an unknown id must be unknown, not an error.
    return hashlib.sha1(_NAMESPACE.bytes + name.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()


def check_dimensions(entities: Sequence[Entity], stored: int | None) -> int:
    """Return the one dimension of all vectors, or ``stored`` when there are none.

    Raises InvalidRequest for the first vector that is not of the store's dimension (in an empty store, of the first
    entity's).
    """
    expected = stored if stored is not None else entities[0].dimension
    for i, entity in enumerate(entities):
        for path, vector in _vectors_of(entity):
            if vector.ndim != 1 or vector.shape[0] != expected:
                whose = "the store's vectors have" if stored is not None else "the first vector given has"
                raise InvalidRequest.at(
                    f"vectors[{i}].{path}", f"has {_shape(vector)} numbers, where {whose} {expected}"
                )
    return expected


def check_query(search: Search, stored: int) -> None:
    """Raise InvalidRequest when the query's dimension is not the store's."""
    if search.vector.shape != (stored,):
        raise InvalidRequest.at("vector", f"has {_shape(search.vector)} numbers, the store's vectors have {stored}")


def _shape(vector: Vector) -> str:
    return " x ".join(map(str, vector.shape))


def _vectors_of(entity: Entity) -> Iterator[tuple[str, Vector]]:
    if entity.vector is not None:
        yield "vector", entity.vector
    for i, context in enumerate(entity.contexts):
        if context.vector is not None:
            yield f"contexts[{i}].vector", context.vector


def lay_out(entity: Entity, path: str, place: Place = NOWHERE) -> list[Point]:
    """Return the points of an entity.

    Args:
        entity: what is written.
        path: where the entity stands in the request, for errors.
        place: where it is written; slots that may hold points of an older one are written, too.

    Raises:
        InvalidRequest: the entity's metadata is not JSON that every store can hold.

    """
    groups = entity.distinct_vectors()
    record = _record_text(entity, path)
    high = max(place.high, len(groups))
    birth = {BORN: place.born} if place.born else {}
    points = []
    for slot in range(high):
        vector, contexts = groups[slot if slot < len(groups) else 0]
        payload = {
            ENTITY: entity.id,
            SLOT: slot,
            HIGH: high,
            CONTEXTS: [context.name for context in contexts],
            METADATA: dict(entity.metadata),
            RECORD: record,
            **birth,
        }
        points.append(Point(point_id(entity.id, slot, place.born), vector, payload))
    return points


def leftovers(entity: Entity, place: Place) -> list[str]:
    """Return the ids of the copies that ``lay_out`` made for the sake of an older version."""
    slots = range(len(entity.distinct_vectors()), place.high)
    return [point_id(entity.id, slot, place.born) for slot in slots]


def in_writes(entities: Sequence[list[Point]], dimension: int, most: int | None = None) -> Iterator[list[Point]]:
    """Yield the points in portions of bounded size, and of ``most`` points; an entity's points stay together."""
    fitting = max(1, _FLOATS_A_WRITE // dimension)
    most = fitting if most is None else min(most, fitting)
    portion: list[Point] = []
    for points in entities:
        if portion and len(portion) + len(points) > most:
            yield portion
            portion = []
        portion += points
    if portion:
        yield portion


def within_a_read(heads: Sequence[Found], dimension: int) -> int:
    """Return how many of the entities with these first points may be read at once, for bounded memory; at least 1."""
    floats = 0
    for place, head in enumerate(heads):
        floats += head.record.slots * dimension
        if floats > _FLOATS_A_READ and place:
            return place
    return len(heads)


def _record_text(entity: Entity, path: str) -> str:
    slot = int(entity.vector is not None)
    contexts = []
    for context in entity.contexts:
        contexts.append((context.name, float(context.weight), 0 if context.vector is None else slot))
        slot += context.vector is not None
    digest = hashlib.blake2b(digest_size=8)
    for vector, _ in entity.distinct_vectors():
        digest.update(np.ascontiguousarray(vector, dtype=np.float32).data)
    own = entity.vector is not None
    coherence_time_ms, metadata = float(entity.coherence_time_ms), dict(entity.metadata)
    content = [digest.hexdigest(), entity.id, own, coherence_time_ms, contexts, metadata, entity.version]
    try:
        text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        # Each of the two lets something pass that is not JSON for the other: number keys, integers above 64 bits.
        orjson.dumps(content)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest.at(f"{path}.metadata".lstrip("."), f"is not JSON with 64-bit numbers ({error})") from None
    if text.count("[") + text.count("{") > MAX_METADATA_DEPTH and _depth(entity.metadata) > MAX_METADATA_DEPTH:
        raise InvalidRequest.at(f"{path}.metadata".lstrip("."), f"is nested deeper than {MAX_METADATA_DEPTH} levels")
    return text


def check_storable(entity: Entity, path: str) -> None:
    """Raise the InvalidRequest that ``lay_out`` would raise."""
    _record_text(entity, path)


def _depth(value: object) -> int:
    """Return how deep a JSON value is nested; a scalar has depth 0."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list | tuple)]:
        depth += 1
        level = [item for v in level for item in (v.values() if isinstance(v, dict) else v)]
    return depth


def high_of(payload: Mapping[str, Any] | None) -> int:
    """Return the ``HIGH`` field of a first slot. Raises CorruptData when it is not there."""
    high = (payload or {}).get(HIGH)
    if not isinstance(high, int):
        raise CorruptData("A stored point lacks its number of slots")
    return high


def place_of(payload: Mapping[str, Any] | None) -> Place:
    """Return the place that the first slot of one version tells of. Raises CorruptData when it is not there."""
    died = (payload or {}).get(DIED)
    if died is not None:
        # One that is written after the deletion must not be seen together with the deleted one.
        return Place(int(died), 0)
    return Place(int((payload or {}).get(BORN) or 0), high_of(payload))


def latest(places: Iterable[Place]) -> Place:
    """Return the place of the latest version, of those of all versions."""
    return max(places, key=lambda place: (place.high > 0, place.born))


def rebuild(whole: Gathered) -> Entity:
    """Return the entity."""
    record = whole.record
    vectors = {slot: np.frombuffer(vector, dtype=np.float32) for slot, vector in whole.vectors.items()}
    contexts = tuple(
        Context(name, weight, None if record.own and slot == 0 else vectors[slot])
        for name, weight, slot in record.contexts
    )
    own = vectors[0] if record.own else None
    return Entity(record.entity_id, own, contexts, record.coherence_time_ms, record.metadata, record.version)


def settled(points: Sequence[Found], limit: int, asked: int) -> bool:
    """Return whether the nearest ``limit`` entities are known from the nearest ``asked`` points.

    They are when the store has no more points, or when enough entities score above the last point: then neither an
    entity with many points nor a tie can bring in another. Of ties that go on for very long, any may stand last.
    """
    if len(points) < asked:
        return True
    last = points[-1]
    above = {p.record.entity_id for p in points if p.score > last.score and p.vector != last.vector}
    if len(above) >= limit:
        return True
    return asked >= 8 * limit + 256 and len({point.record.entity_id for point in points}) >= limit


def ranked(points: Sequence[Found], limit: int) -> list[Found]:
    """Return each entity's best point, best first; ties in the order of entity ids, then slots.

    Points with the same vector are tied whatever their scores are: those may differ in the last bit, by the place
    that a vector has in memory.
    """
    scores: dict[bytes, float] = {}
    best: dict[str, Found] = {}
    for point in sorted(points, key=lambda p: p.score, reverse=True):
        point.score = scores.setdefault(point.vector, point.score)
    for point in sorted(points, key=lambda p: (-p.score, p.record.entity_id, p.slot)):
        best.setdefault(point.record.entity_id, point)
    return list(best.values())[:limit]


def candidates(search: Search, best: Sequence[Found], whole: Mapping[str, Gathered]) -> Candidates:
    """Return the answer to a search.

    Args:
        search: what was asked.
        best: the entities' best points, best first.
        whole: for ``all_contexts``, the entities of several slots that were read completely. One that is not in it
            has been deleted meanwhile and is left out.

    """
    owner: list[int] = []
    rows: list[_Row] = []
    records: list[Record] = []
    for point in best:
        record, own_rows = _rows(search, point, whole)
        if own_rows:
            owner += [len(records)] * len(own_rows)
            rows += own_rows
            records.append(record)
    vectors = np.frombuffer(b"".join([vector for _, _, vector in rows]), dtype=np.float32)
    return Candidates(
        entity_ids=tuple(record.entity_id for record in records),
        metadata=tuple(record.metadata for record in records),
        coherence_time_ms=tuple(record.coherence_time_ms for record in records),
        owner=np.asarray(owner, dtype=np.int32),
        contexts=tuple(name for name, _, _ in rows),
        weights=np.asarray([weight for _, weight, _ in rows], dtype=np.float64),
        vectors=vectors.reshape(len(rows), len(search.vector)),
    )


def _rows(search: Search, point: Found, whole: Mapping[str, Gathered]) -> tuple[Record, list[_Row]]:
    record = point.record
    if not record.contexts and not search.contexts:
        return record, [(None, 1.0, point.vector)]
    here: list[_Row] = [(name, weight, point.vector) for name, weight, slot in record.contexts if slot == point.slot]
    if len(search.contexts) == 1:
        return record, _among(search, here)
    if not wants_all(search) or not record.contexts:
        return record, [max(here, key=lambda row: row[1], default=(None, 1.0, point.vector))]
    if record.slots == 1:
        return record, _among(search, here)
    if record.entity_id not in whole:
        return record, []
    read = whole[record.entity_id]
    return read.record, _among(search, [(name, w, read.vectors[slot]) for name, w, slot in read.record.contexts])


def wants_all(search: Search) -> bool:
    """Return whether the answer may need vectors of an entity besides the one that was found."""
    return len(search.contexts) > 1 or (search.all_contexts and not search.contexts)


def _among(search: Search, rows: list[_Row]) -> list[_Row]:
    """Return the rows whose context is asked for; all where none is."""
    return [row for row in rows if row[0] in search.contexts] if search.contexts else rows


def payload_key(key: str) -> str:
    """Return the path of a metadata key within a payload, every name quoted so that any name is allowed."""
    path = METADATA
    for step in parse_key(key):
        path += f'."{step}"' if isinstance(step, str) else f"[{'' if step is None else step}]"
    return path
