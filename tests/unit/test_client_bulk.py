"""Many entities: batches within the limits, several on their way, and what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from quantum_db import QuantumDB
from quantum_db.client.bulk import IN_FLIGHT, ingest, rows_of
from quantum_db.client.request import Unreached
from quantum_db.errors import InvalidRequest, QuantumDBError, Unavailable
from quantum_db.model import Entity
from tests.unit.sdk import client_of
from tests.unit.test_database import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def db(bench: Bench) -> Iterator[QuantumDB]:
    client = client_of(bench)
    yield client
    client.close_sync()
    client.loop.stop()


def test_batches_fit_the_body_limit_of_the_cluster_and_nothing_is_left_out(db: QuantumDB, bench: Bench) -> None:
    """One batch of all would have ten times the limit; its size is found out by halving."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 32)).astype(np.float32)
    told: list[tuple[int, int]] = []
    metadata = [{"n": i} for i in range(500)]
    contexts = [[("even" if i % 2 == 0 else "odd", 1.0)] for i in range(500)]
    outcome = db.insert_batch_sync(
        ids=[f"e{i}" for i in range(500)],
        vectors=vectors,
        contexts=contexts,
        metadata=metadata,
        progress=lambda done, total: told.append((done, total)),
    )
    assert outcome.check().written == 500
    assert [item.id for item in outcome.items] == [f"e{i}" for i in range(500)]
    assert told[-1] == (500, 500)
    assert sorted(told) == told
    assert len(bench.store.entities) == 500
    stored = db.fetch_sync("e499")
    assert (stored.metadata, stored.contexts[0].name) == ({"n": 499}, "odd")
    unit = vectors[499] / np.linalg.norm(vectors[499])
    np.testing.assert_allclose(stored.vector, unit, atol=1e-7)


def test_each_entity_is_told_of_for_itself(db: QuantumDB) -> None:
    vectors = np.eye(4)
    vectors[1] = np.nan
    vectors[2] = 0.0
    outcome = db.insert_batch_sync(ids=["a", "b", "c", "d"], vectors=vectors)
    assert outcome.written == 2
    told = [item.error and item.error.detail for item in outcome.items]
    assert told[0] is told[3] is None
    assert "not finite" in str(told[1])
    assert "zero vector" in str(told[2])
    with pytest.raises(InvalidRequest, match="not finite"):
        outcome.check()


def test_entities_come_in_any_form(db: QuantumDB) -> None:
    given = [Entity("a", np.array([1.0, 0.0], np.float32)), {"id": "b", "vector": (3, 4), "version": 17}]
    assert db.insert_batch_sync(given).check().written == 2
    assert db.fetch_sync("b").vector == pytest.approx([0.6, 0.8])


def test_a_transaction_writes_all_or_none(db: QuantumDB) -> None:
    outcome = db.insert_batch_sync(ids=["a", "b"], vectors=np.eye(2), transaction=True)
    assert {item.version for item in outcome.items} == {1}
    with pytest.raises(InvalidRequest, match=r"vectors\[1\]"):
        db.insert_batch_sync([{"id": "c", "vector": [1, 0]}, {"id": "d", "vector": [0, 0]}], transaction=True)
    with pytest.raises(InvalidRequest, match="not finite"):
        db.insert_batch_sync(ids=["c", "d"], vectors=[[1, 0], [np.inf, 0]], transaction=True)
    assert [entity.id for entity in db.iterate_sync()] == ["a", "b"] or len(list(db.iterate_sync())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give entities, or ids with vectors"),
        ({"entities": [], "ids": []}, "not both"),
        ({"ids": ["a"], "vectors": np.eye(2)}, "vectors: has 2 rows for 1 ids"),
        ({"ids": ["a"], "vectors": [1.0]}, "must be a matrix"),
        ({"ids": ["a"], "vectors": [[1.0]], "metadata": []}, "metadata: has 0 rows"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments: dict[str, Any], message: str) -> None:
    given = dict.fromkeys(("entities", "ids", "vectors", "contexts", "metadata")) | arguments
    with pytest.raises(InvalidRequest, match=message):
        rows_of(**given)


async def test_a_few_batches_are_on_their_way_at_a_time() -> None:
    now = most = 0

    async def write(body: dict[str, Any]) -> dict[str, Any]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return {"items": [{"id": row["id"], "status": "written", "version": 1} for row in body["vectors"]]}

    total, rows = rows_of(None, [str(i) for i in range(20_000)], np.ones((20_000, 1)), None, None)
    assert (await ingest(write, rows, total)).written == 20_000
    assert most == IN_FLIGHT


async def test_a_cluster_that_ends_in_the_middle_is_not_asked_for_the_rest() -> None:
    asked = 0

    async def write(body: dict[str, Any]) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        place = asked
        await asyncio.sleep(0)
        if place > 3:
            raise Unavailable("it has ended")
        return {"items": [{"id": row["id"], "status": "written", "version": 1} for row in body["vectors"]]}

    total, rows = rows_of(None, [str(i) for i in range(20_000)], np.ones((20_000, 1)), None, None)
    outcome = await ingest(write, rows, total)
    assert outcome.written == 3_000
    assert asked <= 3 + IN_FLIGHT
    kinds: set[type[QuantumDBError] | None] = {
        None if item.error is None else type(item.error) for item in outcome.items
    }
    assert kinds == {None, Unavailable, Unreached}
    assert all(item.id == str(place) for place, item in enumerate(outcome.items))


async def test_an_error_of_the_progress_ends_the_ingest() -> None:
    async def write(body: dict[str, Any]) -> dict[str, Any]:
        return {"items": [{"id": row["id"], "status": "written", "version": 1} for row in body["vectors"]]}

    def progress(done: int, total: int) -> None:
        raise ZeroDivisionError

    total, rows = rows_of(None, ["a"], np.ones((1, 1)), None, None)
    with pytest.raises(ZeroDivisionError):
        await ingest(write, rows, total, progress)
