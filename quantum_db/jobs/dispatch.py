"""Starts jobs when there is a place, flies them, and brings their results to the runs they were made of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import numpy as np

from quantum_db.backend_ports import JobRequest
from quantum_db.errors import QuantumDBError, Unavailable
from quantum_db.jobs.breaker import Override
from quantum_db.jobs.budget import MICRO, Account, Budgets, Spending, day_of
from quantum_db.jobs.coalescing import Wish, merged
from quantum_db.jobs.flight import Flight, Health, Surroundings
from quantum_db.jobs.job_metrics import JobMetrics
from quantum_db.jobs.lanes import Lane
from quantum_db.jobs.ledger import OpenSubmission, counts_of
from quantum_db.jobs.queue import FairQueue, JobCaps
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.jobs.runs import Outcome, Run, RunTable
from quantum_db.jobs.steps import Command, Deliver, End, Tell
from quantum_db.jobs.submission import Submission

logger = logging.getLogger(__name__)

SHARED_CIRCUITS: Final = 500
"""A job of several callers has at most so many circuits, since each waits for all of them. One caller may have more."""

_PROBE_PAUSE_S = 1.0


@dataclass(slots=True, eq=False)
class _Flying:
    """A job in flight and the runs it was made of. ``flight`` is None where it runs in a worker itself."""

    key: str
    lane: Lane
    runs: tuple[Run, ...]
    wish: Wish
    began_s: float
    flight: Flight | None = None
    task: asyncio.Task[None] | None = None
    delivered: bool = False


class Dispatcher:
    """For one event loop."""

    def __init__(
        self,
        lanes: Mapping[str, Lane],
        *,
        queue: FairQueue,
        budgets: Budgets,
        around: Surroundings,
        retry: RetryPolicy,
        metrics: JobMetrics,
        rng: np.random.Generator,
        new_key: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self.lanes = lanes
        self._queue = queue
        self._budgets = budgets
        self._around = around
        self._clock = around.clock
        self._retry = retry
        self._metrics = metrics
        self._rng = rng
        self._new_key = new_key
        self._runs = RunTable()
        self._flying: dict[str, _Flying] = {}

    def run_of(self, digest: str) -> Run | None:
        """Return the run that a circuit is part of, queued or in flight."""
        return self._runs.of(digest)

    def job_ids(self, run: Run) -> tuple[str, ...]:
        """Return the provider's ids of a run's job, if it is there."""
        flying = self._flying.get(run.flight_key or "")
        job_id = flying.flight.machine.job_id if flying is not None and flying.flight is not None else None
        return () if job_id is None else (job_id,)

    def start(self, run: Run, *, patient: bool) -> None:
        """Put a run into the queue, and reserve what it costs.

        Raises:
            BreakerOpen: the backend takes nothing now, and the caller would not wait. Nothing was queued, as with
            BudgetExceeded: the tenant's day does not cover it.
            Overloaded: too much waits.
        """
        lane = self.lanes[run.backend]
        if not lane.local and not patient:
            lane.breaker.admit(run.key, self._clock.monotonic_s())
        try:
            if run.charge is not None:
                self._budgets.reserve(run.key, run.charge)
            self._queue.add(run.backend, run.ask())
        except QuantumDBError:
            self._budgets.release(run.key)
            lane.breaker.withdrawn(run.key)
            raise
        run.queued_s = self._clock.monotonic_s()
        self._runs.add(run)
        self._pump_after(lane, lane.share_s(self._queue.depths()[lane.name][0]))

    def join(self, run: Run) -> None:
        """Note that one more waits for a run."""
        run.waiters += 1
        flying = self._flying.get(run.flight_key or "")
        if run.waiters == 1 and flying is not None and flying.flight is not None:
            flying.flight.wanted()

    def leave(self, run: Run) -> None:
        """Note that one who waited for a run does so no more."""
        run.waiters -= 1
        if run.waiters > 0 or run.ended.done():
            return
        if self._queue.withdraw(run.key):
            self._budgets.release(run.key)
            self.lanes[run.backend].breaker.withdrawn(run.key)
            self._runs.forget(run)
            return
        flying = self._flying.get(run.flight_key or "")
        if flying is not None and flying.flight is not None and not any(other.waiters for other in flying.runs):
            flying.flight.unwanted()

    def resume(self, submissions: Sequence[OpenSubmission]) -> None:
        """Take up the jobs that an earlier process may have submitted. They take places before anything new does."""
        for submission in submissions:
            lane = self.lanes.get(submission.backend)
            if lane is None:
                logger.warning("job %s is on %s, which is not configured", submission.key, submission.backend)
                continue
            run = Run(
                key=submission.key,
                backend=submission.backend,
                wish=Wish((), submission.digests),
                shots=submission.shots,
                tenant="",
                priority="batch",
                deadline_s=float("inf"),
                orphan=True,
                flight_key=submission.key,
            )
            self._runs.add(run)
            self._queue.take_place(lane.name, submission.key)
            flying = _Flying(submission.key, lane, (run,), run.wish, self._clock.monotonic_s())
            machine = self._machine(submission.key)
            self._fly(flying, submission, machine, machine.resume(submission.job_id))

    def force(self, backend: str, override: Override) -> None:
        """Set a breaker by hand."""
        lane = self.lanes[backend]
        lane.breaker.force(override)
        if lane.breaker.state == "open":
            self._refuse_queued(lane)
        self._pump_after(lane, 0.0)

    def wait_s(self, backend: str) -> float:
        """Predict how long a new run waits for a place."""
        lane = self.lanes[backend]
        if self._queue.has_place(backend):
            return 0.0
        return lane.wait_s(*self._queue.depths()[backend])

    def depths(self) -> dict[str, tuple[int, int]]:
        """Return backend -> (jobs in flight, runs waiting)."""
        return self._queue.depths()

    async def close(self) -> None:
        """Let go of all jobs. Those at a provider go on there, and are taken up at the next start."""
        for lane in self.lanes.values():
            if lane.pump is not None:
                lane.pump.cancel()
        tasks = [flying.task for flying in self._flying.values() if flying.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        gone = Unavailable("the job pool is shutting down; the work goes on at its next start", retry_after_s=1.0)
        for run in self._runs:
            run.end(gone)

    def _pump_after(self, lane: Lane, after_s: float) -> None:
        """Look for work to start, no later than ``after_s`` from now."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + after_s
        if lane.pump is not None:
            if lane.pump_due_s <= due_s:
                return
            lane.pump.cancel()
        lane.pump, lane.pump_due_s = loop.call_later(after_s, self._pump, lane), due_s

    def _pump(self, lane: Lane) -> None:
        lane.pump = None
        while lane.limits is not None and self._queue.has_place(lane.name):
            job_key = self._new_key()
            if lane.local or lane.breaker.state == "closed":
                caps = JobCaps(min(SHARED_CIRCUITS, lane.limits.max_circuits), lane.limits.max_gates)
                keys = [ask.key for ask in self._queue.start(lane.name, job_key, caps)]
            else:
                keys = self._start_probe(lane, job_key)
            if not keys:
                return
            self._launch(lane, job_key, [self._runs.get(key) for key in keys])

    def _start_probe(self, lane: Lane, job_key: str) -> list[str]:
        """While the breaker is not closed, only its probe may start."""
        probe = lane.breaker.probe
        if probe is None:
            head, now_s = self._queue.head(lane.name), self._clock.monotonic_s()
            if head is None:
                return []
            refusal = lane.breaker.refusal(now_s)
            if refusal is not None:
                self._pump_after(lane, refusal.retry_after_s or _PROBE_PAUSE_S)
                return []
            lane.breaker.admit(head.key, now_s)
            probe = head.key
        if not self._queue.waits(probe):
            return []
        return [self._queue.start_alone(probe, job_key).key]

    def _launch(self, lane: Lane, key: str, runs: list[Run]) -> None:
        now_s = self._clock.monotonic_s()
        wish = merged([run.wish for run in runs]) if len(runs) > 1 else runs[0].wish
        for run in runs:
            run.flight_key = key
        flying = _Flying(key, lane, tuple(runs), wish, now_s)
        self._metrics.started(lane.name, runs, now_s - runs[0].queued_s)
        if lane.local:
            self._flying[key] = flying
            self._start_task(flying, self._run_in_worker(flying))
            return
        submission = OpenSubmission(
            key=key,
            backend=lane.name,
            shots=runs[0].shots,
            qubits=wish.qubits,
            digests=wish.digests,
            charges={run.key: run.charge for run in runs if run.charge is not None},
            at_s=self._clock.now_s(),
        )
        machine = self._machine(key)
        self._fly(flying, submission, machine, machine.begin(submission.intent()))

    def _machine(self, key: str) -> Submission:
        return Submission(
            key, limits=self._around.protocol, retry=self._retry, rng=self._rng, now_s=self._clock.monotonic_s
        )

    def _fly(self, flying: _Flying, submission: OpenSubmission, machine: Submission, first: list[Command]) -> None:
        left_s = max(run.deadline_s for run in flying.runs) - self._clock.monotonic_s()
        labels: dict[str, str] = {"priority": flying.runs[0].priority}
        if left_s < float("inf"):
            labels["deadline"] = f"{self._clock.now_s() + left_s:.3f}"
        flight = flying.flight = Flight(
            submission,
            machine,
            self._around,
            parts=flying.wish.parts,
            labels=labels,
            on_health=lambda health: self._note_health(flying, health),
            on_news=lambda news: self._spread(flying, news),
        )
        self._flying[flying.key] = flying

        async def fly() -> None:
            self._land(flying, await flight.fly(first))

        self._start_task(flying, fly())

    def _start_task(self, flying: _Flying, work: Coroutine[Any, Any, None]) -> None:
        flying.task = asyncio.get_running_loop().create_task(work)
        flying.task.add_done_callback(lambda task: self._note_crash(flying, task))

    def _note_crash(self, flying: _Flying, task: asyncio.Task[None]) -> None:
        """Let callers know of a fault of this program. A paid job keeps its place, and the next start takes it up."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("job %s crashed", flying.key, exc_info=error)
            for run in flying.runs:
                run.end(QuantumDBError("the job pool failed; see its log"))

    async def _run_in_worker(self, flying: _Flying) -> None:
        runs = flying.runs
        left_s = max(run.deadline_s for run in runs) - self._clock.monotonic_s()
        request = JobRequest(
            flying.key, flying.lane.name, flying.wish.parts, runs[0].shots, left_s, adaptive=runs[0].adaptive
        )
        outcome: Outcome | QuantumDBError
        try:
            found = await self._around.workers.run(request)
            counts = dict(zip(flying.wish.digests, found.counts, strict=True))
            outcome = Outcome(counts, found.provenance, found.cost_usd, found.provider_job_ids, found.selection)
        except QuantumDBError as error:
            outcome = error
        for run in runs:
            run.end(outcome)
            if isinstance(outcome, Outcome):
                self._book(run, outcome)
                self._metrics.completed(flying.lane.name, len(run.wish.digests), run.shots, outcome.cost_usd)
        self._clear(flying, outcome if isinstance(outcome, QuantumDBError) else None)

    def _book(self, run: Run, outcome: Outcome) -> None:
        """Count what ran free of charge."""
        account = Account(run.tenant, day_of(self._clock.now_s()), run.backend)
        shots = sum(sum(outcome.counts[digest].values()) for digest in run.wish.digests)
        self._budgets.book(account, Spending(shots=shots, circuits=len(run.wish.digests), jobs=1))

    def _spread(self, flying: _Flying, news: Tell | Deliver | None) -> None:
        for run in flying.runs:
            if news is None:
                run.all_well()
            elif isinstance(news, Tell):
                run.tell(news.error)
        if isinstance(news, Deliver):
            self._deliver(flying, news)

    def _deliver(self, flying: _Flying, end: Deliver | End) -> None:
        """Give each run what is its own."""
        if end.result is None:
            assert end.error is not None
            for run in flying.runs:
                run.end(end.error)
            return
        result = end.result
        if not flying.delivered:
            cost_usd = sum(result["micro_usd"].values()) / MICRO
            self._metrics.completed(flying.lane.name, len(flying.wish.digests), flying.runs[0].shots, cost_usd)
        flying.delivered = True
        counts = {digest: counts_of(raw) for digest, raw in zip(flying.wish.digests, result["counts"], strict=True)}
        for run in flying.runs:
            micro_usd = sum(result["micro_usd"].values()) if run.orphan else result["micro_usd"].get(run.key, 0)
            run.end(Outcome(counts, result["provenance"], micro_usd / MICRO, (result["job_id"],)))

    def _land(self, flying: _Flying, end: End) -> None:
        assert flying.flight is not None
        if end.error is not None:
            for run in flying.runs:
                self._budgets.release(run.key)  # done already, unless the end could not be written down
        if end.error is not None and flying.flight.refused and len(flying.runs) > 1:
            self._fly_apart(flying)
        else:
            self._deliver(flying, end)
        self._clear(flying, end.error)

    def _fly_apart(self, flying: _Flying) -> None:
        """A job of several runs was refused: nobody shall pay for another's mistake, so each is submitted by itself."""
        for run in flying.runs:
            run.alone, run.flight_key = True, None
            try:
                if run.charge is not None:
                    self._budgets.reserve(run.key, run.charge)
                self._queue.add(run.backend, run.ask())
            except QuantumDBError as refusal:
                self._budgets.release(run.key)
                run.end(refusal)

    def _clear(self, flying: _Flying, error: QuantumDBError | None) -> None:
        """Free the place, and see what is next."""
        del self._flying[flying.key]
        self._queue.finish(flying.key)
        lane, seconds = flying.lane, self._clock.monotonic_s() - flying.began_s
        lane.note_job(seconds, len(flying.runs))
        for run in flying.runs:
            lane.breaker.withdrawn(run.key)
            if run.ended.done():
                self._runs.forget(run)
        self._metrics.ended(lane.name, error)
        self._pump_after(lane, 0.0)

    def _note_health(self, flying: _Flying, health: Health) -> None:
        breaker = flying.lane.breaker
        keys = [run.key for run in flying.runs]
        key = breaker.probe if breaker.probe in keys else keys[0]
        assert key is not None
        if health == "works":
            breaker.succeeded(key)
            self._pump_after(flying.lane, 0.0)
            return
        breaker.failed(key, self._clock.monotonic_s())
        if breaker.state == "open":
            self._refuse_queued(flying.lane)

    def _refuse_queued(self, lane: Lane) -> None:
        """Tell those who wait for a place at a broken backend; who is patient waits on."""
        refusal = lane.breaker.refusal(self._clock.monotonic_s())
        for run in self._runs:
            if refusal is not None and run.backend == lane.name and self._queue.waits(run.key):
                run.tell(refusal)
