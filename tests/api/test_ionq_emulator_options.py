"""The emulator's options over real HTTP: lagging lists, shuffled results, queue times, and children in pages."""

from __future__ import annotations

from typing import Any

import pytest
from ionq_core import AuthenticatedClient, IonQClient, iter_jobs
from ionq_core.api.backends import get_backend
from ionq_core.api.default import create_job, estimate_job_cost, get_job, get_job_cost, get_jobs
from ionq_core.models import JSONMultiCircuitJob
from qiskit import QuantumCircuit
from qiskit_ionq import IonQProvider

from quantum_db.ionq.emulated_jobs import Delays
from tests.api.emulator_server import TOKEN, Emulator, emulator_process, emulator_thread

FORTE = "qpu.forte-1"

pytestmark = pytest.mark.filterwarnings("ignore::qiskit_ionq.exceptions.IonQTranspileLevelWarning")


def core_of(emulator: Emulator) -> AuthenticatedClient:
    with pytest.warns(UserWarning, match="does not use HTTPS"):
        return IonQClient(api_key=TOKEN, base_url=emulator.url, max_retries=0)


def flips(count: int, backend: str = "simulator") -> dict[str, Any]:
    """Return a job whose circuit number n has the one outcome n."""
    circuits = []
    for number in range(count):
        bits = [5, 5, *(bit for bit in range(6) if number >> bit & 1)]  # two that cancel, so that there is a gate
        circuits.append({"name": str(number), "circuit": [{"gate": "x", "target": bit} for bit in bits]})
    body = {"gateset": "qis", "qubits": 6, "circuits": circuits}
    return {"type": "ionq.multi-circuit.v1", "backend": backend, "shots": 10, "input": body}


def keys_of(emulator: Emulator, job_id: str) -> list[int]:
    """Return the numbers of the circuits in the order in which their results stand in the JSON."""
    found = emulator.call("GET", f"/v0.4/jobs/{job_id}/results/probabilities/aggregated").json()
    return [int(outcome) for row in found.values() for outcome in row]


def test_shuffled_results_have_a_seeded_order_that_qiskit_ionq_falls_for(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = []
    for seed in (1, 1, 2):
        with emulator_thread(seed=seed, shuffle_results=True) as emulator:
            ids = [emulator.call("POST", "/v0.4/jobs", json=flips(40)).json()["id"] for _ in range(2)]
            orders.append([keys_of(emulator, job_id) for job_id in ids])
            children = emulator.call("GET", f"/v0.4/jobs/{ids[0]}").json()["child_job_ids"]
            third = emulator.call("GET", f"/v0.4/jobs/{children[3]}/results/probabilities").json()
            assert third == {"3": 1.0}  # a circuit's own result is where it was
            monkeypatch.setenv("QISKIT_IONQ_API_URL", emulator.url)
            circuits = [QuantumCircuit(3, 3) for _ in range(8)]
            for number, circuit in enumerate(circuits):
                for bit in range(3):
                    if number >> bit & 1:
                        circuit.x(bit)
                circuit.measure(range(3), range(3))
            job = IonQProvider(TOKEN, emulator.url).get_backend("simulator").run(circuits, shots=5)
            counts = job.result(wait=0.01, timeout=30).get_counts()
            assert counts != [{f"{number:03b}": 5} for number in range(8)]
            assert sorted(map(str, counts)) == sorted(str({f"{number:03b}": 5}) for number in range(8))
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][0] != orders[0][1]
    for first, second in orders:
        assert sorted(first) == sorted(second) == list(range(40))
        assert first != list(range(40))


def test_without_the_option_results_keep_the_order(emulator: Emulator) -> None:
    job_id = emulator.call("POST", "/v0.4/jobs", json=flips(40)).json()["id"]
    assert keys_of(emulator, job_id) == list(range(40))


