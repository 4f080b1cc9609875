"""The backend against the emulator over real HTTP, with each fault that a provider can have."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from quantum_db.circuits.encoding import encode_span
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.simulator import probabilities
from quantum_db.circuits.template import CX, CircuitBatch, MultiplexedRY, Template, content_key
from quantum_db.clock import SystemClock
from quantum_db.errors import (
    DeadlineExceeded,
    InvalidCircuit,
    InvalidSettings,
    JobFailed,
    QuantumDBError,
    Unavailable,
)
from quantum_db.ionq.backend import IonQBackend, refuse_dotenv
from quantum_db.ionq.emulated_jobs import Delays
from quantum_db.ionq.emulated_requests import EmulatorLimits, parse_job
from quantum_db.ionq.emulated_views import BACKENDS
from quantum_db.ionq.gate_simulator import Circuit, Histogram, simulate
from quantum_db.ionq.pricing import BRAKET_FORTE
from quantum_db.ports import BackendLimits, BackendResult, QuantumBackend
from tests.api.emulator_server import TOKEN, Emulator, emulator_thread

FORTE = "qpu.forte-1"
LONG_S = 30.0  # a bound that a passing test does not come near


@pytest.fixture(scope="module")
def shared() -> Iterator[Emulator]:
    with emulator_thread(seed=3) as running:
        yield running


@pytest.fixture
def emulator(shared: Emulator) -> Emulator:
    shared.reset()
    assert shared.jobs is not None
    shared.jobs.delays = Delays()
    return shared


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator's listing does not lag, so there is no need to wait long for a job to appear in it."""
    monkeypatch.setattr("quantum_db.ionq.backend.LOOKUP_PAUSES_S", (0.0, 0.02, 0.05))
    monkeypatch.setattr("quantum_db.ionq.backend.CANCEL_TIMEOUT_S", 1.0)


def backend_of(emulator: Emulator | str, **options: Any) -> IonQBackend:
    url = emulator if isinstance(emulator, str) else emulator.url
    return IonQBackend(
        **{
            "url": url,
            "token": TOKEN,
            "target": "simulator",
            "clock": SystemClock(),
            "rng": np.random.default_rng(17),
            **options,
        }
    )


@pytest.fixture
def backend(emulator: Emulator) -> Iterator[IonQBackend]:
    found = backend_of(emulator)
    assert found.limits.max_qubits == 20  # asked now, so that faults meet the job and not this
    emulator.plan()
    yield found
    found.close()


def overlaps(circuits: int, qubits: int = 4, seed: int = 1) -> CircuitBatch:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(circuits + 1, 1 << qubits)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    encoding = encode_span(vectors[0], vectors[1:], max_qubits=qubits)
    return overlap_circuits(encoding, overlap_template(encoding.num_qubits))


def labelled(outcomes: Sequence[int], qubits: int) -> CircuitBatch:
    """Return circuits that have one outcome each: the given one."""
    steps = tuple(MultiplexedRY(qubit, (), qubit) for qubit in range(qubits))
    bits = np.array([[(outcome >> qubit) & 1 for qubit in range(qubits)] for outcome in outcomes])
    return CircuitBatch(Template(content_key(qubits, steps), qubits, steps), math.pi * bits)


def agrees(result: BackendResult, batch: CircuitBatch, error_rate: float = 1e-6) -> bool:
    """Whether all counts may come from the exact probabilities; a false alarm has at most this probability."""
    for counts, exact in zip(result.counts, probabilities(batch), strict=True):
        shots = sum(counts.values())
        observed = np.array([counts.get(outcome, 0) for outcome in range(len(exact))], dtype=float)
        rare = exact * shots < 5.0
        observed = np.append(observed[~rare], observed[rare].sum())
        expected = np.append(exact[~rare], exact[rare].sum()) * shots
        if expected[-1] < 1e-6 * shots:
            if observed[-1] > 3:
                return False
            observed, expected = observed[:-1], expected[:-1]
        if len(expected) < 2:
            continue
        pvalue = chisquare(observed, expected * observed.sum() / expected.sum()).pvalue
        if pvalue < error_rate / len(batch):
            return False
    return True


