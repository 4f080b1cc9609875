"""The adapter submitting once whatever happens, and finding what it submitted."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from quantum_db.backend_ports import ProviderJob
from quantum_db.clock import SystemClock
from quantum_db.errors import DeadlineExceeded, InvalidCircuit, JobFailed, OutcomeUnclear, Unavailable
from quantum_db.ionq.backend import IonQBackend
from quantum_db.ionq.emulated_jobs import Delays, EmulatedJobs
from quantum_db.ionq.emulated_requests import EmulatorLimits, JobSpec, parse_job
from quantum_db.ionq.emulated_views import BACKENDS
from tests.api.emulator_server import Emulator, emulator_thread
from tests.api.ionq_jobs import FORTE, LONG_S, backend_of, labelled, run, submit, survives_pickling
from tests.api.raw_server import http, raw_server

ONE = labelled([1], 1)


def others(backend: str = "simulator") -> JobSpec:
    """Return a job of somebody else."""
    gates = {"qubits": 1, "circuit": []}
    return parse_job({"type": "ionq.circuit.v1", "backend": backend, "input": gates}, EmulatorLimits(), BACKENDS)


def find(backend: IonQBackend, job_key: str = "k", **options: Any) -> list[ProviderJob]:
    return list(backend.find(job_key, timeout_s=LONG_S, **options))


# --- submitting


def test_labels_stand_beside_the_key_and_nothing_else_does(backend: IonQBackend, emulator: Emulator) -> None:
    labels = {"priority": "interactive", "deadline": "2026-11-25T00:00:00Z"}
    job_id = backend.submit([labelled([1, 0], 1)], 5, job_key="k", timeout_s=LONG_S, labels=labels)
    job = emulator.call("GET", f"/v0.4/jobs/{job_id}").json()
    assert job["metadata"] == {**labels, "job_key": "k"}
    assert find(backend) == [ProviderJob(job_id, "completed")]


@pytest.mark.parametrize("circuits", [1, 2])
def test_labels_up_to_the_providers_limits_are_taken_and_beyond_nothing_is_sent(
    backend: IonQBackend, emulator: Emulator, circuits: int
) -> None:
    batch = labelled([1] * circuits, 1)
    largest = {f"{index:040d}": "x" * 40_000 for index in range(9)}
    backend.submit([batch], 5, job_key="k", timeout_s=LONG_S, labels=largest)
    for labels, what in (
        ({f"{index}": "" for index in range(10)}, "may have 9 labels"),
        ({"job_key": "another"}, "none of them named job_key"),
        ({"x" * 41: ""}, "is too long"),
        ({"x": "y" * 40_001}, "is too long"),
        ({"x": "\ud800"}, "must be text that has a UTF-8 form"),
    ):
        with pytest.raises(InvalidCircuit, match=what):
            backend.submit([batch], 5, job_key="k", timeout_s=LONG_S, labels=labels)
    assert emulator.calls()["submit"] == 1


def test_the_metadata_stays_small_at_the_most_circuits(backend: IonQBackend, emulator: Emulator) -> None:
    submit(backend, labelled([0] * 5_000, 1), 5)
    (entry,) = emulator.ledger()["entries"]
    assert (entry["circuits"], entry["metadata"]) == (5_000, {"job_key": "k"})


def test_a_rate_limit_is_not_repeated_and_tells_when(backend: IonQBackend, emulator: Emulator) -> None:
    emulator.plan({"effect": "status", "status": 429, "retry_after_s": 7.0, "request": "submit"})
    with pytest.raises(Unavailable, match="takes no more submissions now: HTTP 429") as caught:
        submit(backend, ONE, 5)
    assert type(caught.value) is Unavailable
    assert caught.value.retry_after_s == 7.0
    assert emulator.calls() == {"submit": 1}
    assert emulator.ledger()["accepted"] == 0


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_a_refusal_is_final(backend: IonQBackend, emulator: Emulator, status: int) -> None:
    emulator.plan({"effect": "status", "status": status, "request": "submit"})
    with pytest.raises(JobFailed, match=f"refused the job: HTTP {status}: a planted fault") as caught:
        submit(backend, ONE, 5)
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
@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "not accepted"])
@pytest.mark.parametrize("circuits", [1, 3])
def test_a_submission_whose_answer_is_lost_is_unclear_until_it_is_looked_for(
    backend: IonQBackend, emulator: Emulator, fault: dict[str, Any], accepted: bool, circuits: int
) -> None:
    batch = labelled([1, 2, 3][:circuits], 2)
    emulator.plan({**fault, "carried_out": accepted, "request": "submit"})
    with pytest.raises(OutcomeUnclear, match="may have been accepted") as caught:
        submit(backend, batch, 5, "lost")
    assert caught.value.retry_after_s == fault.get("retry_after_s")
    assert survives_pickling(caught.value)
    assert emulator.calls() == {"submit": 1}
    found = find(backend, "lost")
    ledger = emulator.ledger()
    assert [job.job_id for job in found] == [entry["job_id"] for entry in ledger["entries"]]
    assert ledger["times_accepted"] == ({"lost": 1} if accepted else {})
    if accepted:
        counts = backend.collect(found[0].job_id, [2] * circuits, 5, timeout_s=LONG_S).result.counts
        assert counts == tuple({outcome: 5} for outcome in (1, 2, 3)[:circuits])


@pytest.mark.parametrize("accepted", [True, False])
def test_a_submission_that_hangs_is_unclear(backend: IonQBackend, emulator: Emulator, accepted: bool) -> None:
    emulator.plan({"effect": "hang", "hang_s": 5.0, "carried_out": accepted, "request": "submit"})
    with pytest.raises(OutcomeUnclear):
        backend.submit([ONE], 5, job_key="k", timeout_s=0.4)
    assert emulator.calls() == {"submit": 1}
    assert emulator.ledger()["accepted"] == int(accepted)
    assert len(find(backend)) == int(accepted)


def test_a_submission_in_a_run_is_adopted_and_paid_once(backend: IonQBackend, emulator: Emulator) -> None:
    emulator.plan({"effect": "status", "status": 504, "carried_out": True, "request": "submit"})
    result = run(backend, labelled([1, 2], 2), 5, job_key="lost")
    assert result.counts == ({1: 5}, {2: 5})
    assert emulator.ledger()["times_accepted"] == {"lost": 1}
    assert emulator.calls()["submit"] == 1


# --- finding


def test_jobs_of_a_key_are_found_newest_first_with_their_status(backend: IonQBackend, emulator: Emulator) -> None:
    assert emulator.jobs is not None
    assert find(backend) == []
    emulator.plan({"effect": "fail_job", "request": "submit", "times": 1})
    failed = submit(backend, ONE, 5)
    emulator.jobs.delays = Delays(ready_s=600.0)
    canceled = submit(backend, ONE, 5)
    backend.cancel(canceled, timeout_s=LONG_S)
    waiting = submit(backend, ONE, 5)
    submit(backend, ONE, 5, "another")
    found = find(backend)
    assert found == [ProviderJob(waiting, "ready"), ProviderJob(canceled, "canceled"), ProviderJob(failed, "failed")]


def test_the_jobs_of_the_circuits_are_not_taken_for_the_job(backend: IonQBackend, emulator: Emulator) -> None:
    """The emulator lists a job's children only on request; a provider may list them beside it."""
    job_id = submit(backend, labelled([1, 2, 3], 2), 5)
    jobs = emulator.call("GET", "/v0.4/jobs", params={"parent_job_id": job_id}).json()["jobs"]
    assert [child["metadata"]["job_key"] for child in jobs] == ["k"] * 3  # there is something to be mistaken
    jobs.insert(1, emulator.call("GET", f"/v0.4/jobs/{job_id}").json())
    page = json.dumps({"jobs": jobs, "next": None}).encode()
    with raw_server(lambda connection, _: connection.sendall(http("200 OK", page))) as (url, _):
        assert find(backend_of(url)) == [ProviderJob(job_id, "completed")]


