"""A crash of the machine, simulated: the store as it was flushed last, beside the journals, which wait for the disk."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from quantum_db.commits import protocol, upkeep
from quantum_db.commits.operations import Delete, Deletes, Insert, Operation, Transaction, Update, Upserts
from quantum_db.model import Context, Entity
from quantum_db.stores.qdrant_edge import QdrantEdgeStore
from tests.chaos.embedded import Embedded


class KeepsFlushes(QdrantEdgeStore):
    """Copies what is on disk after each flush: that much survives."""

    async def flush(self) -> None:
        await super().flush()
        if self._open.data.exists():
            safe = self._open.path.parent / "safe"
            shutil.rmtree(safe, ignore_errors=True)
            shutil.copytree(self._open.data, safe / "data")


class Lies(KeepsFlushes):
    """Planted: a flush that does nothing."""

    async def flush(self) -> None:
        return None


def entity(name: str, n: int) -> Entity:
    rng = np.random.default_rng([n, *name.encode()])
    vectors = rng.standard_normal((2, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    contexts = (Context("x", 0.25, vectors[0]), Context("y", 0.75, vectors[1]))
    return Entity(name, None, contexts, metadata={"n": n})


@dataclass(slots=True)
class Load:
    """Random transactions, one after the other, and what they were acknowledged as: version, and n or None."""

    database: Embedded
    rng: np.random.Generator
    known: dict[str, tuple[int, int] | None] = field(default_factory=dict)

    async def transaction(self, n: int) -> None:
        operations: list[Operation] = []
        expected: dict[str, int | None] = {}
        for name in [f"e{number}" for number in self.rng.choice(40, size=3, replace=False)]:
            kind = self.rng.random()
            if self.known.get(name) is None or kind < 0.4:
                operations.append(Insert(entity(name, n)))
            elif kind < 0.8:
                operations.append(Update(name, {"metadata": {"n": n}}))
            else:
                operations.append(Delete(name))
            expected[name] = None if isinstance(operations[-1], Delete) else n
        answer = await self.database.coordinator.do(Transaction(tuple(operations)))
        for name, then in expected.items():
            self.known[name] = None if then is None else (answer["commit"], then)

    async def plain(self, n: int) -> None:
        """A plain write of entities of its own, which may be lost; a plain deletion of what a transaction wrote.

        It may be lost, too, unless the transaction was not safe yet: what is done again must not bring it back.
        """
        await self.database.coordinator.do(Upserts((entity(f"plain{n}", n),)))
        there = [name for name, found in self.known.items() if found is not None]
        gone = str(self.rng.choice(there))
        assert self.database.coordinator._protocol is not None
        unflushed = self.database.coordinator._protocol.ledger.is_unflushed(gone)
        await self.database.coordinator.do(Deletes((gone,)))
        self.known[gone] = None
        if not unflushed:
            del self.known[gone]


def after_the_crash(folder: Path, to: Path) -> None:
    """Copy what is on disk: journals as they are, the store as it was flushed last."""
    to.mkdir()
    for name in ("commits.sqlite", "groups.sqlite"):
        with closing(sqlite3.connect(folder / name)) as source, closing(sqlite3.connect(to / name)) as target:
            source.backup(target)
    if (folder / "safe").exists():
        shutil.copytree(folder / "safe", to / "store")


async def lost(database: Embedded, known: dict[str, tuple[int, int] | None]) -> list[str]:
    """Return what is not as it was acknowledged."""
    await database.coordinator.readable()
    found = await database.store.fetch(list(known))
    shown = [None if one is None else (one.version, one.metadata["n"]) for one in found]
    return [name for (name, expected), got in zip(known.items(), shown, strict=True) if expected != got]


async def crashed(tmp_path: Path, kind: type[QdrantEdgeStore]) -> list[str]:
    known: dict[str, tuple[int, int] | None] = {}
    folder = tmp_path / "0"
    folder.mkdir()
    for life in range(4):
        database = Embedded(folder, kind=kind)
        if wrong := await lost(database, known):
            await database.close()
            return wrong
        load = Load(database, np.random.default_rng(life), known)
        for n in range(100 * life, 100 * life + 30 + 13 * life):
            await load.transaction(n)
            if n % 7 == 0:
                await load.plain(n)
        after_the_crash(folder, tmp_path / str(life + 1))
        await database.close()
        folder = tmp_path / str(life + 1)
    database = Embedded(folder, kind=kind)
    wrong = await lost(database, known)
    await database.close()
    return wrong


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush after some 13 transactions, and compact after some 20."""
    monkeypatch.setattr(upkeep, "UNFLUSHED", 40)
    monkeypatch.setattr(protocol.CommitProtocol.__init__, "__kwdefaults__", {**DEFAULTS, "min_records": 40})


DEFAULTS = dict(protocol.CommitProtocol.__init__.__kwdefaults__ or {})


async def test_no_acknowledged_transaction_is_lost(tmp_path: Path) -> None:
    assert await crashed(tmp_path, KeepsFlushes) == []


async def test_a_flush_that_does_nothing_is_caught(tmp_path: Path) -> None:
    assert await crashed(tmp_path, Lies)
