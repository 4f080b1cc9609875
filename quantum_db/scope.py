"""Whose data a call is about: a tenant's collection. Nothing of one scope is seen from another.

What several collections share (groups, states, sessions, claims of writes) is kept under ids that bear the
collection's key. Callers never see those: ``scoped`` makes them where a call goes out to what is shared, and
``unscoped`` takes them off on the way back. The key of the default tenant's default collection is empty.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from quantum_db.errors import FieldError, InvalidRequest, QuantumDBError

DEFAULT_TENANT: Final = "default"
DEFAULT_COLLECTION: Final = "default"
MARK: Final = "\U0010ffff"
"""Stands around a key in a scoped id. No id that a caller gives may hold it; it sorts behind all that they may."""

NAME: Final = r"[A-Za-z0-9_.-]{1,64}"


@dataclass(frozen=True, slots=True)
class Scope:
    """A collection of a tenant."""

    tenant: str = DEFAULT_TENANT
    collection: str = DEFAULT_COLLECTION

    def check(self) -> None:
        """Raise InvalidRequest where a name is none."""
        for path, name in (("tenant", self.tenant), ("collection", self.collection)):
            if not re.fullmatch(NAME, name) or name.strip(".") == "":
                raise InvalidRequest.at(path, "must be 1 to 64 letters, digits, dots, dashes or underscores")


DEFAULT_SCOPE: Final = Scope()


def scoped(key: str, given: str) -> str:
    """Return the id of something of a collection as it is known among those of all.

    Raises InvalidRequest for one that could be an id of another collection.
    """
    if MARK in given:
        raise InvalidRequest.at("id", f"must not hold the character U+{ord(MARK):X}")
    return f"{MARK}{key}{MARK}{given}" if key else given


def unscoped(key: str, known: str) -> str:
    """Return the id as the collection's callers know it."""
    return known.removeprefix(scoped(key, ""))


def unscoped_error(key: str, error: QuantumDBError) -> QuantumDBError:
    """Return the error in the words of the collection's callers."""
    shown = repr(scoped(key, ""))[1:-1]

    def clean(text: str) -> str:
        return text.replace(scoped(key, ""), "").replace(shown, "")

    if not key or clean(error.detail) == error.detail:
        return error
    errors = [FieldError(clean(one.path), clean(one.message)) for one in error.errors]
    return type(error)(clean(error.detail), errors=errors, retry_after_s=error.retry_after_s)