def test_a_job_of_another_target_is_not_looked_for(backend: IonQBackend, emulator: Emulator) -> None:
    submit(backend_of(emulator, target=FORTE), ONE, 5)
    assert find(backend) == []


def test_a_job_is_found_once_it_is_listed(backend: IonQBackend, emulator: Emulator) -> None:
    assert emulator.jobs is not None
    emulator.jobs.listing_lag_s = 600.0
    job_id = submit(backend, ONE, 5)
    assert find(backend) == []
    assert backend.collect(job_id, [1], 5, timeout_s=LONG_S).result.counts == ({1: 5},)
    emulator.jobs.listing_lag_s = 0.0
    assert find(backend) == [ProviderJob(job_id, "completed")]


def test_a_job_is_found_behind_many_others(backend: IonQBackend, emulator: Emulator) -> None:
    assert emulator.jobs is not None
    job_id = submit(backend, ONE, 5)
    for _ in range(150):
        emulator.jobs.submit(others())
    assert find(backend) == [ProviderJob(job_id, "completed")]
    assert emulator.calls()["list"] == 2


def test_what_lies_beyond_the_last_page_is_not_said_to_be_nowhere(
    backend: IonQBackend, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantum_db.ionq.backend.LOOKUP_PAGES", 2)
    monkeypatch.setattr("quantum_db.ionq.backend.PAGE", 10)
    assert emulator.jobs is not None
    job_id = submit(backend, ONE, 5)
    for _ in range(19):
        emulator.jobs.submit(others())
    assert find(backend) == [ProviderJob(job_id, "completed")]
    emulator.jobs.submit(others())
    with pytest.raises(Unavailable, match="none of the newest 20 jobs has the key k; there are more") as caught:
        find(backend)
    assert survives_pickling(caught.value)
    assert emulator.calls()["list"] == 4


def test_jobs_from_before_the_intent_need_no_looking_through() -> None:
    class Movable(SystemClock):
        ahead_s = 0.0

        def now_s(self) -> float:
            return super().now_s() + self.ahead_s

    clock = Movable()
    with emulator_thread(EmulatedJobs(clock)) as emulator:
        assert emulator.jobs is not None
        backend = backend_of(emulator)
        submit(backend, ONE, 5)
        for _ in range(150):
            emulator.jobs.submit(others())
        intent_s = clock.now_s() + 3_600.0
        clock.ahead_s = 3_600.0
        job_id = submit(backend, ONE, 5)
        emulator.plan()
        assert find(backend, since_s=intent_s) == [ProviderJob(job_id, "completed")]
        assert emulator.calls() == {"list": 1}
        assert len(find(backend, since_s=intent_s - 3_600.0)) == 2  # 600 s more, for clocks that differ
        assert emulator.calls() == {"list": 3}


def test_a_list_that_is_refused_or_fails_is_not_an_empty_list(backend: IonQBackend, emulator: Emulator) -> None:
    submit(backend, ONE, 5)
    emulator.plan({"effect": "status", "status": 403, "request": "list"})
    with pytest.raises(JobFailed, match="refused to list jobs: HTTP 403") as caught:
        find(backend)
    assert survives_pickling(caught.value)
    emulator.plan({"effect": "status", "status": 503, "retry_after_s": 60, "request": "list"})
    with pytest.raises(Unavailable, match="does not answer: HTTP 503") as unavailable:
        find(backend)
    assert unavailable.value.retry_after_s == 60.0


def test_a_slow_name_server_does_not_carry_a_submission_past_its_time(
    backend: IonQBackend, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup = socket.getaddrinfo

    def slow(*where: Any, **options: Any) -> Any:
        time.sleep(0.3)
        return lookup(*where, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(DeadlineExceeded, match="before a call"):
        backend.submit([labelled([1], 1)], 100, job_key="slow", timeout_s=0.2)
    assert emulator.ledger()["accepted"] == 0
