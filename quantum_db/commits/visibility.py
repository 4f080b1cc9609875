"""At which commit readers look who search the store by themselves, and when all of them look at another. Pure.

A reader asks for the visible commit, and may look at it for ``lease_s`` from when it asked. Asking again, it tells at
which commit it looks: from then on it looks at no earlier one. So a commit is *shown* once it is visible and every
reader whose lease has not run out has acknowledged it, or a later one. A reader whose lease has run out does not look
at anything before it has asked.

The coordinator counts a lease from its answer, which is later than the question, so it never ends for it before it
ends for the reader. Of readers that an earlier coordinator told, it knows nothing; for as long as a lease lasts after
its start it takes them to be there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

LEASE_S: Final = 2.0
LOOK_S: Final = 30.0
"""How long one look at the store may take."""
KEEP_S: Final = LEASE_S + LOOK_S + 8.0
"""How long an older version is kept after its successor became visible: nobody looks at it any more then."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a reader is told: it may look at ``commit`` for ``lease_s`` from when it asked."""

    commit: int
    lease_s: float


@dataclass(slots=True)
class _Reader:
    """A reader that looks at no commit before ``commit``; its lease runs out at ``until_s``."""

    commit: int
    until_s: float


class Visibility:
    """What is visible, and who looks at what. All times are those of one clock that never goes back, in seconds."""

    def __init__(self, now_s: float, *, lease_s: float = LEASE_S, keep_s: float = KEEP_S) -> None:
        """Start without readers, but for those of an earlier coordinator."""
        self.commit = 0
        self._lease_s = lease_s
        self._keep_s = keep_s
        self._strangers_until_s = now_s + lease_s
        self._readers: dict[str, _Reader] = {}
        self._raised: deque[tuple[float, int]] = deque()

    def raise_to(self, commit: int, now_s: float) -> bool:
        """Make everything up to a commit visible; return whether it was not."""
        if commit <= self.commit:
            return False
        self.commit = commit
        self._raised.append((now_s, commit))
        return True

    def acknowledge(self, reader: str, commit: int | None) -> bool:
        """Take note at which commit a reader looks, if any; return whether that is news."""
        known = self._readers.get(reader)
        if known is None or commit is None or commit <= known.commit:
            return False
        known.commit = commit
        return True

    def tell(self, reader: str, now_s: float) -> Told:
        """Return the visible commit, which a reader then may look at."""
        known = self._readers.get(reader)
        # What it last acknowledged counts for as long as its lease lasts: this answer may be lost.
        first = self.commit if known is None or known.until_s <= now_s else known.commit
        self._readers[reader] = _Reader(first, now_s + self._lease_s)
        return Told(self.commit, self._lease_s)

    def shown(self, now_s: float) -> int:
        """Return the commit such that every look from now on is at it or a later one; 0 where that is not known."""
        if now_s < self._strangers_until_s:
            return 0
        return min([self.commit, *(reader.commit for reader in self._live(now_s))])

    def next_end_s(self, now_s: float) -> float | None:
        """Return when the next lease runs out, which may show a commit; None where there is none to run out."""
        ends = [reader.until_s for reader in self._live(now_s)]
        if now_s < self._strangers_until_s:
            ends.append(self._strangers_until_s)
        return min(ends, default=None)

    def droppable(self, now_s: float) -> int:
        """Return the commit such that nobody looks at an earlier one, nor has been doing so since; 0 if there is none.

        Each is returned once.
        """
        commit = 0
        while self._raised and self._raised[0][0] + self._keep_s <= now_s:
            commit = self._raised.popleft()[1]
        return commit

    def _live(self, now_s: float) -> list[_Reader]:
        gone = [name for name, reader in self._readers.items() if reader.until_s <= now_s]
        for name in gone:
            del self._readers[name]
        return list(self._readers.values())


class ReaderLease:
    """A reader's side: at which commit it may look, and until when. Pure, as ``Visibility``."""

    def __init__(self) -> None:
        """Start without a lease."""
        self.commit: int | None = None
        self._until_s = 0.0

    def take(self, told: Told, asked_at_s: float) -> None:
        """Look at what was told from now on; ``asked_at_s`` is when the question was sent."""
        self.commit = told.commit
        self._until_s = asked_at_s + told.lease_s

    def at(self, now_s: float) -> int | None:
        """Return the commit to look at, None when the lease has run out."""
        return self.commit if now_s < self._until_s else None
