"""Messages of gRPC and the API's JSON: nothing is lost on the way, in either direction."""

from __future__ import annotations

import contextlib
from typing import Any, get_args

import numpy as np
import orjson
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from quantum_db.api import BODIES
from quantum_db.errors import BodyTooLarge, InvalidRequest
from quantum_db.jobs.bodies import CostsBody
from quantum_db.requests import EntityBody
from serve_app.rpc import quantum_db_pb2 as pb
from serve_app.rpc.calls import COLLECTION, METHODS, SERVICE, STREAM, operation_of, operations, without_work
from serve_app.rpc.messages import Json, body_of, decoded, message_of, without_field
from tests.unit.test_database import Bench, query

BIG = 2**63 - 1


def test_what_is_set_is_in_the_body_by_its_name_and_nothing_else() -> None:
    request = pb.QueryRequest(
        vector=[0.1, 0.2],
        context="technical",
        top_k=0,
        explain=False,
        contexts=[pb.AskedContext(name="a", weight=0.0), pb.AskedContext(name="b")],
        budget=pb.Budget(max_shots=BIG),
        filter_json='{"must": [{"key": "n", "match": {"value": 9007199254740993}}]}',
    )
    body = body_of(request)
    vector = body.pop("vector")
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, np.float32([0.1, 0.2]))
    assert body == {
        "context": "technical",
        "top_k": 0,
        "explain": False,
        "contexts": [{"name": "a", "weight": 0.0}, {"name": "b"}],
        "budget": {"max_shots": BIG},
        "filter": {"must": [{"key": "n", "match": {"value": 2**53 + 1}}]},
    }
    assert body_of(pb.QueryRequest()) == {}


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (pb.QueryRequest(filter_json="{"), "filter_json"),
        (pb.InsertBatchRequest(vectors=[pb.Entity(), pb.Entity(metadata_json="nope")]), "vectors[1].metadata_json"),
        (pb.SubmitJobRequest(circuits=[pb.Circuit(circuit_json="[")]), "circuits[0].circuit_json"),
    ],
)
def test_a_text_that_is_no_json_is_told_by_its_path(message: Message, path: str) -> None:
    with pytest.raises(InvalidRequest, match="is not valid JSON") as caught:
        body_of(message)
    assert [error.path for error in caught.value.errors] == [path]


def test_bytes_that_are_too_many_or_no_message_are_refused() -> None:
    raw = pb.FetchRequest(id="a").SerializeToString()
    assert decoded(pb.FetchRequest, raw, len(raw)).id == "a"
    with pytest.raises(BodyTooLarge, match=f"larger than {len(raw) - 1} bytes"):
        decoded(pb.FetchRequest, raw, len(raw) - 1)
    with pytest.raises(InvalidRequest, match="the bytes are no FetchRequest"):
        decoded(pb.FetchRequest, b"\xff\xff\xff", None)


@given(raw=st.binary(max_size=200), damage=st.integers(0, 60))
def test_any_bytes_make_a_body_or_are_refused(raw: bytes, damage: int) -> None:
    good = pb.QueryRequest(vector=[0.1, 0.2], context="c", filter_json='{"must": []}').SerializeToString()
    for damaged in (raw, good[:damage] + raw[:2] + good[damage + 2 :]):
        for method in METHODS.values():
            with contextlib.suppress(InvalidRequest):
                method.asked(decoded(method.request, damaged, None), None, "a").about()


def test_an_answer_becomes_a_message_and_what_is_none_is_unset() -> None:
    view: dict[str, Any] = {
        "hits": [
            {
                "id": "e1",
                "score": 0.1 + 0.2,
                "classical_score": 0.0,
                "context": None,
                "context_probability": 1.0,
                "metadata": {"n": BIG, "nested": [1, {"a": None}]},
                "interval": {"low": 0.0, "high": 1.0, "confidence": 0.95},
            }
        ],
        "mode": "balanced",
        "candidates": 3,
        "tunneling": None,
        "refinement": {"ran": False, "why": "so", "provider_job_ids": ("j1", "j2"), "confidence": None, "plan": {}},
    }
    answer = message_of(pb.QueryResponse, view)
    (hit,) = answer.hits
    assert (hit.id, hit.score) == ("e1", 0.1 + 0.2)
    assert not hit.HasField("context")
    assert hit.interval.confidence == 0.95
    assert orjson.loads(hit.metadata_json) == {"n": BIG, "nested": [1, {"a": None}]}
    assert answer.tunneling_json == ""
    assert not answer.HasField("stages")
    assert list(answer.refinement.provider_job_ids) == ["j1", "j2"]
    assert not answer.refinement.HasField("confidence")
    assert answer.refinement.plan_json == "{}"


