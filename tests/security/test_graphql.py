"""GraphQL behind the real gate: each field right and wrong, who may ask it, and how much of it."""

from __future__ import annotations

from typing import Any

import pytest
from graphql import get_introspection_query

from quantum_db.access.keys import Token
from quantum_db.access.limits import CallLimits, LimitTable
from quantum_db.access.policy import unruled
from quantum_db.access.sizes import SizeLimits
from serve_app.graphql import MAX_ALIASES, MAX_COST, MAX_SELECTIONS, operations
from tests.security.world import ROOT, Grants, World, stranger

VECTOR = [0.6, 0.8]
INSERT = """mutation($id: String!, $vector: [Float!]) {
  insert(id: $id, vector: $vector, contexts: [{name: "c", weight: 1.0}], metadata: {n: 1}) { id version } }"""


async def ask(world: World, query: str, credential: object = None, **variables: Any) -> dict[str, Any]:
    answer = await world.send("POST", "/graphql", credential, json={"query": query, "variables": variables})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def done(world: World, query: str, credential: object, **variables: Any) -> Any:
    found = await ask(world, query, credential, **variables)
    assert "errors" not in found, found
    return found["data"]


async def refused(world: World, query: str, credential: object = None, **variables: Any) -> dict[str, Any]:
    found = await ask(world, query, credential, **variables)
    (error,) = found["errors"]
    assert error["extensions"]["request_id"]
    return dict(error)


@pytest.fixture
async def writer(world: World) -> Token:
    return await world.key("writer")


async def test_entities_from_their_insertion_to_their_end(world: World, writer: Token) -> None:
    for n in range(3):
        made = await done(world, INSERT, writer, id=f"g{n}", vector=[1.0, float(n)])
        assert made["insert"]["version"] >= 1
    found = await done(
        world,
        'query($v: [Float!]!) { query(vector: $v, context: "c", topK: 2, mode: "classical") '
        "{ hits { id score metadata interval } refinement candidates cached } }",
        writer,
        v=[1.0, 0.0],
    )
    assert found["query"]["hits"][0]["id"] == "g0"
    assert found["query"]["cached"] is False
    assert found["query"]["hits"][0]["metadata"] == {"n": 1}
    one = (await done(world, '{ fetch(id: "g1") { id vector contexts { name weight } version } }', writer))["fetch"]
    assert one["vector"] == pytest.approx([0.5**0.5, 0.5**0.5])
    assert one["contexts"] == [{"name": "c", "weight": 1.0}]
    seen: set[str] = set()
    cursor = None
    while True:
        page = (
            await done(
                world, "query($c: String) { scroll(cursor: $c, limit: 2) { entities { id } next } }", writer, c=cursor
            )
        )["scroll"]
        seen |= {entity["id"] for entity in page["entities"]}
        cursor = page["next"]
        if cursor is None:
            break
    assert {"g0", "g1", "g2"} <= seen
    group = 'mutation { createGroup(groupId: "gg", entityIds: ["g0", "g1"], correlationStrength: 0.5) { version } }'
    assert (await done(world, group, writer))["createGroup"]["version"] == 1
    listed = await done(world, '{ listGroups(member: "g1") { groups { groupId entityIds } next } }', writer)
    assert listed["listGroups"]["groups"] == [{"groupId": "gg", "entityIds": ["g0", "g1"]}]
    assert (await done(world, '{ group(groupId: "gg") { correlationStrength } }', writer))["group"]
    assert (await done(world, '{ state(id: "g0") }', writer))["state"]["generation"] == 1
    assert (await done(world, "{ costs }", writer))["costs"]
    gone = await done(
        world, 'mutation { deleteGroup(groupId: "gg") { deleted } delete(id: "g0") { id deleted } }', writer
    )
    assert gone == {"deleteGroup": {"deleted": True}, "delete": {"id": "g0", "deleted": True}}


