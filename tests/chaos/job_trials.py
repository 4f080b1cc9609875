"""Trials of the job pool in real processes that are killed: ``python -m tests.chaos.job_trials SEED`` runs one again.

A trial takes its work, its faults and the steps to die at from its seed. Processes follow one another until all work
has results. Then the provider's ledger is held against the work, by what the circuits are and not only by their keys.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import numpy as np
import psutil

from quantum_db.errors import CorruptData
from quantum_db.jobs.backends import describe
from quantum_db.jobs.budget import MICRO, Allowance, Budgets
from quantum_db.jobs.coalescing import wish_of
from quantum_db.jobs.ledger import STREAM, Ledger, Retention
from quantum_db.journals.open import open_journal
from tests.api.emulator_server import TOKEN, Emulator, emulator_process
from tests.chaos.forks import FORKS
from tests.chaos.job_process import DONE, END_S, FENCED, STEPS, TENANT, TOKEN_ENV, Life, Plant, Work, main, spec_of
from tests.redis_server import DURABLE, RedisServer, running_redis
from tests.unit.fake_workers import labelled

LANES: Final = 3
LABELS: Final = 8
MOST_LIVES: Final = 4
LONGEST_LIFE_S: Final = END_S + 20.0
LISTING_LAG_S: Final = 0.2
RUN_S: Final = 0.2
REDIS_LIFE_S: Final = 0.3

_HANG_S: Final = 1.4  # beyond the protocol's call_s
_SUBMISSION_FAULTS: Final[tuple[dict[str, Any], ...]] = (
    {"effect": "status", "status": 504, "carried_out": True},
    {"effect": "status", "status": 504},
    {"effect": "cut", "carried_out": True},
    {"effect": "cut"},
    {"effect": "status", "status": 429, "retry_after_s": 0.2},
    {"effect": "status", "status": 503},
    {"effect": "hang", "hang_s": _HANG_S, "carried_out": True},
    {"effect": "hang", "hang_s": _HANG_S},
)
_READING_FAULTS: Final[tuple[dict[str, Any], ...]] = (
    {"effect": "status", "status": 503},
    {"effect": "status", "status": 429, "retry_after_s": 0.1},
    {"effect": "cut"},
    {"effect": "hang", "hang_s": 0.3},
)
_MENU: Final = (
    ("submit", _SUBMISSION_FAULTS),
    ("submit", _SUBMISSION_FAULTS),
    ("list", _READING_FAULTS),
    ("status", _READING_FAULTS),
    ("results", _READING_FAULTS),
)
_NEEDS: Final[Mapping[str, dict[str, Any]]] = {
    "during the submission": {"effect": "hang", "hang_s": 1.0},
    "while waiting to submit again": {"effect": "status", "status": 429, "retry_after_s": 0.5},
    "while searching": {"effect": "status", "status": 504},
}
"""The fault that the first submission must meet for a step to be reached."""


@dataclass(frozen=True)
class Plan:
    """What a seed stands for. ``deaths`` are the step and its number for each process but the last."""

    seed: int
    works: tuple[Work, ...]
    rules: tuple[dict[str, Any], ...]
    deaths: tuple[tuple[str, int], ...]
    compacts: bool
    on_redis: bool


@dataclass
class Trial:
    """How a plan went: the steps at which processes died, and what is wrong."""

    plan: Plan
    died_at: list[str] = field(default_factory=list)
    struck: int = 0
    problems: list[str] = field(default_factory=list)

    def told(self) -> str:
        return f"seed {self.plan.seed}, died {' and '.join(self.died_at)}: {'; '.join(self.problems) or 'all well'}"


def plan_of(seed: int) -> Plan:
    """Return the plan of a seed; the first step to die at goes round with the seeds."""
    rng = np.random.default_rng(seed)
    first = STEPS[seed % len(STEPS)]
    works = tuple(_works(rng))
    rules = [
        {**fault, "request": kind, "times": int(rng.integers(1, 3)), "from_call": int(rng.integers(2, 5))}
        for kind, faults in _MENU
        for fault in [faults[rng.integers(len(faults))]]
        if rng.random() < 0.5
    ]
    if first in _NEEDS:
        carried_out = {"carried_out": bool(rng.random() < 0.5)} if first != "while waiting to submit again" else {}
        rules.insert(0, {**_NEEDS[first], **carried_out, "request": "submit", "times": 1})
    deaths = [(first, int(rng.integers(1, 3)) if "durable" in first else 1)]
    while len(deaths) < MOST_LIVES - 1 and rng.random() < 0.4:
        deaths.append((STEPS[rng.integers(len(STEPS))], 1))
    compacts = any("compaction" in step for step, _ in deaths) or bool(rng.random() < 0.25)
    return Plan(seed, works, tuple(rules), tuple(deaths), compacts, on_redis=seed % 4 == 3)


def _works(rng: np.random.Generator) -> Iterator[Work]:
    """Yield work of several numbers of shots. What has one number may share jobs, and circuits."""
    for group in range(int(rng.integers(2, 4))):
        for member in range(int(rng.integers(1, 4))):
            outcomes = rng.choice(LABELS, size=int(rng.integers(1, 4)), replace=False)
            kind = "question" if rng.random() < 0.3 else "job"
            yield Work(f"work {group}.{member}", 100 + group, tuple(map(int, outcomes)), kind)


@dataclass(frozen=True)
class Ground:
    """What trials run on: an emulator, a server for the journals on Redis, a folder for the others."""

    emulator: Emulator
    redis: RedisServer
    folder: Path

    def journal_url(self, plan: Plan) -> str:
        name = f"trial-{plan.seed}-{uuid.uuid4().hex[:8]}"
        return f"{self.redis.url}?name={name}" if plan.on_redis else f"sqlite:///{self.folder / name}.sqlite"


@contextlib.contextmanager
def grounds(folder: Path, lanes: int = LANES) -> Iterator[list[Ground]]:
    """Yield grounds for as many trials at a time."""
    os.environ[TOKEN_ENV] = TOKEN
    arguments = ("--control", "--shuffle-results", "--listing-lag-s", str(LISTING_LAG_S), "--started-s", str(RUN_S))
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(running_redis(*DURABLE, folder=folder))
        emulators = [stack.enter_context(emulator_process(*arguments, quiet=True)) for _ in range(lanes)]
        yield [Ground(emulator, redis, folder) for emulator in emulators]


def run_all(plans: Sequence[Plan], found: Sequence[Ground], plant: Plant = "") -> list[Trial]:
    """Run trials, one at a time on each ground; return them in the order of their plans."""
    free: SimpleQueue[Ground] = SimpleQueue()
    for ground in found:
        free.put(ground)

    def run(plan: Plan) -> Trial:
        ground = free.get()
        try:
            return run_trial(plan, ground, plant)
        finally:
            free.put(ground)

    with ThreadPoolExecutor(len(found)) as threads:
        return list(threads.map(run, plans))


def run_trial(plan: Plan, ground: Ground, plant: Plant = "") -> Trial:
    """Let processes work and die until all is done, then check."""
    trial, first = Trial(plan), _prepare(plan, ground)
    for life in range(MOST_LIVES):
        step, times = plan.deaths[life] if life < len(plan.deaths) else (None, 1)
        code = _ended(_start(replace(first, seed=first.seed + life, dies_at=step, times=times, plant=plant)))
        if code == -signal.SIGKILL and step is not None:
            trial.died_at.append(step)
        elif code == DONE:
            break
        else:
            trial.problems.append(f"life {life} ended with {code}; see {first.log}")
            return trial
    return _checked(trial, ground, first.journal_url)


def run_without_redis(plan: Plan, ground: Ground) -> Trial:
    """Kill the server of the journal twice under a process that lives on."""
    trial, first = Trial(plan), _prepare(plan, ground)
    process = _start(first)
    for _ in range(2):
        time.sleep(REDIS_LIFE_S)
        ground.redis.kill()
        time.sleep(REDIS_LIFE_S)
        ground.redis.start()
    if (code := _ended(process)) != DONE:
        trial.problems.append(f"it ended with {code}; see {first.log}")
    return _checked(trial, ground, first.journal_url)


def run_sleeper(plan: Plan, ground: Ground) -> Trial:
    """Stop a process at the plan's first step, let another one do all the work, and wake the first."""
    trial, first = Trial(plan), _prepare(plan, ground)
    sleeper = _start(replace(first, dies_at=plan.deaths[0][0], halts=True))
    _until_stopped(sleeper)
    code = _ended(_start(replace(first, seed=first.seed + 1)))
    assert sleeper.pid is not None
    os.kill(sleeper.pid, signal.SIGCONT)
    if (code, woken := _ended(sleeper)) != (DONE, FENCED):
        trial.problems.append(f"they ended with {code} and {woken}; see {first.log}")
    return _checked(trial, ground, first.journal_url)


