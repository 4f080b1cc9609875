"""Jobs as a resource, through the routes: taken, run, kept over restarts, canceled, priced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from quantum_db.api import JobCalls
from quantum_db.clock import SystemClock
from quantum_db.errors import JobFailed, Unavailable
from quantum_db.jobs.assembly import PoolPolicy, TenantPolicy
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.jobs.stored_jobs import MAX_ESTIMATES, StoredJobs
from serve_app.http import build_app
from tests.open_gate import OPEN_DOORS
from tests.unit.fake_workers import Bench
from tests.unit.test_database import Bench as DatabaseBench
from tests.unit.test_http import MAX_BODY, FakeCluster, problem

BELL = {"format": "qasm3", "source": 'OPENQASM 3; include "stdgates.inc"; qubit[2] q; x q[0]; cx q[0], q[1];'}
JOB = {"backend": "far", "shots": 100, "circuits": [BELL], "name": "a pair"}
POLICY = PoolPolicy(
    window_s=0.001,
    retry=RetryPolicy(attempts=1),
    tenants={"poor": TenantPolicy(usd_per_day=10.0), "broke": TenantPolicy(usd_per_day=0.0)},
)


class Jobs:
    """The routes over a pool of fakes; ``restart`` is a crash of the pool's process."""

    def __init__(self) -> None:
        self.bench = Bench(POLICY)

    async def start(self) -> Jobs:
        await self.bench.start()
        return self.open()

    def open(self) -> Jobs:
        self.stored = StoredJobs(self.bench.pool, self.bench.parts.journal, self.bench.workers, SystemClock())
        self.stored.resume()
        api = DatabaseBench().api
        api.jobs = JobCalls(self.stored, self.bench.pool, "near")
        cluster = FakeCluster()
        app = build_app(api, cluster, cluster.registry, MAX_BODY, OPEN_DOORS)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
        return self

    async def restart(self) -> Jobs:
        await self.bench.pool.close()
        await self.stored.close()
        await self.bench.restart()
        return self.open()

    async def post(self, body: dict[str, Any], tenant: str = "default", path: str = "") -> httpx.Response:
        return await self.client.post(f"/api/v2/jobs{path}", json=body, headers={"x-tenant": tenant})

    async def get(self, path: str, tenant: str = "default") -> Any:
        response = await self.client.get(f"/api/v2/{path}", headers={"x-tenant": tenant})
        return response.json() if response.status_code == 200 else response

    async def ended(self, job_id: str, tenant: str = "default") -> dict[str, Any]:
        for _ in range(1_000):
            job = await self.get(f"jobs/{job_id}", tenant)
            if job["ended_at_s"] is not None:
                return job
            await asyncio.sleep(0.005)
        raise AssertionError(f"the job did not end: {job}")


@pytest.fixture
async def jobs() -> AsyncIterator[Jobs]:
    found = await Jobs().start()
    yield found
    await found.bench.pool.close()
    await found.stored.close()


async def test_a_job_is_taken_run_and_told(jobs: Jobs) -> None:
    taken = await jobs.post(JOB)
    assert taken.status_code == 202, taken.text
    job_id = taken.json()["id"]
    assert taken.headers["location"] == f"/api/v2/jobs/{job_id}"
    job = await jobs.ended(job_id)
    assert (job["status"], job["name"], job["provenance"]) == ("completed", "a pair", "hardware")
    assert job["result"]["counts"] == [{"3": 100}]
    assert job["provider_job_ids"] == ["job-0"]
    assert job["cost_usd"] == pytest.approx(8.3)
    again = await jobs.ended((await jobs.post(JOB)).json()["id"])
    assert (again["cost_usd"], again["reused_circuits"], again["result"]) == (0.0, 1, job["result"])
    assert jobs.bench.workers.calls["submit"] == 1


