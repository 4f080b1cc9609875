"""Encrypted files: backups and exports. AES-256-GCM in chunks, so that a file of any size is never held as a whole.

    QQCSEAL1 | length of the key id (1 byte) | key id | salt (16 bytes) | chunks

A file has a key of its own, derived from the named one and the salt (HKDF-SHA-256), and a chunk's nonce is its number.
A chunk is bound to the header and to whether it is the last one: what is changed, moved, cut off or added is found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from quantum_db.encryption import KEY_BYTES, NONCE_BYTES, Keyring, changed
from quantum_db.errors import CorruptData, Unavailable

SUFFIX: Final = ".sealed"
MAGIC: Final = b"QQCSEAL1"
SALT_BYTES: Final = 16
CHUNK_BYTES: Final = 1024 * 1024
_TAG_BYTES: Final = 16


def seal_file(source: Path, target: Path, keyring: Keyring) -> None:
    """Write a file's content encrypted into a new file, which is on disk when this returns. Raises Unavailable."""
    assert keyring.newest is not None
    name = keyring.newest.encode()
    salt = keyring.random_bytes(SALT_BYTES)
    header = MAGIC + bytes([len(name)]) + name + salt
    cipher = _cipher(keyring.keys[keyring.newest], salt)
    try:
        with source.open("rb") as plain, target.open("xb") as file:
            os.chmod(target, 0o600)  # noqa: PTH101 - as it is made
            file.write(header)
            for number, (chunk, is_last) in enumerate(_chunks(plain, CHUNK_BYTES)):
                file.write(cipher.encrypt(_nonce(number), chunk, header + bytes([is_last])))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise Unavailable(f"{target} cannot be written: {error.strerror}") from error


def open_file(source: Path, target: Path, keyring: Keyring) -> None:
    """Write the content of an encrypted file into a new one that only this user may read.

    Raises:
        InvalidSettings: its key is not among these.
        CorruptData: it is no encrypted file, was changed or cut, or another key has that id; ``target`` is not there.
        Unavailable: a file cannot be read or written.
    """
    try:
        with source.open("rb") as file:
            header, key_id, salt = _header(file, source)
            cipher = _cipher(keyring.key(key_id, str(source)), salt)
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as plain:
                    for number, (chunk, is_last) in enumerate(_chunks(file, CHUNK_BYTES + _TAG_BYTES)):
                        plain.write(cipher.decrypt(_nonce(number), chunk, header + bytes([is_last])))
            except InvalidTag:
                target.unlink()
                raise changed(key_id, str(source)) from None
    except OSError as error:
        raise Unavailable(f"{source} cannot be decrypted into {target}: {error.strerror}") from error


def _chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, bool]]:
    """Yield chunks and whether each is the last one; an empty file has one."""
    chunk = file.read(size)
    while True:
        following = file.read(size)
        yield chunk, not following
        if not following:
            return
        chunk = following


def _header(file: BinaryIO, path: Path) -> tuple[bytes, str, bytes]:
    start = file.read(len(MAGIC) + 1)
    length = start[-1] if len(start) == len(MAGIC) + 1 and start.startswith(MAGIC) else 0
    rest = file.read(length + SALT_BYTES)
    if not length or len(rest) != length + SALT_BYTES:
        raise CorruptData(f"{path} is not a file that was encrypted here, or it is cut")
    return start + rest, rest[:length].decode(errors="replace"), rest[length:]


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt, MAGIC).derive(key))


def _nonce(number: int) -> bytes:
    return number.to_bytes(NONCE_BYTES, "big")
