from __future__ import annotations

import json
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.errors import CorruptData, InvalidRequest
from quantum_db.model import Context, Entity, Search, Vector
from quantum_db.stores.decoding import Found, Gathered, Record, found, read_record
from quantum_db.stores.points import (
    MAX_METADATA_DEPTH,
    Place,
    Point,
    candidates,
    check_dimensions,
    check_query,
    high_of,
    in_writes,
    lay_out,
    leftovers,
    payload_key,
    point_id,
    ranked,
    rebuild,
    settled,
)

pure = settings(derandomize=True, deadline=None, max_examples=150)


def vec(*numbers: float) -> Vector:
    return np.asarray(numbers, dtype=np.float32)


def as_found(point: Point, score: float = 0.0) -> Found:
    """What a store answers for a point that was written."""
    return found(point.payload, score, point.vector.tolist())


def hit(entity_id: str, score: float, *, slot: int = 0, vector: Vector | None = None, contexts: Any = ()) -> Found:
    record = Record("", entity_id, True, 1.0, list(contexts), {})
    chosen = vec(score, slot) if vector is None else vector
    return Found(entity_id, record, slot, score, chosen.tobytes())


ENTITY = Entity(
    "doc",
    vec(1, 0),
    (Context("x", 0.1 + 0.2), Context("y", 0.5, vec(0, 1)), Context("z", 0.2)),
    1234.5,
    {"source": "arxiv", "n": [1, None]},
)


# Layout


def test_an_entity_is_a_point_for_each_distinct_vector() -> None:
    points = lay_out(ENTITY, "")
    assert [p.id for p in points] == [point_id("doc", 0), point_id("doc", 1)]
    assert [p.vector.tolist() for p in points] == [[1, 0], [0, 1]]
    assert [p.payload["contexts"] for p in points] == [["x", "z"], ["y"]]
    assert [p.payload["slot"] for p in points] == [0, 1]
    for point in points:
        assert point.payload["entity"] == "doc"
        assert high_of(point.payload) == 2
        assert point.payload["metadata"] == ENTITY.metadata
    assert points[0].payload["record"] == points[1].payload["record"]
    record = read_record(points[0].payload["record"])
    assert record.contexts == [["x", 0.30000000000000004, 0], ["y", 0.5, 1], ["z", 0.2, 0]]
    assert record.slots == 2


def test_ids_are_version_5_uuids_and_differ() -> None:
    assert uuid.UUID(point_id("doc", 0)).version == 5
    ids = [point_id(entity, slot) for entity in ("a", "b", "1:a", "\ud800") for slot in range(12)]
    assert len(set(ids)) == len(ids)
    assert point_id("a", 0) == "509aae41-a4b8-54ff-84ec-f3c91b5391ac", "stored ids must never change"


def test_slots_of_an_older_version_become_copies_of_the_first() -> None:
    points = lay_out(ENTITY, "", Place(0, 4))
    assert [p.payload["slot"] for p in points] == [0, 1, 2, 3]
    assert {high_of(p.payload) for p in points} == {4}
    for copy in points[2:]:
        assert copy.vector is points[0].vector
        assert copy.payload["contexts"] == ["x", "z"]
        assert as_found(copy).slot == 0
    assert leftovers(ENTITY, Place(0, 4)) == [p.id for p in points[2:]]
    assert leftovers(ENTITY, Place(0, 1)) == []


def test_the_digest_tells_versions_apart_that_differ_in_a_vector() -> None:
    other = Entity(ENTITY.id, vec(0, -1), ENTITY.contexts, ENTITY.coherence_time_ms, ENTITY.metadata)
    records = [lay_out(e, "")[0].payload["record"] for e in (ENTITY, other, ENTITY)]
    assert records[0] == records[2] != records[1]


