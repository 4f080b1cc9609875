"""The stores that the contract of VectorStore is run over, and what its tests share."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from qdrant_client import AsyncQdrantClient

from quantum_db.model import Candidates, Entity, Vector
from quantum_db.ports import VectorStore
from quantum_db.stores.point_store import PointStore
from quantum_db.stores.qdrant import QdrantStore
from quantum_db.stores.qdrant_edge import QdrantEdgeStore

with_store = settings(
    derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
D = 6


class AtCommit:
    """Implements ``Snapshots``: readers look at the commit that the test sets."""

    def __init__(self, commit: int = 0) -> None:
        self.commit = commit

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[int]:
        yield self.commit


@dataclass
class Shared:
    """A store as its writer has it, and as another process reads it; they are one where it is embedded."""

    writer: PointStore
    reader: PointStore
    at: AtCommit

    async def apply(self, commit: int, upserts: Sequence[Entity], deletes: Sequence[str]) -> None:
        """Apply a transaction, and let readers look at it."""
        await self.writer.apply(commit, upserts, deletes)
        self.at.commit = commit


@pytest.fixture(params=["edge", "server"])
async def shared(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shared]:
    at = AtCommit()
    if request.param == "edge":
        edge = QdrantEdgeStore(tmp_path / "store")
        made = Shared(edge, edge, at)
    else:
        client = AsyncQdrantClient(":memory:")
        made = Shared(QdrantStore(client, "things"), QdrantStore(client, "things", at), at)
    yield made
    await made.writer.close()


@pytest.fixture(params=["edge", "server"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PointStore]:
    made: PointStore = (
        QdrantEdgeStore(tmp_path / "store")
        if request.param == "edge"
        else QdrantStore(AsyncQdrantClient(":memory:"), "things")
    )
    as_port: VectorStore = made
    assert as_port is made
    yield made
    await made.close()


def unit(*numbers: float) -> Vector:
    vector = np.asarray(numbers, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def axis(i: int, lean: float = 0.0) -> Vector:
    """A unit vector along an axis, leaning towards the last one."""
    numbers = [0.0] * D
    numbers[i] = 1.0
    numbers[-1] += lean
    return unit(*numbers)


def rows(found: Candidates) -> list[tuple[str, str | None, float]]:
    return [
        (found.entity_ids[owner], context, float(weight))
        for owner, context, weight in zip(found.owner, found.contexts, found.weights, strict=True)
    ]


def assert_same(got: Entity | None, wanted: Entity) -> None:
    assert got is not None
    assert (got.id, got.coherence_time_ms) == (wanted.id, wanted.coherence_time_ms)
    assert json.dumps(got.metadata, sort_keys=True) == json.dumps(wanted.metadata, sort_keys=True)
    assert [(c.name, c.weight) for c in got.contexts] == [(c.name, c.weight) for c in wanted.contexts]
    for mine, theirs in zip((got, *got.contexts), (wanted, *wanted.contexts), strict=True):
        assert (mine.vector is None) == (theirs.vector is None)
        if mine.vector is not None:
            assert mine.vector.dtype == np.float32
            np.testing.assert_allclose(mine.vector, theirs.vector, atol=1e-6)
