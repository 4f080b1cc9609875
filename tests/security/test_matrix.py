"""Every endpoint with every kind of credential."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import replace
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from quantum_db.access.policy import OPEN, RULES, action_of, unruled
from quantum_db.access.principal import Role
from tests.documented import undocumented
from tests.security.world import ROOT, World, stranger

DOCS = {"/docs", "/docs/oauth2-redirect", "/openapi.json"}
BELOW = {Role.WRITER: "reader", Role.OPERATOR: "writer", Role.ADMIN: "operator"}
Operation = tuple[str, str, str]


def operations(world: World) -> list[Operation]:
    """Return (method, path, action) of all that OpenAPI tells of."""
    found = []
    for path, methods in world.app.openapi()["paths"].items():
        for method, operation in methods.items():
            found.append((method.upper(), re.sub(r"\{[^}]*\}", "0" * 12, path), operation["x-action"]))
    assert len(found) > 35
    return found


def closed(world: World) -> list[Operation]:
    return [one for one in operations(world) if one[2] not in OPEN]


def refused(response: httpx.Response, status: int, where: object) -> dict[str, Any]:
    assert response.status_code == status, (where, response.status_code, response.text)
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    return body


async def test_every_route_has_a_rule_and_every_rule_a_route(world: World) -> None:
    actions = {action for _, _, action in operations(world)}
    assert not unruled(actions)
    assert set(RULES) <= actions, "a rule for what nobody can call"
    assert actions >= OPEN


def test_an_operation_without_a_rule_is_found() -> None:
    assert unruled(["query", "submit_job", "drop_everything", "healthz"]) == ["drop_everything"]


async def test_all_other_paths_that_are_served_are_the_docs(world: World) -> None:
    """Routes that OpenAPI does not tell of are not behind the gate: there are only those of the docs."""
    told = set(world.app.openapi()["paths"])
    plain = {re.sub(r":path\}", "}", getattr(route, "path", "?")) for route in world.app.routes}
    assert {path for path in plain - told if not path.startswith("/static")} <= DOCS


async def test_open_endpoints_need_nothing(world: World) -> None:
    for action in OPEN - {"graphql"}:
        assert (await world.send("GET", f"/{action}")).status_code == 200
    assert (await world.send("POST", "/graphql", json={"query": "{ __typename }"})).status_code == 200
    for path in ("/docs", "/openapi.json"):
        assert (await world.send("GET", path)).status_code == 200


async def test_bad_credentials_are_refused_everywhere_in_the_same_words(world: World) -> None:
    """None, malformed, unknown, wrong secret, revoked, expired; tokens expired, not yet valid, and of others."""
    revoked, good = await world.key("admin"), await world.key("admin")
    await world.keys.revoke(ROOT, revoked.id)
    expired = await world.key("admin", expires_in_s=1.0)
    rotated = await world.key("admin")
    await world.keys.rotate(ROOT, rotated.id, 0.0)
    world.clock.ahead_s = 2.0
    other = ec.generate_private_key(ec.SECP256R1())
    a_minute = 60
    bad = {
        "nothing": None,
        "malformed": "secret",
        "empty": "",
        "unknown": stranger(),
        "wrong secret": replace(good, secret=stranger().secret),
        "id alone": f"qdb_{good.id}_",
        "revoked": revoked,
        "expired": expired,
        "rotated": rotated,
        "expired token": world.token(exp=world.claims()["exp"] - 2 * a_minute),
        "token of tomorrow": world.token(nbf=world.claims()["exp"] + a_minute),
        "other issuer": world.token(iss="https://evil.example"),
        "other audience": world.token(aud="another service"),
        "other signer": world.token(key=other),
        "no expiry": world.token(exp=None),
        "no tenant": world.token(tenant=None),
        "no role": world.token(role=None),
        "unknown role": world.token(role="root"),
        "wrong algorithm": world.token("RS256", rsa.generate_private_key(65537, 2048)),
        "no algorithm": jwt.encode(world.claims(), None, "none"),  # type: ignore[arg-type]
        "public key as secret": confused(world),
    }
    assert (await world.send("GET", "/api/v2/vectors", good)).status_code == 200
    assert (await world.send("GET", "/api/v2/vectors", world.token())).status_code == 200
    for kind, credential in bad.items():
        told = set()
        for method, path, action in closed(world):
            response = await world.send(method, path, credential)
            body = refused(response, 401, (kind, action))
            assert response.headers["www-authenticate"] == "Bearer"
            told.add(body["detail"])
        assert len(told) == 1, kind
        assert kind == "nothing" or told == {"the credential is not good: it is unknown, expired or revoked"}, kind


def confused(world: World) -> str:
    """Return a token whose signature is an HMAC with the public key as the secret: algorithm confusion."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    header = {"alg": "HS256", "typ": "JWT"}
    body = ".".join(part(json.dumps(one).encode()) for one in (header, world.claims()))
    return f"{body}.{part(hmac.new(world.public_pem(), body.encode(), hashlib.sha256).digest())}"