def survives_pickling(error: QuantumDBError) -> bool:
    again = pickle.loads(pickle.dumps(error))
    return (type(again), again.detail, again.retry_after_s) == (type(error), error.detail, error.retry_after_s)


# --- results


def test_it_is_a_quantum_backend(emulator: Emulator) -> None:
    backend: QuantumBackend = backend_of(emulator, name="ionq-emulator")
    assert backend.name == "ionq-emulator"
    assert backend.limits == BackendLimits(20, 5_000, 150_000, 1_000_000)
    assert backend.limits == BackendLimits(20, 5_000, 150_000, 1_000_000)
    assert emulator.calls() == {"backends": 1}
    assert backend_of(emulator, target=FORTE).limits.max_shots == 10_000


def test_simulated_shots_agree_with_linear_algebra(backend: IonQBackend, emulator: Emulator) -> None:
    batch = overlaps(20)
    result = backend.run(batch, 20_000, job_key="k1", timeout_s=LONG_S)
    assert agrees(result, batch)
    assert [sum(counts.values()) for counts in result.counts] == [20_000] * 20
    assert (result.provenance, result.backend, result.cost_usd) == ("emulator", "ionq", 0.0)
    ledger = emulator.ledger()
    assert ledger["times_accepted"] == {"k1": 1}
    assert result.provider_job_ids[0] == ledger["entries"][0]["job_id"]
    assert emulator.calls() == {"submit": 1, "status": 1, "results": 1}


def test_the_check_of_agreement_finds_another_circuits_counts(backend: IonQBackend) -> None:
    batch = overlaps(2)
    result = backend.run(batch, 20_000, job_key="k", timeout_s=LONG_S)
    swapped = CircuitBatch(batch.template, batch.angles[::-1])
    assert agrees(result, batch)
    assert not agrees(result, swapped)


@pytest.mark.parametrize("target", ["simulator", FORTE])
def test_circuits_and_qubits_keep_their_order(emulator: Emulator, target: str) -> None:
    outcomes = [*range(32), 5, 5, 0]
    result = backend_of(emulator, target=target).run(labelled(outcomes, 5), 11, job_key="k", timeout_s=LONG_S)
    assert result.counts == tuple({outcome: 11} for outcome in outcomes)


def test_one_circuit_is_a_job_of_one_circuit(backend: IonQBackend, emulator: Emulator) -> None:
    result = backend.run(labelled([6], 3), 10, job_key="k", timeout_s=LONG_S)
    assert result.counts == ({6: 10},)
    assert emulator.call("GET", f"/v0.4/jobs/{result.provider_job_ids[0]}").json()["type"] == "ionq.circuit.v1"


def test_controlled_gates_have_control_and_target(backend: IonQBackend) -> None:
    steps = (MultiplexedRY(0, (), 0), CX(0, 2))
    template = Template(content_key(3, steps), 3, steps)
    batch = CircuitBatch(template, np.array([[math.pi], [0.0]]))
    assert backend.run(batch, 7, job_key="k", timeout_s=LONG_S).counts == ({5: 7}, {0: 7})


def test_equal_circuits_draw_from_streams_of_their_own_and_a_seed_repeats_them(emulator: Emulator) -> None:
    batch = overlaps(1)
    batch = CircuitBatch(batch.template, np.repeat(batch.angles, 4, axis=0))
    first, again = (
        backend_of(emulator, rng=np.random.default_rng(5)).run(batch, 5_000, job_key="k", timeout_s=LONG_S).counts
        for _ in range(2)
    )
    assert first == again
    assert len({tuple(sorted(counts.items())) for counts in first}) == 4


def test_a_qpu_target_returns_its_own_shots_and_costs(emulator: Emulator) -> None:
    backend = backend_of(emulator, target=FORTE, price_model=BRAKET_FORTE)
    batch = overlaps(3)
    result = backend.run(batch, 4_000, job_key="k", timeout_s=LONG_S)
    assert agrees(result, batch)
    assert [sum(counts.values()) for counts in result.counts] == [4_000] * 3
    assert result.cost_usd == pytest.approx(3 * (0.30 + 4_000 * 0.08))
    assert result.cost_usd == pytest.approx(emulator.ledger()["entries"][0]["cost_usd"])
    assert result.provenance == "emulator"
    job = emulator.call("GET", f"/v0.4/jobs/{result.provider_job_ids[0]}").json()
    assert job["settings"] == {"error_mitigation": {"debiasing": False}}
    again = backend.recover(batch, 4_000, job_key="k", timeout_s=LONG_S)
    assert again is not None
    assert again.counts == result.counts


