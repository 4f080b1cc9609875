"""Whether what a process holds grows: a straight line through what was read of it, and a bound for its slope.

The line is that of Theil and Sen: the median of the slopes of all pairs of readings, which single peaks do not move.
What is read first is left out, for caches fill and code is loaded then. Something grows if it does so by more than
noise, and by more than a tenth of what is held in an hour, or what ``LEAST`` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import theilslopes

WARM_UP: Final = 1.0 / 3.0
HOUR_S: Final = 3600.0
SHARE_AN_HOUR: Final = 0.1
LEAST: Final = {"memory_mb": 16.0, "threads": 3.0, "files": 3.0}
"""Below these amounts an hour nothing is called growth: an allocator moves by megabytes, a pool by a thread."""
CONFIDENCE: Final = 0.99


@dataclass(frozen=True, slots=True)
class Trend:
    """What the readings after the warm-up say.

    Attributes:
        level: their median.
        an_hour: growth an hour by the line, with its interval from ``low`` to ``high``.
        grows: the verdict.
    """

    level: float
    an_hour: float
    low: float
    high: float
    grows: bool


def trend(at_s: Sequence[float], held: Sequence[float], kind: str) -> Trend:
    """Return the trend of readings of one process.

    Args:
        at_s: when they were read, ascending.
        held: what was read.
        kind: a key of ``LEAST``.

    Raises:
        ValueError: there are fewer than 10 readings after the warm-up.
    """
    times, values = np.asarray(at_s, dtype=float), np.asarray(held, dtype=float)
    late = times >= times[0] + WARM_UP * (times[-1] - times[0])
    times, values = times[late], values[late]
    if len(times) < 10:
        raise ValueError(f"{len(times)} readings after the warm-up tell nothing; there must be 10")
    slope, _, low, high = (float(number) for number in theilslopes(values, times, CONFIDENCE))
    level = float(np.median(values))
    bound = max(LEAST[kind], SHARE_AN_HOUR * level)
    grows = low > 0.0 and slope * HOUR_S > bound
    return Trend(level, slope * HOUR_S, low * HOUR_S, high * HOUR_S, grows)
