"""What the groups of calls stand on: how one is made, and on which loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, TypeVar

from quantum_db.client.loop import LoopThread

R = TypeVar("R")


class Calls(ABC):
    """Makes calls of the API by name."""

    @property
    @abstractmethod
    def loop(self) -> LoopThread:
        """The loop that all calls run on."""

    @abstractmethod
    async def call(self, method: str, *arguments: Any, key: str | None = None, once: bool = True) -> Any:
        """Make a call (of ``quantum_db.client.routes``) and return its answer as JSON; see ``Caller.call``.

        Raises:
            QuantumDBError: what the cluster answered; DeadlineExceeded or Unavailable if it did not.
        """

    async def work(self, work: Coroutine[Any, Any, R]) -> R:
        """Run work on the client's loop, wherever the caller is."""
        return await self.loop.wait(work)
