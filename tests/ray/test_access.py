"""A whole cluster as it is meant to be run: TLS, Ray's token, encrypted journals, two replicas, and a first start."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest
import yaml

from cluster.commands.running import FIRST_KEY
from cluster.settings import ADMIN_KEY_ENV
from quantum_db.access.audit import Head, verify
from quantum_db.access.keys import new_token, parsed
from quantum_db.access.tokens import JWT_SECRET_ENV
from quantum_db.client.config import KEY_ENV
from quantum_db.encryption import DATA_KEYS_ENV
from serve_app.rpc import quantum_db_pb2 as pb
from serve_app.rpc.quantum_db_pb2_grpc import QuantumDBStub
from tests.ray.conftest import ROOT, LiveCluster, descendants, live_cluster
from tests.ray.test_docs import GRPC, blocks
from tests.security.certificates import make_certificate

JWT_SECRET = secrets.token_hex(32)
DATA_KEY = base64.b64encode(secrets.token_bytes(32)).decode()
RAY_TOKEN = secrets.token_hex(32)
FAILURES = 8
ROUNDS = 12


@dataclass(frozen=True)
class Guarded:
    live: LiveCluster
    admin_key: str
    certificate: Path
    scratch: Path
    log: Path

    def client(self, key: str | None = None) -> httpx.Client:
        """Return a client that opens a connection for each request, so that it meets all replicas."""
        limits = httpx.Limits(max_keepalive_connections=0)
        headers = {} if key is None else {"api-key": key}
        context = ssl.create_default_context(cafile=str(self.certificate))
        return httpx.Client(base_url=self.live.url, headers=headers, verify=context, timeout=60.0, limits=limits)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    certificate, private_key = make_certificate(folder)
    content = {
        "data_dir": str(folder / "data"),
        "http": {"port": 0, "tls": {"certificate": str(certificate), "private_key": str(private_key)}},
        "grpc": {"port": 0},
        "ray": {"replicas": 2, "auth_mode": "token"},
        "access": {
            "audited_reads": 1.0,
            "jwt": {"issuer": "me", "audience": "you", "algorithms": ["HS256"]},
        },
        "limits": {
            "tenants": {"small": {"requests_per_minute": 20, "body_bytes": 2048, "dimension": 4, "shots": 5000}},
            "blocking": {"failures": FAILURES, "block_s": 600.0},
        },
        "jobs": {"tenants": {"small": {"usd_per_day": 1.0}}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(ADMIN_KEY_ENV)
        patch.delenv(KEY_ENV)
        for name, value in (
            (JWT_SECRET_ENV, JWT_SECRET),
            (DATA_KEYS_ENV, f"k1:{DATA_KEY}"),
            ("RAY_AUTH_TOKEN", RAY_TOKEN),
        ):
            patch.setenv(name, value)
        with live_cluster(folder / "config.yaml", folder / "data") as live:
            log = folder / "data.log"
            (shown,) = [line for line in log.read_text().splitlines() if line.startswith(FIRST_KEY)]
            yield Guarded(live, shown.split()[-1], certificate, scratch_of(live), log)
        assert isinstance(verify(folder / "data" / "audit.jsonl"), Head), "whole after a clean stop"


def scratch_of(live: LiveCluster) -> Path:
    """Return the folder in which Ray keeps its logs, as its processes' command lines tell it."""
    lines = " ".join(" ".join(process.cmdline()) for process in descendants(live.process.pid))
    (folder,) = set(re.findall(r"/\S*?/qqc-\w+(?=/ray)", lines))
    return Path(folder)


