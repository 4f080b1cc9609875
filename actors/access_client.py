"""A replica's side of the keeper of keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from ray.actor import ActorHandle

from actors.shell import ask
from quantum_db.access.audit import AuditEvent
from quantum_db.access.bodies import KeyBody
from quantum_db.access.keys import Json
from quantum_db.access.ports import KeyNews
from quantum_db.access.principal import Principal
from quantum_db.change_feed import Cursor

ACCESS_NAME: Final = "access"
WAIT_MARGIN_S: Final = 5.0


class RemoteAccess:
    """Implements ``KeyDesk``, ``KeySource``, ``ReportDesk`` and ``WatchDesk`` by calls to the keeper."""

    def __init__(self, keeper: ActorHandle[Any]) -> None:
        self._keeper = keeper

    async def create(self, principal: Principal, body: KeyBody) -> Json:
        return cast(Json, await ask(self._keeper.create.remote(principal, body)))

    async def list(self, principal: Principal) -> Json:
        return cast(Json, await ask(self._keeper.list.remote(principal)))

    async def rotate(self, principal: Principal, key_id: str, grace_s: float) -> Json:
        return cast(Json, await ask(self._keeper.rotate.remote(principal, key_id, grace_s)))

    async def revoke(self, principal: Principal, key_id: str) -> Json:
        return cast(Json, await ask(self._keeper.revoke.remote(principal, key_id)))

    async def report(
        self, source: str, number: int, events: Sequence[AuditEvent], failures: Mapping[str, int]
    ) -> Mapping[str, float]:
        return cast(Mapping[str, float], await ask(self._keeper.report.remote(source, number, events, failures)))

    async def blocks(self) -> Json:
        return cast(Json, await ask(self._keeper.blocks.remote()))

    async def lift(self, address: str) -> Json:
        return cast(Json, await ask(self._keeper.lift.remote(address)))

    async def head(self) -> Json:
        return cast(Json, await ask(self._keeper.head.remote()))

    async def news(self, follower: str, after: Cursor | None, timeout_s: float) -> KeyNews:
        return cast(KeyNews, await ask(self._keeper.news.remote(follower, after, timeout_s), timeout_s + WAIT_MARGIN_S))
