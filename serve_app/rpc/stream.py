"""A stream of entities, written in batches, each of which passes the gate anew."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from quantum_db.access.principal import Principal
from quantum_db.access.sizes import check_sizes
from quantum_db.errors import DeadlineExceeded, InvalidRequest
from quantum_db.scope import DEFAULT_COLLECTION, Scope
from serve_app.rpc import quantum_db_pb2 as pb
from serve_app.rpc.callers import Caller
from serve_app.rpc.messages import Json, body_of, decoded, granted_bytes

BATCH_ROWS: Final = 1_000
MAX_REFUSALS: Final = 100
IDLE_S: Final = 60.0
"""How long a caller may be silent who has begun a stream: it holds a place that others wait for."""
ACTION: Final = "insert_batch"


class Admission(Protocol):
    """Lets one batch of a caller in."""

    def __call__(self, about: list[str]) -> AbstractAsyncContextManager[Principal]:
        """Return a block like ``Gate.admitted``; its audit line is about what is in ``about`` at its end."""


class Writer(Protocol):
    """Writes batches."""

    async def insert_batch(self, raw: object, key: str | None = None, scope: Scope = ...) -> Json:
        """See ``Api.insert_batch``."""


class Intake:
    """One stream. Batch n is made of the same entities whenever the same messages come, in the same order."""

    def __init__(self, messages: AsyncIterable[bytes], writer: Writer, caller: Caller, max_bytes: int) -> None:
        """Begin with nothing. No message is larger than ``max_bytes``, nor much more than that held at a time."""
        self._messages, self._writer, self._caller, self._max_bytes = messages, writer, caller, max_bytes
        self._coming: AsyncIterator[bytes] | None = None
        self._collection: str | None = None
        self._next: bytes | None = None
        self._waiting: deque[pb.Entity] = deque()
        self._received = 0
        self._refusals: list[Json] = []
        caller.progress = {"written": 0, "refused": 0, "batches": 0}

    async def run(self, admission: Admission) -> Json:
        """Write all, and return what ``InsertStreamResponse`` tells.

        The caller has passed the gate before the first message is read. What was written before an error stays, and is
        told in ``caller.progress``.
        """
        while True:
            about: list[str] = []
            async with admission(about) as principal:
                await self._batch(principal, about)
            if not self._waiting and not await self._comes():
                return {**self._caller.progress, "refusals": self._refusals}

    async def _batch(self, principal: Principal, about: list[str]) -> None:
        sizes = principal.sizes
        rows = BATCH_ROWS if sizes.batch is None else min(BATCH_ROWS, sizes.batch)
        max_bytes, held = granted_bytes(sizes, self._max_bytes), 0
        while len(self._waiting) < rows and held < max_bytes and await self._comes():
            held += self._take(max_bytes)
        first = self._received - len(self._waiting)
        batch = [self._waiting.popleft() for _ in range(min(rows, len(self._waiting)))]
        about.append(f"{len(batch)} vectors")
        bodies, places, refusals = _decoded(batch, first)
        check_sizes(ACTION, {"vectors": bodies}, sizes)
        if bodies:
            scope = Scope(principal.tenant, self._collection or DEFAULT_COLLECTION)
            answer = await self._writer.insert_batch({"vectors": bodies}, self._key(), scope=scope)
            refusals += [
                {"position": place, "id": item["id"], "problem": item["problem"]}
                for place, item in zip(places, answer["items"], strict=True)
                if item["status"] == "refused"
            ]
        self._settle(len(batch), refusals)

    def _key(self) -> str | None:
        key = self._caller.key
        return None if key is None else f"{key}/{self._caller.progress['batches']}"

    def _settle(self, rows: int, refusals: list[Json]) -> None:
        done = self._caller.progress
        self._caller.progress = {
            "written": done["written"] + rows - len(refusals),
            "refused": done["refused"] + len(refusals),
            "batches": done["batches"] + bool(rows),
        }
        refusals.sort(key=lambda one: int(one["position"]))
        self._refusals += refusals[: MAX_REFUSALS - len(self._refusals)]

    async def _comes(self) -> bool:
        """Wait for the next message; return whether there is one. Raises DeadlineExceeded."""
        if self._coming is None:  # not before: gRPC warns of an iterator that nobody asks
            self._coming = aiter(self._messages)
        if self._next is None:
            try:
                async with asyncio.timeout(IDLE_S):
                    self._next = await anext(self._coming, None)
            except TimeoutError:
                raise DeadlineExceeded(f"nothing came for {IDLE_S:.0f} s, and the stream had not ended") from None
        return self._next is not None

    def _take(self, max_bytes: int) -> int:
        """Let the entities of the next message wait; return its size in bytes. Raises InvalidRequest, BodyTooLarge."""
        raw, self._next = self._next, None
        assert raw is not None, "it has come"
        message = decoded(pb.InsertStreamRequest, raw, max_bytes)
        if self._collection is None:
            self._collection = message.collection or DEFAULT_COLLECTION
        if message.collection not in ("", self._collection):
            raise InvalidRequest.at("collection", f"must be {self._collection!r} throughout the stream, or left out")
        self._waiting.extend(message.vectors)
        self._received += len(message.vectors)
        return len(raw)


def _decoded(batch: list[pb.Entity], first: int) -> tuple[list[Json], list[int], list[Json]]:
    """Return the bodies of those entities that have one, their places in the stream, and refusals of the others."""
    bodies, places, refusals = [], [], []
    for place, entity in enumerate(batch, start=first):
        try:
            bodies.append(body_of(entity))
            places.append(place)
        except InvalidRequest as error:
            refusals.append({"position": place, "id": entity.id, "problem": error.problem()})
    return bodies, places, refusals
