"""One job in flight: carries out what its protocol wants, and feeds back what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from quantum_db.backend_ports import BackendResult
from quantum_db.circuits.template import CircuitBatch
from quantum_db.circuits.verification import verify_counts
from quantum_db.errors import (
    DeadlineExceeded,
    InvalidCircuit,
    InvalidSettings,
    JobCanceled,
    JobFailed,
    OutcomeUnclear,
    QuantumDBError,
    Unavailable,
)
from quantum_db.jobs.budget import micro_of
from quantum_db.jobs.ledger import OpenSubmission, counts_to_json
from quantum_db.jobs.steps import (
    Cancel,
    Canceled,
    Collect,
    Collected,
    Command,
    Deliver,
    Discard,
    End,
    Event,
    Find,
    Found,
    Lost,
    NoAnswer,
    NotRecorded,
    NotSubmitted,
    Record,
    Recorded,
    Refused,
    StillRunning,
    Submit,
    Submitted,
    Tell,
    Unclear,
    Unwanted,
    Wake,
    Wanted,
    Woken,
)
from quantum_db.jobs.submission import ProtocolLimits, Submission
from quantum_db.jobs.workers import Workers
from quantum_db.ports import Clock

FIND_TIMEOUT_S: Final = 15.0
CANCEL_TIMEOUT_S: Final = 10.0
COLLECT_SLICE_S: Final = 20.0
"""How long one wait for a job's end lasts; after each it is seen whether anybody still wants it."""

SEARCH_MARGIN_S: Final = 86_400.0
"""Jobs are searched from so long before the intent was written: this clock and the provider's may differ by that."""

