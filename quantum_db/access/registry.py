"""The keeper of keys: durable before they are good, and told to every replica before the answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from quantum_db.access.bodies import KeyBody
from quantum_db.access.keys import Json, Key, KeyTable, RandomBytes, Token, new_token
from quantum_db.access.ports import KeyNews
from quantum_db.access.principal import Principal, Role
from quantum_db.change_feed import ChangeFeed, Cursor
from quantum_db.errors import Conflict, Forbidden
from quantum_db.journals.keeper import Keeper, uncancelled
from quantum_db.ports import Clock

STREAM: Final = "access-keys"
SETTLE_S: Final = 2.0
"""How long a change is waited for that a replica does not confirm."""
FOLLOWER_GONE_S: Final = 30.0
"""A replica that has not asked for so long has ended, or lets nobody in; see ``access.following``."""


class KeyRegistry:
    """Implements ``KeyDesk`` and ``KeySource``. For one event loop."""

    def __init__(self, keeper: Keeper[KeyTable], clock: Clock, random_bytes: RandomBytes) -> None:
        """Join the parts. ``keeper`` has been loaded."""
        self._keeper = keeper
        self._clock = clock
        self._random_bytes = random_bytes
        self._feed = ChangeFeed(keeper.epoch, clock)
        self._alone = asyncio.Lock()
        self._changes = 0
        self._confirmed: dict[str, tuple[float, int]] = {}
        self._confirming = asyncio.Event()
        self._began_s = clock.monotonic_s()

    @property
    def table(self) -> KeyTable:
        """The keys, to read."""
        return self._keeper.kept

    async def ensure_admin(self, token_id: str, digest: str, *, given: bool) -> bool:
        """See to it that the cluster has an administrator; return whether this key has become one.

        A ``given`` key is taken if its id was never seen: so whoever starts the cluster can always get in, and a key
        that was revoked stays so. One that was made up for the case is taken only if there is no administrator.
        """
        now_s = self._clock.now_s()
        if self.table.holds(token_id) or (not given and self.table.administrators(now_s)):
            return False
        name = "given at the start" if given else "made at the first start"
        await self._write(Key(token_id, name, "default", Role.ADMIN, digest, now_s, cluster=True))
        return True

    async def create(self, principal: Principal, body: KeyBody) -> Json:
        """See ``KeyDesk.create``."""
        role, actions = body.rights()
        tenant = body.tenant or principal.tenant
        if not principal.covers(tenant, role, body.cluster, actions):
            raise Forbidden("a key may do nothing that its maker cannot do: by role, actions, tenant or cluster")
        self.table.check_room()
        now_s, token = self._clock.now_s(), new_token(self._random_bytes)
        expires_at_s = None if body.expires_in_s is None else now_s + body.expires_in_s
        key = Key(token.id, body.name, tenant, role, token.digest, now_s, body.cluster, actions, expires_at_s)
        return await self._told(token, key)

    async def list(self, principal: Principal) -> Json:
        """See ``KeyDesk.list``."""
        now_s = self._clock.now_s()
        return {"keys": [key.view(now_s) for key in self.table.seen_by(principal)]}

    async def rotate(self, principal: Principal, key_id: str, grace_s: float) -> Json:
        """See ``KeyDesk.rotate``."""
        async with self._alone:
            key, now_s = self._managed(principal, key_id), self._clock.now_s()
            if not key.is_good(now_s):
                raise Conflict(f"the key {key_id!r} is revoked or expired; make another one")
            token = new_token(self._random_bytes, key.id)
            return await self._told(token, key.rotated(token.digest, now_s + grace_s))

    async def revoke(self, principal: Principal, key_id: str) -> Json:
        """See ``KeyDesk.revoke``."""
        async with self._alone:
            key, now_s = self._managed(principal, key_id), self._clock.now_s()
            if key.revoked_at_s is None:
                if self.table.administrators(now_s) == [key]:
                    raise Conflict(f"{key_id!r} is the last administrator of the cluster; make another one first")
                key = replace(key, revoked_at_s=now_s)
                await self._write(key)
            return {**key.view(now_s), "everywhere": await self._settled()}

    async def news(self, follower: str, after: Cursor | None, timeout_s: float) -> KeyNews:
        """See ``KeySource.news``."""
        confirmed = after.number if after is not None and after.epoch == self._keeper.epoch else -1
        self._confirmed[follower] = (self._clock.monotonic_s(), confirmed)
        self._confirming.set()
        found = await self._feed.after(after, timeout_s)
        if found.gap:
            return KeyNews(found.cursor, self.table.all(), whole=True)
        ids = frozenset(one for change in found.changes for one in change.entity_ids)
        return KeyNews(found.cursor, self.table.of_ids(ids), whole=False)

    def _managed(self, principal: Principal, key_id: str) -> Key:
        key = self.table.get(key_id, principal)
        if not principal.covers(key.tenant, key.role, key.cluster, key.actions):
            raise Forbidden(f"the key {key_id!r} may do what this credential cannot")
        return key

    async def _told(self, token: Token, key: Key) -> Json:
        await self._write(key)
        return {**key.view(self._clock.now_s()), "key": str(token), "everywhere": await self._settled()}

    async def _write(self, key: Key) -> None:
        async def work() -> None:
            await self._keeper.write([{"key": key.record()}])
            self._feed.add([key.id])
            self._changes += 1

        await uncancelled(work())

    async def _settled(self) -> bool:
        """Wait until all replicas go by all changes up to now, at most ``SETTLE_S``; return whether they do.

        After a restart nobody knows at first which replicas there are.
        """
        wanted = self._changes
        try:
            async with asyncio.timeout(SETTLE_S):
                while self._behind(wanted):
                    self._confirming.clear()
                    await self._confirming.wait()
        except TimeoutError:
            return False
        return self._keeper.epoch == 1 or self._clock.monotonic_s() - self._began_s > FOLLOWER_GONE_S

    def _behind(self, wanted: int) -> bool:
        now_s = self._clock.monotonic_s()
        for follower, (seen_s, _) in list(self._confirmed.items()):
            if now_s - seen_s > FOLLOWER_GONE_S:
                del self._confirmed[follower]
        return any(number < wanted for _, number in self._confirmed.values())
