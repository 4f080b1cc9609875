"""OWASP API Security Top 10, 2023: one or more tests for each, through the whole app in one process."""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from types import FrameType
from typing import Any

import orjson
import pytest

from quantum_db.access.audit import Head, verify
from quantum_db.access.blocking import BlockPolicy
from quantum_db.access.limits import CallLimits, LimitTable
from quantum_db.access.policy import OPEN, RULES
from quantum_db.access.principal import Role
from quantum_db.access.sizes import SizeLimits
from quantum_db.api import BODIES
from quantum_db.errors import JobFailed
from quantum_db.ionq.results import distributions, rows_by_child
from quantum_db.requests import MAX_DIMENSION
from tests.security.world import Grants, World, stranger
from tests.unit.test_stored_jobs import JOB

TESTS = {
    "API1:2023 Broken Object Level Authorization": [
        "api1_another_tenants_objects_are_absent",
        "api1_absent_is_no_other_work",
    ],
    "API2:2023 Broken Authentication": [
        "api2_guessing_is_blocked_and_good_keys_are_not",
        "api2_no_weak_or_default_secret",
    ],
    "API3:2023 Broken Object Property Level Authorization": [
        "api3_properties_that_are_not_the_callers_are_refused",
        "api3_answers_have_no_secret_properties",
    ],
    "API4:2023 Unrestricted Resource Consumption": [
        "api4_requests_sizes_and_money_are_bounded",
        "api4_deep_and_huge_bodies_are_refused",
    ],
    "API5:2023 Broken Function Level Authorization": ["api5_each_function_asks_for_its_role"],
    "API6:2023 Unrestricted Access to Sensitive Business Flows": ["api6_what_costs_money_needs_a_writer_and_a_budget"],
    "API7:2023 Server Side Request Forgery": ["api7_no_body_names_an_address_to_call"],
    "API8:2023 Security Misconfiguration": [
        "api8_errors_tell_nothing_of_the_inside",
        "api8_headers_cannot_be_smuggled",
    ],
    "API9:2023 Improper Inventory Management": ["api9_all_that_is_served_is_told_and_ruled"],
    "API10:2023 Unsafe Consumption of APIs": ["api10_a_providers_answer_is_not_believed"],
}


def test_the_table_names_the_tests_and_the_tests_are_in_the_table() -> None:
    named = [name for names in TESTS.values() for name in names]
    there = [name.removeprefix("test_") for name in globals() if name.startswith("test_api")]
    assert sorted(named) == sorted(there)
    assert len(TESTS) == 10
    assert all(globals()[f"test_{name}"].__doc__ for name in named)


async def test_api1_another_tenants_objects_are_absent(world: World) -> None:
    """Ids of jobs, sessions and keys of another tenant: 404 in the words of one that does not exist, and not listed.

    Vectors, groups and states, which are apart in the stores: on whole clusters, in tests/ray/test_access.py.
    """
    ours, theirs = await world.key("admin"), await world.key("admin", tenant="b")
    job = (await world.send("POST", "/api/v2/jobs", ours, json=JOB)).json()["id"]
    body = {"vector": [1.0, 0.5], "session_id": "ours", "observe": True, "context": "red"}
    assert (await world.send("POST", "/api/v2/query", ours, json=body)).status_code == 200
    for method, path, own, absent in (
        ("GET", "/api/v2/jobs/{}", job, "0" * len(job)),
        ("POST", "/api/v2/jobs/{}/cancel", job, "0" * len(job)),
        ("GET", "/api/v2/sessions/{}", "ours", "none"),
        ("DELETE", "/api/v2/keys/{}", ours.id, "0" * 12),
    ):
        answers = [await world.send(method, path.format(name), theirs) for name in (own, absent)]
        told = [
            (answer.status_code, answer.text.replace(name, "ID").replace(answer.headers["x-request-id"], ""))
            for answer, name in zip(answers, (own, absent), strict=True)
        ]
        assert told[0] == told[1]
        assert told[0][0] == 404
    assert job not in (await world.send("GET", "/api/v2/jobs", theirs)).text
    assert ours.id not in (await world.send("GET", "/api/v2/keys", theirs)).text
    assert (await world.send("GET", f"/api/v2/jobs/{job}", ours)).status_code == 200
    for cursor in (job, "0" * len(job)):
        listed = await world.send("GET", "/api/v2/jobs", theirs, params={"cursor": cursor})
        assert job not in listed.text.replace(cursor, "") or listed.status_code == 422


