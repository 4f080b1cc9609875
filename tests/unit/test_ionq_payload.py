"""What is written for IonQ, and what is read in its answers."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qiskit_ionq.ionq_job import IonQJob

from quantum_db.circuits.template import CircuitBatch, MultiplexedRY, Template, content_key
from quantum_db.errors import InvalidCircuit
from quantum_db.ionq import answers
from quantum_db.ionq.emulated_requests import EmulatorLimits, parse_job
from quantum_db.ionq.emulated_views import BACKENDS
from quantum_db.ionq.payload import metadata, payload, qiskit_circuits
from quantum_db.ionq.target import Target


def rotated(circuits: int, qubits: int) -> CircuitBatch:
    steps = (MultiplexedRY(0, (), 0),)
    return CircuitBatch(Template(content_key(qubits, steps), qubits, steps), np.linspace(0.0, 3.0, circuits)[:, None])


def written(*parts: CircuitBatch, labels: dict[str, str] | None = None) -> dict[str, Any]:
    circuits = [circuit for part in parts for circuit in qiskit_circuits(part)]
    arguments = {"shots": 10, "extra_metadata": metadata("the key", labels or {})}
    job = IonQJob(
        Target("simulator", 20),
        client=object(),
        circuit=circuits if len(circuits) > 1 else circuits[0],
        passed_args=arguments,
    )
    body: dict[str, Any] = orjson.loads(payload(job))
    return body


def test_each_circuit_has_its_number_as_its_name_and_its_own_qubits() -> None:
    body = written(rotated(2, 3), rotated(1, 5), rotated(2, 1))
    circuits = body["input"]["circuits"]
    assert [circuit["name"] for circuit in circuits] == ["0", "1", "2", "3", "4"]
    assert [circuit["qubits"] for circuit in circuits] == [3, 3, 5, 1, 1]
    assert body["input"]["qubits"] == 5
    assert [circuit["circuit"][0]["rotation"] for circuit in circuits] == [0.0, 3.0, 0.0, 0.0, 3.0]
    assert parse_job(body, EmulatorLimits(), BACKENDS).circuit_names == ("0", "1", "2", "3", "4")


def test_one_circuit_has_all_of_its_qubits() -> None:
    body = written(rotated(1, 4))
    assert (body["type"], body["input"]["qubits"]) == ("ionq.circuit.v1", 4)


@pytest.mark.parametrize("circuits", [1, 2, 5_000])
def test_the_metadata_is_the_key_and_the_labels(circuits: int) -> None:
    assert written(rotated(circuits, 1), labels={"a": "b"})["metadata"] == {"a": "b", "job_key": "the key"}


@given(st.dictionaries(st.text(max_size=42), st.text(max_size=3), max_size=12), st.text(max_size=3))
def test_metadata_is_what_the_provider_keeps_or_is_refused(labels: dict[str, str], job_key: str) -> None:
    limits = EmulatorLimits()
    try:
        found = metadata(job_key, labels)
    except InvalidCircuit:
        too_long = any(len(name) > limits.metadata_key_chars for name in labels)
        assert too_long or len(labels) > limits.metadata_keys - 1 or "job_key" in labels
        return
    assert found == {**labels, "job_key": job_key}
    assert len(found) <= limits.metadata_keys
    assert all(len(name) <= limits.metadata_key_chars for name in found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "unit"]), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_a_number_in_an_answer_is_finite_and_not_negative_or_none(answer: Any) -> None:
    for path in ((), ("a",), ("a", "b")):
        found = answers.number(answer, *path)
        assert found is None or (isinstance(found, float) and 0.0 <= found < math.inf)


@given(JSON, st.floats(0.0, 2e9))
def test_nothing_in_an_answer_is_taken_for_granted(part: Any, epoch_s: float) -> None:
    keys = ("status", "metadata", "submitted_at", "stats", "cost", "estimated_cost", "estimated_total_cost")
    answer = dict.fromkeys(keys, part)
    assert answers.status(answer) == (part if isinstance(part, str) else "unknown")
    assert answers.has_ended(answer) == (answers.status(answer) in answers.ENDED)
    assert not answers.has_key(answer, "k")
    assert answers.was_submitted_before(answer, epoch_s) in {True, False}
    assert min(answers.gates(answer)) >= 0.0
    assert answers.cost_usd(answer) is None
    assert answers.estimated_usd(answer) is None


@pytest.mark.parametrize(
    ("cost", "usd"),
    [
        ({"dry_run": False, "estimated_cost": {"value": 3.0, "unit": "usd"}}, None),
        ({"cost": {"value": 3.5, "unit": "usd"}}, 3.5),
        ({"cost": {"value": 0, "unit": "usd"}}, 0.0),
        ({"cost": {"value": 3.5, "unit": "credit"}}, None),
        ({"cost": {"value": -1.0, "unit": "usd"}}, None),
        ({"cost": {"value": True, "unit": "usd"}}, None),
        ({"cost": 3.5}, None),
    ],
)
def test_a_cost_is_one_in_usd(cost: dict[str, Any], usd: float | None) -> None:
    assert answers.cost_usd(cost) == usd


def test_a_time_of_submission_is_read_as_the_provider_writes_it() -> None:
    job = {"submitted_at": "2026-11-25T00:00:10.500Z"}
    at_s = 1_795_564_810.5
    assert answers.was_submitted_before(job, at_s + 0.1)
    assert not answers.was_submitted_before(job, at_s)


def test_threads_may_build_targets_at_the_same_time() -> None:
    ready = Barrier(8, timeout=30.0)

    def build(_: int) -> None:
        ready.wait()
        for _ in range(20):
            Target("simulator", 20)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads meet in every line
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(build, range(8)))
    finally:
        sys.setswitchinterval(interval)
