"""Batches as bytes: what comes out is what went in, and what is not whole is refused in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_db.commits.bodies import batch_entities
from quantum_db.errors import InvalidRequest
from quantum_db.frames import batch_of, frame_of

FLOATS = st.floats(-1e6, 1e6, width=32)


def frame_with(header: Any, tail: bytes) -> bytes:
    text = orjson.dumps(header)
    return len(text).to_bytes(4, "little") + text + tail


@given(st.data(), st.integers(1, 8), st.integers(1, 5), st.booleans())
def test_a_batch_comes_back_as_it_was(data: st.DataObject, dimension: int, count: int, transaction: bool) -> None:
    vectors = [
        np.array(data.draw(st.lists(FLOATS, min_size=dimension, max_size=dimension)), np.float32) for _ in range(count)
    ]
    body = {
        "vectors": [
            {"id": f"e{i}", "vector": vector, "metadata": {"n": 2**62 + i}} for i, vector in enumerate(vectors)
        ],
        "transaction": transaction,
    }
    frame = frame_of(body)
    assert frame is not None
    found = batch_of(frame)
    assert found["transaction"] is transaction
    for item, vector in zip(found["vectors"], vectors, strict=True):
        np.testing.assert_array_equal(item.pop("vector"), vector)
    assert found["vectors"] == [{"id": f"e{i}", "metadata": {"n": 2**62 + i}} for i in range(count)]


@pytest.mark.parametrize(
    "vectors",
    [
        [[0.1, 0.2]],
        [np.array([0.1, 0.2])],
        [np.zeros((2, 2), np.float32)],
        [np.ones(2, np.float32), np.ones(3, np.float32)],
        [np.ones(2, np.float32), None],
    ],
    ids=["list", "float64", "matrix", "lengths", "missing"],
)
def test_what_cannot_be_a_frame_is_none(vectors: list[Any]) -> None:
    assert frame_of({"vectors": [{"id": str(i), "vector": vector} for i, vector in enumerate(vectors)]}) is None


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (b"\x00\x00", "too short for the length"),
        (b"\xff\xff\xff\xff{}", "ends within its header"),
        (b"\x02\x00\x00\x00{]", "header is not valid JSON"),
        (
            frame_with({"vectors": [{"id": "a"}], "dimension": 2}, bytes(7)),
            "7 bytes follow the frame's header; 1 vectors",
        ),
        (frame_with({"vectors": [{"id": "a"}], "dimension": 0}, b""), "dimension: must be greater than or equal to 1"),
        (frame_with({"vectors": [], "dimension": 2}, b""), "vectors: "),
        (
            frame_with({"vectors": [{"id": "a", "vector": [1]}], "dimension": 1}, bytes(4)),
            r"vectors\[0\].vector: stands",
        ),
        (frame_with({"vectors": [{"id": "a"}], "dimension": 1, "keys": []}, bytes(4)), "keys: is not a known field"),
    ],
)
def test_what_is_wrong_with_a_frame_is_told(frame: bytes, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        batch_of(frame)


def test_each_entity_of_a_frame_is_checked_as_in_json() -> None:
    matrix = np.array([[1.0, 0.0], [np.nan, 1.0], [0.0, 0.0], [3.0, 4.0]], "<f4")
    header = {"vectors": [{"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "d", "weight": 1}], "dimension": 2}
    _, found = batch_entities(batch_of(frame_with(header, matrix.tobytes())))
    assert [isinstance(one, InvalidRequest) for one in found] == [False, True, True, True]