async def test_api1_absent_is_no_other_work(world: World) -> None:
    """A 404 takes the same work whether another tenant has the id or nobody: its time tells nothing."""
    ours, theirs = await world.key("writer"), await world.key("reader", tenant="b")
    job = (await world.send("POST", "/api/v2/jobs", ours, json=JOB)).json()["id"]
    await asyncio.sleep(0.2)  # until it has ended, and nothing runs beside
    own, absent = f"/api/v2/jobs/{job}", f"/api/v2/jobs/{'0' * len(job)}"
    await work_of(world, absent, theirs)
    assert await work_of(world, own, theirs) == await work_of(world, absent, theirs)
    assert await work_of(world, own, ours) != await work_of(world, absent, theirs), "other work is seen"


async def work_of(world: World, path: str, credential: object) -> Counter[str]:
    """Return how often each function of the product was called to answer a request."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and re.search(r"/(quantum_db|serve_app)/", frame.f_code.co_filename):
            calls[frame.f_code.co_qualname] += 1

    sys.setprofile(note)
    try:
        await world.send("GET", path, credential)
    finally:
        sys.setprofile(None)
    assert sum(calls.values()) > 10
    return calls


@pytest.mark.parametrize("grants", [Grants(blocking=BlockPolicy(failures=5, block_s=60.0))])
async def test_api2_guessing_is_blocked_and_good_keys_are_not(world: World) -> None:
    """Five bad credentials block an address for bad ones; its good keys go on; an operator lifts the block."""
    good, operator = await world.key("reader"), await world.key("operator", cluster=True)
    path = "/api/v2/vectors"
    assert [(await world.send("GET", path, stranger())).status_code for _ in range(6)] == [401] * 5 + [429]
    blocked = await world.send("GET", path, stranger())
    assert 1 <= int(blocked.headers["retry-after"]) <= 60
    assert (await world.send("GET", path, good)).status_code == 200
    assert (await world.send("GET", path, world.token(role="reader"))).status_code == 200
    other = await world.send("GET", path, stranger(), headers={"x-forwarded-for": "10.9.8.7"})
    assert other.status_code == 401, "another address is not blocked"
    await world.reports.flush()
    (block,) = (await world.send("GET", "/api/v2/blocks", operator)).json()["blocks"]
    assert (await world.send("DELETE", f"/api/v2/blocks/{block['address']}", operator)).status_code == 200
    await world.reports.flush()
    assert (await world.send("GET", path, stranger())).status_code == 401
    await world.reports.flush()
    lines = await world.lines()
    assert sum(line["status"] == 429 for line in lines) == 0, "a blocked address does not fill the log"
    assert {"blocks.begin", "blocks.lift"} <= {line["action"] for line in lines}


async def test_api2_no_weak_or_default_secret(world: World) -> None:
    """There is no key before one is made, keys are 256 random bits, and nothing that is kept lets anybody in."""
    assert world.keys.table.all() == ()
    token = await world.key("reader")
    (kept,) = world.keys.table.all()
    for guess in (f"qdb_{token.id}_{kept.digest}", kept.digest, token.id, "admin", f"Bearer {token}"):
        assert (await world.send("GET", "/api/v2/vectors", guess)).status_code == 401
    stored = b"".join(path.read_bytes() for path in world.folder.iterdir())
    assert token.secret.encode() not in stored
    assert token.id.encode() in stored


@pytest.mark.parametrize(
    "extra", [{"id": "0" * 12}, {"digest": "0" * 64}, {"created_at_s": 0}, {"revoked_at_s": None}, {"key": "qdb_x"}]
)
async def test_api3_properties_that_are_not_the_callers_are_refused(world: World, extra: dict[str, Any]) -> None:
    """Mass assignment: unknown and inner properties of a body are refused by name; no body raises rights."""
    admin = await world.key("admin")
    body = {"name": "x", "role": "reader", **extra}
    answer = await world.send("POST", "/api/v2/keys", admin, json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == next(iter(extra))
    for raised in ({"cluster": True}, {"tenant": "b"}):
        answer = await world.send("POST", "/api/v2/keys", admin, json={"name": "x", "role": "reader", **raised})
        assert answer.status_code == 403
    entity = {"id": "e", "vector": [0.6, 0.8], "tenant": "b"}
    assert (await world.send("POST", "/api/v2/vectors", admin, json=entity)).status_code == 422


async def test_api3_answers_have_no_secret_properties(world: World) -> None:
    """A key is shown whole in the answer that made it and in no other; digests in none."""
    admin = await world.key("admin")
    made = (await world.send("POST", "/api/v2/keys", admin, json={"name": "x", "role": "reader"})).json()
    secret = made["key"].rpartition("_")[2]
    digests = {key.digest for key in world.keys.table.all()}
    listed = (await world.send("GET", "/api/v2/keys", admin)).text
    revoked = (await world.send("DELETE", f"/api/v2/keys/{made['id']}", admin)).text
    for text in (listed, revoked):
        assert secret not in text
        assert not any(digest in text for digest in digests)
    assert not any(digest in orjson.dumps(made).decode() for digest in digests)


BOUNDED = LimitTable(
    per_key=CallLimits(requests_per_minute=8, sizes=SizeLimits(body_bytes=4_000, dimension=4, top_k=5, shots=5_000)),
)


@pytest.mark.parametrize("grants", [Grants(limits=BOUNDED)])
async def test_api4_requests_sizes_and_money_are_bounded(world: World) -> None:
    """Each bound has one answer: 413, 422 with the field's path, 402 for money, 429 with Retry-After."""
    key = await world.key("writer")
    too_long = await world.send("POST", "/api/v2/vectors", key, content=b" " * 4_001)
    assert too_long.status_code == 413
    for path, body, field in (
        ("/api/v2/vectors", {"id": "e", "vector": [0.1] * 5}, "vector"),
        ("/api/v2/query", {"vector": [0.6, 0.8], "top_k": 6}, "top_k"),
        ("/api/v2/query", {"vector": [0.6, 0.8], "mode": "precise"}, "shots"),
        ("/api/v2/jobs", {**JOB, "shots": 5_001}, "shots"),
    ):
        answer = await world.send("POST", path, key, json=body)
        assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, field)
    dear = await world.send("POST", "/api/v2/jobs", key, json={**JOB, "shots": 5_000, "budget": {"max_usd": 0.01}})
    assert dear.status_code in (202, 402)
    statuses = [(await world.send("GET", "/api/v2/vectors", key)) for _ in range(4)]
    assert [answer.status_code for answer in statuses] == [200, 200, 429, 429]
    assert int(statuses[-1].headers["retry-after"]) >= 1