@pytest.mark.parametrize(
    "prepared",
    [
        {"overlap": {"vector": [1, 0], "vectors": [[1, 0], [0, 1]]}},
        {"entangle": {"members": 3, "correlation_strength": 0.9}},
        {"qaoa": {"relevance": [0.9, 0.8, 0.1], "similarity": [[0, 1, 0], [1, 0, 0], [0, 0, 0]], "count": 2}},
    ],
)
async def test_prepared_jobs_run_on_either_kind_of_backend(jobs: Jobs, prepared: dict[str, Any]) -> None:
    results = []
    for backend in ("near", "far"):
        taken = await jobs.post({"backend": backend, "shots": 2_000, **prepared})
        assert taken.status_code == 202, taken.text
        job = await jobs.ended(taken.json()["id"])
        assert job["status"] == "completed", job
        results.append(job["result"])
    assert results[0].keys() == results[1].keys()
    if "overlap" in prepared:
        found = [one["fidelity"] for one in results[1]["overlaps"]]
        assert found == pytest.approx([1.0, 0.25], abs=0.05), "((1 + cos) / 2)^2"


async def test_a_job_is_taken_once_under_its_key(jobs: Jobs) -> None:
    headers = {"idempotency-key": "k"}

    async def post(to: Jobs, tenant: str = "default", **changes: Any) -> httpx.Response:
        return await to.client.post("/api/v2/jobs", json=JOB | changes, headers=headers | {"x-tenant": tenant})

    taken = await asyncio.gather(*(post(jobs) for _ in range(4)))
    assert {answer.status_code for answer in taken} == {202}
    (job_id,) = {answer.json()["id"] for answer in taken}
    problem(await post(jobs, name="another"), 409, "conflict")
    assert (await post(jobs, "other")).json()["id"] != job_id
    await jobs.ended(job_id)
    again = await jobs.restart()
    assert (await post(again)).json()["id"] == job_id
    problem(await post(again, name="another"), 409, "conflict")


async def test_a_job_that_was_taken_runs_after_a_restart(jobs: Jobs) -> None:
    jobs.bench.workers.finish.clear()
    ids = [(await jobs.post({**JOB, "shots": shots})).json()["id"] for shots in (100, 200)]
    await jobs.bench.until(lambda: jobs.bench.journal.kinds().count("accepted") == 2)
    found = await jobs.get(f"jobs/{ids[0]}")
    assert (found["status"], found["provider_job_ids"]) == ("submitted", ["job-0"])
    await jobs.restart()
    assert (await jobs.get(f"jobs/{ids[1]}"))["status"] in ("queued", "submitted")
    jobs.bench.workers.finish.set()
    for job_id in ids:
        job = await jobs.ended(job_id)
        assert job["status"] == "completed"
        assert job["cost_usd"] == pytest.approx(8.3), "told although another process paid it"
    assert jobs.bench.workers.calls["submit"] == 2
    await jobs.restart()
    assert (await jobs.get(f"jobs/{ids[0]}"))["status"] == "completed", "results are kept"


