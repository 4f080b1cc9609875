"""Groups and sessions through the database and over HTTP, without a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from quantum_db.errors import InvalidRequest, NotFound
from quantum_db.model import EntanglementGroup
from quantum_db.scope import Scope
from tests.unit.test_database import Bench, query
from tests.unit.test_http import Http, http, problem

__all__ = ["http"]
PATH = "/api/v2/entanglement/groups"


async def tied(**more: Any) -> Bench:
    bench = await Bench().filled(8)
    members = [f"e{number:02}" for number in range(8)]
    await bench.api.create_group({"group_id": "g", "entity_ids": members, "correlation_strength": 0.5, **more})
    return bench


def weights(answer: dict[str, Any]) -> dict[str, float]:
    return {hit["id"]: hit["context_probability"] for hit in answer["hits"]}


async def test_a_query_without_a_session_asks_no_session() -> None:
    bench = await tied()
    await bench.api.query(query())
    assert bench.sessions.calls == 0


async def test_a_measuring_query_moves_its_session_and_nobody_else() -> None:
    bench = await tied()
    asked = query(top_k=8)
    before = weights(await bench.api.query(asked))
    first = await bench.api.query({**asked, "session_id": "s"}, scope=Scope("tenant"))
    assert weights(first) == before, "what it measures itself comes after its answer"
    top = first["hits"][0]["id"]
    after = weights(await bench.api.query({**asked, "session_id": "s"}, scope=Scope("tenant")))
    assert after[top] == pytest.approx(before[top])
    for name in set(before) - {top}:
        assert after[name] == pytest.approx(0.5 * before[name] + 0.5)
    for session_id, tenant in (("s", "other"), ("t", "tenant"), (None, "tenant")):
        assert weights(await bench.api.query({**asked, "session_id": session_id}, scope=Scope(tenant))) == before
    found = await bench.api.session("s", scope=Scope("tenant"))
    assert found["measurements"] == 2
    assert set(found["moves"]) >= set(before) - {top}
    with pytest.raises(NotFound):
        await bench.api.session("nobody", scope=Scope("tenant"))
    await bench.api.end_session("s", scope=Scope("tenant"))
    assert weights(await bench.api.query({**asked, "session_id": "s"}, scope=Scope("tenant"))) == before


async def test_joint_scores_follow_the_moved_weights() -> None:
    bench = await tied(correlation_strength=1.0)
    asked = query(top_k=8, weighting="joint", mode="classical", session_id="s")
    first = await bench.api.query({**asked, "observe": True})
    second = await bench.api.query(asked)
    for hit in second["hits"]:
        if hit["id"] != first["hits"][0]["id"]:
            assert hit["context_probability"] == pytest.approx(1.0)
    assert [hit["score"] for hit in second["hits"]] != [hit["score"] for hit in first["hits"]]


async def test_only_a_measurement_is_noted() -> None:
    bench = await tied()
    silent = query(session_id="s", mode="classical")
    await bench.api.query(silent)
    await bench.api.query({key: value for key, value in query(session_id="s").items() if key != "context"})
    with pytest.raises(NotFound):
        await bench.api.session("s")
    await bench.api.query({**silent, "observe": True})
    assert (await bench.api.session("s"))["measurements"] == 1


async def test_a_session_ends_when_it_was_idle() -> None:
    bench = await tied()
    await bench.api.query(query(session_id="s"))
    assert (await bench.api.session("s"))["measurements"] == 1
    bench.clock.time_s += 1_801.0
    with pytest.raises(NotFound):
        await bench.api.session("s")


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"session_id": ""}, "session_id"),
        ({"session_id": "s" * 129}, "session_id"),
        ({"observe": True}, "observe"),
        ({"observe": True, "session_id": "s", "context": None}, "observe"),
    ],
)
async def test_what_is_wrong_with_a_session_is_told(wrong: dict[str, Any], path: str) -> None:
    bench = await tied()
    with pytest.raises(InvalidRequest) as caught:
        await bench.api.query(query(**wrong))
    assert caught.value.errors[0].path == path


async def test_a_deleted_entity_leaves_its_groups_also_when_that_failed_before() -> None:
    bench = await tied()
    await bench.store.delete(["e00"])  # a deletion that ended before the groups were asked
    with pytest.raises(NotFound):
        await bench.api.delete("e00")
    await bench.api.delete("e01")
    assert list((await bench.api.group("g"))["entity_ids"]) == [f"e{number:02}" for number in range(2, 8)]


async def test_who_is_deleted_while_a_group_is_made_is_not_in_it() -> None:
    bench = await tied()
    create = bench.groups.create

    async def late(group: EntanglementGroup) -> EntanglementGroup:
        await bench.api.delete("e03")
        return await create(group)

    bench.groups.create = late  # type: ignore[method-assign]
    await bench.api.create_group({"group_id": "h", "entity_ids": ["e03", "e04", "e05"], "correlation_strength": 0.5})
    assert list((await bench.api.group("h"))["entity_ids"]) == ["e04", "e05"]


async def test_a_write_is_told_to_those_who_cache() -> None:
    bench = await tied()
    await bench.api.insert({"id": "e01", "vector": [1.0] * 8})
    await bench.api.insert({"id": "alone", "vector": [1.0] * 8})
    assert bench.groups.written == ["e01"]


async def test_groups_are_changed_and_listed_over_http(http: Http) -> None:
    vectors = [{"id": name, "vector": [1.0, 0.5]} for name in "abcd"]
    await http.client.post("/api/v2/vectors/batch", json={"vectors": vectors})
    for name in ("g/1", "g/2"):
        body = {"group_id": name, "entity_ids": ["a", "b"], "correlation_strength": 0.5}
        assert (await http.client.post(PATH, json=body)).headers["etag"] == '"1"'
    wider = await http.client.patch(f"{PATH}/g/1", json={"add": ["c"]}, headers={"If-Match": '"1"'})
    assert (wider.status_code, wider.headers["etag"], wider.json()["entity_ids"]) == (200, '"2"', ["a", "b", "c"])
    other = await http.client.patch(f"{PATH}/g/1", json={"correlation_strength": 0.25, "expected_version": 2})
    assert other.json()["correlation_strength"] == 0.25
    problem(await http.client.patch(f"{PATH}/g/1", json={"add": ["d"], "expected_version": 2}), 409, "conflict")
    listed = (await http.client.get(PATH, params={"member": "a", "limit": 1})).json()
    assert [one["group_id"] for one in listed["groups"]] == ["g/1"]
    rest = (await http.client.get(PATH, params={"limit": 5, "cursor": listed["next"]})).json()
    assert ([one["group_id"] for one in rest["groups"]], rest["next"]) == (["g/2"], None)
    problem(await http.client.delete(f"{PATH}/g/1", headers={"If-Match": '"1"'}), 409, "conflict")
    assert (await http.client.delete(f"{PATH}/g/1")).json() == {"group_id": "g/1", "deleted": True, "version": 4}
    problem(await http.client.get(f"{PATH}/g/1"), 404, "not-found")
    small = await http.client.patch(f"{PATH}/g/2", json={"remove": ["a"], "expected_version": 1})
    assert small.json() == {"group_id": "g/2", "deleted": True, "version": 2}


@pytest.mark.parametrize(
    ("body", "headers", "path"),
    [
        ({"add": ["c"]}, {}, "expected_version"),
        ({"add": ["c"], "expected_version": 1}, {"If-Match": '"2"'}, "expected_version"),
        ({"add": ["c"]}, {"If-Match": "W/x"}, "if-match"),
        ({"add": ["nobody"], "expected_version": 1}, {}, "add[0]"),
        ({"add": ["c"], "remove": ["c"], "expected_version": 1}, {}, "remove"),
        ({"correlation_strength": 2.0, "expected_version": 1}, {}, "correlation_strength"),
    ],
)
async def test_what_is_wrong_with_a_change_is_told(
    http: Http, body: dict[str, Any], headers: dict[str, str], path: str
) -> None:
    vectors = [{"id": name, "vector": [1.0, 0.5]} for name in "abc"]
    await http.client.post("/api/v2/vectors/batch", json={"vectors": vectors})
    group = {"group_id": "g", "entity_ids": ["a", "b"], "correlation_strength": 0.5}
    await http.client.post(PATH, json=group)
    found = problem(await http.client.patch(f"{PATH}/g", json=body, headers=headers), 422, "invalid-request")
    assert found["errors"][0]["path"] == path
    assert (await http.client.get(f"{PATH}/g")).json()["version"] == 1


async def test_sessions_are_looked_at_and_ended_over_http(http: Http) -> None:
    problem(await http.client.get("/api/v2/sessions/s"), 404, "not-found")
    body = {"vector": [1.0, 0.5], "context": "c", "session_id": "s", "observe": True}
    entity = {"id": "a", "vector": [1.0, 0.5], "contexts": [{"name": "c", "weight": 1.0}]}
    await http.client.post("/api/v2/vectors", json=entity)
    assert (await http.client.post("/api/v2/query", json=body)).status_code == 200
    found = (await http.client.get("/api/v2/sessions/s")).json()
    assert (found["session_id"], found["measurements"], found["moves"]) == ("s", 1, {})
    problem(await http.client.get("/api/v2/sessions/s", headers={"x-tenant": "b"}), 404, "not-found")
    assert (await http.client.delete("/api/v2/sessions/s")).json() == {"session_id": "s", "ended": True}
    problem(await http.client.get("/api/v2/sessions/s"), 404, "not-found")
