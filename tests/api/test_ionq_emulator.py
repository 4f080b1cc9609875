"""The emulator over real HTTP, driven by both of IonQ's own clients."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from ionq_core import AuthenticatedClient, IonQClient, JobFailedError, SessionManager, iter_jobs, wait_for_job
from ionq_core.api.backends import get_backend, get_backends
from ionq_core.api.characterizations import get_characterizations_for_backend
from ionq_core.api.default import (
    cancel_job,
    create_job,
    delete_job,
    estimate_job_cost,
    get_job,
    get_job_artifact,
    get_job_cost,
    get_job_probabilities,
    get_session_jobs,
)
from ionq_core.exceptions import AuthenticationError, BadRequestError, NotFoundError
from ionq_core.models import (
    CircuitJobCreationPayload,
    JobMetadata,
    JSONMultiCircuitJob,
    MultiCircuitJob,
    SingleCircuitJob,
)
from qiskit import QuantumCircuit
from qiskit.quantum_info import Statevector
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel as AerNoiseModel
from qiskit_aer.noise import depolarizing_error
from qiskit_ionq import ErrorMitigation, IonQProvider, Session
from qiskit_ionq.exceptions import IonQAPIError, IonQJobFailureError
from scipy.stats import chisquare

from quantum_db.circuits.encoding import SpanEncoding
from quantum_db.circuits.noise import ARIA_1, FORTE_1, NoiseModel, noisy_probabilities
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.simulator import probabilities
from quantum_db.clock import SystemClock
from quantum_db.ionq.backend import IonQBackend
from quantum_db.ionq.emulated_jobs import Delays, EmulatedJobs
from quantum_db.ionq.emulated_requests import EmulatorLimits, parse_job
from quantum_db.ionq.emulated_results import ResultStore
from quantum_db.ionq.emulated_views import BACKENDS
from quantum_db.ionq.emulator import main
from quantum_db.ionq.gate_simulator import Circuit, Histogram, simulate
from tests.api.emulator_server import TOKEN, Emulator, emulator_process, emulator_thread
from tests.api.ionq_jobs import run

FORTE = "qpu.forte-1"

pytestmark = pytest.mark.filterwarnings("ignore::qiskit_ionq.exceptions.IonQTranspileLevelWarning")


@pytest.fixture
def provider(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> IonQProvider:
    monkeypatch.setenv("QISKIT_IONQ_API_URL", emulator.url)  # else it asks the public host for qubit counts
    return IonQProvider(TOKEN, emulator.url)


@pytest.fixture
def core(emulator: Emulator) -> AuthenticatedClient:
    with pytest.warns(UserWarning, match="does not use HTTPS"):
        return IonQClient(api_key=TOKEN, base_url=emulator.url, max_retries=0)


def random_circuit(rng: np.random.Generator, qubits: int, depth: int = 25) -> QuantumCircuit:
    circuit = QuantumCircuit(qubits, qubits)
    for _ in range(depth):
        first, second = rng.choice(qubits, 2, replace=False).tolist()
        angle = rng.uniform(0, 2 * math.pi)
        match rng.integers(6):
            case 0:
                circuit.h(first)
            case 1:
                circuit.ry(angle, first)
            case 2:
                circuit.rx(angle, first)
            case 3:
                circuit.cx(first, second)
            case 4:
                circuit.rzz(angle, first, second)
            case _:
                circuit.cp(angle, first, second)
    circuit.measure(range(qubits), range(qubits))
    return circuit


def exact(circuit: QuantumCircuit) -> np.ndarray:
    return Statevector(circuit.remove_final_measurements(inplace=False)).probabilities()


def fits(counts: dict[str, int], probabilities: np.ndarray, error_rate: float = 1e-6) -> bool:
    """Whether the counts may come from the probabilities: a chi-squared test with this chance of a false alarm."""
    shots = sum(counts.values())
    observed = np.zeros(len(probabilities))
    for bits, count in counts.items():
        observed[int(bits, 2)] = count
    rare = probabilities * shots < 5.0
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(probabilities[~rare], probabilities[rare].sum()) * shots
    if expected[-1] < 1e-9:
        if observed[-1] > 0:
            return False
        observed, expected = observed[:-1], expected[:-1]
    return bool(chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > error_rate)


def bell() -> dict[str, Any]:
    gates = [{"gate": "h", "target": 0}, {"gate": "cnot", "control": 0, "target": 1}]
    return {"type": "ionq.circuit.v1", "backend": "simulator", "input": {"qubits": 2, "circuit": gates}}


# --- qiskit-ionq


def test_qiskit_runs_a_bell_pair(provider: IonQProvider, emulator: Emulator) -> None:
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure([0, 1], [0, 1])
    backend = provider.get_backend("simulator")
    assert backend.num_qubits == 20
    job = backend.run(circuit, shots=1_000, sampler_seed=5, extra_metadata={"job_key": "bell"})
    result = job.result(wait=0.01, timeout=30)
    counts = result.get_counts()
    assert set(counts) == {"00", "11"}
    assert sum(counts.values()) == 1_000
    assert emulator.ledger()["times_accepted"] == {"bell": 1}


def test_qiskit_gets_exact_probabilities_in_the_order_of_its_circuits(provider: IonQProvider) -> None:
    rng = np.random.default_rng(1)
    circuits = [random_circuit(rng, 4) for _ in range(6)]
    job = provider.get_backend("simulator").run(circuits, shots=100)
    job.wait_for_final_state(wait=0.01, timeout=30)
    found = job._client.get_results(job._results_urls["probabilities"])
    assert len(found) == 6
    for circuit, row in zip(circuits, found.values(), strict=True):
        dense = np.zeros(16)
        for outcome, probability in row.items():
            dense[int(outcome)] = probability
        np.testing.assert_allclose(dense, exact(circuit), atol=1e-12)


def test_a_qpu_target_draws_shots(provider: IonQProvider) -> None:
    rng = np.random.default_rng(2)
    circuits = [random_circuit(rng, 3) for _ in range(8)]
    circuits.append(circuits[0])
    backend = provider.get_backend(FORTE)
    job = backend.run(circuits, shots=5_000)
    counts = job.result(wait=0.01, timeout=30).get_counts()
    for circuit, row in zip(circuits, counts, strict=True):
        assert sum(row.values()) == 5_000
        assert fits(row, exact(circuit))
    assert not fits(counts[0], exact(circuits[1]))
    assert counts[0] != counts[-1]  # equal circuits draw from streams of their own
    assert backend.retrieve_job(job.job_id()).result(wait=0.01).get_counts() == counts


def test_qiskit_reads_estimate_calibration_and_children(provider: IonQProvider, emulator: Emulator) -> None:
    backend = provider.get_backend(FORTE)
    estimate = backend.client.estimate_job(backend=FORTE, oneq_gates=22, twoq_gates=20, qubits=4, shots=1_000)
    assert (estimate.cost, estimate.cost_unit) == (pytest.approx(80.30), "usd")
    calibration = backend.calibration()
    assert calibration is not None
    assert (calibration.qubits, calibration.median_spam_fidelity) == (20, 1.0)
    assert len(calibration.connectivity) == 190
    assert backend.status()
    circuit = random_circuit(np.random.default_rng(0), 2)
    job = backend.run([circuit] * 3, shots=500, error_mitigation=ErrorMitigation.DEBIASING)
    assert job.status(detailed=True)["completed"] == 3
    body = emulator.call("GET", f"/v0.4/jobs/{job.job_id()}").json()
    assert body["settings"] == {"error_mitigation": {"debiasing": True}}


def test_qiskit_cancels_deletes_and_sees_failure(provider: IonQProvider, emulator: Emulator) -> None:
    assert emulator.jobs is not None
    backend = provider.get_backend("simulator")
    circuit = random_circuit(np.random.default_rng(0), 2)
    emulator.jobs.delays = Delays(ready_s=600.0)
    job = backend.run(circuit)
    assert job.status().name == "QUEUED"
    job.cancel()
    with pytest.warns(UserWarning, match="Job was cancelled"):
        assert job.status().name == "CANCELLED"
    assert backend.client.delete_job(job.job_id()) == {"id": job.job_id(), "status": "deleted"}
    emulator.jobs.delays = Delays()
    emulator.plan({"effect": "fail_job", "request": "submit", "code": "QuantumComputerError"})
    with pytest.raises(IonQJobFailureError, match="QuantumComputerError: a planted fault"):
        backend.run(circuit).status()


def test_qiskit_sessions(provider: IonQProvider, emulator: Emulator) -> None:
    circuit = random_circuit(np.random.default_rng(0), 2)
    backend = provider.get_backend(FORTE)
    with Session(backend, max_jobs=1) as session:
        job = backend.run(circuit, session_id=session.session_id)
        assert job.result(wait=0.01).success
        with pytest.raises(IonQAPIError, match="the session takes 1 jobs"):
            backend.run(circuit, session_id=session.session_id)
    assert emulator.call("GET", f"/v0.4/sessions/{session.session_id}").json()["status"] == "ended"


def test_an_unknown_noise_model_is_refused_and_not_ignored(provider: IonQProvider, emulator: Emulator) -> None:
    backend = provider.get_backend("simulator")
    backend.set_options(noise_model="harmony")
    with pytest.raises(IonQAPIError, match="noise model 'harmony' is not emulated"):
        backend.run(random_circuit(np.random.default_rng(0), 2))
    assert emulator.ledger()["accepted"] == 0


def aer_probabilities(circuit: QuantumCircuit, noise: NoiseModel) -> np.ndarray:
    """What qiskit-aer's density matrix gives under the same noise, with readout errors on each qubit."""
    model = AerNoiseModel()
    model.add_all_qubit_quantum_error(depolarizing_error(noise.one_qubit, 1), ["h", "ry", "rx"])
    model.add_all_qubit_quantum_error(depolarizing_error(noise.two_qubit, 2), ["cx", "rzz", "cp"])
    bare = circuit.remove_final_measurements(inplace=False)
    bare.save_density_matrix()
    # Nothing may be transpiled: each gate of the circuit has its noise.
    density = AerSimulator(method="density_matrix").run(bare, noise_model=model).result().data()["density_matrix"]
    confusion = np.ones((1, 1))
    for _ in range(circuit.num_qubits):
        confusion = np.kron(noise.confusion(), confusion)
    return confusion @ np.real(np.diagonal(np.asarray(density)))


