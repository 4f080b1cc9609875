"""Results come to the circuits that they belong to, whatever the order in which a provider writes them."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from quantum_db.errors import JobFailed, Unavailable
from quantum_db.ionq.backend import IonQBackend
from quantum_db.ionq.emulated_jobs import Delays
from tests.api.emulator_server import Emulator, emulator_thread
from tests.api.ionq_jobs import FORTE, LONG_S, agrees, backend_of, labelled, overlaps, run, submit, survives_pickling
from tests.api.raw_server import http, raw_server

OUTCOMES = [*range(32), 5, 5, 0]


@pytest.fixture(scope="module")
def shuffling() -> Iterator[Emulator]:
    with emulator_thread(seed=3, shuffle_results=True) as running:
        yield running


@pytest.fixture
def shuffled(shuffling: Emulator) -> Emulator:
    shuffling.reset()
    assert shuffling.jobs is not None
    shuffling.jobs.delays = Delays()
    shuffling.jobs.listing_lag_s = 0.0
    return shuffling


def is_in_order(backend: IonQBackend, outcomes: list[int] = OUTCOMES) -> bool:
    return run(backend, labelled(outcomes, 5), 11).counts == tuple({outcome: 11} for outcome in outcomes)


@pytest.mark.parametrize("target", ["simulator", FORTE])
def test_shuffled_results_come_to_their_circuits(shuffled: Emulator, target: str) -> None:
    backend = backend_of(shuffled, target=target)
    assert is_in_order(backend)
    assert shuffled.calls()["list"] == 1  # the names were asked for
    batch = overlaps(12)
    assert agrees(run(backend, batch, 5_000), batch)


def test_results_in_order_take_no_further_call(emulator: Emulator) -> None:
    assert is_in_order(backend_of(emulator))
    assert "list" not in emulator.calls()


def test_one_that_trusts_the_order_of_the_keys_is_caught(shuffled: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantum_db.ionq.backend.in_agreed_order", lambda rows, child_ids: list(rows.values()))
    backend = backend_of(shuffled)
    assert not is_in_order(backend)
    batch = overlaps(12)
    assert not agrees(run(backend, batch, 5_000), batch)


def test_the_largest_job_is_put_in_order_page_by_page(shuffled: Emulator) -> None:
    outcomes = [index % 2 for index in range(5_000)]
    counts = run(backend_of(shuffled), labelled(outcomes, 1), 3, timeout_s=2 * LONG_S).counts
    assert counts == tuple({outcome: 3} for outcome in outcomes)
    assert shuffled.calls()["list"] == 50


def test_one_circuit_has_no_order(shuffled: Emulator) -> None:
    assert is_in_order(backend_of(shuffled), [6])
    assert "list" not in shuffled.calls()


def test_a_list_of_circuits_that_lags_behind_is_waited_for(shuffled: Emulator) -> None:
    assert shuffled.jobs is not None
    shuffled.jobs.listing_lag_s = 0.3
    assert is_in_order(backend_of(shuffled))
    assert shuffled.calls()["list"] > 1


def test_circuits_that_are_not_listed_in_time_lose_nothing(shuffled: Emulator) -> None:
    assert shuffled.jobs is not None
    shuffled.jobs.listing_lag_s = 600.0
    backend = backend_of(shuffled)
    job_id = submit(backend, labelled(OUTCOMES, 5), 11)
    with pytest.raises(Unavailable, match=f"as yet 0 of the 35 circuits of job {job_id} are listed") as caught:
        backend.collect(job_id, [5] * 35, 11, timeout_s=0.3)
    assert survives_pickling(caught.value)
    shuffled.jobs.listing_lag_s = 0.0
    counts = backend.collect(job_id, [5] * 35, 11, timeout_s=LONG_S).result.counts
    assert counts == tuple({outcome: 11} for outcome in OUTCOMES)


@pytest.mark.parametrize("status", [403, 404])
def test_a_list_of_circuits_that_is_refused_is_no_reason_to_guess(shuffled: Emulator, status: int) -> None:
    backend = backend_of(shuffled)
    job_id = submit(backend, labelled(OUTCOMES, 5), 11)
    shuffled.plan({"effect": "status", "status": status, "request": "list"})
    with pytest.raises((Unavailable, JobFailed), match=f"HTTP {status}"):
        backend.collect(job_id, [5] * 35, 11, timeout_s=LONG_S)


# --- a provider whose children make no sense


def children(*entries: tuple[str, str | None], parent: str = "job") -> list[dict[str, Any]]:
    return [{"id": child, "name": name, "parent_job_id": parent} for child, name in entries]


def provider_with(
    listed: list[dict[str, Any]], child_ids: list[str] | None = None
) -> Callable[[socket.socket, bytes], None]:
    """Return a provider whose job of two circuits, a with outcome 1 and b with outcome 2, has these children listed."""

    def answer(connection: socket.socket, request: bytes) -> None:
        path = request.split(b" ")[1].decode()
        job = {
            "id": "job",
            "status": "completed",
            "child_job_ids": child_ids,
            "results": {"probabilities": {"url": "/v0.4/results"}},
        }
        body: Any = job if path == "/v0.4/jobs/job" else {"jobs": listed, "next": None}
        if path == "/v0.4/results":
            body = {"a": {"1": 1.0}, "b": {"2": 1.0}}
        connection.sendall(http("200 OK", json.dumps(body).encode()))

    return answer


@pytest.mark.parametrize(
    ("listed", "child_ids", "first"),
    [
        ([], ["a", "b"], 1),
        (children(("b", "1"), ("a", "0")), None, 1),
        (children(("b", "0"), ("a", "1")), None, 2),
        (children(("a", "0"), ("b", "1")), ["b", "a"], 1),
        ([*children(("c", "0"), parent="other"), *children(("b", "0"), ("a", "1"))], ["b", "a"], 2),
    ],
)
def test_what_can_be_matched_is_matched(listed: list[dict[str, Any]], child_ids: list[str] | None, first: int) -> None:
    with raw_server(provider_with(listed, child_ids)) as (url, _):
        counts = backend_of(url).collect("job", [2, 2], 5, timeout_s=LONG_S).result.counts
    assert counts == ({first: 5}, {3 - first: 5})


@pytest.mark.parametrize(
    "listed",
    [
        children(("a", "0"), ("b", "0")),
        children(("a", "0"), ("b", "2")),
        children(("a", "0"), ("b", None)),
        children(("a", None), ("b", None)),
        children(("a", "0"), ("c", "1")),
        children(("a", "0"), ("b", "1"), ("c", "2")),
        children(("a", "00"), ("b", "1")),
    ],
)
def test_what_cannot_be_matched_one_to_one_is_a_failed_job(listed: list[dict[str, Any]]) -> None:
    with (
        raw_server(provider_with(listed, ["b", "a"])) as (url, _),
        pytest.raises(JobFailed, match="the results of job job cannot be matched to its circuits one to one") as caught,
    ):
        backend_of(url).collect("job", [2, 2], 5, timeout_s=LONG_S)
    assert survives_pickling(caught.value)
