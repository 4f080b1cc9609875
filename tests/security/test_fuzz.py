"""Requests that nobody here wrote: schemathesis makes them from OpenAPI, and holds the answers against it.

Of each operation some in CI, and many by ``make fuzz`` (``QQC_FUZZ=long``): what the schema allows, and what not; and
walks along the links of answers. The application is whole, behind its gate, on a socket.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as some
from hypothesis.errors import FlakyStrategyDefinition, Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cluster.runtime import free_port
from quantum_db.frames import FRAME, frame_of
from tests.security.world import Grants, World

LONG = os.environ.get("QQC_FUZZ") == "long"
CASES = 160 if LONG else 8
pytestmark = pytest.mark.timeout(1_800 if LONG else 300)
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
MORE_STARTS = 20
"""Of walks, where none of the first has led anywhere: what is made differs between versions of Python."""

STARTS, WALKS_AT_ONCE, STEPS = (60, 4, 20) if LONG else (3, 3, 8)


def frame(ids: list[str], dimension: int, transaction: bool) -> bytes:
    """Return a batch of entities as bytes."""
    vectors = [{"id": one, "vector": np.linspace(0.1, 1.0, dimension, dtype=np.float32)} for one in ids]
    made = frame_of({"vectors": vectors, "transaction": transaction})
    assert made is not None
    return made


IDS = some.lists(some.text("abc/ 1", min_size=1, max_size=5), min_size=1, max_size=4)
schemathesis.openapi.media_type(FRAME, some.builds(frame, IDS, some.integers(1, 5), some.booleans()))


@dataclass
class Served:
    url: str
    token: str
    world: World
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)

    def send(self, case: Any) -> Any:
        """Send a made request and count its answer."""
        response = case.call(headers={"api-key": self.token}, timeout=20)
        self.answers[case.operation.label, response.status_code] += 1
        return response


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The world on a socket, in a thread of its own; its administrator may do everything of one tenant.

    It shows a token: a key would sooner or later be revoked by a request that is made from the list of keys.
    """
    ready: Future[Served] = Future()
    folder, port = tmp_path_factory.mktemp("fuzz"), free_port()

    async def serve(folder: Path) -> None:
        world = await World(folder, Grants()).open()
        config = uvicorn.Config(world.app, host="127.0.0.1", port=port, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.01)
        ready.set_result(Served(f"http://127.0.0.1:{port}", world.token(exp=int(time.time()) + 3_600), world))
        while not over.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.05)
        server.should_exit = True
        await running
        await world.close()

    over = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve(folder)))
    thread.start()
    try:
        yield ready.result(30.0)
    finally:
        over.set()
        thread.join(30.0)
    assert not thread.is_alive()


def failures(served: Served, schema: Any, cases: int) -> list[str]:
    """Return what is wrong with answers, by the operation."""
    found: list[str] = []
    for made in schema.get_all_operations():
        operation = made.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @seed(2026)
            @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def one(case: Any) -> None:
                case.validate_response(served.send(case), checks=list(CHECKS))

            try:
                one()
            except BaseExceptionGroup as error:
                found += [f"{operation.label}: {inner}" for inner in error.exceptions]
            except Unsatisfiable:  # nothing about it can be wrong
                continue
    return found


def walked(served: Served, schema: Any, starts: Iterable[int]) -> list[str]:
    """Return what is wrong with answers on walks along their links, some from each start."""

    found: list[str] = []

    class Walker(schema.as_state_machine()):  # type: ignore[misc]
        def call(self, case: Any, **_: Any) -> Any:
            return served.send(case)

        def validate_response(self, response: Any, case: Any, *_: Any, **__: Any) -> None:
            try:
                case.validate_response(response, checks=list(CHECKS))
            except BaseExceptionGroup as error:  # kept here, for no walk can be repeated: each leaves something behind
                found.extend(f"{case.operation.label}: {inner}" for inner in error.exceptions)

    bounds = settings(
        max_examples=WALKS_AT_ONCE,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for start in starts:
        try:
            seed(start)(Walker).run(settings=bounds)
        except FlakyStrategyDefinition:  # an answer was another than on the walk before, which had begun alike
            continue
    return found


def linked(seen: Mapping[tuple[str, int], int]) -> bool:
    """Return whether anything was found that a path names."""
    return any("{" in label and status == 200 for label, status in seen)


def test_no_walk_along_links_leads_to_a_fault_or_to_what_openapi_does_not_tell(served: Served) -> None:
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    before = served.answers.copy()
    starts = iter(range(STARTS + MORE_STARTS))
    found = walked(served, schema, islice(starts, STARTS))
    for start in starts:
        if linked(served.answers - before):
            break
        found += walked(served, schema, [start])
    assert not found, "\n\n".join(found[:5])
    seen = served.answers - before
    print(f"{seen.total()} requests on walks, {sum(n for (_, status), n in seen.items() if status < 300)} fulfilled")
    assert linked(seen), "what was made is found again by its link"


def test_no_request_leads_to_a_fault_or_to_what_openapi_does_not_tell(served: Served) -> None:
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    assert not (found := failures(served, schema, CASES)), "\n\n".join(found[:5])
    print(f"{served.answers.total()} requests, {len(served.answers)} kinds of answers, no fault and nothing untold")
    assert not [label for label, status in served.answers if status == 401], "it stays let in to the end"
    assert not LONG or served.answers.total() >= 10_000


def test_an_answer_that_is_not_told_of_is_found(served: Served) -> None:
    told = served.world.app.openapi()
    only = {"/api/v2/vectors/{entity_id}": {"get": dict(told["paths"]["/api/v2/vectors/{entity_id}"]["get"])}}
    responses = dict(only["/api/v2/vectors/{entity_id}"]["get"]["responses"])
    del responses["404"]
    only["/api/v2/vectors/{entity_id}"]["get"]["responses"] = responses
    schema = schemathesis.openapi.from_dict({**told, "paths": only})
    schema.config.base_url = served.url
    assert any("404" in text for text in failures(served, schema, 20))


def test_an_answer_on_a_walk_that_is_not_told_of_is_found(served: Served) -> None:
    told = json.loads(json.dumps(served.world.app.openapi()))
    for operation in (one for methods in told["paths"].values() for one in methods.values()):
        operation["responses"].pop("422", None)
    schema = schemathesis.openapi.from_dict(told)
    schema.config.base_url = served.url
    assert any("422" in text for text in walked(served, schema, range(STARTS)))
