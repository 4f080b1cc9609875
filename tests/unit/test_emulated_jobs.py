"""The emulator's jobs by a clock that the test moves, and what may be submitted."""

from __future__ import annotations

import math
import uuid
from typing import Any

import pytest

from quantum_db.ionq.emulated_jobs import Delays, EmulatedJobs, Failure, Job, JobFilter, SessionLimits
from quantum_db.ionq.emulated_requests import ApiError, EmulatorLimits, JobSpec, parse_job
from quantum_db.ionq.emulated_views import BACKENDS, job_body
from quantum_db.ionq.pricing import AZURE

FORTE = "qpu.forte-1"
SLOW = Delays(submitted_s=1.0, ready_s=2.0, started_s=4.0)


class Clock:
    def __init__(self) -> None:
        self.passed_s = 0.0

    def now_s(self) -> float:
        return 1_700_000_000.0 + self.passed_s

    def monotonic_s(self) -> float:
        return 50.0 + self.passed_s


def bell() -> list[dict[str, Any]]:
    return [{"gate": "h", "target": 0}, {"gate": "cnot", "control": 0, "target": 1}]


def payload(circuits: int | None = None, **fields: Any) -> dict[str, Any]:
    """Return a submission: of one circuit, or a multi-circuit job of ``circuits``."""
    if circuits is None:
        kind, body = "ionq.circuit.v1", {"gateset": "qis", "qubits": 2, "circuit": bell()}
    else:
        entries = [{"name": f"c{index}", "circuit": bell()} for index in range(circuits)]
        kind, body = "ionq.multi-circuit.v1", {"gateset": "qis", "qubits": 2, "circuits": entries}
    return {"type": kind, "backend": "simulator", "shots": 100, "input": body, **fields}


def parse(raw: object, **limits: Any) -> JobSpec:
    return parse_job(raw, EmulatorLimits(**limits), BACKENDS)


def spec(circuits: int | None = None, **fields: Any) -> JobSpec:
    return parse(payload(circuits, **fields))


def make(**options: Any) -> tuple[EmulatedJobs, Clock]:
    clock = Clock()
    return EmulatedJobs(clock, **options), clock


def status(jobs: EmulatedJobs, job: Job) -> str:
    return jobs.find(job.id)[0].status(jobs.clock.monotonic_s())


def test_a_job_goes_through_its_states_by_the_clock() -> None:
    jobs, clock = make(delays=SLOW)
    job = jobs.submit(spec())
    seen = []
    for passed_s in (0.0, 0.99, 1.0, 2.99, 3.0, 6.99, 7.0, 1e6):
        clock.passed_s = passed_s
        seen.append(status(jobs, job))
    assert seen == ["submitted", "submitted", "ready", "ready", "started", "started", "completed", "completed"]


def test_a_failed_job_fails_at_its_end() -> None:
    jobs, clock = make(delays=SLOW)
    job = jobs.submit(spec(), failure=Failure("QuantumComputerError", "the trap is empty"))
    clock.passed_s = 6.9
    assert status(jobs, job) == "started"
    clock.passed_s = 7.0
    body = job_body(job, clock.monotonic_s())
    assert body["status"] == "failed"
    assert body["failure"] == {
        "code": "QuantumComputerError",
        "message": "the trap is empty",
        "error": "the trap is empty",
    }
    assert body["results"] is None


def test_delays_are_for_jobs_accepted_from_then_on() -> None:
    jobs, _ = make()
    first = jobs.submit(spec())
    jobs.delays = SLOW
    second = jobs.submit(spec())
    assert (status(jobs, first), status(jobs, second)) == ("completed", "submitted")


def test_cancel_ends_a_job_once() -> None:
    jobs, clock = make(delays=SLOW)
    job = jobs.submit(spec())
    clock.passed_s = 3.5
    assert jobs.cancel(job.id).canceled_mono_s == 53.5
    clock.passed_s = 100.0
    assert status(jobs, job) == "canceled"
    assert jobs.cancel(job.id).canceled_mono_s == 53.5
    body = job_body(jobs.find(job.id)[0], clock.monotonic_s())
    assert body["started_at"] == "2023-11-14T22:13:23.000Z"
    assert body["completed_at"] == "2023-11-14T22:13:23.500Z"
    assert body["execution_duration_ms"] is None