def _prepare(plan: Plan, ground: Ground) -> Life:
    """Return the first life of a plan, on an emulator that knows nothing but its faults."""
    ground.emulator.reset()
    ground.emulator.plan(*plan.rules, seed=plan.seed)
    return Life(
        journal_url=ground.journal_url(plan),
        provider_url=ground.emulator.url,
        log=ground.folder / f"trial-{plan.seed}.log",
        works=plan.works,
        seed=plan.seed * MOST_LIVES,
        compacts=plan.compacts,
    )


def _checked(trial: Trial, ground: Ground, journal_url: str) -> Trial:
    trial.struck = sum(ground.emulator.struck())
    ground.emulator.plan()  # no fault shall meet the checks
    paid, times = paid_entries(ground.emulator), ground.emulator.ledger()["times_accepted"]
    trial.problems += check(trial.plan.works, paid, times, journal_url, ground.emulator.url)
    return trial


def _until_stopped(process: BaseProcess) -> None:
    deadline_s = time.monotonic() + LONGEST_LIFE_S
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline_s, "the process never came to the step"
        time.sleep(0.01)


_FORK_LOCK = threading.Lock()


def _start(life: Life) -> BaseProcess:
    process = FORKS.Process(target=main, args=(life,))
    with _FORK_LOCK:
        process.start()
    return process


