"""Indexes of the embedded store: built beside it, taken over whole, whoever is killed and whenever."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from quantum_db.errors import Unavailable
from quantum_db.model import Entity, Search
from quantum_db.stores.edge_index import IndexSettings
from quantum_db.stores.edge_rebuild import Phase, Rebuild
from quantum_db.stores.edge_shard import OpenShard
from quantum_db.stores.index_upkeep import RETRY_S, IndexUpkeep
from quantum_db.stores.places import EmbeddedPlace, OpenStores
from quantum_db.stores.qdrant_edge import QdrantEdgeStore
from tests.contract.edge_child import FEW, SMALL, STEPS, of_round
from tests.contract.test_edge_durability import child, said
from tests.contract.vector_stores import assert_same
from tests.unit.fakes import FakeClock


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[QdrantEdgeStore]:
    made = QdrantEdgeStore(tmp_path / "store", SMALL)
    await made.upsert([of_round(i, 0) for i in range(FEW)])
    yield made
    await made.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - a phase sends no event
        await asyncio.sleep(0)


def left_over(folder: Path) -> list[Path]:
    """Return what builds have left in a store's folder."""
    return list(folder.glob("building-*"))


class Writer:
    """Replaces, adds and deletes entities, also in transactions, and knows what must be there."""

    def __init__(self, store: QdrantEdgeStore) -> None:
        self.store = store
        self.known: dict[str, Entity | None] = {f"e{i}": of_round(i, 0) for i in range(FEW)}
        self.rng = random.Random(0)

    async def step(self, n: int) -> None:
        written = [of_round(i, n) for i in self.rng.sample(range(2 * FEW), 12)]
        gone = [name for name in self.rng.sample(sorted(self.known), 3) if name not in {one.id for one in written}]
        if n % 2:
            await self.store.apply(n, written, gone)
        else:
            await self.store.upsert(written)
            await self.store.delete(gone)
        self.known |= {one.id: one for one in written}
        self.known |= dict.fromkeys(gone)

    async def lost(self) -> list[str]:
        """Return what is not as it was written."""
        wrong = []
        for (name, wanted), got in zip(self.known.items(), await self.store.fetch(list(self.known)), strict=True):
            try:
                if wanted is None:
                    assert got is None
                else:
                    assert_same(got, wanted)
            except AssertionError:
                wrong.append(name)
        if await self.store.count() != sum(wanted is not None for wanted in self.known.values()):
            wrong.append("their number")
        return wrong


async def write_while_built(store: QdrantEdgeStore) -> tuple[Writer, set[Phase], int]:
    """Write and search until an index has been built; return the phases in which searches were answered."""
    writer, phases, n = Writer(store), set(), 0
    building = asyncio.create_task(store.optimize())
    while not building.done():
        n += 1
        await writer.step(n)
        phases.add(store.phase)
        [found] = await store.search([Search(of_round(0, 0).distinct_vectors()[0][0], 3)])
        assert len(found.entity_ids) == 3
        # Slower and slower: on a machine with other work the child gets little of it.
        await asyncio.sleep(0.002 * n)
    await building
    return writer, phases, n


async def test_what_is_written_while_an_index_is_built_is_in_the_new_one(
    store: QdrantEdgeStore, tmp_path: Path
) -> None:
    writer, phases, steps = await write_while_built(store)
    assert {Phase.COPYING, Phase.BUILDING} <= phases
    assert steps > 2
    assert await writer.lost() == []
    assert store._open.shard.info().indexed_vectors_count >= FEW
    await writer.step(steps + 1)
    await store.close()
    assert sorted(entry.name for entry in (tmp_path / "store").rglob("shard*")) == ["shard-2"]
    assert not left_over(tmp_path / "store")
    writer.store = QdrantEdgeStore(tmp_path / "store", SMALL)
    assert await writer.lost() == []
    await writer.store.close()


async def test_the_check_sees_a_change_that_was_forgotten(
    store: QdrantEdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rebuild, "note", lambda self, ids: None)
    monkeypatch.setattr(OpenShard, "check_same", lambda self, fresh: None)
    writer, _, _ = await write_while_built(store)
    assert await writer.lost()


async def test_an_index_of_fewer_points_does_not_take_over(
    store: QdrantEdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rebuild, "note", lambda self, ids: None)
    building = asyncio.create_task(store.optimize())
    await until(lambda: store.phase is Phase.BUILDING)
    await store.upsert([of_round(2 * FEW, 0)])
    with pytest.raises(Unavailable, match=f"holds {FEW} of {FEW + 1} points"):
        await building
    assert await store.count() == FEW + 1


