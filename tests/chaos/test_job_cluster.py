"""Processes of a whole cluster that are killed while paid jobs are under way: nothing is paid for twice or lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.api.emulator_server import Emulator
from tests.api.ionq_jobs import backend_of, labelled
from tests.chaos.job_cluster import (
    CONTEXT,
    COORDINATOR,
    PLACES,
    WORKER,
    Cluster,
    cluster,
    emulator,
    kill_all,
    until,
    write_config,
)
from tests.chaos.runs import runs
from tests.ray.test_cluster import insert, ring

KILLS = runs(short=1, long=10)
WHOLE_KILLS = runs(short=1, long=4)
CALLERS = 40
QUERIES = 50

HANG = {"effect": "hang", "hang_s": 30.0, "request": "submit", "times": 1}
FAULTS = (
    {"effect": "status", "status": 504, "carried_out": True, "request": "submit", "probability": 0.3, "times": 3},
    {"effect": "status", "status": 429, "retry_after_s": 0.3, "request": "submit", "probability": 0.3, "times": 3},
    {"effect": "cut", "request": "list", "probability": 0.3, "times": 3},
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chaos") / "config.yaml"


@pytest.fixture(scope="module")
def broken() -> Iterator[Emulator]:
    """A provider that nobody knows of yet."""
    with emulator() as provider:
        yield provider


@pytest.fixture(scope="module")
def running(config: Path, broken: Emulator) -> Iterator[Cluster]:
    with emulator() as provider:
        urls = {"ionq": provider.url, "dead": "http://127.0.0.1:9/v0.4", "new": broken.url, "known": broken.url}
        with cluster(write_config(config, urls), provider) as running:
            insert(running.client, *ring(CONTEXT.removesuffix("-near")))
            yield running


def under_way(running: Cluster) -> list[str]:
    """Return jobs whose submission hangs, carried out or not, and one that is being polled."""
    running.reset()
    running.emulator.plan({**HANG, "carried_out": True}, HANG)
    locations = []
    for job in range(PLACES):
        locations.append(running.submit())
        until(lambda job=job: running.emulator.calls().get("submit", 0) > job or None, "nothing is submitted")
    until(lambda: running.emulator.ledger()["accepted"] >= 2 or None, "the third job is not accepted")
    return locations


def answered_again(running: Cluster, shots: int) -> float:
    """Ask a query until it is answered by circuits; return the seconds that took."""
    began_s = time.monotonic()

    def ask() -> bool | None:
        answer = running.query(shots)
        return True if answer.status_code == 200 and answer.json()["refinement"]["ran"] else None

    until(ask, "no query is answered by circuits")
    return time.monotonic() - began_s


def test_the_check_sees_what_was_paid_for_twice(running: Cluster, broken: Emulator) -> None:
    planted = replace(running, emulator=broken, asked=Counter({100: 1, 101: 1}))
    for key in ("first", "second"):
        backend_of(broken).submit([labelled([1], 1)], 100, job_key=key, timeout_s=30.0)
    assert planted.wrongly_paid() == {100: (1, 2), 101: (1, 0)}
    backend_of(broken).submit([labelled([1], 1)], 101, job_key="second", timeout_s=30.0)
    with pytest.raises(AssertionError, match="accepted more than once under one key"):
        planted.wrongly_paid()
    broken.reset()


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("victim", [WORKER, COORDINATOR])
def test_a_killed_process_leaves_nothing_twice_or_undone(running: Cluster, victim: str) -> None:
    took_s = []
    for _ in range(KILLS):
        locations = under_way(running)
        running.kill(victim)
        running.emulator.plan()
        took_s.append(answered_again(running, running.new_shots(circuits=12)))
        for location in locations:
            running.ended(location)
        assert running.wrongly_paid() == {}
    print(f"{victim} was killed; a query had circuits again after {', '.join(f'{s:.1f}' for s in sorted(took_s))} s")


def test_limits_hold_over_all_workers_and_over_a_kill(running: Cluster) -> None:
    running.reset()
    with ThreadPoolExecutor(CALLERS) as callers:
        locations = list(callers.map(lambda _: running.submit(), range(CALLERS)))
        until(lambda: running.emulator.ledger()["accepted"] >= CALLERS // 4 or None, "nothing is accepted")
        running.kill(COORDINATOR)
        list(callers.map(running.ended, locations))
    assert running.wrongly_paid() == {}
    assert running.emulator.ledger()["high_water_mark"] == PLACES


def test_queries_to_a_broken_provider_end_in_time_and_leave_nothing_behind(running: Cluster, broken: Emulator) -> None:
    """In time means by ``timeout_ms``; the client's own bound is far beyond it."""
    for _ in range(4):  # each worker has been used
        assert running.query(100, "known").json()["refinement"]["provenance"] == "emulator"
    before = load(running)
    assert (before > 0).all(), "the count sees threads and sockets"
    with ThreadPoolExecutor(QUERIES) as callers:
        for backend, rules, expected in (
            ("new", [{"effect": "hang", "hang_s": 300.0}], {"deadline-exceeded"}),
            ("dead", [], {"unavailable"}),
            ("known", [{"effect": "status", "status": 429, "retry_after_s": 0.1}], {"unavailable", "breaker-open"}),
            ("known", [{"effect": "hang", "hang_s": 300.0}], {"deadline-exceeded", "breaker-open", "outcome-unclear"}),
        ):
            broken.plan(*rules)
            asked = [callers.submit(running.query, 200 + number, backend, 3_000) for number in range(QUERIES)]
            assert running.query(100, "simulator").json()["refinement"]["ran"], "others are not held up"
            for answer in [query.result() for query in asked]:
                assert answer.json()["type"].rpartition(":")[2] in expected, answer.text
                assert answer.json()["detail"]
    broken.plan()
    print(f"threads and sockets of each worker: {before.tolist()} before, {load(running).tolist()} after")
    until(lambda: bool(np.all(load(running) <= before + PLACES)) or None, f"more than {before} is left")


def load(running: Cluster) -> np.ndarray[Any, Any]:
    """Return the threads and the sockets of each worker."""
    workers = running.processes(WORKER)
    return np.array([[worker.num_threads(), len(worker.net_connections("tcp"))] for worker in workers])


@pytest.mark.timeout(1_200)
def test_a_cluster_that_is_killed_whole_goes_on_where_it_was(running: Cluster, config: Path) -> None:
    """The last test of this file: it kills the cluster that the others share."""
    provider, asked = running.emulator, running
    with ExitStack() as stack:
        for _ in range(WHOLE_KILLS):
            asked.reset()
            answered = asked.new_shots(circuits=12)
            assert asked.query(answered).json()["refinement"]["reused_circuits"] == 0
            provider.plan(*FAULTS)
            interrupted = [asked.new_shots(circuits=12) for _ in range(3)]
            callers = stack.enter_context(ThreadPoolExecutor(len(interrupted)))
            cut_off = [callers.submit(asked.query, shots) for shots in interrupted]
            locations = [asked.submit() for _ in range(5)]
            until(lambda: provider.ledger()["accepted"] >= 3 or None, "nothing is accepted")
            kill_all(asked.live)
            wait(cut_off)
            again = stack.enter_context(cluster(config, provider))
            again.asked = asked.asked
            asked = again
            for location in locations:
                asked.ended(location)
            for shots in interrupted:
                answered_again(asked, shots)
            assert asked.wrongly_paid() == {}
            for shots in (answered, *interrupted):
                refinement = asked.query(shots).json()["refinement"]
                assert (refinement["reused_circuits"], refinement["cost_usd"]) == (12, 0.0)
            assert asked.wrongly_paid() == {}
