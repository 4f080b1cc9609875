"""The process that holds the store of ``benchmarks.scale``: the embedded store behind a socket, without Ray.

A request is a header (what, a number, the length of what follows) and its bytes; the answer likewise.
"""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
from enum import IntEnum
from pathlib import Path

import numpy as np
import psutil

from quantum_db.errors import QuantumDBError
from quantum_db.model import Entity, Search
from quantum_db.stores.edge_index import IndexSettings
from quantum_db.stores.qdrant_edge import QdrantEdgeStore

DIMENSION = 128
TOP_K = 10
HEADER = struct.Struct("<BII")


class Ask(IntEnum):
    """What is asked: the number is the first entity's in ``WRITE``, and how many are wanted in ``SEARCH``."""

    SEARCH = 0
    WRITE = 1
    OPTIMIZE = 2
    STATE = 3
    CLOSE = 4


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    """Return the next frame. Raises IncompleteReadError at the end."""
    kind, number, length = HEADER.unpack(await reader.readexactly(HEADER.size))
    return kind, number, await reader.readexactly(length)


def frame(kind: int, number: int, content: bytes = b"") -> bytes:
    return HEADER.pack(kind, number, len(content)) + content


def disk_bytes(folder: Path) -> int:
    """Return what a folder takes on the disk; files with holes take less than their size."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


class Holder:
    """Answers for one store."""

    def __init__(self, folder: Path, index: IndexSettings) -> None:
        self._folder = folder
        self._store = QdrantEdgeStore(folder, index)
        self.closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                kind, number, content = await read_frame(reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()
                return
            try:
                answer = frame(0, 0, await self._answer(Ask(kind), number, content))
            except QuantumDBError as error:
                answer = frame(1, 0, error.detail.encode())
            writer.write(answer)
            await writer.drain()

    async def _answer(self, ask: Ask, number: int, content: bytes) -> bytes:
        vectors = np.frombuffer(content, dtype=np.float32).reshape(-1, DIMENSION) if content else None
        answer: object = None
        match ask:
            case Ask.SEARCH:
                assert vectors is not None
                [candidates] = await self._store.search([Search(vectors[0], number)])
                answer = [int(one) for one in candidates.entity_ids]
            case Ask.WRITE:
                assert vectors is not None
                entities = [Entity(str(number + i), row, metadata={"n": i}) for i, row in enumerate(vectors)]
                await self._store.upsert(entities)
            case Ask.OPTIMIZE:
                await self._store.optimize()
            case Ask.STATE:
                answer = self._state()
            case Ask.CLOSE:
                await self._store.close()
                self.closed.set()
        return json.dumps(answer).encode()

    def _state(self) -> dict[str, object]:
        process = psutil.Process()
        children = [child.memory_info().rss for child in process.children()]
        return {
            "phase": self._store.phase.name,
            "unindexed": self._store.unindexed,
            "rss": process.memory_info().rss,
            "unshared": process.memory_info().rss - process.memory_info().shared,
            "child": max(children, default=0),
            "disk": disk_bytes(self._folder),
        }


def start(folder: Path, socket: Path, index: IndexSettings) -> subprocess.Popen[bytes]:
    """Start the process that holds the store in ``folder``."""
    arguments = [str(folder), str(socket), json.dumps(index.built)]
    command = [sys.executable, "-m", "benchmarks.scale_store", *arguments]
    return subprocess.Popen(command)  # noqa: S603 - made here


async def main(folder: Path, socket: Path, index: IndexSettings) -> None:
    holder = Holder(folder, index)
    server = await asyncio.start_unix_server(holder.serve, socket)
    async with server:
        await holder.closed.wait()
        await asyncio.sleep(0.2)  # for the answer


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), IndexSettings(**json.loads(sys.argv[3]))))