def test_error_mitigation_is_asked_for(emulator: Emulator) -> None:
    backend = backend_of(emulator, target=FORTE, error_mitigation=True)
    result = backend.run(labelled([1], 1), 500, job_key="k", timeout_s=LONG_S)
    job = emulator.call("GET", f"/v0.4/jobs/{result.provider_job_ids[0]}").json()
    assert job["settings"] == {"error_mitigation": {"debiasing": True}}


@pytest.mark.parametrize(
    ("batch", "shots", "what"),
    [
        (labelled([0], 8), 10, "8 qubits in one job, and ionq takes 7"),
        (labelled([0], 1), 1_000_001, "1000001 shots"),
        (labelled([0], 1), 0, "at least one circuit and one shot"),
        (labelled([0] * 5_001, 1), 1, "5001 circuits"),
    ],
)
def test_what_is_outside_the_limits_is_not_submitted(batch: CircuitBatch, shots: int, what: str) -> None:
    with emulator_thread(limits=EmulatorLimits(qubits=7)) as emulator:
        with pytest.raises(InvalidCircuit, match=what):
            backend_of(emulator).run(batch, shots, job_key="k", timeout_s=LONG_S)
        assert emulator.ledger()["accepted"] == 0


def test_many_threads_share_it(backend: IonQBackend, emulator: Emulator) -> None:
    def work(index: int) -> bool:
        return backend.run(labelled([index], 5), 5, job_key=f"k{index}", timeout_s=LONG_S).counts == ({index: 5},)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(32)))
    assert set(emulator.ledger()["times_accepted"].values()) == {1}


def test_connections_are_used_again(backend: IonQBackend, emulator: Emulator) -> None:
    for index in range(5):
        backend.run(labelled([1], 1), 5, job_key=f"k{index}", timeout_s=LONG_S)
    pools = backend._client._session.get_adapter(emulator.url).poolmanager.pools
    (pool,) = (pools[key] for key in pools.keys())  # noqa: SIM118 - iterating over it is refused
    assert pool.num_connections == 1
    assert pool.num_requests == 1 + 5 * 3


# --- faults: reading


def test_a_slow_job_is_waited_for(backend: IonQBackend, emulator: Emulator) -> None:
    assert emulator.jobs is not None
    emulator.jobs.delays = Delays(0.1, 0.1, 0.1)
    assert backend.run(labelled([1], 1), 5, job_key="k", timeout_s=LONG_S).counts == ({1: 5},)
    assert 2 <= emulator.calls()["status"] <= 12  # the pauses grow


@pytest.mark.parametrize("request_kind", ["status", "results", "backends"])
@pytest.mark.parametrize(
    "fault",
    [
        {"effect": "status", "status": 429, "retry_after_s": 0.2},
        {"effect": "status", "status": 500},
        {"effect": "status", "status": 503},
        {"effect": "status", "status": 524},
        {"effect": "status", "status": 409},
        {"effect": "cut"},
        {"effect": "cut", "carried_out": True},
        {"effect": "hang", "hang_s": 0.2},
    ],
    ids=lambda fault: str(fault.get("status", fault["effect"])),
)
def test_a_passing_fault_of_a_read_costs_time_only(
    emulator: Emulator, request_kind: str, fault: dict[str, Any]
) -> None:
    times = 2 if fault.get("status") == 503 else 1
    emulator.plan({**fault, "request": request_kind, "times": times})
    result = backend_of(emulator).run(labelled([1], 1), 5, job_key="k", timeout_s=LONG_S)
    assert result.counts == ({1: 5},)
    assert emulator.struck() == [times]
    assert emulator.ledger()["times_accepted"] == {"k": 1}


