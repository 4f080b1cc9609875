"""A world around the commit protocol: one seed decides what is done, in which order, and where it breaks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from quantum_db.commits.ledger import CommitLedger, Intent, KeyRetention
from quantum_db.commits.operations import CreateGroup, Delete, Deletes, Insert, Request, Transaction, Update, Upserts
from quantum_db.commits.planning import Needs, Stored, needs, plan
from quantum_db.commits.protocol import CommitProtocol
from quantum_db.commits.redo import last_changes, to_repeat
from quantum_db.commits.steps import (
    Answer,
    Apply,
    Asked,
    Command,
    Compact,
    Done,
    Erase,
    Event,
    Failed,
    Finish,
    Flush,
    Forget,
    Found,
    Note,
    Prepare,
    Prepared,
    Put,
    Read,
    Record,
    Recorded,
    Redo,
    Sweep,
    Swept,
    Wake,
    Woken,
)
from quantum_db.errors import Conflict, InvalidRequest, NotFound, QuantumDBError, Unavailable
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.model import Context, EntanglementGroup, Entity

IDS = [f"e{n}" for n in range(6)]
VECTOR = np.array([1.0, 0.0], dtype=np.float32)
CONTEXTS = (Context("x", 0.25), Context("y", 0.75))
REFUSALS = (Conflict, NotFound, InvalidRequest)


class Crash(Exception):
    """The process is killed."""


class World:
    """Durable parts, which survive a crash, and the protocol, which does not.

    Args:
        faults: how often a step fails, or is done and its answer lost; ``crashes`` likewise ends the process.
        power: a crash is one of the machine: the store is as it was flushed last, and only transactions are asked for.
    """

    def __init__(
        self, seed: int, *, faults: float = 0.0, crashes: float = 0.0, min_records: int = 20, power: bool = False
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.power = power
        self.flushed: dict[str, Entity] = {}
        self.flushes = 0
        self.faults, self.crashes, self.min_records = faults, crashes, min_records
        self.store: dict[str, Entity] = {}
        self.torn = False
        self.journal: list[tuple[int, dict[str, Any]]] = []
        self.last = 0
        self.history: list[dict[str, Any]] = []
        self.groups: dict[str, EntanglementGroup] = {}
        self.prepared: dict[int, tuple[EntanglementGroup, ...]] = {}
        self.finished: set[int] = set()
        self.plain: dict[int, tuple[Sequence[Entity], Sequence[str]]] = {}
        self.requests: dict[int, Request] = {}
        self.answers: dict[int, Answer] = {}
        self.crashed = 0
        self.applied: set[int] = set()
        self.visible = 0
        self.restart()

    # The process

    def restart(self) -> None:
        ledger = CommitLedger(KeyRetention())
        for number, record in self.journal:
            ledger.apply(number, json.loads(json.dumps(record)))
        self.protocol = CommitProtocol(
            ledger,
            retry=RetryPolicy(),
            rng=self.rng,
            now_s=lambda: 0.0,
            block=7,
            min_records=self.min_records,
            unflushed_commits=5,
        )
        self.queue: list[Command] = []
        self.records: list[Record] = []
        self.take(self.protocol.start())

    def ask(self, request: Request) -> int:
        ticket = len(self.requests)
        self.requests[ticket] = request
        self.take(self.protocol.on(Asked(ticket, request)))
        return ticket

    def take(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Answer(ticket):
                    assert ticket not in self.answers, "answered twice"
                    self.answers[ticket] = command
                case Note():
                    continue
                case Record():
                    self.records.append(command)
                case _:
                    self.queue.append(command)

    def step(self) -> bool:
        """Carry out one command, of those that wait; return whether there was one. Records keep their order."""
        choices = len(self.queue) + bool(self.records)
        if not choices:
            return False
        place = int(self.rng.integers(choices))
        command = self.queue.pop(place) if place < len(self.queue) else self.records.pop(0)
        try:
            self.carry_out(command)
        except Crash:
            self.crashed += 1
            if self.power:
                self.store = dict(self.flushed)
            self.restart()
        self.check_visible()
        return True

    def settle(self) -> None:
        """Let everything end, without further faults."""
        self.faults = self.crashes = 0.0
        for _ in range(100_000):
            if not self.step():
                return
        raise AssertionError("it does not end")

    def carry_out(self, command: Command) -> None:
        if isinstance(command, Compact):
            self.compact(command)
            return
        draw = self.rng.random(4)
        if draw[0] < self.crashes:
            raise Crash
        error = Unavailable("a fault")
        event: Event
        if draw[1] < self.faults and not isinstance(command, Wake):
            event = Failed(command.work, error)
        else:
            try:
                event = self.effect(command)
            except QuantumDBError as refused:
                event = Failed(command.work, refused)
            if draw[2] < self.faults and not isinstance(command, Wake):
                event = Failed(command.work, error)
        if draw[3] < self.crashes:
            raise Crash
        self.take(self.protocol.on(event))

    def effect(self, command: Any) -> Event:
        work = command.work
        match command:
            case Read(_, needs):
                event: Event = Found(work, self.read(needs))
            case Record(_, record):
                event = Recorded(work, self.append(record))
            case Wake():
                event = Woken(work)
            case Sweep():
                event = Swept(work, tuple(self.prepared))
            case Prepare(_, commit, groups):
                event = Prepared(work, self.prepare(commit, groups))
            case _:
                event = Done(work, self.change(command))
        return event

    def change(self, command: Any) -> Sequence[bool]:
        there: list[bool] = []
        match command:
            case Apply(_, intent):
                self.apply(intent)
            case Redo(_, intents):
                self.redo(intents)
            case Flush():
                self.flush()
            case Finish(_, commit):
                self.finish(commit)
            case Forget(_, commit):
                self.prepared.pop(commit, None)
                self.finished.discard(commit)
            case Put(_, entities):
                self.plain[entities[0].version] = (entities, ())
                self.store |= {entity.id: entity for entity in entities}
            case Erase(work, ids):
                self.plain[self.protocol._works[work].commit] = ((), ids)
                there = [self.store.pop(one, None) is not None for one in ids]
        return there

    # What lasts

    def append(self, record: Any) -> int:
        self.last += 1
        text = json.loads(json.dumps(record))
        self.journal.append((self.last, text))
        self.history.append(text)
        return self.last

    def compact(self, command: Compact) -> None:
        snapshot = [(command.through, json.loads(json.dumps(record))) for record in command.records]
        self.journal = [*snapshot, *(row for row in self.journal if row[0] > command.through)]

    def read(self, needs: Needs) -> Stored:
        groups = {one: [g for g in self.groups.values() if one in g.entity_ids] for one in needs.groups}
        needs = needs.with_partners(groups)
        versions = {one: self.store[one].version if one in self.store else None for one in needs.versions}
        entities = {one: self.store.get(one) for one in needs.entities}
        return Stored(entities, versions, 2 if self.store else None, groups)

    def apply(self, intent: Intent) -> None:
        self.torn = True
        for entity in intent.upserts:
            self.store[entity.id] = entity
            if self.rng.random() < self.crashes:
                raise Crash
        for one in intent.deletes:
            self.store.pop(one, None)
        self.torn = False
        self.applied.add(intent.commit)

    def redo(self, intents: Sequence[Intent]) -> None:
        last = last_changes(intents)
        upserts, deletes = to_repeat(last, [self.store[one].version if one in self.store else None for one in last])
        self.store |= {entity.id: entity for entity in upserts}
        for one in deletes:
            self.store.pop(one, None)

    def flush(self) -> None:
        self.flushed = dict(self.store)
        self.flushes += 1

    def prepare(self, commit: int, groups: Sequence[EntanglementGroup]) -> tuple[EntanglementGroup, ...]:
        if commit in self.prepared:
            return self.prepared[commit]
        taken = {group.group_id for prepared in self.prepared.values() for group in prepared}
        for group in groups:
            if group.group_id in taken:
                raise Unavailable("reserved")
            if self.groups.get(group.group_id, group) != group:
                raise Conflict("another group")
        self.prepared[commit] = tuple(groups)
        return self.prepared[commit]

    def finish(self, commit: int) -> None:
        if commit not in self.finished:
            self.groups |= {group.group_id: group for group in self.prepared[commit]}
            self.finished.add(commit)

    # What must hold

    def check_visible(self) -> None:
        """Of what is visible to readers, once they are let in, all is applied; and nothing becomes invisible again."""
        if not self.protocol.recovered:
            return
        aborted = {record["commit"] for record in self.history if record["t"] == "abort"}
        intents = {record["commit"] for record in self.history if record["t"] == "intent"} - aborted
        visible = self.protocol.visible
        assert visible >= self.visible, "what was visible is not any more"
        assert not {one for one in intents if one <= visible} - self.applied, "visible and not applied"
        self.visible = visible

    def check(self) -> None:
        """The store is what the durable intents and the plain writes come to, in the order of their numbers."""
        assert self.protocol.recovered
        assert not self.torn, "a part is visible"
        aborted = {record["commit"] for record in self.history if record["t"] == "abort"}
        intents = {r["commit"]: Intent.of_record(r) for r in self.history if r["t"] == "intent"}
        intents = {commit: intent for commit, intent in intents.items() if commit not in aborted}
        assert not intents.keys() & self.plain.keys(), "a number came twice"
        asked = {a.answer["commit"]: self.requests[t] for t, a in self.answers.items() if a.answer is not None}
        model: dict[str, Entity] = {}
        groups: dict[str, EntanglementGroup] = {}
        for commit in sorted(intents.keys() | self.plain.keys()):
            if commit in intents:
                request = asked.get(commit)
                if isinstance(request, Transaction):
                    self.check_plan(request, intents[commit], model, groups)
                upserts, deletes = intents[commit].upserts, intents[commit].deletes
                groups |= {group.group_id: group for group in intents[commit].groups}
            else:
                upserts, deletes = self.plain[commit]
            model |= {entity.id: entity for entity in upserts}
            for one in deletes:
                model.pop(one, None)
        found = {one: same_state(entity) for one, entity in self.store.items()}
        assert found == {one: same_state(entity) for one, entity in model.items()}, "not the model"
        assert self.groups == groups, "not the groups of the model"
        keys = [intent.key for intent in intents.values() if intent.key is not None]
        assert len(keys) == len(set(keys)), "done twice"
        for ticket, answer in self.answers.items():
            if not isinstance(self.requests[ticket], Transaction):
                continue
            if answer.answer is not None:
                assert answer.answer["commit"] in intents, "acknowledged and lost"
                assert intents[answer.answer["commit"]].answer() == answer.answer
            else:
                assert isinstance(answer.error, (*REFUSALS, Unavailable))

    def check_plan(
        self,
        request: Transaction,
        intent: Intent,
        entities: dict[str, Entity],
        groups: dict[str, EntanglementGroup],
    ) -> None:
        """What was written down is what the request comes to on all that came before: nothing was read too early."""
        wanted = needs(request)
        of = {one: [group for group in groups.values() if one in group.entity_ids] for one in wanted.groups}
        wanted = wanted.with_partners(of)
        versions = {one: entities[one].version if one in entities else None for one in wanted.versions}
        stored = Stored({one: entities.get(one) for one in wanted.entities}, versions, 2, of)
        try:
            planned = plan(request, stored, intent.commit)
        except QuantumDBError as error:
            raise AssertionError(f"it should have been refused: {error.detail}") from error
        assert [same_state(one) for one in planned.upserts] == [same_state(one) for one in intent.upserts]
        assert planned.deletes == intent.deletes

    def done(self, n: int = 40) -> World:
        """Ask for many things while others are under way."""
        for _ in range(n):
            self.ask(self.request())
            for _ in range(int(self.rng.integers(12))):
                self.step()
        return self

    def request(self) -> Request:
        some = [str(one) for one in self.rng.choice(IDS, size=int(self.rng.integers(1, 4)), replace=False)]
        entities = [Entity(one, VECTOR, CONTEXTS, metadata={"n": int(self.rng.integers(1 << 30))}) for one in some]
        kind = int(self.rng.integers(2 if self.power else 0, 10))
        if kind == 0:
            return Upserts(tuple(entities))
        if kind == 1:
            return Deletes(tuple(some))
        operations: list[Any] = [Insert(entity) for entity in entities]
        if kind == 2:
            operations = [Update(e.id, {"metadata": e.metadata}) for e in entities]
        elif kind == 3:
            operations[-1] = Delete(some[-1])
        elif kind == 4 and len(some) > 1:
            name = f"g{int(self.rng.integers(4))}"
            operations.append(CreateGroup(EntanglementGroup(name, tuple(sorted(some)), 0.5)))
        elif kind == 5:
            operations[0] = Insert(entities[0], expected_version=int(self.rng.integers(1, 60)))
        elif kind == 6:
            operations[0] = Insert(entities[0], if_absent=True)
        elif kind >= 8:
            angle = float(self.rng.uniform(0.0, 2.0 * np.pi))
            changes = {
                "vector": np.array([np.cos(angle), np.sin(angle)], dtype=np.float32),
                "contexts": normalised_contexts(float(self.rng.random())),
            }
            operations = [Update(some[0], changes, propagate=True)]
        key = f"k{int(self.rng.integers(1 << 30))}" if self.rng.random() < 0.5 else None
        return Transaction(tuple(operations), key)


def normalised_contexts(weight: float) -> tuple[Context, ...]:
    """Two contexts, of which the first has a weight."""
    return (Context("x", weight), Context("y", 1.0 - weight))


def same_state(entity: Entity) -> tuple[Any, ...]:
    """What two entities have in common that are the same to the last bit."""
    assert entity.vector is not None
    contexts = tuple((one.name, one.weight) for one in entity.contexts)
    return entity.id, entity.version, entity.vector.tobytes(), contexts, dict(entity.metadata)
