"""Names of what a database file holds, from what changes on disk with every write."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

SQLITE_HEADER: Final = 100
"""It holds the change counter, which a write in a rollback journal's mode raises."""
WAL_INDEX_HEADER: Final = 48
"""It holds a counter of transactions, the last frame and its checksum: what a write in WAL mode changes."""


def file_version(path: Path, *others: tuple[Path, int]) -> str:
    """Return a name of what is in a file.

    Args:
        path: of the file.
        others: files beside it that may be there, and how many bytes at their beginning tell of changes; 0 where size
            and time do.
    """
    digest = hashlib.blake2b(digest_size=12)
    for one, head in ((path, 0), *others):
        try:
            if head:
                with one.open("rb") as file:
                    digest.update(file.read(head))
                continue
            state = one.stat()
            digest.update(f"{state.st_ino}:{state.st_size}:{state.st_mtime_ns};".encode())
        except FileNotFoundError:
            digest.update(b"none;")
    return digest.hexdigest()


def sqlite_version(path: Path) -> str:
    """Return a name of what is in a SQLite database, whatever its journal's mode."""
    wal, index = path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")
    return file_version(path, (path, SQLITE_HEADER), (wal, 0), (index, WAL_INDEX_HEADER))