Health = Literal["works", "fails"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all flights share.

    Attributes:
        write: makes a record durable and takes it into the ledger.
    """

    workers: Workers
    write: Callable[[Mapping[str, Any]], Awaitable[None]]
    clock: Clock
    protocol: ProtocolLimits


class Flight:
    """Drives a ``Submission`` to its end."""

    def __init__(
        self,
        submission: OpenSubmission,
        machine: Submission,
        around: Surroundings,
        *,
        parts: Sequence[CircuitBatch] = (),
        labels: Mapping[str, str] | None = None,
        on_health: Callable[[Health], None],
        on_news: Callable[[Tell | Deliver | None], None],
    ) -> None:
        """Start nothing yet.

        Args:
            submission: what is known of the job.
            machine: its protocol.
            around: what all flights share.
            parts: its circuits; none for a job that an earlier process submitted.
            labels: for the provider.
            on_health: is told whenever the provider has shown that it works or fails.
            on_news: is told what callers should know before the end; None when the provider answers again.
        """
        self.submission = submission
        self.machine = machine
        self.refused = False
        self._around = around
        self._parts = tuple(parts)
        self._labels = dict(labels or {})
        self._on_health = on_health
        self._on_news = on_news
        self._begin_by_s = 0.0
        self._events: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def fly(self, first: Sequence[Command]) -> End:
        """Carry out ``first`` and all that follows; return how it ended. Cancelling this leaves the job as it is.

        Raises what a step raised that is no ``QuantumDBError``: a fault of this program.
        """
        commands = list(first)
        try:
            while True:
                for command in commands:
                    if isinstance(command, End):
                        return command
                    self._carry_out(command)
                event = await self._events.get()
                if isinstance(event, BaseException):
                    raise event
                commands = self.machine.on(event)
        finally:
            for task in self._tasks:
                task.cancel()

    def unwanted(self) -> None:
        """Note that nobody waits for the result any more."""
        self._events.put_nowait(Unwanted())

    def wanted(self) -> None:
        """Note that somebody waits for it again. It may be too late: then it ends as canceled."""
        self._events.put_nowait(Wanted())

    def _carry_out(self, command: Command) -> None:
        match command:
            case Tell() | Deliver():
                self._on_news(command)
            case Record(fields, awaited):
                self._spawn(self._record(fields, awaited))
            case Submit():
                self._spawn(self._submit())
            case Find():
                self._spawn(self._find())
            case Collect(job_id):
                self._spawn(self._collect(job_id))
            case Cancel(job_id):
                self._spawn(self._cancel(job_id))
            case Discard(job_id):
                self._spawn(self._discard(job_id))
            case Wake(after_s):
                self._spawn(self._wake(after_s))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._step_ended)

    def _step_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._events.put_nowait(error)

    async def _record(self, fields: Mapping[str, Any], awaited: bool) -> None:
        event: Event = Recorded()
        if awaited:
            self._begin_by_s = self._around.clock.now_s() + self._around.protocol.begin_s
        try:
            await self._around.write(fields)
        except QuantumDBError as error:
            event = NotRecorded(error)
        if awaited:
            self._events.put_nowait(event)

    async def _submit(self) -> None:
        event: Event
        try:
            job_id = await self._around.workers.submit(
                self.submission.backend,
                self._parts,
                self.submission.shots,
                job_key=self.submission.key,
                begin_by_s=self._begin_by_s,
                timeout_s=self._around.protocol.call_s,
                labels=self._labels,
            )
            event = Submitted(job_id)
            self._on_health("works")
        except OutcomeUnclear as error:
            event = Unclear(error)
            self._on_health("fails")
        except Unavailable as error:
            event = NotSubmitted(error)
            self._on_health("fails")
        except DeadlineExceeded as error:  # no worker came to it in time: nothing was sent, and it says nothing of them
            event = NotSubmitted(error)
        except (JobFailed, InvalidCircuit, InvalidSettings) as error:
            event = Refused(error)
            self.refused = True
            self._on_health("works")
        self._events.put_nowait(event)

    async def _find(self) -> None:
        began_s = self._around.clock.monotonic_s()
        since_s = self.submission.at_s - SEARCH_MARGIN_S
        try:
            jobs = await self._around.workers.find(
                self.submission.backend, self.submission.key, timeout_s=FIND_TIMEOUT_S, since_s=since_s
            )
        except QuantumDBError as error:
            self._events.put_nowait(NoAnswer(error))
            self._on_health("fails")
        else:
            self._events.put_nowait(Found(jobs, began_s))

    async def _collect(self, job_id: str) -> None:
        submission = self.submission
        event: Event
        try:
            found = await self._around.workers.collect(
                submission.backend, job_id, submission.qubits, submission.shots, timeout_s=COLLECT_SLICE_S
            )
            verify_counts(found.result.counts, len(submission.qubits), max(submission.qubits), submission.shots)
            event = Collected(self._result(job_id, found.result))
            self._on_health("works")
        except DeadlineExceeded:
            event = StillRunning()
            self._on_news(None)
        except JobCanceled as error:
            event = Lost(error)
        except JobFailed as error:
            event = Lost(error)
            self._on_health("fails")
        except QuantumDBError as error:
            event = NoAnswer(error)
            self._on_health("fails")
        self._events.put_nowait(event)

    async def _cancel(self, job_id: str) -> None:
        try:
            in_time = await self._around.workers.cancel(self.submission.backend, job_id, timeout_s=CANCEL_TIMEOUT_S)
        except QuantumDBError as error:
            self._events.put_nowait(NoAnswer(error))
        else:
            self._events.put_nowait(Canceled(in_time))

    async def _discard(self, job_id: str) -> None:
        try:
            await self._around.workers.cancel(self.submission.backend, job_id, timeout_s=CANCEL_TIMEOUT_S)
        except QuantumDBError as error:
            self._on_news(Tell(error))

    async def _wake(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._events.put_nowait(Woken())

    def _result(self, job_id: str, result: BackendResult) -> dict[str, Any]:
        """Return the result as the journal keeps it, with each caller's share of the cost."""
        estimates = {key: charge.micro_usd for key, charge in self.submission.charges.items()}
        return {
            "counts": [counts_to_json(counts) for counts in result.counts],
            "provenance": result.provenance,
            "job_id": job_id,
            "at_s": self._around.clock.now_s(),
            "micro_usd": shares(micro_of(result.cost_usd), estimates),
        }


def shares(total: int, by: Mapping[str, int]) -> dict[str, int]:
    """Split a whole number in proportion to others, so that the parts sum to it; equally where all are zero."""
    weights = dict(by) if sum(by.values()) else dict.fromkeys(by, 1)
    whole, given, seen = sum(weights.values()), 0, 0
    parts: dict[str, int] = {}
    for key, weight in weights.items():
        seen += weight
        parts[key] = total * seen // whole - given
        given += parts[key]
    return parts
