"""The adapter against the emulator over real HTTP: results, costs, estimates and limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from quantum_db.backend_ports import BackendLimits, JobEstimate, QuantumProvider
from quantum_db.circuits.template import CX, CircuitBatch, MultiplexedRY, Template, content_key
from quantum_db.clock import SystemClock
from quantum_db.errors import InvalidCircuit, InvalidSettings, JobFailed, Unavailable
from quantum_db.ionq.backend import IonQBackend
from quantum_db.ionq.emulated_jobs import Delays, EmulatedJobs
from quantum_db.ionq.emulated_requests import EmulatorLimits
from quantum_db.ionq.gate_simulator import Circuit, Histogram, simulate
from quantum_db.ionq.pricing import AZURE, BRAKET_FORTE
from tests.api.emulator_server import Emulator, emulator_thread
from tests.api.ionq_jobs import FORTE, LONG_S, agrees, backend_of, labelled, overlaps, qubits_of, run, submit

# --- results


def test_it_is_a_quantum_provider(emulator: Emulator) -> None:
    backend: QuantumProvider = backend_of(emulator, name="ionq-emulator")
    assert backend.name == "ionq-emulator"
    assert backend.limits == BackendLimits(20, 5_000, 150_000, 1_000_000)
    assert backend.limits == BackendLimits(20, 5_000, 150_000, 1_000_000)
    assert emulator.calls() == {"backends": 1}
    assert backend_of(emulator, target=FORTE).limits.max_shots == 10_000


def test_simulated_shots_agree_with_linear_algebra(backend: IonQBackend, emulator: Emulator) -> None:
    batch = overlaps(20)
    result = run(backend, batch, 20_000, job_key="k1")
    assert agrees(result, batch)
    assert [sum(counts.values()) for counts in result.counts] == [20_000] * 20
    assert (result.provenance, result.backend, result.cost_usd) == ("emulator", "ionq", 0.0)
    ledger = emulator.ledger()
    assert ledger["times_accepted"] == {"k1": 1}
    assert result.provider_job_ids == (ledger["entries"][0]["job_id"],)
    assert emulator.calls() == {"submit": 1, "status": 1, "results": 1}


def test_the_check_of_agreement_finds_another_circuits_counts(backend: IonQBackend) -> None:
    batch = overlaps(2)
    result = run(backend, batch, 20_000)
    swapped = CircuitBatch(batch.template, batch.angles[::-1])
    assert agrees(result, batch)
    assert not agrees(result, swapped)


@pytest.mark.parametrize("target", ["simulator", FORTE])
def test_circuits_and_qubits_keep_their_order(emulator: Emulator, target: str) -> None:
    outcomes = [*range(32), 5, 5, 0]
    result = run(backend_of(emulator, target=target), labelled(outcomes, 5), 11)
    assert result.counts == tuple({outcome: 11} for outcome in outcomes)


@pytest.mark.parametrize("noisy", [False, True], ids=["ideal", "noisy"])
def test_parts_of_different_structure_and_size_go_as_one_job(noisy: bool) -> None:
    parts = [labelled([5, 2], 3), overlaps(2), labelled([1], 1), labelled([9], 4)]
    with emulator_thread(noisy_qpus=noisy) as emulator:
        backend = backend_of(emulator, target=FORTE)
        job_id = backend.submit(parts, 2_000, job_key="k", timeout_s=LONG_S)
        counts = backend.collect(job_id, qubits_of(*parts), 2_000, timeout_s=LONG_S).result.counts
        ledger = emulator.ledger()
        body = emulator.call("GET", f"/v0.4/jobs/{job_id}").json()
        children = emulator.call("GET", "/v0.4/jobs", params={"parent_job_id": job_id}).json()["jobs"]
    assert (ledger["accepted"], ledger["entries"][0]["circuits"]) == (1, 6)
    assert [max(row, key=row.__getitem__) for row in (*counts[:2], *counts[4:])] == [5, 2, 1, 9]
    assert [child["stats"]["qubits"] for child in children] == [3, 3, 2, 2, 1, 4]  # each circuit has its own alone
    assert body["stats"]["qubits"] == 4


def test_one_circuit_is_a_job_of_one_circuit(backend: IonQBackend, emulator: Emulator) -> None:
    result = run(backend, labelled([6], 3), 10)
    assert result.counts == ({6: 10},)
    assert emulator.call("GET", f"/v0.4/jobs/{result.provider_job_ids[0]}").json()["type"] == "ionq.circuit.v1"


def test_an_idle_qubit_is_a_qubit(backend: IonQBackend, emulator: Emulator) -> None:
    steps = (MultiplexedRY(0, (), 0),)
    batch = CircuitBatch(Template(content_key(3, steps), 3, steps), np.array([[math.pi]]))
    result = run(backend, batch, 10)
    assert result.counts == ({1: 10},)
    job = emulator.call("GET", f"/v0.4/jobs/{result.provider_job_ids[0]}").json()
    assert job["stats"]["qubits"] == 3


def test_controlled_gates_have_control_and_target(backend: IonQBackend) -> None:
    steps = (MultiplexedRY(0, (), 0), CX(0, 2))
    template = Template(content_key(3, steps), 3, steps)
    batch = CircuitBatch(template, np.array([[math.pi], [0.0]]))
    assert run(backend, batch, 7).counts == ({5: 7}, {0: 7})


def test_equal_circuits_draw_from_streams_of_their_own_and_a_seed_repeats_them(emulator: Emulator) -> None:
    batch = overlaps(1)
    batch = CircuitBatch(batch.template, np.repeat(batch.angles, 4, axis=0))
    first, again = (run(backend_of(emulator, rng=np.random.default_rng(5)), batch, 5_000).counts for _ in range(2))
    assert first == again
    assert len({tuple(sorted(counts.items())) for counts in first}) == 4


def test_error_mitigation_is_asked_for(emulator: Emulator) -> None:
    result = run(backend_of(emulator, target=FORTE, error_mitigation=True), labelled([1], 1), 500)
    job = emulator.call("GET", f"/v0.4/jobs/{result.provider_job_ids[0]}").json()
    assert job["settings"] == {"error_mitigation": {"debiasing": True}}


def test_the_largest_job_fits(backend: IonQBackend) -> None:
    outcomes = [index % 2 for index in range(5_000)]
    assert run(backend, labelled(outcomes, 1), 3).counts == tuple({outcome: 3} for outcome in outcomes)


def planted(change: Callable[[list[Histogram]], list[Histogram]]) -> Callable[[Sequence[Circuit]], list[Histogram]]:
    return lambda circuits: change(simulate(circuits))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda rows: [{k: 0.999 * p for k, p in row.items()} for row in rows], "sum to 0.999"),
        (lambda rows: [{k + 8: p for k, p in row.items()} for row in rows], "3 qubits do not have"),
        (lambda rows: [{**row, 0: -row.get(0, 0.5)} for row in rows], "sum to"),
    ],
)
def test_what_is_not_a_distribution_is_found(change: Any, what: str) -> None:
    with emulator_thread(run=planted(change)) as emulator, pytest.raises(JobFailed, match=what):
        run(backend_of(emulator), overlaps(6, qubits=3), 100)


def test_a_provider_that_mixes_up_circuits_is_found_by_the_check_of_agreement() -> None:
    batch = overlaps(3)
    with emulator_thread(run=planted(lambda rows: rows[1:] + rows[:1])) as emulator:
        assert not agrees(run(backend_of(emulator), batch, 5_000), batch)
    with emulator_thread(run=planted(lambda rows: rows)) as emulator:
        assert agrees(run(backend_of(emulator), batch, 5_000), batch)


def test_a_result_that_is_not_as_large_as_what_was_submitted_is_found(backend: IonQBackend) -> None:
    job_id = submit(backend, labelled([3, 1], 2), 5)
    with pytest.raises(JobFailed, match="results of 2 circuits; 3 were submitted"):
        backend.collect(job_id, [2, 2, 2], 5, timeout_s=LONG_S)
    with pytest.raises(JobFailed, match="1 qubits do not have"):
        backend.collect(job_id, [1, 1], 5, timeout_s=LONG_S)


# --- costs


def test_a_qpu_target_returns_its_own_shots_and_tells_its_cost(emulator: Emulator) -> None:
    backend = backend_of(emulator, target=FORTE, price_model=BRAKET_FORTE)
    batch = overlaps(3)
    job_id = submit(backend, batch, 4_000)
    collected = backend.collect(job_id, qubits_of(batch), 4_000, timeout_s=LONG_S)
    result = collected.result
    assert agrees(result, batch)
    assert [sum(counts.values()) for counts in result.counts] == [4_000] * 3
    assert collected.told_cost_usd == pytest.approx(3 * (0.30 + 4_000 * 0.08))
    assert collected.told_cost_usd == pytest.approx(emulator.ledger()["entries"][0]["cost_usd"])
    assert (result.cost_usd, result.provenance) == (collected.told_cost_usd, "emulator")
    job = emulator.call("GET", f"/v0.4/jobs/{result.provider_job_ids[0]}").json()
    assert job["settings"] == {"error_mitigation": {"debiasing": False}}
    assert backend.collect(job_id, qubits_of(batch), 4_000, timeout_s=LONG_S) == collected


@pytest.mark.parametrize(
    "fault",
    [{"effect": "status", "status": 403}, {"effect": "status", "status": 503}, {"effect": "cut"}],
    ids=["403", "503", "cut"],
)
def test_where_the_provider_does_not_tell_the_cost_it_is_the_list_price_of_what_ran(
    emulator: Emulator, fault: dict[str, Any]
) -> None:
    backend = backend_of(emulator, target=FORTE, price_model=AZURE)
    batch = overlaps(3)
    job_id = submit(backend, batch, 9_000)
    emulator.plan({**fault, "request": "other"})
    collected = backend.collect(job_id, qubits_of(batch), 9_000, timeout_s=LONG_S)
    two = batch.template.two_qubit_gates
    one = len(batch.template.structure) - two
    assert collected.told_cost_usd is None
    assert collected.result.cost_usd == pytest.approx(AZURE.cost_usd(3, 9_000, one, two))
    assert collected.result.cost_usd > 3 * AZURE.minimum_usd


def test_the_simulator_costs_nothing_whatever_the_price_model_says(emulator: Emulator) -> None:
    backend = backend_of(emulator, price_model=BRAKET_FORTE)
    job_id = submit(backend, labelled([1], 1), 5)
    collected = backend.collect(job_id, [1], 5, timeout_s=LONG_S)
    assert (collected.told_cost_usd, collected.result.cost_usd) == (None, 0.0)


def test_an_estimate_is_the_sum_over_the_circuits(emulator: Emulator) -> None:
    assert emulator.jobs is not None
    emulator.jobs.queue_time_s = 90.0
    emulator.jobs.delays = Delays(started_s=2.0)
    parts = [overlaps(4), labelled([1, 2], 2), overlaps(4, seed=9)]
    assert backend_of(emulator, target=FORTE).estimate(parts, 1_000, timeout_s=LONG_S) == JobEstimate(
        pytest.approx(10 * 80.30), 90.0, 20.0
    )
    assert emulator.calls() == {"estimate": 2}  # two structures
    assert backend_of(emulator).estimate(parts, 1_000, timeout_s=LONG_S).cost_usd == 0.0


def test_an_estimate_goes_by_the_gates() -> None:
    batch = overlaps(2)
    two = batch.template.two_qubit_gates
    with emulator_thread(EmulatedJobs(SystemClock(), qpu_price=AZURE)) as emulator:
        estimate = backend_of(emulator, target=FORTE).estimate([batch], 9_000, timeout_s=LONG_S)
    assert estimate.cost_usd == pytest.approx(AZURE.cost_usd(2, 9_000, len(batch.template.structure) - two, two))
    assert estimate.cost_usd > 2 * AZURE.minimum_usd


def test_an_estimate_that_is_refused_or_fails_is_an_error(backend: IonQBackend, emulator: Emulator) -> None:
    emulator.plan({"effect": "status", "status": 400, "request": "estimate"})
    with pytest.raises(JobFailed, match="refused to estimate the job: HTTP 400"):
        backend.estimate([labelled([1], 1)], 5, timeout_s=LONG_S)
    emulator.plan({"effect": "status", "status": 503, "request": "estimate"})
    with pytest.raises(Unavailable, match="does not answer: HTTP 503"):
        backend.estimate([labelled([1], 1)], 5, timeout_s=LONG_S)
    assert emulator.calls() == {"estimate": 3}


def test_the_queue_time_is_asked_each_time(backend: IonQBackend, emulator: Emulator) -> None:
    assert emulator.jobs is not None
    for queue_time_s in (0.0, 1181.215):
        emulator.jobs.queue_time_s = queue_time_s
        assert backend.queue_time_s(timeout_s=LONG_S) == queue_time_s
    with pytest.raises(InvalidSettings, match=r"no target 'qpu.fort-1'"):
        backend_of(emulator, target="qpu.fort-1").queue_time_s(timeout_s=LONG_S)


# --- limits, threads, connections


@pytest.mark.parametrize(
    ("parts", "shots", "what"),
    [
        ([labelled([0], 1), labelled([0], 8)], 10, "8 qubits in one job, and ionq takes 7"),
        ([labelled([0], 1)], 1_000_001, "1000001 shots"),
        ([labelled([0], 1)], 0, "at least one circuit and one shot"),
        ([], 10, "at least one circuit and one shot"),
        ([labelled([0] * 2_500, 1), labelled([0] * 2_501, 1)], 1, "5001 circuits"),
        ([labelled([0] * 3_000, 1), labelled([0] * 2_000, 7), labelled([0] * 1_000, 5)], 1, "6000 circuits"),
        ([overlaps(4_000, qubits=4), labelled([0], 1)], 1, "168001 gates"),
    ],
)
def test_what_is_outside_the_limits_is_not_submitted(parts: list[CircuitBatch], shots: int, what: str) -> None:
    with emulator_thread(limits=EmulatorLimits(qubits=7)) as emulator:
        with pytest.raises(InvalidCircuit, match=what):
            backend_of(emulator).submit(parts, shots, job_key="k", timeout_s=LONG_S)
        assert emulator.ledger()["accepted"] == 0


def test_many_threads_share_it(backend: IonQBackend, emulator: Emulator) -> None:
    def work(index: int) -> bool:
        return run(backend, labelled([index], 5), 5, job_key=f"k{index}").counts == ({index: 5},)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(32)))
    times = emulator.ledger()["times_accepted"]
    assert (len(times), set(times.values())) == (32, {1})


def test_connections_are_used_again(backend: IonQBackend, emulator: Emulator) -> None:
    for index in range(5):
        run(backend, labelled([1], 1), 5, job_key=f"k{index}")
    pools = backend._client._session.get_adapter(emulator.url).poolmanager.pools
    (pool,) = (pools[key] for key in pools.keys())  # noqa: SIM118 - iterating over it is refused
    assert pool.num_connections == 1
    assert pool.num_requests == 1 + 5 * 3
