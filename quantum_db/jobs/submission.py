"""The protocol of one paid job: written down, submitted once, found again, collected, written down.

A state machine without I/O: events in, commands out. The journal is written before the provider is told (``Record``,
then ``Submit``), and the job carries its key in the provider's metadata. So after a crash, or an answer that was lost,
the machine *looks for the key* (``Find``) and submits again only when it is certain that the provider has no such job.

::

    recording --recorded--> submitting --submitted--> accepted --collected--> storing --recorded--> ended
        ^                   |       |                    ^
        |          not sent |       | unclear            | found
        |                   v       +-----> unclear -----+
        +---woken------- waiting                |
                            ^                   |
                            +-------------------+ certainly not there

**When is "not found" certain?** A listing may lag, and a submission that was cut off may still be on its way. So "no
such job" counts only if the search began ``settle_s`` after the last moment at which the submission can have been sent.
Until then nothing is submitted, whoever asks. Times are of a monotonic clock, so a wall clock that jumps does no harm.

**Who may submit?** The process that the journal takes for its writer. One that slept while another took its place may
wake up in any phase. So the intent is written before each attempt, not only the first, and a worker that does not begin
``begin_s`` after that writing began sends nothing: a process that was replaced in between is refused by the journal, or
its submission was sent before the other began to count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np

from quantum_db.backend_ports import ProviderJob
from quantum_db.errors import JobCanceled, OutcomeUnclear, QuantumDBError
from quantum_db.jobs.retry import RetryPolicy
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

QUICK_LOOKUPS: Final = 3
"""Searches before the callers are told that the outcome is unclear; the machine goes on looking."""

LONGEST_RETRY_AFTER_S: Final = 300.0

LOST: Final = frozenset({"failed", "canceled"})


class Phase(Enum):
    """Where a submission stands."""

    RECORDING = "recording"
    SUBMITTING = "submitting"
    WAITING = "waiting"
    UNCLEAR = "unclear"
    ACCEPTED = "accepted"
    STORING = "storing"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class ProtocolLimits:
    """The protocol's bounds.

    Attributes:
        begin_s: how long the writing of the intent and a worker's way to the submission may take; after that it sends
            nothing.
        call_s: the longest that the call may take.
        settle_s: how long after that the provider may need to accept a job and to list it.
        longest_pause_s: between two looks at a provider that does not answer.
    """

    begin_s: float = 5.0
    call_s: float = 20.0
    settle_s: float = 30.0
    longest_pause_s: float = 30.0

    @property
    def unclear_s(self) -> float:
        """Seconds after which a job that is not listed was certainly not accepted."""
        return self.begin_s + self.call_s + self.settle_s


class Submission:
    """One job's way. Feed it with ``on``; carry out what it returns, in order."""

    def __init__(
        self,
        key: str,
        *,
        limits: ProtocolLimits,
        retry: RetryPolicy,
        rng: np.random.Generator,
        now_s: Callable[[], float],
    ) -> None:
        """Start before anything was written or sent.

        Args:
            key: in the job's metadata at the provider.
            limits: the protocol's bounds.
            retry: of submissions that were certainly not accepted.
            rng: for the pauses of ``retry``.
            now_s: the monotonic clock.
        """
        self.key = key
        self.phase = Phase.RECORDING
        self.job_id: str | None = None
        self.wanted = True
        self._limits = limits
        self._retry = retry
        self._rng = rng
        self._now_s = now_s
        self._intent: Mapping[str, Any] = {}
        self._attempt = 1
        self._may_submit = True
        self._clear_at_s = float("inf")
        self._lookups = self._misses = 0
        self._error: QuantumDBError | None = None
        self._result: Mapping[str, Any] | None = None

    def begin(self, intent: Mapping[str, Any]) -> list[Command]:
        """Start a new job; ``intent`` is what has to be known of it after a crash."""
        self._intent = {"t": "intent", "key": self.key, **intent}
        return [Record(self._intent)]

    def resume(self, job_id: str | None) -> list[Command]:
        """Take up a job whose intent an earlier process wrote: collect it if its id is known, else look for it.

        One that certainly was not submitted fails: its circuits died with the process. Who still wants them asks anew.
        """
        self._may_submit = False
        if job_id is not None:
            return self._accept(job_id, record=False)
        self.phase, self._error = Phase.UNCLEAR, JobCanceled("the work was not submitted before a restart")
        self._clear_at_s = self._now_s() + self._limits.unclear_s
        return [Find()]

    def on(self, event: Event) -> list[Command]:
        """Return what to do after an event. An event that the phase has no use for changes nothing."""
        commands: list[Command] = []
        match event, self.phase:
            case Unwanted(), _:
                commands = self._unwanted()
            case Wanted(), _:
                self.wanted = True
            case Recorded(), _:
                commands = self._recorded()
            case NotRecorded(error), _:
                commands = self._not_recorded(error)
            case Woken(), _:
                commands = self._woken()
            case _, Phase.SUBMITTING:
                commands = self._while_submitting(event)
            case _, Phase.UNCLEAR:
                commands = self._while_unclear(event)
            case _, Phase.ACCEPTED:
                commands = self._while_accepted(event)
        return commands

    def _while_submitting(self, event: Event) -> list[Command]:
        match event:
            case Submitted(job_id):
                return self._accept(job_id)
            case NotSubmitted(error):
                self._error = error
                return self._try_again()
            case Refused(error):
                return self._fail(error)
            case Unclear(error):
                self.phase, self._error = Phase.UNCLEAR, error
                self._clear_at_s = self._now_s() + self._limits.unclear_s
                self._lookups = 0
                return [Find()]
        return []

    def _while_unclear(self, event: Event) -> list[Command]:
        match event:
            case Found(jobs, began_s):
                if jobs:
                    return self._adopt(jobs)
                if began_s >= self._clear_at_s:
                    return self._try_again()
                return self._look_later()
            case NoAnswer():
                return self._look_later()
        return []

    def _while_accepted(self, event: Event) -> list[Command]:
        assert self.job_id is not None
        match event:
            case Collected(result):
                self.phase, self._result, self._error, self._misses = Phase.STORING, result, None, 0
                return [self._end_record()]
            case Lost(error):
                return self._fail(error)
            case StillRunning():
                return self._pursue()
            case Canceled(in_time):
                # One that ended by itself is paid for, so its result is kept.
                return self._fail(_canceled(self.job_id)) if in_time else [Collect(self.job_id)]
            case NoAnswer(error):
                self._misses += 1
                pause_s = min(2.0 ** (self._misses - 1), self._limits.longest_pause_s)
                return [Tell(error), Wake(max(pause_s, min(error.retry_after_s or 0.0, LONGEST_RETRY_AFTER_S)))]
        return []

    def _recorded(self) -> list[Command]:
        if self.phase is Phase.RECORDING:
            if not self.wanted:
                return self._fail(_canceled())
            self.phase = Phase.SUBMITTING
            return [Submit()]
        if self.phase is Phase.STORING:
            self.phase = Phase.ENDED
            return [End(self._result, self._error)]
        return []

    def _not_recorded(self, error: QuantumDBError) -> list[Command]:
        """Without an intent nothing is sent. An end is written again until it is durable: it must not be forgotten."""
        if self.phase is Phase.RECORDING and self._attempt > 1:
            return self._fail(error)  # an earlier intent is there, and has to be ended
        if self.phase is Phase.RECORDING:
            self.phase = Phase.ENDED
            return [End(None, error)]
        if self.phase is Phase.STORING:
            self._misses += 1
            pause_s = min(2.0 ** (self._misses - 1), self._limits.longest_pause_s)
            return [Deliver(self._result, self._error), Wake(pause_s)]
        return []

    def _woken(self) -> list[Command]:
        if self.phase is Phase.WAITING:
            if not self.wanted:
                return self._fail(_canceled())
            self.phase = Phase.RECORDING
            return [Record(self._intent)]
        if self.phase is Phase.UNCLEAR:
            return [Find()]
        if self.phase is Phase.STORING:
            return [self._end_record()]
        return self._pursue() if self.phase is Phase.ACCEPTED else []

    def _unwanted(self) -> list[Command]:
        if not self.wanted:
            return []
        self.wanted = False
        return self._pursue() if self.phase is Phase.ACCEPTED else []  # elsewhere the next step finds out

    def _accept(self, job_id: str, *, record: bool = True) -> list[Command]:
        self.phase, self.job_id, self._misses = Phase.ACCEPTED, job_id, 0
        accepted = [Record({"t": "accepted", "key": self.key, "job_id": job_id}, awaited=False)] if record else []
        return [*accepted, *self._pursue()]

    def _adopt(self, jobs: tuple[ProviderJob, ...]) -> list[Command]:
        """Take the oldest job that is not lost. There is one at most, unless ``ProtocolLimits`` were too short."""
        running = [job for job in jobs if job.status not in LOST]
        chosen = running[-1] if running else jobs[0]
        others: list[Command] = [Discard(job.job_id) for job in running[:-1]]
        return [*others, *self._accept(chosen.job_id)]

    def _pursue(self) -> list[Command]:
        assert self.job_id is not None
        return [Collect(self.job_id) if self.wanted else Cancel(self.job_id)]

    def _try_again(self) -> list[Command]:
        error = self._error
        assert error is not None, "something went wrong before"
        if not (self.wanted and self._may_submit and self._retry.may_retry(self._attempt)):
            return self._fail(error)
        pause_s = self._retry.pause_s(self._attempt, self._rng, error.retry_after_s)
        self._attempt += 1
        self.phase = Phase.WAITING
        return [Wake(pause_s)]

    def _look_later(self) -> list[Command]:
        self._lookups += 1
        pause_s = min(0.25 * 2.0 ** min(self._lookups - 1, 20), self._limits.longest_pause_s)
        to_clear_s = self._clear_at_s - self._now_s()
        if to_clear_s > 0.0:
            pause_s = min(pause_s, to_clear_s)
        if self._lookups != QUICK_LOOKUPS:
            return [Wake(pause_s)]
        assert self._error is not None, "something went wrong before"
        why = self._error.detail
        unclear = OutcomeUnclear(
            f"it is unclear whether the provider has accepted job key {self.key} ({why}); it is being looked for",
            retry_after_s=max(1.0, to_clear_s),
        )
        return [Tell(unclear), Wake(pause_s)]

    def _fail(self, error: QuantumDBError) -> list[Command]:
        self.phase, self._error, self._misses = Phase.STORING, error, 0
        return [self._end_record()]

    def _end_record(self) -> Record:
        if self._result is not None:
            return Record({"t": "done", "key": self.key, **self._result})
        assert self._error is not None
        return Record({"t": "failed", "key": self.key, "slug": self._error.slug, "detail": self._error.detail})


def _canceled(job_id: str | None = None) -> JobCanceled:
    what = "the work was canceled before it was submitted" if job_id is None else f"job {job_id} was canceled"
    return JobCanceled(what)