def test_vectors_come_back_to_the_last_bit() -> None:
    vector = np.random.default_rng(0).normal(size=384).astype(np.float32)
    entity = message_of(pb.Entity, {"id": "a", "vector": vector.tolist()})
    again = body_of(pb.Entity.FromString(entity.SerializeToString()))
    np.testing.assert_array_equal(again["vector"], vector)


BODY_OF = {name: BODIES[operation_of(name)] for name in METHODS if operation_of(name) in BODIES} | {"Costs": CostsBody}


def names_of(kind: Any, left_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the fields of a message's type as the API names them, those of messages in it by their own fields."""
    return {
        field.name.removesuffix("_json"): None if field.message_type is None else names_of(field.message_type)
        for field in kind.fields
        if field.name not in left_out
    }


def differing(message: dict[str, Any], body: type[BaseModel], at: str = "") -> list[str]:
    """Return the paths of what a message has and a body has not, or the other way round."""
    found = [f"{at}{name}" for name in message.keys() ^ body.model_fields.keys()]
    for name, inner in message.items():
        field = body.model_fields.get(name)
        if inner is not None and field is not None:
            for kind in models_in(field.annotation):
                found += differing(inner, kind, f"{at}{name}.")
    return sorted(found)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for one in get_args(annotation) for found in models_in(one)]


@pytest.mark.parametrize("name", sorted(BODY_OF))
def test_requests_have_the_fields_of_the_bodies_of_rest(name: str) -> None:
    method = METHODS[name]
    message = names_of(method.request.DESCRIPTOR, (*method.at, COLLECTION))
    extra = {
        "InsertBatch": ["vectors.version"],  # an entity that was fetched has it; it is refused like an unknown field
        "SubmitJob": ["circuits.circuit", "circuits.qubits", "circuits.source"],  # of one format, and not of the other
    }
    assert sorted(set(differing(message, BODY_OF[name]))) == extra.get(name, [])


def test_a_field_that_one_of_them_lacks_is_found() -> None:
    message = names_of(pb.InsertRequest.DESCRIPTOR, (COLLECTION,))
    message["contexts"]["colour"] = message["extra"] = None
    del message["metadata"]
    assert differing(message, EntityBody) == ["contexts.colour", "extra", "metadata"]


def test_every_method_has_its_work_and_an_action() -> None:
    assert without_work(METHODS) == []
    assert without_work({name: None for name in METHODS if name != "Costs"} | {"Drop": None}) == ["Costs", "Drop"]
    assert len(operations()) == len(SERVICE.methods) == len(METHODS) + 1
    assert {"health", "measure_group", "insert_stream"} <= set(operations())
    for method in SERVICE.methods:
        assert method.client_streaming == (method.name == STREAM)
        if method.name != STREAM:
            assert METHODS[method.name].request.DESCRIPTOR is method.input_type, method.name
            assert METHODS[method.name].response.DESCRIPTOR is method.output_type, method.name


async def test_messages_have_a_field_for_all_that_the_api_answers() -> None:
    bench = await Bench().filled()
    api = bench.api
    pair = {"group_id": "g", "entity_ids": ["e00", "e01"], "correlation_strength": 0.5}
    new = {"id": "n", "vector": [1.0] * 8, "contexts": [{"name": "red", "weight": 1.0}]}
    answers = {
        "Query": await api.query(query(explain=True, enable_tunneling=True, epsilon=0.01)),
        "Fetch": await api.fetch("e00"),
        "Insert": await api.insert(new),
        "InsertBatch": await api.insert_batch({"vectors": [new, {"id": "bad"}]}),
        "CreateGroup": await api.create_group(pair),
        "GetGroup": await api.group("g"),
        "MeasureGroup": await api.measure_group("g", {"chsh": True, "shots": 100}),
        "Update": await api.update("e00", {"metadata": {}, "propagate": True}),
        "GetState": await api.state("e00"),
        "DeleteGroup": await api.delete_group("g"),
        "Delete": await api.delete("n"),
    }
    for name, answer in answers.items():
        assert without_field(METHODS[name].response.DESCRIPTOR, answer) == [], name
        assert message_of(METHODS[name].response, answer).ByteSize() > 0, name
    assert [item.status for item in message_of(pb.InsertBatchResponse, answers["InsertBatch"]).items] == [
        "written",
        "refused",
    ]


def test_an_answer_without_a_field_is_found() -> None:
    view: Json = {"id": "e1", "colour": 1, "contexts": [{"name": "c", "weight": 1.0, "phase": 0.5}], "vector": None}
    assert without_field(pb.Entity.DESCRIPTOR, view) == ["colour", "contexts.phase"]
