"""gRPC on a socket, behind the real gate: every method with every kind of credential, limits, sizes, errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from google.protobuf.message import Message
from grpc import aio

from quantum_db.access.blocking import BlockPolicy
from quantum_db.access.limits import CallLimits, LimitTable
from quantum_db.access.policy import OPEN, RULES, action_of, unruled
from quantum_db.access.principal import Role
from quantum_db.access.sizes import SizeLimits
from serve_app.request_log import Lines
from serve_app.rpc import quantum_db_pb2 as pb
from serve_app.rpc.calls import METHODS, SERVICE, STREAM, Backed, operation_of, operations
from serve_app.rpc.messages import without_field
from serve_app.rpc.quantum_db_pb2_grpc import QuantumDBStub
from serve_app.rpc.service import Bounds, Service, server_of
from tests.security.test_matrix import BELOW
from tests.security.world import ROOT, Grants, World, stranger
from tests.unit.test_database import query

Code = grpc.StatusCode
NAMES = sorted(method.name for method in SERVICE.methods)
CLOSED = [name for name in NAMES if action_of(operation_of(name)) not in OPEN]
BOUNDS = Bounds(max_bytes=200_000, max_calls=8)
VECTOR = [0.6, 0.8]


class Refused(Exception):
    """How a call was refused: its code, its message, the problem, and the trailing metadata."""

    def __init__(self, error: aio.AioRpcError) -> None:
        super().__init__(f"{error.code()}: {error.details()}")
        self.code, self.detail = error.code(), str(error.details())
        self.trailers = dict(error.trailing_metadata() or ())
        self.problem: dict[str, Any] = orjson.loads(self.trailers.get("problem-bin", b"{}"))


class Client:
    """Calls the service of a server as a caller with a credential."""

    def __init__(self, server: aio.Server, channel: aio.Channel) -> None:
        self.server, self.channel = server, channel
        self._stub: Any = QuantumDBStub(channel)

    async def call(self, name: str, request: Any = None, credential: object = None, **metadata: str) -> Any:
        """Return the answer. Raises Refused."""
        if request is None:
            request = iter(()) if name == STREAM else METHODS[name].request()
        shown = {} if credential is None else {"api-key": str(credential)}
        sent = tuple((key.replace("_", "-"), value) for key, value in {**shown, **metadata}.items())
        try:
            return await getattr(self._stub, name)(request, metadata=sent, timeout=20.0)
        except aio.AioRpcError as error:
            raise Refused(error) from None

    async def refused(self, name: str, request: Any = None, credential: object = None, **metadata: str) -> Refused:
        with pytest.raises(Refused) as caught:
            await self.call(name, request, credential, **metadata)
        return caught.value

    async def let_in(self, name: str, credential: object) -> None:
        """What came through the gate found nothing there, or no body."""
        try:
            await self.call(name, None, credential)
        except Refused as refused:
            assert refused.code in (Code.NOT_FOUND, Code.INVALID_ARGUMENT), (name, refused)  # noqa: PT017


@asynccontextmanager
async def served(world: World, bounds: Bounds = BOUNDS, lines: Lines | None = None) -> AsyncIterator[Client]:
    backed = Backed(world.bench.api, world.cluster)
    server = server_of(Service(backed, world.gate, bounds, world.cluster.registry, lines), bounds)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Client(server, channel)
    finally:
        await server.stop(0)


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    async with served(world) as client:
        yield client


def test_every_method_is_ruled_and_one_that_is_not_is_found() -> None:
    assert unruled(operations()) == []
    assert unruled([*operations(), "drop_everything"]) == ["drop_everything"]
    assert {action_of(operation) for operation in operations()} & OPEN == {"readyz"}, "all the others are closed"


async def test_bad_credentials_are_refused_everywhere_in_the_same_words(world: World, client: Client) -> None:
    revoked, good = await world.key("admin"), await world.key("admin")
    await world.keys.revoke(ROOT, revoked.id)
    expired = await world.key("admin", expires_in_s=1.0)
    world.clock.ahead_s = 2.0
    bad = {
        "nothing": None,
        "empty": "",
        "unknown": stranger(),
        "wrong secret": replace(good, secret=stranger().secret),
        "revoked": revoked,
        "expired": expired,
        "expired token": world.token(exp=world.claims()["exp"] - 120),
        "other audience": world.token(aud="another service"),
    }
    for kind, credential in bad.items():
        told = set()
        for name in CLOSED:
            refused = await client.refused(name, None, credential)
            assert refused.code is Code.UNAUTHENTICATED, (kind, name)
            assert refused.problem["type"] == "urn:quantum-db:problem:unauthenticated"
            told.add(refused.detail)
        assert len(told) == 1, kind
    for name in CLOSED:
        for credential in (good, world.token()):
            await client.let_in(name, credential)


async def test_health_needs_nothing_and_tells_what_fails(world: World, client: Client) -> None:
    assert (await client.call("Health")).status == "ready"
    world.cluster.failing = ["store: is away"]
    found = await client.call("Health", None, stranger())
    assert (found.status, list(found.failing)) == ("not ready", ["store: is away"])


async def test_the_wrong_role_is_refused_and_the_right_one_is_let_in(world: World, client: Client) -> None:
    keys = {role: await world.key(role.label) for role in Role}
    below = 0
    for name in CLOSED:
        least = RULES[action_of(operation_of(name))].role
        if least in BELOW:
            refused = await client.refused(name, None, keys[Role.named(BELOW[least])])
            assert refused.code is Code.PERMISSION_DENIED, name
            below += 1
        await client.let_in(name, keys[least])
    assert below > 5


async def test_another_tenant_cannot_be_named_and_its_jobs_are_not_there(world: World, client: Client) -> None:
    ours, theirs = await world.key("admin"), await world.key("admin", tenant="b")
    for name in CLOSED:
        assert (await client.refused(name, None, ours, x_tenant="b")).code is Code.PERMISSION_DENIED, name
    assert (await client.call("Costs", None, ours, x_tenant="a")).tenant == "a"
    job = await client.call("SubmitJob", JOB, theirs)
    for name, request in (
        ("GetJob", pb.GetJobRequest(job_id=job.id)),
        ("CancelJob", pb.CancelJobRequest(job_id=job.id)),
    ):
        assert (await client.refused(name, request, ours)).code is Code.NOT_FOUND, name
        assert (await client.call(name, request, theirs)).id == job.id


JOB = pb.SubmitJobRequest(
    shots=100,
    name="bell",
    circuits=[
        pb.Circuit(format="qasm3", source='OPENQASM 3; include "stdgates.inc"; qubit[2] q; h q[0]; cx q[0], q[1];')
    ],
)


async def test_a_bearer_token_is_taken_too(world: World, client: Client) -> None:
    for credential in (str(await world.key("reader")), world.token(role="reader")):
        assert await client.call("Costs", None, authorization=f"Bearer {credential}")
    assert (await client.refused("Costs", None, authorization="Basic abc")).code is Code.UNAUTHENTICATED


async def test_entities_groups_and_states_from_their_insertion_to_their_end(world: World, client: Client) -> None:
    key = await world.key("writer")

    async def done(name: str, request: Message, **metadata: str) -> Any:
        return await client.call(name, request, key, **metadata)

    contexts = [pb.Context(name="red", weight=1.0), pb.Context(name="blue", weight=3.0)]
    for n in range(2):
        written = await done(
            "Insert",
            pb.InsertRequest(id=f"g{n}", vector=VECTOR, contexts=contexts, metadata_json=f'{{"n": {2**53 + n}}}'),
        )
        assert (written.id, written.dimension, list(written.contexts)) == (f"g{n}", 2, ["red", "blue"])
    one = await done("Fetch", pb.FetchRequest(id="g1"))
    assert orjson.loads(one.metadata_json) == {"n": 2**53 + 1}
    assert [(c.name, c.weight) for c in one.contexts] == [("red", 0.25), ("blue", 0.75)]
    assert sum(x * x for x in one.vector) == pytest.approx(1.0)
    asked = pb.QueryRequest(vector=VECTOR, context="red", top_k=2, explain=True)
    found = await done("Query", asked)
    assert {hit.id for hit in found.hits} == {"g0", "g1"}
    assert found.hits[0].context == "red"
    assert found.stages.filter_ms > 0
    circuits = await done("Query", pb.QueryRequest(vector=VECTOR, context="red", refine="always", shots=100))
    assert circuits.refinement.ran
    assert circuits.hits[0].HasField("interval")
    batch = pb.InsertBatchRequest(vectors=[pb.Entity(id="g2", vector=VECTOR), pb.Entity(id="bad")])
    assert [item.status for item in (await done("InsertBatch", batch)).items] == ["written", "refused"]
    together = pb.InsertBatchRequest(vectors=[pb.Entity(id="g3", vector=VECTOR)], transaction=True)
    assert (await done("InsertBatch", together)).commit > written.version
    pair = pb.CreateGroupRequest(group_id="pair", entity_ids=["g0", "g1"], correlation_strength=0.5)
    assert (await done("CreateGroup", pair)).version == (
        await done("GetGroup", pb.GetGroupRequest(group_id="pair"))
    ).version
    measured = await done("MeasureGroup", pb.MeasureGroupRequest(group_id="pair", shots=500, chsh=True))
    assert measured.pairs[0].interval.low <= measured.pairs[0].value <= measured.pairs[0].interval.high
    assert orjson.loads(measured.chsh_json)["correlations"]
    changed = await done(
        "Update", pb.UpdateRequest(id="g1", metadata_json='{"read": true}', expected_version=one.version)
    )
    assert changed.version > one.version
    assert (await done("GetState", pb.GetStateRequest(id="g1"))).entity_id == "g1"
    assert (await done("DeleteGroup", pb.DeleteGroupRequest(group_id="pair"))).deleted
    assert (await done("Delete", pb.DeleteRequest(id="g1", expected_version=changed.version))).deleted
    assert (await client.refused("Fetch", pb.FetchRequest(id="g1"), key)).code is Code.NOT_FOUND


async def test_a_job_is_taken_once_under_its_key_and_told_with_its_result(world: World, client: Client) -> None:
    key = await world.key("writer")
    first, again = [await client.call("SubmitJob", JOB, key, idempotency_key="once") for _ in range(2)]
    assert first.id == again.id
    job = first
    while job.status not in ("completed", "failed"):
        job = await client.call("GetJob", pb.GetJobRequest(job_id=first.id), key)
    assert (job.status, job.name, job.shots) == ("completed", "bell", 100)
    assert orjson.loads(job.result_json)
    assert without_field(pb.Job.DESCRIPTOR, (await world.send("GET", f"/api/v2/jobs/{job.id}", key)).json()) == []
    costs = (await world.send("GET", "/api/v2/costs", key)).json()
    assert without_field(pb.CostsResponse.DESCRIPTOR, costs) == []
    assert (await client.call("Costs", pb.CostsRequest(since="2020-01-01"), key)).left_today.usd == 10.0


async def test_errors_have_codes_field_paths_and_the_callers_request_id(world: World, client: Client) -> None:
    key = await world.key("writer")
    wrong = pb.InsertRequest(id="w", vector=VECTOR, contexts=[pb.Context(name="a", weight=-1.0)])
    refused = await client.refused("Insert", wrong, key, x_request_id="mine-1")
    assert refused.code is Code.INVALID_ARGUMENT
    assert refused.problem["errors"][0]["path"] == "contexts[0].weight"
    assert refused.problem["request_id"] == refused.trailers["x-request-id"] == "mine-1"
    assert refused.problem["status"] == 422
    filtered = await client.refused("Query", pb.QueryRequest(vector=VECTOR, filter_json='{"mist": []}'), key)
    assert (filtered.code, filtered.problem["errors"][0]["path"]) == (Code.INVALID_ARGUMENT, "filter.mist")
    missing = await client.refused("Fetch", pb.FetchRequest(), key)
    assert (missing.code, missing.problem["errors"][0]["path"]) == (Code.INVALID_ARGUMENT, "id")
    new = pb.UpdateRequest(id="e00", metadata_json="{}", expected_version=10**9)
    assert (await client.refused("Update", new, key)).code is Code.ABORTED
    again = pb.InsertRequest(id="k", vector=VECTOR)
    await client.call("Insert", again, key, idempotency_key="k1")
    again.id = "l"
    assert (await client.refused("Insert", again, key, idempotency_key="k1")).code is Code.ABORTED


async def test_an_unexpected_error_tells_nothing_of_the_inside(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret 7 at /home/x")

    monkeypatch.setattr(world.bench.api, "query", broken)
    with caplog.at_level(logging.ERROR):
        refused = await client.refused("Query", pb.QueryRequest(), await world.key("reader"))
    assert refused.code is Code.INTERNAL
    assert "secret" not in str(refused.problem) + refused.detail
    assert "secret 7" in caplog.text


async def test_a_stream_is_written_and_its_refusals_are_told(world: World, client: Client) -> None:
    def messages() -> Iterator[pb.InsertStreamRequest]:
        for n in range(1_200):
            entity = pb.Entity(id=f"s{n}", vector=VECTOR if n != 1_100 else [0.0, 0.0])
            yield pb.InsertStreamRequest(vectors=[entity])

    key = await world.key("writer")
    told = await client.call(STREAM, messages(), key)
    assert (told.written, told.refused, told.batches) == (1_199, 1, 2)
    assert (told.refusals[0].position, told.refusals[0].id) == (1_100, "s1100")
    assert orjson.loads(told.refusals[0].problem_json)["errors"][0]["path"] == "vector"
    assert (await client.call("Fetch", pb.FetchRequest(id="s1199"), key)).id == "s1199"
    lines = [line for line in await world.lines() if line["action"] == "insert_batch"]
    assert [(line["about"], line["outcome"]) for line in lines] == [("1000 vectors", "ok"), ("200 vectors", "ok")]


async def test_a_key_that_is_revoked_meanwhile_ends_a_stream_at_its_next_batch(world: World, client: Client) -> None:
    key = await world.key("writer")

    async def messages() -> AsyncIterator[pb.InsertStreamRequest]:
        for n in range(2_000):
            if n == 500:
                await world.keys.revoke(ROOT, key.id)
            yield pb.InsertStreamRequest(vectors=[pb.Entity(id=f"r{n}", vector=VECTOR)])

    refused = await client.refused(STREAM, messages(), key)
    assert refused.code is Code.UNAUTHENTICATED
    assert refused.problem["written"] == 1_000, "what was let in before is written, and told"


SLOW = Grants(LimitTable(CallLimits(requests_per_minute=2)))
NARROW = Grants(LimitTable(CallLimits(sizes=SizeLimits(body_bytes=2_000, dimension=2, top_k=3))))


@pytest.mark.parametrize("grants", [SLOW])
async def test_who_calls_too_often_is_told_when_to_come_again(world: World, client: Client) -> None:
    key = await world.key("writer")
    for _ in range(2):
        await client.call("Costs", None, key)
    refused = await client.refused("Costs", None, key)
    assert refused.code is Code.RESOURCE_EXHAUSTED
    assert 0 < int(str(refused.trailers["retry-after"])) <= 60
    assert (await client.refused(STREAM, None, key)).code is Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("grants", [NARROW])
async def test_sizes_are_bounded_by_what_is_granted_and_by_what_holds_for_all(world: World, client: Client) -> None:
    key = await world.key("writer")
    wide = await client.refused("Query", pb.QueryRequest(vector=[1.0] * 3), key)
    assert (wide.code, wide.problem["errors"][0]["path"]) == (Code.INVALID_ARGUMENT, "vector")
    many = await client.refused("Query", pb.QueryRequest(vector=VECTOR, top_k=4), key)
    assert "granted" in many.detail
    large = pb.InsertRequest(id="x", vector=VECTOR, metadata_json=orjson.dumps({"a": "x" * 2_000}).decode())
    refused = await client.refused("Insert", large, key)
    assert (refused.code, refused.problem["status"]) == (Code.RESOURCE_EXHAUSTED, 413)
    streamed = await client.refused(STREAM, iter([pb.InsertStreamRequest(vectors=[pb.Entity(id="x" * 3_000)])]), key)
    assert streamed.problem["status"] == 413
    larger = pb.InsertRequest(id="x", metadata_json="x" * BOUNDS.max_bytes)
    assert (await client.refused("Insert", larger, key)).code is Code.RESOURCE_EXHAUSTED, "of gRPC itself"


@pytest.mark.parametrize("grants", [Grants(blocking=BlockPolicy(failures=3, window_s=60.0, block_s=60.0))])
async def test_guessing_is_blocked_by_address_over_any_number_of_connections(world: World) -> None:
    for _ in range(3):
        async with served_once(world) as client:
            assert (await client.refused("Costs", None, stranger())).code is Code.UNAUTHENTICATED
    await world.reports.flush()
    async with served_once(world) as client:
        refused = await client.refused("Costs", None, stranger(), x_forwarded_for="10.9.9.9")
        assert refused.code is Code.RESOURCE_EXHAUSTED, "another port, and an address that the caller made up"
        assert await client.call("Costs", None, await world.key("reader")), "a good key is let in from anywhere"


@asynccontextmanager
async def served_once(world: World) -> AsyncIterator[Client]:
    """A server and a channel of their own; the metrics of each server need a registry of their own, too."""
    world.cluster.registry = type(world.cluster.registry)()
    async with served(world) as client:
        yield client


async def test_more_calls_than_there_are_places_for_are_told_to_come_again(world: World) -> None:
    async with served(world, replace(BOUNDS, max_calls=0)) as client:
        refused = await client.refused("Costs", None, await world.key("reader"))
    assert refused.code is Code.UNAVAILABLE
    assert refused.trailers["retry-after"] == "1"


async def test_bytes_that_are_no_message_are_refused_only_to_whom_is_let_in(world: World, client: Client) -> None:
    key = await world.key("reader")
    send = client.channel.unary_unary(f"/{SERVICE.full_name}/Query")
    with pytest.raises(aio.AioRpcError) as nobody:
        await send(b"\xff\xff")
    with pytest.raises(aio.AioRpcError) as somebody:
        await send(b"\xff\xff", metadata=(("api-key", str(key)),))
    assert nobody.value.code() is Code.UNAUTHENTICATED
    assert somebody.value.code() is Code.INVALID_ARGUMENT
    assert "the bytes are no QueryRequest" in str(somebody.value.details())


async def test_a_server_that_ends_lets_calls_end_that_have_begun(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any, **__: Any) -> dict[str, Any]:
        begun.set()
        await go_on.wait()
        return {"mode": "slow"}

    monkeypatch.setattr(world.bench.api, "query", slow)
    key = await world.key("reader")
    call = asyncio.create_task(client.call("Query", None, key))
    await begun.wait()
    ending = asyncio.create_task(client.server.stop(10.0))
    await asyncio.sleep(0)
    go_on.set()
    assert (await call).mode == "slow"
    await ending
    assert (await client.refused("Health")).code is Code.UNAVAILABLE


async def test_a_caller_who_leaves_stops_the_work_and_is_in_the_log(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def endless(*_: Any, **__: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    monkeypatch.setattr(world.bench.api, "delete", endless)
    call = asyncio.create_task(client.call("Delete", pb.DeleteRequest(id="e00"), await world.key("writer")))
    await begun.wait()
    call.cancel()
    await asyncio.wait_for(stopped.wait(), 10.0)
    (line,) = [line for line in await world.lines() if line["action"] == "delete"]
    assert (line["about"], line["outcome"]) == ("e00", "failed")
    assert 'grpc_requests_total{code="CANCELLED",method="Delete"' in (await world.cluster.exposition()).decode()


async def test_a_line_is_written_for_each_call(world: World, tmp_path: Path) -> None:
    key, lines = await world.key("reader"), Lines(tmp_path, "door")
    async with served(world, lines=lines) as client:
        await client.call("Costs", None, key, x_request_id="mine-2")
        await client.refused("Costs", None, stranger())
    first, second = map(orjson.loads, (tmp_path / "requests-door.jsonl").read_text().splitlines())
    lines.close()
    assert (first["request_id"], first["route"], first["status"]) == ("mine-2", "gRPC Costs", "OK")
    assert (first["tenant"], first["caller"]) == ("a", f"key:{key.id}")
    assert (second["status"], second["tenant"]) == ("UNAUTHENTICATED", None)


async def test_metrics_count_by_method_and_code(world: World, client: Client) -> None:
    await client.refused("Costs")
    await client.call("Costs", None, await world.key("reader"))
    text = (await world.cluster.exposition()).decode()
    assert 'grpc_requests_total{code="UNAUTHENTICATED",method="Costs"' in text
    assert 'grpc_requests_total{code="OK",method="Costs"' in text


async def test_what_rest_answers_has_a_field_in_the_answer(world: World, client: Client) -> None:
    """The same query over both doors."""
    key = await world.key("reader")
    body = query(vector=VECTOR, explain=True, mode="classical")
    rest = (await world.send("POST", "/api/v2/query", key, json=body)).json()
    assert without_field(pb.QueryResponse.DESCRIPTOR, rest) == []
    asked = pb.QueryRequest(**body)
    found = await client.call("Query", asked, key)
    assert [hit.id for hit in found.hits] == [hit["id"] for hit in rest["hits"]]
    assert [hit.score for hit in found.hits] == pytest.approx([hit["score"] for hit in rest["hits"]], abs=1e-6)