@pytest.mark.parametrize("noise", [ARIA_1, FORTE_1], ids=lambda noise: noise.name)
def test_qiskit_runs_under_a_noise_model(provider: IonQProvider, emulator: Emulator, noise: NoiseModel) -> None:
    """A chi-squared test with 1e-6 false alarms accepts the noisy probabilities and refuses the ideal ones."""
    rng = np.random.default_rng(4)
    circuits = [random_circuit(rng, 3, depth=40) for _ in range(4)]
    backend = provider.get_backend("simulator")
    backend.set_options(noise_model=noise.name, sampler_seed=7)
    shots = 200_000
    job = backend.run(circuits, shots=shots)
    counts = job.result(wait=0.01, timeout=30).get_counts()
    for circuit, row in zip(circuits, counts, strict=True):
        assert sum(row.values()) == shots
        assert fits(row, aer_probabilities(circuit, noise))
        assert not fits(row, exact(circuit))
    assert backend.run(circuits, shots=shots).result(wait=0.01).get_counts() == counts  # the seed is the submission's
    body = emulator.call("GET", f"/v0.4/jobs/{job.job_id()}").json()
    assert (body["noise"], body["shots"]) == ({"model": noise.name, "seed": 7}, shots)


def test_qpus_have_the_noise_of_their_names_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = random_circuit(np.random.default_rng(4), 3, depth=40)
    with emulator_thread(noisy_qpus=True) as emulator:
        monkeypatch.setenv("QISKIT_IONQ_API_URL", emulator.url)
        provider = IonQProvider(TOKEN, emulator.url)
        for name, noise in (("qpu.aria-1", ARIA_1), (FORTE, FORTE_1), ("qpu.forte-enterprise-1", FORTE_1)):
            backend = provider.get_backend(name)
            job = backend.run(circuit, shots=200_000, error_mitigation=ErrorMitigation.NO_DEBIASING)
            counts = job.result(wait=0.01, timeout=30).get_counts()
            assert fits(counts, aer_probabilities(circuit, noise))
            assert not fits(counts, exact(circuit))
            calibration = backend.calibration()
            assert calibration is not None
            assert calibration.median_spam_fidelity == pytest.approx(noise.spam_fidelity)
            assert (calibration.qubits, backend.num_qubits) == (10, 10)  # what can be emulated with noise
        with pytest.raises(IonQAPIError, match="debiasing is not emulated under the noise of forte-1"):
            backend.run(circuit, shots=500, error_mitigation=ErrorMitigation.DEBIASING)
        ideal = provider.get_backend("simulator").run(circuit, shots=100_000, sampler_seed=1)
        assert fits(ideal.result(wait=0.01, timeout=30).get_counts(), exact(circuit))