def made(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.post("/api/v2/keys", json={"name": "test", "role": "reader", **body})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert found["everywhere"] is True
    return found


def statuses(client: httpx.Client, path: str = "/api/v2/backends", times: int = ROUNDS) -> set[int]:
    """Return the statuses of several requests, which both replicas answer."""
    return {client.get(path).status_code for _ in range(times)}


def test_the_first_start_shows_one_key_once_and_nothing_is_open(guarded: Guarded) -> None:
    assert parsed(guarded.admin_key) is not None
    assert guarded.log.read_text().count(guarded.admin_key) == 1
    with guarded.client() as nobody, guarded.client(guarded.admin_key) as admin:
        assert statuses(nobody) == {401}
        assert statuses(admin) == {200}
        (key,) = admin.get("/api/v2/keys").json()["keys"]
        assert (key["role"], key["cluster"], key["status"]) == ("admin", True, "active")
        assert admin.get("/metrics").status_code == 200
    with pytest.raises(httpx.TransportError):
        httpx.get(guarded.live.url.replace("https:", "http:") + "/healthz").raise_for_status()


def test_a_revoked_key_is_refused_by_all_replicas_from_the_answer_on(
    guarded: Guarded, record_property: Callable[[str, object], None]
) -> None:
    taken_ms = []
    with guarded.client(guarded.admin_key) as admin:
        for _ in range(5):
            key = made(admin)
            with guarded.client(key["key"]) as client:
                assert statuses(client) == {200}, "a new key is known to all replicas at once"
                start_s = time.perf_counter()
                answer = admin.delete(f"/api/v2/keys/{key['id']}").json()
                taken_ms.append((time.perf_counter() - start_s) * 1000.0)
                assert answer["everywhere"] is True
                assert statuses(client) == {401}
    print(f"revoked everywhere after {statistics.median(taken_ms):.1f} ms (median of {len(taken_ms)})")
    record_property("revocation_ms", statistics.median(taken_ms))


def test_grpc_speaks_tls_and_hears_of_a_revoked_key_at_once(guarded: Guarded) -> None:
    address = json.loads((guarded.live.data_dir / "cluster.json").read_text())["grpc"]
    with guarded.client(guarded.admin_key) as admin:
        key = made(admin)
        metadata = (("api-key", key["key"]),)
        trusted = grpc.ssl_channel_credentials(guarded.certificate.read_bytes())
        with grpc.secure_channel(address, trusted) as channel:
            stub: Any = QuantumDBStub(channel)
            assert stub.Costs(pb.CostsRequest(), metadata=metadata, timeout=20.0).tenant == "default"
            assert admin.delete(f"/api/v2/keys/{key['id']}").json()["everywhere"] is True
            with pytest.raises(grpc.RpcError) as revoked:
                stub.Costs(pb.CostsRequest(), metadata=metadata, timeout=20.0)
    assert "UNAUTHENTICATED" in str(revoked.value)
    (*_, snippet) = blocks(GRPC, "python")
    snippet = snippet.replace("localhost:8001", address).replace("authority.crt", str(guarded.certificate))
    environment = {**os.environ, KEY_ENV: guarded.admin_key}
    command = [sys.executable, "-c", snippet]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (0, "default\n"), result.stderr
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
        QuantumDBStub(channel).Health(pb.HealthRequest(), timeout=5.0)


def test_a_rotated_key_keeps_its_old_secret_for_the_grace_and_no_longer(guarded: Guarded) -> None:
    with guarded.client(guarded.admin_key) as admin:
        key = made(admin)
        again = admin.post(f"/api/v2/keys/{key['id']}/rotate", json={"grace_s": 60.0}).json()
        with guarded.client(key["key"]) as old, guarded.client(again["key"]) as fresh:
            assert statuses(old) == statuses(fresh) == {200}
            third = admin.post(f"/api/v2/keys/{key['id']}/rotate", json={"grace_s": 0.0}).json()
            assert statuses(old, times=3) == statuses(fresh) == {401}
        with guarded.client(third["key"]) as client:
            assert statuses(client) == {200}


def test_roles_tenants_and_tokens_hold_over_https(guarded: Guarded) -> None:
    now_s = int(time.time())
    claims = {"iss": "me", "aud": "you", "sub": "jane", "tenant": "a", "role": "reader", "exp": now_s + 600}
    with guarded.client(guarded.admin_key) as admin:
        writer, reader_of_b = made(admin, role="writer", tenant="a"), made(admin, tenant="b")
    entity = {"id": "theirs", "vector": [0.6, 0.8]}
    with guarded.client(writer["key"]) as client:
        assert client.post("/api/v2/vectors", json=entity).status_code == 201
        assert client.get("/api/v2/keys").status_code == 403
        assert client.get("/metrics").status_code == 403
    with guarded.client(reader_of_b["key"]) as client:
        assert client.post("/api/v2/vectors", json=entity).status_code == 403
        assert client.get("/api/v2/vectors", headers={"x-tenant": "a"}).status_code == 403
        job, absent = client.get(f"/api/v2/jobs/{'0' * 32}"), client.get(f"/api/v2/jobs/{'1' * 32}")
        assert job.status_code == absent.status_code == 404
    for secret, changes, status in (
        (JWT_SECRET, {}, 200),
        (JWT_SECRET, {"exp": now_s - 600}, 401),
        (JWT_SECRET, {"aud": "else"}, 401),
        ("x" * 64, {}, 401),
    ):
        token = jwt.encode({**claims, **changes}, secret, "HS256")
        with guarded.client() as client:
            answer = client.get("/api/v2/backends", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == status, answer.text


def test_another_tenants_things_are_told_like_those_that_nobody_has(guarded: Guarded) -> None:
    with guarded.client(guarded.admin_key) as admin:
        ours, theirs = (made(admin, role="writer", tenant=tenant)["key"] for tenant in ("ours", "theirs"))
    with guarded.client(ours) as client:
        entities = [{"id": name, "vector": [0.6, 0.8]} for name in ("first", "second")]
        assert client.post("/api/v2/vectors/batch", json={"vectors": entities}).status_code == 201
        group = {"group_id": "pair", "entity_ids": ["first", "second"], "correlation_strength": 0.5}
        assert client.post("/api/v2/entanglement/groups", json=group).status_code == 201
        assert client.post("/api/v2/query", json={"vector": [0.6, 0.8]}).status_code == 200
    things = [
        ("GET", "/api/v2/vectors/{}", "first"),
        ("DELETE", "/api/v2/vectors/{}", "first"),
        ("GET", "/api/v2/states/{}", "first"),
        ("GET", "/api/v2/entanglement/groups/{}", "pair"),
        ("DELETE", "/api/v2/entanglement/groups/{}", "pair"),
    ]
    with guarded.client(theirs) as client:
        for method, path, name in things:
            told = set()
            for asked in (name, "nobodys"):
                body = client.request(method, path.format(asked)).json()
                told.add((body["status"], body["detail"].replace(repr(asked), "ID"), body["title"]))
            assert len(told) == 1, (method, path, told)
            assert next(iter(told))[0] == 404
        assert client.get("/api/v2/vectors").json()["vectors"] == []
        assert client.get("/api/v2/entanglement/groups").json()["groups"] == []
    with guarded.client(ours) as client:
        assert client.get("/api/v2/vectors/first").status_code == 200
        assert client.get("/api/v2/entanglement/groups/pair").status_code == 200


def test_what_is_granted_to_a_tenant_holds(guarded: Guarded) -> None:
    with guarded.client(guarded.admin_key) as admin:
        key = made(admin, role="writer", tenant="small")
    with guarded.client(key["key"]) as client:
        too_long = client.post("/api/v2/vectors", json={"id": "x", "vector": [0.5] * 5})
        assert too_long.status_code == 422
        assert too_long.json()["errors"][0]["path"] == "vector"
        assert client.post("/api/v2/vectors", content=b" " * 3000).status_code == 413
        shots = client.post("/api/v2/query", json={"vector": [0.6, 0.8], "shots": 6000})
        assert shots.json()["errors"][0]["path"] == "shots"
        answers = [client.get("/api/v2/backends") for _ in range(30)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(refused) >= 10
        assert 1 <= int(refused[0].headers["retry-after"]) <= 60


def test_bad_keys_block_bad_keys_alone_and_an_operator_lifts_it(guarded: Guarded) -> None:
    wrong = str(new_token(secrets.token_bytes))
    with guarded.client(wrong) as stranger, guarded.client(guarded.admin_key) as admin:
        deadline = time.monotonic() + 20
        while stranger.get("/api/v2/backends").status_code != 429 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(2.5)  # until both replicas have been told
        assert statuses(stranger) == {429}
        assert statuses(admin) == {200}, "the owner of a good key behind the same address"
        (block,) = admin.get("/api/v2/blocks").json()["blocks"]
        assert block["address"] == "127.0.0.1"
        assert admin.delete("/api/v2/blocks/127.0.0.1").json() == {"address": "127.0.0.1", "lifted": True}
        assert admin.delete("/api/v2/blocks/127.0.0.1").status_code == 404
        time.sleep(2.5)
        assert statuses(stranger, times=2) == {401}


def test_the_audit_log_tells_of_all_that_was_done_and_denied(guarded: Guarded) -> None:
    with guarded.client(guarded.admin_key) as admin:
        head = admin.get("/api/v2/audit/head").json()["head"]
        path = guarded.live.data_dir / "audit.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        told = {(line["action"], line["outcome"], line["status"]) for line in lines}
        assert {
            ("keys.create", "ok", 200),
            ("keys.revoke", "ok", 200),
            ("keys.rotate", "ok", 200),
            ("insert", "ok", 200),
            ("insert", "denied", 403),
            ("jobs.backends", "denied", 401),
            ("jobs.backends", "denied", 429),
            ("insert", "failed", 422),
            ("jobs.get", "failed", 404),
            ("blocks.begin", "ok", 0),
            ("blocks.lift", "ok", 200),
        } <= told
        assert {line["about"] for line in lines if line["action"] == "insert"} >= {"theirs"}
        assert all(line["peer"] == "127.0.0.1" for line in lines)
        assert "jwt:jane" in {line["who"] for line in lines}
        command = [sys.executable, "-m", "cluster.cli", "audit", "verify", "--log", str(path), "--head", head]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        copy = path.with_name("copy.jsonl")
        copy.write_bytes(path.read_bytes().replace(b'"denied"', b'"failed"', 1))
        command[command.index(str(path))] = str(copy)
        broken = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        copy.unlink()
        assert broken.returncode == 2
        assert "has been changed" in broken.stderr


def test_no_secret_is_in_any_log_or_file(guarded: Guarded) -> None:
    """Planted: keys that were made, shown wrong and refused, a token, the secrets of the environment, and a vector."""
    vector = [0.123456789, 0.987654321]
    wrong = new_token(secrets.token_bytes)
    odd = "qdb_" + "planted" * 9
    with guarded.client(guarded.admin_key) as admin, guarded.client() as client:
        key = made(admin, role="writer", tenant="a")
        token = jwt.encode({"iss": "me"}, JWT_SECRET, "HS256")
        for credential in (str(wrong), odd, token):
            for headers in ({"api-key": credential}, {"Authorization": f"Bearer {credential}"}):
                answer = client.get("/api/v2/backends", headers=headers)
                assert credential not in answer.text
        with guarded.client(key["key"]) as writer:
            assert writer.post("/api/v2/vectors", json={"id": "planted", "vector": vector}).status_code == 201
            assert writer.post("/api/v2/vectors", json={"id": "planted", "vector": [*vector, 0.0]}).status_code == 422
        time.sleep(2.0)
    texts = {path: path.read_bytes() for path in logs_and_files(guarded)}
    assert sum(len(text) for text in texts.values()) > 10_000
    assert any("ingress" in path.name or "replica" in path.name for path in texts), "Serve's logs are among them"
    made_secret, admin_secret = (str(one).rpartition("_")[2] for one in (key["key"], guarded.admin_key))
    planted = [made_secret, admin_secret, wrong.secret, odd, token, JWT_SECRET, DATA_KEY, RAY_TOKEN, "0.123456789"]
    for path, text in texts.items():
        for secret in planted:
            if secret == admin_secret and path == guarded.log:
                continue  # where it is shown, once
            assert secret.encode() not in text, path
    audit = guarded.live.data_dir / "audit.jsonl"
    assert b"planted" in audit.read_bytes(), "what would be found is found"


def logs_and_files(guarded: Guarded) -> list[Path]:
    """Return all logs of the run, and the files that the cluster writes beside the store."""
    found = [path for path in guarded.scratch.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.suffix == ".log" for path in found)
    data = [path for path in guarded.live.data_dir.iterdir() if path.is_file()]
    return [path for path in (*found, *data, guarded.log) if os.access(path, os.R_OK)]
