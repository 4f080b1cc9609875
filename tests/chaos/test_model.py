"""The database against a dict, through its API: whatever is done to it, it holds and finds what the dict says."""

from __future__ import annotations

import asyncio
import copy
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from quantum_db.errors import Conflict, InvalidRequest, NotFound, UnknownContext
from tests.chaos.embedded import Embedded
from tests.chaos.runs import runs

Json = dict[str, Any]
REFUSALS = (Conflict, NotFound, InvalidRequest)
D = 4
VECTORS = np.random.default_rng(3).normal(size=(24, D))
IDS = st.sampled_from([f"e{n}" for n in range(8)])
GROUP_IDS = st.sampled_from([f"g{n}" for n in range(6)])
NUMBERS = st.integers(0, len(VECTORS) - 1)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "contexts": st.lists(st.tuples(st.sampled_from("ab"), NUMBERS), unique_by=lambda one: one[0], max_size=2).map(
            lambda named: [{"name": name, "weight": 1.0, "vector": VECTORS[n].tolist()} for name, n in named]
        ),
        "metadata": st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 5), max_size=2),
        "coherence_time_ms": st.integers(1, 1_000),
    },
)
VECTOR = NUMBERS.map(lambda n: VECTORS[n].tolist())
ENTITIES = st.builds(lambda i, v, more: {"id": i, "vector": v, **more}, IDS, VECTOR, FIELDS)
CHANGES = st.builds(lambda v, more: {**({"vector": v} if v else {}), **more}, st.none() | VECTOR, FIELDS).filter(bool)
GROUPS = st.builds(
    lambda g, members, s: {"group_id": g, "entity_ids": members, "correlation_strength": s},
    GROUP_IDS,
    st.lists(IDS, min_size=2, max_size=3, unique=True),
    st.sampled_from([0.25, 0.5]),
)
EXPECTED = st.sampled_from(["no matter", "no matter", "right", "wrong"])
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), ENTITIES, EXPECTED),
        st.tuples(st.just("update"), st.builds(lambda i, c: {"id": i, **c}, IDS, CHANGES), EXPECTED),
        st.tuples(st.just("delete"), st.builds(lambda i: {"id": i}, IDS), EXPECTED),
        st.tuples(st.just("create_entanglement"), GROUPS, st.just("no matter")),
    ),
    min_size=1,
    max_size=5,
)


PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Without shrinking, which takes minutes; ``Phase.shrink`` makes a failure's steps fewer."""


class Refused(Exception):
    """The model says that it cannot be done."""


class Model:
    """What is stored: bodies of entities with their versions, and bodies of groups."""

    def __init__(self) -> None:
        self.entities: dict[str, Json] = {}
        self.groups: dict[str, Json] = {}
        self.unknown: set[str] = set()  # groups that have lost a member

    def write(self, body: Json, version: int) -> None:
        whole = {"contexts": [], "metadata": {}, "coherence_time_ms": 60_000.0, **body, "version": version}
        self.entities[body["id"]] = whole

    def update(self, body: Json, version: int) -> None:
        if body["id"] not in self.entities:
            raise Refused
        self.write({**self.entities[body["id"]], **body}, version)

    def delete(self, entity_id: str) -> None:
        if self.entities.pop(entity_id, None) is None:
            raise Refused
        for group_id in [one for one, group in self.groups.items() if entity_id in group["entity_ids"]]:
            del self.groups[group_id]
            self.unknown.add(group_id)

    def group(self, body: Json) -> None:
        known = self.groups.get(body["group_id"])
        if not set(body["entity_ids"]) <= self.entities.keys() or (known is not None and not _alike(known, body)):
            raise Refused
        self.groups.setdefault(body["group_id"], body)

    def operations(self, operations: list[Json], version: int, before: dict[str, Json]) -> None:
        groups = []
        for operation in operations:
            ((kind, body),) = operation.items()
            body = dict(body)
            expected = body.pop("expected_version", None)
            if expected is not None and before.get(body["id"], {}).get("version") != expected:
                raise Refused
            if kind == "insert":
                self.write(body, version)
            elif kind == "update":
                self.update(body, version)
            elif kind == "delete":
                self.delete(body["id"])
            else:
                groups.append(body)
        for body in groups:
            self.group(body)

    def after(self, operations: list[Json]) -> Model | None:
        """Return the model after a transaction, whose version is 0 here; None where it is refused."""
        changed = copy.deepcopy(self)
        try:
            changed.operations(operations, 0, self.entities)
        except Refused:
            return None
        return changed


