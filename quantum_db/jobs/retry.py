"""When to try again, and after which pause. Pure: the caller counts, waits and decides what is safe to repeat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

_MAX_DOUBLINGS: Final = 1_000  # a float has no more


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS architecture blog, 2015).

    Raises ValueError for values that make no sense.

    Attributes:
        attempts: how often something is tried in all, the first time included.
        first_s: the longest pause after the first attempt; it doubles with each further one.
        longest_s: the longest pause after any attempt.
    """

    attempts: int = 3
    first_s: float = 1.0
    longest_s: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0.0 <= self.first_s <= self.longest_s < math.inf:
            raise ValueError(f"a retry policy needs an attempt and 0 <= first_s <= longest_s, not {self}")

    def may_retry(self, attempt: int) -> bool:
        """Whether there is another attempt after this one, counted from 1."""
        return attempt < self.attempts

    def pause_s(self, attempt: int, rng: np.random.Generator, retry_after_s: float | None = None) -> float:
        """Return how long to wait after a failed attempt, counted from 1.

        Uniform in [0, min(longest_s, first_s * 2^(attempt - 1))], so that many callers that failed at once do not
        come back at once. Never below ``retry_after_s``, what the other side asked for, however long that is.
        """
        doubled_s = self.first_s * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS)
        return max(rng.uniform(0.0, min(self.longest_s, doubled_s)), retry_after_s or 0.0)
