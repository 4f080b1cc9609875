"""A job pool in a process of its own, without Ray, that kills itself with SIGKILL at a named step.

Real: the pool, its stored jobs, the journal, the provider's client over HTTP. ``main`` is forked off a server that has
imported everything, so that a process is there at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from prometheus_client import CollectorRegistry

import quantum_db.ionq.backend  # noqa: F401 - brings qiskit, which no short-lived thread may import
from quantum_db.backend_ports import Collected, JobRequest, ProviderJob
from quantum_db.clock import SystemClock
from quantum_db.errors import OutcomeUnclear, QuantumDBError, Unavailable
from quantum_db.jobs.assembly import AssembledPool, PoolPolicy, assemble
from quantum_db.jobs.backends import BackendSpec, describe
from quantum_db.jobs.breaker import BreakerPolicy
from quantum_db.jobs.budget import NO_LIMIT
from quantum_db.jobs.dispatch import Dispatcher
from quantum_db.jobs.orders import JobOrder
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.jobs.steps import Command, Record, Submit
from quantum_db.jobs.stored_jobs import StoredJobs
from quantum_db.jobs.submission import Phase, ProtocolLimits, Submission
from quantum_db.journals.open import open_journal
from quantum_db.ports import Journal
from tests.api.emulator_server import TOKEN
from tests.job_workers import ThreadWorkers
from tests.unit.fake_workers import labelled

STEPS: Final = (
    "before the intent is durable",
    "after the intent is durable",
    "before the submission",
    "during the submission",
    "after the submission",
    "while waiting to submit again",
    "while searching",
    "while polling",
    "before the result is durable",
    "after the result is durable",
    "before a compaction",
    "after a compaction",
)
PLANTS: Final = ("submits again after a 504", "submits before the intent is durable", "forgets open intents")
Plant = Literal["", "submits again after a 504", "submits before the intent is durable", "forgets open intents"]

BACKEND: Final = "far"
TENANT: Final = "default"
TARGET: Final = "qpu.forte-1"
TOKEN_ENV: Final = "QQC_CHAOS_TOKEN"
PROTOCOL: Final = ProtocolLimits(begin_s=0.5, call_s=1.0, settle_s=2.0, longest_pause_s=0.25)
RETRY: Final = RetryPolicy(attempts=3, first_s=0.05, longest_s=0.2)
POLICY: Final = PoolPolicy(
    max_in_flight=3, window_s=0.01, breaker=BreakerPolicy(failures=5, open_s=0.3), retry=RETRY, protocol=PROTOCOL
)
DEADLINE_S: Final = 600.0
END_S: Final = 40.0
LOOK_S: Final = 0.01
SLOW_DISK_S: Final = 0.1
IN_THE_MIDDLE_S: Final = 0.15
DONE, FENCED, TOO_LATE = 0, 4, 5
"""Exit codes."""


@dataclass(frozen=True)
class Work:
    """Circuits that have to be run once each; ``outcomes`` are the labels that they measure.

    A ``question`` is asked anew in each life and does not wait long; a ``job`` is stored.
    """

    name: str
    shots: int
    outcomes: tuple[int, ...]
    kind: Literal["job", "question"] = "job"


@dataclass(frozen=True)
class Life:
    """What one process is to do. Without ``dies_at`` it lives until all work has results.

    With ``halts`` it is not killed there but stopped, and can be continued.
    """

    journal_url: str
    provider_url: str
    log: Path
    works: tuple[Work, ...]
    seed: int
    dies_at: str | None = None
    times: int = 1
    halts: bool = False
    compacts: bool = False
    plant: Plant = ""


def spec_of(provider_url: str) -> BackendSpec:
    return BackendSpec("ionq", url=provider_url, token_env=TOKEN_ENV, target=TARGET, price_model="braket-forte")


@dataclass
class Killer:
    """Sends the process a signal the ``times``-th time that a step is reached."""

    step: str | None
    times: int
    number: signal.Signals
    lock: threading.Lock = field(default_factory=threading.Lock)

    def at(self, step: str, after_s: float = 0.0) -> None:
        if step == self.step and self._is_due():
            time.sleep(after_s)
            self._strike()

    def soon(self, step: str) -> None:
        """The same in a moment, while what follows is under way."""
        if step == self.step and self._is_due():
            threading.Timer(IN_THE_MIDDLE_S, self._strike).start()

    def _is_due(self) -> bool:
        with self.lock:
            self.times -= 1
            return self.times == 0

    def _strike(self) -> None:
        os.kill(os.getpid(), self.number)


class DeadlyJournal:
    """A journal whose process dies at some of its calls."""

    def __init__(self, journal: Journal, killer: Killer) -> None:
        self._journal = journal
        self._killer = killer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def append(self, stream: str, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None) -> int:
        self._at_each(records, "before")
        number = self._journal.append(stream, records, epoch=epoch)
        self._at_each(records, "after")
        return number

    def compact(
        self, stream: str, through: int, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None
    ) -> None:
        self._killer.at("before a compaction")
        self._journal.compact(stream, through, records, epoch=epoch)
        self._killer.at("after a compaction")

    def _at_each(self, records: Sequence[Mapping[str, Any]], when: str) -> None:
        for record in records:
            if record["t"] == "intent":
                self._killer.at(f"{when} the intent is durable", SLOW_DISK_S)
            elif record["t"] == "done":
                self._killer.at(f"{when} the result is durable")


class DeadlyWorkers(ThreadWorkers):
    """Workers whose process dies at some of their calls."""

    def __init__(self, life: Life, killer: Killer) -> None:
        super().__init__({BACKEND: spec_of(life.provider_url)}, RETRY, life.seed)
        self._killer = killer
        self._sends_again = life.plant == "submits again after a 504"

    def post(self, *arguments: Any) -> str:
        self._killer.at("before the submission")
        self._killer.soon("during the submission")
        try:
            job_id = super().post(*arguments)
        except OutcomeUnclear:
            if not self._sends_again:
                raise
            job_id = super().post(*arguments)
        except Unavailable:
            self._killer.soon("while waiting to submit again")
            raise
        self._killer.at("after the submission")
        return job_id

    async def find(self, *arguments: Any, **options: Any) -> tuple[ProviderJob, ...]:
        self._killer.at("while searching")
        return await super().find(*arguments, **options)

    async def collect(self, *arguments: Any, **options: Any) -> Collected:
        self._killer.soon("while polling")
        return await super().collect(*arguments, **options)


class Hasty(Submission):
    """Planted: submits while its intent is still being written."""

    def begin(self, intent: Mapping[str, Any]) -> list[Command]:
        self.phase = Phase.SUBMITTING
        return [Record({"t": "intent", "key": self.key, **intent}), Submit()]


class HastyDispatcher(Dispatcher):
    def _machine(self, key: str) -> Submission:
        machine = super()._machine(key)
        machine.__class__ = Hasty
        return machine


def main(life: Life) -> None:
    """Work until everything has a result, or until the step to die at."""
    log = os.open(life.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ[TOKEN_ENV] = TOKEN
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(name)s %(message)s")
    code = TOO_LATE
    with suppress(TimeoutError):
        code = asyncio.run(asyncio.wait_for(_live(life), END_S))
    logging.shutdown()
    os._exit(code)


async def _live(life: Life) -> int:
    killer = Killer(life.dies_at, life.times, signal.SIGSTOP if life.halts else signal.SIGKILL)
    workers = DeadlyWorkers(life, killer)
    parts = assemble(
        POLICY,
        {BACKEND: describe(spec_of(life.provider_url))},
        workers=workers,
        journal=DeadlyJournal(open_journal(life.journal_url), killer),
        clock=SystemClock(),
        rng=np.random.default_rng(life.seed),
        registry=CollectorRegistry(),
        on_fenced=lambda error: os._exit(FENCED),
    )
    if life.plant == "submits before the intent is durable":
        parts.pool._dispatcher.__class__ = HastyDispatcher
    await parts.journal.load()
    if life.plant == "forgets open intents":
        parts.journal.ledger.open.clear()
    parts.pool.open()
    stored = StoredJobs(parts.pool, parts.journal, workers, SystemClock())
    stored.resume()
    compacting = asyncio.create_task(_compact(parts)) if life.compacts else None
    await asyncio.gather(_take(life, stored, parts), *(_answer(work, parts) for work in life.works))
    await _until(lambda: not parts.journal.ledger.open)  # of those who have left
    if compacting is not None:
        compacting.cancel()
        with suppress(asyncio.CancelledError):
            await compacting
    await parts.pool.close()
    await stored.close()
    await parts.journal.close()
    return DONE


async def _take(life: Life, stored: StoredJobs, parts: AssembledPool) -> None:
    """Store the jobs that are not stored yet, and wait for the end of all."""
    known = {job.name for job in parts.journal.ledger.jobs.values()}
    for work in life.works:
        if work.kind == "job" and work.name not in known:
            await _until_taken(work, stored)
    jobs = parts.journal.ledger.jobs
    await _until(lambda: all(job.status != "queued" for job in jobs.values()))


async def _until_taken(work: Work, stored: StoredJobs) -> None:
    parts = (labelled(*work.outcomes),)
    order = JobOrder(BACKEND, parts, {"kind": "counts"}, work.shots, "batch", DEADLINE_S, NO_LIMIT, work.name)
    while True:
        try:
            await stored.create(TENANT, order)
        except QuantumDBError as error:
            logging.info("job %s is not taken: %s", work.name, error.detail)
            await asyncio.sleep(0.05)
        else:
            return


async def _answer(work: Work, parts: AssembledPool) -> None:
    """Ask until there is an answer. Who asks leaves at the first bad news, and asks again."""
    asked = 0
    while work.kind == "question":
        asked += 1
        key = f"{work.name}-{os.getpid()}-{asked}"
        request = JobRequest(key, BACKEND, (labelled(*work.outcomes),), work.shots, DEADLINE_S, tenant=TENANT)
        try:
            await parts.pool.run(request)
        except QuantumDBError as error:
            logging.info("question %s: %s", work.name, error.detail)
            await asyncio.sleep(0.05)
        else:
            return


async def _compact(parts: AssembledPool) -> None:
    while True:
        await asyncio.sleep(0.02)
        if parts.journal.ledger.number > 0:
            await parts.journal.compact()


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(int(END_S / LOOK_S)):
        if condition():
            return
        await asyncio.sleep(LOOK_S)
    raise TimeoutError
