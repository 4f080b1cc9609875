"""Bodies of quantum jobs: what is refused, how circuits become parts, and how counts are read."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest

from quantum_db.circuits.encoding import fidelity_of_cosine
from quantum_db.circuits.simulator import SimulatorBackend, probabilities
from quantum_db.circuits.template import CircuitBatch
from quantum_db.diversity import DIVERSITY
from quantum_db.errors import CorruptData, InvalidCircuit, InvalidRequest, JobFailed
from quantum_db.jobs import circuits
from quantum_db.jobs.bodies import BudgetBody, JobBody
from quantum_db.jobs.parts import parts_from_json, parts_to_json
from quantum_db.jobs.prepared import PreparedJob, reading_from_json
from quantum_db.requests import parse
from quantum_db.tunneling import objective

Counts = dict[int, int]

BELL = 'OPENQASM 3; include "stdgates.inc"; qubit[2] q; h q[0]; cx q[0], q[1];'


def ionq(angle: float, qubits: int = 2) -> dict[str, Any]:
    turn = {"gate": "ry", "target": 0, "rotation": angle}
    return {"format": "ionq", "qubits": qubits, "circuit": [turn, {"gate": "cnot", "control": 0, "target": 1}]}


def qasm(source: str) -> dict[str, Any]:
    return {"format": "qasm3", "source": source}


def gates(*gates: Any) -> dict[str, Any]:
    return {"format": "ionq", "qubits": 2, "circuit": list(gates)}


def qaoa(relevance: list[float], similarity: list[list[float]], count: int = 1) -> dict[str, Any]:
    return {"qaoa": {"relevance": relevance, "similarity": similarity, "count": count}}


def entangle(members: int, strength: float) -> dict[str, Any]:
    return {"entangle": {"members": members, "correlation_strength": strength}}


def overlap(vector: list[float], *vectors: list[float]) -> dict[str, Any]:
    return {"overlap": {"vector": vector, "vectors": list(vectors)}}


def body(**fields: Any) -> JobBody:
    return parse(JobBody, {"shots": 1000, **fields})


def run(job: PreparedJob, shots: int = 20_000) -> list[Counts]:
    backend = SimulatorBackend(np.random.default_rng(11))
    results = [backend.run(part, shots, job_key="k", timeout_s=1.0) for part in job.parts]
    return [dict(counts) for result in results for counts in result.counts]


def chances(parts: tuple[CircuitBatch, ...]) -> np.ndarray:
    return np.concatenate([probabilities(part) for part in parts])


# --- the body


def test_defaults_and_examples() -> None:
    job = parse(JobBody, JobBody.model_config["json_schema_extra"]["example"])
    assert (job.shots, job.priority, job.deadline_s, job.backend, job.name) == (
        1000,
        "batch",
        3600.0,
        None,
        "bell pair",
    )
    assert job.budget == BudgetBody(max_usd=5.0)
    assert body(**entangle(2, 1)).budget == BudgetBody()


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"circuits": None}, "circuits", "must be given, or else overlap, entangle or qaoa: one of the four, not none"),
        (qaoa([1, 2], [[0, 1], [1, 0]]), "circuits", "circuits and qaoa"),
        ({"circuits": []}, "circuits", "at least 1 item"),
        ({"circuits": [ionq(1.0)] * 5_001}, "circuits", "at most 5000 items"),
        ({"circuits": [{"source": BELL}]}, "circuits[0]", "format must be qasm3 or ionq"),
        ({"circuits": [qasm(BELL) | {"shots": 3}]}, "circuits[0].shots", "is not a known field"),
        ({"circuits": [qasm("x" * 65_537)]}, "circuits[0].source", "at most 65536 characters"),
        ({"circuits": [{"format": "qasm3"}]}, "circuits[0].source", "is missing"),
        ({"circuits": [ionq(1.0, qubits=0)]}, "circuits[0].qubits", "must be greater than or equal to 1, not 0"),
        ({"circuits": [ionq(1.0) | {"circuit": 5}]}, "circuits[0].circuit", "valid list"),
        ({"circuits": [ionq(1.0) | {"circuit": [{}] * 10_001}]}, "circuits[0].circuit", "at most 10000 items"),
        ({"shots": 0}, "shots", "must be greater than or equal to 1, not 0"),
        ({"shots": 1_000_001}, "shots", "must be less than or equal to 1000000"),
        ({"shots": "5"}, "shots", "must be a valid integer"),
        ({"priority": "urgent"}, "priority", "must be 'interactive' or 'batch'"),
        ({"deadline_s": 0.5}, "deadline_s", "must be greater than or equal to 1"),
        ({"deadline_s": 604_801}, "deadline_s", "must be less than or equal to 604800"),
        ({"deadline_s": math.nan}, "deadline_s", "must be a finite number"),
        ({"budget": {"max_usd": -0.1}}, "budget.max_usd", "must be greater than or equal to 0"),
        ({"budget": {"max_usd": math.inf}}, "budget.max_usd", "must be a finite number"),
        ({"budget": {"max_shots": -1}}, "budget.max_shots", "must be greater than or equal to 0"),
        ({"budget": {"usd": 1}}, "budget.usd", "is not a known field"),
        ({"name": "n" * 129}, "name", "at most 128 characters"),
        ({"bugdet": {}}, "bugdet", "is not a known field; did you mean 'budget'?"),
    ],
)
def test_a_wrong_field_is_told_by_its_path(fields: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        body(**{"circuits": [qasm(BELL)], **fields})
    assert [error.path for error in caught.value.errors] == [path]
    assert message in caught.value.errors[0].message


# --- circuits


def test_neighbours_of_one_structure_share_a_batch_and_the_order_is_kept() -> None:
    angles = [0.1, 0.2, 0.3, 0.4]
    sent = [ionq(0.1), ionq(0.2), qasm(BELL), qasm(BELL), ionq(0.3), ionq(0.4, qubits=3), qasm(BELL)]
    job = body(circuits=sent).to_circuits(5)
    assert [len(part) for part in job.parts] == [2, 2, 1, 1, 1]
    assert [part.template.num_qubits for part in job.parts] == [2, 2, 2, 3, 2]
    assert len({part.template.key for part in job.parts}) == 3
    bell = [0.5, 0.0, 0.0, 0.5]
    turned = [[math.cos(a / 2) ** 2, 0.0, 0.0, math.sin(a / 2) ** 2] for a in angles]
    found = [row for part in job.parts for row in probabilities(part)]
    expected = [turned[0], turned[1], bell, bell, turned[2], [*turned[3], 0.0, 0.0, 0.0, 0.0], bell]
    for row, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(row, exact, atol=1e-12)


def test_programs_that_differ_in_angles_only_are_rows_of_one_batch() -> None:
    source = 'OPENQASM 3; include "stdgates.inc"; qubit[2] q; rx({0}) q[0]; cx q[0], q[1];'
    (part,) = body(circuits=[qasm(source.format(0.1 * n)) for n in range(1, 6)]).to_circuits(2).parts
    np.testing.assert_allclose(probabilities(part)[:, 3], [math.sin(0.05 * n) ** 2 for n in range(1, 6)], atol=1e-12)


def test_the_two_formats_give_the_same_part() -> None:
    bell = gates({"gate": "h", "target": 0}, {"gate": "cnot", "control": 0, "target": 1})
    (part,) = body(circuits=[qasm(BELL), bell]).to_circuits(2).parts
    assert len(part) == 2


@pytest.mark.parametrize(
    ("wrong", "path", "message"),
    [
        (qasm("OPENQASM 3; qubit q; reset q;"), "circuits[1]", "line 1: there can be no reset"),
        (qasm("qubit[4] q;"), "circuits[1]", "has 4 qubits, and the backend takes 3"),
        (ionq(1.0, qubits=4), "circuits[1]", "has 4 qubits, and the backend takes 3"),
        (gates({"gate": "gpi", "target": 0}), "circuits[1].circuit[0]", "gate 'gpi' is not supported"),
        (gates({"gate": "h", "target": 2}), "circuits[1].circuit[0]", "2 is not one of the 2 qubits"),
        (ionq(math.nan), "circuits[1].circuit[0]", "a rotation must be a finite number of radians"),
        (gates("h"), "circuits[1].circuit[0]", "a gate must be an object"),
    ],
)
def test_a_wrong_circuit_is_named_by_its_place(wrong: dict[str, Any], path: str, message: str) -> None:
    job = body(circuits=[qasm(BELL), wrong])
    with pytest.raises(InvalidCircuit) as caught:
        job.to_circuits(3)
    assert caught.value.errors[0].path == path
    assert message in caught.value.errors[0].message
    assert caught.value.detail == f"{path}: {caught.value.errors[0].message}"


def test_the_gates_of_a_job_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuits, "MAX_TOTAL_GATES", 5)
    assert len(body(circuits=[ionq(1.0)] * 2).to_circuits(2).parts[0]) == 2
    with pytest.raises(InvalidCircuit, match=r"circuits\[2\]: the circuits up to this one have more than 5 gates"):
        body(circuits=[ionq(1.0)] * 3).to_circuits(2)


def test_counts_are_read_as_they_are() -> None:
    job = body(circuits=[qasm(BELL), ionq(math.pi)]).to_circuits(2)
    found = job.read(run(job, 1000))
    assert found["counts"][0].keys() == {"0", "3"}
    assert found["counts"][1] == {"3": 1000}
    for counts, message in (
        ([{0: 1000}], "1 histograms came back for 2 circuits"),
        ([{0: 1000}, {}], "without shots"),
    ):
        with pytest.raises(JobFailed, match=message):
            job.read(counts)


# --- prepared jobs


def vectors(count: int, size: int) -> np.ndarray:
    found = np.random.default_rng(5).normal(size=(count, size))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize(("size", "max_qubits"), [(5, 12), (40, 12), (40, 2)])
def test_overlaps_are_fidelities_of_lifted_vectors(size: int, max_qubits: int) -> None:
    query, *others = vectors(7, size)
    job = body(**overlap(query.tolist(), *(other.tolist() for other in others))).to_circuits(max_qubits)
    found = job.read(run(job, 200_000))
    assert found["confidence"] == 0.95
    cosines = np.array([other @ query for other in others])
    worst = found["worst_inner_product_error"]
    assert (worst > 0.0) == (max_qubits == 2)
    if not worst:
        exact = fidelity_of_cosine(cosines)
        np.testing.assert_allclose(chances(job.parts)[:, 0], exact, atol=1e-6)  # the vectors are float32
        inside = [one["low"] <= truth <= one["high"] for one, truth in zip(found["overlaps"], exact, strict=True)]
        assert sum(inside) >= 4
        np.testing.assert_allclose([one["cosine"] for one in found["overlaps"]], cosines, atol=0.02)
    assert all(one["low"] <= one["fidelity"] <= one["high"] for one in found["overlaps"])


def test_an_entangled_group_is_read_as_its_correlation() -> None:
    job = body(**entangle(3, 0.85)).to_circuits(3)
    found = job.read(run(job))
    assert found["expected"] == 0.85
    assert found["correlation"]["low"] <= found["correlation"]["value"] <= found["correlation"]["high"]
    assert found["correlation"]["value"] == pytest.approx(0.85, abs=0.03)
    assert [pair["members"] for pair in found["pairs"]] == [[0, 1], [0, 2], [1, 2]]
    assert (found["shots"], found["confidence"]) == (20_000, 0.95)


def test_qaoa_is_read_as_the_best_selection_beside_greedys() -> None:
    features = np.random.default_rng(3).uniform(size=(6, 2))
    similarity = 20.0 * features @ features.T
    relevance = features.sum(axis=1)
    asked = qaoa(relevance.tolist(), similarity.tolist(), count=3)
    job = body(**asked).to_circuits(6)
    counts = run(job)
    found = job.read(counts)
    best = max(objective(relevance, similarity, s, DIVERSITY) for s in itertools.combinations(range(6), 3))
    assert found["best"]["value"] == pytest.approx(best)
    for chosen in (found["best"], found["greedy"]):
        assert chosen["value"] == pytest.approx(objective(relevance, similarity, chosen["indices"], DIVERSITY))
    assert found["gain_over_greedy"] == pytest.approx(best - found["greedy"]["value"])
    assert found["gain_over_greedy"] > 0.0, "greedy is right here, so that this says little"
    assert found["shots"] == found["feasible_shots"] == 20_000
    assert found["optimum_shots"] / 20_000 == pytest.approx(found["optimum_probability"], abs=0.02)
    again = body(**asked).to_circuits(6)
    assert again.parts[0].angles.tobytes() == job.parts[0].angles.tobytes()
    assert again.reading == job.reading
    nothing = job.read([{0: 5}])
    assert (nothing["best"], nothing["gain_over_greedy"], nothing["feasible_shots"]) == (None, None, 0)


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        (overlap([1, 0], [1, 0], [1, 0, 0]), "overlap.vectors[1]", "has 3 numbers; the vector has 2"),
        (overlap([1, 0]), "overlap.vectors", "at least 1 item"),
        (overlap([1, 0], [0, 0]), "overlap.vectors[0]", "is the zero vector"),
        (entangle(1, 0.5), "entangle.members", "must be greater than or equal to 2"),
        (entangle(3, 1.5), "entangle.correlation_strength", "must be less than or equal to 1"),
        (qaoa([1], [[0, 1], [1, 0]]), "qaoa.relevance", "at least 2 items"),
        (qaoa([1, 2], [[0, 1], [1]]), "qaoa.similarity", "must be 2 by 2"),
        (qaoa([1, 2], [[0, 1], [2, 0]]), "qaoa.similarity", "must be symmetric"),
        (qaoa([1, 2], [[0, 1], [1, 0]], count=3), "qaoa.count", "must be at most 2"),
        (qaoa([1, 1e7], [[0, 1], [1, 0]]), "qaoa.relevance[1]", "less than or equal to 1000000"),
    ],
)
def test_a_wrong_prepared_job_is_told_by_its_path(fields: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        body(**fields)
    assert path in [error.path for error in caught.value.errors]
    assert message in caught.value.detail


def test_a_prepared_job_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidCircuit, match=r"entangle.members: needs 4 qubits, and the backend takes 3"):
        body(**entangle(4, 0.5)).to_circuits(3)
    with pytest.raises(InvalidCircuit, match=r"qaoa.relevance: needs 4 qubits, and the backend takes 3"):
        body(**qaoa([1, 2, 3, 4], [[0.0] * 4] * 4)).to_circuits(3)


@pytest.mark.parametrize(
    "fields",
    [
        {"circuits": [qasm(BELL), ionq(0.3)]},
        overlap([1, 2, 3], [3, 2, 1], [1, 1, 1]),
        entangle(3, 0.5),
        qaoa([1, 2, 3], [[0, 1, 0], [1, 0, 1], [0, 1, 0]], count=2),
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_job_from_a_journal_is_read_alike(fields: dict[str, Any]) -> None:
    job = body(**fields).to_circuits(4)
    stored = json.dumps({"circuits": parts_to_json(job.parts), "reading": job.reading.model_dump()})
    raw = json.loads(stored)
    again = PreparedJob(parts_from_json(raw["circuits"]), reading_from_json(raw["reading"]))
    counts = run(job)
    assert run(again) == counts
    found = job.read(counts)
    assert again.read(counts) == found == json.loads(json.dumps(found))


@pytest.mark.parametrize(
    "raw", [None, {}, {"kind": "other"}, {"kind": "entangle", "members": "3"}, {"kind": "counts", "x": 1}]
)
def test_a_damaged_reading_is_told(raw: object) -> None:
    with pytest.raises(CorruptData, match="a stored reading cannot be read"):
        reading_from_json(raw)