@pytest.mark.parametrize("request_kind", ["status", "results"])
@pytest.mark.parametrize(
    "fault",
    [{"effect": "status", "status": 429}, {"effect": "status", "status": 500}, {"effect": "cut"}],
    ids=["429", "500", "cut"],
)
def test_an_endless_fault_of_a_read_ends_with_the_deadline_and_the_job_is_canceled(
    backend: IonQBackend, emulator: Emulator, request_kind: str, fault: dict[str, Any]
) -> None:
    assert emulator.jobs is not None
    emulator.plan({**fault, "request": request_kind})
    if request_kind == "status":
        emulator.jobs.delays = Delays(ready_s=600.0)
    started_s = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer") as caught:
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=0.35)
    assert time.monotonic() - started_s < 10.0
    assert survives_pickling(caught.value)
    assert 2 <= emulator.calls()[request_kind] <= 10
    assert emulator.calls()["cancel"] == 1
    if request_kind == "status":
        emulator.plan()
        assert emulator.call("GET", "/v0.4/jobs").json()["jobs"][0]["status"] == "canceled"


def test_a_retry_after_beyond_the_deadline_is_passed_on_at_once(backend: IonQBackend, emulator: Emulator) -> None:
    emulator.plan({"effect": "status", "status": 429, "retry_after_s": 77.0, "request": "status"})
    started_s = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=LONG_S)
    assert caught.value.retry_after_s == 77.0
    assert time.monotonic() - started_s < LONG_S / 2
    assert emulator.calls()["status"] == 1


@pytest.mark.parametrize("request_kind", ["status", "results"])
def test_a_read_that_hangs_ends_with_the_deadline(backend: IonQBackend, emulator: Emulator, request_kind: str) -> None:
    emulator.plan({"effect": "hang", "hang_s": 5.0, "request": request_kind})
    started_s = time.monotonic()
    with pytest.raises((Unavailable, DeadlineExceeded)):
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=0.4)
    assert time.monotonic() - started_s < 4.0


def test_at_the_deadline_the_job_is_canceled(backend: IonQBackend, emulator: Emulator) -> None:
    assert emulator.jobs is not None
    emulator.jobs.delays = Delays(ready_s=600.0)
    with pytest.raises(DeadlineExceeded, match="was ready when the deadline passed") as caught:
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=0.3)
    assert survives_pickling(caught.value)
    assert emulator.call("GET", "/v0.4/jobs").json()["jobs"][0]["status"] == "canceled"


def test_a_cancel_that_fails_changes_nothing(
    backend: IonQBackend, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    assert emulator.jobs is not None
    emulator.jobs.delays = Delays(ready_s=600.0)
    emulator.plan({"effect": "status", "status": 503, "retry_after_s": 60, "request": "cancel"})
    with pytest.raises(DeadlineExceeded):
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=0.2)
    assert "could not be canceled" in caplog.text


def test_without_time_nothing_is_sent(backend: IonQBackend, emulator: Emulator) -> None:
    with pytest.raises(DeadlineExceeded):
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=0.0)
    assert emulator.calls() == {}


# --- faults: jobs


def test_a_failed_job_says_why(backend: IonQBackend, emulator: Emulator) -> None:
    emulator.plan({"effect": "fail_job", "request": "submit", "code": "QuantumComputerError"})
    with pytest.raises(JobFailed, match="failed: QuantumComputerError: a planted fault") as caught:
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=LONG_S)
    assert survives_pickling(caught.value)


def test_a_job_canceled_by_another_is_a_failed_job(backend: IonQBackend, emulator: Emulator) -> None:
    assert emulator.jobs is not None
    emulator.jobs.delays = Delays(ready_s=600.0)

    def cancel_it() -> None:
        deadline_s = time.monotonic() + LONG_S
        while time.monotonic() < deadline_s:
            jobs = emulator.call("GET", "/v0.4/jobs").json()["jobs"]
            if jobs:
                emulator.call("PUT", f"/v0.4/jobs/{jobs[0]['id']}/status/cancel")
                return
            time.sleep(0.02)

    other = threading.Thread(target=cancel_it)
    other.start()
    with pytest.raises(JobFailed, match="has the status canceled"):
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=LONG_S)
    other.join(LONG_S)


def test_a_deleted_job_is_a_failed_job(backend: IonQBackend, emulator: Emulator) -> None:
    emulator.plan({"effect": "status", "status": 404, "request": "status"})
    with pytest.raises(JobFailed, match="HTTP 404: a planted fault"):
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=LONG_S)