def test_overlap_circuits_through_the_backend_have_the_noise_of_their_gates() -> None:
    """Nothing on the way (conversion, JSON, parser) adds or drops a gate: the probabilities are those of the batch."""
    vectors = np.random.default_rng(2).normal(size=(5, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    batch = overlap_circuits(SpanEncoding(vectors[0], vectors[1:], 4, 0.0), overlap_template(4))
    with emulator_thread(noisy_qpus=True) as emulator:
        backend = IonQBackend(
            url=emulator.url, token=TOKEN, target="qpu.aria-1", clock=SystemClock(), rng=np.random.default_rng(0)
        )
        result = run(backend, batch, 10_000)
        backend.close()
    for counts, noisy, ideal in zip(
        result.counts, noisy_probabilities(batch, ARIA_1), probabilities(batch), strict=True
    ):
        row = {f"{outcome:b}": count for outcome, count in counts.items()}
        assert fits(row, noisy)
        assert not fits(row, ideal)


# --- ionq-core


def core_payload(backend: str = "simulator", **fields: Any) -> CircuitJobCreationPayload:
    return CircuitJobCreationPayload.from_dict({**bell(), "backend": backend, **fields} | _gateset(bell()["input"]))


def _gateset(body: dict[str, Any]) -> dict[str, Any]:
    return {"input": {"gateset": "qis", **body}}


def test_core_runs_a_single_circuit(core: AuthenticatedClient) -> None:
    created = create_job.sync(client=core, body=core_payload(metadata={"job_key": "one"}, shots=10))
    job = wait_for_job(core, created.id, poll_interval=0.01, timeout=30)
    assert isinstance(job, SingleCircuitJob)
    assert isinstance(job.metadata, JobMetadata)
    assert job.metadata["job_key"] == "one"
    assert job.stats.gate_counts["2q"] == 1
    found = get_job_probabilities.sync(uuid=job.id, client=core)
    assert found.additional_properties == pytest.approx({"0": 0.5, "3": 0.5})
    artifact = job.results["ionq.result.probabilities.json.v1"]
    answer = get_job_artifact.sync_detailed(uuid=job.id, artifact_id=artifact.id, client=core)
    assert json.loads(answer.content) == found.additional_properties
    assert get_job_cost.sync(uuid=job.id, client=core).to_dict() == {"dry_run": False}


def test_core_runs_several_circuits(core: AuthenticatedClient) -> None:
    flips = [[{"gate": "x", "target": qubit}] for qubit in range(5)]
    body = {
        "gateset": "qis",
        "qubits": 5,
        "circuits": [{"circuit": flip, "name": str(i)} for i, flip in enumerate(flips)],
    }
    payload = JSONMultiCircuitJob.from_dict(
        {"type": "ionq.multi-circuit.v1", "backend": FORTE, "shots": 7, "input": body}
    )
    created = create_job.sync(client=core, body=payload)
    job = wait_for_job(core, created.id, poll_interval=0.01, timeout=30)
    assert isinstance(job, MultiCircuitJob)
    assert job.child_job_ids is not None
    artifact = job.results["ionq.result.probabilities-aggregate.json.v1"]
    answer = get_job_artifact.sync_detailed(uuid=job.id, artifact_id=artifact.id, client=core)
    assert json.loads(answer.content) == {
        child: {str(1 << index): 1.0} for index, child in enumerate(job.child_job_ids)
    }
    child = get_job.sync(uuid=job.child_job_ids[3], client=core)
    assert isinstance(child, SingleCircuitJob)
    assert (child.parent_job_id, child.name, child.shots) == (job.id, "3", 7)
    found = get_job_probabilities.sync(uuid=child.id, client=core)
    assert found.additional_properties == {"8": 1.0}
    assert get_job_cost.sync(uuid=job.id, client=core).cost.value == pytest.approx(5 * (0.30 + 7 * 0.08))


def test_core_lists_cancels_and_deletes(core: AuthenticatedClient, emulator: Emulator) -> None:
    assert emulator.jobs is not None
    emulator.jobs.delays = Delays(submitted_s=600.0)
    ids = [create_job.sync(client=core, body=core_payload()).id for _ in range(5)]
    assert [job.id for job in iter_jobs(core, limit=2)] == ids[::-1]
    assert cancel_job.sync(uuid=ids[1], client=core).status == "canceled"
    assert [job.id for job in iter_jobs(core, status="canceled")] == [ids[1]]
    assert list(iter_jobs(core, target=FORTE)) == []
    assert delete_job.sync(uuid=ids[2], client=core).status == "deleted"
    with pytest.raises(NotFoundError):
        get_job.sync(uuid=ids[2], client=core)


def test_core_sees_failure(core: AuthenticatedClient, emulator: Emulator) -> None:
    emulator.plan({"effect": "fail_job", "request": "submit"})
    created = create_job.sync(client=core, body=core_payload())
    with pytest.raises(JobFailedError) as caught:
        wait_for_job(core, created.id, poll_interval=0.01, timeout=30)
    assert caught.value.failure.code == "SimulationError"


def test_core_reads_backends_estimates_and_characterizations(core: AuthenticatedClient) -> None:
    found = get_backends.sync(client=core)
    assert [backend.backend for backend in found] == ["simulator", "qpu.aria-1", FORTE, "qpu.forte-enterprise-1"]
    forte = get_backend.sync(backend=FORTE, client=core)
    page = get_characterizations_for_backend.sync(backend=FORTE, client=core)
    assert str(page.characterizations[0].id) == forte.characterization_id
    estimate = estimate_job_cost.sync(backend=FORTE, shots=1_000, field_1q_gates=22, field_2q_gates=20, client=core)
    assert estimate.estimated_total_cost == pytest.approx(80.30)
    assert estimate_job_cost.sync(backend="simulator", client=core).estimated_total_cost == 0.0


def test_core_sessions(core: AuthenticatedClient) -> None:
    with SessionManager(core, FORTE, max_jobs=3, max_time=5, max_cost=100.0) as session:
        assert session.status() == "created"
        created = create_job.sync(client=core, body=core_payload(FORTE, session_id=session.session_id))
        assert session.status() == "started"
        jobs = get_session_jobs.sync(session_id_path=session.session_id, client=core).jobs
        assert [job.id for job in jobs] == [created.id]
    assert session.status() == "ended"


def test_core_is_refused_by_name(core: AuthenticatedClient, emulator: Emulator) -> None:
    with pytest.raises(BadRequestError, match="shots must be") as caught:
        create_job.sync(client=core, body=core_payload(shots=0))
    assert caught.value.body["validation"] == {"source": "payload", "keys": ["shots"]}
    with pytest.warns(UserWarning, match="HTTPS"):
        stranger = IonQClient(api_key="another", base_url=emulator.url, max_retries=0)
    with pytest.raises(AuthenticationError):
        get_job.sync(uuid="1", client=stranger)


# --- the API itself


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v0.4/jobs"),
        ("GET", "/v0.4/jobs"),
        ("GET", "/v0.4/jobs/estimate?backend=simulator"),
        ("GET", "/v0.4/jobs/1"),
        ("DELETE", "/v0.4/jobs/1"),
        ("PUT", "/v0.4/jobs/1/status/cancel"),
        ("GET", "/v0.4/jobs/1/cost"),
        ("GET", "/v0.4/jobs/1/results/probabilities"),
        ("GET", "/v0.4/jobs/1/results/probabilities/aggregated"),
        ("GET", "/v0.4/jobs/1/artifacts/1"),
        ("GET", f"/v0.4/backends/{FORTE}/characterizations"),
        ("GET", f"/v0.4/backends/{FORTE}/characterizations/1"),
        ("POST", "/v0.4/sessions"),
        ("GET", "/v0.4/sessions"),
        ("GET", "/v0.4/sessions/1"),
        ("POST", "/v0.4/sessions/1/end"),
        ("GET", "/v0.4/sessions/1/jobs"),
        ("PUT", "/emulator/faults"),
        ("GET", "/emulator/faults"),
        ("GET", "/emulator/ledger"),
        ("POST", "/emulator/reset"),
    ],
)
@pytest.mark.parametrize("authorization", [None, "apiKey wrong", f"Bearer {TOKEN}", f"apiKey {TOKEN}x"])
def test_without_the_key_there_is_only_401(
    emulator: Emulator, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = requests.request(method, emulator.root + path, headers=headers, timeout=30)
    assert answer.status_code == 401
    assert answer.json()["statusCode"] == 401
    assert TOKEN not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "message"),
    [
        ("GET", "/v0.4/nothing", {}, 404, "Not Found"),
        ("PATCH", "/v0.4/jobs", {}, 405, "Method Not Allowed"),
        ("GET", "/v0.4/jobs/1", {}, 404, "there is no job 1"),
        ("GET", "/v0.4/jobs?limit=0", {}, 400, "query.limit"),
        ("GET", "/v0.4/jobs?status=done", {}, 400, "query.status"),
        ("GET", "/v0.4/jobs?next=x", {}, 400, "an earlier page"),
        ("GET", "/v0.4/jobs/1/results/probabilities?sharpen=true", {}, 400, "sharpen is not emulated"),
        ("GET", "/v0.4/jobs/estimate", {}, 400, "query.backend"),
        ("GET", "/v0.4/jobs/estimate?backend=qpu.x", {}, 404, "there is no backend 'qpu.x'"),
        ("GET", "/v0.4/backends/qpu.x", {}, 404, "there is no backend 'qpu.x'"),
        ("POST", "/v0.4/jobs", {"data": b"{"}, 400, "the body is not JSON"),
        ("POST", "/v0.4/jobs", {"data": b"NaN"}, 400, "the body is not JSON"),
        ("POST", "/v0.4/jobs", {"json": [1]}, 400, "must be a JSON object"),
        ("POST", "/v0.4/sessions", {"json": {"backend": "qpu.x"}}, 400, "backend must be one of"),
        ("POST", "/v0.4/sessions", {"json": {"backend": FORTE, "settings": {"x": 1}}}, 400, "settings may hold"),
        ("PUT", "/emulator/faults", {"json": {"rules": [{}]}}, 400, "with an effect"),
    ],
)
def test_errors_have_ionqs_shape(
    emulator: Emulator, method: str, path: str, options: dict[str, Any], status: int, message: str
) -> None:
    answer = emulator.call(method, path, **options)
    body = answer.json()
    assert (answer.status_code, body["statusCode"]) == (status, status)
    assert message in body["message"]
    assert isinstance(body["error"], str)


