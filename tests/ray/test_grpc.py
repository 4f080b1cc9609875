"""gRPC on the whole cluster: its own deployment, with the real store and the real actors behind it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import orjson
import pytest

from serve_app.rpc import quantum_db_pb2 as pb
from serve_app.rpc.quantum_db_pb2_grpc import QuantumDBStub
from tests.ray.conftest import ADMIN_KEY, LiveCluster, actors_below
from tests.ray.test_command_line import told, value

Code = grpc.StatusCode
REPLICA = "ServeReplica:quantum-db:grpc"
METADATA = (("api-key", ADMIN_KEY),)
ROWS = 2_500


def address_of(cluster: LiveCluster) -> str:
    found: str = json.loads((cluster.data_dir / "cluster.json").read_text())["grpc"]
    return found


@pytest.fixture(scope="module")
def stub(cluster: LiveCluster) -> Iterator[Any]:
    with grpc.insecure_channel(address_of(cluster)) as channel:
        yield QuantumDBStub(channel)


def problem(error: grpc.RpcError) -> tuple[grpc.StatusCode, dict[str, Any]]:
    assert isinstance(error, grpc.Call)
    return error.code(), orjson.loads(dict(error.trailing_metadata())["problem-bin"])


def test_entities_go_in_by_streams_and_come_out_by_both_doors(stub: Any, client: httpx.Client) -> None:
    vectors = np.random.default_rng(3).normal(size=(ROWS, 4)).astype(np.float32)
    client.post("/api/v2/collections", json={"name": "streamed", "dimension": 4}).raise_for_status()

    def messages() -> Iterator[pb.InsertStreamRequest]:
        for begin in range(0, ROWS, 7):
            some = range(begin, min(begin + 7, ROWS))
            entities = [
                pb.Entity(id=f"s{n}", vector=vectors[n].tolist(), metadata_json=f'{{"n": {2**53 + n}}}') for n in some
            ]
            yield pb.InsertStreamRequest(collection="streamed", vectors=entities)

    keyed = (*METADATA, ("idempotency-key", "night"))
    found = stub.InsertStream(messages(), metadata=keyed)
    assert (found.written, found.refused, found.batches) == (ROWS, 0, 3)
    before = stub.Fetch(pb.FetchRequest(id="s0", collection="streamed"), metadata=METADATA).version
    assert stub.InsertStream(messages(), metadata=keyed).written == ROWS
    assert stub.Fetch(pb.FetchRequest(id="s0", collection="streamed"), metadata=METADATA).version == before, "done once"
    assert client.get("/api/v2/collections/streamed").json()["entities"] == ROWS

    only = orjson.dumps({"must": [{"key": "n", "match": {"value": 2**53 + 1}}]}).decode()
    asked = pb.QueryRequest(collection="streamed", vector=vectors[1].tolist(), filter_json=only, refine="always")
    (hit,) = stub.Query(asked, metadata=METADATA).hits
    assert (hit.id, orjson.loads(hit.metadata_json)) == ("s1", {"n": 2**53 + 1})
    assert hit.interval.low <= hit.score <= hit.interval.high
    body = {"vector": vectors[1].tolist(), "mode": "classical"}
    rest = client.post("/api/v2/query", params={"collection": "streamed"}, json=body).json()
    same = stub.Query(
        pb.QueryRequest(collection="streamed", vector=vectors[1].tolist(), mode="classical"), metadata=METADATA
    )
    assert [one.id for one in same.hits] == [one["id"] for one in rest["hits"]]
    stored = client.get("/api/v2/vectors/s1", params={"collection": "streamed"}).json()
    one = stub.Fetch(pb.FetchRequest(id="s1", collection="streamed"), metadata=METADATA)
    assert list(one.vector) == stored["vector"], "to the last bit"


def test_what_is_wrong_is_told_by_code_and_path(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Insert(pb.InsertRequest(id="x", vector=[0.0, 0.0]), metadata=METADATA)
    code, told_of = problem(caught.value)
    assert (code, told_of["errors"][0]["path"]) == (Code.INVALID_ARGUMENT, "vector")
    with pytest.raises(grpc.RpcError) as unknown:
        stub.Query(pb.QueryRequest(collection="nowhere", vector=[1.0]), metadata=METADATA)
    assert problem(unknown.value)[0] is Code.NOT_FOUND


def test_another_tenants_ids_are_not_there(stub: Any, client: httpx.Client) -> None:
    keys = {}
    for tenant in ("grpc-a", "grpc-b"):
        body = {"name": tenant, "role": "writer", "tenant": tenant}
        keys[tenant] = (("api-key", client.post("/api/v2/keys", json=body).raise_for_status().json()["key"]),)
    stub.Insert(pb.InsertRequest(id="mine", vector=[1.0, 0.0]), metadata=keys["grpc-a"])
    assert stub.Fetch(pb.FetchRequest(id="mine"), metadata=keys["grpc-a"]).id == "mine"
    for request, call in ((pb.FetchRequest(id="mine"), stub.Fetch), (pb.GetStateRequest(id="mine"), stub.GetState)):
        with pytest.raises(grpc.RpcError) as caught:
            call(request, metadata=keys["grpc-b"])
        assert problem(caught.value)[0] is Code.NOT_FOUND
    with pytest.raises(grpc.RpcError) as nobody:
        stub.Fetch(pb.FetchRequest(id="mine"))
    assert problem(nobody.value)[0] is Code.UNAUTHENTICATED


def test_a_job_runs_and_its_result_is_told(stub: Any) -> None:
    circuit = pb.Circuit(format="qasm3", source='OPENQASM 3; include "stdgates.inc"; qubit[1] q; x q[0];')
    job = stub.SubmitJob(pb.SubmitJobRequest(shots=100, circuits=[circuit], backend="simulator"), metadata=METADATA)
    deadline_s = time.monotonic() + 30.0
    while job.status not in ("completed", "failed") and time.monotonic() < deadline_s:
        time.sleep(0.05)
        job = stub.GetJob(pb.GetJobRequest(job_id=job.id), metadata=METADATA)
    assert (job.status, job.provenance) == ("completed", "simulated shots")
    assert '"1":100' in job.result_json.replace(" ", "")


def test_the_address_is_told_and_metrics_and_the_log_know_the_calls(
    cluster: LiveCluster, stub: Any, client: httpx.Client
) -> None:
    assert stub.Health(pb.HealthRequest()).status == "ready"
    assert value(cluster, "status")["grpc"] == value(cluster, "up")["grpc"] == address_of(cluster)
    assert f"gRPC is answered at {address_of(cluster)}" in told(cluster, "status")
    deadline_s = time.monotonic() + 10.0
    while 'grpc_requests_total{code="OK",method="Health"' not in client.get("/metrics").text:
        assert time.monotonic() < deadline_s, "metrics are handed over each second"
        time.sleep(0.2)


def healthy(stub: Any) -> bool:
    try:
        return bool(stub.Health(pb.HealthRequest(), wait_for_ready=True, timeout=60.0).status)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017
        return False


def test_a_replica_that_is_killed_comes_back_on_the_same_port(cluster: LiveCluster) -> None:
    (process,) = actors_below(cluster.process.pid, REPLICA)
    process.kill()
    process.wait(10)
    with grpc.insecure_channel(address_of(cluster)) as channel:
        stub: Any = QuantumDBStub(channel)
        deadline_s = time.monotonic() + 60.0
        while not healthy(stub):  # a connection may still be to the one that has gone
            assert time.monotonic() < deadline_s
            time.sleep(0.2)
        assert stub.Costs(pb.CostsRequest(), metadata=METADATA).tenant == "default", "it knows the keys"
    assert [one.pid for one in actors_below(cluster.process.pid, REPLICA)] != [process.pid]
