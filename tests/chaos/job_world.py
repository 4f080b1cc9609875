"""The protocol of paid jobs in a simulated world: virtual time, one seed, and every fault at every step.

Real: ``Submission``, ``Ledger``, their records. Simulated: the provider, the journal's disk, the network, and a process
that dies and starts again. The same seed gives the same run.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quantum_db.backend_ports import ProviderJob
from quantum_db.errors import JobCanceled, JobFailed, OutcomeUnclear, Unavailable
from quantum_db.jobs.budget import Account, Allowance, Budgets, Charge
from quantum_db.jobs.flight import SEARCH_MARGIN_S
from quantum_db.jobs.ledger import Ledger, OpenSubmission, Retention
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.jobs.steps import (
    Cancel,
    Canceled,
    Collect,
    Collected,
    Command,
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
    StillRunning,
    Submit,
    Submitted,
    Unclear,
    Wake,
    Woken,
)
from quantum_db.jobs.submission import ProtocolLimits, Submission

PROTOCOL = ProtocolLimits(begin_s=5.0, call_s=20.0, settle_s=30.0)
CHARGE = Charge(Account("t", "2026-11-25", "b"), 1_000, 100, 1)
END_OF_FAULTS_S = 400.0
END_S = 20_000.0


@dataclass
class Provider:
    """Accepts, lists and runs jobs. ``lag_s`` is how long an accepted job is not listed."""

    lag_s: float
    run_s: float
    jobs: list[dict[str, Any]] = field(default_factory=list)

    def accept(self, key: str, work: int, now_s: float) -> str:
        job = {"id": f"job-{len(self.jobs)}", "key": key, "work": work, "at_s": now_s, "canceled": False}
        self.jobs.append(job)
        return job["id"]

    def status(self, job: Mapping[str, Any], now_s: float) -> str:
        if job["canceled"]:
            return "canceled"
        return "completed" if now_s >= job["at_s"] + self.run_s else "started"

    def listed(self, key: str, now_s: float, since_s: float) -> tuple[ProviderJob, ...]:
        ours = [job for job in self.jobs if job["key"] == key and job["at_s"] >= since_s]
        found = [job for job in ours if now_s >= job["at_s"] + self.lag_s]
        return tuple(ProviderJob(job["id"], self.status(job, now_s)) for job in reversed(found))


@dataclass
class Faults:
    """Probabilities of what goes wrong, while faults last."""

    lost_answer: float = 0.15  # accepted, but the answer is a 504 or a cut connection
    late_acceptance: float = 0.1  # the connection is cut, and it is accepted some seconds later all the same
    lost_request: float = 0.1  # cut before it arrived: unclear from here
    not_taken: float = 0.1  # 429
    worker_dies: float = 0.05
    no_answer: float = 0.15  # to a search or a look
    disk_fails: float = 0.03
    process_dies: float = 0.004  # at each event
    clock_jumps: float = 0.01


class World:
    """One run: ``works`` pieces of work have to be done once each."""

    def __init__(self, seed: int, works: int = 4, faults: Faults | None = None, *, plant: str = "") -> None:
        self.rng = np.random.default_rng(seed)
        self.faults = faults or Faults()
        self.plant = plant
        self.provider = Provider(lag_s=float(self.rng.uniform(0.0, 8.0)), run_s=float(self.rng.uniform(0.1, 30.0)))
        self.disk: list[dict[str, Any]] = []
        self.results: dict[int, Any] = {}
        self.works = works
        self.begun_at_s: dict[str, float] = {}  # by the wall clock, which jumps
        self.search_margin_s = SEARCH_MARGIN_S
        self.now_s = 0.0
        self.wall_offset_s = 0.0
        self.deaths = 0
        self.log: Counter[str] = Counter()
        self._heap: list[tuple[float, int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._life = 0
        self._start()

    # --- the world

    def run(self) -> None:
        while self._heap and len(self.results) < self.works and self.now_s < END_S:
            self.now_s, _, life, action = heapq.heappop(self._heap)
            if life not in (0, self._life):
                continue
            if life and self._strikes(self.faults.process_dies):
                self._die()
                continue
            if self._strikes(self.faults.clock_jumps):
                self.wall_offset_s += float(self.rng.uniform(-3_600.0, 3_600.0))
                self.log["clock jumped"] += 1
            action()

    def check(self) -> list[str]:
        """Return what is wrong: work that was paid for twice, and work that was lost."""
        wrong = []
        paid = Counter(job["work"] for job in self.provider.jobs if not job["canceled"])
        wrong += [f"work {work} was paid for {times} times" for work, times in sorted(paid.items()) if times > 1]
        wrong += [f"work {work} was lost" for work in range(self.works) if work not in self.results]
        return wrong

    def _strikes(self, probability: float) -> bool:
        return self.now_s < END_OF_FAULTS_S and bool(self.rng.random() < probability)

    def _later(self, after_s: float, action: Callable[[], None], *, outside: bool = False) -> None:
        """Do something later: in this life of the process, or outside of it, whatever becomes of the process."""
        life = 0 if outside else self._life
        heapq.heappush(self._heap, (self.now_s + after_s, next(self._numbers), life, action))

    def _delay(self, most_s: float = 0.5) -> float:
        return float(self.rng.exponential(most_s / 3.0))

    # --- the process

    def _start(self) -> None:
        self._life += 1
        self.ledger = Ledger(Budgets(lambda tenant: Allowance()), Retention())
        for number, record in enumerate(self.disk, start=1):
            self.ledger.apply(number, record)
        self.ledger.budgets.validate()
        self.flights: dict[str, tuple[Submission, int]] = {}
        open_ = {int(submission.digests[0]): submission for submission in self.ledger.open.values()}
        for work, submission in open_.items():
            machine = self._machine(submission.key)
            self.flights[submission.key] = (machine, work)
            self._carry_out(submission.key, machine.resume(submission.job_id))
        for work in range(self.works):
            kept = self.ledger.kept(str(work), self.now_s)
            if kept is not None:
                self.results[work] = kept.counts()
            elif work not in open_:
                self._begin(work)

    def _die(self) -> None:
        self.deaths += 1
        self._life += 1  # whatever was to happen inside is gone
        self._later(float(self.rng.uniform(0.5, 10.0)), self._start, outside=True)

    def _machine(self, key: str) -> Submission:
        return Submission(key, limits=PROTOCOL, retry=RetryPolicy(), rng=self.rng, now_s=lambda: self.now_s)

    def _begin(self, work: int) -> None:
        key = f"key-{next(self._numbers)}"
        machine = self._machine(key)
        self.flights[key] = (machine, work)
        wall_s = self.now_s + self.wall_offset_s
        intent = OpenSubmission(key, "b", 100, (1,), (str(work),), {key: CHARGE}, wall_s).intent()
        self.begun_at_s[key] = wall_s
        self._carry_out(key, machine.begin(intent))
        if self.plant == "submit before the intent is durable":
            self._submit(key)

    def _on(self, key: str, event: Event) -> None:
        if key in self.flights:
            self._carry_out(key, self.flights[key][0].on(event))

    def _carry_out(self, key: str, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Record(fields, awaited):
                    self._record(key, dict(fields), awaited)
                case Submit():
                    self._submit(key)
                case Find():
                    self._find(key)
                case Collect(job_id):
                    self._collect(key, job_id)
                case Cancel(job_id) | Discard(job_id):
                    self._cancel(key, job_id, tell=isinstance(command, Cancel))
                case Wake(after_s):
                    self._later(after_s, lambda: self._on(key, Woken()))
                case End(result, error):
                    _, work = self.flights.pop(key)
                    if result is not None:
                        self.results[work] = result["counts"]
                    else:
                        self.log[f"ended: {type(error).__name__}"] += 1
                        self._later(1.0, lambda work=work: self._begin(work))

    def _record(self, key: str, record: dict[str, Any], awaited: bool) -> None:
        if self._strikes(self.faults.disk_fails):
            if awaited:
                self._later(self._delay(), lambda: self._on(key, NotRecorded(Unavailable("the disk refused"))))
            return

        def durable() -> None:
            self.disk.append(record)
            self.ledger.apply(len(self.disk), record)
            if self._strikes(self.faults.process_dies * 10):  # between the disk's word and the process's
                self._die()
            elif awaited:
                self._on(key, Recorded())

        self._later(self._delay(0.05), durable)

    # --- the network and the workers

    def _submit(self, key: str) -> None:
        work = self.flights[key][1]
        # A worker may begin late, and outlives the process by some seconds: what it was told to send, it sends.
        begin_s = float(self.rng.uniform(0.0, PROTOCOL.begin_s)) if self._strikes(0.1) else 0.0
        answer_s = begin_s + self._delay(2.0)

        def tell(event: Event, after_s: float = answer_s) -> None:
            self._later(after_s, lambda: self._on(key, event))

        def arrives(after_s: float) -> None:
            self._later(after_s, lambda: self.provider.accept(key, work, self.now_s), outside=True)

        unclear = Unclear(OutcomeUnclear("504"))
        if self._strikes(self.faults.not_taken):
            return tell(NotSubmitted(Unavailable("429")))
        if self._strikes(self.faults.lost_request):
            return tell(unclear)
        if self._strikes(self.faults.late_acceptance):
            arrives(begin_s + float(self.rng.uniform(0.0, 15.0)))
            return tell(unclear)
        if self._strikes(self.faults.lost_answer) or self._strikes(self.faults.worker_dies):
            arrives(begin_s + 0.1)
            if self.plant == "submit again after a 504":
                arrives(begin_s + 0.2)
            return tell(unclear)

        def accepted() -> None:  # the answer is on its way back whether or not somebody is there to take it
            job_id = self.provider.accept(key, work, self.now_s)
            self._life_of(life, lambda: self._on(key, Submitted(job_id)))

        life = self._life
        self._later(answer_s, accepted, outside=True)
        return None

    def _life_of(self, life: int, action: Callable[[], None]) -> None:
        if life == self._life:
            action()

    def _find(self, key: str) -> None:
        began_s = self.now_s
        if self._strikes(self.faults.no_answer):
            self._later(self._delay(5.0), lambda: self._on(key, NoAnswer(Unavailable("no answer"))))
        else:
            found = self.provider.listed(key, self.now_s, self.begun_at_s[key] - self.search_margin_s)
            self._later(self._delay(), lambda: self._on(key, Found(found, began_s)))

    def _collect(self, key: str, job_id: str) -> None:
        (job,) = (job for job in self.provider.jobs if job["id"] == job_id)
        event: Event
        if self._strikes(self.faults.no_answer):
            event = NoAnswer(Unavailable("no answer"))
        else:
            event = {
                "started": StillRunning(),
                "canceled": Lost(JobCanceled("canceled")),
                "failed": Lost(JobFailed("failed")),
                "completed": Collected(
                    {
                        "counts": [{"0": 100}],
                        "provenance": "hardware",
                        "job_id": job_id,
                        "at_s": self.now_s,
                        "micro_usd": dict.fromkeys([key] if key in self._charged(key) else [], 900),
                    }
                ),
            }[self.provider.status(job, self.now_s + 5.0)]
        self._later(5.0 + self._delay(), lambda: self._on(key, event))

    def _charged(self, key: str) -> Mapping[str, Charge]:
        submission = self.ledger.open.get(key)
        return {} if submission is None else submission.charges

    def _cancel(self, key: str, job_id: str, *, tell: bool) -> None:
        (job,) = (job for job in self.provider.jobs if job["id"] == job_id)
        in_time = self.provider.status(job, self.now_s) == "started"
        job["canceled"] = job["canceled"] or in_time
        if tell:
            self._later(self._delay(), lambda: self._on(key, Canceled(in_time)))