def test_results_are_there_when_the_job_is_completed_and_in_one_place(emulator: Emulator) -> None:
    assert emulator.jobs is not None
    emulator.jobs.delays = Delays(started_s=600.0)
    waiting = emulator.call("POST", "/v0.4/jobs", json=bell()).json()["id"]
    answer = emulator.call("GET", f"/v0.4/jobs/{waiting}/results/probabilities")
    assert (answer.status_code, answer.json()["message"]) == (404, "the job is started; it has no results")
    emulator.jobs.delays = Delays()
    done = emulator.call("POST", "/v0.4/jobs", json=bell()).json()["id"]
    assert emulator.call("GET", f"/v0.4/jobs/{done}/results/probabilities/aggregated").status_code == 404
    assert emulator.call("GET", f"/v0.4/jobs/{done}/artifacts/{done}").status_code == 404
    assert emulator.call("PUT", f"/v0.4/jobs/{done}/status/cancel").status_code == 409


def test_bodies_above_the_limit_are_413() -> None:
    with emulator_thread(limits=EmulatorLimits(body_bytes=1_000)) as emulator:
        body = json.dumps({**bell(), "name": "x" * 1_000}).encode()
        assert emulator.call("POST", "/v0.4/jobs", data=body).status_code == 413
        assert emulator.call("POST", "/v0.4/jobs", data=iter([body[:500], body[500:]])).status_code == 413
        assert emulator.call("POST", "/v0.4/jobs", json=bell()).status_code == 201


