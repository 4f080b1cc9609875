"""Batches of entities as bytes: what JSON says of them, then their vectors as float32, so that no number is text.

========================  ==============================================================================
bytes                     what
========================  ==============================================================================
4                         n, little-endian uint32
n                         JSON: the body of a batch whose entities have no ``vector``, and ``dimension``
4 * dimension * entities  little-endian float32: the vector of each entity, in their order
========================  ==============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import numpy as np
import orjson
from pydantic import Field

from quantum_db.commits.bodies import MAX_BATCH
from quantum_db.errors import InvalidRequest
from quantum_db.requests import MAX_DIMENSION, Body, parse

FRAME: Final = "application/octet-stream"
_LENGTH: Final = np.dtype("<u4")
_NUMBER: Final = np.dtype("<f4")


class FrameHeader(Body):
    """The JSON of a frame."""

    vectors: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_BATCH)]
    dimension: Annotated[int, Field(ge=1, le=MAX_DIMENSION)]
    transaction: bool = False


def frame_of(body: Mapping[str, Any]) -> bytes | None:
    """Return a batch as a frame; None where it cannot be one: a vector that is no float32 array, or of another length.

    Args:
        body: of a batch, whose vectors are arrays.

    Raises:
        TypeError: the rest of it is not JSON with 64-bit numbers.
    """
    vectors = [item.get("vector") for item in body["vectors"]]
    arrays = [one for one in vectors if isinstance(one, np.ndarray) and one.dtype == np.float32 and one.ndim == 1]
    if len(arrays) < len(vectors) or len({one.size for one in arrays}) != 1:
        return None
    items = [{name: value for name, value in item.items() if name != "vector"} for item in body["vectors"]]
    header = orjson.dumps(
        {**body, "vectors": items, "dimension": arrays[0].size},
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    matrix = np.stack(arrays).astype(_NUMBER, copy=False)
    return b"".join((np.array(len(header), _LENGTH).tobytes(), header, matrix.tobytes()))


def batch_of(frame: bytes) -> dict[str, Any]:
    """Return the body of the batch that a frame stands for; its vectors are rows of one array.

    Raises:
        InvalidRequest: the frame is not whole, or its header is wrong. Entities are checked where batches are.
    """
    if len(frame) < _LENGTH.itemsize:
        raise InvalidRequest("the frame is too short for the length of its header, a little-endian uint32")
    start = _LENGTH.itemsize + int(np.frombuffer(frame, _LENGTH, 1)[0])
    if start > len(frame):
        raise InvalidRequest(f"the frame ends within its header, which is said to end after {start} bytes")
    header = parse(FrameHeader, _decoded(frame[_LENGTH.itemsize : start]))
    count, wanted = len(header.vectors), len(header.vectors) * header.dimension * _NUMBER.itemsize
    if len(frame) - start != wanted:
        told = f"{len(frame) - start} bytes follow the frame's header"
        raise InvalidRequest(f"{told}; {count} vectors of {header.dimension} float32 are {wanted}")
    matrix = np.frombuffer(frame, _NUMBER, offset=start).reshape(count, header.dimension)
    items = []
    for place, (item, vector) in enumerate(zip(header.vectors, matrix, strict=True)):
        if "vector" in item:
            raise InvalidRequest.at(f"vectors[{place}].vector", "stands behind the header; leave it out here")
        items.append({**item, "vector": vector})
    return {"vectors": items, "transaction": header.transaction}


def _decoded(text: bytes) -> object:
    try:
        raw: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the frame's header is not valid JSON: {error}") from None
    return raw
