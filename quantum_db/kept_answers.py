"""Answers that are kept, so that the same question is not answered twice while nothing has changed.

An answer is kept under the tenant, the collection and the version of what that holds, and the whole question: with a
write that is acknowledged the version is another one (``commits.changes``), so that no answer from before it is given
after it. What circuits measured is kept no longer than the first of the states that they measured stays coherent.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import orjson

from quantum_db.caching import BoundedCache
from quantum_db.model import Answer
from quantum_db.ports import Clock, Versions

Json = dict[str, Any]
Outcome = Literal["local", "shared", "joined", "computed", "unknown_version"]
"""How a question was answered: from this replica's memory, from that of all, together with the same one that was being
answered, or anew; and anew because it was not known whether anything has changed."""

ENTRY_BYTES: Final = 200
"""What an answer takes besides itself."""

OWN_EFFECT: Final = ("session_id", "observe", "explain", "fresh")
"""Fields of a query that ask for more than an answer, or for one that is made now."""


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How much is kept.

    Attributes:
        max_bytes: of all answers of one replica.
        ttl_s: how long an answer is kept at most.
        redis_url: where replicas keep answers together, besides; None: each keeps only its own.
    """

    max_bytes: int
    ttl_s: float
    redis_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Made:
    """An answer that was made now: as it is, and as the caller is told."""

    answer: Answer
    view: Json


class SharedAnswers(Protocol):
    """Answers that all replicas keep together. It never raises: what cannot be had is not there."""

    async def get(self, key: bytes) -> tuple[bytes, float] | None:
        """Return the answer under a key and for how long (seconds) it may still be kept, if there is one."""

    def put(self, key: bytes, answer: bytes, keep_s: float) -> None:
        """Keep an answer. Does not wait."""


class KeptAnswers:
    """The answers of one replica. For one event loop."""

    def __init__(
        self,
        policy: CachePolicy,
        versions: Versions,
        clock: Clock,
        note: Callable[[Outcome], None],
        shared: SharedAnswers | None = None,
    ) -> None:
        """Start empty. ``note`` is told of each question how it was answered."""
        self.kept: BoundedCache[bytes] = BoundedCache(policy.max_bytes, clock)
        self._ttl_s = policy.ttl_s
        self._versions = versions
        self._note = note
        self._shared = shared
        self._flights: dict[bytes, asyncio.Task[tuple[bytes, bool]]] = {}

    async def answer(self, tenant: str, collection: str, question: object, make: Callable[[], Awaitable[Made]]) -> Json:
        """Return the answer to a question, made by ``make`` where none is kept. It says whether it was (``cached``).

        Raises what ``make`` raises, to all who ask the same meanwhile; that is not kept.
        """
        version = self._versions.version(collection)
        if version is None:
            self._note("unknown_version")
            return {**(await make()).view, "cached": False}
        key = _key(tenant, collection, version, question)
        if key is None:
            return {**(await make()).view, "cached": False}
        kept = self.kept.get(key)
        if kept is not None:
            self._note("local")
            return _read(kept, cached=True)
        flight = self._flights.get(key)
        if flight is not None:
            self._note("joined")
            return _read((await asyncio.shield(flight))[0], cached=True)
        flight = self._flights[key] = asyncio.get_running_loop().create_task(self._found_or_made(key, make))
        flight.add_done_callback(lambda task: self._landed(key, task))
        answer, cached = await asyncio.shield(flight)
        return _read(answer, cached)

    async def _found_or_made(self, key: bytes, make: Callable[[], Awaitable[Made]]) -> tuple[bytes, bool]:
        """Return an answer as JSON, and whether it was kept by another replica."""
        found = None if self._shared is None else await self._shared.get(key)
        if found is not None:
            self._note("shared")
            answer, left_s = found
            self.kept.put(key, answer, len(answer) + ENTRY_BYTES, left_s)
            return answer, True
        self._note("computed")
        made = await make()
        answer, kept_s = orjson.dumps(made.view), keep_s(made.answer, self._ttl_s)
        if kept_s > 0.0:
            self.kept.put(key, answer, len(answer) + ENTRY_BYTES, kept_s)
            if self._shared is not None:
                self._shared.put(key, answer, kept_s)
        return answer, False

    def _landed(self, key: bytes, flight: asyncio.Task[tuple[bytes, bool]]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # those who waited have it, if they are still there


def may_be_kept(question: object) -> bool:
    """Return whether a query, as its body says it, asks for no more than an answer, and not for one made now."""
    return isinstance(question, Mapping) and not any(question.get(name) for name in OWN_EFFECT)


def keep_s(answer: Answer, ttl_s: float) -> float:
    """Return for how long an answer may be kept, in seconds; at most ``ttl_s``, and 0 for what stands for another."""
    if answer.refinement.fell_back:
        return 0.0
    return ttl_s if answer.coherence_time_ms is None else min(ttl_s, answer.coherence_time_ms / 1000.0)


def _key(tenant: str, collection: str, version: str, question: object) -> bytes | None:
    """Return the name of a question's answer; None where the question is not JSON, for which nothing is kept."""
    try:
        text = orjson.dumps(question, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        return None
    scope = orjson.dumps((tenant, collection, version))
    return hashlib.blake2b(scope + text, digest_size=20).digest()


def _read(answer: bytes, cached: bool) -> Json:
    found: Json = orjson.loads(answer)
    return {**found, "cached": cached}