def test_a_large_job_is_parsed_and_refused_by_its_gates(emulator: Emulator) -> None:
    circuits = [{"circuit": [{"gate": "x", "target": 0}] * 31} for _ in range(4_839)]
    body = {"type": "ionq.multi-circuit.v1", "backend": "simulator", "input": {"qubits": 1, "circuits": circuits}}
    answer = emulator.call("POST", "/v0.4/jobs", json=body)
    assert (answer.status_code, answer.json()["message"]) == (400, "a job may hold 150000 gates over all circuits")
    body["input"]["circuits"] = circuits[:4_838]
    assert emulator.call("POST", "/v0.4/jobs", json=body).status_code == 201


def test_control_routes_are_off_unless_asked_for() -> None:
    with emulator_thread(control=False) as emulator:
        for method, path in (("PUT", "faults"), ("GET", "faults"), ("GET", "ledger"), ("POST", "reset")):
            assert emulator.call(method, f"/emulator/{path}", json={}).status_code == 404


def test_a_running_simulation_holds_up_nobody_and_runs_once() -> None:
    entered, release = threading.Event(), threading.Event()
    runs = []

    def slow(circuits: Sequence[Circuit]) -> list[Histogram]:
        runs.append(len(circuits))
        entered.set()
        assert release.wait(30)
        return simulate(circuits)

    with emulator_thread(run=slow) as emulator:
        job_id = emulator.call("POST", "/v0.4/jobs", json=bell()).json()["id"]
        answers: list[requests.Response] = []

        def ask() -> None:
            answers.append(emulator.call("GET", f"/v0.4/jobs/{job_id}/results/probabilities"))

        askers = [threading.Thread(target=ask) for _ in range(3)]
        for asker in askers:
            asker.start()
        try:
            assert entered.wait(30)
            assert emulator.call("GET", "/v0.4/backends").status_code == 200
            assert answers == []
        finally:
            release.set()
        for asker in askers:
            asker.join(30)
    assert [answer.json() for answer in answers] == [pytest.approx({"0": 0.5, "3": 0.5})] * 3
    assert runs == [1]


