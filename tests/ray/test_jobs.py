"""The job pool on a whole cluster: over HTTP, by handle, with the real qiskit-ionq client against the emulator."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.ray.test_cluster import insert, ring

BELL = {"format": "qasm3", "source": 'OPENQASM 3; include "stdgates.inc"; qubit[2] q; h q[0]; cx q[0], q[1];'}
IONQ_BELL = {
    "format": "ionq",
    "qubits": 2,
    "circuit": [{"gate": "h", "target": 0}, {"gate": "cnot", "control": 0, "target": 1}],
}


def ended(client: httpx.Client, location: str, tenant: str = "default") -> dict[str, Any]:
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        job = client.get(location, headers={"x-tenant": tenant}).json()
        if job["ended_at_s"] is not None:
            return job
        time.sleep(0.05)
    raise AssertionError(f"the job did not end: {job}")


@pytest.mark.parametrize("backend", ["simulator", "ionq"])
def test_a_job_in_both_languages_gives_the_same_pairs(client: httpx.Client, backend: str) -> None:
    body = {"backend": backend, "shots": 2_000, "circuits": [BELL, IONQ_BELL], "name": f"pairs on {backend}"}
    taken = client.post("/api/v2/jobs", json=body)
    assert taken.status_code == 202, taken.text
    job = ended(client, taken.headers["location"])
    assert (job["status"], job["circuits"]) == ("completed", 2)
    assert job["provenance"] == {"simulator": "simulated shots", "ionq": "emulator"}[backend]
    assert len(job["provider_job_ids"]) == (backend == "ionq")
    for counts in job["result"]["counts"]:
        assert set(counts) == {"0", "3"}
        assert abs(counts["0"] - 1_000) < 5 * 22.4, "5 standard deviations"
    assert job["id"] in [listed["id"] for listed in client.get("/api/v2/jobs").json()["jobs"]]


def test_the_same_question_costs_nothing_the_second_time(client: httpx.Client) -> None:
    insert(client, *ring("again"))
    body = {"vector": [1.0, 0.0], "context": "again-near", "backend": "ionq", "refine": "always", "timeout_ms": 30_000}
    first = client.post("/api/v2/query", json=body).json()["refinement"]
    second = client.post("/api/v2/query", json=body).json()["refinement"]
    assert (first["reused_circuits"], second["reused_circuits"]) == (0, first["circuits"])
    assert second["provider_job_ids"] == first["provider_job_ids"]


def test_work_of_concurrent_queries_goes_together_and_each_has_its_own_outcome(client: httpx.Client) -> None:
    insert(client, *ring("together"))
    good = {"vector": [1.0, 0.0], "context": "together-near", "backend": "simulator", "refine": "always"}
    poor = {**good, "vector": [0.8, 0.6], "budget": {"max_shots": 1}}  # others' circuits would cost it nothing
    bodies = [good, poor, {**good, "shots": 500}, {**good, "mode": "precise"}] * 10
    with ThreadPoolExecutor(len(bodies)) as threads:
        answers = list(threads.map(lambda body: client.post("/api/v2/query", json=body), bodies))
    assert [answer.status_code for answer in answers] == [200, 402, 200, 200] * 10
    found = [answer.json()["refinement"] for answer in answers if answer.status_code == 200]
    assert all(one["ran"] and one["provenance"] == "simulated shots" for one in found)
    assert {one["shots"] // one["circuits"] for one in found[1::3]} == {500}, "nobody is given another's shots"


def test_estimates_are_compared_with_the_providers(client: httpx.Client) -> None:
    body = {"backend": "ionq", "shots": 1_000, "circuits": [BELL]}
    told = client.post("/api/v2/jobs/estimate", json=body).json()
    assert told["cost_usd"] == told["provider"]["cost_usd"] == 0.0, "IonQ's simulator is free"
    assert told["price_model"]["name"] == "free"
    assert (told["circuits"], told["two_qubit_gates"]) == (1, 1)


def test_a_tenants_jobs_look_absent_to_others(client: httpx.Client) -> None:
    taken = client.post("/api/v2/jobs", json={"shots": 10, "circuits": [BELL]}, headers={"x-tenant": "a"})
    location = taken.headers["location"]
    assert client.get(location, headers={"x-tenant": "b"}).status_code == 404
    assert client.post(f"{location}/cancel", headers={"x-tenant": "b"}).status_code == 404
    assert ended(client, location, "a")["status"] == "completed"
    assert {row["backend"] for row in client.get("/api/v2/costs", headers={"x-tenant": "a"}).json()["days"]} == {
        "simulator"
    }


def test_what_cannot_run_is_told_by_place(client: httpx.Client) -> None:
    bad = {"format": "qasm3", "source": "OPENQASM 3; qubit[2] q; reset q[0];"}
    refused = client.post("/api/v2/jobs", json={"shots": 10, "circuits": [BELL, bad]})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("circuits[1]")


def test_an_operator_switches_a_backend_off_and_queries_say_so(client: httpx.Client) -> None:
    insert(client, *ring("off"))
    body = {"vector": [1.0, 0.0], "context": "off-near", "backend": "ionq", "refine": "always", "shots": 777}
    assert client.put("/api/v2/backends/ionq/breaker", json={"state": "open"}).json()["ionq"]["breaker"] == "open"
    try:
        refinement = client.post("/api/v2/query", json=body).json()["refinement"]
        assert not refinement["ran"]
        assert "ionq is switched off by an operator" in refinement["why"]
        routed = client.post("/api/v2/query", json={**body, "backend": "auto", "explain": True}).json()["refinement"]
        assert routed["routing"]["chosen"] == "simulator"
        problems = {option["backend"]: option["problem"] for option in routed["routing"]["options"]}
        assert problems["ionq"] == "its breaker is open"
    finally:
        client.put("/api/v2/backends/ionq/breaker", json={"state": "auto"})
    assert client.post("/api/v2/query", json=body).json()["refinement"]["ran"]


def test_a_budget_is_kept_before_anything_is_submitted(client: httpx.Client) -> None:
    insert(client, *ring("poor"))
    body = {"vector": [1.0, 0.0], "context": "poor-near", "refine": "always", "budget": {"max_shots": 100}}
    refused = client.post("/api/v2/query", json=body)
    assert refused.status_code == 402, refused.text
    assert refused.json()["detail"].startswith("budget.max_shots: the work takes")


def test_a_paid_machine_is_priced_estimated_and_kept_within_the_day(client: httpx.Client) -> None:
    """100 shots on Forte by Braket's list: $0.30 + 100 * $0.08 = $8.30 for each circuit; a day of $20 pays for two."""
    body = {"backend": "forte", "shots": 100, "circuits": [BELL]}
    small = {"x-tenant": "small"}
    told = client.post("/api/v2/jobs/estimate", json=body, headers=small).json()
    assert told["cost_usd"] == pytest.approx(8.3)
    assert told["provider"]["cost_usd"] == pytest.approx(told["cost_usd"]), "by GET /jobs/estimate"
    assert told["left_today"]["usd"] == 20.0
    for shots in (100, 101):
        taken = client.post("/api/v2/jobs", json={**body, "shots": shots}, headers=small)
        job = ended(client, taken.headers["location"], "small")
        assert job["cost_usd"] == pytest.approx(0.3 + 0.08 * shots)
        assert job["provenance"] == "emulator"
    refused = client.post("/api/v2/jobs", json={**body, "shots": 102}, headers=small)
    assert refused.status_code == 402, refused.text
    assert refused.json()["detail"] == "the work is estimated at $8.46; $3.32 is left of today's $20.00"
    again = client.post("/api/v2/jobs", json=body, headers=small)
    assert ended(client, again.headers["location"], "small")["cost_usd"] == 0.0, "it is known already"
    costs = client.get("/api/v2/costs", headers=small).json()
    assert costs["total_usd"] == pytest.approx(16.68)
    assert costs["days"][0]["reused_circuits"] == 1
