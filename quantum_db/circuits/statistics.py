"""What shots tell: estimates and their confidence intervals."""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@lru_cache(maxsize=256)
def z_value(confidence: float) -> float:
    """Return the two-sided normal quantile: 1.96 for 0.95."""
    return NormalDist().inv_cdf(0.5 + confidence / 2.0)


def wilson_interval(
    successes: NDArray[np.integer], shots: int | NDArray[np.integer], confidence: float
) -> tuple[Array, Array]:
    """Return the lower and upper ends for each binomial proportion, of one number of shots or one for each.

    E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209; Brown, Cai, DasGupta, Stat. Sci. 16 (2001) 101 on its coverage.
    """
    z = z_value(confidence)
    share = np.asarray(successes, dtype=np.float64) / shots
    spread = 1.0 + z * z / shots
    centre = (share + z * z / (2.0 * shots)) / spread
    half = z * np.sqrt(share * (1.0 - share) / shots + z * z / (4.0 * shots * shots)) / spread
    return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)