# --- faults: submission


def test_a_rate_limit_is_not_repeated_and_tells_when(backend: IonQBackend, emulator: Emulator) -> None:
    emulator.plan({"effect": "status", "status": 429, "retry_after_s": 7.0, "request": "submit"})
    with pytest.raises(Unavailable, match="takes no more submissions now: HTTP 429") as caught:
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=LONG_S)
    assert caught.value.retry_after_s == 7.0
    assert emulator.calls() == {"submit": 1}
    assert emulator.ledger()["accepted"] == 0


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_a_refusal_is_final(backend: IonQBackend, emulator: Emulator, status: int) -> None:
    emulator.plan({"effect": "status", "status": status, "request": "submit"})
    with pytest.raises(JobFailed, match=f"refused the job: HTTP {status}: a planted fault") as caught:
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=LONG_S)
    assert survives_pickling(caught.value)
    assert emulator.calls() == {"submit": 1}


LOST_ANSWERS = [
    {"effect": "status", "status": 504},
    {"effect": "status", "status": 500},
    {"effect": "status", "status": 502, "retry_after_s": 3.0},
    {"effect": "status", "status": 522},
    {"effect": "cut"},
]


@pytest.mark.parametrize("fault", LOST_ANSWERS, ids=lambda fault: str(fault.get("status", fault["effect"])))
@pytest.mark.parametrize("circuits", [1, 3])
def test_an_accepted_job_whose_answer_is_lost_is_adopted_and_paid_once(
    backend: IonQBackend, emulator: Emulator, fault: dict[str, Any], circuits: int
) -> None:
    emulator.plan({**fault, "carried_out": True, "request": "submit"})
    result = backend.run(labelled([1, 2, 3][:circuits], 2), 5, job_key="lost", timeout_s=LONG_S)
    assert result.counts == tuple({outcome: 5} for outcome in (1, 2, 3)[:circuits])
    ledger = emulator.ledger()
    assert ledger["times_accepted"] == {"lost": 1}
    assert result.provider_job_ids[0] == ledger["entries"][0]["job_id"]
    assert emulator.calls()["submit"] == 1


@pytest.mark.parametrize("fault", LOST_ANSWERS[::2], ids=lambda fault: str(fault.get("status", fault["effect"])))
def test_a_submission_that_is_not_found_is_unclear_and_not_repeated(
    backend: IonQBackend, emulator: Emulator, fault: dict[str, Any]
) -> None:
    emulator.plan({**fault, "request": "submit"})
    with pytest.raises(Unavailable, match=r"submission of job key gone is unclear: .*; no job with this key") as caught:
        backend.run(labelled([1], 1), 5, job_key="gone", timeout_s=LONG_S)
    assert caught.value.retry_after_s == fault.get("retry_after_s")
    assert survives_pickling(caught.value)
    assert emulator.calls() == {"submit": 1, "list": 3}
    assert emulator.ledger()["accepted"] == 0


def test_a_submission_that_hangs_is_looked_for_and_canceled(backend: IonQBackend, emulator: Emulator) -> None:
    assert emulator.jobs is not None
    emulator.jobs.delays = Delays(ready_s=600.0)
    emulator.plan({"effect": "hang", "hang_s": 5.0, "carried_out": True, "request": "submit"})
    started_s = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=0.4)
    assert time.monotonic() - started_s < 4.0
    assert emulator.ledger()["times_accepted"] == {"k": 1}
    assert emulator.call("GET", "/v0.4/jobs").json()["jobs"][0]["status"] == "canceled"


def test_a_submission_that_hangs_and_was_not_accepted_is_unclear(backend: IonQBackend, emulator: Emulator) -> None:
    emulator.plan({"effect": "hang", "hang_s": 5.0, "request": "submit"})
    with pytest.raises(Unavailable, match="is unclear"):
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=0.4)
    assert emulator.calls()["submit"] == 1
    assert emulator.ledger()["accepted"] == 0