@pure
@given(weights=st.lists(st.floats(0, 1), max_size=4), own=st.booleans(), coherence=st.floats(1e-9, 1e300))
def test_an_entity_is_rebuilt_exactly(weights: list[float], own: bool, coherence: float) -> None:
    rng = np.random.default_rng(len(weights))
    contexts = tuple(
        Context(f"c{i}", w, rng.random(2, np.float32) if i % 2 or not own else None) for i, w in enumerate(weights)
    )
    vector = rng.random(2, np.float32) if own or not weights else None
    entity = Entity("e", vector, contexts, coherence, {"w": weights})
    points = [as_found(p) for p in lay_out(entity, "")]
    whole = Gathered(points[0].text, points[0].record, {p.slot: p.vector for p in points})
    assert whole.missing() == []
    got = rebuild(whole)
    assert (got.id, got.coherence_time_ms, got.metadata) == ("e", coherence, {"w": weights})
    assert [(c.name, c.weight) for c in got.contexts] == [(c.name, c.weight) for c in contexts]
    for mine, theirs in zip((got, *got.contexts), (entity, *contexts), strict=True):
        np.testing.assert_array_equal(mine.vector, theirs.vector)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"a": float("nan")}, "is not JSON"),
        ({"a": 2**64}, "is not JSON"),
        ({"a": object()}, "is not JSON"),
        ({"a": {1: 2}}, "is not JSON"),
        (json.loads('{"a": ' + "[" * 64 + "]" * 64 + "}"), f"is nested deeper than {MAX_METADATA_DEPTH} levels"),
    ],
)
def test_metadata_that_is_not_json_is_told(metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as error:
        lay_out(Entity("e", vec(1), metadata=metadata), "vectors[7]")
    assert error.value.errors[0].path == "vectors[7].metadata"


def test_wide_metadata_is_not_deep() -> None:
    assert lay_out(Entity("e", vec(1), metadata={"a": [[] for _ in range(200)]}), "")


def test_dimensions() -> None:
    assert check_dimensions([ENTITY], None) == 2
    assert check_dimensions([ENTITY, ENTITY], 2) == 2
    with pytest.raises(InvalidRequest, match=r"vectors\[0\]\.vector: has 2 numbers, where the store's vectors have 3"):
        check_dimensions([ENTITY], 3)
    with pytest.raises(
        InvalidRequest, match=r"vectors\[1\]\.vector: has 3 numbers, where the first vector given has 2"
    ):
        check_dimensions([ENTITY, Entity("b", vec(1, 2, 3))], None)
    with pytest.raises(InvalidRequest, match=r"vectors\[0\]\.contexts\[1\]\.vector: has 1 numbers"):
        check_dimensions([Entity("b", vec(1, 2), (Context("x", 0.5), Context("y", 0.5, vec(1))))], 2)
    check_query(Search(vec(1, 2), 1), 2)
    with pytest.raises(InvalidRequest, match="has 1 x 2 numbers, the store's vectors have 2"):
        check_query(Search(np.ones((1, 2), np.float32), 1), 2)


def test_writes_are_bounded_and_entities_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantum_db.stores.points._FLOATS_A_WRITE", 10)
    laid_out = [lay_out(ENTITY, "", Place(0, high)) for high in (2, 3, 2, 9, 2)]
    assert [len(portion) for portion in in_writes(laid_out, 2)] == [5, 2, 9, 2]
    assert list(in_writes([], 2)) == []


@pytest.mark.parametrize(
    ("payload", "vector"),
    [
        (None, [1.0]),
        ({"slot": 0}, [1.0]),
        ({"slot": 0, "record": "{"}, [1.0]),
        ({"slot": 0, "record": "[1,2]"}, [1.0]),
        ({"slot": "0", "record": lay_out(ENTITY, "")[0].payload["record"]}, [1.0]),
        ({"slot": 0, "record": lay_out(ENTITY, "")[0].payload["record"]}, None),
    ],
)
def test_a_point_that_is_not_ours_is_corrupt(payload: Any, vector: Any) -> None:
    with pytest.raises(CorruptData):
        found(payload, 0.0, vector)
    with pytest.raises(CorruptData):
        high_of(payload)


def test_payload_keys_are_quoted() -> None:
    assert payload_key('a.b[].c-d[0]."e f"') == 'metadata."a"."b"[]."c-d"[0]."e f"'


# Answers


def test_a_search_is_settled_when_nothing_below_can_come_in() -> None:
    points = [hit("a", 0.9), hit("a", 0.8, slot=1), hit("b", 0.7), hit("c", 0.6)]
    assert settled(points, 3, asked=5), "the store has no more"
    assert settled(points, 2, asked=4)
    assert not settled(points, 3, asked=4), "c might be tied with one that was not returned"
    assert not settled(points[:2], 2, asked=2), "one entity with many points"
    tied = [hit("a", 0.9), *(hit(f"t{i}", 0.5) for i in range(400))]
    assert not settled(tied[:50], 5, asked=50)
    assert settled(tied[:296], 5, asked=296), "an endless tie"


def test_the_same_vector_is_a_tie_though_scores_differ_in_the_last_bit() -> None:
    same = vec(1, 2)
    points = [hit("c", 0.5000001, vector=same), hit("b", 0.5, vector=same), hit("a", 0.4)]
    assert [p.record.entity_id for p in ranked(points, 9)] == ["b", "c", "a"]
    assert not settled([hit("d", 0.9), *points[:2]], 2, asked=3)


@pure
@given(
    points=st.lists(
        st.builds(
            lambda e, s, slot: hit(e, s, slot=slot),
            st.sampled_from("abcde"),
            st.sampled_from([0.1, 0.5, 0.9]),
            st.integers(0, 3),
        ),
        max_size=20,
    ),
    limit=st.integers(0, 6),
)
def test_ranking_keeps_the_best_point_of_each_entity(points: list[Found], limit: int) -> None:
    best = ranked(points, limit)
    ids = [p.record.entity_id for p in best]
    assert len(ids) == min(limit, len({p.record.entity_id for p in points})) == len(set(ids))
    assert [(-p.score, p.record.entity_id) for p in best] == sorted((-p.score, p.record.entity_id) for p in best)
    for point in best:
        assert point.score == max(p.score for p in points if p.record.entity_id == point.record.entity_id)


def test_rows() -> None:
    shared, own = (as_found(p) for p in lay_out(ENTITY, ""))
    plain = as_found(lay_out(Entity("plain", vec(1, 1)), "")[0])
    whole = {"doc": Gathered(shared.text, shared.record, {0: shared.vector, 1: own.vector})}

    def rows(search: Search, *best: Found) -> list[tuple[str | None, float, list[float]]]:
        got = candidates(search, best, whole)
        assert got.owner.dtype == np.int32
        assert got.weights.dtype == np.float64
        return list(zip(got.contexts, got.weights.tolist(), got.vectors.tolist(), strict=True))

    query = vec(1, 0)
    assert rows(Search(query, 1), shared) == [("x", 0.30000000000000004, [1, 0])]
    assert rows(Search(query, 1), own) == [("y", 0.5, [0, 1])]
    assert rows(Search(query, 1, contexts=("z",)), shared) == [("z", 0.2, [1, 0])]
    assert rows(Search(query, 1, all_contexts=True), own, plain) == [
        ("x", 0.30000000000000004, [1, 0]),
        ("y", 0.5, [0, 1]),
        ("z", 0.2, [1, 0]),
        (None, 1.0, [1, 1]),
    ]
    both = candidates(Search(query, 2, all_contexts=True), [own, plain], whole)
    assert both.owner.tolist() == [0, 0, 0, 1]
    assert both.entity_ids == ("doc", "plain")
    assert both.metadata == (ENTITY.metadata, {})
    assert both.coherence_time_ms[0] == 1234.5


def test_an_entity_that_was_deleted_meanwhile_is_left_out() -> None:
    gone = as_found(lay_out(ENTITY, "")[0])
    plain = as_found(lay_out(Entity("plain", vec(1, 1)), "")[0])
    got = candidates(Search(vec(1, 0), 2, all_contexts=True), [gone, plain], {})
    assert got.entity_ids == ("plain",)
    assert got.owner.tolist() == [0]


def test_no_candidates() -> None:
    got = candidates(Search(vec(1, 0), 2), [], {})
    assert got.vectors.shape == (0, 2)
    assert got.weights.shape == got.owner.shape == (0,)
