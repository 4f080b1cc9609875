"""What a replica asks of the keeper of keys, as protocols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from quantum_db.access.bodies import KeyBody
from quantum_db.access.keys import Json, Key
from quantum_db.access.principal import Principal
from quantum_db.change_feed import Cursor


@dataclass(frozen=True, slots=True)
class KeyNews:
    """Keys that have changed since a cursor, and the next cursor; all keys where ``whole``."""

    cursor: Cursor
    keys: tuple[Key, ...]
    whole: bool


class KeySource(Protocol):
    """Tells replicas of changes. Raises Unavailable when it does not answer."""

    async def news(self, follower: str, after: Cursor | None, timeout_s: float) -> KeyNews:
        """Return what has changed after a cursor; wait for the first change, at most ``timeout_s``.

        By asking after a cursor, ``follower`` confirms that it goes by all changes up to it.
        """


class WatchDesk(Protocol):
    """Blocked addresses and the audit log, for operators. All methods raise Unavailable when they are not to be had."""

    async def blocks(self) -> Json:
        """Return the blocked addresses."""

    async def lift(self, address: str) -> Json:
        """Lift a block; all replicas know within about a second. Raises NotFound."""

    async def head(self) -> Json:
        """Return the head of the audit log."""


class KeyDesk(Protocol):
    """Keys, for their administrators. All methods raise Unavailable when the keeper does not answer."""

    async def create(self, principal: Principal, body: KeyBody) -> Json:
        """Make a key, and return it whole, under ``key``: this once.

        Raises Forbidden when it could do what the caller cannot.
        """

    async def list(self, principal: Principal) -> Json:
        """Return the keys that the caller may see, without secrets."""

    async def rotate(self, principal: Principal, key_id: str, grace_s: float) -> Json:
        """Give a key another secret, and return it whole; the old one is good for ``grace_s`` more.

        Raises NotFound, Forbidden, and Conflict when the key is revoked or expired.
        """

    async def revoke(self, principal: Principal, key_id: str) -> Json:
        """Make a key bad for good. Idempotent. ``everywhere`` tells whether all replicas have confirmed it.

        Raises NotFound, Forbidden, and Conflict for the last administrator of the cluster.
        """