async def test_a_patient_job_outlasts_a_provider_that_is_away(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantum_db.jobs.stored_jobs.AGAIN_S", 0.01)
    failures = iter([Unavailable("away")] * 3)
    jobs.bench.workers.on_submit = lambda key: fail(next(failures, None))
    job = await jobs.ended((await jobs.post(JOB)).json()["id"])
    assert job["status"] == "completed"
    assert jobs.bench.workers.calls["submit"] == 4


async def test_cancel_reaches_the_provider(jobs: Jobs) -> None:
    jobs.bench.workers.finish.clear()
    job_id = (await jobs.post(JOB)).json()["id"]
    await jobs.bench.until(lambda: jobs.bench.workers.calls["collect"] == 1)
    canceled = (await jobs.client.post(f"/api/v2/jobs/{job_id}/cancel")).json()
    assert canceled["status"] == "canceled"
    await jobs.bench.until(lambda: jobs.bench.workers.jobs[0].status == "canceled")
    again = (await jobs.client.post(f"/api/v2/jobs/{job_id}/cancel")).json()
    assert again["ended_at_s"] == canceled["ended_at_s"], "idempotent"
    await jobs.restart()
    assert (await jobs.get(f"jobs/{job_id}"))["status"] == "canceled"


async def test_a_refused_job_fails_and_says_why(jobs: Jobs) -> None:
    jobs.bench.workers.on_submit = lambda key: fail(JobFailed("the provider refused the job: no"))
    job = await jobs.ended((await jobs.post(JOB)).json()["id"])
    assert (job["status"], job["error"]["slug"]) == ("failed", "job-failed")
    assert "refused the job: no" in job["error"]["detail"]


async def test_a_job_that_meets_a_fault_of_the_pool_itself_fails_and_is_not_left_queued(jobs: Jobs) -> None:
    jobs.bench.pool.run = lambda request, patient: fail(RuntimeError("a bug"))
    job = await jobs.ended((await jobs.post(JOB)).json()["id"])
    assert (job["status"], job["error"]["detail"]) == ("failed", "the job pool failed; see its log")


async def test_an_end_that_cannot_be_written_is_written_later_and_cannot_be_canceled(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantum_db.jobs.stored_jobs.AGAIN_S", 0.1)
    jobs.bench.workers.finish.clear()
    job_id = (await jobs.post(JOB)).json()["id"]
    await jobs.bench.until(lambda: jobs.bench.journal.kinds()[-1] == "accepted")
    jobs.bench.journal.refuse = 2  # the result of the circuits, and the end of the job
    jobs.bench.workers.finish.set()
    await jobs.bench.until(lambda: jobs.bench.journal.refuse == 0)
    told = (await jobs.client.post(f"/api/v2/jobs/{job_id}/cancel")).json()
    assert told["status"] == "completed"
    assert jobs.bench.journal.kinds().count("job_end") == 1


async def test_a_deadline_ends_a_job(jobs: Jobs) -> None:
    jobs.bench.workers.finish.clear()
    job = await jobs.ended((await jobs.post({**JOB, "deadline_s": 1})).json()["id"])
    assert (job["status"], job["error"]["slug"]) == ("failed", "deadline-exceeded")


async def test_budgets_refuse_before_anything_is_written(jobs: Jobs) -> None:
    body = problem(await jobs.post({**JOB, "budget": {"max_usd": 1.0}}), 402, "budget-exceeded")
    assert body["detail"] == "budget.max_usd: the work is estimated at $8.30; $1.00 is left"
    body = problem(await jobs.post(JOB, "broke"), 402, "budget-exceeded")
    assert body["detail"] == "the work is estimated at $8.30; $0.00 is left of today's $0.00"
    assert jobs.bench.journal.records == []


async def test_estimates_and_costs_are_told(jobs: Jobs) -> None:
    told = (await jobs.post(JOB, "poor", "/estimate")).json()
    assert told["cost_usd"] == told["new_cost_usd"] == pytest.approx(8.3)
    assert (told["circuits"], told["shots"], told["two_qubit_gates"]) == (1, 100, 1)
    assert told["price_model"]["name"] == "braket-forte"
    assert told["provider"] == {"cost_usd": 1.0, "wait_s": 2.0, "run_s": 3.0}
    assert told["left_today"] == {"usd": 10.0, "shots": None}
    await jobs.ended((await jobs.post(JOB, "poor")).json()["id"], "poor")
    costs = await jobs.get("costs", "poor")
    (row,) = costs["days"]
    assert (row["backend"], row["jobs"], row["circuits"], row["shots"]) == ("far", 1, 1, 100)
    assert costs["total_usd"] == pytest.approx(8.3)
    assert costs["left_today"]["usd"] == pytest.approx(1.7)
    assert (await jobs.get("costs"))["days"] == [], "another tenant's costs are not told"
    assert (await jobs.get(f"costs?since={row['day']}&until={row['day']}", "poor"))["days"] == [row]
    assert (await jobs.get("costs?until=2020-01-01", "poor"))["days"] == []
    problem(await jobs.get("costs?since=yesterday"), 422, "invalid-request")
    assert (await jobs.post(JOB, "poor", "/estimate")).json()["new_cost_usd"] == 0.0, "it is known already"
    again = await jobs.ended((await jobs.post(JOB, "poor")).json()["id"], "poor")
    assert (again["status"], again["reused_circuits"]) == ("completed", 1), "although the day would not pay for it"


async def test_a_provider_that_hangs_is_asked_for_few_estimates_at_a_time(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantum_db.jobs.stored_jobs.ESTIMATE_TIMEOUT_S", 0.2)
    await jobs.post(JOB, path="/estimate")  # the limits are known
    jobs.bench.workers.hold_far = asyncio.Event()
    asked = [asyncio.create_task(jobs.post(JOB, path="/estimate")) for _ in range(20)]
    await jobs.bench.until(lambda: sum(one.done() for one in asked) == 20 - MAX_ESTIMATES)
    assert jobs.bench.workers.calls["estimate"] == 1 + MAX_ESTIMATES
    for one in filter(asyncio.Task.done, asked):
        told = one.result().json()
        assert told["provider"] == {"problem": "other estimates wait for the provider's word; try again later"}
        assert told["cost_usd"] == pytest.approx(8.3), "the price model needs no provider"
    jobs.bench.workers.hold_far.set()
    answers = [answer.json()["provider"] for answer in await asyncio.gather(*asked)]
    assert sum("cost_usd" in answer for answer in answers) == MAX_ESTIMATES
    assert (await jobs.post(JOB, path="/estimate")).json()["provider"]["cost_usd"] == 1.0, "the places are free again"


async def test_jobs_are_listed_by_pages_and_another_tenants_look_absent(jobs: Jobs) -> None:
    ids = [(await jobs.post({**JOB, "shots": 10 + i})).json()["id"] for i in range(5)]
    theirs = (await jobs.post(JOB, "other")).json()["id"]
    for job_id in ids:
        await jobs.ended(job_id)
    first = await jobs.get("jobs?limit=2")
    assert [job["id"] for job in first["jobs"]] == [ids[4], ids[3]]
    assert "result" not in first["jobs"][0]
    second = await jobs.get(f"jobs?limit=3&cursor={first['next']}")
    assert [job["id"] for job in second["jobs"]] == [ids[2], ids[1], ids[0]]
    assert second["next"] is None
    assert (await jobs.get("jobs?status=queued"))["jobs"] == []
    problem(await jobs.get(f"jobs/{theirs}"), 404, "not-found")
    problem(await jobs.client.post(f"/api/v2/jobs/{theirs}/cancel"), 404, "not-found")
    problem(await jobs.get("jobs?status=done"), 422, "invalid-request")
    problem(await jobs.get("jobs", "bad tenant!"), 422, "invalid-request")


@pytest.mark.parametrize(
    ("change", "status", "slug", "message"),
    [
        ({"backend": "farr"}, 422, "invalid-request", "did you mean 'far'"),
        ({"circuits": [{**BELL, "source": "OPENQASM 3; qubit[2] q; h q[0]"}]}, 422, "invalid-circuit", "circuits[0]"),
        ({"shots": 0}, 422, "invalid-request", "shots"),
        ({"circuits": []}, 422, "invalid-request", "circuits"),
    ],
)
async def test_what_is_wrong_is_told(jobs: Jobs, change: dict[str, Any], status: int, slug: str, message: str) -> None:
    assert message in problem(await jobs.post({**JOB, **change}), status, slug)["detail"]
    assert jobs.bench.journal.records == []


async def test_an_operator_sees_and_sets_breakers(jobs: Jobs) -> None:
    seen = await jobs.get("backends")
    assert (seen["far"]["breaker"], seen["far"]["override"], seen["near"]["kind"]) == ("closed", "auto", "simulator")
    answer = await jobs.client.put("/api/v2/backends/far/breaker", json={"state": "open"})
    assert answer.json()["far"]["breaker"] == "open"
    problem(await jobs.client.put("/api/v2/backends/far/breaker", json={"state": "ajar"}), 422, "invalid-request")
    problem(await jobs.client.put("/api/v2/backends/fax/breaker", json={"state": "open"}), 422, "invalid-request")


def fail(error: Exception | None) -> None:
    if error is not None:
        raise error