async def test_errors_tell_what_is_wrong_as_rest_does(world: World, writer: Token) -> None:
    wrong = await refused(world, INSERT, writer, id="z", vector=[0.0, 0.0])
    assert wrong["extensions"]["slug"] == "invalid-request"
    assert wrong["extensions"]["errors"][0]["path"] == "vector"
    absent = await refused(world, '{ fetch(id: "nobody") { id } }', writer)
    assert (absent["extensions"]["slug"], absent["path"]) == ("not-found", ["fetch"])
    assert "nobody" in absent["message"]
    unknown = await refused(world, "{ nothing }", writer)
    assert unknown["extensions"]["status"] == 422
    job = await refused(world, '{ job(id: "job-x") }', writer)
    assert job["extensions"]["slug"] == "not-found"
    for body in ({}, {"query": 7}, {"query": "{ costs }", "variables": []}, []):
        answer = await world.send("POST", "/graphql", writer, json=body)
        assert answer.status_code == 422, answer.text


async def test_one_field_that_fails_leaves_the_others(world: World, writer: Token) -> None:
    found = await ask(world, '{ a: costs b: job(id: "x") }', writer)
    assert found["data"] is None or found["data"]["a"]
    assert [error["path"] for error in found["errors"]] == [["b"]]


async def test_who_may_not_is_told_so_by_each_field(world: World, writer: Token) -> None:
    for credential in (None, stranger()):
        error = await refused(world, "{ costs }", credential)
        assert (error["extensions"]["slug"], error["extensions"]["status"]) == ("unauthenticated", 401)
    reader = await world.key("reader")
    assert (await refused(world, INSERT, reader, id="r", vector=VECTOR))["extensions"]["slug"] == "forbidden"
    narrow = await world.key("reader", actions=["fetch"])
    assert (await refused(world, "{ costs }", narrow))["extensions"]["slug"] == "forbidden"
    revoked = await world.key("reader")
    await world.keys.revoke(ROOT, revoked.id)
    assert (await refused(world, "{ costs }", revoked))["extensions"]["slug"] == "unauthenticated"
    lines = [line for line in await world.lines() if line["outcome"] == "denied"]
    assert {line["action"] for line in lines} == {"jobs.costs", "insert"}


async def test_requests_are_weighed_before_anything_runs(world: World, writer: Token) -> None:
    def aliased(field: str, times: int) -> str:
        return "{ " + " ".join(f"a{n}: {field}" for n in range(times)) + " }"

    many = MAX_COST // 20 + 1
    batch = aliased("scroll(limit: 1) { next }", many * 4)
    answer = await world.send("POST", "/graphql", writer, json={"query": batch})
    assert answer.status_code == 422
    assert f"{MAX_COST} are the most" in answer.json()["detail"]
    hidden = "query { ...f ...g } fragment f on Query { " + aliased("listGroups { next }", 11)[2:-2] + " } "
    hidden += "fragment g on Query { " + " ".join(f"b{n}: listGroups {{ next }}" for n in range(11)) + " }"
    assert (await world.send("POST", "/graphql", writer, json={"query": hidden})).status_code == 422
    flood = await ask(world, aliased('fetch(id: "x") { id }', MAX_ALIASES + 1), writer)
    assert "aliases" in flood["errors"][0]["message"]
    deep = "{ __schema { types { fields { type " + "{ ofType " * 12 + "{ name }" + " }" * 12 + " } } } }"
    answer = await world.send("POST", "/graphql", writer, json={"query": deep})
    assert answer.status_code == 422
    assert "within fields more than 15" in answer.json()["detail"]
    assert "errors" not in await ask(world, get_introspection_query(), writer), "what tools ask of the schema"
    endless = "query { ...f } fragment f on Query { ...f }"
    assert (await ask(world, endless, writer))["errors"]
    for flooding in ("{ costs" + " costs" * 3_000 + " }", "{ a" * 200 + " }" * 200):
        assert (await world.send("POST", "/graphql", writer, json={"query": flooding})).status_code == 422
    bottomless = (await world.send("POST", "/graphql", writer, json={"query": "{ a" * 3_000 + " }" * 3_000})).json()
    assert bottomless.get("errors"), bottomless
    laughs = "{ ...f0 } " + " ".join(f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(90))
    laughs += " fragment f90 on Query { costs }"
    assert (await world.send("POST", "/graphql", writer, json={"query": laughs})).status_code == 422


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("{ a: scroll(limit: 1000) { next } b: scroll(limit: 1000) { next } c: costs }", {}),
        ("{ listGroups(limit: 2001) { next } }", {}),
        ("query($n: Int!) { ...f } fragment f on Query { scroll(limit: $n) { next } }", {"n": 2001}),
        ("query($n: Int!) { scroll(limit: $n) { next } }", {"n": 2001.0}),
        ("query($n: Int! = 2001) { scroll(limit: $n) { next } }", {}),
        ("{ scroll(limit: " + "9" * 5_000 + ") { next } }", {}),
    ],
)
async def test_lists_weigh_what_they_may_hold(
    world: World, writer: Token, query: str, variables: dict[str, Any]
) -> None:
    answer = await world.send("POST", "/graphql", writer, json={"query": query, "variables": variables})
    assert answer.status_code == 422, answer.text
    assert f"{MAX_COST} are the most" in answer.json()["detail"]


