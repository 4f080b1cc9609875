"""A statement that runs in a thread of its own, so that something else can be done, or tried, meanwhile."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sql_synthesizer.engines.deadline import Stopper
from sql_synthesizer.engines.ports import Engine, Limits, Parameter, Rows

AGAIN_S: Final = 0.01
"""Between two calls to stop: one that comes just before a statement begins does nothing in DuckDB."""


class Attempt:
    """One run of one statement. It ends by itself, within its limits; nobody has to wait for it."""

    def __init__(
        self, engine: Engine, sql: str, parameters: Sequence[Parameter], limits: Limits, *, force_order: bool = False
    ) -> None:
        """Begin to run."""
        self._stopper = Stopper()
        self.future: Final[concurrent.futures.Future[Rows]] = concurrent.futures.Future()
        limits = replace(limits, stopper=self._stopper)

        def run() -> None:
            try:
                self.future.set_result(engine.run(sql, parameters, limits, force_order=force_order))
            except BaseException as error:  # noqa: BLE001 (it is raised where the result is asked for)
                self.future.set_exception(error)

        threading.Thread(target=run, name="statement", daemon=True).start()

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


def first_of(one: Attempt, other: Attempt) -> Attempt:
    """Wait until one of two attempts has ended, and return it."""
    done = concurrent.futures.wait([one.future, other.future], return_when=concurrent.futures.FIRST_COMPLETED).done
    return one if one.future in done else other
