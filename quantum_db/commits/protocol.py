"""The protocol of all writes of a collection: numbered, kept apart, written down, applied, receipted.

A state machine without I/O: events in, commands out. One transaction's way::

    waiting --claims and number--> reading --planned--> preparing --groups reserved--> recording
                                      |                     |                           |    |
                                   refused               refused                  durable    not known to be
                                      v                     v                           |    v
                                    ended <----- forgetting <---------------------------|--aborting
                                                     ^                                  v
                                                     |                               applying
                                                     |                                  v
                                                     |                               showing
                                                     |   receipt durable                v
                                                     +------------- receipting <---- finishing
                                                                              answer

**The commit point** is the durable intent: it holds all that the transaction changes, so after a crash it is applied
again from there before anybody is answered. All that follows is idempotent, and is repeated until it has succeeded.

**The answer** is given when all is applied, and does not wait for the receipt, which only saves a repetition. But the
claims are kept until the receipt is durable, so no later write can come in between and be undone by a repetition.

**Visible** is the highest commit such that all transactions up to it are applied or have come to nothing. Where readers
search the store by themselves they look at that commit, and a transaction is answered when all of them do. So it waits
for those with lower numbers that are under way.

**Groups** are checked and reserved before the commit point, because afterwards nothing may be refused.

**An intent that may or may not have been written** is ended by an ``abort`` record: after it, the intent counts for
nothing, whether or not it got into the journal.

**Partners that an update moves** are known once the groups have been read. Where they are not among the claims, all
claims are given back and taken anew, with the partners, and the reading is repeated: so nobody waits in a circle.

**A crash of the machine** may take back what the store has not flushed. So intents are kept beyond their receipts until
a flush, and are held against the store at a start (``redo``). A plain deletion of what such an intent has written is
written down like a transaction: else a start would bring it back.

**Numbers** are given out from blocks that the journal has reserved, so they never come twice.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from quantum_db.commits.claims import Claims
from quantum_db.commits.ledger import CommitLedger, Intent, reserve_record
from quantum_db.commits.operations import Claim, Deletes, Request, Transaction, Upserts
from quantum_db.commits.planning import Plan, Stored, partners_in, plan
from quantum_db.commits.steps import (
    Answer,
    Asked,
    Command,
    Done,
    Event,
    Failed,
    Found,
    Gone,
    Note,
    Prepared,
    Record,
    Recorded,
    Redo,
    Sweep,
    Swept,
    Wake,
    Woken,
)
from quantum_db.commits.upkeep import MIN_RECORDS, UNFLUSHED_COMMITS, Upkeep
from quantum_db.commits.work import Phase, Work
from quantum_db.errors import Conflict, InvalidRequest, QuantumDBError, Unavailable
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.scope import scoped

BLOCK: Final = 10_000
"""Numbers that are reserved at once; so many may be left out at a restart."""

MAX_WIDENED: Final = 5
"""How often a request may find other partners than it has claimed, before it is told to come again."""

_NUMBERS: Final = -1
_SWEEP: Final = -2
_REDO: Final = -3
_FLUSH: Final = -4


class CommitProtocol:
    """All writes of all collections. Feed it with ``on``; carry out what it returns, in order."""

    def __init__(
        self,
        ledger: CommitLedger,
        *,
        retry: RetryPolicy,
        rng: np.random.Generator,
        now_s: Callable[[], float],
        block: int = BLOCK,
        min_records: int = MIN_RECORDS,
        unflushed_commits: int = UNFLUSHED_COMMITS,
    ) -> None:
        """Start from what the journal says.

        Args:
            ledger: as read from the journal; from now on only the protocol changes it.
            retry: its pauses between two attempts at what must succeed; the number of attempts has no bound.
            now_s: seconds since the epoch.
            block: numbers that are reserved at once.
            min_records: of the journal before it is compacted.
            unflushed_commits: transactions after which the store is flushed.
        """
        self.ledger = ledger
        self._retry = retry
        self._rng = rng
        self._now_s = now_s
        self._block = block
        self._upkeep = Upkeep(ledger, _FLUSH, min_records, unflushed_commits)
        self._redo_failures = 0
        self._after_redo: list[Command] = []
        self._next = self._first = ledger.reserved + 1
        self._claims = Claims()
        self._works: dict[int, Work] = {}
        self._of_ticket: dict[int, Work] = {}
        self._of_key: dict[str, Work] = {}
        self._count = 0
        self._records: dict[int, tuple[Record, int]] = {}
        self._unnumbered: deque[Work] = deque()
        self._recovering: set[int] = set()
        self._unapplied: OrderedDict[int, None] = OrderedDict()
        self._applied = ledger.reserved
        self._held: dict[int, Asked] = {}
        self._known_dimensions: set[str] = set()
        self._sweep_failures = 0

    @property
    def recovered(self) -> bool:
        """Whether all that was open at the start is applied, so that readers may be let in."""
        return not self._recovering

    @property
    def open_commits(self) -> int:
        """Transactions that are written down and not yet applied as a whole."""
        return len(self.ledger.open)

    def is_busy(self, collection: str) -> bool:
        """Return whether any write of a collection is under way, from before a restart too."""
        return any(work.collection == collection for work in self._works.values())

    @property
    def visible(self) -> int:
        """The commit that readers may look at: of transactions up to it, none is written in part. It only grows."""
        first = next(iter(self._unapplied), None)
        return self._applied if first is None else min(self._applied, first - 1)

    def start(self) -> list[Command]:
        """Return what has to be done first. Call it once, before ``on``."""
        opened = []
        for intent in sorted(self.ledger.open.values(), key=lambda one: one.commit):
            work = self._new_work(None)
            work.commit, work.intent, work.phase = intent.commit, intent, Phase.APPLYING
            self._recovering.add(work.id)
            self._unapplied[work.commit] = None
            opened.append(work.command())
        sweep = Sweep(_SWEEP, self._first)
        if not self.ledger.settled:
            return [sweep, *opened]
        self._recovering.add(_REDO)
        self._after_redo = opened
        return [sweep, self._redo()]

    def _redo(self) -> Command:
        return Redo(_REDO, tuple(self.ledger.settled[commit] for commit in sorted(self.ledger.settled)))

    def _redone(self, event: Event) -> list[Command]:
        if isinstance(event, Failed):
            self._redo_failures += 1
            return [Wake(_REDO, self._retry.pause_s(self._redo_failures, self._rng))]
        if not isinstance(event, Done):
            return [self._redo()]
        notes: list[Command] = [Note(intent) for intent in self.ledger.settled.values()]
        self._recovering.discard(_REDO)
        return [*notes, *self._after_redo, *self._upkeep.flush(), *self._let_in()]

    def on(self, event: Event) -> list[Command]:
        """Take in what happened; return what has to be done, in order."""
        if isinstance(event, Asked):
            return self._asked(event)
        if isinstance(event, Gone):
            return self._gone(event.ticket)
        record = self._records.pop(event.work, None) if isinstance(event, Recorded | Failed) else None
        if isinstance(event, Recorded):
            assert record is not None
            self.ledger.apply(event.number, record[0].record)
        commands = self._go_on(event)
        if isinstance(event, Recorded):
            in_flight = [number for _, number in self._records.values()]
            commands += [*self._upkeep.flush(), *self._upkeep.compact(in_flight, self._now_s())]
        return commands

    def _go_on(self, event: Found | Prepared | Recorded | Done | Failed | Swept | Woken) -> list[Command]:
        if event.work == _NUMBERS:
            return self._numbers(event)
        if event.work == _SWEEP:
            return self._swept(event)
        if event.work == _REDO:
            return self._redone(event)
        if event.work == _FLUSH:
            return self._flushed(event)
        work = self._works.get(event.work)
        if work is None:  # its caller has gone
            return []
        match event:
            case Woken():
                commands = self._attempt(work)
            case Failed(_, error):
                commands = self._failed(work, error)
            case Found(_, stored):
                commands = self._found(work, stored)
            case _:
                commands = self._advance(work, event)
        return commands

    def _advance(self, work: Work, event: Prepared | Recorded | Done | Swept) -> list[Command]:
        """Go from a step that succeeded to the next one."""
        commands: list[Command] = []
        match work.phase, event:
            case Phase.PREPARING, Prepared(_, groups):
                assert work.plan is not None
                work.plan = replace(work.plan, groups=groups)
                commands = self._to_recording(work)
            case Phase.RECORDING, Recorded():
                commands = self._enter(work, Phase.APPLYING)
            case Phase.APPLYING, Done():
                self._note_applied(work)
                commands = self._enter(work, Phase.SHOWING)
            case Phase.SHOWING, Done():
                assert work.intent is not None
                commands = self._enter(work, Phase.FINISHING) if work.intent.groups else self._finished(work)
            case Phase.FINISHING, Done():
                commands = self._finished(work)
            case Phase.RECEIPTING, Recorded():
                commands = self._receipted(work)
            case Phase.ABORTING, Recorded():
                # Callers with the same key may have joined since its first ones were told.
                nothing = Unavailable(
                    "the transaction could not be written down; nothing of it was done", retry_after_s=1.0
                )
                self._unapplied.pop(work.commit)
                commands = [*self._answer(work, None, nothing), *self._release(work), *self._forget_or_end(work)]
            case Phase.FORGETTING, Done():
                self._end(work)
            case Phase.WRITING, Done(_, result):
                commands = self._written(work, list(result))
            case _:
                raise AssertionError(f"{event} does not fit the phase {work.phase.value}")
        return commands

    def _note_applied(self, work: Work) -> None:
        assert work.intent is not None
        if work.intent.upserts:
            self._known_dimensions.add(work.collection)
        self._unapplied.pop(work.commit)
        self._applied = max(self._applied, work.commit)

    # From a request to its intent

    def _asked(self, asked: Asked) -> list[Command]:
        if self._recovering:
            self._held[asked.ticket] = asked
            return []
        request = asked.request
        if not isinstance(request, Transaction) or request.key is None:
            return self._take_up(asked)
        kept = self.ledger.kept(request.key, self._now_s())
        running = self._of_key.get(request.key)
        if kept is not None:
            same = kept.digest == request.digest
            return [Answer(asked.ticket, kept.answer) if same else _other_transaction(asked, request.key)]
        if running is None:
            return self._take_up(asked)
        assert isinstance(running.request, Transaction)
        if running.request.digest != request.digest:
            return [_other_transaction(asked, request.key)]
        running.tickets.append(asked.ticket)
        self._of_ticket[asked.ticket] = running
        return []

    def _take_up(self, asked: Asked) -> list[Command]:
        request = asked.request
        work = self._new_work(request)
        work.tickets.append(asked.ticket)
        self._of_ticket[asked.ticket] = work
        if work.key is not None:
            self._of_key[work.key] = work
        try:
            claims = self._claimed_by(request)
        except InvalidRequest as error:
            return self._refuse(work, error)
        return self._granted(work) if self._claims.claim(work.id, claims) else []

    def _claimed_by(self, request: Request) -> list[Claim]:
        # Of two dimensions in an empty collection, the second must be refused in time.
        known = request.collection in self._known_dimensions
        return [*request.claims(), *([] if known else [("dimension", request.collection)])]

    def _granted(self, work: Work) -> list[Command]:
        if self._next > self.ledger.reserved:
            self._unnumbered.append(work)
            return [] if _NUMBERS in self._records else [self._reserve()]
        work.commit = self._next
        self._next += 1
        if not self._is_written_down(work.request):
            return self._enter(work, Phase.WRITING)
        self._unapplied[work.commit] = None
        return self._enter(work, Phase.READING)

    def _is_written_down(self, request: Request | None) -> bool:
        if isinstance(request, Deletes):
            return any(self.ledger.is_unflushed(one) for one in request.ids)
        return isinstance(request, Transaction)

    def _reserve(self) -> Command:
        command = Record(_NUMBERS, reserve_record(self.ledger.reserved + self._block))
        self._records[_NUMBERS] = (command, self.ledger.number)
        return command

    def _numbers(self, event: Event) -> list[Command]:
        waiting, self._unnumbered = self._unnumbered, deque()
        if isinstance(event, Failed):
            return [one for work in waiting for one in self._refuse(work, event.error)]
        return [one for work in waiting for one in self._granted(work)]

    def _found(self, work: Work, stored: Stored) -> list[Command]:
        if isinstance(work.request, Deletes):
            work.existed = tuple(stored.versions[one] is not None for one in work.request.ids)
            work.plan = Plan((), work.request.ids, (), ())
            return self._to_recording(work)
        assert isinstance(work.request, Transaction)
        if stored.dimension is not None:
            self._known_dimensions.add(work.collection)
        moved: set[Claim] = {("entity", scoped(work.collection, one)) for one in partners_in(stored.groups)}
        if not moved <= self._claims.of(work.id):
            return self._widen(work, moved)
        try:
            work.plan = plan(work.request, stored, work.commit)
        except QuantumDBError as error:
            return self._refuse(work, error)
        return self._enter(work, Phase.PREPARING) if work.plan.groups else self._to_recording(work)

    def _widen(self, work: Work, more: set[Claim]) -> list[Command]:
        """Claim all anew, with more; the number is given anew, too, for others may write in between."""
        assert work.request is not None
        work.widened += 1
        if work.widened > MAX_WIDENED:
            busy = Unavailable("the groups of what is updated keep changing; nothing was done", retry_after_s=1.0)
            return self._refuse(work, busy)
        work.phase = Phase.WAITING
        self._unapplied.pop(work.commit, None)
        freed = self._claims.release(work.id)
        granted = self._claims.claim(work.id, [*self._claimed_by(work.request), *sorted(more)])
        commands = [one for owner in freed for one in self._granted(self._works[owner])]
        return [*commands, *(self._granted(work) if granted else [])]

    def _to_recording(self, work: Work) -> list[Command]:
        assert work.plan is not None
        assert isinstance(work.request, Transaction | Deletes)
        work.intent = Intent.of_plan(work.commit, self._now_s(), work.request, work.plan)
        return self._enter(work, Phase.RECORDING)

    # Steps and what becomes of them

    def _enter(self, work: Work, phase: Phase) -> list[Command]:
        work.phase, work.failures = phase, 0
        return self._attempt(work)

    def _attempt(self, work: Work) -> list[Command]:
        command = work.command()
        if isinstance(command, Record):
            self._records[work.id] = (command, self.ledger.number)
        return [command]

    def _failed(self, work: Work, error: QuantumDBError) -> list[Command]:
        match work.phase:
            case Phase.READING | Phase.WRITING:
                return self._refuse(work, error)
            case Phase.PREPARING:
                self._unapplied.pop(work.commit)
                answers = self._answer(work, None, error)
                return [*answers, *self._release(work), *self._enter(work, Phase.FORGETTING)]
            case Phase.RECORDING:
                unclear = Unavailable(f"the transaction could not be written down: {error.detail}", retry_after_s=1.0)
                return [*self._answer(work, None, unclear), *self._enter(work, Phase.ABORTING)]
        work.failures += 1
        return [Wake(work.id, self._retry.pause_s(work.failures, self._rng))]

    def _finished(self, work: Work) -> list[Command]:
        assert work.intent is not None
        answers = self._answer(work, work.answer(), None)
        return [*answers, Note(work.intent), *self._enter(work, Phase.RECEIPTING)]

    def _receipted(self, work: Work) -> list[Command]:
        assert work.intent is not None
        commands = self._answer(work, work.answer(), None)
        commands += self._release(work)
        self._recovering.discard(work.id)
        commands += self._forget_or_end(work)
        return [*commands, *self._let_in()]

    def _let_in(self) -> list[Command]:
        """Take up who came while transactions were being recovered, if they are."""
        if self._recovering:
            return []
        held, self._held = self._held, {}
        return [one for asked in held.values() for one in self._asked(asked)]

    def _written(self, work: Work, result: list[bool]) -> list[Command]:
        if isinstance(work.request, Upserts):
            self._known_dimensions.add(work.collection)
        answer = {"commit": work.commit, "existed": result}
        return [*self._answer(work, answer, None), *self._leave(work)]

    def _refuse(self, work: Work, error: QuantumDBError) -> list[Command]:
        return [*self._answer(work, None, error), *self._leave(work)]

    def _forget_or_end(self, work: Work) -> list[Command]:
        assert work.intent is not None
        if work.intent.groups:
            return self._enter(work, Phase.FORGETTING)
        self._end(work)
        return []

    def _swept(self, event: Event) -> list[Command]:
        """Drop what the registry kept of transactions that came to nothing, or whose end it was not told."""
        if isinstance(event, Failed):
            self._sweep_failures += 1
            return [Wake(_SWEEP, self._retry.pause_s(self._sweep_failures, self._rng))]
        if not isinstance(event, Swept):
            return [Sweep(_SWEEP, self._first)]
        commands: list[Command] = []
        mine = {work.commit for work in self._works.values()}
        for commit in event.commits:
            if commit < self._first and commit not in mine:
                work = self._new_work(None)
                work.commit = commit
                commands += self._enter(work, Phase.FORGETTING)
        return commands

    # Callers

    def _gone(self, ticket: int) -> list[Command]:
        self._held.pop(ticket, None)
        work = self._of_ticket.pop(ticket, None)
        if work is None:
            return []
        work.tickets.remove(ticket)
        if work.tickets or work.phase not in (Phase.WAITING, Phase.READING):
            return []
        if work in self._unnumbered:
            self._unnumbered.remove(work)
        return self._leave(work)

    def _answer(self, work: Work, answer: dict[str, Any] | None, error: QuantumDBError | None) -> list[Command]:
        tickets, work.tickets = work.tickets, []
        for ticket in tickets:
            del self._of_ticket[ticket]
        return [Answer(ticket, answer, error) for ticket in tickets]

    def _release(self, work: Work) -> list[Command]:
        if work.key is not None:
            self._of_key.pop(work.key, None)
        freed = self._claims.release(work.id)
        return [one for owner in freed for one in self._granted(self._works[owner])]

    def _leave(self, work: Work) -> list[Command]:
        self._unapplied.pop(work.commit, None)  # it may have no number yet
        self._end(work)
        return self._release(work)

    def _end(self, work: Work) -> None:
        del self._works[work.id]

    def _new_work(self, request: Request | None) -> Work:
        self._count += 1
        work = self._works[self._count] = Work(self._count, request)
        return work

    def _flushed(self, event: Event) -> list[Command]:
        if not isinstance(event, Done):
            self._upkeep.flush_ended()
            return []
        command = self._upkeep.flushed()
        self._records[_FLUSH] = (command, self.ledger.number)
        return [command]


def _other_transaction(asked: Asked, key: str) -> Answer:
    name = key.partition(":")[2] or key
    message = f"the idempotency key {name!r} stands for another transaction; each takes a key of its own"
    return Answer(asked.ticket, None, Conflict(message))
