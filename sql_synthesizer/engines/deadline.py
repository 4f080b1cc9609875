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


class Stopper:
    """Ends a statement that runs, from another thread: it fails as if its time were over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._stop: Callable[[], object] | None = None

    @property
    def asked(self) -> bool:
        """Whether the statement is to end."""
        return self._asked

    def stop(self) -> None:
        """End the statement that runs under this, or let none begin."""
        with self._lock:
            self._asked = True
            if self._stop is not None:
                self._stop()

    @contextmanager
    def stopping(self, stop: Callable[[], object]) -> Iterator[None]:
        """Call ``stop`` when it is asked for while the block lasts, at once if it was before; never after it."""
        with self._lock:
            self._stop = stop
            if self._asked:
                stop()
        try:
            yield
        finally:
            with self._lock:
                self._stop = None


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
