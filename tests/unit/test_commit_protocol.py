"""The commit protocol without I/O: steps, refusals, faults and crashes, held against a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.commits.ledger import CommitLedger, KeyRetention
from quantum_db.commits.operations import Deletes, Insert, Transaction, Update, Upserts
from quantum_db.commits.planning import Stored
from quantum_db.commits.protocol import CommitProtocol
from quantum_db.commits.steps import Answer, Apply, Asked, Compact, Failed, Found, Gone, Read, Record, Recorded, Sweep
from quantum_db.errors import Conflict, NotFound, Unavailable
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.model import Entity
from tests.unit.commit_world import IDS, VECTOR, World


def entity(name: str, n: int = 0) -> Entity:
    return Entity(name, VECTOR, metadata={"n": n})


def transaction(*names: str, key: str | None = None, n: int = 0, **expected: Any) -> Transaction:
    return Transaction(
        tuple(Insert(entity(name, n), f"operations[{i}]", **expected) for i, name in enumerate(names)), key
    )


def answered(world: World, ticket: int) -> dict[str, Any]:
    world.settle()
    answer = world.answers[ticket]
    assert answer.error is None, answer.error
    assert answer.answer is not None
    return answer.answer


def refused(world: World, ticket: int) -> Any:
    world.settle()
    assert world.answers[ticket].answer is None
    return world.answers[ticket].error


def until(world: World, kind: type) -> None:
    """Go on until only commands of this kind, and records after them, wait."""
    while any(not isinstance(one, kind) for one in (*world.queue, *world.records)):
        place = next(i for i, one in enumerate((*world.queue, *world.records)) if not isinstance(one, kind))
        if place < len(world.queue):
            world.carry_out(world.queue.pop(place))
        else:
            world.carry_out(world.records.pop(place - len(world.queue)))


def test_the_answer_names_the_commit_and_the_claims_are_kept_until_the_receipt() -> None:
    world = World(0)
    first, second = world.ask(transaction("a", "b")), world.ask(transaction("b", n=1))
    while first not in world.answers:
        world.step()
    assert {record["t"] for record in world.history} == {"reserve", "intent"}
    assert not [one for one in world.queue if not isinstance(one, Sweep)], (
        "the second one waits, for the first may be applied again after a crash"
    )
    answered(world, second)
    world = World(0)
    answer = answered(world, world.ask(transaction("a", "b")))
    assert [record["t"] for record in world.history] == ["reserve", "intent", "receipt"]
    assert {one.version for one in world.store.values()} == {answer["commit"]}
    world.check()


def test_an_expected_version_is_that_of_before_and_a_conflict_names_its_operation() -> None:
    world = World(1)
    first = answered(world, world.ask(transaction("a")))["commit"]
    answered(world, world.ask(transaction("a", expected_version=first)))
    error = refused(world, world.ask(transaction("b", "a", expected_version=first)))
    assert isinstance(error, Conflict)
    error = refused(world, world.ask(Transaction((Insert(entity("c")), *transaction("a", if_absent=True).operations))))
    assert isinstance(error, Conflict)
    assert (error.errors[0].path, "c" in world.store) == ("operations[0]", False)
    assert isinstance(refused(world, world.ask(Transaction((Update("x", {"metadata": {}}),)))), NotFound)
    world.check()


def test_what_is_inserted_before_can_be_updated_in_the_same_transaction() -> None:
    world = World(2)
    answered(world, world.ask(Transaction((Insert(entity("a", 1)), Update("a", {"coherence_time_ms": 5.0})))))
    assert (world.store["a"].metadata, world.store["a"].coherence_time_ms) == ({"n": 1}, 5.0)


def test_the_same_key_is_answered_as_before_also_while_it_runs_and_after_a_restart() -> None:
    world = World(3)
    first, second = world.ask(transaction("a", key="k")), world.ask(transaction("a", key="k"))
    answer = answered(world, first)
    assert answered(world, second) == answer
    world.restart()
    assert answered(world, world.ask(transaction("a", key="k"))) == answer
    assert isinstance(refused(world, world.ask(transaction("a", key="k", n=1))), Conflict)
    world.check()


def test_an_apply_that_fails_holds_up_what_touches_the_same_entities_and_nothing_else() -> None:
    world = World(4)
    answered(world, world.ask(Upserts((entity("z"),))))
    stuck = world.ask(transaction("a", "b"))
    until(world, Apply)
    (apply,) = world.queue
    world.queue.clear()
    after, beside = world.ask(transaction("b", "c")), world.ask(transaction("d"))
    world.settle()
    assert (stuck in world.answers, after in world.answers, beside in world.answers) == (False, False, True)
    world.queue.append(apply)
    world.settle()
    assert world.answers[stuck].answer is not None
    assert world.answers[after].answer is not None
    world.check()


def test_an_intent_that_may_have_been_written_is_aborted_and_never_applied() -> None:
    world = World(5)
    answered(world, world.ask(transaction("a")))
    ticket = world.ask(transaction("a", "b", n=1))
    until(world, Record)
    world.faults = 1.0  # written, or not: the answer is lost
    world.carry_out(world.records.pop(0))
    assert isinstance(refused(world, ticket), Unavailable)
    assert "b" not in world.store
    world.restart()
    world.settle()
    world.check()
    assert "b" not in world.store


def test_a_caller_who_joins_what_is_being_aborted_is_told_when_it_is() -> None:
    protocol = CommitProtocol(
        CommitLedger(KeyRetention()), retry=RetryPolicy(), rng=np.random.default_rng(0), now_s=lambda: 0.0
    )
    same = transaction("a", key="k")
    protocol.start()
    (reserve,) = protocol.on(Asked(1, same))
    assert isinstance(reserve, Record)
    (read,) = protocol.on(Recorded(reserve.work, 1))
    assert isinstance(read, Read)
    (intent,) = protocol.on(Found(read.work, Stored({}, {}, 2)))
    assert isinstance(intent, Record)
    told, abort = protocol.on(Failed(intent.work, Unavailable("the disk refused")))
    assert isinstance(told, Answer)
    assert isinstance(abort, Record)
    assert protocol.on(Asked(2, same)) == []
    (told,) = protocol.on(Recorded(abort.work, 3))
    assert isinstance(told, Answer)
    assert (told.ticket, type(told.error)) == (2, Unavailable)


def test_a_caller_that_leaves_before_its_turn_is_not_served() -> None:
    world = World(6)
    answered(world, world.ask(transaction("z")))
    world.ask(transaction("a"))
    waiting = world.ask(transaction("a", n=7))
    world.take(world.protocol.on(Gone(waiting)))
    world.settle()
    assert world.store["a"].metadata == {"n": 0}
    assert answered(world, world.ask(Deletes(("a", "a?"))))["existed"] == [True, False]


def test_numbers_are_never_given_out_again() -> None:
    world, seen = World(7), set()
    for n in range(60):
        seen.add(answered(world, world.ask(transaction("a", n=n)))["commit"])
        if n % 10 == 0:
            world.restart()
    assert len(seen) == 60
    assert len(world.journal) < 60, "it was compacted"


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    seed=st.integers(0, 1 << 32), faults=st.sampled_from([0.0, 0.05, 0.3]), crashes=st.sampled_from([0.0, 0.02, 0.1])
)
def test_whatever_fails_nothing_is_half_lost_or_done_twice(seed: int, faults: float, crashes: float) -> None:
    world = World(seed, faults=faults, crashes=crashes).done()
    world.settle()
    world.check()
    if not crashes:
        assert world.answers.keys() == world.requests.keys(), "everybody is answered"
        assert not world.protocol._works
        assert not len(world.protocol._claims)
    assert not world.prepared, "the registry keeps nothing of what has ended"


@settings(derandomize=True, deadline=None, max_examples=200)
@given(seed=st.integers(0, 1 << 32), faults=st.sampled_from([0.0, 0.1]), crashes=st.sampled_from([0.02, 0.1]))
def test_a_crash_of_the_machine_loses_no_acknowledged_transaction(seed: int, faults: float, crashes: float) -> None:
    world = World(seed, faults=faults, crashes=crashes, power=True).done()
    world.settle()
    world.check()


def test_what_is_safe_in_the_store_is_forgotten_by_the_journal() -> None:
    world = World(3, power=True).done(200)
    world.settle()
    assert world.flushes > 10
    assert len(world.protocol.ledger.settled) < 5


class MarksWithoutFlush(World):
    def flush(self) -> None:
        self.flushes += 1


class CompactsWhatIsNotFlushed(World):
    def compact(self, command: Compact) -> None:
        receipted = {record["commit"] for record in command.records if record["t"] == "receipt"}
        kept = [record for record in command.records if record.get("commit") not in receipted]
        super().compact(Compact(command.through, kept))


class RedoesNothing(World):
    def redo(self, intents: Any) -> None:
        return None


@pytest.mark.parametrize("kind", [MarksWithoutFlush, CompactsWhatIsNotFlushed, RedoesNothing])
def test_the_check_finds_what_a_crash_of_the_machine_takes(kind: type[World]) -> None:
    failed = 0
    for seed in range(40):
        try:
            world = kind(seed, crashes=0.05, min_records=5, power=True).done()
            world.settle()
            world.check()
        except AssertionError:
            failed += 1
    assert failed


class ForgetsPlainDeletions(World):
    def restart(self) -> None:
        super().restart()
        self.protocol.ledger.is_unflushed = lambda entity_id: False  # type: ignore[method-assign]


class LosesReceiptedIntents(World):
    def restart(self) -> None:
        self.journal = [row for row in self.journal if row[1]["t"] != "intent"]
        super().restart()


class AppliesHalf(World):
    def apply(self, intent: Any) -> None:
        super().apply(intent)
        if len(intent.upserts) > 1:
            self.store.pop(intent.upserts[0].id, None)


class ForgetsNumbers(World):
    def restart(self) -> None:
        self.journal = [row for row in self.journal if row[1]["t"] != "reserve"]
        super().restart()


class ClaimsNoPartners(World):
    def restart(self) -> None:
        super().restart()
        self.protocol._claims.of = lambda owner: frozenset(("entity", one) for one in IDS)  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "kind", [LosesReceiptedIntents, AppliesHalf, ForgetsNumbers, ClaimsNoPartners, ForgetsPlainDeletions]
)
def test_the_check_finds_planted_faults(kind: type[World]) -> None:
    failed = 0
    for seed in range(40):
        try:
            world = kind(seed, crashes=0.05, min_records=10_000).done()
            world.settle()
            world.check()
        except AssertionError:
            failed += 1
    assert failed


def test_the_check_sees_a_commit_that_is_visible_before_it_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CommitProtocol, "visible", property(lambda self: self._next - 1))
    with pytest.raises(AssertionError, match="visible and not applied"):
        World(0, faults=0.1, crashes=0.05).done().settle()
