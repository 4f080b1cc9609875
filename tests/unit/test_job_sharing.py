"""Who shares a job: callers who come together, within bounds that keep it short."""

from __future__ import annotations

import asyncio

import pytest

from quantum_db.jobs.assembly import PoolPolicy
from quantum_db.jobs.dispatch import SHARED_CIRCUITS
from quantum_db.jobs.lanes import LONGEST_WINDOW_S
from tests.unit.fake_workers import Bench, outcomes_of


async def test_concurrent_callers_share_a_job_and_each_gets_its_own() -> None:
    bench = await Bench().start()
    results = await asyncio.gather(*(bench.ask(i % 8, (i + 3) % 8, shots=100 + i // 8) for i in range(64)))
    for i, result in enumerate(results):
        assert outcomes_of(result) == [i % 8, (i + 3) % 8]
        assert sum(result.counts[0].values()) == 100 + i // 8
    assert len(bench.workers.jobs) == 8, "one for each number of shots"
    assert [len(part) for job in bench.workers.jobs for part in job.parts] == [8] * 8, "equal circuits run once"


async def test_while_jobs_are_in_flight_a_caller_waits_longer_for_others() -> None:
    bench = await Bench().start()
    lane = bench.pool.lane("far")
    lane.note_job(1.0, 1)
    assert [lane.share_s(0), lane.share_s(1)] == [0.001, 0.1]
    lane.note_job(1_000.0, 1)
    assert lane.share_s(1) == LONGEST_WINDOW_S
    bench.workers.finish.clear()
    first = asyncio.create_task(bench.ask(0))
    await bench.until(lambda: len(bench.workers.jobs) == 1)
    began_s = asyncio.get_running_loop().time()
    others = [asyncio.create_task(bench.ask(place)) for place in (1, 2)]
    await bench.until(lambda: bench.pool.backends()["far"]["waiting"] == 2)
    assert lane.pump_due_s >= began_s + LONGEST_WINDOW_S
    bench.workers.finish.set()
    await asyncio.gather(first, *others)
    near = bench.pool.lane("near")
    near.note_job(1.0, 1)
    assert near.share_s(1) == 0.0, "where nothing is paid nobody waits"


async def test_a_flood_does_not_make_the_jobs_of_others_long() -> None:
    bench = await Bench(PoolPolicy(window_s=0.001, max_in_flight=1)).start()
    bench.workers.finish.clear()
    asked = [asyncio.create_task(bench.ask(0))]
    await bench.until(lambda: len(bench.workers.jobs) == 1)
    tenants = map(str, range(SHARED_CIRCUITS))
    asked += [asyncio.create_task(bench.ask(1, tenant=tenant, priority="batch")) for tenant in tenants]
    asked.append(asyncio.create_task(bench.ask(2)))
    await bench.until(lambda: bench.pool.backends()["far"]["waiting"] == SHARED_CIRCUITS + 1)
    bench.workers.finish.set()
    await asyncio.gather(*asked)
    assert [sum(map(len, job.parts)) for job in bench.workers.jobs] == [1, SHARED_CIRCUITS, 1]


async def test_equal_circuits_of_two_tenants_are_not_shared() -> None:
    bench = await Bench().start()
    one, other = await asyncio.gather(bench.ask(3, tenant="one"), bench.ask(3, tenant="other"))
    assert outcomes_of(one) == outcomes_of(other) == [3]
    assert one.cost_usd == other.cost_usd == pytest.approx(8.3)
    assert len(bench.workers.jobs[0].parts[0]) == 2
    assert (await bench.ask(3, tenant="third")).reused_circuits == 0