class DatabaseMachine(RuleBasedStateMachine):
    """Does to both what hypothesis thinks of."""

    database: Embedded

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="model-"))
        self.model = Model()
        self.highest = 0

    @initialize()
    def open(self) -> None:
        self.do(self._open())

    def teardown(self) -> None:
        self.do(self.database.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def do(self, call: Any) -> Any:
        return self.runner.run(call)

    async def _open(self) -> None:
        self.database = Embedded(self.folder)
        await self.database.coordinator.readable()

    @rule(body=ENTITIES)
    def insert(self, body: Json) -> None:
        self.model.write(body, self._next(self.do(self.database.api.insert(body))["version"]))

    @rule(bodies=st.lists(ENTITIES, min_size=1, max_size=4, unique_by=lambda one: one["id"]), together=st.booleans())
    def insert_batch(self, bodies: list[Json], together: bool) -> None:
        answer = self.do(self.database.api.insert_batch({"vectors": bodies, "transaction": together}))
        version = answer["commit"] if together else answer["items"][0]["version"]
        self._next(version)
        for body in bodies:
            self.model.write(body, version)

    @rule(entity_id=IDS, changes=CHANGES, expected=EXPECTED)
    def update(self, entity_id: str, changes: Json, expected: str) -> None:
        version = self._expected(entity_id, expected)
        call = self.database.api.update(entity_id, changes, version)
        found = self.model.entities.get(entity_id)
        if found is None or version not in (None, found["version"]):
            self._refused(call)
        else:
            self.model.update({"id": entity_id, **changes}, self._next(self.do(call)["version"]))

    @rule(entity_id=IDS)
    def delete(self, entity_id: str) -> None:
        if entity_id in self.model.entities:
            self._next(self.do(self.database.api.delete(entity_id))["commit"])
            self.model.delete(entity_id)
        else:
            self._refused(self.database.api.delete(entity_id))

    @rule(body=GROUPS)
    def create_group(self, body: Json) -> None:
        if body["group_id"] in self.model.unknown:
            return
        try:
            self.model.group(body)
        except Refused:
            self._refused(self.database.api.create_group(body))
        else:
            assert _alike(self.do(self.database.api.create_group(body)), body)

    @rule(drawn=OPERATIONS, keyed=st.booleans())
    def commit(self, drawn: list[tuple[str, Json, str]], keyed: bool) -> None:
        operations = self._operations(drawn)
        key = f"key-{self.highest}-{len(operations)}" if keyed else None
        call = self.database.api.transact({"operations": operations}, key)
        if self.model.after(operations) is None:
            self._refused(call)
            return
        answer = self.do(call)
        self.model.operations(operations, self._next(answer["commit"]), dict(self.model.entities))
        if keyed:
            assert self.do(self.database.api.transact({"operations": operations}, key)) == answer

    @rule(drawn=OPERATIONS, vector=VECTOR, context=st.sampled_from([None, "a"]))
    def roll_back(self, drawn: list[tuple[str, Json, str]], vector: list[float], context: str | None) -> None:
        """Look at what a transaction would give, and leave it."""
        operations = [one for one in self._operations(drawn) if "create_entanglement" not in one]
        changed = self.model.after(operations)
        body = {"operations": operations, "query": _query(vector, context, 3)}
        if changed is None:
            self._refused(self.database.api.query_under(body))
        else:
            self._found(self.database.api.query_under(body), changed, vector, context, 3)

    @rule(vector=VECTOR, context=st.sampled_from([None, "a", "b"]), top_k=st.integers(1, 8))
    def query(self, vector: list[float], context: str | None, top_k: int) -> None:
        self._found(self.database.api.query(_query(vector, context, top_k)), self.model, vector, context, top_k)

    @rule()
    def restart(self) -> None:
        self.do(self.database.close())
        self.do(self._open())

    @rule(entity_id=IDS, group_id=GROUP_IDS)
    def fetch(self, entity_id: str, group_id: str) -> None:
        wanted = self.model.entities.get(entity_id)
        if wanted is None:
            self._refused(self.database.api.fetch(entity_id))
        else:
            _assert_same(self.do(self.database.api.fetch(entity_id)), wanted)
        if group_id in self.model.groups:
            assert _alike(self.do(self.database.api.group(group_id)), self.model.groups[group_id])
        elif group_id not in self.model.unknown:
            self._refused(self.database.api.group(group_id))

    @invariant()
    def counts(self) -> None:
        if hasattr(self, "database"):
            assert self.do(self.database.store.count()) == len(self.model.entities)
            assert self.database.coordinator.open_commits == 0

    def _operations(self, drawn: list[tuple[str, Json, str]]) -> list[Json]:
        operations: list[Json] = []
        groups = set(self.model.unknown)
        for kind, body, expected in drawn:
            if kind == "create_entanglement":
                if body["group_id"] not in groups:
                    operations.append({kind: body})
                    groups.add(body["group_id"])
                continue
            version = self._expected(body["id"], expected)
            operations.append({kind: body if version is None else {**body, "expected_version": version}})
        return operations or [{"insert": {"id": "e0", "vector": VECTORS[0].tolist()}}]

    def _expected(self, entity_id: str, expected: str) -> int | None:
        found = self.model.entities.get(entity_id)
        if expected == "no matter" or (expected == "right" and found is None):
            return None
        return found["version"] if found is not None and expected == "right" else self.highest + 1

    def _next(self, version: int) -> int:
        assert version > self.highest, "versions grow, over restarts too"
        self.highest = version
        return version

    def _refused(self, call: Any) -> None:
        with pytest.raises(REFUSALS):
            self.do(call)

    def _found(self, call: Any, model: Model, vector: list[float], context: str | None, top_k: int) -> None:
        wanted = {one: score for one, body in model.entities.items() if (score := _score(body, vector, context)) >= 0}
        try:
            hits = self.do(call)["hits"]
        except UnknownContext:
            hits = []
        assert len(hits) == min(top_k, len(wanted))
        for hit in hits:
            assert hit["score"] == pytest.approx(wanted[hit["id"]], abs=1e-5)
            assert hit["metadata"] == model.entities[hit["id"]]["metadata"]
        scores = [wanted.pop(hit["id"]) for hit in hits]
        scores.append(max(wanted.values(), default=-1.0))
        assert all(better >= worse - 1e-5 for better, worse in pairwise(scores)), "the best come first"


def _query(vector: list[float], context: str | None, top_k: int) -> Json:
    body = {"vector": vector, "mode": "classical", "top_k": top_k, "no_context_rule": "best", "timeout_ms": 60_000}
    return {**body, "context": context} if context else body


def _score(body: Json, vector: list[float], context: str | None) -> float:
    """Return an entity's best fidelity, ((1 + cos) / 2)^2, or -1 if it is not found in the context."""
    rows = [one["vector"] for one in body["contexts"] if context in (None, one["name"])]
    if context is None:
        rows.append(body["vector"])
    asked = np.asarray(vector) / np.linalg.norm(vector)
    return max((((1.0 + float(asked @ row / np.linalg.norm(row))) / 2.0) ** 2 for row in rows), default=-1.0)


def _alike(a: Json, b: Json) -> bool:
    return all(
        (set(a[name]) if name == "entity_ids" else a[name]) == (set(b[name]) if name == "entity_ids" else b[name])
        for name in ("group_id", "entity_ids", "correlation_strength")
    )


def _assert_same(found: Json, wanted: Json) -> None:
    for name in ("id", "metadata", "coherence_time_ms", "version"):
        assert found[name] == wanted[name], name
    assert np.allclose(found["vector"], wanted["vector"] / np.linalg.norm(wanted["vector"]), atol=1e-5)
    assert [one["name"] for one in found["contexts"]] == [one["name"] for one in wanted["contexts"]]
    for got, one in zip(found["contexts"], wanted["contexts"], strict=True):
        assert np.allclose(got["vector"], one["vector"] / np.linalg.norm(one["vector"]), atol=1e-5)


def test_the_database_is_as_the_model_says() -> None:
    run_state_machine_as_test(
        DatabaseMachine,
        settings=settings(
            max_examples=runs(short=30, long=400),
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            phases=PHASES,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
