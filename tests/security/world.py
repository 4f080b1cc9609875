"""The whole way of a request in one process: the real app, gate, keys with their journal, audit log and limits."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from quantum_db.access.audit import AuditLog
from quantum_db.access.auditing import AuditDesk
from quantum_db.access.blocking import BlockPolicy
from quantum_db.access.bodies import KeyBody
from quantum_db.access.following import KeyFollower
from quantum_db.access.keys import Json, KeyTable, Token, new_token, parsed
from quantum_db.access.limits import Limiter, LimitTable
from quantum_db.access.principal import Principal, Role
from quantum_db.access.registry import STREAM, KeyRegistry
from quantum_db.access.reports import Reports
from quantum_db.access.tokens import TokenPolicy, TokenVerifier
from quantum_db.api import JobCalls
from quantum_db.clock import SystemClock
from quantum_db.jobs.assembly import PoolPolicy, TenantPolicy
from quantum_db.jobs.stored_jobs import StoredJobs
from quantum_db.journals.keeper import Keeper
from quantum_db.journals.sqlite import SqliteJournal
from serve_app.auth import GateParts, KeyGate
from serve_app.http import Doors, build_app
from tests.documented import undocumented
from tests.unit.fake_workers import Bench as PoolBench
from tests.unit.test_database import Bench
from tests.unit.test_http import FakeCluster

ROOT = Principal("key:root", "default", Role.ADMIN, cluster=True)
ISSUER, AUDIENCE = "https://id.example", "quantum-db"
MAX_BODY = 20_000


class SkewedClock(SystemClock):
    """The system's clock, put forward by ``ahead_s``."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now_s(self) -> float:
        return time.time() + self.ahead_s


@dataclass
class Grants:
    """What a world grants; the defaults are no limits."""

    limits: LimitTable = field(default_factory=LimitTable)
    blocking: BlockPolicy = field(default_factory=lambda: BlockPolicy(failures=1_000_000))
    audited_reads: float = 0.0


class World:
    """A cluster of one replica without Ray."""

    def __init__(self, folder: Path, grants: Grants) -> None:
        self.folder, self.grants, self.clock = folder, grants, SkewedClock()
        self.signer = ec.generate_private_key(ec.SECP256R1())
        self.audit_path = folder / "audit.jsonl"

    async def open(self) -> World:
        self.keeper = Keeper(KeyTable(), SqliteJournal(self.folder / "access.sqlite"), STREAM, lambda error: None)
        await self.keeper.load()
        self.keys = KeyRegistry(self.keeper, self.clock, secrets.token_bytes)
        self.watch = AuditDesk(AuditLog(self.audit_path), self.grants.blocking, self.clock)
        self.follower = KeyFollower(self.keys, "r1", self.clock)
        self.reports = Reports(self.watch, "r1", self.grants.blocking, self.clock)
        tokens = TokenVerifier(TokenPolicy(ISSUER, AUDIENCE, ("ES256",), leeway_s=5.0), {"": self.signer.public_key()})
        limiter = Limiter(self.grants.limits, SystemClock())
        parts = GateParts(
            self.follower, tokens, limiter, self.reports, self.clock, random.Random(0), self.grants.audited_reads
        )
        self.bench, self.cluster = await Bench().filled(3, 2), FakeCluster()
        self.pool = PoolBench(PoolPolicy(window_s=0.001, tenants={"a": TenantPolicy(usd_per_day=10.0)}))
        await self.pool.start()
        self.jobs = StoredJobs(self.pool.pool, self.pool.parts.journal, self.pool.workers, SystemClock())
        self.jobs.resume()
        self.bench.api.jobs = JobCalls(self.jobs, self.pool.pool, "near")
        self.gate = KeyGate(parts, self.cluster.registry)
        doors = Doors(self.gate, self.keys, self.watch)
        self.app = build_app(self.bench.api, self.cluster, self.cluster.registry, MAX_BODY, doors)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://test")
        await self.follower.step()
        self._following = asyncio.create_task(self.follower.run())
        return self

    async def close(self) -> None:
        self._following.cancel()
        await self.client.aclose()
        await self.pool.pool.close()
        await self.jobs.close()
        await self.reports.close()
        await self.watch.close()
        await self.keeper.close()

    async def key(self, role: str, **body: Any) -> Token:
        """Return a key that every replica knows."""
        view = await self.keys.create(ROOT, KeyBody(**{"name": role, "role": role, "tenant": "a", **body}))
        assert view["everywhere"] is True
        token = parsed(view["key"])
        assert token is not None
        return token

    def claims(self, **changes: Any) -> Json:
        now_s = int(time.time())
        usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "jane", "tenant": "a", "role": "admin", "exp": now_s + 60}
        return {name: value for name, value in {**usual, **changes}.items() if value is not None}

    def token(self, algorithm: str = "ES256", key: Any = None, **changes: Any) -> str:
        """Return a token of the identity provider."""
        return jwt.encode(self.claims(**changes), self.signer if key is None else key, algorithm)

    def public_pem(self) -> bytes:
        return self.signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    async def send(self, method: str, path: str, credential: object = None, **options: Any) -> httpx.Response:
        headers = {} if credential is None else {"api-key": str(credential)}
        answer = await self.client.request(method, path, headers={**headers, **options.pop("headers", {})}, **options)
        assert (missing := undocumented(self.app.openapi(), method, path, answer)) is None, missing
        return answer

    async def lines(self) -> list[Json]:
        """Return the audit log's lines."""
        await self.reports.flush()
        return [json.loads(line) for line in self.audit_path.read_text().splitlines()]


def stranger() -> Token:
    """Return a key that nobody made."""
    return new_token(secrets.token_bytes)
