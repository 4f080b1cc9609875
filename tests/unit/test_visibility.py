"""Visibility and leases: whatever is lost, late or slow, an acknowledged commit is seen by every later look."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.clock import SystemClock
from quantum_db.commits.showing import FollowedSnapshots, ShownCommits
from quantum_db.commits.visibility import KEEP_S, LEASE_S, LOOK_S, ReaderLease, Told, Visibility
from quantum_db.errors import Unavailable

READERS = ("r0", "r1", "r2")


class Room:
    """A coordinator, which may start anew, and readers with messages under way; time passes as it is told."""

    def __init__(self, plant: str = "") -> None:
        self.plant = plant
        self.now_s = 100.0
        self.visibility = Visibility(self.now_s)
        self.leases = {name: ReaderLease() for name in READERS}
        self.answers: list[tuple[str, Told, float]] = []
        self.commit = 0
        self.shown = 0
        self.looking: list[tuple[float, int]] = []
        self.dropped = 0

    def ask(self, reader: str, *, arrives: bool) -> None:
        """A reader asks; the answer is on its way, or the question is lost."""
        lease = self.leases[reader]
        if arrives:
            self.visibility.acknowledge(reader, lease.commit)
        if self.plant == "questions count as acknowledged":
            self.visibility.acknowledge(reader, self.visibility.commit)
        if arrives:
            self.answers.append((reader, self.visibility.tell(reader, self.now_s), self.now_s))

    def receive(self, place: int, *, arrives: bool) -> None:
        """An answer comes, late perhaps, or is lost. A reader takes no answer to an earlier question than its last."""
        reader, told, asked_at_s = self.answers.pop(place % len(self.answers))
        lease = self.leases[reader]
        if arrives and (lease.commit is None or told.commit >= lease.commit):
            lease.take(told, self.now_s if self.plant == "leases begin when the answer comes" else asked_at_s)

    def raise_one(self) -> None:
        self.commit += 1
        self.visibility.raise_to(self.commit, self.now_s)

    def restart(self) -> None:
        """Another coordinator, which knows the visible commit from its journal, and no readers."""
        start_s = self.now_s - 10.0 if self.plant == "earlier readers are forgotten" else self.now_s
        self.visibility = Visibility(start_s)
        self.visibility.raise_to(self.commit, self.now_s)
        self.answers = []

    def check(self) -> list[str]:
        """Every look that may begin at this moment is at what has been acknowledged, and is not dropped from below."""
        self.shown = max(self.shown, self.visibility.shown(self.now_s))
        self.looking = [one for one in self.looking if one[0] + LOOK_S > self.now_s]
        wrong = []
        for name, lease in self.leases.items():
            at = lease.at(self.now_s)
            if at is not None:
                self.looking.append((self.now_s, at))
                if at < self.shown:
                    wrong.append(f"{name} looks at {at}, when {self.shown} was acknowledged")
        self.dropped = max(self.dropped, self.visibility.droppable(self.now_s))
        if any(at < self.dropped for _, at in self.looking):
            wrong.append(f"versions up to {self.dropped} are dropped under a look")
        return wrong


events = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(READERS), st.booleans()),
        st.tuples(st.just("receive"), st.integers(0, 20), st.booleans()),
        st.tuples(st.just("raise"), st.just(0), st.just(True)),
        st.tuples(st.just("wait"), st.sampled_from([0.05, 0.4, 1.0, 2.1, 20.0, 41.0]), st.just(True)),
        st.tuples(st.just("restart"), st.just(0), st.just(True)),
    ),
    max_size=60,
)


def happen(room: Room, given_events: list[tuple[str, object, bool]]) -> Iterator[str]:
    for kind, what, arrives in given_events:
        if kind == "ask":
            room.ask(str(what), arrives=arrives)
        elif kind == "receive" and room.answers:
            assert isinstance(what, int)
            room.receive(what, arrives=arrives)
        elif kind == "raise":
            room.raise_one()
        elif kind == "wait":
            assert isinstance(what, float)
            room.now_s += what
        elif kind == "restart":
            room.restart()
        yield from room.check()


@settings(derandomize=True, deadline=None, max_examples=600)
@given(given_events=events)
def test_no_look_is_at_less_than_what_was_acknowledged(given_events: list[tuple[str, object, bool]]) -> None:
    assert not list(happen(Room(), given_events))


ONE = [("wait", 3.0, True), ("ask", "r0", True), ("receive", 0, True)]
RAISED = [("raise", 0, True), ("wait", 1.5, True)]


@pytest.mark.parametrize(
    ("plant", "given_events"),
    [
        (
            "leases begin when the answer comes",
            [*ONE, ("ask", "r0", True), ("wait", 1.0, True), ("receive", 0, True), *RAISED],
        ),
        ("questions count as acknowledged", [*ONE, ("raise", 0, True), ("ask", "r0", True)]),
        ("earlier readers are forgotten", [*ONE, ("raise", 0, True), ("restart", 0, True)]),
    ],
)
def test_the_check_sees_planted_faults(plant: str, given_events: list[tuple[str, object, bool]]) -> None:
    assert not list(happen(Room(), given_events))
    assert list(happen(Room(plant), given_events))


def test_a_reader_that_does_not_acknowledge_holds_a_commit_up_until_its_lease_runs_out() -> None:
    visibility = Visibility(0.0)
    assert visibility.tell("r", 5.0) == Told(0, LEASE_S)
    visibility.raise_to(7, 5.5)
    assert visibility.shown(5.5) == 0
    assert visibility.next_end_s(5.5) == 5.0 + LEASE_S
    visibility.acknowledge("r", 7)
    assert visibility.shown(5.5) == 7
    visibility.raise_to(9, 5.6)
    assert visibility.shown(6.9) == 7
    assert visibility.shown(7.0) == 9
    assert visibility.next_end_s(7.0) is None
    assert visibility.droppable(5.5 + KEEP_S) == 7
    assert visibility.droppable(5.6 + KEEP_S) == 9
    assert visibility.droppable(1e6) == 0


# Over an event loop


async def test_a_commit_is_shown_when_all_followers_have_taken_it_up() -> None:
    shown = ShownCommits(SystemClock(), lease_s=0.2)
    followers = [FollowedSnapshots(name, shown.follow, SystemClock()) for name in READERS]
    for follower in followers:
        follower.start()
    for commit in range(1, 30):
        shown.raise_to(commit)
        await shown.show(commit)
        for follower in followers:
            async with follower.taken() as at:
                assert at == commit
    for follower in followers:
        await follower.stop()


async def test_a_follower_that_is_cut_off_delays_a_commit_for_a_lease_and_looks_no_more() -> None:
    shown = ShownCommits(SystemClock(), lease_s=0.2)
    cut = False

    async def ask(reader: str, commit: int | None, hold_s: float) -> Told:
        if cut:
            raise Unavailable("nobody is there")
        return await shown.follow(reader, commit, hold_s)

    follower = FollowedSnapshots("r", ask, SystemClock(), renewal_s=0.05)
    follower.start()
    async with follower.taken() as at:
        assert at == 0
    cut = True
    await shown.follow("r", 0, 0.0)  # its lease is as fresh as can be
    shown.raise_to(1)
    showing = asyncio.create_task(shown.show(1))
    await asyncio.sleep(0)
    assert not showing.done()
    await showing
    with pytest.raises(Unavailable, match="does not tell what is visible") as refused:
        async with follower.taken():
            raise AssertionError("it looked")
    assert refused.value.retry_after_s == 1.0
    cut = False
    async with asyncio.timeout(5.0):
        while True:
            try:
                async with follower.taken() as at:
                    assert at == 1
                    break
            except Unavailable:
                continue
    await follower.stop()


async def test_a_look_that_took_too_long_is_not_answered() -> None:
    class Slow(SystemClock):
        ahead_s = 0.0

        def monotonic_s(self) -> float:
            return super().monotonic_s() + self.ahead_s

    clock = Slow()
    shown = ShownCommits(clock)
    follower = FollowedSnapshots("r", shown.follow, clock)
    follower.start()
    with pytest.raises(Unavailable, match="took more than 30 s"):
        async with follower.taken():
            clock.ahead_s = LOOK_S + 1.0
    await follower.stop()


async def test_a_caller_who_gives_up_is_forgotten() -> None:
    shown = ShownCommits(SystemClock())
    showing = asyncio.create_task(shown.show(1))
    await asyncio.sleep(0)
    showing.cancel()
    await asyncio.gather(showing, return_exceptions=True)
    shown.raise_to(1)
    assert not shown._waiting
