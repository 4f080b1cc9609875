"""Many entities: cut into batches, a few of them on their way at a time, and told of one by one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from quantum_db.client.bodies import ContextLike, any_entity_body, entity_body, vector_body
from quantum_db.client.request import Json, Unreached
from quantum_db.client.results import BatchOutcome, Item
from quantum_db.errors import BodyTooLarge, InvalidRequest, QuantumDBError
from quantum_db.model import Entity

MAX_ROWS: Final = 1_000
"""What the cluster takes in one batch."""

BATCH_BYTES: Final = 4_000_000
NUMBER_BYTES: Final = 12
"""Of a float32 in JSON, with its comma."""

ROW_BYTES: Final = 256
"""Of an entity without its vectors, where it has little metadata."""

IN_FLIGHT: Final = 4
T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Told ``done`` and ``total`` after each batch, on the client's own thread."""


def rows_of(
    entities: Sequence[Entity | Mapping[str, Any]] | None,
    ids: Sequence[str] | None,
    vectors: ArrayLike | None,
    contexts: Sequence[Sequence[ContextLike]] | None,
    metadata: Sequence[Mapping[str, Any]] | None,
) -> tuple[int, Iterator[Json | InvalidRequest]]:
    """Return how many entities are given, and the body of each or what is wrong with it.

    Raises:
        InvalidRequest: there are neither entities nor ids with vectors, or both, or their numbers differ.
    """
    if entities is not None:
        if any(given is not None for given in (ids, vectors, contexts, metadata)):
            raise InvalidRequest("give entities, or ids with vectors, not both")
        return len(entities), (_checked(any_entity_body, entity) for entity in entities)
    if ids is None or vectors is None:
        raise InvalidRequest("give entities, or ids with vectors")
    matrix = np.ascontiguousarray(vectors)
    if matrix.ndim != 2 or matrix.dtype.kind not in "iuf":
        raise InvalidRequest.at("vectors", "must be a matrix of numbers with one row for each id")
    if matrix.dtype not in (np.float32, np.float64):
        matrix = matrix.astype(np.float64)
    for name, given in (("vectors", matrix), ("contexts", contexts), ("metadata", metadata)):
        if given is not None and len(given) != len(ids):
            raise InvalidRequest.at(name, f"has {len(given)} rows for {len(ids)} ids")
    finite = np.isfinite(matrix).all(axis=1)

    def row(place: int) -> Json:
        if not finite[place]:
            vector_body(matrix[place])
        body = entity_body(
            id=ids[place],
            contexts=None if contexts is None else contexts[place],
            metadata=None if metadata is None else metadata[place],
        )
        return {**body, "vector": matrix[place]}

    return len(ids), (_checked(row, place) for place in range(len(ids)))


async def ingest(
    write: Callable[[Json], Awaitable[Json]],
    rows: Iterator[Json | InvalidRequest],
    total: int,
    progress: Progress | None = None,
) -> BatchOutcome:
    """Write entities in batches and return what became of each.

    Once a batch fails for a reason that is not in it, no further one is begun: the others are told as not sent.

    Args:
        write: makes the call ``insert_batch`` with a body.
        rows: the bodies; each is taken when its batch is made.
        total: how many there are.
        progress: is told after each batch.
    """
    work = _Ingest(write, rows, total, progress)
    tasks = [asyncio.create_task(work.run()) for _ in range(IN_FLIGHT)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return BatchOutcome(tuple(work.items))


class _Ingest:
    def __init__(
        self,
        write: Callable[[Json], Awaitable[Json]],
        rows: Iterator[Json | InvalidRequest],
        total: int,
        progress: Progress | None,
    ) -> None:
        self.items = [Item(None)] * total
        self._write = write
        self._rows = enumerate(rows)
        self._total = total
        self._done = 0
        self._progress = progress
        self._stopped: QuantumDBError | None = None

    async def run(self) -> None:
        """Write batch after batch, beside others that do the same."""
        while batch := self._next_batch():
            await self._write_batch(batch)
            self._done += len(batch)
            if self._progress is not None:
                self._progress(self._done, self._total)

    def _next_batch(self) -> list[tuple[int, Json]]:
        batch: list[tuple[int, Json]] = []
        size = 0
        for place, row in self._rows:
            if isinstance(row, InvalidRequest):
                self.items[place] = Item(None, error=row)
                self._done += 1
                continue
            batch.append((place, row))
            size += _bytes(row)
            if len(batch) == MAX_ROWS or size >= BATCH_BYTES:
                break
        return batch

    async def _write_batch(self, batch: list[tuple[int, Json]]) -> None:
        """Write a batch; halve one that is too large as a whole."""
        if self._stopped is not None:
            error: QuantumDBError = Unreached(f"it was not sent, after another batch failed: {self._stopped.detail}")
            return self._fail(batch, error)
        try:
            answer = await self._write({"vectors": [row for _, row in batch]})
        except BodyTooLarge as error:
            if len(batch) == 1:
                return self._fail(batch, error)
            await self._write_batch(batch[: len(batch) // 2])
            return await self._write_batch(batch[len(batch) // 2 :])
        except InvalidRequest as error:
            return self._fail(batch, error)
        except QuantumDBError as error:
            self._stopped = error
            return self._fail(batch, error)
        for (place, _), told in zip(batch, answer["items"], strict=True):
            self.items[place] = _item(told)
        return None

    def _fail(self, batch: list[tuple[int, Json]], error: QuantumDBError) -> None:
        for place, row in batch:
            self.items[place] = Item(row["id"], error=error)


def _item(told: Json) -> Item:
    if told["status"] == "written":
        return Item(told["id"], told["version"])
    return Item(told["id"], error=InvalidRequest(told["problem"]["detail"]))


def _bytes(row: Json) -> int:
    """Return about how many bytes a body takes as JSON."""
    vectors = itertools.chain([row.get("vector")], (context.get("vector") for context in row.get("contexts") or ()))
    return ROW_BYTES + NUMBER_BYTES * sum(len(vector) for vector in vectors if vector is not None)


def _checked(make: Callable[[T], Json], given: T) -> Json | InvalidRequest:
    try:
        return make(given)
    except InvalidRequest as error:
        return error