def test_an_ended_job_cannot_be_canceled() -> None:
    jobs, _ = make()
    job = jobs.submit(spec())
    with pytest.raises(ApiError, match="the job is completed") as caught:
        jobs.cancel(job.id)
    assert caught.value.status == 409


def test_times_are_null_until_they_have_come() -> None:
    jobs, clock = make(delays=SLOW)
    job = jobs.submit(spec())
    body = job_body(job, clock.monotonic_s())
    assert (body["submitted_at"], body["started_at"], body["completed_at"]) == ("2023-11-14T22:13:20.000Z", None, None)
    assert (body["predicted_wait_time_ms"], body["predicted_execution_duration_ms"]) == (3000, 4000)
    clock.passed_s = 8.0
    body = job_body(job, clock.monotonic_s())
    assert body["completed_at"] == "2023-11-14T22:13:27.000Z"
    assert (body["predicted_wait_time_ms"], body["execution_duration_ms"]) == (0, 4000)


def test_deleted_jobs_are_unknown_but_stay_in_the_ledger() -> None:
    jobs, _ = make()
    job = jobs.submit(spec(metadata={"job_key": "k"}))
    jobs.delete(job.id)
    with pytest.raises(ApiError) as caught:
        jobs.find(job.id)
    assert caught.value.status == 404
    assert [entry.job_id for entry in jobs.ledger] == [job.id]


@pytest.mark.parametrize("job_id", ["", "x", "0000", "é" * 50, str(uuid.UUID(int=0))])
def test_unknown_ids(job_id: str) -> None:
    jobs, _ = make()
    jobs.submit(spec(3))
    with pytest.raises(ApiError) as caught:
        jobs.find(job_id)
    assert caught.value.status == 404


def test_children_stand_for_the_circuits_in_order() -> None:
    jobs, _ = make()
    job = jobs.submit(spec(5_000))
    children = job.child_ids
    assert len({*children, job.id}) == 5_001
    assert list(children) != sorted(children)  # a client that sorts the keys would be wrong
    for index in (0, 1, 77, 4_999):
        assert str(uuid.UUID(children[index])) == children[index]
        assert jobs.find(children[index]) == (job, index)
    body = job_body(job, jobs.clock.monotonic_s(), 1)
    assert (body["name"], body["parent_job_id"], body["type"]) == ("c1", job.id, "ionq.circuit.v1")
    with pytest.raises(ApiError, match="cancel the job"):
        jobs.cancel(children[0])
    with pytest.raises(ApiError, match="delete the job"):
        jobs.delete(children[0])


def test_single_jobs_have_no_children() -> None:
    jobs, _ = make()
    job = jobs.submit(spec())
    with pytest.raises(ApiError):
        jobs.find(job.id[:-4] + "9e37")


def test_the_ledger_shows_what_was_accepted_twice() -> None:
    jobs, _ = make()
    for key in ("a", "b", "a"):
        jobs.submit(spec(metadata={"job_key": key, "qiskit_header": "x" * 4_000}))
    jobs.submit(spec())
    assert jobs.times_accepted("job_key") == {"a": 2, "b": 1}
    assert jobs.accepted == 4
    assert jobs.ledger[0].metadata == {"job_key": "a"}


def test_the_high_water_mark_counts_jobs_in_flight() -> None:
    jobs, clock = make(delays=Delays(started_s=10.0))
    first = jobs.submit(spec())
    jobs.submit(spec())
    jobs.cancel(first.id)
    jobs.submit(spec())
    assert jobs.high_water_mark == 2
    clock.passed_s = 10.0
    for _ in range(3):
        jobs.submit(spec())
    assert jobs.high_water_mark == 3
    jobs.reset()
    assert (jobs.high_water_mark, jobs.accepted, jobs.ledger) == (0, 0, ())


