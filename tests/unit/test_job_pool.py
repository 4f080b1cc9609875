"""The pool's flow: one paid job for each piece of work, results to their callers, results that are kept."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from quantum_db.backend_ports import AdaptiveAim
from quantum_db.errors import (
    DeadlineExceeded,
    Fenced,
    InvalidCircuit,
    InvalidRequest,
    JobCanceled,
    JobFailed,
    OutcomeUnclear,
    Overloaded,
    Unavailable,
)
from quantum_db.jobs.assembly import PoolPolicy
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.jobs.submission import ProtocolLimits
from tests.unit.fake_workers import PAID, Bench, labelled, outcomes_of, request

QUICK = PoolPolicy(
    window_s=0.001,
    retry=RetryPolicy(first_s=0.0, longest_s=0.0),
    protocol=ProtocolLimits(begin_s=0.05, call_s=0.05, settle_s=0.1, longest_pause_s=0.05),
)


async def test_the_intent_is_durable_before_anything_is_submitted() -> None:
    bench = await Bench().start()
    seen: list[list[str]] = []
    bench.workers.on_submit = lambda key: seen.append(bench.journal.kinds())
    result = await bench.ask(5, 2)
    assert outcomes_of(result) == [5, 2]
    assert result.cost_usd == pytest.approx(16.6)
    assert seen == [["intent"]]
    assert bench.journal.kinds() == ["intent", "accepted", "done"]
    assert bench.spent() == (pytest.approx(16.6), 0.0)


async def test_the_same_question_costs_nothing_also_after_a_restart() -> None:
    bench = await Bench().start()
    first = await bench.ask(1, 2, 3)
    again = await bench.ask(2, 1)
    assert (again.reused_circuits, again.cost_usd, outcomes_of(again)) == (2, 0.0, [2, 1])
    assert again.provider_job_ids == first.provider_job_ids
    await bench.restart()
    after = await bench.ask(3, 4)
    assert (after.reused_circuits, outcomes_of(after)) == (1, [3, 4])
    assert after.cost_usd == pytest.approx(8.3)
    assert len(bench.workers.jobs) == 2
    assert (await bench.ask(3, shots=200)).reused_circuits == 0, "other shots are another question"


async def test_a_lost_answer_is_looked_for_and_never_submitted_again() -> None:
    bench = await Bench(QUICK).start()
    bench.workers.after_submit = lambda key: fail(OutcomeUnclear("504"))
    assert outcomes_of(await bench.ask(6)) == [6]
    assert bench.workers.calls["submit"] == 1


async def test_while_the_outcome_is_unclear_callers_are_told_and_nothing_is_submitted() -> None:
    bench = await Bench().start()  # with the real settling time
    bench.workers.after_submit = lambda key: fail(OutcomeUnclear("cut"))
    bench.workers.listed = False
    with pytest.raises(OutcomeUnclear, match="it is being looked for"):
        await bench.ask(6)
    with pytest.raises(OutcomeUnclear):
        await bench.ask(6)
    assert bench.workers.calls["submit"] == 1
    assert bench.spent()[1] == pytest.approx(8.3), "it may have to be paid"
    bench.workers.after_submit = lambda key: None
    bench.workers.listed = True
    waiting = bench.pool.run(request("patient", 6), patient=True)
    assert outcomes_of(await waiting) == [6]
    assert bench.workers.calls["submit"] == 1


async def test_what_was_certainly_not_accepted_is_submitted_again_three_times_at_most() -> None:
    bench = await Bench(QUICK).start()
    failures = iter([Unavailable("429"), Unavailable("no connection")])
    bench.workers.on_submit = lambda key: fail(next(failures, None))
    assert outcomes_of(await bench.ask(1)) == [1]
    assert bench.workers.calls["submit"] == 3
    assert bench.journal.kinds() == ["intent", "intent", "intent", "accepted", "done"]
    bench.workers.on_submit = lambda key: fail(Unavailable("429"))
    with pytest.raises(Unavailable, match="429"):
        await bench.ask(2)
    assert bench.workers.calls["submit"] == 6
    assert bench.spent() == (pytest.approx(8.3), 0.0)


async def test_a_job_that_is_certainly_not_there_is_submitted_again_under_its_key() -> None:
    bench = await Bench(QUICK).start()
    keys: list[str] = []

    def cut(key: str) -> None:
        keys.append(key)
        if len(keys) == 1:
            raise OutcomeUnclear("cut")

    bench.workers.on_submit = cut
    assert outcomes_of(await bench.pool.run(request("r", 1), patient=True)) == [1]
    assert len(keys) == 2
    assert keys[0] == keys[1]


async def test_a_refused_job_of_several_callers_is_submitted_one_by_one() -> None:
    bench = await Bench().start()

    refusals = iter([JobFailed("refused"), None, JobFailed("refused"), None])
    bench.workers.on_submit = lambda key: fail(next(refusals))
    found = await asyncio.gather(bench.ask(1), bench.ask(2), bench.ask(3), return_exceptions=True)
    assert sum(isinstance(result, JobFailed) for result in found) == 1
    assert [outcomes_of(r) for r in found if not isinstance(r, BaseException)] in ([[1], [2]], [[1], [3]], [[2], [3]])
    assert bench.spent() == (pytest.approx(16.6), 0.0)


async def test_when_all_callers_have_left_the_job_is_canceled_at_the_provider() -> None:
    bench = await Bench().start()
    bench.workers.finish.clear()
    callers = [asyncio.create_task(bench.pool.run(request(f"c{i}", 1, i))) for i in (2, 3)]
    await bench.until(lambda: bench.workers.calls["collect"] == 1)
    callers[0].cancel()
    await asyncio.sleep(0.05)
    assert bench.workers.jobs[0].status == "started", "one still waits"
    bench.pool.leave("c3")
    await bench.until(lambda: bench.workers.jobs[0].status == "canceled")
    await bench.until(lambda: bench.journal.kinds()[-1] == "failed")
    assert bench.spent() == (0.0, 0.0)


async def test_a_job_that_ends_before_it_can_be_canceled_is_paid_and_kept() -> None:
    bench = await Bench().start()
    bench.workers.finish.clear()
    with pytest.raises(DeadlineExceeded, match="within 1 s"):
        await bench.ask(1, timeout_s=1.0)
    bench.workers.jobs[0].status = "completed"
    bench.workers.finish.set()
    await bench.until(lambda: "done" in bench.journal.kinds() or "failed" in bench.journal.kinds())
    bench.workers.calls.clear()
    if "done" in bench.journal.kinds():  # the cancellation may have been quicker
        assert (await bench.ask(1)).provider_job_ids == ("job-0",)
        assert bench.workers.calls["submit"] == 0


async def test_jobs_at_the_provider_are_taken_up_after_a_restart() -> None:
    bench = await Bench().start()
    bench.workers.finish.clear()
    caller = asyncio.create_task(bench.pool.run(request("c", 4)))
    await bench.until(lambda: bench.journal.kinds() == ["intent", "accepted"])
    await bench.restart()
    with pytest.raises(Unavailable, match="shutting down"):
        await caller
    again = asyncio.create_task(bench.ask(4))
    await asyncio.sleep(0.02)
    bench.workers.finish.set()
    assert outcomes_of(await again) == [4]
    assert bench.workers.calls["submit"] == 1
    assert bench.spent() == (pytest.approx(8.3), 0.0)


async def test_who_joined_a_job_that_is_canceled_runs_it_though_its_own_is_unclear() -> None:
    bench = await Bench(QUICK).start()
    bench.workers.finish.clear()
    first = asyncio.create_task(bench.ask(1))
    await bench.until(lambda: bench.workers.calls["collect"] == 1)
    failures = iter([OutcomeUnclear("cut")])
    bench.workers.on_submit = lambda key: fail(next(failures, None))
    second = asyncio.create_task(bench.pool.run(request("second", 1, 2), patient=True))
    await bench.until(lambda: bench.workers.calls["find"] == 1)
    bench.workers.jobs[0].status = "canceled"
    with pytest.raises(JobCanceled):
        await first
    bench.workers.finish.set()
    assert outcomes_of(await second) == [1, 2]
    assert bench.spent() == (pytest.approx(16.6), 0.0)


async def test_a_request_is_made_again_under_its_key_after_a_restart() -> None:
    bench = await Bench(PoolPolicy(window_s=0.001, max_in_flight=1), replace(PAID, max_circuits=1)).start()
    bench.workers.finish.clear()
    caller = asyncio.create_task(bench.pool.run(request("r", 4, 5)))
    await bench.until(lambda: bench.journal.kinds() == ["intent", "accepted"])
    await bench.restart()
    with pytest.raises(Unavailable, match="shutting down"):
        await caller
    again = asyncio.create_task(bench.pool.run(request("r", 4, 5)))
    await asyncio.sleep(0.02)
    bench.workers.finish.set()
    assert outcomes_of(await again) == [4, 5]
    assert bench.workers.calls["submit"] == 2
    assert bench.spent() == (pytest.approx(16.6), 0.0)


async def test_an_intent_without_a_job_is_dropped_when_that_is_certain() -> None:
    bench = await Bench(QUICK).start()
    bench.workers.on_submit = lambda key: fail(OutcomeUnclear("cut"))
    bench.workers.listed = False
    with pytest.raises((OutcomeUnclear, DeadlineExceeded)):
        await bench.ask(4, timeout_s=0.05)
    await bench.restart()
    bench.workers.on_submit = lambda key: None
    await bench.until(lambda: bench.journal.kinds()[-1] == "failed")
    assert bench.spent() == (0.0, 0.0)
    assert outcomes_of(await bench.ask(4)) == [4]


async def test_without_a_journal_nothing_is_submitted() -> None:
    bench = await Bench().start()
    bench.journal.refuse = 1
    with pytest.raises(Unavailable, match="the disk is full"):
        await bench.ask(1)
    assert bench.workers.calls["submit"] == 0
    assert bench.spent() == (0.0, 0.0)


async def test_a_result_that_cannot_be_written_is_given_all_the_same_and_written_later() -> None:
    bench = await Bench(QUICK).start()
    bench.workers.on_collect = lambda: setattr(bench.journal, "refuse", 2)
    await bench.until(lambda: not bench.journal.refuse)
    assert outcomes_of(await bench.ask(1)) == [1]
    await bench.until(lambda: bench.journal.kinds()[-1] == "done")


async def test_a_pool_that_was_taken_over_stops_writing() -> None:
    bench = await Bench().start()
    bench.journal.begin_epoch("jobs")
    with pytest.raises(Unavailable):
        await bench.ask(1)
    assert bench.fenced
    assert bench.workers.calls["submit"] == 0


async def test_a_pool_that_was_taken_over_while_it_waited_to_try_again_sends_nothing() -> None:
    bench = await Bench(QUICK).start()

    def taken_over(key: str) -> None:
        bench.journal.begin_epoch("jobs")
        raise Unavailable("429")

    bench.workers.on_submit = taken_over
    with pytest.raises(Fenced):
        await bench.ask(1, timeout_s=1.0)
    assert bench.fenced
    assert bench.workers.calls["submit"] == 1


async def test_the_time_to_begin_runs_from_before_the_intent_was_written() -> None:
    bench = await Bench().start()
    append, submit = bench.journal.append, bench.workers.submit
    written_s: list[float] = []
    begin_by_s: list[float] = []

    def slow(*arguments: Any, **options: Any) -> int:
        time.sleep(0.05)
        written_s.append(time.time())
        return append(*arguments, **options)

    async def noted(*arguments: Any, **options: Any) -> str:
        begin_by_s.append(options["begin_by_s"])
        return await submit(*arguments, **options)

    bench.journal.append, bench.workers.submit = slow, noted
    await bench.ask(1)
    assert begin_by_s[0] <= written_s[0] - 0.05 + bench.policy.protocol.begin_s


async def test_shots_beyond_a_job_are_several_independent_jobs() -> None:
    bench = await Bench().start()
    result = await bench.ask(1, shots=25_000)
    assert sum(result.counts[0].values()) == 25_000
    assert [job.shots for job in bench.workers.jobs] == [10_000, 10_000, 5_000]


async def test_circuits_beyond_a_job_are_several_jobs_in_order() -> None:
    limits = replace(PAID, max_circuits=5)
    bench = await Bench(limits=limits).start()
    result = await bench.pool.run(request("r", parts=(labelled(0, 1, 2, 3), labelled(4, 5, 6), labelled(7, qubits=4))))
    assert outcomes_of(result) == list(range(8))
    assert max(sum(map(len, job.parts)) for job in bench.workers.jobs) <= 5


async def test_adaptive_rounds_are_jobs_of_fresh_shots() -> None:
    bench = await Bench().start()
    aim = AdaptiveAim(top_k=1, epsilon=0.0, confidence=0.95, max_shots=50_000)
    result = await bench.pool.run(request("r", 0, 1, 2, adaptive=aim))
    assert result.selection is not None
    assert result.selection.indices.tolist() == [0]
    assert len(result.provider_job_ids) == result.selection.rounds


async def test_rounds_of_more_shots_than_a_job_takes_are_several_jobs() -> None:
    bench = await Bench(limits=replace(PAID, max_shots=150)).start()
    aim = AdaptiveAim(top_k=1, epsilon=0.0, confidence=0.95, max_shots=5_000)
    result = await bench.pool.run(request("r", 0, 1, 2, adaptive=aim))
    assert result.selection is not None
    assert [sum(counts.values()) for counts in result.counts] == result.selection.shots.tolist()
    assert max(job.shots for job in bench.workers.jobs) == 150


async def test_a_local_backend_is_neither_paid_nor_written_down() -> None:
    bench = await Bench().start()
    bench.workers.hold_local = asyncio.Event()
    asked = [asyncio.create_task(bench.ask(i % 8, backend="near")) for i in range(40)]
    await bench.until(lambda: len(bench.workers.local) == 1)
    bench.workers.hold_local.set()
    results = await asyncio.gather(*asked)
    assert [outcomes_of(result) for result in results] == [[i % 8] for i in range(40)]
    assert bench.journal.records == []
    assert sum(map(len, bench.workers.local[0].parts)) == 8


async def test_the_queue_is_bounded() -> None:
    bench = await Bench(PoolPolicy(max_in_flight=1, max_waiting=4, window_s=0.0)).start()
    bench.workers.finish.clear()
    tasks = [asyncio.create_task(bench.ask(1, shots=100 + i, timeout_s=0.5)) for i in range(6)]
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(error, Overloaded) for error in found) >= 2
    assert all(isinstance(error, Overloaded | DeadlineExceeded) for error in found)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backend": "farr"}, InvalidRequest, "did you mean 'far'"),
        ({"parts": (labelled(1, qubits=9),)}, InvalidCircuit, "9 qubits in one job"),
        ({"shots": 0}, InvalidCircuit, "at least one"),
    ],
)
async def test_what_cannot_run_is_refused_before_anything_is_written(
    options: dict[str, object], error: type[Exception], message: str
) -> None:
    bench = await Bench().start()
    with pytest.raises(error, match=message):
        await bench.ask(1, **options)
    assert bench.journal.records == []


async def test_compaction_keeps_all_that_matters() -> None:
    bench = await Bench().start()
    await bench.ask(1, 2)
    bench.workers.finish.clear()
    caller = asyncio.create_task(bench.ask(4))
    await bench.until(lambda: [s.job_id for s in bench.parts.journal.ledger.open.values()] == ["job-1"])
    before = bench.spent()
    await bench.parts.journal.compact()
    assert bench.journal.records == []
    await bench.restart()
    await asyncio.gather(caller, return_exceptions=True)
    assert bench.spent() == before
    bench.workers.finish.set()
    answer = await bench.ask(1, 2, 4)
    assert answer.reused_circuits == 2
    assert answer.cost_usd == pytest.approx(8.3), "nobody else was told what the third one cost"
    assert bench.workers.calls["submit"] == 2


def fail(error: Exception | None) -> None:
    if error is not None:
        raise error