def test_an_unclear_submission_can_be_recovered_later(backend: IonQBackend, emulator: Emulator) -> None:
    batch = labelled([1, 2], 2)
    assert backend.recover(batch, 5, job_key="k", timeout_s=LONG_S) is None
    emulator.plan(
        {"effect": "status", "status": 504, "carried_out": True, "request": "submit"},
        {"effect": "status", "status": 503, "retry_after_s": 60, "request": "list"},
    )
    with pytest.raises(Unavailable, match="is unclear: HTTP 504: a planted fault; jobs could not be listed"):
        backend.run(batch, 5, job_key="k", timeout_s=LONG_S)
    emulator.plan()
    result = backend.recover(batch, 5, job_key="k", timeout_s=LONG_S)
    assert result is not None
    assert result.counts == ({1: 5}, {2: 5})
    assert emulator.ledger()["times_accepted"] == {"k": 1}


def test_recovery_prefers_a_job_that_lives(backend: IonQBackend, emulator: Emulator) -> None:
    batch = labelled([1], 1)
    emulator.plan({"effect": "fail_job", "request": "submit", "from_call": 2})
    assert backend.run(batch, 5, job_key="k", timeout_s=LONG_S).counts == ({1: 5},)
    with pytest.raises(JobFailed):
        backend.run(batch, 5, job_key="k", timeout_s=LONG_S)
    result = backend.recover(batch, 5, job_key="k", timeout_s=LONG_S)
    assert result is not None
    assert result.provider_job_ids[0] == emulator.ledger()["entries"][0]["job_id"]


def test_a_job_is_found_behind_many_others(backend: IonQBackend, emulator: Emulator) -> None:
    assert emulator.jobs is not None
    batch = labelled([1, 0], 1)
    backend.run(batch, 5, job_key="first", timeout_s=LONG_S)
    gates = {"qubits": 1, "circuit": []}
    other = parse_job({"type": "ionq.circuit.v1", "backend": "simulator", "input": gates}, EmulatorLimits(), BACKENDS)
    for _ in range(150):
        emulator.jobs.submit(other)
    result = backend.recover(batch, 5, job_key="first", timeout_s=LONG_S)
    assert result is not None
    assert result.counts == ({1: 5}, {0: 5})
    assert emulator.calls()["list"] == 2


# --- results that are wrong


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
        backend_of(emulator).run(overlaps(6, qubits=3), 100, job_key="k", timeout_s=LONG_S)


def test_a_provider_that_mixes_up_circuits_is_found_by_the_check_of_agreement() -> None:
    batch = overlaps(3)
    with emulator_thread(run=planted(lambda rows: rows[1:] + rows[:1])) as emulator:
        assert not agrees(backend_of(emulator).run(batch, 5_000, job_key="k", timeout_s=LONG_S), batch)
    with emulator_thread(run=planted(lambda rows: rows)) as emulator:
        assert agrees(backend_of(emulator).run(batch, 5_000, job_key="k", timeout_s=LONG_S), batch)


# --- the connection itself


@contextlib.contextmanager
def raw_server(answer: Callable[[socket.socket, bytes], None]) -> Iterator[tuple[str, list[bytes]]]:
    """Run a server that gives each connection's first request to ``answer``; yield its URL and the requests."""
    seen: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5.0)
                seen.append(connection.recv(65_536))
                answer(connection, seen[-1])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v0.4", seen
    finally:
        stop.set()
        thread.join(10.0)
        listener.close()


def http(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def test_a_dead_provider_is_unavailable_and_nothing_is_unclear() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    backend = backend_of(f"http://127.0.0.1:{port}/v0.4")
    with pytest.raises(Unavailable, match="does not answer") as caught:
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=0.3)
    assert survives_pickling(caught.value)


def test_a_provider_that_dies_before_the_submission_is_unavailable_and_nothing_is_unclear() -> None:
    with emulator_thread() as emulator:
        backend = backend_of(emulator)
        assert backend.limits.max_qubits == 20
    with pytest.raises(Unavailable, match="no connection to the provider"):
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=2.0)


def test_a_connection_closed_without_a_word_leaves_a_submission_unclear(emulator: Emulator) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"GET /v0.4/backends/"):
            connection.sendall(http("200 OK", b'{"qubits": 5}'))

    with raw_server(answer) as (url, seen):
        with pytest.raises(Unavailable, match="is unclear"):
            backend_of(url).run(labelled([1], 1), 5, job_key="k", timeout_s=1.0)
        assert sum(request.startswith(b"POST") for request in seen) == 1


