"""The owner's side of an index that a child builds: what the child is told, and what has changed since it copied."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import uuid
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final, cast

import qdrant_edge as edge

from quantum_db.errors import Unavailable
from quantum_db.stores.decoding import RECORD, read_record
from quantum_db.stores.edge_folder import BUILDING
from quantum_db.stores.edge_index import IndexSettings
from quantum_db.stores.points import METADATA

COPY_S: Final = 600.0
"""Bound of the first copy, which holds nobody up."""
HOLD_S: Final = 30.0
"""Bound of the second one, which holds writes up."""
BUILD_S: Final = 6 * 3600.0
MOST_CHANGES: Final = 4_000_000
"""Of points while an index is built, at 16 bytes each; with more the build is given up."""
_ID_BYTES: Final = 16
_TOLD: Final = 2_000


class Phase(IntEnum):
    """How far an index is. In this order."""

    NONE = 0
    COPYING = 1
    BUILDING = 2
    TAKING_OVER = 3


class ChangedPoints:
    """The ids of points that were written or erased, oldest first; one that was changed twice may be there twice."""

    def __init__(self) -> None:
        self._ids = bytearray()
        self._start = 0

    def __len__(self) -> int:
        return len(self._ids) // _ID_BYTES - self._start

    def note(self, point_ids: Sequence[str]) -> None:
        """Add ids."""
        self._ids += b"".join([uuid.UUID(one).bytes for one in point_ids])

    def take(self, most: int) -> list[str]:
        """Remove the first ids and return them, each once."""
        end = min(self._start + most, self._start + len(self))
        taken = [bytes(self._ids[at * _ID_BYTES : (at + 1) * _ID_BYTES]) for at in range(self._start, end)]
        self._start = end
        if self._start * _ID_BYTES > len(self._ids) // 2:
            del self._ids[: self._start * _ID_BYTES]
            self._start = 0
        return [str(uuid.UUID(bytes=one)) for one in dict.fromkeys(taken)]


class Rebuild:
    """One build, from the copy to the end of the child.

    Attributes:
        copy: the folder of the shard that the child makes.
        changed: what was written since the child's copy was that of the shard; None before.
    """

    def __init__(self, folder: Path, shard: Path, dimension: int, settings: IndexSettings) -> None:
        """Start nothing yet.

        Args:
            folder: the store's.
            shard: what is copied.
        """
        self._building = folder / f"{BUILDING}{uuid.uuid4().hex[:8]}"
        self._errors = self._building / "errors.txt"
        self.copy = self._building / "shard"
        self.changed: ChangedPoints | None = None
        self._arguments = [
            *(str(shard), str(self.copy), str(dimension), str(settings.least_bytes)),
            *("on_disk" if settings.on_disk else "cached", settings.quantization),
        ]
        self._child: asyncio.subprocess.Process | None = None
        self._given_up = ""

    def note(self, point_ids: Sequence[str]) -> None:
        """Take in that points have changed. With too many changes the build is given up."""
        if self.changed is not None:
            self.changed.note(point_ids)
            if len(self.changed) > MOST_CHANGES:
                self.give_up("more has changed than is remembered")

    async def begin(self) -> None:
        """Have the child copy the shard for the first time. Raises Unavailable when it does not come to it."""
        try:
            self._building.mkdir()
            errors = self._errors.open("wb")
        except OSError as error:
            raise Unavailable(f"The index was not built: {error}") from error
        with errors:
            self._child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "quantum_db.stores.edge_index", *self._arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        await self._hear("copied", COPY_S)

    async def follow(self) -> None:
        """Have the child copy what was written since. Nothing may be written until this returns. Raises Unavailable."""
        assert self._child is not None
        assert self._child.stdin is not None
        with contextlib.suppress(ConnectionError):  # of a child that has died, which is told by what it does not say
            self._child.stdin.write(b"\n")
            await self._child.stdin.drain()
        await self._hear("same", HOLD_S)
        self.changed = ChangedPoints()

    async def finish(self) -> None:
        """Wait until the index is built. Raises Unavailable when it was not."""
        await self._hear("built", BUILD_S)

    def give_up(self, why: str) -> None:
        """End the child at once; whoever waits for it is told why."""
        self._given_up = self._given_up or why
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()

    def check(self) -> None:
        """Raise Unavailable when the build was given up."""
        if self._given_up:
            raise Unavailable(f"The index was not built: {self._given_up}")

    async def clean_up(self) -> None:
        """End the child, if it still runs, and remove what it has made. Idempotent."""
        self.give_up("the build has ended")
        if self._child is not None:
            await self._child.wait()
        await asyncio.to_thread(shutil.rmtree, self._building, ignore_errors=True)

    async def _hear(self, word: str, bound_s: float) -> None:
        assert self._child is not None
        assert self._child.stdout is not None
        try:
            async with asyncio.timeout(bound_s):
                said = (await self._child.stdout.readline()).decode().strip()
                if said == word and not self._given_up:
                    return
        except TimeoutError:
            self.give_up(f"it took longer than {bound_s:g} s")
        raise Unavailable(f"The index was not built: {self._given_up or self._last_words()}")

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._errors.read_bytes()[-_TOLD:].decode(errors="replace").split("\n")
            return next((line for line in reversed(lines) if line.strip()), "its process has died")
        return "its process has died"


def replay(live: edge.EdgeShard, fresh: edge.EdgeShard, point_ids: Sequence[str]) -> None:
    """Make points of one shard as they are in another: written where they are there, erased where they are not.

    Metadata is taken from the record: numbers of payloads are not read back as they were written.
    """
    records = live.retrieve(list(point_ids), with_payload=True, with_vector=True)
    points = []
    for record in records:
        payload = dict(record.payload or {})
        payload[METADATA] = read_record(payload.get(RECORD)).metadata
        points.append(edge.Point(record.id, cast("list[float]", record.vector), payload))
    if points:
        fresh.update(edge.UpdateOperation.upsert_points(points))
    gone = set(point_ids) - {str(record.id) for record in records}
    if gone:
        fresh.update(edge.UpdateOperation.delete_points(list(gone)))