def test_a_failing_simulation_is_an_error_and_is_tried_again() -> None:
    def broken(circuits: Sequence[Circuit]) -> list[Histogram]:
        runs.append(1)
        if len(runs) == 1:
            raise MemoryError
        return simulate(circuits)

    runs: list[int] = []
    with emulator_thread(run=broken) as emulator:
        job_id = emulator.call("POST", "/v0.4/jobs", json=bell()).json()["id"]
        statuses = [emulator.call("GET", f"/v0.4/jobs/{job_id}/results/probabilities").status_code for _ in range(3)]
    assert statuses == [500, 200, 200]
    assert len(runs) == 2


def test_planted_faults_strike_as_they_say(emulator: Emulator) -> None:
    emulator.plan(
        {"effect": "status", "status": 429, "retry_after_s": 1.5, "request": "list", "times": 1},
        {"effect": "cut", "request": "list", "times": 1},
        {"effect": "hang", "hang_s": 0.3, "request": "list", "times": 1},
        {"effect": "status", "status": 522, "carried_out": True, "request": "submit", "times": 1},
        {"effect": "hang", "hang_s": 1.0, "request": "submit", "times": 1},
    )
    limited = emulator.call("GET", "/v0.4/jobs")
    assert (limited.status_code, limited.headers["Retry-After"]) == (429, "1.5")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        emulator.call("GET", "/v0.4/jobs")
    with pytest.raises(requests.ReadTimeout):
        emulator.call("GET", "/v0.4/jobs", timeout=0.1)
    assert emulator.call("GET", "/v0.4/jobs").status_code == 200
    lost = emulator.call("POST", "/v0.4/jobs", json=bell())
    assert (lost.status_code, lost.json()["error"]) == (522, "Error")
    assert emulator.ledger()["accepted"] == 1
    with pytest.raises(requests.ReadTimeout):
        emulator.call("POST", "/v0.4/jobs", json=bell(), timeout=0.1)
    assert emulator.ledger()["accepted"] == 1
    assert emulator.struck() == [1, 1, 1, 1, 1]


