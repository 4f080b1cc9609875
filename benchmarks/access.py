"""What keys, limits and the audit log cost a query: ``python -m benchmarks.access``.

The whole application in one process, over the embedded store with the WordNet corpus: parse, search, rank, JSON. Once
behind a gate that lets everybody in (the peer), once behind the real one: a key checked, requests and cost units
counted for key and tenant, and every read written into the audit log. Medians over rounds that alternate the two.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import orjson
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from rich.console import Console

from quantum_db.access.audit import AuditLog
from quantum_db.access.auditing import AuditDesk
from quantum_db.access.blocking import BlockPolicy
from quantum_db.access.bodies import KeyBody
from quantum_db.access.following import KeyFollower
from quantum_db.access.keys import KeyTable
from quantum_db.access.limits import CallLimits, Limiter, LimitTable
from quantum_db.access.principal import Principal, Role
from quantum_db.access.registry import STREAM, KeyRegistry
from quantum_db.access.reports import Reports
from quantum_db.api import Api
from quantum_db.clock import SystemClock
from quantum_db.collection_table import Collection
from quantum_db.corpus import load_corpus
from quantum_db.database import Database
from quantum_db.directory import Directory, Inside
from quantum_db.journals.keeper import Keeper
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.model import Context, Entity
from quantum_db.stores.qdrant_edge import QdrantEdgeStore
from serve_app.auth import GateParts, KeyGate
from serve_app.gate import Call, Gate
from serve_app.http import Doors, build_app

NOTHING: Any = None
"""Stands for parts of which a classical query asks nothing."""
GRANTED = LimitTable(
    CallLimits(requests_per_s=1_000_000, concurrent=10_000),
    CallLimits(requests_per_minute=50_000_000, cost_units_per_minute=100_000_000, concurrent=10_000),
)
ROOT = Principal("benchmark", "default", Role.ADMIN, cluster=True)


class NoGate:
    """Lets everybody in, and notes nothing."""

    @asynccontextmanager
    async def admitted(self, call: Call) -> AsyncIterator[Principal]:  # noqa: ARG002
        yield ROOT


def api_over(store: QdrantEdgeStore) -> Api:
    database = Database(
        store=store,
        writes=NOTHING,
        jobs=NOTHING,
        templates=NOTHING,
        states=NOTHING,
        groups=NOTHING,
        sessions=NOTHING,
        clock=SystemClock(),
        rng=np.random.default_rng(0),
    )

    def inside(collection: Collection) -> Inside:
        return Inside(collection, database, NOTHING, NOTHING)

    return Api(Directory(NOTHING, inside, SystemClock()), NOTHING, NOTHING, lambda _: None)


def app_behind(gate: Gate, api: Api) -> FastAPI:
    return build_app(api, NOTHING, CollectorRegistry(), 1 << 20, Doors(gate, NOTHING, NOTHING))


async def filled(folder: Path) -> tuple[QdrantEdgeStore, list[bytes]]:
    corpus = load_corpus()
    store = QdrantEdgeStore(folder / "store")
    vectors = corpus.example_vectors.astype(np.float32)
    entities = [Entity(f"e{i}", vector, (Context("any", 1.0),), version=1) for i, vector in enumerate(vectors)]
    for start in range(0, len(entities), 1_000):
        await store.upsert(entities[start : start + 1_000])
    await store.optimize()
    asked = vectors[np.random.default_rng(0).choice(len(vectors), 200, replace=False)]
    return store, [
        orjson.dumps({"vector": one.astype(float).round(4).tolist(), "mode": "classical", "top_k": 10}) for one in asked
    ]


async def once(client: httpx.AsyncClient, bodies: list[bytes]) -> float:
    """Return the median latency in ms."""
    taken = []
    for body in bodies:
        start_s = time.perf_counter()
        response = await client.post("/api/v2/query", content=body)
        taken.append((time.perf_counter() - start_s) * 1000.0)
        assert response.status_code == 200, response.text
    return statistics.median(taken)


async def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, bodies = await filled(folder)
        keeper = Keeper(KeyTable(), SqliteJournal(folder / "access.sqlite"), STREAM, lambda _: None)
        await keeper.load()
        clock, blocking = SystemClock(), BlockPolicy()
        keys = KeyRegistry(keeper, clock, secrets.token_bytes)
        watch = AuditDesk(AuditLog(folder / "audit.jsonl"), blocking, clock)
        follower, reports = KeyFollower(keys, "r1", clock), Reports(watch, "r1", blocking, clock)
        parts = GateParts(follower, None, Limiter(GRANTED, clock), reports, clock, random.Random(0), 1.0)
        api = api_over(store)
        gates: dict[str, Gate] = {"open": NoGate(), "keys, limits, audit": KeyGate(parts, CollectorRegistry())}
        await follower.step()
        following = asyncio.create_task(follower.run())
        key = (await keys.create(ROOT, KeyBody(name="bench", role="reader", tenant="default")))["key"]
        clients = {
            title: httpx.AsyncClient(
                transport=httpx.ASGITransport(cast(Any, app_behind(gate, api))),
                base_url="http://bench",
                headers={"api-key": key},
            )
            for title, gate in gates.items()
        }
        found: dict[str, list[float]] = {name: [] for name in gates}
        for number in range(rounds + 1):
            for gate, client in clients.items():
                taken = await once(client, bodies)
                if number:  # the first round warms up
                    found[gate].append(taken)
        following.cancel()
        for client in clients.values():
            await client.aclose()
        await reports.close()
        await watch.close()
        lines = (folder / "audit.jsonl").read_text().count("\n")
        await keeper.close()
        await store.close()
    console = Console()
    ratios = [b / a for a, b in zip(*found.values(), strict=True)]
    for name, taken_ms in found.items():
        console.print(f"{name:22} {statistics.median(taken_ms):6.3f} ms a query, median of {rounds} rounds")
    console.print(f"ratio                  {statistics.median(ratios):6.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    console.print(f"{lines:,} lines in the audit log")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    asyncio.run(main(parser.parse_args().rounds))
