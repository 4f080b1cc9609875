"""Drives the commit protocol on a real store, journal and registry, from one event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from quantum_db.commits.changes import Unwatched, Watch
from quantum_db.commits.ledger import STREAM, CommitLedger, Intent, KeyRetention
from quantum_db.commits.operations import Request, Transaction
from quantum_db.commits.planning import Needs, Stored
from quantum_db.commits.ports import CommitGroups, Stores
from quantum_db.commits.protocol import CommitProtocol
from quantum_db.commits.redo import last_changes, to_repeat
from quantum_db.commits.showing import ShownCommits
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
    Gone,
    Note,
    Prepare,
    Prepared,
    Put,
    Read,
    Record,
    Recorded,
    Redo,
    Show,
    Sweep,
    Swept,
    Wake,
    Woken,
)
from quantum_db.commits.visibility import Told
from quantum_db.errors import CorruptData, Fenced, NoSuchCollection, QuantumDBError, Unavailable
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.journals.group_commit import GroupCommit
from quantum_db.lifecycle import Happening
from quantum_db.ports import Clock, Journal, StateLog
from quantum_db.scoped import ScopedCommitGroups, ScopedStateLog
from quantum_db.states.batches import happened, joined

logger = logging.getLogger(__name__)

OPEN_PAUSE_S: Final = 1.0
REDO_BATCH: Final = 1_000
DROP_PAUSE_S: Final = 5.0
KEPT_KEYS: Final = KeyRetention()
PAUSES: Final = RetryPolicy(first_s=0.1, longest_s=5.0)


@dataclass(frozen=True, slots=True)
class CommitPolicy:
    """The coordinator's bounds.

    Attributes:
        wait_s: how long a caller waits for the end of a write, or for the end of recovery.
        retry: its pauses between two attempts at what must succeed.
        keys: how long answers are kept by idempotency key.
    """

    wait_s: float = 10.0
    retry: RetryPolicy = PAUSES
    keys: KeyRetention = KEPT_KEYS


class Coordinator:
    """Implements ``Writes``. It reads its journal, and applies what was left open, before it lets anybody in."""

    def __init__(  # noqa: PLR0913 - its ports
        self,
        *,
        stores: Stores,
        groups: CommitGroups,
        states: StateLog,
        open_journal: Callable[[], Journal],
        clock: Clock,
        rng: np.random.Generator,
        on_fenced: Callable[[Fenced], None],
        shown: ShownCommits | None = None,
        watch: Watch | None = None,
        policy: CommitPolicy | None = None,
    ) -> None:
        """Begin with the first call, or with ``start``.

        Args:
            stores: written by nobody else.
            open_journal: is called in a thread, until it succeeds; the journal is closed by ``close``.
            on_fenced: is told when another process has become the coordinator: nothing can be written here any more.
            shown: to those who search the store by themselves; None where all look through this process.
            watch: is told of all changes; None where nobody keeps what was read.
        """
        self._stores = stores
        self._groups = groups
        self._states = states
        self._open_journal = open_journal
        self._clock = clock
        self._rng = rng
        self._on_fenced = on_fenced
        self._shown = shown
        self._watch = watch or Unwatched()
        self._policy = policy or CommitPolicy()
        self._journal: Journal | None = None
        self._commit: GroupCommit | None = None
        self._protocol: CommitProtocol | None = None
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._tickets = 0
        self._epoch = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._recovered = asyncio.Event()
        self._applying_since_s: dict[int, float] = {}

    def start(self) -> None:
        """Begin to read the journal. Idempotent."""
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())

    @property
    def open_commits(self) -> int:
        """Transactions that are written down and not yet applied as a whole."""
        return 0 if self._protocol is None else self._protocol.open_commits

    def is_busy(self, collection: str) -> bool:
        """Return whether any write of a collection is under way. Call it once ``readable`` has returned."""
        return self._protocol is None or self._protocol.is_busy(collection)

    async def readable(self) -> None:
        """Return when all that was left open is applied, so that readers see no part of it.

        Raises:
            Unavailable: that takes longer than ``wait_s``.
            CorruptData: the journal cannot be read.
        """
        if self._recovered.is_set():
            return
        self.start()
        assert self._starting is not None
        try:
            async with asyncio.timeout(self._policy.wait_s):
                await asyncio.shield(self._starting)
                await self._recovered.wait()
        except TimeoutError:
            raise Unavailable("transactions are being recovered from the journal", retry_after_s=1.0) from None

    async def do(self, request: Request) -> Mapping[str, Any]:
        """See ``Writes.do``. A caller that is cancelled leaves what is written down to be done."""
        await self.readable()
        if isinstance(request, Transaction):
            self._check_not_held_up()
        assert self._protocol is not None
        self._tickets += 1
        ticket = self._tickets
        waiter = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        self._take_in(Asked(ticket, request))
        try:
            async with asyncio.timeout(self._policy.wait_s):
                answer: Mapping[str, Any] = await waiter
                return answer
        except TimeoutError:
            raise Unavailable(
                f"the write was not done within {self._policy.wait_s:g} s; it may still be, as a whole",
                retry_after_s=1.0,
            ) from None
        finally:
            if self._waiting.pop(ticket, None) is not None:
                self._take_in(Gone(ticket))

    async def follow(self, reader: str, commit: int | None, hold_s: float) -> Told:
        """Tell a reader of the store which commit is visible; see ``ShownCommits.follow``. Raises as ``readable``."""
        assert self._shown is not None, "the store has no readers of its own"
        await self.readable()
        return await self._shown.follow(reader, commit, hold_s)

    async def close(self) -> None:
        """Leave open what is under way, and release the journal. Idempotent."""
        if self._starting is not None:
            self._starting.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._commit is not None:
            await self._commit.close()
        if self._journal is not None:
            self._journal.close()

    # Start

    async def _start(self) -> None:
        while True:
            try:
                ledger = await asyncio.to_thread(self._load)
                await self._check_journal_of_store(ledger)
                break
            except Unavailable as error:
                logger.warning("the coordinator waits for its journal and its store: %s", error.detail)
                await asyncio.sleep(OPEN_PAUSE_S)
            except QuantumDBError:
                logger.exception("the coordinator cannot start")
                raise
        assert self._journal is not None
        self._commit = GroupCommit(self._journal, STREAM, epoch=self._epoch)
        self._protocol = CommitProtocol(ledger, retry=self._policy.retry, rng=self._rng, now_s=self._clock.now_s)
        self._carry_out(self._protocol.start())
        self._note_progress()
        if self._shown is not None:
            self._spawn(self._keep_dropping(self._shown))

    def _load(self) -> CommitLedger:
        if self._journal is None:
            self._journal = self._open_journal()
        self._epoch = self._journal.begin_epoch(STREAM)
        ledger = CommitLedger(self._policy.keys)
        for number, record in self._journal.read(STREAM):
            ledger.apply(number, record)
        return ledger

    async def _check_journal_of_store(self, ledger: CommitLedger) -> None:
        """Refuse a journal that does not know what is stored: nobody would see that, and numbers would come twice."""
        newest = await self._stores.newest_commit()
        if newest > ledger.reserved:
            raise CorruptData(
                f"the store holds what commit {newest} wrote, and its journal knows of none above {ledger.reserved}: "
                "start with the journal that belongs to this store"
            )

    def _note_progress(self) -> None:
        assert self._protocol is not None
        if self._shown is not None:
            self._shown.raise_to(self._protocol.visible)
        if self._protocol.recovered:
            self._recovered.set()

    def _check_not_held_up(self) -> None:
        """Refuse transactions while none can be shown, so that those that wait for it have a bound."""
        first_s = next(iter(self._applying_since_s.values()), None)
        if (
            self._shown is not None
            and first_s is not None
            and self._clock.monotonic_s() - first_s > self._policy.wait_s
        ):
            raise Unavailable(
                "an earlier transaction cannot be applied at present, and all later ones wait for it; nothing was done",
                retry_after_s=5.0,
            )

    async def _keep_dropping(self, shown: ShownCommits) -> None:
        """Drop versions that nobody looks at any more, again and again."""
        through = 0
        while True:
            await asyncio.sleep(DROP_PAUSE_S)
            through = shown.droppable() or through
            if not through:
                continue
            try:
                await self._stores.sweep(through)
                through = 0
            except QuantumDBError as error:
                logger.warning("old versions up to commit %d were not dropped yet: %s", through, error.detail)

    # Commands and events

    def _take_in(self, event: Event) -> None:
        assert self._protocol is not None
        self._carry_out(self._protocol.on(event))
        self._note_progress()

    def _carry_out(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Answer():
                    self._answer(command)
                case Note(intent):
                    self._note(intent)
                case Compact():
                    self._spawn(self._compact(command))
                case _:
                    self._spawn(self._effect(command))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _effect(self, command: Any) -> None:
        try:
            event = await self._event(command)
        except Fenced as error:
            self._on_fenced(error)
            event = Failed(command.work, error)
        except QuantumDBError as error:
            event = Failed(command.work, error)
        except Exception as error:  # whatever it was, the transaction must go on or be refused
            logger.exception("%s failed", type(command).__name__)
            event = Failed(command.work, Unavailable(f"an unexpected error: {error!r}", retry_after_s=1.0))
        if isinstance(event, Failed):
            logger.warning("%s did not succeed: %s", type(command).__name__, event.error.detail)
        self._take_in(event)

    async def _event(self, command: Command) -> Event:
        assert self._commit is not None
        done: Sequence[bool] = ()
        match command:
            case Read(work, wanted, collection):
                return Found(work, await self._read(wanted, collection))
            case Record(work, record):
                return Recorded(work, await self._commit.append([record]))
            case Prepare(work, commit, groups, collection):
                return Prepared(work, await self._groups_of(collection).prepare(commit, groups))
            case Sweep(work, first):
                return Swept(work, await self._groups.sweep(first))
            case Wake(work, after_s):
                await asyncio.sleep(after_s)
                return Woken(work)
            case Show(work, intent):
                if self._shown is not None:
                    await self._shown.show(intent.commit)
                self._applying_since_s.pop(intent.commit, None)
                await self._watch.changed(intent.collection)
                await self._tell(intent.collection, [entity.id for entity in intent.upserts], intent.deletes)
            case Finish(work, commit):
                await self._groups.finish(commit)
            case Forget(work, commit):
                await self._groups.forget(commit)
            case _:
                assert isinstance(command, Apply | Redo | Flush | Put | Erase), f"{command} leads to no event"
                work, done = command.work, await self._change_store(command)
        return Done(work, done)

    async def _change_store(self, command: Apply | Redo | Flush | Put | Erase) -> Sequence[bool]:
        there: Sequence[bool] = ()
        match command:
            case Apply(_, intent):
                self._applying_since_s.setdefault(intent.commit, self._clock.monotonic_s())
                ids = (*(entity.id for entity in intent.upserts), *intent.deletes)
                with self._watch.changing(intent.collection, ids):
                    await self._stores.of(intent.collection).apply(intent.commit, intent.upserts, intent.deletes)
            case Redo(_, intents) if self._shown is None:  # a server that others read makes its writes safe by itself
                for collection in sorted({intent.collection for intent in intents}):
                    await self._redo(collection, [one for one in intents if one.collection == collection])
            case Flush():
                await self._stores.flush()
            case Put(_, entities, collection):
                ids = tuple(entity.id for entity in entities)
                try:
                    with self._watch.changing(collection, ids):
                        await self._stores.of(collection).upsert(entities)
                finally:  # what failed may have changed something
                    await self._watch.changed(collection)
                await self._tell(collection, ids, ())
            case Erase(_, ids, collection):
                try:
                    with self._watch.changing(collection, ids):
                        there = await self._stores.of(collection).delete(ids)
                finally:
                    await self._watch.changed(collection)
                await self._tell(collection, (), ids)  # also who did not exist: an earlier deletion may have ended here
        return there

    async def _redo(self, collection: str, intents: Sequence[Intent]) -> None:
        try:
            store = self._stores.of(collection)
        except NoSuchCollection:  # it was deleted since, with all that was in it
            return
        changes = list(last_changes(intents).items())
        for start in range(0, len(changes), REDO_BATCH):
            last = dict(changes[start : start + REDO_BATCH])
            upserts, deletes = to_repeat(last, await store.versions(list(last)))
            if upserts or deletes:
                await store.apply(max(intent.commit for intent in intents), upserts, deletes)

    def _groups_of(self, collection: str) -> CommitGroups:
        return ScopedCommitGroups(self._groups, collection)

    async def _tell(self, collection: str, written: Sequence[str], deleted: Sequence[str]) -> None:
        """Let the deleted leave their groups, and those who cache know of the others. Idempotent."""
        groups = self._groups_of(collection)
        for entity_id in deleted:
            await groups.entity_deleted(entity_id)
        if written:
            await groups.entities_written(written)

    async def _read(self, wanted: Needs, collection: str) -> Stored:
        store, registry = self._stores.of(collection), self._groups_of(collection)
        groups = {one: await registry.of_member(one) for one in wanted.groups}
        wanted = wanted.with_partners(groups)
        entities = await store.fetch(wanted.entities) if wanted.entities else []
        versions = await store.versions(wanted.versions) if wanted.versions else []
        return Stored(
            dict(zip(wanted.entities, entities, strict=True)),
            dict(zip(wanted.versions, versions, strict=True)),
            await store.dimension(),
            groups,
        )

    async def _compact(self, command: Compact) -> None:
        assert self._commit is not None
        assert self._journal is not None
        replace_by, through, records = self._journal.compact, command.through, command.records
        try:
            await self._commit.run(lambda: replace_by(STREAM, through, records, epoch=self._epoch))
        except QuantumDBError as error:
            logger.warning("the commit journal was not compacted, and grows on: %s", error.detail)

    def _answer(self, answer: Answer) -> None:
        waiter = self._waiting.pop(answer.ticket, None)
        if waiter is None or waiter.done():  # its caller has gone
            return
        if answer.error is not None:
            waiter.set_exception(answer.error)
        else:
            assert answer.answer is not None
            waiter.set_result(answer.answer)

    def _note(self, intent: Intent) -> None:
        now_s = self._clock.now_s()
        ids, times_ms = [entity.id for entity in intent.upserts], [one.coherence_time_ms for one in intent.upserts]
        created = happened(Happening.CREATED, ids, now_s, times_ms, intent.commit)
        archived = happened(Happening.ARCHIVED, intent.deletes, now_s, commit=intent.commit)
        ScopedStateLog(self._states, intent.collection).record(joined([created, archived]))
