"""A gate without a lock, for tests that are about what lies behind it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from quantum_db.access.bodies import KeyBody
from quantum_db.access.keys import Json
from quantum_db.access.principal import Principal, Role
from quantum_db.errors import InvalidRequest, Unavailable
from quantum_db.scope import DEFAULT_TENANT
from serve_app.gate import TENANT_HEADER, Call
from serve_app.http import Doors

TENANT: Final = r"[A-Za-z0-9_.-]{1,64}"


class OpenGate:
    """Lets everybody in, as an administrator of the tenant that the header ``x-tenant`` names."""

    @asynccontextmanager
    async def admitted(self, call: Call) -> AsyncIterator[Principal]:
        name = call.headers.get(TENANT_HEADER, DEFAULT_TENANT)
        if not re.fullmatch(TENANT, name):
            raise InvalidRequest.at(TENANT_HEADER, "must be 1 to 64 letters, digits, dots, dashes or underscores")
        yield Principal("anybody", name, Role.ADMIN, cluster=True)


class NoDesk:
    """A ``KeyDesk`` and ``WatchDesk`` of tests that are about neither."""

    async def create(self, principal: Principal, body: KeyBody) -> Json:
        raise Unavailable("there are no keys here")

    async def list(self, principal: Principal) -> Json:
        raise Unavailable("there are no keys here")

    async def rotate(self, principal: Principal, key_id: str, grace_s: float) -> Json:
        raise Unavailable("there are no keys here")

    async def revoke(self, principal: Principal, key_id: str) -> Json:
        raise Unavailable("there are no keys here")

    async def blocks(self) -> Json:
        raise Unavailable("nobody watches here")

    async def lift(self, address: str) -> Json:
        raise Unavailable("nobody watches here")

    async def head(self) -> Json:
        raise Unavailable("nobody watches here")


OPEN_DOORS: Final = Doors(OpenGate(), NoDesk(), NoDesk())