def test_only_so_many_jobs_are_kept() -> None:
    jobs, clock = make(kept_jobs=3, kept_entries=4, delays=Delays(started_s=10.0))
    ids = [jobs.submit(spec()).id for _ in range(3)]
    with pytest.raises(ApiError, match="in flight") as caught:
        jobs.submit(spec())
    assert caught.value.status == 429
    assert jobs.accepted == 3
    jobs.cancel(ids[1])
    ids.append(jobs.submit(spec()).id)  # in place of the one that has ended
    with pytest.raises(ApiError):
        jobs.find(ids[1])
    clock.passed_s = 10.0
    ids += [jobs.submit(spec()).id for _ in range(2)]
    assert [job.id for job in jobs.select(JobFilter(), limit=10)[0]] == ids[:2:-1]
    assert [entry.job_id for entry in jobs.ledger] == ids[-4:]
    assert jobs.accepted == 6


def test_jobs_are_listed_newest_first_page_by_page() -> None:
    jobs, _ = make()
    ids = [jobs.submit(spec()).id for _ in range(7)]
    found, before = [], None
    for _ in range(3):
        page, before = jobs.select(JobFilter(), limit=3, before=before)
        found.append([job.id for job in page])
    assert found == [ids[6:3:-1], ids[3:0:-1], ids[:1]]
    assert before is None
    assert jobs.select(JobFilter(), limit=7)[1] is None


def test_filters() -> None:
    jobs, clock = make(delays=SLOW)
    plain = jobs.submit(spec())
    forte = jobs.submit(spec(backend=FORTE))
    session = jobs.open_session(FORTE, SessionLimits())
    inside = jobs.submit(spec(backend=FORTE, session_id=session.id))
    jobs.cancel(forte.id)

    def ids(**wanted: Any) -> list[str]:
        return [job.id for job in jobs.select(JobFilter(**wanted), limit=10)[0]]

    assert ids(targets=frozenset({FORTE})) == [inside.id, forte.id]
    assert ids(status="canceled") == [forte.id]
    assert ids(session_id=session.id) == [inside.id]
    assert ids(ids=frozenset({plain.id, inside.id})) == [inside.id, plain.id]
    clock.passed_s = 60.0
    assert ids(status="completed") == [inside.id, plain.id]


def test_costs() -> None:
    jobs, _ = make(qpu_price=AZURE)
    wide = {"gate": "x", "target": 4, "controls": [0, 1, 2, 3]}  # five qubits: billed as 6 * 3 two-qubit gates
    body = {"qubits": 5, "circuit": [*bell() * 50, wide]}
    assert jobs.submit(spec(input=body)).cost_usd == 0.0
    job = jobs.submit(spec(input=body, backend=FORTE, shots=10_000))
    assert (job.one_qubit_gates, job.two_qubit_gates) == (50, 68)
    assert math.isclose(job.cost_usd, 10_000 * (50 * 0.000220 + 68 * 0.000975))
    assert math.isclose(jobs.submit(spec(3, backend=FORTE, shots=1)).cost_usd, 3 * 12.4166)


def test_a_session_starts_with_its_first_job_and_ends() -> None:
    jobs, clock = make()
    session = jobs.open_session(FORTE, SessionLimits())
    assert session.started_at_s is None
    clock.passed_s = 5.0
    jobs.submit(spec(backend=FORTE, session_id=session.id))
    assert session.started_at_s == clock.now_s()
    jobs.end_session(session.id)
    clock.passed_s = 9.0
    assert jobs.end_session(session.id).ended_at_s == clock.now_s() - 4.0
    with pytest.raises(ApiError, match="no active session"):
        jobs.submit(spec(backend=FORTE, session_id=session.id))
    with pytest.raises(ApiError, match="no active session"):
        jobs.submit(spec(backend=FORTE, session_id="other"))


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (SessionLimits(jobs=2), "takes 2 jobs"),
        (SessionLimits(duration_min=1), "no active session"),
        (SessionLimits(cost_usd=20.0), "cost limit is 20"),
    ],
)
def test_sessions_keep_their_limits(limits: SessionLimits, what: str) -> None:
    jobs, clock = make()
    session = jobs.open_session(FORTE, limits)
    for _ in range(2):
        jobs.submit(spec(backend=FORTE, session_id=session.id))  # 100 shots for 8.30 USD
        clock.passed_s += 29.0
    clock.passed_s = 60.0
    with pytest.raises(ApiError, match=what):
        jobs.submit(spec(backend=FORTE, session_id=session.id))
    assert jobs.accepted == 2


