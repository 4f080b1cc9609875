"""A deadline for what can only be stopped from another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Deadline:
    """Whether the time of a block is over."""

    passed: bool = False


@contextmanager
def deadline(timeout_s: float, stop: Callable[[], object]) -> Iterator[Deadline]:
    """Call ``stop`` from another thread if the block takes longer than ``timeout_s`` seconds.

    No call is under way any more when the block has been left, so none meets what comes after it.
    """
    state = Deadline()

    def over() -> None:
        state.passed = True
        stop()

    timer = threading.Timer(timeout_s, over)
    timer.daemon = True
    timer.start()
    try:
        yield state
    finally:
        timer.cancel()
        timer.join()
