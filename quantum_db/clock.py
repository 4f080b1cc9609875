"""The real clock."""

from __future__ import annotations

import time


class SystemClock:
    """Implements ``Clock`` with the system's time."""

    def now_s(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic_s(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()
