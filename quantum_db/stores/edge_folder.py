"""The folder of an embedded store: what is in it, what says so, and who owns it.

    folder/owner.lock           held while the store is open
    folder/data/manifest.json   names the shard that counts, and what must be in it
    folder/data/shard...        that shard, and for moments the one before or after it
    folder/building-.../        a copy whose index is being built
    folder/data.new/            a store that is being made

One shard takes the place of another by a new manifest, which replaces the old one in one step. Whatever the manifest
does not name is left over, and is removed when the folder is opened.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from quantum_db.errors import CorruptData, Unavailable

FORMAT: Final = 2
"""Of the manifest. Format 1 ends with ``points``; what it is about was built with the defaults."""
MANIFEST: Final = "manifest.json"
FIRST_SHARD: Final = "shard"
BUILDING: Final = "building-"
_READABLE: Final = (1, 2)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What must be in the folder.

    Attributes:
        segments: the shard's segments; None where they may be others after a crash.
        points: their number; None from opening to closing.
        shard: the name of the shard's folder.
        built: with what the index was built, as ``IndexSettings.built`` says it.
        unindexed: how many points had been written or erased since, when this was written.
    """

    format: int
    dimension: int
    segments: list[str] | None
    points: int | None
    shard: str = FIRST_SHARD
    built: dict[str, Any] = field(default_factory=lambda: {"on_disk": False, "quantization": "none"})
    unindexed: int = 0


def own(path: Path) -> int:
    """Return a locked descriptor, which keeps every other owner out for as long as this process holds it.

    Raises:
        Unavailable: the folder has another owner, or cannot be used.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / "owner.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise Unavailable(f"The store in {path} cannot be opened: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise Unavailable(f"The store in {path} is open elsewhere; a folder has one owner") from error
    return lock


def check_is_new(path: Path) -> None:
    """Raise CorruptData where a folder without a store holds something else."""
    strangers = sorted(entry.name for entry in path.iterdir() if entry.name not in {"owner.lock", "data.new"})
    if strangers:
        raise CorruptData(f"{path} holds no store, but {strangers[0]!r}")


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of the store in ``path``, whose segments are all there.

    Raises:
        CorruptData: it cannot be read, is of another format, or names files that are missing.
    """
    data = path / "data"
    try:
        manifest = Manifest(**json.loads((data / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CorruptData(f"The store in {path} has no readable manifest: {error}") from error
    if manifest.format not in _READABLE:
        raise CorruptData(f"The store in {path} has format {manifest.format}, this program reads {FORMAT}")
    if not isinstance(manifest.shard, str) or Path(manifest.shard).name != manifest.shard:
        raise CorruptData(f"The store in {path} names no folder of its own as its shard, but {manifest.shard!r}")
    for segment in manifest.segments or []:
        for name in ("segment.json", "version.info"):
            if not (data / manifest.shard / "segments" / segment / name).is_file():
                raise CorruptData(f"The store in {path} is damaged: {segment}/{name} is missing")
    return manifest


def write_manifest(data: Path, manifest: Manifest) -> None:
    """Replace the manifest in a store's ``data`` folder, in one step, and wait for the disk."""
    fresh = data / f"{MANIFEST}.new"
    fresh.write_text(json.dumps(asdict(manifest)))
    sync(fresh)
    fresh.replace(data / MANIFEST)
    sync(data)


def segments_in(shard: Path) -> list[str]:
    """Return the names of a shard's segments, sorted."""
    return sorted(entry.name for entry in (shard / "segments").iterdir() if (entry / "segment.json").is_file())


def next_shard(shard: str) -> str:
    """Return the name of the shard that takes the place of one."""
    _, _, number = shard.partition("-")
    return f"{FIRST_SHARD}-{int(number or 1) + 1}"


def remove_leftovers(path: Path, shard: str) -> None:
    """Remove what an owner that was killed while it built an index has left. What cannot be removed stays."""
    shards = [one for one in (path / "data").glob(f"{FIRST_SHARD}*") if one.name != shard]
    for one in (*path.glob(f"{BUILDING}*"), *shards):
        shutil.rmtree(one, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_log(shard: Path) -> None:
    """Wait until a shard's log is on disk. What it has flushed and its log are all that it needs."""
    sync_all(shard / "wal")


def sync_all(folder: Path) -> None:
    """Wait until everything below a folder is on disk, but for what goes meanwhile."""
    for path in (*folder.rglob("*"), folder):
        with contextlib.suppress(FileNotFoundError):
            sync(path)
