"""Modes: how much is spent on plans, and how readily one is forced. Adaptive moves between them by measurement."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sql_synthesizer.joins.optimizer import JoinSettings
from sql_synthesizer.quantum.schedules import STEPS, Mode, Step

JOINS: Final = MappingProxyType(
    {
        "conservative": JoinSettings(patience_s=0.1, statistics_s=0.1, search_s=0.02, min_gain=3.0, forced_factor=3.0),
        "balanced": JoinSettings(),
        "aggressive": JoinSettings(patience_s=0.02, statistics_s=0.5, search_s=0.2, min_gain=1.2, forced_factor=8.0),
    }
)
"""The settings of joins in each mode; the chains of annealing are in `sql_synthesizer.quantum.schedules`."""

RISE: Final = 0.10
FALL: Final = -0.05
LOOKS: Final = 2
"""A net benefit above RISE, at so many looks in a row, moves up; below FALL down; between them nothing moves."""

MIN_QUERIES: Final = 20


@dataclass(frozen=True, slots=True)
class Effort:
    """What optimising cost and brought over a window of queries.

    Attributes:
        queries: that ran, answers from the cache not among them.
        total_ms: of all of them.
        overhead_ms: counting, searching and failed attempts.
        saved_ms: the engine's own times less those of forced orders, where both were measured; may be negative.
    """

    queries: int
    total_ms: float
    overhead_ms: float
    saved_ms: float

    @property
    def net(self) -> float:
        """What was saved less what was spent, as a share of all time."""
        return 0.0 if self.total_ms <= 0.0 else (self.saved_ms - self.overhead_ms) / self.total_ms


class ModeKeeper:
    """Says which mode's parameters hold now."""

    def __init__(self, mode: Mode, interval_s: float, now_s: float) -> None:
        """Begin; ``adaptive`` begins balanced.

        Args:
            mode: as it is set.
            interval_s: between two looks of the adaptive mode.
            now_s: the time; of any clock, as long as it is always the same.
        """
        self.mode = mode
        self.step: Step = "balanced" if mode == "adaptive" else mode
        self.changes = 0
        self._interval_s = interval_s
        self._looked_s = now_s
        self._rising = 0
        self._falling = 0

    def look(self, effort: Effort, now_s: float) -> bool:
        """Look at what was measured, if it is time; return whether the parameters changed."""
        due = now_s - self._looked_s >= self._interval_s
        if self.mode != "adaptive" or not due or effort.queries < MIN_QUERIES:
            return False
        self._looked_s = now_s
        self._rising = self._rising + 1 if effort.net > RISE else 0
        self._falling = self._falling + 1 if effort.net < FALL else 0
        move = (self._rising >= LOOKS) - (self._falling >= LOOKS)
        place = min(len(STEPS) - 1, max(0, STEPS.index(self.step) + move))
        if STEPS[place] == self.step:
            return False
        self.step = STEPS[place]
        self.changes += 1
        self._rising = self._falling = 0
        return True
