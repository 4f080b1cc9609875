"""What the emulator tells of its jobs: when they are listed, what they cost, and how many there were at once."""

from __future__ import annotations

from typing import Any

import pytest

from quantum_db.ionq.emulated_jobs import Delays, EmulatedJobs, JobFilter
from quantum_db.ionq.emulated_requests import ApiError, EmulatorLimits, JobSpec, parse_job
from quantum_db.ionq.emulated_views import BACKENDS, backend_body, cost_body, ledger_body
from quantum_db.ionq.pricing import AZURE

FORTE = "qpu.forte-1"


class Clock:
    def __init__(self) -> None:
        self.passed_s = 0.0

    def now_s(self) -> float:
        return 1_700_000_000.0 + self.passed_s

    def monotonic_s(self) -> float:
        return 50.0 + self.passed_s


def spec(*gates: int, backend: str = "simulator") -> JobSpec:
    """Return a submission whose circuits have so many gates."""
    circuits = [{"circuit": [{"gate": "zz", "targets": [0, 1], "rotation": 1.0}] * count} for count in gates]
    body = {"gateset": "qis", "qubits": 2, "circuits": circuits}
    payload: dict[str, Any] = {"type": "ionq.multi-circuit.v1", "backend": backend, "shots": 1_000, "input": body}
    return parse_job(payload, EmulatorLimits(), BACKENDS)


def test_a_job_is_listed_only_some_time_after_its_acceptance() -> None:
    clock = Clock()
    jobs = EmulatedJobs(clock, listing_lag_s=5.0)
    first = jobs.submit(spec(1))
    clock.passed_s = 3.0
    second = jobs.submit(spec(1))
    seen = {}
    for clock.passed_s in (3.0, 4.9, 5.0, 7.9, 8.0):
        seen[clock.passed_s] = jobs.select(JobFilter(), limit=10)[0]
        assert jobs.find(second.id) == (second, None)  # by its id it is there at once
    assert seen == {3.0: [], 4.9: [], 5.0: [first], 7.9: [first], 8.0: [second, first]}


def test_a_job_that_is_not_listed_takes_no_place_on_a_page() -> None:
    clock = Clock()
    jobs = EmulatedJobs(clock)
    listed = [jobs.submit(spec(1)) for _ in range(3)]
    jobs.listing_lag_s = 5.0
    clock.passed_s = 6.0
    jobs.submit(spec(1))
    page, cursor = jobs.select(JobFilter(), limit=2)
    assert page == listed[:0:-1]
    assert jobs.select(JobFilter(), limit=2, before=cursor) == (listed[:1], None)


@pytest.mark.parametrize("end", ["0000", "zzzz", "bcd\n", "9E37", ""])
def test_an_id_that_is_nearly_that_of_a_child_is_none(end: str) -> None:
    jobs = EmulatedJobs(Clock())
    job = jobs.submit(spec(*[1] * 20))
    assert jobs.find(job.child_id(0)) == (job, 0)
    if end == "0000":
        assert jobs.find(job.id[:-4] + end) == (job, None)
        return
    with pytest.raises(ApiError, match="there is no job"):
        jobs.find(job.id[:-4] + end)


def test_a_circuit_costs_its_own_share() -> None:
    jobs = EmulatedJobs(Clock(), qpu_price=AZURE)
    job = jobs.submit(spec(1, 40, 90, backend=FORTE))
    parts = [jobs.cost_usd(job, circuit) for circuit in range(3)]
    assert parts == [pytest.approx(AZURE.cost_usd(1, 1_000, 0, gates)) for gates in (1, 40, 90)]
    assert jobs.cost_usd(job, None) == job.cost_usd
    body = cost_body(job, jobs.clock.monotonic_s(), parts[1])
    assert body["cost"] == body["estimated_cost"] == {"value": parts[1], "unit": "usd"}


def test_the_ledger_tells_how_many_jobs_were_in_flight_on_each_backend() -> None:
    clock = Clock()
    jobs = EmulatedJobs(clock, delays=Delays(started_s=10.0))
    for backend in ("simulator", FORTE, "simulator", "simulator"):
        jobs.submit(spec(1, backend=backend))
    clock.passed_s = 10.0
    for backend in (FORTE, FORTE):
        jobs.submit(spec(1, backend=backend))
    body = ledger_body(jobs)
    assert (body["high_water_mark"], body["high_water_marks"]) == (4, {"simulator": 3, FORTE: 2})
    jobs.reset()
    assert ledger_body(jobs)["high_water_marks"] == {}


def test_a_backend_tells_its_queue_in_milliseconds() -> None:
    assert backend_body(FORTE, 36, 1181.215, 0.0)["average_queue_time"] == 1_181_215
