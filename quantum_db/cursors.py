"""Cursors of listings, as callers see them: opaque, and good only for the listing and the collection they came from.

The seal keeps mistakes apart, not attackers: what a cursor holds is checked like any value of a request.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from quantum_db.errors import InvalidRequest
from quantum_db.scope import Scope

MAX_CURSOR: Final = 4_096
"""Characters of the longest cursor: that of an id of 512 characters, with room to spare."""

_SEAL_BYTES: Final = 9


def seal(listing: str, scope: Scope, position: str | None) -> str | None:
    """Return the cursor for a position in a listing of a collection; None, the end, stays None."""
    if position is None:
        return None
    value = position.encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(_digest(listing, scope, value) + value).decode()


def unseal(listing: str, scope: Scope, cursor: str | None) -> str | None:
    """Return the position that ``seal`` made a cursor of; None or "" begins. Raises InvalidRequest for other texts."""
    if not cursor:
        return None
    try:
        raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        seen, value = raw[:_SEAL_BYTES], raw[_SEAL_BYTES:]
        if seen == _digest(listing, scope, value):
            return value.decode("utf-8", "surrogatepass")
    except (binascii.Error, UnicodeError):
        pass  # told below, like any other text that is no cursor
    raise InvalidRequest.at("cursor", "is not the next of an earlier page of this listing; leave it out to begin")


def _digest(listing: str, scope: Scope, value: bytes) -> bytes:
    parts = (listing.encode(), scope.tenant.encode(), scope.collection.encode("utf-8", "surrogatepass"), value)
    return hashlib.blake2b(b"\0".join(parts), digest_size=_SEAL_BYTES).digest()
