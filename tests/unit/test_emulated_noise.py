"""Noise in the emulator: which model a job has, and what its circuits give, against the simulator of templates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.quantum_info import Operator
from qiskit_ionq.helpers import qiskit_circ_to_ionq_circ

from quantum_db.circuits.encoding import SpanEncoding
from quantum_db.circuits.noise import ARIA_1, FORTE_1, IDEAL, NoiseModel, noisy_probabilities
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.ionq.emulated_jobs import EmulatedJobs
from quantum_db.ionq.emulated_noise import QPU_NOISE, simulate_noisy
from quantum_db.ionq.emulated_requests import ApiError, EmulatorLimits, JobSpec, parse_job
from quantum_db.ionq.emulated_results import ResultStore
from quantum_db.ionq.emulated_views import BACKENDS, job_body
from quantum_db.ionq.gate_simulator import Circuit, CircuitReader, simulate, unitaries
from tests.unit.test_emulated_jobs import Clock
from tests.unit.test_gate_simulator import GATES, add_random_gate, random_circuit

STRONG = NoiseModel("strong", "a test", one_qubit=0.02, two_qubit=0.07, one_given_zero=0.03, zero_given_one=0.08)
WIDE = [{"gate": "x", "target": 0, "controls": [1, 2]}]


def payload(circuit: list[dict[str, Any]], qubits: int = 2, **fields: Any) -> dict[str, Any]:
    body = {"qubits": qubits, "circuit": circuit}
    return {"type": "ionq.circuit.v1", "backend": "simulator", "shots": 1_000, "input": body, **fields}


def bell() -> list[dict[str, Any]]:
    return [{"gate": "h", "target": 0}, {"gate": "cnot", "control": 0, "target": 1}]


def parse(raw: object, noisy_qpus: bool = False, **limits: Any) -> JobSpec:
    return parse_job(raw, EmulatorLimits(**limits), BACKENDS, noisy_qpus=noisy_qpus)


def read(circuit: QuantumCircuit) -> Circuit:
    return CircuitReader().read(qiskit_circ_to_ionq_circ(circuit)[0], circuit.num_qubits)


def dense(histograms: list[dict[int, float]], qubits: int) -> np.ndarray:
    return np.array([[row.get(outcome, 0.0) for outcome in range(1 << qubits)] for row in histograms])


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate[0])
def test_each_gate_has_its_unitary(gate: tuple[str, int, int]) -> None:
    rng = np.random.default_rng(3)
    circuit = QuantumCircuit(gate[2])
    add_random_gate(circuit, rng, *gate)
    parsed = read(circuit)
    assert len(parsed.gates) == 1
    only = parsed.gates[0]
    found = unitaries(only, np.array(parsed.angles * 2) if parsed.angles else None)
    assert len(found) == (2 if parsed.angles else 1)
    placed = QuantumCircuit(gate[2])
    placed.unitary(found[-1], [*only.targets, *only.controls])
    assert Operator(placed).equiv(Operator(circuit))


def test_template_circuits_are_the_same_as_json() -> None:
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(7, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    batch = overlap_circuits(SpanEncoding(vectors[0], vectors[1:], 3, 0.0), overlap_template(3))
    circuits = []
    reader = CircuitReader()
    for gates in batch.template.gates(batch.angles):
        circuit = QuantumCircuit(3)
        for gate in gates:
            if gate.name == "ry":
                circuit.ry(gate.angle, *gate.qubits)
            else:
                circuit.cx(*gate.qubits)
        circuits.append(reader.read(qiskit_circ_to_ionq_circ(circuit)[0], 3))
    found = dense(simulate_noisy(circuits, STRONG), 3)
    np.testing.assert_allclose(found, noisy_probabilities(batch, STRONG), atol=1e-12)


def test_without_noise_it_is_the_ideal_simulator_and_keeps_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantum_db.ionq.emulated_noise._CHUNK_NUMBERS", 2 * 4**3)
    monkeypatch.setattr("tests.unit.test_gate_simulator.GATES", [gate for gate in GATES if gate[2] < 3])
    rng = np.random.default_rng(8)
    shared = read(random_circuit(rng, 3, 20))
    circuits = [read(random_circuit(rng, 3, 20)) for _ in range(4)]
    circuits = [shared, circuits[0], shared, *circuits[1:], shared, shared]
    found = dense(simulate_noisy(circuits, IDEAL), 3)
    np.testing.assert_allclose(found, dense(simulate(circuits), 3), atol=1e-12)


def test_a_job_has_the_noise_that_it_or_its_machine_asks_for() -> None:
    assert set(QPU_NOISE) == set(BACKENDS) - {"simulator"}
    plain = parse(payload(bell()))
    assert (plain.noise, plain.samples) == (IDEAL, False)
    noisy = parse(payload(bell(), noise={"model": "aria-1", "seed": 5}))
    assert (noisy.noise, noisy.noise_seed, noisy.samples) == (ARIA_1, 5, True)
    for qpus, noise in ((False, IDEAL), (True, FORTE_1)):
        machine = parse(payload(bell(), backend="qpu.forte-1"), noisy_qpus=qpus)
        assert (machine.noise, machine.samples) == (noise, True)
    assert parse(payload(bell()), noisy_qpus=True).noise is IDEAL


def test_what_cannot_be_done_with_noise_is_refused() -> None:
    noise = {"model": "forte-1"}
    assert len(parse(payload(WIDE, 3)).circuits[0].gates) == 1
    with pytest.raises(ApiError, match="gates may act on one or two qubits"):
        parse(payload(WIDE, 3, noise=noise))
    assert parse(payload(bell(), 11)).circuits[0].qubits == 11
    with pytest.raises(ApiError, match="input has 11 qubits; with noise at most 10 are emulated"):
        parse(payload(bell(), 11, noise=noise))
    assert parse(payload(bell(), 4), updates=32).shots == 1_000
    with pytest.raises(ApiError, match="too large to emulate together"):
        parse(payload(bell(), 4, noise=noise), updates=511)
    assert parse(payload(bell(), 4, noise=noise), updates=512).noise is FORTE_1
    debiasing = {"error_mitigation": {"debiasing": True}}
    with pytest.raises(ApiError, match="debiasing is not emulated under the noise of forte-1"):
        parse(payload(bell(), backend="qpu.forte-1", settings=debiasing), noisy_qpus=True)


async def test_noisy_results_are_frequencies_that_the_seed_decides() -> None:
    jobs = EmulatedJobs(Clock())

    async def result(number: int | None, store_seed: int) -> bytes:
        noise = {"model": "aria-1"} if number is None else {"model": "aria-1", "seed": number}
        job = jobs.submit(parse(payload(bell(), noise=noise)))
        return await ResultStore(seed=store_seed).of_job(job)

    assert await result(5, 0) == await result(5, 1) != await result(6, 0)
    assert await result(None, 0) != await result(None, 0)  # jobs have streams of their own
    job = jobs.submit(parse(payload(bell(), noise={"model": "forte-1"})))
    body = job_body(job, jobs.clock.monotonic_s())
    assert (body["noise"], body["shots"]) == ({"model": "forte-1"}, 1_000)
