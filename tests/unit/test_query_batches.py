"""Batches of queries: in their order, some at a time, within a size, and nobody's trouble is another's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from quantum_db import query_batches
from quantum_db.errors import InvalidRequest, NoSuchCollection
from quantum_db.query_batches import AT_ONCE, answered_each


class Answering:
    def __init__(self) -> None:
        self.now = self.most_at_once = self.asked = 0

    async def answer(self, query: Any) -> dict[str, Any]:
        self.asked += 1
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        await asyncio.sleep(0.001 * (query % 3))
        self.now -= 1
        if query % 10 == 7:
            raise InvalidRequest.at("top_k", "is seven")
        if query < 0:
            raise NoSuchCollection("it was dropped")
        return {"query": query, "text": "x" * 100}


async def test_each_has_its_own_outcome_in_its_place_and_only_some_are_answered_at_a_time() -> None:
    server = Answering()
    found = await answered_each(list(range(300)), server.answer)
    assert (found["answered"], found["failed"]) == (270, 30)
    for place, item in enumerate(found["items"]):
        if place % 10 == 7:
            assert item["problem"]["errors"][0]["path"] == "top_k"
        else:
            assert item["answer"]["query"] == place
    assert server.most_at_once == AT_ONCE


async def test_answers_that_are_too_large_together_end_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_batches, "MAX_ANSWER_BYTES", 5_000)
    server = Answering()
    found = await answered_each([0] * 1_000, server.answer)
    assert server.asked <= 5_000 / 100 + AT_ONCE
    assert 5_000 / 130 <= found["answered"] <= server.asked
    assert found["items"][-1]["problem"]["status"] == 409
    assert "ask fewer at a time" in found["items"][-1]["problem"]["detail"]


async def test_a_collection_that_is_not_there_is_one_error() -> None:
    with pytest.raises(NoSuchCollection, match="it was dropped"):
        await answered_each([1, 2, -1, -1, 3], Answering().answer)
