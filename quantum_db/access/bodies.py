"""The bodies of requests about keys, as they come in as JSON."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, field_validator

from quantum_db.access.policy import RULES
from quantum_db.access.principal import Role
from quantum_db.near import near_name
from quantum_db.requests import Body, Finite, refuse

YEAR_S: Final = 365.0 * 86_400.0
MAX_GRACE_S: Final = 30.0 * 86_400.0
DEFAULT_GRACE_S: Final = 3_600.0
TENANT: Final = r"^[A-Za-z0-9_.-]{1,64}$"

RoleName = Literal["reader", "writer", "operator", "admin"]


class KeyBody(Body):
    """A key to be made.

    ``tenant`` is the caller's own when left out. ``actions`` narrows what the role may do. A key of the whole
    ``cluster`` may act for every tenant.
    """

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "nightly import", "role": "writer", "expires_in_s": 7776000.0}}
    )

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
    role: RoleName
    tenant: Annotated[str, Field(pattern=TENANT)] | None = None
    cluster: bool = False
    actions: Annotated[list[str], Field(min_length=1, max_length=len(RULES))] | None = None
    expires_in_s: Annotated[Finite, Field(ge=1.0, le=10.0 * YEAR_S)] | None = None

    @field_validator("actions")
    @classmethod
    def _are_known(cls, actions: list[str] | None) -> list[str] | None:
        for action in actions or ():
            if action not in RULES:
                refuse(f"names {action!r}, which is no action{near_name(action, RULES)}")
        return actions

    def rights(self) -> tuple[Role, frozenset[str] | None]:
        """Return the role and the actions."""
        return Role.named(self.role), None if self.actions is None else frozenset(self.actions)


class RotateKeyBody(Body):
    """A rotation: the secret until then stays good for ``grace_s`` seconds."""

    model_config = ConfigDict(json_schema_extra={"example": {"grace_s": 3600.0}})

    grace_s: Annotated[Finite, Field(ge=0.0, le=MAX_GRACE_S)] = DEFAULT_GRACE_S
