"""Who asks, once it is known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from quantum_db.access.sizes import UNLIMITED, SizeLimits


class Role(IntEnum):
    """What a caller may do. Each role may do all that the ones below it may."""

    READER = 1
    WRITER = 2
    OPERATOR = 3
    ADMIN = 4

    @classmethod
    def named(cls, name: str) -> Role:
        """Return the role with a name in lower case. Raises KeyError."""
        return cls[name.upper()]

    @property
    def label(self) -> str:
        """The name, as in bodies, tokens and the docs."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credential was found good.

    Attributes:
        subject: who it is, for the audit log: a key's id, or a token's subject. Never a secret.
        tenant: whose data the caller sees; all other tenants' are absent.
        role: what the caller may do.
        cluster: whether it may act for every tenant, and do what concerns all of them.
        actions: what it may do of all that its role may; None for all.
        sizes: how large its requests may be; see ``sizes.check_sizes``.
    """

    subject: str
    tenant: str
    role: Role
    cluster: bool = False
    actions: frozenset[str] | None = None
    sizes: SizeLimits = UNLIMITED

    def covers(self, tenant: str, role: Role, cluster: bool, actions: frozenset[str] | None) -> bool:
        """Tell whether whoever has these rights can do nothing that this caller cannot."""
        if role > self.role or (cluster and not self.cluster) or (tenant != self.tenant and not self.cluster):
            return False
        return self.actions is None or (actions is not None and actions <= self.actions)
