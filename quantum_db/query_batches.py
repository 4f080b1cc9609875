"""Several queries in one call: each is checked and answered for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any, Final

import orjson
from pydantic import ConfigDict, Field

from quantum_db.errors import NoSuchCollection, QuantumDBError, TooMany
from quantum_db.requests import Body, QueryBody

MAX_QUERIES: Final = 1_000
MAX_ANSWER_BYTES: Final = 64 * 2**20
"""Of the answers of one call together, as JSON."""

AT_ONCE: Final = 64
"""Queries of one call that are being answered at a time: as many as share a call to the store."""

Json = dict[str, Any]


class QueryBatchBody(Body):
    """Several queries."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "queries": [
                    {"vector": [0.1, 0.2], "mode": "classical", "top_k": 3},
                    {"vector": [0.2, 0.1], "context": "technical"},
                ]
            }
        }
    )

    queries: Annotated[list[QueryBody], Field(min_length=1, max_length=MAX_QUERIES)]


class LooseQueryBatchBody(Body):
    """Queries of which each is checked for itself."""

    queries: Annotated[list[Any], Field(min_length=1, max_length=MAX_QUERIES)]


async def answered_each(queries: list[Any], answer: Callable[[object], Awaitable[Json]]) -> Json:
    """Answer each query, some at a time; tell of each its answer or what is wrong with it, in their order.

    Once the answers are too large together, no further query is answered.

    Raises NoSuchCollection, which is wrong with all of them.
    """
    items: list[Json] = [{}] * len(queries)
    left = iter(enumerate(queries))
    room = MAX_ANSWER_BYTES

    async def answer_on(left: Iterator[tuple[int, Any]]) -> None:
        nonlocal room
        for place, query in left:
            try:
                if room < 0:
                    raise TooMany(f"the other answers are above {MAX_ANSWER_BYTES} bytes together; ask fewer at a time")
                found = await answer(query)
                room -= len(orjson.dumps(found))
                items[place] = {"status": "answered", "answer": found}
            except NoSuchCollection:
                raise
            except QuantumDBError as error:
                items[place] = {"status": "failed", "problem": error.problem()}

    tasks = [asyncio.create_task(answer_on(left)) for _ in range(min(AT_ONCE, len(queries)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    failed = sum(item["status"] == "failed" for item in items)
    return {"answered": len(items) - failed, "failed": failed, "items": items}
