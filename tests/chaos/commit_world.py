"""The protocol of commits in a simulated world: virtual time, one seed, and every fault at every step.

Real: ``CommitProtocol``, its ledger and records, and the registry's part. Simulated: the clients and their network, the
journal's disk, the store, the way to the registry, and a process that dies and starts again. The same seed gives the
same run: ``python -m tests.chaos.commit_world SEED`` makes it again, and tells what was done and what is wrong.
"""

from __future__ import annotations

import heapq
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from quantum_db.commits import steps
from quantum_db.commits.ledger import CommitLedger, KeyRetention
from quantum_db.commits.protocol import CommitProtocol
from quantum_db.commits.redo import last_changes, to_repeat
from quantum_db.errors import QuantumDBError, Unavailable
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.model import Entity
from tests.chaos.commit_client import ENTITIES, GROUPS, REFUSALS, Client
from tests.chaos.commit_history import Asked, History, Seen, entity_for
from tests.chaos.commit_parts import Died, Registry, RegistryDisk, SimulatedStore
from tests.chaos.commit_requests import ids

Told = Callable[[Mapping[str, Any] | None, QuantumDBError | None], None]
WAIT_S = 10.0
CALL_S = 3.0
END_S = 5_000.0
REFUSED = "what is refused is written"


@dataclass(frozen=True)
class Faults:
    """Probabilities of what goes wrong, while faults last."""

    lost: float = 0.04  # a message of a client, or to or from the registry; its sender waits in vain
    late: float = 0.04  # a message that arrives when nobody waits for it any more
    repeated: float = 0.04  # a message that arrives twice
    disk_fails: float = 0.04  # the journal's, before anything is written
    answer_lost: float = 0.04  # it is written, and the process is told that it is not
    journal_away: float = 0.01  # for some seconds
    store_fails: float = 0.04  # before, midway, or after all was done
    registry_dies: float = 0.01  # at each call
    process_dies: float = 0.005  # at each event; four times as often within a write
    clock_jumps: float = 0.005