async def test_api4_deep_and_huge_bodies_are_refused(world: World) -> None:
    """Bodies that are deep, huge, endless or full of large numbers are refused, without a fault of the server."""
    key = await world.key("writer")

    async def endless() -> Any:
        for _ in range(100):
            yield b"[" * 1_000

    bodies: list[Any] = [
        b"[" * 15_000,
        b'{"a":' * 3_000,
        endless(),
        orjson.dumps({"id": "e", "vector": [0.5] * (MAX_DIMENSION + 1)}),
        b'{"vector":[1],"top_k":99999999999999999999}',
        b"\xff\xfe",
        b'{"id":"\\ud800","vector":[1,2]}',
    ]
    for body in bodies:
        for path in ("/api/v2/vectors", "/api/v2/query"):
            content = endless() if not isinstance(body, bytes) else body
            answer = await world.send("POST", path, key, content=content)
            assert answer.status_code in (413, 422), (body if isinstance(body, bytes) else "endless", answer.text)


async def test_api5_each_function_asks_for_its_role(world: World) -> None:
    """Administration needs an administrator, operation an operator: odd methods and spellings are no way round."""
    keys = {role: await world.key(role.label, cluster=True) for role in Role}
    for role, credential in keys.items():
        assert (await world.send("GET", "/api/v2/keys", credential)).status_code == (200 if role is Role.ADMIN else 403)
        allowed = role >= Role.OPERATOR
        assert (await world.send("GET", "/metrics", credential)).status_code == (200 if allowed else 403)
    for path in (
        "/api/v2/keys/",
        "/API/v2/keys",
        "//api/v2/keys",
        "/api/v2/./keys",
        "/api/v2/keys%00",
        "/api/v2/%6beys",
    ):
        answer = await world.send("GET", path, keys[Role.READER])
        assert answer.status_code in (307, 403, 404, 405), path
    for method in ("HEAD", "OPTIONS", "TRACE", "PUT", "PATCH"):
        answer = await world.send(method, "/api/v2/keys", keys[Role.READER])
        assert answer.status_code == 405, method
    odd = await world.send("GET", "/api/v2/keys", keys[Role.READER], headers={"x-http-method-override": "DELETE"})
    assert odd.status_code == 403
    assert (await world.send("GET", "/api/v2/keys", keys[Role.READER], headers={"x-role": "admin"})).status_code == 403


async def test_api6_what_costs_money_needs_a_writer_and_a_budget(world: World) -> None:
    """Jobs at a paid provider: no reader may submit one, and many at once stay within the tenant's budget."""
    reader, writer = await world.key("reader"), await world.key("writer")
    paid = {**JOB, "shots": 100}
    assert (await world.send("POST", "/api/v2/jobs", reader, json=paid)).status_code == 403
    estimate = (await world.send("POST", "/api/v2/jobs/estimate", reader, json=paid)).json()
    assert estimate["cost_usd"] > 0
    answers = await asyncio.gather(
        *(world.send("POST", "/api/v2/jobs", writer, json={**paid, "shots": 100 + n}) for n in range(12))
    )
    taken = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    for _ in range(200):
        jobs = [(await world.send("GET", f"/api/v2/jobs/{job}", writer)).json() for job in taken]
        if all(job["ended_at_s"] is not None for job in jobs):
            break
        await asyncio.sleep(0.02)
    assert any(job["status"] == "failed" for job in jobs) or any(answer.status_code == 402 for answer in answers)
    days = (await world.send("GET", "/api/v2/costs", writer)).json()["days"]
    assert 0.0 < sum(day["cost_usd"] for day in days) <= 10.0


