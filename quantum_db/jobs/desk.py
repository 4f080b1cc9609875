"""What the outside asks of the pool beside running circuits, as a protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from quantum_db.jobs.breaker import Override
from quantum_db.jobs.ledger import JobStatus
from quantum_db.jobs.orders import JobOrder


@dataclass(frozen=True, slots=True)
class JobPage:
    """Which jobs to list.

    Attributes:
        cursor: the id that the last page ended with.
        limit: at most so many.
        status: only those of this status; None for all.
    """

    cursor: str | None = None
    limit: int = 100
    status: JobStatus | None = None


class JobDesk(Protocol):
    """Jobs as a resource, and the pool's state for people. Answers are JSON; see ``quantum_db.jobs.stored_jobs``."""

    async def create(self, tenant: str, order: JobOrder) -> dict[str, Any]:
        """Take a job, durably. Raises BudgetExceeded, Overloaded."""

    async def get(self, tenant: str, job_id: str) -> dict[str, Any]:
        """Return a job. Raises NotFound."""

    async def list(self, tenant: str, page: JobPage) -> dict[str, Any]:
        """Return jobs, newest first."""

    async def cancel(self, tenant: str, job_id: str) -> dict[str, Any]:
        """Cancel a job. Idempotent. Raises NotFound."""

    async def estimate(self, tenant: str, order: JobOrder) -> dict[str, Any]:
        """Return what a job would cost."""

    async def costs(self, tenant: str, since: str | None, until: str | None) -> dict[str, Any]:
        """Return what a tenant has spent, by day and backend."""

    async def backends(self) -> dict[str, Any]:
        """Return the state of each backend."""

    async def force_breaker(self, backend: str, override: Override) -> None:
        """Set a breaker by hand. Idempotent. Raises InvalidRequest when there is no such backend."""
