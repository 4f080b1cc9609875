"""The adapter waiting for jobs, under each fault that a read or a cancellation can have."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from quantum_db.errors import DeadlineExceeded, JobCanceled, JobFailed, OutcomeUnclear, Unavailable
from quantum_db.ionq.backend import IonQBackend
from quantum_db.ionq.emulated_jobs import Delays
from quantum_db.jobs.retry import RetryPolicy
from tests.api.emulator_server import Emulator
from tests.api.ionq_jobs import FORTE, LONG_S, backend_of, labelled, run, submit, survives_pickling

ONE = labelled([1], 1)


def status_of(emulator: Emulator, job_id: str) -> str:
    emulator.plan()
    return str(emulator.call("GET", f"/v0.4/jobs/{job_id}").json()["status"])


# --- collecting


def test_a_slow_job_is_waited_for_in_pauses_that_grow(backend: IonQBackend, emulator: Emulator) -> None:
    assert emulator.jobs is not None
    emulator.jobs.delays = Delays(0.1, 0.1, 0.1)
    assert run(backend, ONE, 5).counts == ({1: 5},)
    assert 2 <= emulator.calls()["status"] <= 12


def test_a_job_can_be_collected_by_another_process_than_submitted_it(backend: IonQBackend, emulator: Emulator) -> None:
    job_id = submit(backend, labelled([3, 1], 2), 5)
    backend.close()
    again = backend_of(emulator).collect(job_id, [2, 2], 5, timeout_s=LONG_S)
    assert again.result.counts == ({3: 5}, {1: 5})
    assert again.result.provider_job_ids == (job_id,)


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
    assert run(backend_of(emulator), ONE, 5).counts == ({1: 5},)
    assert emulator.struck() == [times]
    assert emulator.ledger()["times_accepted"] == {"k": 1}


@pytest.mark.parametrize("request_kind", ["status", "results"])
@pytest.mark.parametrize(
    "fault",
    [{"effect": "status", "status": 429}, {"effect": "status", "status": 500}, {"effect": "cut"}],
    ids=["429", "500", "cut"],
)
def test_an_endless_fault_of_a_read_is_given_up_after_three_attempts_and_nothing_is_canceled(
    backend: IonQBackend, emulator: Emulator, request_kind: str, fault: dict[str, Any]
) -> None:
    job_id = submit(backend, ONE, 5)
    emulator.plan({**fault, "request": request_kind})
    started_s = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer") as caught:
        backend.collect(job_id, [1], 5, timeout_s=LONG_S)
    assert time.monotonic() - started_s < LONG_S / 2
    assert survives_pickling(caught.value)
    assert emulator.calls()[request_kind] == 3
    assert emulator.calls().get("cancel", 0) == 0
    emulator.plan()
    assert backend.collect(job_id, [1], 5, timeout_s=LONG_S).result.counts == ({1: 5},)


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_reads_are_tried_as_often_as_the_policy_says(emulator: Emulator, attempts: int) -> None:
    backend = backend_of(emulator, retry=RetryPolicy(attempts, first_s=0.01, longest_s=0.01))
    for kind, call in (
        ("list", lambda: backend.find("k", timeout_s=LONG_S)),
        ("estimate", lambda: backend.estimate([ONE], 5, timeout_s=LONG_S)),
        ("backends", lambda: backend.queue_time_s(timeout_s=LONG_S)),
        ("cancel", lambda: backend.cancel("1", timeout_s=LONG_S)),
    ):
        emulator.plan({"effect": "status", "status": 503, "request": kind})
        with pytest.raises(Unavailable, match="does not answer: HTTP 503"):
            call()
        assert emulator.calls() == {kind: attempts}


def test_looks_at_a_job_that_runs_are_no_retries(emulator: Emulator) -> None:
    assert emulator.jobs is not None
    emulator.jobs.delays = Delays(started_s=0.5)
    backend = backend_of(emulator, retry=RetryPolicy(attempts=1))
    assert run(backend, ONE, 5).counts == ({1: 5},)
    assert emulator.calls()["status"] > 3


def test_a_retry_after_beyond_the_deadline_is_passed_on_at_once(backend: IonQBackend, emulator: Emulator) -> None:
    job_id = submit(backend, ONE, 5)
    emulator.plan({"effect": "status", "status": 429, "retry_after_s": 77.0, "request": "status"})
    started_s = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        backend.collect(job_id, [1], 5, timeout_s=LONG_S)
    assert caught.value.retry_after_s == 77.0
    assert time.monotonic() - started_s < LONG_S / 2
    assert emulator.calls()["status"] == 1


def test_a_retry_after_within_the_deadline_is_kept_to(backend: IonQBackend, emulator: Emulator) -> None:
    job_id = submit(backend, ONE, 5)
    emulator.plan({"effect": "status", "status": 429, "retry_after_s": 0.5, "request": "status", "times": 2})
    started_s = time.monotonic()
    backend.collect(job_id, [1], 5, timeout_s=LONG_S)
    assert time.monotonic() - started_s >= 2 * 0.5
    assert emulator.calls()["status"] == 3


@pytest.mark.parametrize("request_kind", ["status", "results"])
def test_a_read_that_hangs_ends_with_the_deadline(backend: IonQBackend, emulator: Emulator, request_kind: str) -> None:
    job_id = submit(backend, ONE, 5)
    emulator.plan({"effect": "hang", "hang_s": 5.0, "request": request_kind})
    started_s = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer"):
        backend.collect(job_id, [1], 5, timeout_s=0.4)
    assert time.monotonic() - started_s < 4.0


def test_at_the_deadline_the_job_goes_on_and_can_be_collected_later(backend: IonQBackend, emulator: Emulator) -> None:
    assert emulator.jobs is not None
    emulator.jobs.delays = Delays(ready_s=1.0)
    job_id = submit(backend, ONE, 5)
    with pytest.raises(DeadlineExceeded, match="was ready when the deadline passed") as caught:
        backend.collect(job_id, [1], 5, timeout_s=0.3)
    assert survives_pickling(caught.value)
    assert emulator.calls().get("cancel", 0) == 0
    assert backend.collect(job_id, [1], 5, timeout_s=LONG_S).result.counts == ({1: 5},)


def test_a_failed_job_says_why(backend: IonQBackend, emulator: Emulator) -> None:
    emulator.plan({"effect": "fail_job", "request": "submit", "code": "QuantumComputerError"})
    with pytest.raises(JobFailed, match="failed: QuantumComputerError: a planted fault") as caught:
        run(backend, ONE, 5)
    assert survives_pickling(caught.value)


def test_a_job_canceled_by_another_is_a_canceled_job(backend: IonQBackend, emulator: Emulator) -> None:
    assert emulator.jobs is not None
    emulator.jobs.delays = Delays(ready_s=600.0)
    job_id = submit(backend, ONE, 5)
    other = threading.Timer(0.1, lambda: emulator.call("PUT", f"/v0.4/jobs/{job_id}/status/cancel"))
    other.start()
    with pytest.raises(JobCanceled, match=f"job {job_id} was canceled") as caught:
        backend.collect(job_id, [1], 5, timeout_s=LONG_S)
    other.join(LONG_S)
    assert survives_pickling(caught.value)


def test_a_deleted_job_is_a_failed_job(backend: IonQBackend, emulator: Emulator) -> None:
    job_id = submit(backend, ONE, 5)
    assert emulator.call("DELETE", f"/v0.4/jobs/{job_id}").status_code == 200
    with pytest.raises(JobFailed, match="HTTP 404: there is no job"):
        backend.collect(job_id, [1], 5, timeout_s=LONG_S)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_who_may_not_look_at_a_job_does_not_know_that_it_failed(
    backend: IonQBackend, emulator: Emulator, status: int
) -> None:
    job_id = submit(backend, ONE, 5)
    emulator.plan({"effect": "status", "status": status, "request": "status"})
    with pytest.raises(Unavailable, match=f"does not tell of job {job_id}: HTTP {status}"):
        backend.collect(job_id, [1], 5, timeout_s=LONG_S)


# --- canceling


def test_a_job_is_canceled_and_canceling_again_changes_nothing(backend: IonQBackend, emulator: Emulator) -> None:
    assert emulator.jobs is not None
    emulator.jobs.delays = Delays(ready_s=600.0)
    job_id = submit(backend, ONE, 5)
    assert backend.cancel(job_id, timeout_s=LONG_S)
    assert backend.cancel(job_id, timeout_s=LONG_S)
    assert status_of(emulator, job_id) == "canceled"
    with pytest.raises(JobCanceled):
        backend.collect(job_id, [1], 5, timeout_s=LONG_S)


def test_a_job_that_has_ended_otherwise_is_not_canceled(backend: IonQBackend, emulator: Emulator) -> None:
    completed = submit(backend, ONE, 5)
    assert not backend.cancel(completed, timeout_s=LONG_S)
    assert backend.collect(completed, [1], 5, timeout_s=LONG_S).result.counts == ({1: 5},)
    emulator.plan({"effect": "fail_job", "request": "submit"})
    assert not backend.cancel(submit(backend, ONE, 5), timeout_s=LONG_S)
    assert not backend.cancel("a-job-that-is-gone", timeout_s=LONG_S)


@pytest.mark.parametrize(
    "fault",
    [{"effect": "status", "status": 504, "carried_out": True}, {"effect": "cut", "carried_out": True}],
    ids=["504", "cut"],
)
def test_a_cancellation_whose_answer_is_lost_is_a_cancellation(
    backend: IonQBackend, emulator: Emulator, fault: dict[str, Any]
) -> None:
    assert emulator.jobs is not None
    emulator.jobs.delays = Delays(ready_s=600.0)
    job_id = submit(backend, ONE, 5)
    emulator.plan({**fault, "request": "cancel", "times": 1})
    assert backend.cancel(job_id, timeout_s=LONG_S)
    assert emulator.calls()["cancel"] == 2


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ({"effect": "status", "status": 503, "retry_after_s": 60.0}, "does not answer: HTTP 503"),
        ({"effect": "status", "status": 403}, "is not canceled: HTTP 403"),
        ({"effect": "hang", "hang_s": 5.0}, "does not answer"),
    ],
    ids=["503", "403", "hang"],
)
def test_a_job_that_cannot_be_canceled_goes_on_and_it_is_said(
    backend: IonQBackend, emulator: Emulator, fault: dict[str, Any], what: str
) -> None:
    assert emulator.jobs is not None
    emulator.jobs.delays = Delays(ready_s=600.0)
    job_id = submit(backend, ONE, 5)
    emulator.plan({**fault, "request": "cancel"})
    with pytest.raises(Unavailable, match=what) as caught:
        backend.cancel(job_id, timeout_s=0.4)
    assert not isinstance(caught.value, OutcomeUnclear)
    assert survives_pickling(caught.value)
    assert status_of(emulator, job_id) == "ready"


def test_without_time_nothing_is_sent(emulator: Emulator) -> None:
    backend = backend_of(emulator, target=FORTE)
    with pytest.raises(DeadlineExceeded, match="nothing was sent"):
        backend.submit([ONE], 5, job_key="k", timeout_s=0.0)
    for call in (
        lambda: backend.find("k", timeout_s=0.0),
        lambda: backend.collect("1", [1], 5, timeout_s=0.0),
        lambda: backend.cancel("1", timeout_s=0.0),
        lambda: backend.estimate([ONE], 5, timeout_s=0.0),
        lambda: backend.queue_time_s(timeout_s=0.0),
    ):
        with pytest.raises(Unavailable, match="no time was left to ask"):
            call()
    assert emulator.calls() == {}
