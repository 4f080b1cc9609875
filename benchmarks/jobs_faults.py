"""Lost answers and concurrent spenders: what is paid with the job pool and without one."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from pathlib import Path

from benchmarks.naive_jobs import (
    ATTEMPTS,
    FORTE,
    START_S,
    THREADS,
    FaultRun,
    Work,
    emulator,
    overlap_work,
    run_under_faults,
    run_within_budget,
)
from benchmarks.pooled_jobs import CALLERS, QuantumPool, asker, by_callers, job_pool, piece, table
from quantum_db.backend_ports import BackendResult
from quantum_db.errors import BudgetExceeded, QuantumDBError
from quantum_db.jobs.assembly import PoolPolicy, TenantPolicy
from tests.api.emulator_server import Emulator

SHOTS = 1_000
DELAYS_S = (0.0, 0.05)
LOST = 0.1
"""Share of submissions that are accepted and answered with 504, and of those whose answer is cut off."""


@dataclass(frozen=True)
class PooledBudgetRun:
    """Attributes: paid_usd: by the provider's ledger; refused: callers that the budget did not cover."""

    callers: int
    budget_usd: float
    paid_usd: float
    refused: int


def run_pooled_under_faults(
    pool: QuantumPool,
    running: Emulator,
    work: Work,
    backend: str,
    *,
    lost_504: float,
    cut: float,
    alone: bool,
    seed: int = 0,
) -> FaultRun:
    """Run the circuits as ``naive_jobs.run_under_faults`` does: the same faults, callers and attempts."""
    running.reset()
    running.plan(
        {"effect": "status", "request": "submit", "status": 504, "carried_out": True, "probability": lost_504},
        {"effect": "cut", "request": "submit", "carried_out": True, "probability": cut},
        seed=seed,
    )
    ask = asker(pool, work, backend, alone=alone)

    def attempt(place: int) -> BackendResult | None:
        for _ in range(ATTEMPTS):
            with contextlib.suppress(QuantumDBError):
                return ask(place)
        return None

    pieces = len(work.circuits)
    wall_s, answers = by_callers(CALLERS, attempt, pieces)
    entries = running.ledger()["entries"]
    running.plan()
    duplicates = sum(entry["circuits"] for entry in entries) - pieces
    paid_usd = sum(entry["cost_usd"] for entry in entries)
    lost = sum(answer is None for _, answer in answers)
    return FaultRun(pieces, len(entries), duplicates, lost, paid_usd, fair_usd(work, alone=alone), wall_s)


def fair_usd(work: Work, *, alone: bool) -> float:
    """Return what all pieces cost on Forte if each is paid once."""
    if not alone:
        return work.cost_usd
    one = work.cost_usd / len(work.circuits)
    more = Work(work.circuits[:1], piece(work, 0), work.shots + 1).cost_usd - one
    return sum(one + place * more for place in range(len(work.circuits)))


def run_pooled_within_budget(
    pool: QuantumPool, running: Emulator, work: Work, backend: str, tenant: str, budget_usd: float
) -> PooledBudgetRun:
    """Let as many threads as there are circuits spend the tenant's budget at the same time."""
    running.reset()
    callers = len(work.circuits)
    ready = threading.Barrier(callers, timeout=START_S)
    ask = asker(pool, work, backend, tenant=tenant)

    def spend(place: int) -> bool:
        ready.wait()
        try:
            ask(place)
        except BudgetExceeded:
            return False
        return True

    _, answers = by_callers(callers, spend, callers)
    paid_usd = sum(entry["cost_usd"] for entry in running.ledger()["entries"])
    return PooledBudgetRun(callers, budget_usd, paid_usd, sum(not spent for _, spent in answers))


def show_faults(folder: Path, pieces: int) -> None:
    """Print what is paid twice when answers to submissions are lost."""
    work, other = (overlap_work(pieces, shots=SHOTS, seed=seed) for seed in (11, 12))
    with emulator() as running, job_pool(folder / "faults.sqlite", {"forte": running}, FORTE) as pool:
        found = {f"naive, {THREADS} threads": run_under_faults(running, work, lost_504=LOST, cut=LOST)}
        for name, own, alone in (("pool, one circuit a job", work, True), ("pool", other, False)):
            found[name] = run_pooled_under_faults(pool, running, own, "forte", lost_504=LOST, cut=LOST, alone=alone)
    print(f"\n{pieces} circuits on Forte; {LOST:.0%} of submissions are accepted and answered with 504, of {LOST:.0%}")
    print(f"the answer is cut off; up to {ATTEMPTS} attempts\n\n{fault_table(found)}", flush=True)


def fault_table(found: dict[str, FaultRun]) -> str:
    header = ["client", "jobs", "circuits paid twice", "lost", "paid $", "each once $", "paid / each once", "wall s"]
    rows = [
        [
            name,
            run.jobs,
            run.duplicates,
            run.lost,
            f"{run.paid_usd:,.2f}",
            f"{run.fair_usd:,.2f}",
            f"{run.paid_usd / run.fair_usd:.3f}",
            f"{run.wall_s:.1f}",
        ]
        for name, run in found.items()
    ]
    return table(header, rows)


def show_budget(folder: Path, callers: int) -> None:
    """Print what callers at the same time spend of one budget."""
    work = overlap_work(callers, shots=SHOTS, seed=13)
    budget_usd = 0.1 * work.cost_usd
    rows: list[list[object]] = []
    tenant = TenantPolicy(usd_per_day=budget_usd)
    for delay_s in DELAYS_S:
        journal, policy = folder / f"budget-{delay_s:g}.sqlite", PoolPolicy(tenants={"spender": tenant})
        with emulator(delay_s) as running, job_pool(journal, {"forte": running}, FORTE, policy) as pool:
            naive = run_within_budget(running, work, budget_usd)
            pooled = run_pooled_within_budget(pool, running, work, "forte", "spender", budget_usd)
        for name, run in (("naive", naive), ("pool", pooled)):
            ratio = f"{run.paid_usd / budget_usd:.2f}"
            rows.append([name, f"{delay_s:g} s", f"{budget_usd:,.2f}", f"{run.paid_usd:,.2f}", ratio])
    print(f"\n{callers} callers at the same time, {work.cost_usd / callers:.2f} $ each, one budget\n")
    print(table(["client", "a job takes", "budget $", "paid $", "paid / budget"], rows), flush=True)
