"""A statement that runs in a thread of its own, so that something else can be done, or tried, meanwhile."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from sql_synthesizer.engines.deadline import Stopper
from sql_synthesizer.engines.ports import Engine, Limits, Parameter, Rows

Result = TypeVar("Result")

AGAIN_S: Final = 0.01
"""Between two calls to stop: one that comes just before a statement begins does nothing in DuckDB."""


class Attempt:
    """One run of one statement. It ends by itself, within its limits; nobody has to wait for it."""

    def __init__(
        self, engine: Engine, sql: str, parameters: Sequence[Parameter], limits: Limits, *, force_order: bool = False
    ) -> None:
        """Begin to run."""
        self._stopper = Stopper()
        limits = replace(limits, stopper=self._stopper)
        self.future: Final = begun(lambda: engine.run(sql, parameters, limits, force_order=force_order))

    def result(self) -> Rows:
        """Return the rows once they are there. Raises as ``Engine.run``."""
        return self.future.result()

    def done_within(self, seconds: float) -> bool:
        """Wait, for at most so long; return whether it has ended, well or not."""
        return bool(concurrent.futures.wait([self.future], seconds).done)

    def stop(self) -> None:
        """End it, and wait until it has."""
        while not self.future.done():
            self._stopper.stop()
            self.done_within(AGAIN_S)


def begun(function: Callable[[], Result]) -> concurrent.futures.Future[Result]:
    """Call a function in a thread of its own."""
    future: concurrent.futures.Future[Result] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 (it is raised where the result is asked for)
            future.set_exception(error)

    threading.Thread(target=run, name="statement", daemon=True).start()
    return future


def first_of(one: concurrent.futures.Future[Any], other: concurrent.futures.Future[Any]) -> None:
    """Wait until one of two calls has ended."""
    concurrent.futures.wait([one, other], return_when=concurrent.futures.FIRST_COMPLETED)
