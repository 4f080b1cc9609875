"""Entities as JSON lines: a header, one line for each entity, a footer.

    {"format": "quantum-db-entities", "version": 1}
    {"id": "doc_123", "vector": [0.6, 0.8], "contexts": [...], "coherence_time_ms": 1000.0, "metadata": {...}}
    {"rows": 1, "crc32": 2774363417}

The footer tells a whole file from a cut one. ``crc32`` is that of the lines of the entities with their line ends; files
made by hand may do without it. Numbers of vectors are written in the fewest digits that give the same float32 back.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from quantum_db.errors import CorruptData, InvalidRequest, Unavailable
from quantum_db.transfer.formats import FORMAT_NAME, FORMAT_VERSION, Position, Row, check_version, file_identity

_MAX_LINE_BYTES: Final = 256 * 1024 * 1024
_READ_BYTES: Final = 1024 * 1024
_HEADER: Final = {"format": FORMAT_NAME, "version": FORMAT_VERSION}


class JsonLinesWriter:
    """Implements ``RowWriter``."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._rows, self._crc = 0, 0
        self._file.write(orjson.dumps(_HEADER) + b"\n")

    def write(self, row: Mapping[str, Any]) -> None:
        """See ``RowWriter.write``."""
        line = orjson.dumps(_with_float32(row), option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"
        self._file.write(line)
        self._crc = zlib.crc32(line, self._crc)
        self._rows += 1

    def finish(self) -> None:
        """See ``RowWriter.finish``."""
        self._file.write(orjson.dumps({"rows": self._rows, "crc32": self._crc}) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """See ``RowWriter.abandon``."""
        self._file.close()


class JsonLinesSource:
    """Implements ``RowSource``. The whole file is checked before its first row is read."""

    def __init__(self, path: Path) -> None:
        """Check the file.

        Raises:
            CorruptData: it is cut, changed, or of another kind.
            InvalidRequest: it is of another version.
            Unavailable: it cannot be read.
        """
        self._path = path
        self.total: int | None
        try:
            self._check_header()
            self.total = self._check_content()
            self.identity = file_identity(path)
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror}") from error

    def rows(self, after: Position | None) -> Iterator[tuple[Position, Row]]:
        """See ``RowSource.rows``."""
        begin = int(after or 0)
        for number, line in enumerate(self._lines(), start=1):
            if begin < number - 1 <= (self.total or 0):
                yield number - 1, self._object(number, line)

    def _check_header(self) -> None:
        with self._path.open("rb") as file:
            line = file.readline(_READ_BYTES)
        header = _decoded(line)
        if not isinstance(header, dict) or "format" not in header:
            raise InvalidRequest(
                f"{self._path}: the first line is not the header of a file of entities; "
                f"it must be {orjson.dumps(_HEADER).decode()}"
            )
        check_version(self._path, header["format"], header.get("version"))

    def _check_content(self) -> int:
        """Return the number of rows, once footer and checksum are found to be right."""
        crc, count, last = 0, -2, b""
        for line in self._lines():
            if count >= 0:
                crc = zlib.crc32(last, crc)
            last, count = line, count + 1
        footer = _decoded(last) if count >= 0 else None
        if not isinstance(footer, dict) or "rows" not in footer or "id" in footer:
            raise CorruptData(
                f"{self._path} is cut: line {count + 2} is its last one, and not the footer with the number of rows"
            )
        if footer["rows"] != count:
            raise CorruptData(
                f"{self._path} is damaged: line {count + 2} tells of {footer['rows']!r} rows, and there are {count}"
            )
        if "crc32" in footer and footer["crc32"] != crc:
            for number, line in enumerate(self._lines(), start=1):
                self._object(number, line)  # names the line where it can be seen
            raise CorruptData(
                f"{self._path} is damaged: lines 2 to {count + 1} do not match the checksum in line {count + 2}"
            )
        return count

    def _lines(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            number = 0
            while line := file.readline(_MAX_LINE_BYTES):
                number += 1
                if len(line) == _MAX_LINE_BYTES:
                    raise CorruptData(f"{self._path}, line {number}: is longer than {_MAX_LINE_BYTES} bytes")
                yield line

    def _object(self, number: int, line: bytes) -> Row:
        row = _decoded(line)
        if not isinstance(row, dict):
            raise CorruptData(f"{self._path}, line {number}: is not a JSON object")
        return row


def _decoded(line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _with_float32(row: Mapping[str, Any]) -> Row:
    """Return the row with its vectors as float32 arrays, which are written in fewer digits than lists of floats."""
    written = dict(row)
    if written.get("vector") is not None:
        written["vector"] = np.asarray(written["vector"], dtype=np.float32)
    if written.get("contexts"):
        written["contexts"] = [
            {**context, "vector": np.asarray(context["vector"], dtype=np.float32)}
            if context.get("vector") is not None
            else context
            for context in written["contexts"]
        ]
    return written