async def test_pages_within_the_bound_are_answered(world: World, writer: Token) -> None:
    two = "query($n: Int! = 1) { a: scroll(limit: 1000) { next } b: scroll(limit: $n) { next } }"
    assert set(await done(world, two, writer, n=1000)) == {"a", "b"}


@pytest.mark.parametrize(
    "flood",
    [
        "{ __schema { types {" + " name" * (MAX_SELECTIONS + 1) + " } } }",
        "{ __schema { types {" + " fields { name }" * (MAX_SELECTIONS // 2) + " } } }",
        "{ ...f } fragment f on Query {" + " ... { __typename }" * (MAX_SELECTIONS // 2) + " }",
        "{ __typename "
        + " ".join(f"...f{n}" for n in range(130))
        + " } "
        + " ".join(f"fragment f{n} on Query {{ __typename }}" for n in range(130)),
    ],
)
async def test_selections_are_counted_before_they_are_validated(world: World, flood: str) -> None:
    """Also those of nobody: to validate repeated fields takes time that grows with their square."""
    answer = await world.send("POST", "/graphql", json={"query": flood})
    assert answer.status_code == 422, answer.text
    assert f"more than {MAX_SELECTIONS} fields" in answer.json()["detail"]


@pytest.mark.parametrize("grants", [Grants(LimitTable(CallLimits(sizes=SizeLimits(dimension=2))))])
async def test_what_is_granted_holds_here_too(world: World, writer: Token) -> None:
    long = await refused(world, INSERT, writer, id="long", vector=[0.1] * 3)
    assert long["extensions"]["errors"][0]["path"] == "vector"
    assert "granted" in long["message"]


@pytest.mark.parametrize("grants", [Grants(LimitTable(CallLimits(requests_per_minute=3)))])
async def test_strangers_are_counted_by_their_address(world: World, writer: Token) -> None:
    """A request of nobody is parsed and validated, too; a good credential from the same address has its own count."""
    for credential in (None, stranger(), "nonsense"):
        headers = {} if credential is None else {"api-key": str(credential)}
        assert (
            await world.client.post("/graphql", json={"query": "{ __typename }"}, headers=headers)
        ).status_code == 200
    answer = await world.send("POST", "/graphql", json={"query": "{ __typename }"})
    assert answer.status_code == 429
    assert "the address has used up its 3 requests a minute" in answer.json()["detail"]
    assert float(answer.headers["retry-after"]) > 0
    assert (await world.send("POST", "/graphql", writer, json={"query": "{ __typename }"})).status_code == 200
    elsewhere = {"x-forwarded-for": "203.0.113.7"}
    answer = await world.send("POST", "/graphql", json={"query": "{ __typename }"}, headers=elsewhere)
    assert answer.status_code == 200


def test_every_field_is_ruled_and_one_that_is_not_is_found() -> None:
    assert unruled(operations()) == []
    assert unruled([*operations(), "drop_everything"]) == ["drop_everything"]