class World:
    """One run: some clients ask for ``requests`` each, while readers look at everything."""

    redoes = True
    """Whether a start writes again what the store may have lost: not where a server sees to that by itself."""

    def __init__(
        self, seed: int, *, faults: Faults | None = None, clients: int = 4, requests: int = 8, plant: str = ""
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.faults, self.plant = faults or Faults(), plant
        self.history = History()
        self.log: Counter[str] = Counter()
        self.now_s = 0.0
        self._wall_offset_s = 1e9
        self._faults_last = True
        self._heap: list[tuple[float, int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._life = 0
        self.store = self._make_store()
        self.store.plant = plant
        self.registry = Registry(RegistryDisk(self.strikes, self.faults.disk_fails))
        self.disk: list[tuple[int, Mapping[str, Any]]] = []
        self._last = 0
        self._away_until_s = 0.0
        self.protocol: CommitProtocol | None = None
        self._ids = ids(ENTITIES)
        self._stuck: list[str] = []
        self._start()
        for client in range(clients):
            self.later(self.delay(), Client(self, client, clients, requests).go_on, outside=True)
        for _ in range(12):
            self.later(float(self.rng.uniform(0.5, 30.0)), self._read, outside=True)

    # --- the world

    def run(self) -> None:
        """Run until nothing happens any more, restart, and look at everything once more."""
        self._run_until_quiet()
        self._faults_last = False
        self._stuck += self._left_over()
        self._die(after_s=0.0)
        self._run_until_quiet()
        self._read()

    def check(self) -> list[str]:
        """Return what is wrong."""
        return [*self.history.check(), *self._stuck, *self._left_over()]

    def _left_over(self) -> list[str]:
        protocol = self.protocol
        wrong = []
        if protocol is None or protocol._works or protocol._claims or protocol.open_commits or self.store.torn:
            wrong.append("stuck: something is still under way, and nothing happens")
        if self.registry.commits._pending.commits():
            wrong.append(f"stuck: the groups of {self.registry.commits._pending.commits()} stay reserved")
        return wrong

    def _check_that_work_goes_on(self, ticket: int) -> None:
        assert self.protocol is not None
        work = self.protocol._of_ticket.get(ticket)
        if work is not None and self.protocol._works.get(work.id) is not work:
            self._stuck.append(f"stuck: the caller of {work.key} waited for what had ended")

    def _run_until_quiet(self) -> None:
        while self._heap and self.now_s < END_S:
            self.now_s, _, life, action = heapq.heappop(self._heap)
            if life not in (0, self._life):
                continue
            if life and self.strikes(self.faults.process_dies):
                self._die()
                continue
            if self.strikes(self.faults.clock_jumps):
                self._wall_offset_s += float(self.rng.uniform(-3_600.0, 3_600.0))
                self.log["clock jumped"] += 1
            action()

    def strikes(self, probability: float) -> bool:
        return self._faults_last and bool(self.rng.random() < probability)

    def later(self, after_s: float, action: Callable[[], None], *, outside: bool = False) -> None:
        """Do something later: in this life of the process, or outside of it, whatever becomes of the process."""
        heapq.heappush(self._heap, (self.now_s + after_s, next(self._numbers), 0 if outside else self._life, action))

    def delay(self, most_s: float = 0.5) -> float:
        return float(self.rng.exponential(most_s / 3.0))

    def _make_store(self) -> SimulatedStore:
        return SimulatedStore(self.rng, self.strikes)

    def _read(self) -> None:
        if self.protocol is None or not (self.protocol.recovered or self.plant == "readers do not wait"):
            return
        try:
            found = self.store.fetch(self._ids)
        except Unavailable:
            self.log["a reader was told to wait"] += 1
            return
        self._note_seen(self.now_s, found)

    def _note_seen(self, begun_at: float, found: Mapping[str, Entity | None]) -> None:
        """Note what a reader saw from ``begun_at`` until the present, and now sees of groups."""
        groups = {}
        for group_id in (f"g{n}" for n in range(GROUPS)):
            try:
                groups[group_id] = self.registry.get(group_id)
            except Unavailable:
                continue
        self.history.seen.append(Seen(begun_at, self.now_s, found, groups))

    # --- the process

    def _start(self) -> None:
        self._life += 1
        ledger = CommitLedger(KeyRetention(answers=0) if self.plant == "answers are forgotten" else KeyRetention())
        for number, record in self.disk:
            ledger.apply(number, record)
        if self.plant == "what is open is forgotten":
            ledger.open.clear()
        if self.plant == "numbers start again":
            ledger.reserved = 0
        self._waiting: dict[int, Told] = {}
        self._tickets = itertools.count(1)
        self._queue: list[steps.Record | steps.Compact] = []
        self._flushing = False
        self.store.torn.clear()
        self.protocol = CommitProtocol(
            ledger,
            retry=RetryPolicy(first_s=0.1, longest_s=5.0),
            rng=self.rng,
            now_s=lambda: self.now_s + self._wall_offset_s,
            block=20,
            min_records=25,
            unflushed_commits=10,
        )
        self._carry_out(self.protocol.start())

    def _die(self, after_s: float | None = None) -> None:
        self.log["the process died"] += 1
        self.protocol = None
        self._life += 1  # whatever was to happen inside is gone
        if self.plant == "the disk lies" and self.disk:
            del self.disk[-3:]
        for told in self._waiting.values():
            self.later(self.delay(), lambda told=told: told(None, Unavailable("it died")), outside=True)
        self._waiting = {}
        self.later(float(self.rng.uniform(0.1, 3.0)) if after_s is None else after_s, self._start, outside=True)

    def ask(self, asked: Asked, told: Told) -> None:
        """Take in a request that has arrived; ``told`` is called unless its caller is left to wait in vain."""
        if self.protocol is None:
            told(None, Unavailable("there is nobody"))
            return
        ticket = next(self._tickets)
        self._waiting[ticket] = self._writing_what_was_refused(asked, told) if self.plant == REFUSED else told

        def give_up() -> None:
            if self._waiting.pop(ticket, None) is not None:
                self.log["a caller gave up"] += 1
                self._check_that_work_goes_on(ticket)
                told(None, Unavailable("not done in time"))
                self._on(steps.Gone(ticket))

        self.later(WAIT_S, give_up)
        self._on(steps.Asked(ticket, asked.request))

    def _writing_what_was_refused(self, asked: Asked, told: Told) -> Told:
        def planted(answer: Mapping[str, Any] | None, error: QuantumDBError | None) -> None:
            if isinstance(error, REFUSALS):
                entities = [entity_for(one, asked.tag) for one, there in asked.writes.items() if there]
                self.store.put([replace(one, version=10**9) for one in entities], 0.0, 0.0)
            told(answer, error)

        return planted

    def _on(self, event: steps.Event) -> None:
        if self.protocol is not None:
            self._carry_out(self.protocol.on(event))

    def _carry_out(self, commands: list[steps.Command]) -> None:
        life = self._life
        for command in commands:
            if life != self._life:
                return
            match command:
                case steps.Answer(ticket, answer, error):
                    told = self._waiting.pop(ticket, None)
                    if told is not None:
                        told(answer, error)
                case steps.Record() | steps.Compact():
                    self._queue.append(command)
                    self._flush_later()
                case steps.Wake(work, after_s):
                    self.later(after_s, lambda work=work: self._on(steps.Woken(work)))
                case steps.Prepare() | steps.Finish() | steps.Forget() | steps.Sweep():
                    self._ask_registry(command)
                case steps.Note():
                    self.log["noted"] += 1
                case steps.Show():
                    self._show(command)
                case _:
                    self.later(self.delay(), lambda command=command: self._use_store(command))

    # --- the store

    def _show(self, command: steps.Show) -> None:
        self.later(self.delay(0.1), lambda: self._on(steps.Done(command.work)))

    def _use_store(self, command: Any) -> None:  # noqa: C901 - one case for each command
        fails, dies = self.faults.store_fails, 4 * self.faults.process_dies
        done: list[bool] = []
        event: steps.Event
        try:
            match command:
                case steps.Read(work, needs):
                    event = steps.Found(work, self.store.read(needs))
                case steps.Apply(work, intent):
                    self.store.apply(intent.commit, intent.upserts, intent.deletes, fails, dies)
                    if self.plant == "an old change is repeated":
                        again = intent.upserts
                        self.later(5.0, lambda: self.store.put(again, 0.0, 0.0))
                case steps.Redo(_, intents) if self.redoes:
                    last = last_changes(intents)
                    found = self.store.entities
                    versions = [found[one].version if one in found else None for one in last]
                    self.store.apply(max(one.commit for one in intents), *to_repeat(last, versions), fails, dies)
                case steps.Flush():
                    self.log["flushed"] += 1
                case steps.Put(_, entities):
                    self.store.put(entities, fails, dies)
                case steps.Erase(_, gone):
                    done = self.store.erase(gone, fails, dies)
            if not isinstance(command, steps.Read):
                event = steps.Done(command.work, done)
        except Died:
            self._die()
            return
        except QuantumDBError as error:
            self.log["the store failed"] += 1
            event = steps.Failed(command.work, error)
        if self.plant != "a transaction is never ended" or self.rng.random() < 0.9:
            self.later(self.delay(0.1), lambda: self._on(event))

    # --- the journal

    def _flush_later(self) -> None:
        if not self._flushing and self._queue:
            self._flushing = True
            self.later(self.delay(0.1), self._flush)

    def _flush(self) -> None:
        """Write what is waiting as one append, or the compaction that is next."""
        if isinstance(self._queue[0], steps.Compact):
            batch, self._queue = self._queue[:1], self._queue[1:]
        else:
            batch = list(itertools.takewhile(lambda one: isinstance(one, steps.Record), self._queue))
            self._queue = self._queue[len(batch) :]
        self._flushing = False
        if self.strikes(self.faults.journal_away):
            self._away_until_s = self.now_s + float(self.rng.uniform(1.0, 15.0))
            self.log["the journal was away"] += 1
        if self.now_s < self._away_until_s or self.strikes(self.faults.disk_fails):
            self._settle(batch, failed=True)
            return
        dies = self.strikes(4 * self.faults.process_dies)
        # Of an append that the process dies in, the last records are lost or torn: a reader drops what is torn.
        written = batch[: int(self.rng.integers(len(batch) + 1))] if dies else batch
        self.log["the last records were lost"] += len(batch) - len(written)
        numbers = [self._write(one) for one in written]
        if dies:
            self._die()
        else:
            self._settle(batch, failed=self.strikes(self.faults.answer_lost), numbers=numbers)

    def _write(self, command: steps.Record | steps.Compact) -> int:
        if isinstance(command, steps.Compact):
            self.log["compacted"] += 1
            kept = [row for row in self.disk if row[0] > command.through]
            self.disk = [*((command.through, record) for record in command.records), *kept]
        else:
            self._last += 1
            self.disk.append((self._last, command.record))
        return self._last

    def _settle(
        self, batch: list[steps.Record | steps.Compact], *, failed: bool, numbers: list[int] | None = None
    ) -> None:
        life = self._life
        for place, command in enumerate(batch):
            if isinstance(command, steps.Compact) or life != self._life:
                continue
            if failed:
                self.log["an append failed"] += 1
                self._on(steps.Failed(command.work, Unavailable("the journal failed")))
            else:
                assert numbers is not None
                self._on(steps.Recorded(command.work, numbers[place]))
        if life == self._life:
            self._flush_later()

    # --- the registry

    def _ask_registry(self, command: steps.Prepare | steps.Finish | steps.Forget | steps.Sweep) -> None:
        life, settled = self._life, False

        def settle(event: steps.Event) -> None:
            nonlocal settled
            if not settled and life == self._life:
                settled = True
                self._on(event)

        def arrive() -> None:
            if self.strikes(self.faults.registry_dies):
                self.log["the registry died"] += 1
                self.registry.restart()
                return
            event = self._registry_answer(command)
            if not self.strikes(self.faults.lost):
                self.later(self.delay(), lambda: settle(event), outside=True)

        self.later(CALL_S, lambda: settle(steps.Failed(command.work, Unavailable("no answer"))))
        for after_s in self.arrivals(CALL_S):
            self.later(after_s, arrive, outside=True)

    def _registry_answer(self, command: steps.Prepare | steps.Finish | steps.Forget | steps.Sweep) -> steps.Event:
        try:
            match command:
                case steps.Prepare(work, commit, groups):
                    return steps.Prepared(work, self.registry.call("prepare", commit, groups))
                case steps.Finish(work, commit):
                    self.registry.call("finish", commit)
                case steps.Forget(work, commit):
                    self.registry.call("forget", commit)
                case steps.Sweep(work, first):
                    return steps.Swept(work, self.registry.call("sweep", first))
            return steps.Done(command.work)
        except QuantumDBError as error:
            return steps.Failed(command.work, error)

    def arrivals(self, patience_s: float) -> list[float]:
        """Return when a message arrives: once mostly, or never, or twice, or too late."""
        if self.strikes(self.faults.lost):
            self.log["a message was lost"] += 1
            return []
        if self.strikes(self.faults.late):
            self.log["a message came late"] += 1
            return [patience_s * float(self.rng.uniform(0.5, 3.0))]
        if self.strikes(self.faults.repeated):
            self.log["a message came twice"] += 1
            return [self.delay(), self.delay() + float(self.rng.uniform(0.0, 2.0 * patience_s))]
        return [self.delay()]


def _again(seed: int) -> None:
    world = World(seed)
    world.run()
    for asked in world.history.asked.values():
        print(
            f"{asked.begun_at:8.3f} {asked.ended_at:8.3f} {asked.tag:3} {asked.outcome} {asked.commits} {asked.writes}"
        )
    print(dict(world.log))
    print("\n".join(world.check()) or "nothing is wrong")


if __name__ == "__main__":
    _again(int(sys.argv[1]))
