"""The shard of an embedded store's folder while it is open: its log, its manifest, and how another takes its place."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import qdrant_edge as edge

from quantum_db.errors import CorruptData, QuantumDBError, Unavailable
from quantum_db.stores.copying import copy_folder
from quantum_db.stores.edge_folder import (
    FIRST_SHARD,
    FORMAT,
    MANIFEST,
    Manifest,
    check_is_new,
    next_shard,
    own,
    read_manifest,
    remove_leftovers,
    segments_in,
    sync,
    sync_all,
    sync_log,
    write_manifest,
)
from quantum_db.stores.edge_index import IndexSettings, make_shard
from quantum_db.stores.edge_rebuild import Rebuild

logger = logging.getLogger(__name__)

LOG_COPIED: Final = 2_000
"""Changes in the log of what is copied, at most: whoever opens the copy stands still for them."""
POINTS_A_LOG: Final = 262_144
"""Changes after which the library flushes, which empties its log."""


class OpenShard:
    """The shard that counts in a folder, and its owner.

    A change is in the shard's log when ``change`` returns, and survives the process being killed. ``sync`` also makes
    it survive the machine: it waits until the log is on disk, in a thread. The library's own flush, which empties the
    log, keeps the process standing still, for a second after 200,000 changes; it is done where nothing is written, or
    where the log has become long. The library takes lost files for a shard that never had them; the manifest tells
    what must be there.

    Attributes:
        path: the folder.
        data: what of it is to be copied.
        dimension: of the vectors; None before there is a shard.
        unindexed: points written or erased since the index was built.
        rebuild: an index that is being built, which is told of all changes.

    Raises:
        Unavailable: the folder is open elsewhere, or cannot be used (permissions, space).
        CorruptData: the folder holds something else, or a store that is damaged.
    """

    def __init__(self, path: Path, index: IndexSettings) -> None:
        self.path = path
        self.data = path / "data"
        self.dimension: int | None = None
        self.unindexed = 0
        self.rebuild: Rebuild | None = None
        self._index = index
        self._manifest: Manifest | None = None
        self._shard: edge.EdgeShard | None = None
        self._closed = False
        self._unsynced = 0
        self._in_log = 0
        self._lock = own(path)
        try:
            self._open()
            if self._manifest is not None:
                remove_leftovers(path, self._manifest.shard)
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def shard(self) -> edge.EdgeShard:
        """The library's shard. Raises Unavailable where there is none, or the store has been closed."""
        self.check_open()
        if self._shard is None:
            raise Unavailable(f"The store in {self.path} has no shard yet")
        return self._shard

    @property
    def is_made(self) -> bool:
        """Whether anything was ever written."""
        return self._shard is not None

    @property
    def folder(self) -> Path:
        """Of the library's shard."""
        assert self._manifest is not None
        return self.data / self._manifest.shard

    def check_open(self) -> None:
        """Raise Unavailable when the store has been closed."""
        if self._closed:
            raise Unavailable(f"The store in {self.path} has been closed")

    def make(self, dimension: int) -> None:
        """Make the shard, and open it. No half of it is ever found."""
        fresh = self.path / "data.new"
        with self.failing_as(Unavailable, "create"):
            shutil.rmtree(fresh, ignore_errors=True)
            make_shard(fresh / FIRST_SHARD, self._index, dimension)
            segments = segments_in(fresh / FIRST_SHARD)
            write_manifest(fresh, Manifest(FORMAT, dimension, segments, 0, built=self._index.built))
            fresh.rename(self.data)
            sync(self.path)
        self._open()

    def change(self, operation: edge.UpdateOperation, point_ids: Sequence[str]) -> None:
        """Write or erase points."""
        if self.rebuild is not None:
            self.rebuild.note(point_ids)
        with self.failing_as(Unavailable, "write to"):
            self.shard.update(operation)
        self._unsynced += len(point_ids)
        self._in_log += len(point_ids)
        self.unindexed += len(point_ids)
        if self._in_log >= POINTS_A_LOG:
            self._empty_log()

    async def sync(self, *, may_stand_still: bool) -> None:
        """Wait until all changes are on disk; where they are already, the log may be emptied. Raises Unavailable."""
        if self._shard is None:
            return
        if self._unsynced:
            unsynced = self._unsynced
            await self._sync_log(self.folder)
            self._unsynced = max(0, self._unsynced - unsynced)
        elif self._in_log and may_stand_still:
            await self.sync_files()
            self._empty_log()

    def close(self) -> None:
        """Flush the shard and close it, and say so in the manifest. Idempotent. Raises Unavailable."""
        if self._closed:
            return
        self._closed = True
        if self._shard is None:
            return
        shard, self._shard = self._shard, None
        with self.failing_as(Unavailable, "close"):
            points = shard.count(edge.CountRequest(exact=True))
            shard.flush()
            shard.close()
        self._note(points)

    def copy_to(self, folder: Path) -> int:
        """Copy the manifest and its shard into a folder that is not there yet; return the bytes.

        Raises Unavailable, also while the log is long: whoever opens the copy would have to carry it out again.
        """
        assert self.shard is not None
        if self._in_log > LOG_COPIED:
            raise Unavailable(f"The log of the store in {self.path} is too long to be copied", retry_after_s=1.0)
        target = folder / self.data.name
        with self.failing_as(Unavailable, "copy"):
            copied = copy_folder(self.folder, target / self.folder.name)
            shutil.copy2(self.data / MANIFEST, target / MANIFEST)
        return copied

    def discard(self) -> None:
        """Close without a flush, and let others own the folder."""
        self._closed = True
        self._shard = None
        self.release()

    def reopen(self) -> None:
        """Open the shard again. One that does not open stays closed. Raises CorruptData."""
        self._open()
        self._closed = False

    def release(self) -> None:
        """Let others own the folder."""
        os.close(self._lock)

    # What takes the shard's place

    @property
    def gains_by_index(self) -> bool:
        """Whether so much is in no index, or in one of other settings, that the library builds one."""
        if self._shard is None or self._manifest is None or self.dimension is None:
            return False
        points = self._shard.info().points_count
        is_other = self._manifest.built != self._index.built and self.unindexed < points
        changed = points if is_other else min(points, self.unindexed)
        return changed * self.dimension * 4 >= self._index.least_bytes

    def adopt(self, built: Path) -> tuple[edge.EdgeShard, Path]:
        """Move a shard that a child has built beside the present one, and open it: 0.2 s for 100,000 points."""
        assert self._manifest is not None
        folder = self.data / next_shard(self._manifest.shard)
        with self.failing_as(Unavailable, "take in the index of"):
            built.rename(folder)
            sync(self.data)
            return edge.EdgeShard.load(str(folder)), folder

    def check_same(self, fresh: edge.EdgeShard) -> None:
        """Raise Unavailable when a shard holds more or fewer points than the present one."""
        if self.shard.info().points_count != fresh.info().points_count:
            there, expected = (one.count(edge.CountRequest(exact=True)) for one in (fresh, self.shard))
            if there != expected:
                raise Unavailable(f"The new index holds {there} of {expected} points")

    async def replace_by(self, fresh: edge.EdgeShard, folder: Path, changed: int) -> edge.EdgeShard:
        """Put a shard in the place of the present one, and return that one. Nothing is written meanwhile.

        Args:
            fresh: holds what the present one holds.
            folder: of ``fresh``.
            changed: how many points were written into it since its index was built.

        Raises:
            Unavailable: it holds something else, or cannot be written.
        """
        await self._sync_log(folder)
        old, manifest = self.shard, self._manifest
        assert manifest is not None
        self.check_same(fresh)
        segments = segments_in(folder)
        taken = Manifest(FORMAT, manifest.dimension, segments, None, folder.name, self._index.built, changed)
        try:
            with self.failing_as(Unavailable, "put a new shard into"):
                write_manifest(self.data, taken)
        except Unavailable:
            if read_manifest(self.path).shard != folder.name:  # else only the wait for the disk has failed
                raise
        self._manifest, self._shard = taken, fresh
        self.unindexed = self._in_log = changed
        self._unsynced = 0
        return old

    @contextmanager
    def failing_as(self, kind: type[QuantumDBError], doing: str) -> Iterator[None]:
        """Raise what the library and the system raise as an error of the tree."""
        try:
            yield
        except (QuantumDBError, KeyboardInterrupt, SystemExit, asyncio.CancelledError):
            raise
        except BaseException as error:  # the library raises bare Exception, and panics are BaseException
            text = str(error)
            if "No space left" in text or "Permission denied" in text:
                kind = Unavailable
            raise kind(f"Could not {doing} the store in {self.path}: {text}") from error

    async def sync_files(self) -> None:
        """Bring to the disk what the library has left to the kernel, so that its own flush takes half as long."""
        with self.failing_as(Unavailable, "flush"):
            await asyncio.to_thread(sync_all, self.folder)

    async def _sync_log(self, folder: Path) -> None:
        with self.failing_as(Unavailable, "flush"):
            await asyncio.to_thread(sync_log, folder)

    def _empty_log(self) -> None:
        with self.failing_as(Unavailable, "flush"):
            self.shard.flush()
        self._unsynced = self._in_log = 0

    def _open(self) -> None:
        if not self.data.exists():
            check_is_new(self.path)
            return
        manifest = read_manifest(self.path)
        with self.failing_as(CorruptData, "open"):
            shard = edge.EdgeShard.load(str(self.data / manifest.shard))
            points = shard.count(edge.CountRequest(exact=True))
        if manifest.points is not None and manifest.points != points:
            shard.close()
            raise CorruptData(f"The store in {self.path} is damaged: {points} of {manifest.points} points are left")
        self._manifest, self._shard, self.dimension = manifest, shard, manifest.dimension
        self.unindexed = max(manifest.unindexed, points - shard.info().indexed_vectors_count)
        self._unsynced = self._in_log = 1  # an owner before may not have come to it
        self._note(None)

    def _note(self, points: int | None) -> None:
        assert self._manifest is not None
        manifest = self._manifest
        self._manifest = Manifest(
            *(FORMAT, manifest.dimension, segments_in(self.folder), points),
            *(manifest.shard, manifest.built, self.unindexed),
        )
        with self.failing_as(Unavailable, "write the manifest of"):
            write_manifest(self.data, self._manifest)
