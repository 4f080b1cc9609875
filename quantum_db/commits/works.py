"""The requests that are under way: by number, by the callers who wait for them, and by the names that callers gave."""

from __future__ import annotations

from typing import Any

from quantum_db.commits.operations import Request, Transaction
from quantum_db.commits.steps import Answer, Asked
from quantum_db.commits.work import Work
from quantum_db.errors import Conflict, QuantumDBError


class Works:
    """Numbers requests, and answers those who wait."""

    def __init__(self) -> None:
        """Start with none."""
        self._works: dict[int, Work] = {}
        self._of_ticket: dict[int, Work] = {}
        self._of_key: dict[str, Work] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._works)

    def get(self, number: int) -> Work | None:
        """Return a request that has not ended."""
        return self._works.get(number)

    def new(self, request: Request | None, ticket: int | None = None) -> Work:
        """Begin a request; None is what is left over from before a restart. ``ticket`` is of who waits for it."""
        self._count += 1
        work = self._works[self._count] = Work(self._count, request)
        if ticket is not None:
            self._wait(work, ticket)
        if work.key is not None:
            self._of_key[work.key] = work
        return work

    def join(self, asked: Asked) -> list[Answer] | None:
        """Let a caller wait for the transaction of the same key that is under way; None where there is none.

        Another transaction under the same key is answered with a conflict.
        """
        assert isinstance(asked.request, Transaction)
        assert asked.request.key is not None
        running = self._of_key.get(asked.request.key)
        if running is None:
            return None
        assert isinstance(running.request, Transaction)
        if running.request.digest != asked.request.digest:
            return [other_transaction(asked, asked.request.key)]
        self._wait(running, asked.ticket)
        return []

    def gone(self, ticket: int) -> Work | None:
        """Forget a caller; return what it waited for."""
        work = self._of_ticket.pop(ticket, None)
        if work is not None:
            work.tickets.remove(ticket)
        return work

    def answers(self, work: Work, answer: dict[str, Any] | None, error: QuantumDBError | None) -> list[Answer]:
        """Return the answers to all who wait, who wait no longer."""
        tickets, work.tickets = work.tickets, []
        for ticket in tickets:
            del self._of_ticket[ticket]
        return [Answer(ticket, answer, error) for ticket in tickets]

    def release_key(self, work: Work) -> None:
        """Let the same key stand for another request from now on. Idempotent."""
        if work.key is not None:
            self._of_key.pop(work.key, None)

    def end(self, work: Work) -> None:
        """Forget a request."""
        del self._works[work.id]

    def commits(self) -> set[int]:
        """Return the numbers of all commits that are under way."""
        return {work.commit for work in self._works.values()}

    def is_busy(self, collection: str) -> bool:
        """Return whether any request about a collection is under way."""
        return any(work.collection == collection for work in self._works.values())

    def _wait(self, work: Work, ticket: int) -> None:
        work.tickets.append(ticket)
        self._of_ticket[ticket] = work


class Waterline:
    """Up to which commit none is written in part. It only rises."""

    def __init__(self, applied: int) -> None:
        """Start where all up to ``applied`` have been applied, but those that ``begin`` names."""
        self._applied = applied
        self._begun: dict[int, None] = {}  # in the order of the numbers

    @property
    def visible(self) -> int:
        """The commit that readers may look at."""
        first = next(iter(self._begun), None)
        return self._applied if first is None else min(self._applied, first - 1)

    def begin(self, commit: int) -> None:
        """Note a commit that may be written in part from now on, above all before."""
        self._begun[commit] = None

    def applied(self, commit: int) -> None:
        """Note that a commit is there as a whole."""
        del self._begun[commit]
        self._applied = max(self._applied, commit)

    def drop(self, commit: int) -> None:
        """Note that nothing of a commit will ever be written. Idempotent."""
        self._begun.pop(commit, None)


def other_transaction(asked: Asked, key: str) -> Answer:
    """Return the answer to who gives another transaction's key."""
    name = key.partition(":")[2] or key
    message = f"the idempotency key {name!r} stands for another transaction; each takes a key of its own"
    return Answer(asked.ticket, None, Conflict(message))
