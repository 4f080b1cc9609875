"""Copies of folders with sparse files: a store's files are as long as they may become, and mostly holes."""

from __future__ import annotations

import os
from pathlib import Path


def copy_folder(source: Path, target: Path) -> int:
    """Copy a folder of folders and plain files; return the bytes that were copied, without the holes.

    Raises OSError, also when ``target`` is there already.
    """
    target.mkdir(parents=True)
    copied = 0
    for entry in os.scandir(source):
        if entry.is_dir(follow_symlinks=False):
            copied += copy_folder(Path(entry.path), target / entry.name)
        else:
            copied += _copy_file(entry.path, target / entry.name)
    return copied


def size_of(folder: Path) -> int:
    """Return what the files in a folder take on disk, in bytes, without their holes."""
    blocks = 0
    for place, _, names in os.walk(folder):
        blocks += sum(os.lstat(Path(place) / name).st_blocks for name in names)
    return blocks * 512  # what st_blocks counts, whatever the file system's own blocks are


def _copy_file(source: str, target: Path) -> int:
    with open(source, "rb") as given, target.open("wb") as made:  # noqa: PTH123 - of a directory entry
        size = os.fstat(given.fileno()).st_size
        made.truncate(size)
        copied = at = 0
        while at < size:
            try:
                start = os.lseek(given.fileno(), at, os.SEEK_DATA)
            except OSError:  # only a hole is left
                break
            at = os.lseek(given.fileno(), start, os.SEEK_HOLE)
            _copy_range(given.fileno(), made.fileno(), start, at)
            copied += at - start
        return copied


def _copy_range(given: int, made: int, start: int, end: int) -> None:
    os.lseek(made, start, os.SEEK_SET)
    while start < end:
        sent = os.sendfile(made, given, start, end - start)
        if sent == 0:
            raise OSError("a file became shorter while it was copied")
        start += sent
