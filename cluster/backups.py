"""``quantum-db backup`` of a running cluster, and ``restore`` onto an empty data folder while none runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from cluster.connect import back_up_store, running_cluster
from cluster.settings import Settings, shared_settings
from quantum_db.encryption import data_keys
from quantum_db.errors import InvalidRequest, InvalidSettings, Unavailable
from quantum_db.stores.places import STORE
from quantum_db.transfer import backup

PRODUCT: Final = "quantum-query-cluster"


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What was copied, and for how many seconds queries and writes waited."""

    files: int
    bytes: int
    pause_s: float


def back_up(directory: Path, data_dir: Path) -> BackedUp:
    """Copy a running cluster into a folder, which is there once the copy is whole.

    Raises:
        InvalidRequest: the folder exists.
        InvalidSettings: the cluster keeps its state where this cannot reach it.
        Unavailable: no cluster runs with its data there, or the copy cannot be written.
        CorruptData: what was to be copied is damaged.
    """
    data_dir = data_dir.resolve()
    shared = running_cluster(data_dir)["settings"]
    _check_embedded(shared)
    if directory.exists():
        raise InvalidRequest(f"{directory} exists; name a folder that is not there yet")
    partial = directory.resolve().with_name(f"{directory.name}.partial-{os.getpid()}")
    keyring = data_keys(os.environ)
    # What is to be encrypted is first copied to where it lies in the open anyway.
    copied = partial if keyring.newest is None else data_dir / f".backup-{os.getpid()}"
    try:
        partial.mkdir(parents=True)
        try:
            copied.mkdir(exist_ok=True)
            pause_s = back_up_store(data_dir, copied, backup.journals_in(data_dir))
            if not (copied / STORE).is_dir():
                raise Unavailable(f"the store's process runs on another machine, where {copied} is another folder")
            if keyring.newest is not None:
                backup.encrypt(copied, partial, keyring)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            manifest = backup.seal(partial, created_at=now, product=_product(), settings=shared)
            partial.rename(directory.resolve())
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(copied, ignore_errors=True)
    except OSError as error:
        raise Unavailable(f"{directory} cannot be written: {error}") from error
    size = sum(size for size, _ in manifest.files.values())
    return BackedUp(len(manifest.files), size, pause_s)


def restore(directory: Path, settings: Settings) -> backup.Manifest:
    """Make the data folder of a cluster from a backup: all of it, or nothing.

    Raises:
        InvalidRequest: there is no backup, or it is of another version.
        InvalidSettings: it does not go with the settings.
        CorruptData: the backup is damaged.
        Conflict: the data folder is not empty.
        Unavailable: it cannot be written.
    """
    shared = shared_settings(settings)
    _check_embedded(shared)
    backup.check_empty(settings.data_dir)
    manifest = backup.verify(directory)
    for key, wanted in manifest.settings.items():
        if shared.get(key) != wanted:
            raise InvalidSettings(f"{key} must be {wanted!r} for the backup in {directory}, not {shared.get(key)!r}")
    backup.restore(directory, manifest, settings.data_dir, data_keys(os.environ))
    return manifest


def _check_embedded(shared: Mapping[str, Any]) -> None:
    if shared["store.kind"] != "qdrant_edge" or "elsewhere" in shared.values():
        raise InvalidSettings(
            "backup and restore are for what is in data_dir, the embedded store and the journals; a Qdrant server and "
            "Redis (store.kind, the journal_urls) have snapshots of their own, and export takes the entities out"
        )


def _product() -> str:
    try:
        return f"{PRODUCT} {version(PRODUCT)}"
    except PackageNotFoundError:  # run from its sources, without having been installed
        return PRODUCT
