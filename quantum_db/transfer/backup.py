"""Backups of an embedded cluster: copies that fit together, a manifest with their hashes, and the way back.

    DIR/manifest.json       format, version, time, settings, and the size and SHA-256 of every file
    DIR/store/data/...      the embedded store, as it is on disk while it is closed
    DIR/collections/*/data/ those of further collections
    DIR/*.sqlite            the journals

With keys in the environment every file but the manifest is encrypted, and its name ends in ``.sealed``.

Why the copies fit together: the store is copied while its process does nothing else, and the journals are copied by
the same process before it goes on, all of them under their write locks at once. So no write comes between. What was
acknowledged before is in the copies. Of a write that goes to several parts, the journal has the intent before any part
is written, and the receipt after all of them: a receipt in the copy means that the copied store has its part; an intent
without receipt is finished or undone when the restored cluster starts, as after a crash.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from quantum_db.encryption import NO_KEYS, Keyring
from quantum_db.errors import Conflict, CorruptData, InvalidRequest, Unavailable
from quantum_db.journals.sqlite_file import connect, told
from quantum_db.stores.places import STORE
from quantum_db.transfer.sealed_files import SUFFIX, open_file, seal_file

BACKUP_FORMAT: Final = "quantum-db-backup"
BACKUP_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
DATA: Final = "data"

_CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds.

    Attributes:
        created_at: UTC, ISO 8601.
        product: name and version of the program that made it.
        settings: those that a restored cluster must share.
        files: path below the folder -> [size in bytes, SHA-256 as hex].
    """

    created_at: str
    product: str
    settings: Mapping[str, Any]
    files: Mapping[str, tuple[int, str]]


def journals_in(data_dir: Path) -> list[Path]:
    """Return the journals of a cluster with its data in this folder, sorted by name."""
    return sorted(data_dir.glob("*.sqlite"))


def copy_all(data_dir: Path, stores: Iterable[Path], journals: Sequence[Path], folder: Path) -> None:
    """Copy the stores at rest and the journals into an existing folder, so that they fit together.

    Call it in the store's process while nothing else is served. Files are not flushed to disk yet; see ``seal``.

    Args:
        data_dir: of the cluster.
        stores: the folders of the stores in it, all of whose shards are closed.
        journals: SQLite files that others have open.
        folder: of the backup.

    Raises:
        Unavailable: a journal stays locked by another writer, or a file cannot be written.
        CorruptData: a journal cannot be read.
    """
    try:
        (folder / STORE).mkdir()
        for store in stores:
            if (store / DATA).is_dir():  # else nothing was ever written
                shutil.copytree(store / DATA, folder / store.relative_to(data_dir) / DATA)
        with ExitStack() as locks:
            for journal in journals:
                locks.enter_context(_locked(journal))
            for journal in journals:
                _copy_journal(journal, folder / journal.name)
    except (OSError, shutil.Error) as error:
        raise Unavailable(f"the backup in {folder} cannot be written: {error}") from error


def encrypt(plain: Path, folder: Path, keyring: Keyring) -> None:
    """Write the files of a copy, whose journals are checked, encrypted into an existing folder.

    Raises:
        CorruptData: a copied journal is damaged.
        Unavailable: a file cannot be read or written.
    """
    try:
        for journal in journals_in(plain):
            _check_journal(journal)
        (folder / STORE).mkdir(exist_ok=True)
        for name in sorted(_files_below(plain)):
            target = folder / f"{name}{SUFFIX}"
            target.parent.mkdir(parents=True, exist_ok=True)
            seal_file(plain / name, target, keyring)
    except OSError as error:
        raise Unavailable(f"the backup in {folder} cannot be written: {error}") from error