async def test_the_wrong_role_is_refused_everywhere_and_the_right_one_is_let_in(world: World) -> None:
    keys = {role: await world.key(role.label, cluster=True) for role in Role}
    for method, path, action in closed(world):
        least = RULES[action].role
        if least in BELOW:
            refused(await world.send(method, path, keys[Role.named(BELOW[least])]), 403, action)
        let_in(await world.send(method, path, keys[least]), action)


def let_in(response: httpx.Response, where: object) -> None:
    """What came through the gate found nothing there, or no body."""
    assert response.status_code in (200, 201, 404, 422), (where, response.text)


async def test_what_concerns_all_tenants_is_refused_to_credentials_of_one(world: World) -> None:
    key = await world.key("admin")
    for method, path, action in closed(world):
        for credential in (key, world.token()):
            response = await world.send(method, path, credential)
            if RULES[action].cluster:
                assert "concerns all tenants" in refused(response, 403, action)["detail"]
            else:
                let_in(response, action)


async def test_another_tenant_cannot_be_named_whether_it_exists_or_not(world: World) -> None:
    key = await world.key("admin")
    await world.key("admin", tenant="b")
    for method, path, action in closed(world):
        texts = set()
        for tenant in ("b", "nobody"):
            response = await world.send(method, path, key, headers={"x-tenant": tenant})
            texts.add(refused(response, 403, action)["detail"])
        assert len(texts) == 1
    assert (await world.send("GET", "/api/v2/vectors", key, headers={"x-tenant": "a"})).status_code == 200


async def test_a_key_with_actions_may_do_these_alone(world: World) -> None:
    key = await world.key("admin", cluster=True, actions=["fetch", "metrics"])
    for method, path, action in closed(world):
        response = await world.send(method, path, key)
        if action in ("fetch", "metrics"):
            let_in(response, action)
        else:
            assert "not among the actions" in refused(response, 403, action)["detail"]


@pytest.mark.parametrize("header", ["api-key", "Authorization"])
async def test_both_headers_take_keys_and_tokens(world: World, header: str) -> None:
    for credential in (str(await world.key("reader")), world.token(role="reader")):
        text = credential if header == "api-key" else f"Bearer {credential}"
        response = await world.send("GET", "/api/v2/vectors", headers={header: text})
        assert response.status_code == 200
    assert (await world.send("GET", "/api/v2/vectors", headers={"Authorization": "Basic abc"})).status_code == 401


def test_names_of_routes_are_actions() -> None:
    assert action_of("submit_job") == "jobs.submit"
    assert action_of("query") == "query"


async def test_an_answer_that_openapi_does_not_tell_of_is_found(world: World) -> None:
    answer = await world.send("GET", "/api/v2/vectors/some/one", await world.key("reader"))
    assert answer.status_code == 404
    told = world.app.openapi()
    schema = json.loads(json.dumps(told))
    operation = schema["paths"]["/api/v2/vectors/{entity_id}"]["get"]
    assert undocumented(schema, "GET", "/api/v2/vectors/some/one", answer) is None
    del operation["responses"]["404"]["content"]["application/problem+json"]["examples"]["not-found"]
    assert "with not-found is not among" in str(undocumented(schema, "GET", "/api/v2/vectors/some/one", answer))
    del operation["responses"]["404"]
    assert "404 is not among" in str(undocumented(schema, "GET", "/api/v2/vectors/some/one", answer))


async def test_an_answer_with_another_field_or_without_one_is_found(world: World) -> None:
    key = await world.key("admin")
    await world.send("POST", "/api/v2/vectors", key, json={"id": "one", "vector": [1.0, 0.5]})
    answer = await world.send("POST", "/api/v2/query", key, json={"vector": [1.0, 0.5]})
    assert answer.status_code == 200
    schema, where = world.app.openapi(), ("POST", "/api/v2/query")
    body = answer.json()
    assert undocumented(schema, *where, answer) is None
    more = httpx.Response(200, json={**body, "luck": 1})
    assert "'luck' was unexpected" in str(undocumented(schema, *where, more))
    less = httpx.Response(200, json={name: value for name, value in body.items() if name != "cached"})
    assert "'cached' is a required property" in str(undocumented(schema, *where, less))
    del body["refinement"]["fell_back"]
    assert "'fell_back' is a required property" in str(undocumented(schema, *where, httpx.Response(200, json=body)))
    text = httpx.Response(200, text="hits")
    assert "with text/plain; charset=utf-8 is not among ['application/json']" in str(undocumented(schema, *where, text))


async def test_every_usual_answer_has_a_schema_that_says_something(world: World) -> None:
    for path, methods in world.app.openapi()["paths"].items():
        for method, operation in methods.items():
            usual = [told for status, told in operation["responses"].items() if int(status) < 400]
            assert usual, (method, path)
            for content in (one for told in usual for one in told["content"].values()):
                assert content["schema"] not in ({}, {"type": "object"}), (method, path)
