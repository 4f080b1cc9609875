"""Entities as Parquet: one row each, metadata as JSON text, format and version in the metadata of the file.

    id string, vector list<float>, contexts list<struct<name string, weight double, vector list<float>>>,
    coherence_time_ms double, metadata string, version int64

Pages carry checksums, which are checked when they are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from quantum_db.errors import CorruptData, InvalidRequest, Unavailable
from quantum_db.transfer.formats import (
    FORMAT_NAME,
    FORMAT_VERSION,
    Position,
    Row,
    check_version,
    file_identity,
    parse_metadata,
)

_FORMAT_KEY: Final = b"format"
_VERSION_KEY: Final = b"version"
_ROWS_A_GROUP: Final = 4096
_FLOATS_A_GROUP: Final = 4_000_000
_ROWS_A_READ: Final = 256

_VECTOR: Final = pa.list_(pa.float32())
_CONTEXT: Final = pa.struct([("name", pa.string()), ("weight", pa.float64()), ("vector", _VECTOR)])
SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("vector", _VECTOR),
        pa.field("contexts", pa.list_(_CONTEXT), nullable=False),
        pa.field("coherence_time_ms", pa.float64(), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),
        pa.field("version", pa.int64()),
    ],
    metadata={_FORMAT_KEY: FORMAT_NAME.encode(), _VERSION_KEY: str(FORMAT_VERSION).encode()},
)


class ParquetWriter:
    """Implements ``RowWriter``. Holds the rows of one row group in memory: at most 16 MB of vectors or 4,096 rows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = pq.ParquetWriter(
            path, SCHEMA, compression="zstd", write_page_checksum=True, use_dictionary=["contexts.list.element.name"]
        )
        self._rows: list[Row] = []
        self._floats = 0

    def write(self, row: Mapping[str, Any]) -> None:
        """See ``RowWriter.write``."""
        vectors = [row.get("vector"), *(context.get("vector") for context in row["contexts"])]
        self._floats += sum(len(vector) for vector in vectors if vector is not None)
        self._rows.append({**row, "metadata": orjson.dumps(row["metadata"]).decode()})
        if len(self._rows) >= _ROWS_A_GROUP or self._floats >= _FLOATS_A_GROUP:
            self._write_group()

    def finish(self) -> None:
        """See ``RowWriter.finish``."""
        if self._rows:
            self._write_group()
        self._writer.close()
        with self._path.open("rb+") as file:
            os.fsync(file.fileno())

    def abandon(self) -> None:
        """See ``RowWriter.abandon``."""
        self._writer.close()

    def _write_group(self) -> None:
        table = pa.Table.from_pylist(self._rows, schema=SCHEMA)
        self._writer.write_table(table, row_group_size=max(1, len(self._rows)))
        self._rows, self._floats = [], 0


class ParquetSource:
    """Implements ``RowSource``. Holds one row group in memory."""

    def __init__(self, path: Path) -> None:
        """Read the footer.

        Raises:
            CorruptData: the file is cut, damaged, or of another kind.
            InvalidRequest: it is of another version, or a column is missing or of another type.
            Unavailable: it cannot be read.
        """
        self._path = path
        self.total: int | None
        with self._failing("its footer"):
            self.identity = file_identity(path)
            self._file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
            self.total = self._file.metadata.num_rows
            schema = self._file.schema_arrow
        told = schema.metadata or {}
        name, version = told.get(_FORMAT_KEY, b"").decode(errors="replace"), told.get(_VERSION_KEY, b"")
        check_version(path, name, int(version) if version.isdigit() else version.decode(errors="replace"))
        for field in SCHEMA:
            place = schema.get_field_index(field.name)
            if place < 0 or schema.field(place).type != field.type:
                raise InvalidRequest(f"{path}: the column {field.name!r} must be there, with the type {field.type}")

    def rows(self, after: Position | None) -> Iterator[tuple[Position, Row]]:
        """See ``RowSource.rows``."""
        begin, done = int(after or 0), 0
        for group in range(self._file.num_row_groups):
            size = self._file.metadata.row_group(group).num_rows
            if done + size <= begin:
                done += size
                continue
            for table in self._tables(group):
                for row in _rows_of(table):
                    done += 1
                    if done > begin:
                        row["metadata"] = parse_metadata(row["metadata"], f"{self._path}, row {done}")
                        yield done, row

    def _tables(self, group: int) -> Iterator[pa.Table]:
        place = f"row group {group} (from 0 to {self._file.num_row_groups - 1})"
        with self._failing(place):
            table = self._file.read_row_group(group, columns=SCHEMA.names)
            table.validate(full=True)
        for start in range(0, table.num_rows, _ROWS_A_READ):
            yield table.slice(start, _ROWS_A_READ)

    @contextmanager
    def _failing(self, place: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise Unavailable(f"{self._path} cannot be read: {error.strerror}") from error
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise CorruptData(f"{self._path} is damaged or cut: {place} cannot be read ({reason})") from error


def _rows_of(table: pa.Table) -> Iterator[Row]:
    """Yield the rows, with vectors as arrays; going by columns is several times as fast as by Python lists."""
    columns = {name: table.column(name).combine_chunks() for name in SCHEMA.names}
    contexts = columns["contexts"]
    owned = contexts.flatten()
    bounds = np.concatenate([[0], np.cumsum(contexts.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))])
    names, weights = owned.field("name").to_pylist(), owned.field("weight").to_pylist()
    own, of_contexts = _arrays(columns["vector"]), _arrays(owned.field("vector"))
    ids, times = columns["id"].to_pylist(), columns["coherence_time_ms"].to_pylist()
    texts, versions = columns["metadata"].to_pylist(), columns["version"].to_pylist()
    for place, (entity_id, vector) in enumerate(zip(ids, own, strict=True)):
        held = []
        for k in range(int(bounds[place]), int(bounds[place + 1])):
            context: Row = {"name": names[k], "weight": weights[k]}
            held.append(context if of_contexts[k] is None else {**context, "vector": of_contexts[k]})
        row: Row = {"id": entity_id, "contexts": held, "coherence_time_ms": times[place], "metadata": texts[place]}
        if versions[place] is not None:
            row["version"] = versions[place]
        yield row if vector is None else {**row, "vector": vector}


def _arrays(lists: Any) -> list[np.ndarray[Any, np.dtype[np.float32]] | None]:
    """Return the vectors of a column of lists, None where there is none."""
    numbers = lists.flatten().to_numpy(zero_copy_only=False)
    there = lists.is_valid().to_numpy(zero_copy_only=False)
    ends = np.cumsum(lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    return [numbers[start:end] if valid else None for start, end, valid in zip(starts, ends, there, strict=True)]
