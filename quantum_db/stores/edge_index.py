"""How the index of an embedded store is built, and the program that builds it in a process of its own.

The library keeps the GIL while it builds an index, which takes minutes at a million vectors. So a child builds it on a
copy: ``python -m quantum_db.stores.edge_index SHARD COPY DIMENSION BYTES PLACE QUANTIZATION``. It says what it has come
to, a word a line, and waits for a line where it needs its parent:

    copied              all of SHARD is in COPY, but for what was written meanwhile
    <- a line           nothing is written to SHARD from now on
    same                COPY is SHARD as it is now
    built               COPY has its index, is closed, and on disk

The child dies with its parent, also where the library keeps the GIL: the kernel signals the end of its input.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import qdrant_edge as edge

from quantum_db.stores.decoding import SLOT
from quantum_db.stores.edge_folder import sync_all
from quantum_db.stores.points import CONTEXTS, ENTITY

LEAST_INDEXED_BYTES: Final = 10_000_000
"""Of vectors. Fewer are searched faster one by one, and the library builds no index of them."""
_CHUNK: Final = 1 << 20
_NICE: Final = 5
"""How far the child stands back from those who serve queries."""


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """How an embedded store keeps and indexes its vectors. A change takes effect when an index is built next.

    Attributes:
        after_points: an index is built once so many points are in none, and as many as ``least_bytes`` of vectors.
        on_disk: vectors and graph are read from the disk as they are needed, instead of all at the start.
        quantization: ``int8`` also keeps a quarter of the size in memory, which searches look at first.
    """

    after_points: int = 20_000
    on_disk: bool = False
    quantization: Literal["none", "int8"] = "none"
    least_bytes: int = LEAST_INDEXED_BYTES

    @property
    def built(self) -> dict[str, Any]:
        """What an index is built with, as the manifest notes it."""
        return {"on_disk": self.on_disk, "quantization": self.quantization}

    def config(self, dimension: int) -> edge.EdgeConfig:
        """Return the library's configuration of a shard."""
        place = edge.Memory.Cold if self.on_disk else edge.Memory.Cached
        small = None
        if self.quantization == "int8":
            small = edge.ScalarQuantizationConfig(type=edge.ScalarType.Int8, quantile=0.99, memory=edge.Memory.Pinned)
        return edge.EdgeConfig(
            vectors=edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Cosine, memory=place),
            hnsw_config=edge.HnswIndexConfig(m=16, ef_construct=100, full_scan_threshold=10_000, memory=place),
            quantization_config=small,
            optimizers=edge.EdgeOptimizersConfig(indexing_threshold=max(1, self.least_bytes // 1000)),
            wal_enabled=True,
        )


def make_shard(shard: Path, settings: IndexSettings, dimension: int) -> None:
    """Make an empty shard."""
    shard.mkdir(parents=True)
    made = edge.EdgeShard.create(str(shard), settings.config(dimension))
    # Made now, the indexes slow inserts by 7% and a build not at all. A graph for each value only helps searches that
    # are filtered by it; with graphs for the other two, a build takes a third longer at 25,000 points.
    for field, schema in (
        (CONTEXTS, edge.KeywordIndexParams()),
        (ENTITY, edge.KeywordIndexParams(enable_hnsw=False)),
        (SLOT, edge.IntegerIndexParams(lookup=True, range=False, enable_hnsw=False)),
    ):
        made.update(edge.UpdateOperation.create_field_index(field, schema))
    made.flush()
    made.close()


def mirror(source: Path, target: Path) -> None:
    """Make one folder's content that of another, and write only what differs.

    Files are compared by what is in them: the time of a file that is mapped into memory tells little.
    """
    for path in target.rglob("*"):
        if path.is_file() and not (source / path.relative_to(target)).is_file():
            path.unlink(missing_ok=True)
    for path in source.rglob("*"):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
            continue
        try:
            _mirror_file(path, copy)
        except FileNotFoundError:  # it went meanwhile; the second time nothing goes
            continue


def _mirror_file(source: Path, target: Path) -> None:
    copied = os.open(target, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        there = os.fstat(copied).st_size
        with source.open("rb", buffering=0) as file:
            at = 0
            while chunk := file.read(_CHUNK):
                if at >= there or os.pread(copied, len(chunk), at) != chunk:
                    os.pwrite(copied, chunk, at)
                at += len(chunk)
        os.ftruncate(copied, at)
    finally:
        os.close(copied)


def _build(shard: Path, settings: IndexSettings, dimension: int) -> None:
    loaded = edge.EdgeShard.load(str(shard), settings.config(dimension))
    points = loaded.count(edge.CountRequest(exact=True))
    loaded.optimize()
    loaded.flush()
    left = loaded.count(edge.CountRequest(exact=True))
    loaded.close()
    if left != points:
        raise RuntimeError(f"{left} of {points} points are left")
    sync_all(shard)


def _die_with_parent() -> None:
    """Let the kernel end this process when its input is closed, or written to out of turn."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(sys.stdin, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sys.stdin, fcntl.F_SETFL, fcntl.fcntl(sys.stdin, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([sys.stdin], [], [], 0.0)[0]:
        raise SystemExit("the parent has gone")


def main(source: Path, copy: Path, settings: IndexSettings, dimension: int) -> None:
    """Do what the module says."""
    os.nice(_NICE)
    copy.mkdir(parents=True)
    mirror(source, copy)
    sys.stdout.write("copied\n")
    sys.stdout.flush()
    if not sys.stdin.readline():
        raise SystemExit("the parent has gone")
    _die_with_parent()
    mirror(source, copy)
    sys.stdout.write("same\n")
    sys.stdout.flush()
    _build(copy, settings, dimension)
    sys.stdout.write("built\n")
    sys.stdout.flush()


if __name__ == "__main__":
    shard_of, copy_to, dimension_of, least_bytes, on_disk, quantization = sys.argv[1:]
    main(
        Path(shard_of),
        Path(copy_to),
        IndexSettings(
            least_bytes=int(least_bytes),
            on_disk=on_disk == "on_disk",
            quantization="int8" if quantization == "int8" else "none",
        ),
        int(dimension_of),
    )