def test_sessions_are_for_one_backend() -> None:
    jobs, _ = make()
    session = jobs.open_session("qpu.aria-1", SessionLimits())
    with pytest.raises(ApiError, match=f"no active session of this id on {FORTE}"):
        jobs.submit(spec(backend=FORTE, session_id=session.id))


def test_what_qiskit_sends_is_understood() -> None:
    found = spec(
        2,
        name="2 circuits",
        noise={"model": "ideal", "seed": None},
        settings={"error_mitigation": {"debiasing": False}},
        metadata={"shots": "100", "sampler_seed": "None"},
        dry_run=False,
    )
    assert (len(found.circuits), found.circuit_names, found.shots) == (2, ("c0", "c1"), 100)
    assert found.circuits[0].gates is found.circuits[1].gates
    assert spec(shots=None).shots == 100


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"backend": "qpu.harmony"}, "backend must be one of"),
        ({"type": "ionq.qasm3.v1"}, "takes no other"),
        ({"dry_run": True}, "no dry_run"),
        ({"shots": 0}, "from 1 to"),
        ({"shots": True}, "from 1 to"),
        ({"shots": "100"}, "from 1 to"),
        ({"shots": 1_000_001}, "from 1 to"),
        ({"noise": {"model": "harmony"}}, "noise model 'harmony' is not emulated; there are ideal, aria-1, forte-1"),
        ({"noise": {"model": ["ideal"]}}, "is not emulated"),
        ({"noise": {"model": "aria-1", "seed": -1}}, "noise.seed must be a whole number"),
        ({"noise": {"model": "aria-1", "seed": True}}, "noise.seed must be a whole number"),
        ({"noise": {"model": "aria-1", "strength": 2}}, "does not know noise.strength"),
        ({"noise": "ideal"}, "noise must be an object"),
        ({"backend": FORTE, "noise": {"model": "ideal"}}, "simulator only"),
        ({"priority": 1}, "does not know priority"),
        ({"metadata": {"a": 1}}, "object of strings"),
        ({"metadata": {str(index): "" for index in range(11)}}, "11 keys"),
        ({"metadata": {"k" * 41: ""}}, "at most 40 characters"),
        ({"metadata": {"k": "v" * 40_001}}, "values 40000"),
        ({"name": 3}, "name must be a string"),
        ({"settings": {"compilation": {"opt": 0}}}, "does not know settings.compilation"),
        ({"settings": {"error_mitigation": {"debiasing": 1}}}, "true or false"),
        ({"settings": {"error_mitigation": {"debiasing": True}}}, "at least 500 shots"),
        ({"input": []}, "input must be an object"),
        ({"input": {"qubits": 2, "circuit": bell(), "registers": {}}}, "does not know input.registers"),
        ({"input": {"qubits": 2, "gateset": "native", "circuit": []}}, "native gates are not emulated"),
        ({"input": {"qubits": 2, "circuits": []}}, "does not know input.circuits"),
        ({"input": {"qubits": 2.0, "circuit": bell()}}, "qubits must be a whole number"),
        ({"input": {"qubits": 21, "circuit": bell()}}, "21 qubits; this emulator takes 1 to 20"),
        ({"input": {"qubits": 1, "circuit": bell()}}, r"input.circuit\[1\]: 1 is not one of the 1 qubits"),
    ],
)
def test_refused_with_the_reason(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(ApiError, match=what) as caught:
        spec(**fields)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("raw", "limits", "what"),
    [
        ([], {}, "must be a JSON object"),
        (payload(5), {"circuits": 4}, "from 1 to 4 circuits"),
        (payload(0), {}, "from 1 to 5000 circuits"),
        (payload(5), {"gates": 9}, "9 gates over all"),
        (payload(5), {"outcomes": 19}, "too large to emulate together"),
        (payload(5), {"updates": 39}, "too large to emulate together"),
        (payload(5, backend="qpu.forte-1"), {"qubits": 1}, "takes 1 to 1"),
    ],
)
def test_size_limits(raw: object, limits: dict[str, int], what: str) -> None:
    with pytest.raises(ApiError, match=what) as caught:
        parse(raw, **limits)
    assert caught.value.status == 400


def test_limits_hold_up_to_their_value() -> None:
    assert len(parse(payload(5), circuits=5, gates=10, outcomes=20, updates=40, qubits=2).circuits) == 5
