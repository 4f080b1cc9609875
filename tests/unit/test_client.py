"""The client on the real application without a socket: typed values in and out, awaited and waited for."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from quantum_db import Config, QuantumDB
from quantum_db.client.loop import THREAD_NAME, LoopThread
from quantum_db.client.results import Results
from quantum_db.client.transports import FACTORIES
from quantum_db.errors import Conflict, InvalidRequest, InvalidSettings, NoSuchCollection, NotFound, UnknownContext
from quantum_db.model import Context, Entity
from tests.unit.sdk import client_of
from tests.unit.test_database import Bench

NEAR, FAR = np.array([0.6, 0.8]), np.array([1.0, 0.0], dtype=np.float32)


@pytest.fixture
def db() -> Iterator[QuantumDB]:
    client = client_of(Bench())
    yield client
    client.close_sync()
    client.loop.stop()


async def test_the_interface_as_it_is_asked_for(db: QuantumDB) -> None:
    async with db.connect() as conn:
        await conn.insert(id="doc_1", vector=NEAR, contexts=[("ctx1", 0.7), ("ctx2", 0.3)])
        await conn.insert_batch([{"id": "doc_2", "vector": FAR, "contexts": [("ctx1", 1.0)]}])
        results = await conn.query(vector=NEAR, context="ctx1", top_k=10)
        assert (results[0].id, results[0].context_probability) == ("doc_1", pytest.approx(0.7))
        assert results[0].score > results[1].score
        both = await asyncio.gather(db.quantum_search(NEAR, context="ctx1"), db.quantum_search(FAR, context="ctx1"))
        assert [found[0].id for found in both] == ["doc_1", "doc_2"]
        assert all(found.refinement.ran for found in both)
    assert db.query_sync(vector=FAR, context="ctx1")[0].id == "doc_2", "it connects again by itself"


def test_results_are_a_sequence_and_say_how_they_came_to_be(db: QuantumDB) -> None:
    db.insert_sync(id="a", vector=NEAR)
    db.insert_sync(id="b", vector=FAR)
    found = db.query_sync(NEAR, explain=True, refine="always", filter={"must_not": [{"has_id": ["c"]}]})
    assert isinstance(found, Results)
    assert (len(found), [hit.id for hit in found], found[-1].id) == (2, ["a", "b"], "b")
    assert [hit.id for hit in found[:1]] == ["a"]
    assert found.stages is not None
    assert found.refinement.provenance == "simulated shots"
    assert found[0].interval is not None
    assert found[0].interval.low <= found[0].score <= found[0].interval.high
    assert not found.cached


def test_vectors_come_back_to_the_last_bit(db: QuantumDB) -> None:
    rng = np.random.default_rng(3)
    vector = rng.normal(size=24)
    vector /= np.linalg.norm(vector)
    own = vector[::-1].astype(np.float32)
    own /= np.linalg.norm(own)
    db.insert_sync(id="a", vector=vector[::1], contexts=[("own", 0.5, own[::-1][::-1]), Context("none", 0.5)])
    found = db.fetch_sync("a")
    assert isinstance(found, Entity)
    assert found.vector is not None
    assert found.vector.dtype == np.float32
    np.testing.assert_array_equal(found.vector, vector.astype(np.float32))
    assert found.contexts[0].vector is not None
    np.testing.assert_array_equal(found.contexts[0].vector, own)
    assert found.contexts[1].vector is None
    again = db.insert_batch_sync([found]).check()
    assert again.items[0].version == db.fetch_sync("a").version


def test_entities_are_changed_listed_and_deleted(db: QuantumDB) -> None:
    first = db.insert_sync(id="a/b c", vector=NEAR, metadata={"n": 1}, coherence_time_ms=500.0)
    second = db.update_sync("a/b c", metadata={"n": 2}, expected_version=first.version)
    assert second.version > first.version
    with pytest.raises(Conflict):
        db.update_sync("a/b c", metadata={"n": 3}, expected_version=first.version)
    assert db.fetch_sync("a/b c").metadata == {"n": 2}
    db.insert_batch_sync(ids=[f"e{i}" for i in range(7)], vectors=np.eye(2)[np.arange(7) % 2]).check()
    listed = [entity.id for entity in db.iterate_sync(page=3)]
    assert sorted(listed) == ["a/b c", *(f"e{i}" for i in range(7))]
    assert db.scroll_sync(limit=2, vectors=False).entities[0].vector is None
    db.delete_sync("a/b c")
    with pytest.raises(NotFound, match="there is no entity 'a/b c'"):
        db.fetch_sync("a/b c")


async def test_collections(db: QuantumDB) -> None:
    made = await db.create_collection("papers", dimension=3)
    assert (made["name"], made["dimension"]) == ("papers", 3)
    assert [one["name"] for one in (await db.collections())[0]] == ["default", "papers"]
    assert db.collection_sync("papers")["entities"] == 0
    await db.drop_collection("papers")
    with pytest.raises(NoSuchCollection):
        await db.collection("papers")


async def test_groups_circuits_states_and_sessions(db: QuantumDB) -> None:
    await db.insert_batch(ids=["a", "b", "c"], vectors=np.eye(3))
    group = await db.create_entangled_group("g", ["a", "b"], 0.5)
    assert (group.entity_ids, group.version) == (("a", "b"), 1)
    changed = await db.update_group("g", expected_version=1, add=["c"])
    assert changed is not None
    assert changed.entity_ids == ("a", "b", "c")
    assert (await db.groups(member="c"))[0] == (changed,)
    measured = await db.measure_correlation("g", shots=2_000, chsh=True)
    assert measured.mean.interval.low <= measured.mean.value <= measured.mean.interval.high
    assert len(measured.pairs) == 3
    assert measured.chsh is not None
    ran = await db.execute_batch([{"op": "encode", "id": "x", "vector": [0.6, 0.8]}, {"op": "measure", "shots": 50}])
    assert ran["results"][0]["op"] == "encode"
    assert (await db.state("a"))["generation"] == 1
    with pytest.raises(NotFound):
        await db.session("nobody")
    await db.end_session("nobody")
    await db.delete_group("g", expected_version=2)
    with pytest.raises(NotFound):
        await db.group("g")


def test_errors_are_those_of_the_cluster_with_their_fields(db: QuantumDB) -> None:
    db.insert_sync(id="a", vector=NEAR, contexts=[("finance", 1.0)])
    with pytest.raises(UnknownContext, match="finance"):
        db.query_sync(NEAR, context="financ")
    with pytest.raises(InvalidRequest) as refused:
        db.query_sync(NEAR, top_k=0)
    assert [error.path for error in refused.value.errors] == ["top_k"]
    with pytest.raises(InvalidRequest, match="not finite"):
        db.insert_sync(id="a", vector=[1.0, float("nan")])
    with pytest.raises(InvalidRequest, match=r"contexts\[0\].vector"):
        db.insert_sync(id="a", contexts=[("c", 1.0, [float("inf")])])
    with pytest.raises(InvalidRequest, match="is not a known field"):
        db.query_sync(NEAR, shotz=3)


def test_a_transaction_takes_place_as_one_or_not_at_all(db: QuantumDB) -> None:
    db.insert_sync(id="stock", vector=NEAR, metadata={"left": 3})
    with db.quantum_transaction() as qtx:
        left = qtx.fetch("stock").metadata["left"]
        qtx.update("stock", metadata={"left": left - 1})
        qtx.insert(id="order", vector=FAR)
        qtx.create_entanglement("sold", ["stock", "order"], 0.9)
        assert qtx.fetch("stock").metadata == {"left": 2}
        assert qtx.query(FAR, mode="classical")[0].id == "order"
        with pytest.raises(NotFound):
            db.fetch_sync("order")
    assert db.group_sync("sold").entity_ids == ("stock", "order")

    def lose() -> None:
        with db.quantum_transaction() as qtx:
            qtx.fetch("stock")
            db.update_sync("stock", metadata={"left": 0})
            qtx.update("stock", metadata={"left": 1})

    with pytest.raises(Conflict) as lost:
        lose()
    assert lost.value.errors[0].path == "operations[0].update"
    with db.quantum_transaction() as qtx:
        qtx.delete("stock")
        qtx.rollback()
    assert db.fetch_sync("stock").metadata == {"left": 0}


def test_many_loops_and_threads_share_one_client(db: QuantumDB) -> None:
    db.insert_sync(id="a", vector=NEAR)
    found: list[str] = []

    def ask() -> None:
        found.append(asyncio.run(db.query(NEAR))[0].id)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["a"] * 4


def test_a_blocking_call_in_its_own_callback_is_refused_and_does_not_hang(db: QuantumDB) -> None:
    def progress(done: int, total: int) -> None:
        db.query_sync(NEAR)

    with pytest.raises(Conflict, match="own callbacks"):
        db.insert_batch_sync(ids=["a"], vectors=[NEAR], progress=progress)


def test_every_call_is_there_in_both_forms() -> None:
    awaited = {
        name: call
        for name, call in inspect.getmembers(QuantumDB, inspect.isfunction)
        if (inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)) and not name.startswith("_")
    }
    for name in ("call", "work", "enter", "leave"):  # what the calls are made of
        del awaited[name]
    assert len(awaited) > 25
    for name, call in awaited.items():
        waited_for = getattr(QuantumDB, f"{name}_sync")
        assert not inspect.iscoroutinefunction(waited_for), name
        assert waited_for.__doc__ == call.__doc__


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": "http://a", "qdrant_url": "http://b", "redis_url": "redis://c"}, "qdrant_url, redis_url configure"),
        ({"ray_address": "a:1", "ionq_api_key": "secret"}, "ionq_api_key configure"),
        ({"url": "http://a", "ray_address": "b:1"}, "exclude each other"),
        ({"ionq_target": "qpu.forte-1"}, "need an ionq_api_key"),
        ({"max_pool_size": 0}, "max_pool_size"),
        ({"cache_ttl": 0}, "cache_ttl must be above 0"),
        ({"url": "localhost:8000"}, "is not a URL"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSettings, match=message):
        QuantumDB(Config(**fields))


def test_secrets_are_not_shown() -> None:
    config = Config(api_key="key-secret", ionq_api_key="ionq-secret", redis_url="redis://:redis-secret@host:6379")
    assert "secret" not in repr(config)


def test_a_transport_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FACTORIES, "ray", "no_such_package.connect:way")
    with pytest.raises(InvalidSettings, match="no_such_package is not installed"):
        QuantumDB(Config(ray_address="127.0.0.1:1"))


def test_a_client_that_nobody_holds_gives_its_connections_back() -> None:
    def own() -> int:
        return sum(thread.name == THREAD_NAME for thread in threading.enumerate())

    before = own()
    held = [client_of(Bench()) for _ in range(20)]
    for client in held:
        client.insert_sync(id="a", vector=NEAR)
    assert own() == before + 20
    del client, held
    gc.collect()
    deadline_s = time.monotonic() + 10.0
    while own() > before and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert own() == before


def test_a_stopped_loop_starts_again() -> None:
    loop = LoopThread()

    async def one() -> int:
        return 1

    assert loop.run(one()) == 1
    loop.stop()
    assert not loop.running
    assert loop.run(one()) == 1
    loop.stop()


def test_each_query_of_a_batch_has_its_results_or_its_error(db: QuantumDB) -> None:
    db.insert_batch_sync([{"id": "near", "vector": NEAR}, {"id": "far", "vector": FAR}]).check()
    first, second, third = db.query_batch_sync(
        [{"vector": FAR, "mode": "classical"}, {"vector": NEAR, "context": "none"}, {"vector": NEAR, "top_k": 1}]
    )
    assert isinstance(first, Results)
    assert [hit.id for hit in first] == ["far", "near"]
    assert isinstance(second, UnknownContext)
    assert second.errors[0].path == "context"
    assert isinstance(third, Results)
    assert [hit.id for hit in third] == ["near"]
