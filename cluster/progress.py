"""How a long command shows how far it is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_INTERVAL_S: Final = 5.0


@contextmanager
def shown(doing: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told of each further number of rows.

    Args:
        doing: such as ``exporting``.
        total: rows in all, where that is known.
        done: rows of an earlier run.
    """
    if sys.stderr.isatty():
        columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(doing, total=total, completed=done)
            yield lambda rows: bar.advance(task, rows)
    else:
        lines = _Lines(doing, total, done)
        yield lines.advance


class _Lines:
    def __init__(self, doing: str, total: int | None, done: int) -> None:
        self._doing = doing
        self._of = "" if total is None else f" of {total:,}"
        self._done = done
        self._last_s = time.monotonic()

    def advance(self, rows: int) -> None:
        self._done += rows
        now_s = time.monotonic()
        if now_s - self._last_s >= LINE_INTERVAL_S:
            self._last_s = now_s
            print(f"{self._doing}: {self._done:,}{self._of} rows", file=sys.stderr, flush=True)
