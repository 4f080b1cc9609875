"""Processes of a whole cluster that are killed while paid jobs are under way: nothing is paid for twice or lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import pytest

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
def running(config: Path) -> Iterator[Cluster]:
    with emulator() as provider, emulator() as broken:
        urls = {"ionq": provider.url, "dead": "http://127.0.0.1:9/v0.4", "hanging": broken.url, "refusing": broken.url}
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