async def test_an_index_has_what_the_settings_say(tmp_path: Path) -> None:
    for index in (SMALL, IndexSettings(SMALL.after_points, True, "int8", SMALL.least_bytes)):
        store = QdrantEdgeStore(tmp_path, index)
        await store.upsert([of_round(i, 0) for i in range(FEW)])
        await store.optimize()
        folder = store._open.folder
        config = json.loads((folder / "edge_config.json").read_text())
        assert (config.get("quantization_config") is not None) == (index.quantization == "int8")
        assert config["vectors"][""]["memory"] == ("cold" if index.on_disk else "cached")
        assert bool(list(folder.rglob("quantized.data"))) == (index.quantization == "int8")
        wanted = of_round(5, 0)
        [found] = await store.search([Search(wanted.distinct_vectors()[0][0], 1)])
        assert found.entity_ids == (wanted.id,)
        await store.optimize()
        assert store._open.folder == folder, "there was nothing to gain"
        await store.close()


async def test_a_folder_of_the_format_before_is_read_and_taken_on(tmp_path: Path) -> None:
    store = QdrantEdgeStore(tmp_path, SMALL)
    await store.upsert([of_round(i, 0) for i in range(FEW)])
    await store.close()
    path = tmp_path / "data" / "manifest.json"
    new = json.loads(path.read_text())
    path.write_text(json.dumps({"format": 1, **{name: new[name] for name in ("dimension", "segments", "points")}}))
    store = QdrantEdgeStore(tmp_path, SMALL)
    assert store.is_index_due()
    await store.optimize()
    assert await store.count() == FEW
    await store.close()


# Kills


@pytest.mark.parametrize("word", ["copied", "same", "built"])
async def test_a_child_that_is_killed_costs_nothing_but_the_index(
    store: QdrantEdgeStore, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    hear = Rebuild._hear

    async def killed(self: Rebuild, wanted: str, bound_s: float) -> None:
        if wanted == word:
            assert self._child is not None
            os.kill(self._child.pid, signal.SIGKILL)
        await hear(self, wanted, bound_s)

    writer = Writer(store)
    with monkeypatch.context() as planted:
        planted.setattr(Rebuild, "_hear", killed)
        with pytest.raises(Unavailable, match="died"):
            await store.optimize()
    assert store.phase is Phase.NONE
    assert store.is_index_due()
    await writer.step(1)
    assert await writer.lost() == []
    assert not left_over(store._open.path)


@pytest.mark.parametrize("step", STEPS)
async def test_an_owner_that_is_killed_leaves_one_whole_store(tmp_path: Path, step: str) -> None:
    with child("rebuild", tmp_path, STEPS.index(step)) as process:
        heard = 0
        while line := said(process):
            if line == "never killed":
                pytest.fail(f"{step} was not reached")
            heard = int(line)
    store = QdrantEdgeStore(tmp_path, SMALL)
    assert len(list((tmp_path / "data").glob("shard*"))) == 1
    assert not left_over(tmp_path)
    entities = [one for one in await store.fetch([f"e{i}" for i in range(FEW)]) if one is not None]
    assert len(entities) == await store.count() == FEW
    for i, entity in enumerate(entities):
        assert_same(entity, of_round(i, entity.metadata["n"]))
        last = max((n for n in range(1, heard + 1) if n % FEW == i), default=0)
        unheard = {heard + 1} if (heard + 1) % FEW == i else set()
        assert entity.metadata["n"] in {last} | unheard
    await store.optimize()
    assert await store.count() == FEW
    await store.close()


async def test_a_copy_of_the_store_ends_a_copy_for_the_index(store: QdrantEdgeStore, tmp_path: Path) -> None:
    building = asyncio.create_task(store.optimize())
    await until(lambda: store.phase is Phase.COPYING)
    with store.at_rest() as data:
        assert data is not None
        shutil.copytree(data, tmp_path / "copy" / "data")
    with pytest.raises(Unavailable, match="copied meanwhile"):
        await building
    copied = QdrantEdgeStore(tmp_path / "copy", SMALL)
    assert await copied.count() == await store.count() == FEW
    await copied.close()


async def test_a_store_that_is_closed_gives_up_its_index(store: QdrantEdgeStore, tmp_path: Path) -> None:
    building = asyncio.create_task(store.optimize())
    await until(lambda: store.phase is Phase.BUILDING)
    await store.close()
    with pytest.raises(Unavailable, match="closed"):
        await building
    again = QdrantEdgeStore(tmp_path / "store", SMALL)
    assert await again.count() == FEW
    await again.close()


# What is safe on the disk


def newer(old: Path, now: Path, into: Path, choose: Callable[[Path], bool]) -> None:
    """Make a folder of the files of an older copy, and those of a newer one that are chosen."""
    shutil.copytree(old, into)
    for path in now.rglob("*"):
        if path.is_file() and choose(path):
            target = into / path.relative_to(now)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)


