"""The embedded store across restarts, SIGKILL, other owners and damaged folders."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantum_db.errors import CorruptData, Unavailable
from quantum_db.model import Search
from quantum_db.stores.points import MAX_METADATA_DEPTH
from quantum_db.stores.qdrant_edge import QdrantEdgeStore
from tests.contract.edge_child import MANY, SMALL, deep, version, wide
from tests.contract.vector_stores import assert_same, axis

ROOT = Path(__file__).parents[2]


@contextmanager
def child(job: str, path: Path, n: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Run a job of ``edge_child``, which says what it has done line by line; kill it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.contract.edge_child", job, str(path), str(n)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_a_killed_writer_has_lost_nothing_that_it_had_acknowledged(tmp_path: Path) -> None:
    last = 0
    for kill_after in (1, 40):
        # The last round is done again, as a client would whose call was cut off: its deletion may be missing.
        with child("versions", tmp_path, max(1, last)) as process:
            for _ in range(kill_after):
                last = int(said(process))
        store = QdrantEdgeStore(tmp_path)
        [shown] = await store.fetch(["a"])
        assert shown is not None
        # The rounds after the last one that was heard of may be there too, each as a whole.
        heard, last = last, shown.metadata["n"]
        assert last >= heard
        [by_vector] = await store.search([Search(axis(0), 99)])
        [by_context] = await store.search([Search(axis(0), 99, all_contexts=True)])
        names = sorted(by_vector.entity_ids)
        # The newest round was written at once, and nothing but the deletion that follows it can be missing.
        assert {"a", f"b{last}"} | ({f"b{last - 1}"} if last > 1 else set()) <= set(names)
        assert set(names) <= {"a", *(f"b{n}" for n in range(max(1, last - 2), last + 1))}
        assert await store.count() == len(names)
        expected = [version(name, int(name[1:] or last)) for name in names]
        for got, wanted in zip(await store.fetch(names), expected, strict=True):
            assert_same(got, wanted)
        assert len(by_context.weights) == sum(len(entity.contexts) for entity in expected)
        await store.close()


async def test_a_process_killed_while_it_optimizes_has_lost_nothing(tmp_path: Path) -> None:
    with child("optimize", tmp_path) as process:
        assert said(process) == "written"
    for _ in range(2):
        store = QdrantEdgeStore(tmp_path, SMALL)
        assert await store.count() == MANY
        [got] = await store.fetch([f"e{MANY - 1}"])
        assert_same(got, wide()[-1])
        [found] = await store.search([Search(got.vector, 1)])
        assert found.entity_ids == (f"e{MANY - 1}",)
        await store.optimize()
        await store.close()


async def test_the_deepest_metadata_can_be_read_from_the_log(tmp_path: Path) -> None:
    with child("deep", tmp_path, MAX_METADATA_DEPTH - 1) as process:
        assert said(process) == "done"
    store = QdrantEdgeStore(tmp_path)
    assert_same((await store.fetch(["deep"]))[0], deep(MAX_METADATA_DEPTH - 1))
    await store.close()


async def test_a_closed_store_is_the_same_when_opened_again_or_copied(tmp_path: Path) -> None:
    store = QdrantEdgeStore(tmp_path / "one")
    entities = [version(f"e{i}", i) for i in range(30)]
    await store.upsert(entities)
    await store.delete(["e3"])
    before = await store.search([Search(axis(1), 10, all_contexts=True)])
    await store.close()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    for path in (tmp_path / "one", tmp_path / "two"):
        again = QdrantEdgeStore(path)
        assert await again.dimension() == 6
        assert await again.count() == 29
        after = await again.search([Search(axis(1), 10, all_contexts=True)])
        assert after[0].entity_ids == before[0].entity_ids
        np.testing.assert_array_equal(after[0].vectors, before[0].vectors)
        np.testing.assert_array_equal(after[0].weights, before[0].weights)
        await again.close()


# Owners


async def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    for entities in ([], [version("a", 1)]):
        store = QdrantEdgeStore(tmp_path)
        await store.upsert(entities)
        with pytest.raises(Unavailable, match="open elsewhere"):
            QdrantEdgeStore(tmp_path)
        await store.close()
    QdrantEdgeStore(tmp_path)


async def test_the_folder_of_another_process_is_free_when_that_is_killed(tmp_path: Path) -> None:
    with child("versions", tmp_path, 1) as process:
        assert said(process) == "1"
        with pytest.raises(Unavailable, match="open elsewhere"):
            QdrantEdgeStore(tmp_path)
    store = QdrantEdgeStore(tmp_path)
    assert (await store.fetch(["a"]))[0] is not None
    await store.close()


async def test_a_path_that_cannot_be_a_folder_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be opened"):
        QdrantEdgeStore(tmp_path / "file")


# Damage


def segment(folder: Path) -> Path:
    return next(path.parent for path in folder.rglob("segment.json"))


def cut(pattern: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        os.truncate(next(folder.rglob(pattern)), 0)

    return damage


def garble(pattern: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = next(folder.rglob(pattern))
        path.write_bytes(b"\xa5" * min(path.stat().st_size, 4096) + path.read_bytes()[4096:])

    return damage


def set_manifest(**change: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "data" / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: shutil.rmtree(folder / "data" / "shard"),
        lambda folder: shutil.rmtree(folder / "data" / "shard" / "segments"),
        lambda folder: shutil.rmtree(segment(folder)),
        lambda folder: (segment(folder) / "version.info").unlink(),
        lambda folder: (folder / "data" / "manifest.json").unlink(),
        cut("manifest.json"),
        cut("segment.json"),
        cut("vector_storage/*/status.dat"),
        garble("segment.json"),
        garble("edge_config.json"),
        garble("manifest.json"),
        set_manifest(format=3),
        set_manifest(points=31),
        set_manifest(unknown=1),
        set_manifest(shard="shard-2"),
        set_manifest(shard="../shard"),
    ],
    ids=[
        *("no shard", "no segments", "no segment", "no version", "no manifest"),
        *("manifest cut", "segment cut", "vectors cut"),
        *("segment garbled", "config garbled", "manifest garbled"),
        *("other format", "points missing", "other fields", "another shard", "no shard of its own"),
    ],
)
async def test_a_damaged_folder_is_refused_and_stays_as_it_is(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    store = QdrantEdgeStore(tmp_path)
    await store.upsert([version(f"e{i}", i) for i in range(10)])
    await store.close()
    damage(tmp_path)
    for _ in range(2):
        with pytest.raises(CorruptData, match=re.escape(str(tmp_path))):
            QdrantEdgeStore(tmp_path)


async def test_damaged_payloads_are_an_error_when_they_are_read(tmp_path: Path) -> None:
    store = QdrantEdgeStore(tmp_path)
    await store.upsert([version("a", 1)])
    await store.close()
    garble("payload_storage/page_0.dat")(tmp_path)
    store = QdrantEdgeStore(tmp_path)
    with pytest.raises(CorruptData):
        await store.fetch(["a"])
    with pytest.raises(CorruptData):
        await store.search([Search(axis(0), 1)])
    await store.close()


async def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CorruptData, match="holds no store, but 'thesis"):
        QdrantEdgeStore(tmp_path)


async def test_an_interrupted_creation_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "data.new" / "shard").mkdir(parents=True)
    (tmp_path / "data.new" / "shard" / "edge_config.json").write_text("{")
    store = QdrantEdgeStore(tmp_path)
    assert await store.dimension() is None
    await store.upsert([version("a", 1)])
    assert_same((await store.fetch(["a"]))[0], version("a", 1))
    await store.close()