async def test_api7_no_body_names_an_address_to_call(world: World) -> None:
    """No property of any body is an address that the server would call; an unknown backend is not looked up."""
    whole = [kind.model_json_schema() for kind in BODIES.values()]
    schemas = [part for one in whole for part in (one, *one.get("$defs", {}).values())]
    names = {name for schema in schemas for name in schema.get("properties", {})}
    assert {"vector", "backend"} <= names
    assert not {name for name in names if re.search(r"url|uri|host|callback|webhook|endpoint|address", name)}
    assert "shots" in names, "the properties are those of the bodies"
    key = await world.key("writer")
    for backend in ("http://169.254.169.254/latest", "file:///etc/passwd", "gopher://x"):
        answer = await world.send("POST", "/api/v2/jobs", key, json={**JOB, "backend": backend})
        assert answer.status_code == 422


async def test_api8_errors_tell_nothing_of_the_inside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No trace, path, version or secret in a problem; no permission for other origins; keys are not to be cached."""
    key = await world.key("admin")

    async def broken(ids: object) -> None:
        raise RuntimeError("/srv/secret/path is broken")

    monkeypatch.setattr(world.bench.store, "fetch", broken)
    fault = await world.send("GET", "/api/v2/vectors/x", key)
    assert fault.status_code == 500
    for answer in (fault, await world.send("GET", "/api/v2/vectors/x"), await world.send("GET", "/none", key)):
        assert not re.search(r"Traceback|\.py|site-packages|/srv/|RuntimeError|qdb_", answer.text)
        assert "server" not in answer.headers
    origin = {"origin": "https://evil.example", "access-control-request-method": "GET"}
    for method in ("OPTIONS", "GET"):
        answer = await world.send(method, "/api/v2/vectors", key, headers=origin)
        assert not any(name.startswith("access-control-") for name in answer.headers)
    made = await world.send("POST", "/api/v2/keys", key, json={"name": "x", "role": "reader"})
    assert made.headers["cache-control"] == "no-store"


async def test_api8_headers_cannot_be_smuggled(world: World) -> None:
    """Odd ids and names in headers come neither into answers' headers nor, unescaped, into the audit log."""
    key = await world.key("writer")
    smuggled = await world.send("DELETE", "/api/v2/vectors/a%0d%0aset-cookie:x", key)
    assert smuggled.status_code == 404
    assert "set-cookie" not in smuggled.headers
    headers = {"x-request-id": "y" * 500}
    answer = await world.send("DELETE", "/api/v2/vectors/a%09%22,%22who%22:%22b", key, headers=headers)
    assert len(answer.headers["x-request-id"]) == 32
    lines = await world.lines()
    assert (lines[-1]["about"], lines[-1]["status"]) == ('a\t","who":"b', 404)
    assert isinstance(verify(world.audit_path), Head)
    for name in ("a b", "", "x" * 65, "../a", "a/b", "a\tb"):
        answer = await world.send("GET", "/api/v2/vectors", key, headers={"x-tenant": name})
        assert answer.status_code in (403, 422), name


async def test_api9_all_that_is_served_is_told_and_ruled(world: World) -> None:
    """OpenAPI tells of every operation, its action and its role; there is one version, and no hidden route."""
    for path, methods in world.app.openapi()["paths"].items():
        for operation in methods.values():
            assert operation["x-action"] in RULES or operation["x-action"] in OPEN
            if operation["x-action"] not in OPEN:
                assert operation["security"]
                assert operation["x-role"] in {role.label for role in Role}
        assert path.startswith("/api/v2/") or path in ("/healthz", "/readyz", "/metrics", "/graphql", "/api/query")
    key = await world.key("admin", cluster=True)
    for path in ("/api/v1/vectors", "/api/vectors", "/admin", "/debug", "/.env", "/api/v2/internal", "/redoc"):
        assert (await world.send("GET", path, key)).status_code == 404


@pytest.mark.parametrize("found", [[], {"0": 2.0}, {"9" * 30: 1.0}, {"0": "1; drop"}, {"0": None}])
def test_api10_a_providers_answer_is_not_believed(found: Any) -> None:
    """What a provider returns is checked like a caller's body; the rest is in tests/unit/test_ionq_results.py."""
    with pytest.raises(JobFailed):
        distributions(list(rows_by_child(found, 1, "job").values()), [2], "job")
