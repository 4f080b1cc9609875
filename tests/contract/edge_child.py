"""What the durability tests run in a process of its own, and kill. It imports little, so that it starts soon."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np

from quantum_db.model import Context, Entity
from quantum_db.stores.qdrant_edge import QdrantEdgeStore

WIDE = 1024
MANY = 2800  # enough for the library to build an index: 10 MB of vectors


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
    store = QdrantEdgeStore(path)
    if job == "versions":
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
