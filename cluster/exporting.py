"""``quantum-db export``: all entities of a running cluster into a file."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.http_client import ClusterClient
from cluster.progress import shown
from quantum_db.encryption import DATA_KEYS_ENV, data_keys
from quantum_db.errors import InvalidRequest, Unavailable
from quantum_db.transfer.formats import FileFormat, RowWriter, format_of
from quantum_db.transfer.jsonl import JsonLinesWriter
from quantum_db.transfer.parquet import ParquetWriter
from quantum_db.transfer.sealed_files import SUFFIX, seal_file

PAGE: Final = 250


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and how long it took."""

    entities: int
    bytes: int
    taken_s: float


def export(path: Path, format_name: FileFormat | None, url: str) -> Exported:
    """Write all entities into a new file, which is there once it is whole; encrypted if its name ends in ``.sealed``.

    An entity that is there during the whole of the export is in it once. Others may be or not.

    Raises:
        InvalidRequest: the file exists, or its name does not tell the format.
        Unavailable: the cluster does not answer, or the file cannot be written.
    """
    encrypts = path.name.endswith(SUFFIX)
    keyring = data_keys(os.environ)
    if encrypts and keyring.newest is None:
        raise InvalidRequest(f"a file named {SUFFIX} is encrypted, and {DATA_KEYS_ENV} has no key")
    inner = path.with_name(path.name.removesuffix(SUFFIX))
    kind = JsonLinesWriter if (format_name or format_of(inner)) == "jsonl" else ParquetWriter
    if path.exists():
        raise InvalidRequest(f"{path} exists; delete it, or choose another name")
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    start_s = time.monotonic()
    try:
        writer: RowWriter = kind(partial)
        try:
            with ClusterClient(url) as client:
                rows = _write_all(client, writer)
            writer.finish()
        finally:
            writer.abandon()
        if encrypts:
            seal_file(partial, path, keyring)
        else:
            partial.rename(path)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return Exported(rows, path.stat().st_size, time.monotonic() - start_s)


def _write_all(client: ClusterClient, writer: RowWriter) -> int:
    rows, cursor = 0, None
    with shown("exporting", None) as advance:
        while True:
            page, cursor = client.page(cursor, PAGE)
            for row in page:
                writer.write(row)
            rows += len(page)
            advance(len(page))
            if cursor is None:
                return rows
