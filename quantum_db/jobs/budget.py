"""Budgets: what a tenant may spend in a day. Reserved before anything is submitted, settled with what it cost.

Amounts are whole micro-dollars inside, so that sums are exact. One ``Budgets`` decides for the whole cluster, one call
at a time, so concurrent callers cannot overshoot together what each alone would stay within.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

from quantum_db.errors import BudgetExceeded

MICRO: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a tenant may spend in a day (UTC); None for no limit."""

    usd_per_day: float | None = None
    shots_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class SpendingLimit:
    """What one query or job may spend; None for no limit."""

    max_usd: float | None = None
    max_shots: int | None = None

    def less(self, usd: float, shots: int) -> SpendingLimit:
        """Return what is left of the limit after some of it was spent."""
        return SpendingLimit(
            None if self.max_usd is None else max(0.0, self.max_usd - usd),
            None if self.max_shots is None else max(0, self.max_shots - shots),
        )

    def check(self, usd: float, shots: int) -> None:
        """Raise BudgetExceeded if this much is above the limit."""
        if self.max_usd is not None and micro_of(usd) > micro_of(self.max_usd):
            raise BudgetExceeded(f"budget.max_usd: the work is estimated at {_usd(usd)}; {_usd(self.max_usd)} is left")
        if self.max_shots is not None and shots > self.max_shots:
            raise BudgetExceeded(f"budget.max_shots: the work takes {shots:,} shots; {self.max_shots:,} are left")


NO_LIMIT: Final = SpendingLimit()


@dataclass(frozen=True, slots=True)
class Account:
    """Whose money, on which day (``2026-11-25``, UTC) and at which backend."""

    tenant: str
    day: str
    backend: str


@dataclass(frozen=True, slots=True)
class Charge:
    """What a piece of work takes from an account: estimated while it is reserved, told by the provider afterwards."""

    account: Account
    micro_usd: int
    shots: int
    circuits: int

    def record(self) -> dict[str, Any]:
        """Return the charge as JSON."""
        return {**asdict(self.account), "micro_usd": self.micro_usd, "shots": self.shots, "circuits": self.circuits}

    @classmethod
    def of_record(cls, raw: Mapping[str, Any]) -> Charge:
        """Return the charge that ``record`` made JSON of. Raises KeyError or TypeError for anything else."""
        account = Account(str(raw["tenant"]), str(raw["day"]), str(raw["backend"]))
        return cls(account, int(raw["micro_usd"]), int(raw["shots"]), int(raw["circuits"]))


@dataclass(frozen=True, slots=True)
class Spending:
    """What an account has spent and has reserved.

    Attributes:
        reused: circuits that were answered from kept results, at no cost.
    """

    micro_usd: int = 0
    shots: int = 0
    circuits: int = 0
    jobs: int = 0
    reused: int = 0
    reserved_micro_usd: int = 0
    reserved_shots: int = 0


