"""Whose data a call is about: a tenant's collection. Nothing of one scope is seen from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DEFAULT_TENANT: Final = "default"
DEFAULT_COLLECTION: Final = "default"


@dataclass(frozen=True, slots=True)
class Scope:
    """A collection of a tenant."""

    tenant: str = DEFAULT_TENANT
    collection: str = DEFAULT_COLLECTION


DEFAULT_SCOPE: Final = Scope()
