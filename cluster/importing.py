"""``quantum-db import``: entities from files and other stores into a running cluster, in resumable batches."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import orjson

from cluster.http_client import ClusterClient, Refused
from cluster.progress import shown
from quantum_db.errors import InvalidRequest, Unavailable
from quantum_db.transfer import numpy_files
from quantum_db.transfer.checkpoint import Checkpoint, Progress
from quantum_db.transfer.formats import Position, Row, RowSource, format_of
from quantum_db.transfer.jsonl import JsonLinesSource
from quantum_db.transfer.numpy_files import NumpySource
from quantum_db.transfer.parquet import ParquetSource

BATCH_ROWS: Final = 500
BATCH_BYTES: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows go: the cluster's URL, and the name that the state of the import knows it by."""

    url: str
    name: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What was written by all runs of an import together, and how fast by this one.

    Attributes:
        refused_in: the file that lists the refused rows, if there are any.
    """

    written: int
    refused: int
    rows_per_s: float
    refused_in: str | None


def file_source(path: Path, ids: Path | None) -> RowSource:
    """Return the rows of a file, by the end of its name.

    Raises:
        InvalidRequest, CorruptData, Unavailable: see the sources.
    """
    if not path.is_file():
        raise InvalidRequest(f"{path} is not a file")
    if path.suffix.lower() in numpy_files.SUFFIXES:
        return NumpySource(path, ids)
    if ids is not None:
        raise InvalidRequest("--ids goes with a .npy file; others have their ids inside")
    return JsonLinesSource(path) if format_of(path) == "jsonl" else ParquetSource(path)


def import_rows(source: RowSource, target: Target, state: Path, *, skip_refused: bool) -> Imported:
    """Write all rows of a source into a cluster, after those that an earlier run of the same import has written.

    Args:
        source: where the rows come from.
        target: where they go.
        state: the file that keeps how far it is; deleted at the end. Refused rows are listed beside it.
        skip_refused: go on after a row that the cluster refuses.

    Raises:
        InvalidRequest: the cluster refuses a row; the message names it. Those before it are written, and maybe
            some behind it.
        CorruptData: the source is damaged.
        Conflict: the state is that of another import.
        Unavailable: the cluster does not answer.
    """
    checkpoint = Checkpoint(state, source.identity, target.name)
    before = checkpoint.load()
    refused = state.with_suffix(".refused.jsonl") if skip_refused else None
    if before.position is None and refused is not None:
        refused.unlink(missing_ok=True)
    start_s = time.monotonic()
    with (
        ClusterClient(target.url) as client,
        shown("importing", source.total, before.written + before.refused) as advance,
    ):
        importing = _Import(client, checkpoint, before, refused)
        try:
            for position, row in source.rows(before.position):
                advance(importing.take(position, row))
            advance(importing.flush())
        except KeyboardInterrupt:
            written = checkpoint.load().written  # not the import's own count: the file may be one batch ahead of it
            print(f"{written:,} rows are written; the same command goes on after them", flush=True)
            raise
    checkpoint.clear()
    done = importing.progress
    rate = (done.written - before.written) / (time.monotonic() - start_s)
    return Imported(done.written, done.refused, rate, str(refused) if done.refused else None)


class _Import:
    """Gathers rows into batches, writes them, and keeps how far it has come."""

    def __init__(self, client: ClusterClient, checkpoint: Checkpoint, progress: Progress, refused: Path | None) -> None:
        self.progress = progress
        self._client = client
        self._checkpoint = checkpoint
        self._refused = refused
        self._batch: list[tuple[Position, bytes]] = []
        self._ids: set[str] = set()
        self._bytes = 0

    def take(self, position: Position, row: Row) -> int:
        """Take one row; return how many have been dealt with by writing a batch."""
        try:
            body = encoded(row)
        except InvalidRequest as error:
            done = self.flush()
            self._refuse(position, error.detail)
            return done + 1
        entity_id = str(row.get("id"))
        done = self.flush() if entity_id in self._ids else 0  # a batch may name an id once
        self._batch.append((position, body))
        self._ids.add(entity_id)
        self._bytes += len(body)
        full = len(self._batch) >= BATCH_ROWS or self._bytes >= BATCH_BYTES
        return done + self.flush() if full else done

    def flush(self) -> int:
        """Write what waits; return how many rows that was."""
        batch, self._batch, self._bytes, self._ids = self._batch, [], 0, set()
        if batch:
            self._write(batch)
        return len(batch)

    def _write(self, batch: Sequence[tuple[Position, bytes]]) -> None:
        """Write a batch; halve one that is refused as a whole, until the row that is to blame stands alone."""
        try:
            refused = self._client.write([body for _, body in batch])
        except Refused as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                self._write(batch[:middle])
                self._write(batch[middle:])
                return
            refused = {0: error.detail}
        begin = 0
        for place, why in refused.items():
            self._keep_written(batch[begin:place])
            self._refuse(batch[place][0], why.replace(f"vectors[{place}].", ""))
            begin = place + 1
        self._keep_written(batch[begin:])

    def _keep_written(self, batch: Sequence[tuple[Position, bytes]]) -> None:
        if batch:
            self._keep(replace(self.progress, position=batch[-1][0], written=self.progress.written + len(batch)))

    def _refuse(self, position: Position, why: str) -> None:
        if self._refused is None:
            raise InvalidRequest(
                f"row {position} is refused: {why}; the {self.progress.written:,} rows before it are written. "
                "Mend it and begin anew, or go on and leave such rows out with --skip-refused"
            )
        try:
            with self._refused.open("ab") as file:
                file.write(orjson.dumps({"row": position, "why": why}) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise Unavailable(f"{self._refused} cannot be written: {error.strerror}") from error
        self._keep(replace(self.progress, position=position, refused=self.progress.refused + 1))

    def _keep(self, progress: Progress) -> None:
        self._checkpoint.save(progress)
        self.progress = progress


def encoded(row: Row) -> bytes:
    """Return a row as the body that writes it. Raises InvalidRequest when it holds what JSON has not."""
    for holder in (row, *(row.get("contexts") or ())):
        vector = holder.get("vector") if isinstance(holder, dict) else None
        if isinstance(vector, np.ndarray) and not np.isfinite(vector).all():
            raise InvalidRequest.at("vector", "holds a value that is not finite")  # orjson would write null
    body = {name: value for name, value in row.items() if name != "version"}  # that of another time or place
    try:
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise InvalidRequest(f"it is not JSON with 64-bit numbers ({error})") from None
