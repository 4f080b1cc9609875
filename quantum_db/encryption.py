"""Encryption at rest: AES-256-GCM with keys from the environment, of which the newest writes and all read."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from quantum_db.errors import CorruptData, InvalidSettings

DATA_KEYS_ENV: Final = "QUANTUM_DB_DATA_KEYS"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys by their ids. Nonces are random, which is safe for some 2^32 writes with one key: add a new one in time.

    Attributes:
        newest: the id of the key that writes; None where there is none, and nothing is encrypted.
    """

    newest: str | None = None
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    random_bytes: Callable[[int], bytes] = field(default=os.urandom, repr=False)

    def seal(self, plain: bytes, about: bytes) -> tuple[str, bytes]:
        """Return the id of the newest key and what it makes of a text. ``about`` is needed to open it again."""
        assert self.newest is not None
        nonce = self.random_bytes(NONCE_BYTES)
        return self.newest, nonce + AESGCM(self.keys[self.newest]).encrypt(nonce, plain, about)

    def open(self, key_id: str, sealed: bytes, about: bytes, place: str) -> bytes:
        """Return what was sealed.

        Args:
            key_id: of the key that sealed it.
            sealed: what ``seal`` returned.
            about: the same as then.
            place: what it is, for messages.

        Raises:
            InvalidSettings: the key is not among these.
            CorruptData: it was changed or moved, or another key has that id.
        """
        try:
            return AESGCM(self.key(key_id, place)).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
        except (InvalidTag, ValueError):
            raise changed(key_id, place) from None

    def key(self, key_id: str, place: str) -> bytes:
        """Return a key. Raises InvalidSettings if it is not among these."""
        key = self.keys.get(key_id)
        if key is None:
            raise InvalidSettings(f"{place} is encrypted with the key {key_id!r}, which {DATA_KEYS_ENV} does not have")
        return key


NO_KEYS: Final = Keyring()


def changed(key_id: str, place: str) -> CorruptData:
    """Return the error of what does not open."""
    return CorruptData(
        f"{place} cannot be decrypted: it was changed or moved, or the key {key_id!r} in {DATA_KEYS_ENV} is another one"
    )


def data_keys(environment: Mapping[str, str]) -> Keyring:
    """Return the keys that the environment gives: ``<id>:<32 bytes in base64>``, the newest first, with commas between.

    Raises:
        InvalidSettings: they have another form; none of them is shown.
    """
    text = environment.get(DATA_KEYS_ENV, "")
    keys: dict[str, bytes] = {}
    for place, part in enumerate(text.split(",") if text.strip() else [], start=1):
        key_id, _, encoded = part.strip().partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not _ID.fullmatch(key_id) or len(key) != KEY_BYTES or key_id in keys:
            raise InvalidSettings(
                f"{DATA_KEYS_ENV}, key {place}: must be an id of its own, a colon and {KEY_BYTES} bytes in base64, "
                "as `openssl rand -base64 32` makes them"
            )
        keys[key_id] = key
    return Keyring(next(iter(keys), None), keys)
