"""Looks at something again and again from a thread, beside what is measured."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self


class Watcher(ABC):
    """Looks every so many seconds for as long as the block runs."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    @abstractmethod
    def look(self) -> None:
        """Look once."""

    def _run(self) -> None:
        while not self._end.wait(self._every_s):
            self.look()
