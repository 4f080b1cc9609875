"""Which backend runs the circuits of a query that leaves it open: by error, cost, waiting time and health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from quantum_db import overlaps
from quantum_db.backend_ports import Condition
from quantum_db.circuits.encoding import SpanEncoding
from quantum_db.errors import BudgetExceeded, InvalidCircuit
from quantum_db.jobs.budget import SpendingLimit
from quantum_db.model import Provenance

AUTO: Final = "auto"
"""What a query says in place of a backend's name to leave it open."""

CLASSICAL: Final = "classical"

SAME_ERROR: Final = 1.1
"""Predicted errors within this factor of the least count as equal: then the cost decides."""


@dataclass(frozen=True, slots=True)
class BackendOption:
    """What the circuits would give and take at one backend.

    Attributes:
        standard_error: predicted of one fidelity, with the shots that the cost is for.
        wait_s: predicted until the result.
        problem: why it cannot be chosen; empty if it can.
    """

    backend: str
    provenance: Provenance
    standard_error: float = 0.0
    cost_usd: float = 0.0
    shots: int = 0
    wait_s: float = 0.0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """The backend, or None where the classical order is the answer, and what else there was."""

    backend: str | None
    why: str
    options: tuple[BackendOption, ...]

    def view(self) -> dict[str, Any]:
        """Return the choice as JSON values, for ``explain``."""
        chosen = self.backend or CLASSICAL
        return {"chosen": chosen, "why": self.why, "options": [asdict(option) for option in self.options]}


def options_for(
    encoding_for: Mapping[str, SpanEncoding], conditions: Mapping[str, Condition], shots: int
) -> list[BackendOption]:
    """Return what each backend would take to reach the error of ``shots`` ideal shots a candidate.

    Args:
        encoding_for: the query's circuits for each backend, which depend on its qubits.
        conditions: how the backends are doing.
    """
    found = []
    for name, condition in conditions.items():
        option = BackendOption(name, condition.provenance, wait_s=condition.wait_s + condition.run_s)
        try:
            chosen = overlaps.plan(encoding_for[name], condition.limits, shots).chosen
        except InvalidCircuit as error:
            found.append(replace(option, problem=error.detail))
            continue
        spent = chosen.circuits * chosen.shots
        option = replace(option, standard_error=chosen.standard_error, cost_usd=chosen.cost_usd, shots=spent)
        if condition.breaker != "closed":
            option = replace(option, problem="its breaker is open")
        found.append(option)
    return found


def choose(options: list[BackendOption], limit: SpendingLimit, time_s: float) -> BackendChoice:
    """Choose among the backends that can answer within the limit and the time.

    The least predicted error leads; among equal ones the cheapest, then the one that answers first. A simulator of
    enough qubits is as exact as any machine and free, so hardware is chosen only where none is to be had.
    """
    judged = tuple(_judged(option, limit, time_s) for option in options)
    able = [option for option in judged if not option.problem]
    if not able:
        reasons = "; ".join(f"{option.backend}: {option.problem}" for option in judged) or "no backend answers"
        return BackendChoice(
            None, f"no backend can run the circuits, so the order is the classical one ({reasons})", judged
        )
    least = min(option.standard_error for option in able)
    good = [option for option in able if option.standard_error <= SAME_ERROR * least]
    best = min(good, key=lambda option: (option.cost_usd, option.wait_s, option.backend))
    why = (
        f"{best.backend} is the cheapest of {len(good)} with the least predicted error {best.standard_error:.2g}: "
        f"${best.cost_usd:,.2f}, in about {best.wait_s:.3g} s"
    )
    return BackendChoice(best.backend, why, judged)


def _judged(option: BackendOption, limit: SpendingLimit, time_s: float) -> BackendOption:
    if option.problem:
        return option
    if option.wait_s > time_s:
        return replace(option, problem=f"it would take about {option.wait_s:.3g} s, and there are {time_s:.3g} s")
    try:
        limit.check(option.cost_usd, option.shots)
    except BudgetExceeded as error:
        return replace(option, problem=error.detail)
    return option