def test_a_hanging_request_goes_on_after_the_hang(emulator: Emulator) -> None:
    emulator.plan({"effect": "hang", "hang_s": 0.1, "request": "submit", "times": 1})
    answer = emulator.call("POST", "/v0.4/jobs", json=bell())
    assert answer.status_code == 201
    emulator.plan({"effect": "hang", "hang_s": 0.1, "carried_out": True, "request": "status"})
    assert emulator.call("GET", f"/v0.4/jobs/{answer.json()['id']}").json()["status"] == "completed"


# --- the program


def test_the_program_serves_a_fault_plan_from_a_file(tmp_path: Path) -> None:
    plan = tmp_path / "faults.json"
    plan.write_text(json.dumps({"rules": [{"effect": "status", "status": 502, "request": "submit", "times": 1}]}))
    with emulator_process(
        "--faults", str(plan), "--max-qubits", "7", "--qpu-price", "azure", "--ready-s", "600", "--noisy-qpus"
    ) as program:
        assert program.root.startswith("http://127.0.0.1:")
        assert program.call("GET", "/v0.4/backends/simulator").json()["qubits"] == 7
        page = program.call("GET", f"/v0.4/backends/{FORTE}/characterizations").json()
        assert page["characterizations"][0]["fidelity"]["2q"]["median"] == FORTE_1.two_qubit_fidelity
        assert program.call("POST", "/v0.4/jobs", json=bell()).status_code == 502
        answer = program.call("POST", "/v0.4/jobs", json={**bell(), "backend": FORTE})
        assert answer.json()["status"] == "ready"
        cost = program.call("GET", f"/v0.4/jobs/{answer.json()['id']}/cost").json()
        assert cost["estimated_cost"] == {"value": 12.4166, "unit": "usd"}
        assert program.call("GET", "/emulator/ledger").status_code == 404


