"""How much a process takes on at once: what it cannot answer soon it refuses at once.

Two bounds. Calls that are being served are counted. And the process measures how long what is ready to run has to wait
for its turn: on one event loop that is the time of all that is ready before it, which is the queue that nobody sees. A
call that waits for others, for a provider's machine say, makes nobody wait, however long it takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from quantum_db.errors import Overloaded

SMOOTHING: Final = 0.5
FEW_SHARE: Final = 0.125
"""Of ``max_running``: with no more than so many a process is not overloaded, whatever kept it busy for a moment."""


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """The bounds: calls at once, and seconds that what is ready may wait."""

    max_running: int = 256
    max_wait_s: float = 1.0


class Admission:
    """Counts the calls of one process. For one event loop."""

    def __init__(self, policy: AdmissionPolicy) -> None:
        self._policy = policy
        self._few = math.ceil(FEW_SHARE * policy.max_running)
        self.running = 0
        self.wait_s = 0.0

    def waited(self, seconds: float) -> None:
        """Note how much later than it should something has had its turn."""
        self.wait_s += SMOOTHING * (max(0.0, seconds) - self.wait_s)

    def enter(self) -> None:
        """Take a place for a call; ``leave`` gives it back.

        Raises:
            Overloaded: a bound is reached. No place was taken.
        """
        policy, retry_after_s = self._policy, max(1.0, self.wait_s)
        if self.running >= policy.max_running:
            raise Overloaded(f"{self.running} requests are being answered here", retry_after_s=retry_after_s)
        if self.wait_s > policy.max_wait_s and self.running >= self._few:
            told = f"requests have to wait {self.wait_s:.2f} s for their turn here"
            raise Overloaded(told, retry_after_s=retry_after_s)
        self.running += 1

    def leave(self) -> None:
        """Give a place back."""
        self.running -= 1