def _ended(process: BaseProcess) -> int | None:
    """Wait for a process; return its exit code, None if it had to be killed."""
    process.join(LONGEST_LIFE_S)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    return code


def paid_entries(emulator: Emulator) -> list[dict[str, Any]]:
    """Return the accepted submissions that were not canceled in time."""
    jobs = emulator.call("GET", "/v0.4/jobs", params={"limit": 1000}).json()["jobs"]
    canceled = {job["id"] for job in jobs if job["status"] == "canceled"}
    return [entry for entry in emulator.ledger()["entries"] if entry["job_id"] not in canceled]


def check(
    works: Sequence[Work],
    paid: Sequence[Mapping[str, Any]],
    times_accepted: Mapping[str, int],
    journal_url: str,
    provider_url: str,
) -> list[str]:
    """Return what is wrong: work that was paid for twice or is lost, money that does not add up, a broken journal."""
    wrong = [f"key {key} was accepted {times} times" for key, times in times_accepted.items() if times > 1]
    asked = {shots: {o for work in works if work.shots == shots for o in work.outcomes} for shots in _shots(works)}
    ran = Counter[int]()
    for entry in paid:
        ran[entry["shots"]] += entry["circuits"]
    for shots, outcomes in asked.items():
        if ran[shots] > len(outcomes):
            wrong.append(f"{ran[shots]} circuits of {shots} shots were paid for, {len(outcomes)} were asked for")
    try:
        ledger = read_ledger(journal_url)
    except CorruptData as error:
        return [*wrong, f"the journal cannot be read: {error.detail}"]
    return [*wrong, *_lost(works, ledger, provider_url), *_unbalanced(paid, ledger)]


def _shots(works: Sequence[Work]) -> list[int]:
    return list(dict.fromkeys(work.shots for work in works))


def read_ledger(journal_url: str) -> Ledger:
    """Return what a journal says. Raises CorruptData."""
    ledger = Ledger(Budgets(lambda tenant: Allowance()), Retention())
    with contextlib.closing(open_journal(journal_url)) as journal:
        for number, record in journal.read(STREAM):
            ledger.apply(number, record)
    ledger.budgets.validate()
    return ledger


def _lost(works: Sequence[Work], ledger: Ledger, provider_url: str) -> list[str]:
    """Each circuit measures its label, and nothing else."""
    wrong = []
    jobs = {job.name: job for job in ledger.jobs.values()}
    if len(jobs) != len(ledger.jobs):
        wrong.append("a job is stored twice")
    identity = describe(spec_of(provider_url)).identity
    for work in works:
        right = [{outcome: work.shots} for outcome in work.outcomes]
        wish = wish_of((labelled(*work.outcomes),), tenant=TENANT, identity=identity, shots=work.shots, draw=0)
        kept = [found and found.counts() for found in (ledger.kept(digest, 0.0) for digest in wish.digests)]
        if kept != right:
            wrong.append(f"the results of {work.name} are not kept: {kept}")
        if work.kind == "job":
            job = jobs.get(work.name)
            told = job and job.result and [{int(o): n for o, n in one.items()} for one in job.result["counts"]]
            if told != right:
                wrong.append(f"{work.name} is {job and job.status} with {told}")
    return wrong


def _unbalanced(paid: Sequence[Mapping[str, Any]], ledger: Ledger) -> list[str]:
    accounts = ledger.budgets.accounts().values()
    booked, reserved = sum(spent.micro_usd for spent in accounts), sum(spent.reserved_micro_usd for spent in accounts)
    billed = sum(entry["cost_usd"] for entry in paid) * MICRO
    wrong = [f"{len(ledger.open)} submissions are open"] if ledger.open else []
    if reserved:
        wrong.append(f"{reserved} micro-dollars are reserved for nothing")
    if abs(booked - billed) > len(paid):
        wrong.append(f"{booked} micro-dollars are booked, the provider has billed {billed:.0f}")
    return wrong


def _replay(seed: int) -> int:
    folder = Path(tempfile.mkdtemp(prefix="job-trial-"))
    with grounds(folder, lanes=1) as (ground,):
        trial = run_trial(plan_of(seed), ground)
    print(f"{trial.plan}\n{trial.told()}\nits log and journal are in {folder}")
    return 1 if trial.problems else 0


if __name__ == "__main__":
    sys.exit(_replay(int(sys.argv[1])))