def test_an_answer_that_trickles_is_cut_off_at_the_deadline() -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(100):
            connection.sendall(b" ")
            time.sleep(0.05)

    with raw_server(answer) as (url, _):
        started_s = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            backend_of(url).run(labelled([1], 1), 5, job_key="k", timeout_s=0.5)
        assert time.monotonic() - started_s < 4.0


@pytest.mark.parametrize("headers", [b"", b"Connection: close\r\n"])
def test_an_answer_that_stalls_is_cut_off_at_the_deadline(headers: bytes) -> None:
    released = threading.Event()

    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n" + headers + b"\r\n{")
        released.wait(20.0)

    with raw_server(answer) as (url, _):
        started_s = time.monotonic()
        try:
            with pytest.raises(Unavailable):
                backend_of(url).run(labelled([1], 1), 5, job_key="k", timeout_s=0.4)
            assert time.monotonic() - started_s < 4.0
        finally:
            released.set()


def test_a_redirect_is_not_followed_with_the_key() -> None:
    with raw_server(lambda connection, _: connection.sendall(http("200 OK", b"{}"))) as (elsewhere, elsewhere_saw):

        def answer(connection: socket.socket, _: bytes) -> None:
            connection.sendall(http("302 Found", b"", f"Location: {elsewhere}/backends/simulator"))

        with raw_server(answer) as (url, _), pytest.raises(Unavailable, match="HTTP 302"):
            backend_of(url).run(labelled([1], 1), 5, job_key="k", timeout_s=2.0)
        assert elsewhere_saw == []


@pytest.mark.parametrize("body", [b"", b"[]", b"not json", b'{"qubits": null}', b'{"qubits": "20"}', b'{"qubits": 0}'])
def test_a_provider_that_does_not_describe_its_target_is_unavailable(body: bytes) -> None:
    with (
        raw_server(lambda connection, _: connection.sendall(http("200 OK", body))) as (url, _),
        pytest.raises(Unavailable),
    ):
        backend_of(url).run(labelled([1], 1), 5, job_key="k", timeout_s=1.0)


def test_an_unknown_target_is_a_setting() -> None:
    with emulator_thread() as emulator, pytest.raises(InvalidSettings, match=r"no target 'qpu.fort-1'"):
        _ = backend_of(emulator, target="qpu.fort-1").limits


@pytest.mark.parametrize(
    ("header", "retry_after_s"),
    [
        ("2.5", 2.5),
        ("-3", 0.0),
        ("Fri, 01 Jan 2100 00:00:30 GMT", 30.0),
        ("Fri, 01 Jan 2021 00:00:00 GMT", 0.0),
        ("inf", None),
        ("soon", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, retry_after_s: float | None) -> None:
    class NewYear2100(SystemClock):
        def now_s(self) -> float:
            return 4_102_444_800.0

    def answer(connection: socket.socket, request: bytes) -> None:
        status = "429 Slow" if request.startswith(b"POST") else "200 OK"
        connection.sendall(http(status, b'{"qubits": 5}', f"Retry-After: {header}"))

    with raw_server(answer) as (url, _), pytest.raises(Unavailable) as caught:
        backend_of(url, clock=NewYear2100()).run(labelled([1], 1), 5, job_key="k", timeout_s=LONG_S)
    assert caught.value.retry_after_s == retry_after_s


def test_the_largest_job_fits(backend: IonQBackend, emulator: Emulator) -> None:
    outcomes = [index % 2 for index in range(5_000)]
    result = backend.run(labelled(outcomes, 1), 3, job_key="k", timeout_s=2 * LONG_S)
    assert result.counts == tuple({outcome: 3} for outcome in outcomes)


# --- the key


def test_the_key_is_in_no_error_no_repr_and_no_log(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def echo(status: str, connection: socket.socket, request: bytes) -> None:
        """Give the request back, as a careless proxy may, key and all."""
        if request.startswith(b"GET /v0.4/backends/"):
            connection.sendall(http("200 OK", b'{"qubits": 5}'))
        else:
            connection.sendall(http(status, b'{"message": "%s"}' % request.replace(b"\r\n", b" ")[:900]))

    texts = []
    for status in ("400 Bad Request", "401 Unauthorized", "429 Too Many Requests", "503 Unavailable"):
        with raw_server(partial(echo, status)) as (url, seen):
            backend = backend_of(url)
            with pytest.raises(QuantumDBError) as caught:
                backend.run(labelled([1], 1), 5, job_key="k", timeout_s=1.0)
            assert any(TOKEN.encode() in request for request in seen)
        error: BaseException | None = caught.value
        while error is not None:
            texts += [str(error), repr(error)]
            error = error.__cause__ or error.__context__
        texts += [repr(backend), str(pickle.dumps(caught.value)), str(caught.value.problem())]
    emulator.plan({"effect": "cut", "request": "submit"})
    with pytest.raises(Unavailable) as caught:
        backend_of(emulator).run(labelled([1], 1), 5, job_key="k", timeout_s=1.0)
    texts += [str(caught.value), repr(caught.value), caplog.text]
    assert "***" in "".join(texts)
    assert TOKEN not in "".join(texts)


def test_a_wrong_key_is_refused(emulator: Emulator) -> None:
    backend = backend_of(emulator, token="wrong")
    with pytest.raises(JobFailed, match="refused the job: HTTP 401"):
        backend.run(labelled([1], 1), 5, job_key="k", timeout_s=LONG_S)


def test_a_netrc_does_not_replace_the_key(
    backend: IonQBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert backend.run(labelled([1], 1), 5, job_key="k", timeout_s=LONG_S).counts == ({1: 5},)


# --- settings


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"url": "https://api.ionq.co"}, "must end with the API's version"),
        ({"url": "ftp://api.ionq.co/v0.4"}, "must end with the API's version"),
        ({"url": "https://api.ionq.co/v0.4?x=1"}, "must end with the API's version"),
        ({"token": ""}, "is empty"),
        ({"token": f"{TOKEN}\n"}, "cannot be in a header"),
        ({"token": f"{TOKEN}é"}, "cannot be in a header"),
        ({"target": "forte-1"}, "must be simulator or like qpu.forte-1"),
        ({"target": "qpu.x/../../jobs"}, "must be simulator or like qpu.forte-1"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(options: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidSettings, match=what) as caught:
        backend_of("http://127.0.0.1:1/v0.4", **options)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "target", "provenance"),
    [
        ("https://api.ionq.co/v0.4", "simulator", "simulated shots"),
        ("https://api.ionq.co/v0.4/", FORTE, "hardware"),
        ("https://api.ionq.co.example.org/v0.4", FORTE, "emulator"),
        ("https://ionq.example.org/api.ionq.co/v0.4", "simulator", "emulator"),
    ],
)
def test_where_results_come_from_goes_by_the_host(url: str, target: str, provenance: str) -> None:
    assert backend_of(url, target=target)._provenance == provenance


def test_the_environment_is_neither_read_nor_changed(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QISKIT_IONQ_API_URL", "IONQ_API_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/v0.4")
    for name in ("QISKIT_IONQ_API_TOKEN", "IONQ_API_KEY"):
        monkeypatch.setenv(name, "another")
    before = copy.deepcopy(dict(os.environ))
    backend = backend_of(emulator)
    assert backend.limits.max_qubits == 20
    assert backend.run(labelled([1], 1), 5, job_key="k", timeout_s=LONG_S).counts == ({1: 5},)
    assert dict(os.environ) == before


def test_a_dotenv_file_that_would_override_the_settings_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "venv" / "site-packages" / "qiskit_ionq" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.touch()
    refuse_dotenv(package)
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"IONQ_API_KEY={TOKEN}\nexport QISKIT_IONQ_API_URL=http://x\nEDITOR=vi\n")
    with pytest.raises(InvalidSettings) as caught:
        refuse_dotenv(package)
    assert f"{dotenv} sets IONQ_API_KEY, QISKIT_IONQ_API_URL" in caught.value.detail
    assert TOKEN not in caught.value.detail
    (tmp_path / "venv" / ".env").write_text("EDITOR=vi\n")  # nearer, and where the search ends
    refuse_dotenv(package)
