"""What the pool knows of each backend while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from quantum_db.backend_ports import BackendLimits
from quantum_db.errors import DeadlineExceeded, Unavailable
from quantum_db.jobs.breaker import Breaker

LONGEST_WINDOW_S: Final = 0.25
_WINDOW_SHARE: Final = 0.1
_SMOOTHING: Final = 0.2
_QUESTION: Final = "limits"
"""What the breaker knows the question for the limits by; jobs have other keys."""


@dataclass(slots=True)
class Lane:
    """One backend.

    Attributes:
        local: it runs in the workers themselves: nothing is paid, written down or broken.
        identity: what runs there, whatever it is called; results are kept under it.
        window_s: how long a first run waits for others to share its job; 0 never lets it wait.
        limits: once they are known.
        asking: the call that asks for them, while there is one.
        mean_s: smoothed time of its jobs.
        mean_runs: smoothed number of runs in a job.
        pump: when it is next seen whether a job can start, on the event loop's clock.
    """

    name: str
    local: bool
    identity: str
    window_s: float
    breaker: Breaker
    limits: BackendLimits | None = None
    asking: asyncio.Task[BackendLimits] | None = None
    mean_s: float = 0.0
    mean_runs: float = 1.0
    pump: asyncio.TimerHandle | None = None
    pump_due_s: float = 0.0

    async def learn(
        self, ask: Callable[[], Coroutine[Any, Any, BackendLimits]], now_s: Callable[[], float]
    ) -> BackendLimits:
        """Return the limits, asked for once at a time: many calls to a backend that hangs would fill the workers.

        A backend that does not tell them is broken like one that takes no job: the breaker counts it.

        Args:
            ask: asks the backend.
            now_s: the breaker's clock.

        Raises:
            BreakerOpen: the backend has failed too often to be asked now.

            And what ``ask`` raises, to all who wait; who comes after that asks anew.
        """
        if self.limits is not None:
            return self.limits
        if self.asking is None:
            if (
                not self.local and self.breaker.override == "auto"
            ):  # what an operator has switched off can still be described
                self.breaker.admit(_QUESTION, now_s())
            self.asking = asyncio.get_running_loop().create_task(ask())
            self.asking.add_done_callback(lambda asked: self._learned(asked, now_s))
        return await asyncio.shield(self.asking)

    def _learned(self, asked: asyncio.Task[BackendLimits], now_s: Callable[[], float]) -> None:
        self.asking = None
        error = None if asked.cancelled() else asked.exception()
        if asked.cancelled() or (error is not None and not isinstance(error, (Unavailable, DeadlineExceeded))):
            self.breaker.withdrawn(_QUESTION)
        elif error is not None and not self.local:
            self.breaker.failed(_QUESTION, now_s())
        elif error is None:
            self.limits = asked.result()
            self.breaker.succeeded(_QUESTION)

    def note_job(self, seconds: float, runs: int) -> None:
        """Note how long a job took, and of how many runs it was made."""
        self.mean_s += _SMOOTHING * (seconds - self.mean_s) if self.mean_s else seconds
        self.mean_runs += _SMOOTHING * (runs - self.mean_runs)

    def share_s(self, in_flight: int) -> float:
        """Return how long a run waits for others to share its job.

        While others are in flight that is up to a tenth of a job's time: else callers that come a few milliseconds
        apart take a place each, and those behind them wait for a whole job.
        """
        if in_flight == 0 or self.window_s == 0.0:
            return self.window_s
        return max(self.window_s, min(LONGEST_WINDOW_S, _WINDOW_SHARE * self.mean_s))

    def wait_s(self, in_flight: int, waiting: int) -> float:
        """Predict how long a new run waits while all places are taken: for the jobs that those before it make."""
        return self.mean_s * (1.0 + waiting / self.mean_runs) / max(1, in_flight)