def test_children_come_in_pages(emulator: Emulator) -> None:
    core = core_of(emulator)
    job_id = create_job.sync(client=core, body=JSONMultiCircuitJob.from_dict(flips(25))).id
    names, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        options = {} if cursor is None else {"next_": cursor}
        page = get_jobs.sync(client=core, parent_job_id=job_id, limit=10, **options)
        names += [child.name for child in page.jobs]
        assert {child.parent_job_id for child in page.jobs} == {job_id}
        cursor, pages = page.next_, pages + 1
    assert (names, pages) == ([str(number) for number in range(25)], 3)


def test_a_new_job_and_its_children_are_listed_later(emulator: Emulator) -> None:
    assert emulator.jobs is not None
    emulator.jobs.listing_lag_s = 600.0
    core = core_of(emulator)
    job_id = create_job.sync(client=core, body=JSONMultiCircuitJob.from_dict(flips(3))).id
    assert list(iter_jobs(core)) == []
    assert get_jobs.sync(client=core, parent_job_id=job_id).jobs == []
    assert get_job.sync(uuid=job_id, client=core).status == "completed"
    emulator.jobs.listing_lag_s = 0.0
    assert [job.id for job in iter_jobs(core)] == [job_id]
    assert len(get_jobs.sync(client=core, parent_job_id=job_id).jobs) == 3


def test_the_queue_time_is_told_to_both_clients(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    assert emulator.jobs is not None
    core = core_of(emulator)
    assert get_backend.sync(backend=FORTE, client=core).average_queue_time == 0
    emulator.jobs.queue_time_s = 1181.215
    assert get_backend.sync(backend=FORTE, client=core).average_queue_time == 1_181_215
    assert estimate_job_cost.sync(backend=FORTE, client=core).current_predicted_queue_time == 1_181_215
    monkeypatch.setenv("QISKIT_IONQ_API_URL", emulator.url)
    client = IonQProvider(TOKEN, emulator.url).get_backend(FORTE).client
    estimate = client.estimate_job(backend=FORTE, oneq_gates=1, twoq_gates=1, qubits=2, shots=10)
    assert estimate.queue_time == 1_181_215


def test_the_cost_is_told_when_there_is_one(emulator: Emulator) -> None:
    assert emulator.jobs is not None
    core = core_of(emulator)
    emulator.jobs.delays = Delays(ready_s=600.0)
    waiting = create_job.sync(client=core, body=JSONMultiCircuitJob.from_dict(flips(3, FORTE))).id
    cost = get_job_cost.sync(uuid=waiting, client=core).to_dict()
    assert cost == {"dry_run": False, "estimated_cost": {"value": pytest.approx(3 * 1.10), "unit": "usd"}}
    emulator.jobs.delays = Delays()
    done = create_job.sync(client=core, body=JSONMultiCircuitJob.from_dict(flips(3, FORTE))).id
    assert get_job_cost.sync(uuid=done, client=core).cost.to_dict() == {"value": pytest.approx(3.30), "unit": "usd"}
    child = get_job.sync(uuid=done, client=core).child_job_ids[0]
    assert get_job_cost.sync(uuid=child, client=core).cost.value == pytest.approx(1.10)


def test_the_ledger_has_a_high_water_mark_for_each_backend(emulator: Emulator) -> None:
    assert emulator.jobs is not None
    emulator.jobs.delays = Delays(ready_s=600.0)
    for backend in ("simulator", FORTE, FORTE):
        assert emulator.call("POST", "/v0.4/jobs", json=flips(1, backend)).status_code == 201
    ledger = emulator.ledger()
    assert (ledger["high_water_mark"], ledger["high_water_marks"]) == (3, {"simulator": 1, FORTE: 2})


def test_the_program_has_the_options() -> None:
    options = ("--shuffle-results", "--seed", "5", "--listing-lag-s", "600", "--queue-time-s", "42")
    with emulator_process(*options) as program:
        job_id = program.call("POST", "/v0.4/jobs", json=flips(40)).json()["id"]
        assert keys_of(program, job_id) != list(range(40))
        assert program.call("GET", "/v0.4/jobs").json()["jobs"] == []
        assert program.call("GET", f"/v0.4/backends/{FORTE}").json()["average_queue_time"] == 42_000