def seal(folder: Path, *, created_at: str, product: str, settings: Mapping[str, Any]) -> Manifest:
    """Check the copied journals, flush all files to disk, and write the manifest.

    Raises:
        CorruptData: a copied journal is damaged.
        Unavailable: a file cannot be read or written.
    """
    try:
        for journal in journals_in(folder):
            _check_journal(journal)
        files = {name: _digest(folder / name, flush=True) for name in sorted(_files_below(folder))}
        manifest = Manifest(created_at, product, settings, files)
        content = {"format": BACKUP_FORMAT, "version": BACKUP_VERSION, **asdict(manifest)}
        with (folder / MANIFEST).open("w", encoding="utf-8") as file:
            json.dump({**content, "sha256": _content_digest(content)}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        for path in (*(path for path in folder.rglob("*") if path.is_dir()), folder):
            _flush_folder(path)
    except OSError as error:
        raise Unavailable(f"the backup in {folder} cannot be written: {error}") from error
    return manifest


def verify(folder: Path) -> Manifest:
    """Return the manifest of a backup, all of whose files are found to be whole.

    Raises:
        InvalidRequest: there is no backup, or it is of another version.
        CorruptData: the manifest or a file is damaged, missing, or was never part of it.
        Unavailable: a file cannot be read.
    """
    manifest = _read_manifest(folder)
    try:
        there = set(_files_below(folder)) - {MANIFEST}
        for name, (size, digest) in manifest.files.items():
            if name not in there:
                raise CorruptData(f"the backup in {folder} is damaged: {name} is missing")
            if _digest(folder / name) != (size, digest):
                raise CorruptData(f"the backup in {folder} is damaged: {name} is not what was written")
        if strangers := there - manifest.files.keys():
            raise CorruptData(f"the backup in {folder} holds {min(strangers)}, which is not a part of it")
    except OSError as error:
        raise Unavailable(f"the backup in {folder} cannot be read: {error}") from error
    return manifest


def restore(folder: Path, manifest: Manifest, data_dir: Path, keyring: Keyring = NO_KEYS) -> None:
    """Make a data folder from a verified backup, decrypted where it is encrypted: all of it, or nothing.

    Raises:
        Conflict: the data folder is not empty.
        CorruptData: the backup was changed since it was verified, or does not go with the keys.
        InvalidSettings: it is encrypted with a key that is not there.
        Unavailable: the data folder cannot be written.
    """
    check_empty(data_dir)
    try:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{data_dir.name}.restore-", dir=data_dir.parent))
        try:
            (fresh / STORE).mkdir()
            for name, wanted in manifest.files.items():
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, fresh / name)
                if _digest(fresh / name, flush=True) != wanted:
                    raise CorruptData(f"the backup in {folder} changed while it was read: {name}")
                if name.endswith(SUFFIX):
                    open_file(fresh / name, fresh / name.removesuffix(SUFFIX), keyring)
                    (fresh / name).unlink()
                    _digest(fresh / name.removesuffix(SUFFIX), flush=True)
            for path in (*(path for path in fresh.rglob("*") if path.is_dir()), fresh):
                _flush_folder(path)
            fresh.chmod(0o755)
            fresh.rename(data_dir)  # over an empty folder at most
            _flush_folder(data_dir.parent)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise Unavailable(f"{data_dir} cannot be written: {error}") from error


def check_empty(data_dir: Path) -> None:
    """Raise Conflict unless a folder is empty or not there."""
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise Conflict(
            f"{data_dir} is not empty; a backup is restored into an empty data_dir, or one that is not there"
        )


@contextmanager
def _locked(journal: Path) -> Iterator[None]:
    """Keep all others from writing to a journal; they wait, within the bound of their own."""
    with told(journal), closing(connect(journal)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


def _copy_journal(journal: Path, to: Path) -> None:
    with told(journal), closing(connect(journal)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def _check_journal(path: Path) -> None:
    with told(path), closing(connect(path)) as connection:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if found != "ok":
        raise CorruptData(f"the journal {path.name} is damaged ({found}); the backup was not made")


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidRequest(f"{folder} holds no backup: there is no {MANIFEST} in it") from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CorruptData(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict) or content.get("format") != BACKUP_FORMAT:
        raise InvalidRequest(f"{path} is not the manifest of a backup")
    if content.get("version") != BACKUP_VERSION:
        raise InvalidRequest(
            f"the backup in {folder} has format version {content.get('version')!r}; "
            f"this program reads version {BACKUP_VERSION}"
        )
    digest = content.pop("sha256", None)
    if digest != _content_digest(content):
        raise CorruptData(f"{path} is damaged: it does not match its own checksum")
    files = {name: (size, sha) for name, (size, sha) in content["files"].items()}
    if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in files):
        raise CorruptData(f"{path} names files outside of the backup")
    return Manifest(content["created_at"], content["product"], content["settings"], files)


def _content_digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _files_below(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if not path.is_dir():
            yield path.relative_to(folder).as_posix()


def _digest(path: Path, *, flush: bool = False) -> tuple[int, str]:
    """Return the size and SHA-256 of a file; ``flush`` makes sure that it is on disk."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
        if flush:
            os.fsync(file.fileno())
    return size, digest.hexdigest()


def _flush_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
