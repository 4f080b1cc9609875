"""Who may write what at the same time. Pure; whoever comes first is first, so nobody waits in a circle."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from quantum_db.commits.operations import Claim


class Claims:
    """Owners, by number, queue for each thing that they claim; who stands first at all of his has them."""

    def __init__(self) -> None:
        self._queues: dict[Claim, deque[int]] = {}
        self._claimed: dict[int, tuple[Claim, ...]] = {}
        self._ahead: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._claimed)

    def claim(self, owner: int, things: Iterable[Claim]) -> bool:
        """Queue for things; return whether the owner has all of them at once."""
        claimed = tuple(dict.fromkeys(things))
        ahead = 0
        for thing in claimed:
            queue = self._queues.setdefault(thing, deque())
            ahead += bool(queue)
            queue.append(owner)
        self._claimed[owner], self._ahead[owner] = claimed, ahead
        return ahead == 0

    def of(self, owner: int) -> frozenset[Claim]:
        """Return what an owner has or waits for."""
        return frozenset(self._claimed.get(owner, ()))

    def release(self, owner: int) -> list[int]:
        """Give back what an owner has or waits for; return those who have all of theirs now. Idempotent."""
        free = []
        for thing in self._claimed.pop(owner, ()):
            queue = self._queues[thing]
            was_first = queue[0] == owner
            queue.remove(owner)
            if not queue:
                del self._queues[thing]
            elif was_first:
                self._ahead[queue[0]] -= 1
                if self._ahead[queue[0]] == 0:
                    free.append(queue[0])
        self._ahead.pop(owner, None)
        return free
