"""Batches of events: made from columns, joined, split over shards, and as compact records of a journal."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantum_db.errors import CorruptData, InvalidRequest
from quantum_db.lifecycle import Happening
from quantum_db.sharding import shard_of
from quantum_db.states.events import EventBatch


def happened(
    what: Happening, ids: Sequence[str], at_s: float, coherence_ms: Sequence[float] | float = 0.0, commit: int = 0
) -> EventBatch:
    """Return one event of a kind for each id, at one time; ``commit`` is the number of the write, if one it was."""
    return EventBatch(
        np.array(ids, dtype=np.object_),
        np.full(len(ids), what.code, dtype=np.uint8),
        np.full(len(ids), at_s),
        np.broadcast_to(np.asarray(coherence_ms, dtype=np.float32), (len(ids),)),
        np.full(len(ids), commit, dtype=np.int64),
    )


def joined(batches: Sequence[EventBatch]) -> EventBatch:
    """Return the events of at least one batch, one after the other."""
    return EventBatch(
        np.concatenate([batch.ids for batch in batches]),
        np.concatenate([batch.codes for batch in batches]),
        np.concatenate([batch.at_s for batch in batches]),
        np.concatenate([batch.coherence_ms for batch in batches]),
        np.concatenate([batch.commits for batch in batches]),
    )


def split(batch: EventBatch, shards: int) -> Iterator[tuple[int, EventBatch]]:
    """Yield the events of each shard that has some, in their order."""
    if shards == 1:
        yield 0, batch
        return
    owners = np.fromiter((shard_of(one, shards) for one in batch.ids), dtype=np.int32, count=len(batch))
    for shard in np.unique(owners).tolist():
        yield shard, batch.take(np.flatnonzero(owners == shard))


def packed(array: NDArray[Any]) -> str:
    """Return an array as base64 of its little-endian bytes."""
    return b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode("ascii")


def unpacked(text: str, dtype: type[np.generic], length: int) -> NDArray[Any]:
    """Return what ``packed`` wrote. Raises ValueError where it is not an array of this length."""
    raw = np.frombuffer(b64decode(text, validate=True), dtype=np.dtype(dtype).newbyteorder("<")).astype(dtype)
    if len(raw) != length:
        raise ValueError(f"a column has {len(raw)} values for {length} ids")
    return raw


def record_of_batch(batch: EventBatch) -> dict[str, Any]:
    """Return a batch as one JSON record: its ids, and its columns as base64; the commits where there are some."""
    commits = {"commits": packed(batch.commits)} if batch.commits.any() else {}
    return {
        **commits,
        "ids": batch.ids.tolist(),
        "codes": packed(batch.codes),
        "at_s": packed(batch.at_s),
        "coherence_ms": packed(batch.coherence_ms),
    }


def batch_of_record(record: Mapping[str, Any]) -> EventBatch:
    """Return the batch that ``record_of_batch`` made a record of. Raises CorruptData."""
    try:
        ids = np.array(record["ids"], dtype=np.object_)
        if ids.ndim != 1 or not all(isinstance(one, str) for one in ids):
            raise TypeError("its ids are no strings")
        batch = EventBatch(
            ids,
            unpacked(record["codes"], np.uint8, len(ids)),
            unpacked(record["at_s"], np.float64, len(ids)),
            unpacked(record["coherence_ms"], np.float32, len(ids)),
            unpacked(record["commits"], np.int64, len(ids)) if "commits" in record else np.zeros(len(ids), np.int64),
        )
        batch.check()
    except (KeyError, TypeError, ValueError, InvalidRequest) as error:
        raise CorruptData(f"a record of events cannot be read: {error!r}") from error
    return batch