class Budgets:
    """Accounts by tenant, day and backend, and the charges that are reserved in them."""

    def __init__(self, allowance_of: Callable[[str], Allowance]) -> None:
        """Start empty.

        Args:
            allowance_of: tenant -> what it may spend in a day.
        """
        self._allowance_of = allowance_of
        self._days: defaultdict[tuple[str, str], dict[str, Spending]] = defaultdict(dict)
        self._reserved: dict[str, Charge] = {}

    def reserve(self, key: str, charge: Charge) -> None:
        """Set an amount aside.

        Raises:
            BudgetExceeded: the tenant's day does not cover it; nothing was set aside.
            ValueError: the key has a reservation already.
        """
        if key in self._reserved:
            raise ValueError(f"{key} has a reservation already")
        self.check(charge)
        self.restore(key, charge)

    def check(self, charge: Charge) -> None:
        """Raise BudgetExceeded if the tenant's day does not cover an amount."""
        allowance = self._allowance_of(charge.account.tenant)
        micro_usd, shots = self.used(charge.account.tenant, charge.account.day)
        if allowance.usd_per_day is not None and micro_usd + charge.micro_usd > micro_of(allowance.usd_per_day):
            left = max(0.0, allowance.usd_per_day - micro_usd / MICRO)
            raise BudgetExceeded(
                f"the work is estimated at {_usd(charge.micro_usd / MICRO)}; {_usd(left)} is left of today's "
                f"{_usd(allowance.usd_per_day)}"
            )
        if allowance.shots_per_day is not None and shots + charge.shots > allowance.shots_per_day:
            left_shots = max(0, allowance.shots_per_day - shots)
            raise BudgetExceeded(
                f"the work takes {charge.shots:,} shots; {left_shots:,} are left of today's {allowance.shots_per_day:,}"
            )

    def restore(self, key: str, charge: Charge) -> None:
        """Take over a reservation that was made earlier, whatever the allowance is now. Idempotent."""
        if key not in self._reserved:
            self._reserved[key] = charge
            self._add(charge.account, Spending(reserved_micro_usd=charge.micro_usd, reserved_shots=charge.shots))

    def release(self, key: str) -> None:
        """Give a reservation back. Idempotent."""
        charge = self._reserved.pop(key, None)
        if charge is not None:
            self._add(charge.account, Spending(reserved_micro_usd=-charge.micro_usd, reserved_shots=-charge.shots))

    def settle(self, key: str, charge: Charge) -> None:
        """Book what the work cost in place of its reservation. A day may end above its allowance if it cost more."""
        self.release(key)
        self._add(charge.account, Spending(charge.micro_usd, charge.shots, charge.circuits, jobs=1))

    def book(self, account: Account, spending: Spending) -> None:
        """Add to what an account has spent, without a reservation."""
        self._add(account, spending)

    def used(self, tenant: str, day: str) -> tuple[int, int]:
        """Return the micro-dollars and shots that a tenant has spent or reserved on a day."""
        found = self._days.get((tenant, day), {}).values()
        return (
            sum(spent.micro_usd + spent.reserved_micro_usd for spent in found),
            sum(spent.shots + spent.reserved_shots for spent in found),
        )

    def left(self, tenant: str, day: str) -> Allowance:
        """Return what is left of a tenant's day."""
        allowance = self._allowance_of(tenant)
        micro_usd, shots = self.used(tenant, day)
        return Allowance(
            None if allowance.usd_per_day is None else max(0.0, allowance.usd_per_day - micro_usd / MICRO),
            None if allowance.shots_per_day is None else max(0, allowance.shots_per_day - shots),
        )

    def accounts(self) -> dict[Account, Spending]:
        """Return all accounts."""
        return {
            Account(tenant, day, backend): spent
            for (tenant, day), backends in self._days.items()
            for backend, spent in backends.items()
        }

    def forget_before(self, day: str) -> None:
        """Drop the accounts of earlier days that have no reservations."""
        for key in [key for key in self._days if key[1] < day]:
            if not any(spent.reserved_micro_usd or spent.reserved_shots for spent in self._days[key].values()):
                del self._days[key]

    def validate(self) -> None:
        """Raise AssertionError if an invariant is broken. For tests."""
        sums: defaultdict[Account, list[int]] = defaultdict(lambda: [0, 0])
        for charge in self._reserved.values():
            sums[charge.account][0] += charge.micro_usd
            sums[charge.account][1] += charge.shots
        for account, spent in self.accounts().items():
            assert [spent.reserved_micro_usd, spent.reserved_shots] == sums[account], "reservations do not add up"
            assert min(spent.micro_usd, spent.shots, spent.circuits, spent.jobs, spent.reused) >= 0

    def _add(self, account: Account, more: Spending) -> None:
        day = self._days[account.tenant, account.day]
        spent = day.get(account.backend, Spending())
        day[account.backend] = Spending(
            *(getattr(spent, field.name) + getattr(more, field.name) for field in fields(Spending))
        )


def micro_of(usd: float) -> int:
    """Return micro-dollars, rounded up: an estimate is never below the price. A millionth of one is rounding error."""
    return math.ceil(usd * MICRO - 1e-6)


def day_of(now_s: float) -> str:
    """Return the UTC day of a time in seconds since the epoch, like ``2026-11-25``."""
    return datetime.fromtimestamp(now_s, UTC).date().isoformat()


def _usd(value: float) -> str:
    return f"${value:,.2f}" if value >= 0.01 or value == 0.0 else f"${value:.6f}"
