"""The way of a query through the stages, with the real simulator and fakes around it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from quantum_db.api import Api, JobCalls
from quantum_db.backend_ports import BackendResult, JobRequest
from quantum_db.batches import BatchRunner
from quantum_db.circuits.noise import FORTE_1, NoisySimulatorBackend
from quantum_db.clock import SystemClock
from quantum_db.database import Database
from quantum_db.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    JobFailed,
    NotFound,
    QuantumDBError,
    Unavailable,
    UnknownContext,
)
from quantum_db.lifecycle import Happening
from quantum_db.measurement import GroupMeasurement
from quantum_db.model import Answer
from quantum_db.refinement import Policy
from tests.unit.fakes import (
    FakeClock,
    FakeGroups,
    FakeJobs,
    FakeJournal,
    FakeSessions,
    FakeStates,
    FakeStore,
    FakeTemplates,
    coordinator,
    directory_of,
)


class Bench:
    def __init__(self, policy: Policy | None = None, jobs: FakeJobs | None = None) -> None:
        self.store, self.jobs, self.states = FakeStore(), jobs or FakeJobs(), FakeStates()
        groups = self.groups = FakeGroups()
        self.clock = FakeClock()
        self.sessions = FakeSessions(self.clock)
        self.journal = FakeJournal()
        database = Database(
            store=self.store,
            writes=coordinator(self.store, groups, self.states, self.journal),
            jobs=self.jobs,
            templates=FakeTemplates(),
            states=self.states,
            groups=groups,
            sessions=self.sessions,
            clock=self.clock,
            rng=np.random.default_rng(0),
            policy=policy,
        )
        measurement = GroupMeasurement(jobs=self.jobs, groups=groups, default_backend="simulator")
        self.answers: list[Answer] = []
        jobs = JobCalls(None, self.jobs, "simulator")  # type: ignore[arg-type] # of another test
        batches = BatchRunner(self.jobs, "simulator")
        self.api = Api(directory_of(database, measurement, self.sessions), batches, jobs, self.answers.append)

    async def filled(self, count: int = 40, dimension: int = 8) -> Bench:
        rng = np.random.default_rng(1)
        bodies = [
            {
                "id": f"e{i:02}",
                "contexts": [
                    {"name": name, "weight": float(rng.uniform(0.1, 1)), "vector": rng.normal(size=dimension).tolist()}
                    for name in ("red", "blue")
                ],
                "metadata": {"number": i},
            }
            for i in range(count)
        ]
        await self.api.insert_batch({"vectors": bodies})
        return self


def query(**changes: Any) -> dict[str, Any]:
    vector = np.random.default_rng(2).normal(size=8).tolist()
    return {"vector": vector, "context": "red", "mode": "balanced", "top_k": 5, "refine": "always", **changes}


async def test_what_was_written_is_read_back() -> None:
    bench = await Bench().filled(3)
    body = await bench.api.fetch("e01")
    assert [context["name"] for context in body["contexts"]] == ["red", "blue"]
    assert sum(context["weight"] for context in body["contexts"]) == pytest.approx(1.0)
    assert body["metadata"] == {"number": 1}
    assert "vector" not in body
    await bench.api.delete("e01")
    for call in (bench.api.fetch, bench.api.delete):
        with pytest.raises(NotFound, match="there is no entity 'e01'"):
            await call("e01")


async def test_a_query_in_a_context_goes_through_all_stages() -> None:
    bench = await Bench().filled()
    answer = await bench.api.query(query(explain=True))
    assert len(answer["hits"]) == 5
    assert answer["candidates"] == 30
    refinement = answer["refinement"]
    assert refinement["ran"]
    assert (refinement["provenance"], refinement["backend"]) == ("simulated shots", "simulator")
    assert (refinement["circuits"], refinement["qubits"], refinement["shots"]) == (30, 4, 30 * 4096)
    assert refinement["two_qubit_gates"] == 30 * 20
    assert refinement["quantum_speedup_ratio"] > 0
    assert set(answer["stages"]) == {"parse_ms", "filter_ms", "refine_ms", "rank_ms"}
    for hit in answer["hits"]:
        assert hit["context"] == "red"
        assert hit["interval"]["low"] <= hit["score"] <= hit["interval"]["high"]
        assert abs(hit["score"] - hit["classical_score"]) < 0.06
    scores = [hit["score"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True)


async def test_circuits_do_not_run_where_the_classical_margin_decides() -> None:
    bench = await Bench().filled(5)
    answer = await bench.api.query(query(refine="auto"))
    assert not answer["refinement"]["ran"]
    assert "the classical margin decides the set of the first 5" in answer["refinement"]["why"]
    assert bench.jobs.requests == []


async def test_adaptive_shots_find_the_exact_set_with_fewer_shots_and_say_how_sure_it_is() -> None:
    bench = await Bench().filled()
    exact = await bench.api.query(query(mode="classical"))
    answer = await bench.api.query(query(epsilon=0.0, max_shots=20_000_000))
    refinement = answer["refinement"]
    assert {hit["id"] for hit in answer["hits"]} == {hit["id"] for hit in exact["hits"]}
    assert refinement["confidence"] == 0.95
    assert 1 < refinement["rounds"] <= 12
    assert 0 < refinement["shots"] < 20_000_000
    for hit in answer["hits"]:
        assert hit["interval"]["low"] <= hit["score"] <= hit["interval"]["high"]
    rough = await bench.api.query(query(epsilon=0.1))
    assert rough["refinement"]["shots"] < refinement["shots"]


async def test_with_many_shots_the_order_is_the_exact_one() -> None:
    bench = await Bench().filled()
    exact = await bench.api.query(query(mode="classical", top_k=10))
    refined = await bench.api.query(query(shots=1_000_000, top_k=10))
    assert [hit["id"] for hit in refined["hits"]] == [hit["id"] for hit in exact["hits"]]
    assert not exact["refinement"]["ran"]
    assert exact["refinement"]["why"] == "the mode runs no circuits"
    assert len(bench.jobs.requests) == 1


@pytest.mark.parametrize("rule", ["soft", "best", "traced"])
async def test_a_query_without_a_context_takes_every_rule(rule: str) -> None:
    bench = await Bench().filled()
    answer = await bench.api.query(query(context=None, no_context_rule=rule))
    assert answer["refinement"]["circuits"] == (30 if rule == "best" else 60)
    assert {hit["context"] for hit in answer["hits"]} <= {"red", "blue"}


async def test_tunneling_chooses_among_the_candidates_and_never_loses_to_greedy() -> None:
    bench = await Bench().filled()
    answer = await bench.api.query(query(enable_tunneling=True))
    assert len({hit["id"] for hit in answer["hits"]}) == 5
    assert answer["tunneling"]["gain_over_greedy"] >= 0.0


async def test_qaoa_runs_through_the_job_pool_and_never_loses_to_greedy() -> None:
    bench = await Bench().filled()
    asked = query(mode="classical", enable_tunneling=True, tunneling_solver="qaoa", top_k=3)
    answer = await bench.api.query(asked)
    report = answer["tunneling"]
    assert len({hit["id"] for hit in answer["hits"]}) == 3
    assert report["gain_over_greedy"] >= 0.0
    assert (report["solver"], report["layers"], report["shots"]) == ("qaoa", 4, 1024)
    assert report["provenance"] == "simulated shots"
    assert report["optimum_shots"] > 0
    assert report["optimum_probability"] > report["uniform_probability"]
    (request,) = bench.jobs.requests
    assert request.parts[0].template.num_qubits == 10


async def test_states_are_noted_for_what_was_measured() -> None:
    bench = await Bench().filled(3)
    assert [event.what for event in bench.states.events] == [Happening.CREATED] * 3
    bench.states.events.clear()
    await bench.api.query(query())
    assert [event.what for event in bench.states.events] == [Happening.PREPARED] * 3 + [Happening.MEASURED] * 3
    bench.states.events.clear()
    await bench.api.query(query(mode="classical"))
    assert bench.states.events == []


def failing(error: QuantumDBError) -> FakeJobs:
    def fail(request: JobRequest) -> None:
        raise error

    return FakeJobs(before=fail)


async def test_a_failing_backend_falls_back_to_the_classical_order_and_says_so() -> None:
    bench = await Bench(jobs=failing(Unavailable("no answer"))).filled()
    answer = await bench.api.query(query())
    exact = await bench.api.query(query(mode="classical"))
    assert [hit["id"] for hit in answer["hits"]] == [hit["id"] for hit in exact["hits"]]
    assert not answer["refinement"]["ran"]
    assert answer["refinement"]["why"] == "simulator failed, so the order is the classical one: no answer"
    assert answer["hits"][0]["interval"] is None


async def test_a_failing_backend_fails_the_query_where_the_settings_say_so() -> None:
    bench = await Bench(Policy(on_backend_failure="fail"), failing(JobFailed("broken"))).filled()
    with pytest.raises(JobFailed, match="broken"):
        await bench.api.query(query())


async def test_a_wrong_circuit_or_backend_is_never_hidden_by_the_fallback() -> None:
    bench = await Bench(jobs=failing(InvalidRequest.at("backend", "there is no such backend"))).filled()
    with pytest.raises(InvalidRequest, match="no such backend"):
        await bench.api.query(query())


async def test_the_deadline_of_a_query_is_kept() -> None:
    class Slow(FakeJobs):
        async def run(self, request: JobRequest) -> BackendResult:
            await asyncio.sleep(30.0)
            return await super().run(request)

    bench = await Bench(jobs=Slow()).filled()
    with pytest.raises(DeadlineExceeded, match="did not end within 50 ms"):
        await bench.api.query(query(timeout_ms=50, on_timeout="error"))


async def test_circuits_that_take_too_long_leave_time_for_the_classical_answer() -> None:
    class Slow(FakeJobs):
        async def run(self, request: JobRequest) -> BackendResult:
            assert request.timeout_s < 2.0, "some of the time is kept"
            await asyncio.sleep(30.0)
            return await super().run(request)

    bench = await Bench(jobs=Slow()).filled()
    classical = await bench.api.query(query(mode="classical"))
    qaoa = {"enable_tunneling": True, "tunneling_solver": "qaoa"}
    for changes in ({}, {"mode": "classical", **qaoa}):
        answer = await bench.api.query(query(timeout_ms=2_000, **changes))
        told = answer["tunneling"]["why"] if changes else answer["refinement"]["why"]
        assert "had no result in time" in told
        if not changes:
            assert answer["hits"] == classical["hits"]
            assert (answer["refinement"]["ran"], answer["refinement"]["provenance"]) == (False, "exact")


async def test_wrong_dimensions_are_told_and_nothing_is_written() -> None:
    bench = await Bench().filled(2)
    with pytest.raises(InvalidRequest, match="vector: has 3 numbers; the vectors of this collection have 8"):
        await bench.api.query(query(vector=[1, 2, 3]))
    bodies = [{"id": "new", "vector": [1.0] * 8}, {"id": "bad", "vector": [1.0] * 7}]
    with pytest.raises(InvalidRequest, match=r"vectors\[1\]\.vector: has 7 numbers"):
        await bench.api.insert_batch({"vectors": bodies, "transaction": True})
    assert "new" not in bench.store.entities


async def test_an_unknown_context_lists_the_near_names() -> None:
    bench = await Bench().filled(2)
    with pytest.raises(UnknownContext, match="no entity has the context 'rad'; did you mean 'red'"):
        await bench.api.query(query(context="rad"))


async def test_an_empty_database_answers_with_no_hits() -> None:
    answer = await Bench().api.query(query(context=None))
    assert answer["hits"] == []
    assert answer["refinement"]["why"] == "there are no candidates"


async def test_groups_need_stored_members() -> None:
    bench = await Bench().filled(3)
    group = {"group_id": "g", "entity_ids": ["e00", "e01"], "correlation_strength": 0.85}
    assert (await bench.api.create_group(group))["version"] == 1
    assert (await bench.api.create_group(group))["version"] == 1
    assert (await bench.api.group("g"))["entity_ids"] == ("e00", "e01")
    with pytest.raises(InvalidRequest, match=r"entity_ids\[1\]: there is no entity 'x'"):
        await bench.api.create_group({**group, "group_id": "h", "entity_ids": ["e00", "x"]})
    with pytest.raises(Conflict):
        await bench.api.create_group({**group, "correlation_strength": 0.5})
    with pytest.raises(NotFound):
        await bench.api.group("h")


def several(**changes: Any) -> dict[str, Any]:
    asked = [{"name": "red", "weight": 0.5}, {"name": "blue", "weight": 0.5}]
    return query(context=None, contexts=asked, shots=1_000_000, **changes)


async def test_explain_shows_the_planned_circuits_beside_the_alternatives() -> None:
    bench = await Bench().filled()
    refinement = (await bench.api.query(query(explain=True)))["refinement"]
    plan = refinement["plan"]
    assert (plan["chosen"]["family"], plan["chosen"]["shots"]) == ("merged", 4096)
    assert {family["family"] for family in plan["alternatives"]} == {"multiplexed", "unary"}
    assert plan["why"]
    assert "plan" not in (await bench.api.query(query()))["refinement"]
    assert (await bench.api.query(query(explain=True, shots=500)))["refinement"]["plan"] is None


@pytest.mark.parametrize("method", ["readout", "zne"])
async def test_mitigation_brings_noisy_scores_closer_to_the_exact_ones(method: str) -> None:
    """4 qubits at Forte's noise, 100,000 shots. Without mitigation known gate errors are divided out; readout stays.

    Extrapolation is for a backend whose gate errors are not known.
    """
    jobs = FakeJobs()
    noisy = NoisySimulatorBackend("forte", FORTE_1, rng=np.random.default_rng(5), clock=SystemClock())
    if method == "zne":
        noisy.limits = replace(noisy.limits, one_qubit_fidelity=1.0, two_qubit_fidelity=1.0)
    jobs.backend = noisy  # type: ignore[assignment]
    bench = await Bench(jobs=jobs).filled()

    async def error(**changes: Any) -> float:
        answer = await bench.api.query(query(top_k=30, shots=100_000, timeout_ms=60_000, **changes))
        assert answer["refinement"]["rounds"] == len(jobs.requests)
        jobs.requests.clear()
        return float(np.mean([abs(hit["score"] - hit["classical_score"]) for hit in answer["hits"]]))

    assert await error(mitigation=method) < 0.6 * await error()


async def test_several_contexts_are_scored_as_a_superposition_exactly_and_by_circuits() -> None:
    """60 circuits at a million shots each: five standard errors of a score are below 0.006."""
    bench = await Bench().filled()
    answer = await bench.api.query(several(top_k=30))
    assert answer["refinement"]["circuits"] == 60
    text, _ = await bench.api.circuit(answer["refinement"]["circuit_key"], "qasm3")
    assert text.startswith("OPENQASM 3")
    stored = {entity_id: bench.store.entities[entity_id] for entity_id in bench.store.entities}
    vector = np.array(query()["vector"]) / np.linalg.norm(query()["vector"])
    for hit in answer["hits"]:
        entity = stored[hit["id"]]
        overlaps = np.array([(1 + context.vector @ vector) / 2 for context in entity.contexts])
        root = np.sqrt([0.5 * context.weight for context in entity.contexts])
        coherent = (root @ overlaps) ** 2 / root.sum() ** 2
        assert hit["classical_score"] == pytest.approx(coherent, abs=1e-5)
        assert abs(hit["score"] - coherent) < 0.006
        assert hit["context"] in ("red", "blue")


async def test_age_takes_the_coherence_out_of_several_contexts() -> None:
    bench = await Bench().filled()
    old = await bench.api.query(several(top_k=30, age_ms=3.0e9))
    vector = np.array(query()["vector"]) / np.linalg.norm(query()["vector"])
    for hit in old["hits"]:
        entity = bench.store.entities[hit["id"]]
        overlaps = np.array([(1 + context.vector @ vector) / 2 for context in entity.contexts])
        weights = np.array([context.weight for context in entity.contexts])
        assert hit["classical_score"] == pytest.approx(weights @ overlaps**2 / weights.sum(), abs=1e-5)
        assert abs(hit["score"] - hit["classical_score"]) < 0.006


async def test_an_entity_with_one_of_the_asked_contexts_is_found_and_one_of_weight_zero_is_not() -> None:
    bench = await Bench().filled(3)
    only = {"id": "only-red", "contexts": [{"name": "red", "weight": 1.0, "vector": query()["vector"]}]}
    never = {
        "id": "never",
        "vector": query()["vector"],
        "contexts": [{"name": "red", "weight": 0.0}, {"name": "green", "weight": 1.0}],
    }
    await bench.api.insert_batch({"vectors": [only, never]})
    answer = await bench.api.query(several())
    assert answer["hits"][0]["id"] == "only-red"
    assert answer["hits"][0]["classical_score"] == pytest.approx(1.0, abs=1e-5)
    assert "never" not in {hit["id"] for hit in answer["hits"]}


async def test_an_unknown_one_of_several_contexts_is_told_where_nothing_is_found() -> None:
    bench = await Bench().filled(3)
    asked = [{"name": "rad"}, {"name": "bleu"}]
    with pytest.raises(UnknownContext, match=r"contexts\[0\]\.name: no entity has the context 'rad'"):
        await bench.api.query(query(context=None, contexts=asked))


async def test_a_groups_circuit_gives_its_correlation_strength() -> None:
    """Each <ZZ> at 100,000 shots: 4.5 standard errors are at most 0.0143."""
    bench = await Bench().filled(3)
    group = {"group_id": "g", "entity_ids": ["e00", "e01", "e02"], "correlation_strength": 0.85}
    await bench.api.create_group(group)
    found = await bench.api.measure_group("g", {"shots": 100_000, "chsh": True})
    assert [pair["entity_ids"] for pair in found["pairs"]] == [["e00", "e01"], ["e00", "e02"], ["e01", "e02"]]
    for estimate in (found["mean"], *found["pairs"]):
        assert abs(estimate["value"] - 0.85) < 0.015
        assert estimate["interval"]["low"] < estimate["value"] < estimate["interval"]["high"]
    assert found["chsh"]["value"] > 0
    assert found["shots"] == 500_000
    with pytest.raises(NotFound):
        await bench.api.measure_group("h", {})


async def test_a_group_larger_than_the_backend_is_refused() -> None:
    bench = await Bench().filled(14)
    await bench.api.create_group(
        {"group_id": "g", "entity_ids": [f"e{i:02}" for i in range(14)], "correlation_strength": 0.5}
    )
    with pytest.raises(InvalidRequest, match="simulator has 12 qubits, and the group has 14 members"):
        await bench.api.measure_group("g", {})


async def test_a_batch_of_operations_is_one_circuit_and_tells_what_it_saved() -> None:
    """Shares at 100,000 shots: 4.5 standard errors are at most 0.0072; correlations 0.0143."""
    operations = [
        {"op": "encode", "id": "a", "vector": [0.6, 0.8]},
        {"op": "entangle", "entity_ids": ["b", "c"], "correlation_strength": 0.85},
        {"op": "measure", "shots": 100_000},
    ]
    answer = await Bench().api.execute_batch({"operations": operations})
    encoded, entangled, measured = answer["results"]
    np.testing.assert_allclose(encoded["vectors"][0]["shares"], [0.36, 0.64], atol=0.0072)
    assert abs(entangled["mean"]["value"] - 0.85) < 0.0143
    assert sum(measured["counts"]["a"].values()) == 100_000
    assert (answer["effort"]["jobs"], answer["effort"]["circuits"], answer["separate"]["jobs"]) == (1, 1, 2)
    with pytest.raises(InvalidRequest, match=r"operations\[0\]\.vector"):
        await Bench().api.execute_batch({"operations": [{"op": "encode", "id": "a", "vector": [0.0]}, operations[2]]})


async def test_an_entity_of_two_equal_weights_and_one_vector_is_found_in_both_contexts() -> None:
    bench = Bench()
    contexts = [{"name": "technical", "weight": 0.7}, {"name": "general", "weight": 0.3}]
    await bench.api.insert({"id": "a", "vector": [1.0, 0.0], "contexts": contexts})
    flipped = [{"name": "technical", "weight": 0.3}, {"name": "general", "weight": 0.7}]
    await bench.api.insert({"id": "b", "vector": [1.0, 0.0], "contexts": flipped})
    for context, leader in (("technical", "a"), ("general", "b")):
        answer = await bench.api.query({"vector": [0.9, 0.1], "context": context, "refine": "always"})
        assert answer["hits"][0]["id"] == leader
        assert answer["hits"][0]["context_probability"] == 0.7
        assert answer["refinement"]["circuits"] == 1
