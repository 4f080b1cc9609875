"""A stream of entities: how it is cut into batches, what is refused, and what an error in its midst leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from quantum_db.access.principal import Principal, Role
from quantum_db.access.sizes import UNLIMITED, SizeLimits
from quantum_db.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    InvalidRequest,
    QuantumDBError,
    TooManyRequests,
    Unavailable,
)
from quantum_db.scope import DEFAULT_SCOPE, Scope
from serve_app.rpc import quantum_db_pb2 as pb
from serve_app.rpc import stream
from serve_app.rpc.callers import Caller
from serve_app.rpc.messages import Json
from serve_app.rpc.stream import MAX_REFUSALS, Intake

MAX_BYTES = 1_000_000
Batch = tuple[list[str], str | None, Scope]


def entity(n: int, **changes: Any) -> pb.Entity:
    return pb.Entity(**{"id": f"e{n}", "vector": [1.0, float(n)], **changes})


def message(*entities: pb.Entity, collection: str = "") -> bytes:
    return pb.InsertStreamRequest(vectors=entities, collection=collection).SerializeToString()


def cut(count: int, into: int) -> list[bytes]:
    """Return messages of ``into`` entities each, ``count`` in all."""
    return [message(*(entity(n) for n in range(a, min(a + into, count)))) for a in range(0, count, into)]


@dataclass
class Gate:
    """Lets in as many batches as it is told to, within sizes; notes what each was about."""

    sizes: SizeLimits = UNLIMITED
    batches: int = 1_000
    told: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def __call__(self, about: list[str]) -> AsyncIterator[Principal]:
        if len(self.told) == self.batches:
            raise TooManyRequests("slower", retry_after_s=1.0)
        yield Principal("writer", "a", Role.WRITER, sizes=self.sizes)
        self.told += about


@dataclass
class Writer:
    """Refuses entities whose ids it is told, and fails once it has written so many batches."""

    refuses: frozenset[str] = frozenset()
    fails_after: int = 1_000
    batches: list[Batch] = field(default_factory=list)

    async def insert_batch(self, raw: object, key: str | None = None, scope: Scope = DEFAULT_SCOPE) -> Json:
        assert isinstance(raw, dict)
        if len(self.batches) == self.fails_after:
            raise Unavailable("the store has gone")
        ids = [one["id"] for one in raw["vectors"]]
        self.batches.append((ids, key, scope))
        wrong = InvalidRequest.at("vector", "is wrong").problem()
        items: list[Json] = [
            {"id": one, "status": "refused", "problem": wrong}
            if one in self.refuses
            else {"id": one, "status": "written"}
            for one in ids
        ]
        return {"items": items}


async def served(messages: list[bytes], gate: Gate, writer: Writer, **headers: str) -> tuple[Json, Caller]:
    caller = Caller(headers, "127.0.0.1", "r")

    async def sent() -> AsyncIterator[bytes]:
        for one in messages:
            yield one

    return await Intake(sent(), writer, caller, MAX_BYTES).run(gate), caller


async def broken(messages: list[bytes], gate: Gate, writer: Writer, kind: type[QuantumDBError]) -> Json:
    """Return what is told of a stream that an error ends."""
    caller = Caller({}, "127.0.0.1", "r")

    async def sent() -> AsyncIterator[bytes]:
        for one in messages:
            yield one

    with pytest.raises(kind):
        await Intake(sent(), writer, caller, MAX_BYTES).run(gate)
    return caller.progress


@pytest.mark.parametrize(
    ("count", "into", "batches"),
    [
        (0, 1, []),
        (1, 1, [1]),
        (1_000, 1, [1_000]),
        (1_001, 1, [1_000, 1]),
        (2_500, 7, [1_000, 1_000, 500]),
        (2_500, 2_500, [1_000, 1_000, 500]),
        (2_000, 1_000, [1_000, 1_000]),
    ],
)
async def test_a_stream_is_written_in_batches_however_it_is_sent(count: int, into: int, batches: list[int]) -> None:
    gate, writer = Gate(), Writer()
    told, _ = await served(cut(count, into), gate, writer)
    assert told == {"written": count, "refused": 0, "batches": len(batches), "refusals": []}
    assert [len(ids) for ids, _, _ in writer.batches] == batches
    assert [one for ids, _, _ in writer.batches for one in ids] == [f"e{n}" for n in range(count)]
    assert gate.told == ([f"{n} vectors" for n in batches] or ["0 vectors"]), "also an empty one passes the gate"


async def test_who_is_not_let_in_has_sent_in_vain() -> None:
    read: list[int] = []

    async def sent() -> AsyncIterator[bytes]:
        for n in range(10):
            read.append(n)
            yield message(entity(n))

    with pytest.raises(TooManyRequests):
        await Intake(sent(), Writer(), Caller({}, "", "r"), MAX_BYTES).run(Gate(batches=0))
    assert read == [], "nothing was read"


async def test_what_was_written_before_an_error_is_told() -> None:
    done = {"written": 2_000, "refused": 0, "batches": 2}
    assert await broken(cut(2_500, 10), Gate(batches=2), Writer(), TooManyRequests) == done
    assert await broken(cut(2_500, 10), Gate(), Writer(fails_after=2), Unavailable) == done
    assert await broken([*cut(2_500, 10), b"\xff"], Gate(), Writer(), InvalidRequest) == done


async def test_each_batch_has_a_key_of_its_own() -> None:
    writer = Writer()
    await served(cut(2_500, 10), Gate(), writer, **{"idempotency-key": "night"})
    assert [key for _, key, _ in writer.batches] == ["night/0", "night/1", "night/2"]
    await served(cut(1, 1), Gate(), writer)
    assert writer.batches[-1][1] is None


async def test_refusals_are_told_by_their_places_and_are_bounded() -> None:
    wrong = {3: entity(3, metadata_json="{"), 1_002: entity(1_002), 1_004: entity(1_004, metadata_json="nope")}
    messages = [message(wrong.get(n, entity(n))) for n in range(1_010)]
    told, _ = await served(messages, Gate(), Writer(refuses=frozenset({"e1002", "e0"})))
    assert (told["written"], told["refused"]) == (1_006, 4)
    assert [(one["position"], one["id"]) for one in told["refusals"]] == [
        (0, "e0"),
        (3, "e3"),
        (1_002, "e1002"),
        (1_004, "e1004"),
    ]
    assert [one["problem"]["errors"][0]["path"] for one in told["refusals"]] == [
        "vector",
        "metadata_json",
        "vector",
        "metadata_json",
    ]
    everything = frozenset(f"e{n}" for n in range(1_500))
    told, _ = await served(cut(1_500, 100), Gate(), Writer(refuses=everything))
    assert (told["written"], told["refused"], len(told["refusals"])) == (0, 1_500, MAX_REFUSALS)


async def test_a_batch_of_entities_that_cannot_be_read_writes_nothing() -> None:
    writer = Writer()
    told, _ = await served([message(entity(0, metadata_json="{"))], Gate(), writer)
    assert (told["written"], told["refused"], told["batches"], writer.batches) == (0, 1, 1, [])


async def test_the_collection_is_that_of_the_first_message() -> None:
    writer = Writer()
    first, other = message(entity(0), collection="mine"), message(entity(1), collection="yours")
    await served([first, message(entity(1)), first], Gate(), writer)
    assert [scope for _, _, scope in writer.batches] == [Scope("a", "mine")]
    await served([message(entity(0))], Gate(), writer)
    assert writer.batches[-1][2] == Scope("a", "default")
    assert (await broken([first, other], Gate(), writer, InvalidRequest))["written"] == 0
    assert (await broken([message(entity(0)), first], Gate(), writer, InvalidRequest))["written"] == 0


async def test_what_is_granted_bounds_batches_messages_and_vectors() -> None:
    writer = Writer()
    gate = Gate(SizeLimits(batch=300))
    await served(cut(1_000, 100), gate, writer)
    assert [len(ids) for ids, _, _ in writer.batches] == [300, 300, 300, 100]
    one = cut(2, 1)
    assert (await broken(one, Gate(SizeLimits(body_bytes=len(one[0]) - 1)), writer, BodyTooLarge))["written"] == 0
    assert (await broken(one, Gate(SizeLimits(dimension=1)), writer, InvalidRequest))["written"] == 0


async def test_a_batch_ends_before_it_holds_too_many_bytes() -> None:
    writer = Writer()
    large = [message(entity(n, vector=[1.0] * 100_000)) for n in range(6)]
    assert 2 * len(large[0]) < MAX_BYTES < 3 * len(large[0])
    await served(large, Gate(), writer)
    assert [len(ids) for ids, _, _ in writer.batches] == [3, 3]


async def test_a_caller_who_falls_silent_gives_up_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "IDLE_S", 0.05)
    caller, gone = Caller({}, "", "r"), asyncio.Event()

    async def sent() -> AsyncIterator[bytes]:
        for one in cut(1_000, 10):
            yield one
        await gone.wait()

    with pytest.raises(DeadlineExceeded, match="nothing came"):
        await Intake(sent(), Writer(), caller, MAX_BYTES).run(Gate())
    assert caller.progress["written"] == 1_000
