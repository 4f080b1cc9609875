"""What entities are read from and written to. One row is one entity.

A row is the body of ``POST /api/v2/vectors``, with vectors as float32 arrays where the file holds numbers of this type,
and maybe with the version that the entity had.
Rows are read and written one after another, never all at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from quantum_db.errors import CorruptData, InvalidRequest

FORMAT_NAME: Final = "quantum-db-entities"
FORMAT_VERSION: Final = 1

Row = dict[str, Any]
Position = int | str
"""Where a row stands in its source: rows of a file from 1, points of a Qdrant collection by their id."""

FileFormat = Literal["jsonl", "parquet"]
SUFFIXES: Final[Mapping[str, FileFormat]] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


class RowWriter(Protocol):
    """Writes rows to a new file. The file is whole once ``finish`` has returned, and on disk."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Write one row, as ``GET /api/v2/vectors`` lists it."""

    def finish(self) -> None:
        """Write what ends the file, and close it."""

    def abandon(self) -> None:
        """Close the file as it is. Idempotent, and does nothing after ``finish``."""


class RowSource(Protocol):
    """Rows in an order of their own, which stays the same as long as ``identity`` does."""

    @property
    def total(self) -> int | None:
        """The number of rows, where it is known."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """JSON that tells this source, as it is now, from others."""

    def rows(self, after: Position | None) -> Iterator[tuple[Position, Row]]:
        """Yield the rows behind a position, all for None.

        Raises:
            CorruptData: the source is damaged or cut; the message names the line, row group or point.
            InvalidRequest: a row cannot be an entity; the message names it.
            Unavailable: the source does not answer.
        """


def format_of(path: Path) -> FileFormat:
    """Return the format that a file's name tells. Raises InvalidRequest."""
    try:
        return SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise InvalidRequest(
            f"{path}: the name does not tell the format; it must end in {', '.join(SUFFIXES)}"
        ) from None


def check_version(path: Path, name: object, version: object) -> None:
    """Raise unless this program reads the version of a file.

    Raises:
        CorruptData: the file is none of ours.
        InvalidRequest: it is of another version.
    """
    if name != FORMAT_NAME:
        raise CorruptData(f"{path} is not a file of entities: its format is {name!r}, not {FORMAT_NAME!r}")
    if version != FORMAT_VERSION:
        raise InvalidRequest(f"{path} has format version {version!r}; this program reads version {FORMAT_VERSION}")


def file_identity(*paths: Path) -> dict[str, Any]:
    """Return what tells these files, as they are now, from others."""
    return {str(path.resolve()): [path.stat().st_size, path.stat().st_mtime_ns] for path in paths}


def parse_metadata(text: object, where: str) -> dict[str, Any]:
    """Return an entity's metadata from its JSON text. Raises CorruptData, saying where."""
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CorruptData(f"{where}: the metadata is not the text of a JSON object")
    return found
