"""Group commit over a journal that a test can hold up, make fail and look into."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.errors import Fenced, Unavailable
from quantum_db.journals.group_commit import GroupCommit
from quantum_db.ports import Journal

STREAM = "facts"
WAIT_S = 10.0
pytestmark = pytest.mark.timeout(30)


class HeldJournal:
    """Keeps records in memory; a write waits while it is held, and fails with what is next in ``errors``."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.writes: list[tuple[int, int | None]] = []
        self.threads: set[int] = set()
        self.errors: list[Exception] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)

    def append(self, stream: str, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None) -> int:
        assert stream == STREAM
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.open.wait(WAIT_S)
        if self.errors:
            raise self.errors.pop(0)
        self.records += records
        self.writes.append((len(records), epoch))
        return len(self.records)

    def begin_epoch(self, stream: str) -> int:
        return 1

    def read(self, stream: str, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        return iter([])

    def last(self, stream: str) -> int:
        return len(self.records)

    def compact(
        self, stream: str, through: int, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None
    ) -> None:
        self.threads.add(threading.get_ident())
        self.records.append(("compacted", through))

    def close(self) -> None:
        self.records.append("closed")


@pytest.fixture
def journal() -> HeldJournal:
    return HeldJournal()


@pytest.fixture
async def group(journal: HeldJournal) -> AsyncIterator[GroupCommit]:
    as_port: Journal = journal
    made = GroupCommit(as_port, STREAM, epoch=7)
    yield made
    journal.open.set()
    await asyncio.wait_for(made.close(), WAIT_S)


async def held_up(journal: HeldJournal, group: GroupCommit) -> asyncio.Task[int]:
    """Start an append of one record and return while the journal is at it."""
    journal.open.clear()
    task = asyncio.ensure_future(group.append([{"first": 0}]))
    await asyncio.sleep(0)
    assert await asyncio.to_thread(journal.entered.acquire, timeout=WAIT_S)
    return task


async def started(*calls: Any) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    return tasks


async def test_what_comes_in_during_a_write_goes_together_into_the_next(
    journal: HeldJournal, group: GroupCommit
) -> None:
    first = await held_up(journal, group)
    rest = await started(*(group.append([{"n": n}] * n) for n in range(1, 5)))
    assert not any(task.done() for task in (first, *rest))
    journal.open.set()
    assert await asyncio.gather(first, *rest) == [1, 2, 4, 7, 11]
    assert journal.writes == [(1, 7), (10, 7)]
    assert journal.records == [{"first": 0}, *({"n": n} for n in range(1, 5) for _ in range(n))]


async def test_one_thread_writes_and_it_is_not_the_loop(journal: HeldJournal, group: GroupCommit) -> None:
    for _ in range(3):
        await asyncio.gather(*(group.append([{}]) for _ in range(5)))
    assert len(journal.threads) == 1
    assert threading.get_ident() not in journal.threads


async def test_appending_nothing_gives_the_number_before_it(journal: HeldJournal, group: GroupCommit) -> None:
    assert await group.append([]) == 0
    assert await asyncio.gather(group.append([{}]), group.append([]), group.append([{}]), group.append([])) == [
        *(1, 1, 2, 2)
    ]


async def test_records_that_the_caller_changes_afterwards_stay_in_number(
    journal: HeldJournal, group: GroupCommit
) -> None:
    first = await held_up(journal, group)
    mine = [{"n": 1}]
    [task] = await started(group.append(mine))
    mine.append({"n": 2})
    journal.open.set()
    assert await asyncio.gather(first, task) == [1, 2]


async def test_an_error_goes_to_all_callers_of_that_write_and_to_no_other(
    journal: HeldJournal, group: GroupCommit
) -> None:
    first = await held_up(journal, group)
    second = await started(group.append([{"n": 1}]), group.append([{"n": 2}]))
    journal.errors = [Unavailable("no"), Fenced("gone")]
    journal.open.set()
    with pytest.raises(Unavailable, match="no"):
        await first
    for task in second:
        with pytest.raises(Fenced, match="gone"):
            await task
    assert await group.append([{"n": 3}]) == 1
    assert journal.records == [{"n": 3}]


async def test_a_cancelled_caller_loses_and_repeats_nothing_and_hangs_nobody(
    journal: HeldJournal, group: GroupCommit
) -> None:
    first = await held_up(journal, group)
    before, gone, after = await started(*(group.append([{"n": n}]) for n in range(3)))
    first.cancel()
    gone.cancel()
    for task in (first, gone):
        with pytest.raises(asyncio.CancelledError):
            await task
    journal.open.set()
    assert await asyncio.gather(before, after) == [2, 4]
    assert journal.records == [{"first": 0}, {"n": 0}, {"n": 1}, {"n": 2}]
    assert await group.append([{"n": 3}]) == 5


async def test_cancelled_callers_of_a_failed_write_hang_nobody(journal: HeldJournal, group: GroupCommit) -> None:
    first = await held_up(journal, group)
    journal.errors = [Unavailable("no"), Unavailable("no")]
    gone, there = await started(group.append([{}]), group.append([{}]))
    first.cancel()
    gone.cancel()
    journal.open.set()
    with pytest.raises(Unavailable):
        await there
    assert await group.append([{}]) == 1


async def test_other_calls_run_in_their_turn_and_in_the_same_thread(journal: HeldJournal, group: GroupCommit) -> None:
    first = await held_up(journal, group)
    tasks = await started(
        group.append([{"n": 1}]),
        group.run(journal.compact, STREAM, 2, []),
        group.append([{"n": 2}]),
        group.append([{"n": 3}]),
        group.run(journal.last, STREAM),
    )
    journal.open.set()
    assert await asyncio.gather(first, *tasks) == [1, 2, None, 4, 5, 5]
    assert journal.records == [{"first": 0}, {"n": 1}, ("compacted", 2), {"n": 2}, {"n": 3}]
    assert journal.writes == [(1, 7), (1, 7), (2, 7)]
    assert len(journal.threads) == 1


async def test_an_error_of_another_call_is_its_own(journal: HeldJournal, group: GroupCommit) -> None:
    async def failing(error: BaseException) -> None:
        def fail() -> None:
            raise error

        await group.run(fail)

    with pytest.raises(KeyError):
        await failing(KeyError("x"))
    with pytest.raises(RuntimeError, match="StopIteration"):
        await failing(StopIteration())
    assert await group.run(lambda: 5) == 5
    [gone] = await started(group.run(lambda: 6))
    gone.cancel()
    assert await group.append([{}]) == 1


async def test_closing_waits_for_what_was_asked_for_and_refuses_what_comes_later(
    journal: HeldJournal, group: GroupCommit
) -> None:
    first = await held_up(journal, group)
    [second] = await started(group.append([{}]))
    closings = await started(group.close(), group.close())
    for call in (group.append([{}]), group.run(lambda: None)):
        with pytest.raises(Unavailable, match="the writer of stream 'facts' is closed"):
            await call
    closings[0].cancel()
    assert not closings[1].done()
    journal.open.set()
    await closings[1]
    assert (first.done(), second.done()) == (True, True)
    assert await second == 2
    await group.close()
    assert "closed" not in journal.records, "the journal is its owner's to close"


async def test_closing_what_was_never_used(journal: HeldJournal) -> None:
    await GroupCommit(journal, STREAM).close()
    assert journal.writes == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["keep", "cancel", "run"]), st.integers(0, 2)), max_size=30)
)
def test_records_are_written_once_in_the_order_of_the_calls(calls: list[tuple[int, str, int]]) -> None:
    """Whoever gives up meanwhile: each call's records are there once, in order, and its number is that of its last."""

    async def scenario() -> None:
        journal = HeldJournal()
        group = GroupCommit(journal, STREAM)
        tasks: list[tuple[asyncio.Task[int], int, str]] = []
        written = 0
        for index, (count, what, pauses) in enumerate(calls):
            if what == "run":
                tasks.append((asyncio.ensure_future(group.run(journal.last, STREAM)), written, what))
            else:
                written += count
                tasks.append((asyncio.ensure_future(group.append([{"call": index}] * count)), written, what))
            await asyncio.sleep(0)
            if what == "cancel":
                tasks[-1][0].cancel()
            for _ in range(pauses):
                await asyncio.sleep(0)
        await group.close()
        for task, number, what in tasks:
            if what == "cancel" and task.cancelled():
                continue
            assert task.done()
            assert task.result() == number
        expected = [index for index, (count, what, _) in enumerate(calls) for _ in range(count) if what != "run"]
        assert [record["call"] for record in journal.records] == expected

    asyncio.run(asyncio.wait_for(scenario(), WAIT_S))
