"""What an actor does whose state is kept by a journal: open it in the background, and let nobody in before."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Generic

from quantum_db.errors import Fenced, QuantumDBError, Unavailable
from quantum_db.journals.keeper import Held, Keeper
from quantum_db.journals.layout import ShardPlace
from quantum_db.journals.open import open_journal

logger = logging.getLogger(__name__)

OPEN_PAUSE_S = 1.0


class KeptShard(Generic[Held]):
    """Opens a ``Keeper``; tries again for as long as the journal does not answer."""

    def __init__(self, name: str, place: ShardPlace, fresh: Callable[[], Held]) -> None:
        """Begin. ``fresh`` returns an empty shard; ``name`` is for messages."""
        self._name = name
        self._place = place
        self._fresh = fresh
        self._keeper: Keeper[Held] | None = None
        self._starting = asyncio.get_running_loop().create_task(self._start())

    async def ready(self) -> Keeper[Held]:
        """Return the keeper once the journal has been read and checked. Raises CorruptData and InvalidSettings."""
        return await asyncio.shield(self._starting)

    async def opened(self) -> Keeper[Held]:
        """Return the keeper.

        Raises:
            Unavailable: the journal is still being read.
            CorruptData: it cannot be read.
        """
        if not self._starting.done():
            await asyncio.wait({self._starting}, timeout=OPEN_PAUSE_S)
        if not self._starting.done():
            raise Unavailable(f"{self._name} is reading its journal", retry_after_s=OPEN_PAUSE_S)
        return self._starting.result()

    @property
    def keeper(self) -> Keeper[Held] | None:
        """The keeper, or None as long as there is none."""
        return self._keeper

    async def close(self) -> None:
        """Release the journal. Idempotent."""
        self._starting.cancel()
        if self._keeper is not None:
            await self._keeper.close()

    async def _start(self) -> Keeper[Held]:
        while True:
            try:
                self._keeper = await self._load()
                return self._keeper
            except Unavailable as error:
                logger.warning("%s waits for its journal: %s", self._name, error.detail)
                await asyncio.sleep(OPEN_PAUSE_S)
            except QuantumDBError:
                logger.exception("%s cannot start", self._name)
                raise

    async def _load(self) -> Keeper[Held]:
        journal = await asyncio.to_thread(open_journal, self._place.url)
        keeper = Keeper(self._fresh(), journal, self._place.stream, self._give_way)
        try:
            await keeper.load()
        except BaseException:
            journal.close()
            raise
        return keeper

    def _give_way(self, error: Fenced) -> None:
        """End this process at once: another has become the writer, and this one's answers may be stale."""
        logger.error("%s ends: %s", self._name, error.detail)
        logging.shutdown()
        os._exit(1)