async def test_after_a_flush_the_log_is_enough_whatever_else_the_disk_has_got(tmp_path: Path) -> None:
    """The library has flushed; later writes are in the log, and any of the other files may have got to the disk."""
    store = QdrantEdgeStore(tmp_path / "store")
    await store.upsert([of_round(i, 0) for i in range(100)])
    store._open._empty_log()
    shutil.copytree(store._open.data, tmp_path / "flushed" / "data")
    await store.upsert([of_round(i, 1) for i in range(50, 150)])
    await store.delete(["e0", "e60"])
    await store.flush()
    shutil.copytree(store._open.data, tmp_path / "now" / "data")
    await store.close()
    for trial in range(5):
        rng = random.Random(trial)
        crashed = tmp_path / f"crash{trial}"
        chosen: Callable[[Path], bool] = lambda path: "wal" in path.parts or (trial > 0 and rng.random() < 0.5)  # noqa: B023, E731
        newer(tmp_path / "flushed", tmp_path / "now", crashed, chosen)
        again = QdrantEdgeStore(crashed)
        for i, got in enumerate(await again.fetch([f"e{i}" for i in range(150)])):
            if i in {0, 60}:
                assert got is None
            else:
                assert_same(got, of_round(i, int(i >= 50)))
        await again.close()
    without = tmp_path / "without"
    newer(tmp_path / "flushed", tmp_path / "now", without, lambda path: False)
    again = QdrantEdgeStore(without)
    assert (await again.fetch(["e149"])) == [None], "the check sees a log that was not brought to the disk"
    await again.close()


async def test_others_get_in_between_the_slices_of_a_large_write(tmp_path: Path) -> None:
    store = QdrantEdgeStore(tmp_path)
    await store.upsert([of_round(0, 0)])
    seen = []
    writing = asyncio.create_task(store.upsert([of_round(i, 1) for i in range(400)]))
    while not writing.done():
        seen.append(await store.count())
        [found] = await store.search([Search(of_round(0, 0).distinct_vectors()[0][0], 500)])
        seen.append(len(found.entity_ids))
        await asyncio.sleep(0)
    assert len(set(seen)) > 10
    assert await store.count() == 400
    await store.close()


# When they are built


async def test_indexes_that_are_due_are_built_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, registry = FakeClock(), CollectorRegistry()
    stores = OpenStores(EmbeddedPlace(str(tmp_path), SMALL), most=1)
    told = []

    async def built(store: QdrantEdgeStore) -> None:
        told.append(stores.key_of(store))

    upkeep = IndexUpkeep(stores, clock, registry, built)
    for key in ("", "a"):
        await stores.of(key).upsert([of_round(i, 0) for i in range(FEW)])
    begin = Rebuild.begin
    begun = 0

    async def failing(self: Rebuild) -> None:
        nonlocal begun
        begun += 1
        assert sum(store.phase is not Phase.NONE for store in upkeep._embedded()) == 1
        if begun == 1:
            raise Unavailable("no space left")
        await begin(self)

    monkeypatch.setattr(Rebuild, "begin", failing)
    await upkeep.look()
    await upkeep.look()
    assert begun == 2
    clock.time_s += RETRY_S
    looking = asyncio.create_task(upkeep.look())
    await until(lambda: begun == 3)
    await stores.trim()
    assert len(stores.opened()) == 1, "the one whose index is being built stays open"
    await looking
    assert sorted(told) == ["", "a"]
    upkeep.measure()
    values: dict[str, Any] = {
        sample.name + sample.labels.get("outcome", ""): sample.value
        for metric in registry.collect()
        for sample in metric.samples
    }
    assert values["store_index_builds_totaldone"] == 2
    assert values["store_index_builds_totalfailed"] == 1
    assert values["store_unindexed_points"] == 0
    assert values["store_index_phase"] == 0
    await stores.close()


async def test_recall_of_an_index(tmp_path: Path) -> None:
    for index in (SMALL, IndexSettings(SMALL.after_points, True, "int8", SMALL.least_bytes)):
        store = QdrantEdgeStore(tmp_path / index.quantization, index)
        entities = [of_round(i, 0) for i in range(3 * FEW)]
        await store.upsert(entities)
        await store.optimize()
        vectors = np.stack([one.distinct_vectors()[0][0] for one in entities])
        hits = 0
        for query in vectors[:50]:
            exact = {f"e{i}" for i in np.argsort(-(vectors @ query))[:10]}
            [found] = await store.search([Search(query, 10)])
            hits += len(exact & set(found.entity_ids))
        assert hits / 500 >= 0.95
        await store.close()
