"""An event loop in a thread of its own: all calls of a client run there, whoever makes them.

So one set of connections serves synchronous code, any number of threads, and any number of other event loops, also one
after the other. ``blocking`` and ``iterating`` make the synchronous form of a method out of its asynchronous one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from quantum_db.errors import Conflict

P = ParamSpec("P")
R = TypeVar("R")

STOP_TIMEOUT_S: Final = 10.0
THREAD_NAME: Final = "quantum-db client"


class LoopThread:
    """Starts with the first call, and again with the first one after ``stop``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether a call has started it."""
        return self._thread is not None

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run work to its end, while the caller's thread waits.

        Raises:
            Conflict: the caller is on this loop itself, and would wait for ever.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise Conflict("a blocking call cannot be made from within this client's own callbacks")
        future = self._submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C ends the wait, so it ends the work
            raise

    async def wait(self, work: Coroutine[Any, Any, R]) -> R:
        """Run work to its end, while the caller's own loop goes on. Cancelling the wait cancels the work."""
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(self._submit(work))

    def stop(self) -> None:
        """End the thread; what still runs is cancelled. Idempotent."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(STOP_TIMEOUT_S)

    def finish(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a last piece of work and stop, from whichever thread lets go of a client, also this one. Idempotent."""
        loop = self._loop
        if loop is None:
            return
        if threading.current_thread() is self._thread:
            task = loop.create_task(last())
            task.add_done_callback(lambda _: loop.stop())
        else:
            self.run(last())
            self.stop()

    def _submit(self, work: Coroutine[Any, Any, R]) -> Future[R]:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name=THREAD_NAME, daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class OnLoop(Protocol):
    """What has a loop of its own."""

    @property
    def loop(self) -> LoopThread:
        """The loop that its calls run on."""


S = TypeVar("S", bound=OnLoop)


def blocking(method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]]) -> Callable[Concatenate[S, P], R]:
    """Return the synchronous form of an asynchronous method."""

    @wraps(method)
    def call(self: S, /, *arguments: P.args, **named: P.kwargs) -> R:
        return self.loop.run(method(self, *arguments, **named))

    return call


def iterating(method: Callable[Concatenate[S, P], AsyncIterator[R]]) -> Callable[Concatenate[S, P], Iterator[R]]:
    """Return the synchronous form of an asynchronous generator."""

    @wraps(method)
    def iterate(self: S, /, *arguments: P.args, **named: P.kwargs) -> Iterator[R]:
        found = method(self, *arguments, **named)

        async def following() -> tuple[R] | None:
            try:
                return (await anext(found),)
            except StopAsyncIteration:
                return None

        while (item := self.loop.run(following())) is not None:
            yield item[0]

    return iterate
