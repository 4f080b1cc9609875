"""Who asks, once it is known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """What a caller may do. Each role may do all that the ones below it may."""

    READER = 1
    WRITER = 2
    OPERATOR = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credential was found good.

    Attributes:
        subject: who it is, for the audit log: a key's id, or a token's subject. Never a secret.
        tenant: whose data the caller sees; all other tenants' are absent.
        role: what the caller may do.
    """

    subject: str
    tenant: str
    role: Role