@pytest.mark.parametrize(
    ("arguments", "token", "message"),
    [
        (["--token-env", "NO_SUCH_VARIABLE"], TOKEN, "NO_SUCH_VARIABLE must hold the API key"),
        ([], "", "IONQ_EMULATOR_TOKEN must hold the API key"),
        (["--faults", "/nonexistent.json"], TOKEN, "--faults /nonexistent.json"),
        (["--max-qubits", "21"], TOKEN, "--max-qubits"),
        (["--ready-s", "-1"], TOKEN, "--ready-s"),
    ],
)
def test_the_program_does_not_start_half_configured(
    arguments: list[str],
    token: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("IONQ_EMULATOR_TOKEN", token)
    try:
        code: object = main(["--port", "0", *arguments])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("kept_bytes", [0, 10_000])
async def test_evicted_results_are_simulated_again_and_come_out_the_same(kept_bytes: int) -> None:
    runs: list[int] = []

    def counting(circuits: Sequence[Circuit]) -> list[Histogram]:
        runs.append(len(circuits))
        return simulate(circuits)

    accepted = EmulatedJobs(SystemClock())
    spec = parse_job({**bell(), "backend": FORTE, "shots": 1_000}, EmulatorLimits(), BACKENDS)
    jobs = [accepted.submit(spec) for _ in range(3)]
    store = ResultStore(run=counting, seed=9, kept_bytes=kept_bytes)
    first = [await store.of_job(job) for job in jobs]
    assert [await store.of_job(job) for job in jobs] == first
    assert len(runs) == (6 if kept_bytes == 0 else 3)
    assert len(set(first)) > 1
