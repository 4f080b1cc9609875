"""The circuit breaker of one backend: after several failures in a row nothing is sent to it for a while.

A state machine; the time comes in with each call. ``closed`` lets work through. ``open`` refuses it at once.
``half_open`` has let exactly one piece of work through, the probe, and refuses the rest until that one has ended.
See M. Nygard, Release It! (2nd ed., 2018), chapter 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from quantum_db.errors import BreakerOpen

BreakerState = Literal["closed", "open", "half_open"]
Override = Literal["open", "closed", "auto"]


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    Attributes:
        failures: in a row, that open it.
        open_s: until a probe is let through.
    """

    failures: int = 5
    open_s: float = 60.0


class Breaker:
    """Decides whether work may be sent. Times are of one monotonic clock."""

    def __init__(self, name: str, policy: BreakerPolicy) -> None:
        """Start closed.

        Args:
            name: of the backend, for messages.
            policy: when it opens, and for how long.
        """
        self._name = name
        self._policy = policy
        self._failures = 0
        self._opened_s: float | None = None
        self._probe: str | None = None
        self._override: Override = "auto"

    @property
    def state(self) -> BreakerState:
        """The state; ``open`` also where a probe is due but nobody has asked yet."""
        if self._override != "auto":
            return self._override
        if self._opened_s is None:
            return "closed"
        return "half_open" if self._probe is not None else "open"

    @property
    def override(self) -> Override:
        """What an operator has set; ``auto`` if nothing."""
        return self._override

    @property
    def probe(self) -> str | None:
        """The key of the probe, while there is one."""
        return self._probe

    def refusal(self, now_s: float) -> BreakerOpen | None:
        """Return why work is refused now, or None if some may go through; ``retry_after_s`` says when to ask again."""
        if self.state == "closed":
            return None
        if self._override == "open":
            return BreakerOpen(f"{self._name} is switched off by an operator", retry_after_s=self._policy.open_s)
        assert self._opened_s is not None
        if self._probe is not None:
            return BreakerOpen(f"{self._name} failed {self._failures} times; one probe is under way", retry_after_s=1.0)
        left_s = self._opened_s + self._policy.open_s - now_s
        if left_s <= 0.0:
            return None
        message = f"{self._name} failed {self._failures} times in a row; it is tried again in {left_s:.3g} s"
        return BreakerOpen(message, retry_after_s=left_s)

    def admit(self, key: str, now_s: float) -> None:
        """Let a piece of work through, as the probe if one is due.

        Raises:
            BreakerOpen: it must not be sent.
        """
        refusal = self.refusal(now_s)
        if refusal is not None:
            raise refusal
        if self.state != "closed":
            self._probe = key

    def succeeded(self, key: str) -> None:
        """Note that the backend answered. Late word of work sent before the breaker opened does not close it."""
        if self._opened_s is None or key == self._probe:
            self._failures, self._opened_s, self._probe = 0, None, None

    def failed(self, key: str, now_s: float) -> None:
        """Note that the backend did not answer, or failed the work."""
        if self._opened_s is not None and key != self._probe:
            return
        self._failures += 1
        if key == self._probe or self._failures >= self._policy.failures:
            self._opened_s, self._probe = now_s, None

    def withdrawn(self, key: str) -> None:
        """Note that work was given up before the backend had a say: if it was the probe, another may be."""
        if key == self._probe:
            self._probe = None

    def force(self, override: Override) -> None:
        """Set the state by hand; ``auto`` gives it back to the breaker, which then starts closed. Idempotent."""
        if override == "auto" and self._override != "auto":
            self._failures, self._opened_s, self._probe = 0, None, None
        self._override = override

    def validate(self) -> None:
        """Raise AssertionError if an invariant is broken. For tests."""
        assert (self._opened_s is None) or self._failures > 0, "it opened without a failure"
        assert self._probe is None or self._opened_s is not None, "a closed breaker has a probe"
        assert self._opened_s is not None or self._failures < self._policy.failures, "it should have opened"
