"""What the durability tests run in a process of its own, and kill. It imports little, so that it starts soon."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from quantum_db.model import Context, Entity
from quantum_db.stores import edge_shard, qdrant_edge
from quantum_db.stores.edge_index import IndexSettings
from quantum_db.stores.edge_rebuild import Rebuild
from quantum_db.stores.edge_shard import OpenShard
from quantum_db.stores.qdrant_edge import QdrantEdgeStore

WIDE = 64
MANY = 1500


def version(name: str, n: int) -> Entity:
    """Each version has other vectors, weights and metadata, and another number of slots than the one before."""
    rng = np.random.default_rng([n, *name.encode()])
    weights = rng.dirichlet(np.ones(1 + n % 4))
    vectors = rng.standard_normal((len(weights), 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    contexts = tuple(Context(f"c{i}", float(w), v) for i, (w, v) in enumerate(zip(weights, vectors, strict=True)))
    return Entity(name, None, contexts, metadata={"n": n, "deep": {"x": [0.1 + 0.2, None]}})


def deep(levels: int) -> Entity:
    value: object = 0
    for _ in range(levels - 1):
        value = [value]
    vector = np.eye(1, 6, dtype=np.float32)[0]
    return Entity("deep", vector, metadata={"deep": value})


def wide() -> list[Entity]:
    vectors = np.random.default_rng(0).standard_normal((MANY, WIDE)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [Entity(f"e{i}", vector) for i, vector in enumerate(vectors)]


FEW = 300
SMALL = IndexSettings(after_points=100, least_bytes=10_000)
STEPS = [
    *("follow", "finish", "adopt", "replay", "write_manifest", "rmtree"),
    *("after write_manifest", "after replay"),
]
"""Of taking over an index: where the owner is killed before the step, or after it."""


def of_round(i: int, n: int) -> Entity:
    """Entity ``i`` as round ``n`` writes it."""
    vector = np.random.default_rng([i, n]).standard_normal(16).astype(np.float32)
    return Entity(f"e{i}", vector / np.linalg.norm(vector), metadata={"n": n, "x": 0.1 * n + 0.2})


def plant(step: str) -> None:
    """Have this process killed at a step."""
    name = step.removeprefix("after ")
    holder: Any = next(one for one in (Rebuild, OpenShard, qdrant_edge, edge_shard, shutil) if hasattr(one, name))
    done = getattr(holder, name)
    after = step != name

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def later(*arguments: Any) -> Any:
        die()

    def now(*arguments: Any, **options: Any) -> Any:
        if after:
            done(*arguments, **options)
        die()

    setattr(holder, name, later if inspect.iscoroutinefunction(done) else now)


async def rebuild(store: QdrantEdgeStore, step: str) -> None:
    """Write round after round while an index is built; say the number of each that is done."""
    await store.upsert([of_round(i, 0) for i in range(FEW)])
    plant(step)
    building = asyncio.create_task(store.optimize())
    n = 0
    while not building.done():
        n += 1
        await store.upsert([of_round(n % FEW, n)])
        say(n)
        await asyncio.sleep(0.0005 * n)
    await building
    say("never killed")


def say(what: object) -> None:
    print(what, flush=True)


async def write_versions(store: QdrantEdgeStore, n: int) -> None:
    """Replace, add and delete for ever; say the number of each round that is done."""
    while True:
        await store.upsert([version("a", n), version(f"b{n}", n)])
        if n > 2:
            await store.delete([f"b{n - 2}"])
        say(n)
        n += 1


async def main(job: str, path: Path, n: int) -> None:
    store = QdrantEdgeStore(path, SMALL if job in {"rebuild", "optimize"} else IndexSettings())
    if job == "rebuild":
        await rebuild(store, STEPS[n])
    elif job == "versions":
        await write_versions(store, n)
    elif job == "deep":
        await store.upsert([deep(n)])
    elif job == "optimize":
        await store.upsert(wide())
        say("written")
        await store.optimize()
    say("done")
    sys.stdin.read()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
