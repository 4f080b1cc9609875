"""The process that writes a collection, with all its real parts, made to be killed: from outside, or at a step."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from quantum_db.clock import SystemClock
from quantum_db.commits import coordinator
from quantum_db.commits.group_commits import GroupCommits
from quantum_db.commits.ledger import KeyRetention
from quantum_db.commits.protocol import CommitProtocol
from quantum_db.errors import NotFound, QuantumDBError
from quantum_db.journals.open import open_journal
from quantum_db.model import EntanglementGroup, Entity
from quantum_db.ports import Journal
from quantum_db.stores.places import OneStore
from quantum_db.stores.points import Point
from quantum_db.stores.qdrant_edge import QdrantEdgeStore
from tests.chaos.commit_messages import MAX_LINE, Answer, Asked, Shown, answer_line, request_of
from tests.chaos.commit_requests import ids
from tests.chaos.embedded import NoStates, Registry

ENTITIES: Final = 10
GROUPS: Final = 300
STEPS: Final = (
    *(
        f"{when} {what}"
        for what in ("intent", "receipt", "flushed", "compaction")
        for when in ("before", "within", "after")
    ),
    *(f"{when} {what}" for what in ("apply", "prepare", "finish", "forget") for when in ("before", "after")),
    "between points",
    "before the answer",
)
RARE: Final = frozenset(
    step for step in STEPS if step.endswith(("flushed", "compaction", "prepare", "finish", "forget"))
)


@dataclass(frozen=True)
class Life:
    """How to run: where everything is, and the step at whose n-th time the process kills itself."""

    folder: str
    journal_url: str
    step: str = ""
    nth: int = 1
    plant: str = ""

    @property
    def socket(self) -> str:
        return f"{self.folder}/socket"


class Killer:
    """Kills this process when a step is reached for the n-th time."""

    def __init__(self, step: str, nth: int) -> None:
        self._step, self._left = step, nth

    def reach(self, step: str) -> None:
        if self._is_now(step):
            kill_self()

    def reach_within(self, step: str) -> None:
        """Kill some moment after this, from another thread."""
        if self._is_now(step):
            after_s = float(np.random.default_rng().exponential(0.001))
            threading.Thread(target=lambda: (time.sleep(after_s), kill_self()), daemon=True).start()

    def _is_now(self, step: str) -> bool:
        self._left -= step == self._step
        return step == self._step and self._left == 0


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class KillingJournal:
    """A ``Journal`` that dies around its writes."""

    def __init__(self, journal: Journal, killer: Killer, plant: str) -> None:
        self._journal, self._killer, self._plant = journal, killer, plant

    def append(self, stream: str, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None) -> int:
        kinds = {record["t"] for record in records}
        for kind in kinds:
            self._killer.reach(f"before {kind}")
            self._killer.reach_within(f"within {kind}")
        if self._plant == "intents are not written":
            records = [record if record["t"] != "intent" else {"t": "abort", "commit": 0} for record in records]
        number = self._journal.append(stream, records, epoch=epoch)
        for kind in kinds:
            self._killer.reach(f"after {kind}")
        return number

    def compact(
        self, stream: str, through: int, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None
    ) -> None:
        self._killer.reach("before compaction")
        self._killer.reach_within("within compaction")
        self._journal.compact(stream, through, records, epoch=epoch)
        self._killer.reach("after compaction")

    def begin_epoch(self, stream: str) -> int:
        return self._journal.begin_epoch(stream)

    def read(self, stream: str, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        return self._journal.read(stream, after)

    def last(self, stream: str) -> int:
        return self._journal.last(stream)

    def close(self) -> None:
        self._journal.close()


class KillingStore(QdrantEdgeStore):
    """Writes a transaction point by point, and dies in between."""

    killer = Killer("", 0)
    _applying = False

    async def apply(self, commit: int, upserts: Sequence[Entity], deletes: Sequence[str]) -> None:
        self.killer.reach("before apply")
        self._applying = True
        try:
            await super().apply(commit, upserts, deletes)
        finally:
            self._applying = False
        self.killer.reach("after apply")

    async def _write(self, points: Sequence[Point]) -> None:
        for portion in [[point] for point in points] if self._applying else [points]:
            await super()._write(portion)
            self._between()

    async def _erase(self, point_ids: Sequence[str]) -> None:
        for portion in [[one] for one in point_ids] if self._applying else [point_ids]:
            await super()._erase(portion)
            self._between()

    def _between(self) -> None:
        if self._applying:
            self.killer.reach("between points")


class KillingGroups:
    """The registry's part in transactions; it dies around each call."""

    def __init__(self, commits: GroupCommits, killer: Killer) -> None:
        self._commits, self._killer = commits, killer

    def __getattr__(self, method: str) -> Callable[..., Any]:
        async def call(*arguments: Any) -> Any:
            self._killer.reach(f"before {method}")
            result = await getattr(self._commits, method)(*arguments)
            self._killer.reach(f"after {method}")
            return result

        return call


class Server:
    """Answers requests, ``read`` and ``open`` on a socket."""

    def __init__(self, life: Life) -> None:
        folder = Path(life.folder)
        self._killer = KillingStore.killer = Killer(life.step, life.nth)
        self._store = KillingStore(folder / "store")
        self._registry = Registry(folder / "groups.sqlite")
        coordinator.CommitProtocol = functools.partial(CommitProtocol, block=60, min_records=20, unflushed_commits=10)  # type: ignore
        self._coordinator = coordinator.Coordinator(
            stores=OneStore(self._store),
            groups=KillingGroups(self._registry.commits, self._killer),
            states=NoStates(),
            open_journal=lambda: KillingJournal(open_journal(life.journal_url), self._killer, life.plant),
            clock=SystemClock(),
            rng=np.random.default_rng(),
            on_fenced=lambda _: kill_self(),
            policy=coordinator.CommitPolicy(wait_s=5.0, keys=KeyRetention(answers=60)),
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                line = await reader.readline()
                if not line.endswith(b"\n"):  # the client has gone
                    break
                writer.write(answer_line(await self._answer(request_of(line))))
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    async def _answer(self, request: Asked) -> Answer:
        try:
            if isinstance(request, str):
                await self._coordinator.readable()
                return await self._read() if request == "read" else self._coordinator.open_commits
            answer = await self._coordinator.do(request)
        except QuantumDBError as error:
            return error
        self._killer.reach("before the answer")
        return answer

    async def _read(self) -> Shown:
        found = dict(zip(ids(ENTITIES), await self._store.fetch(ids(ENTITIES)), strict=True))
        count = await self._store.count()
        return Shown(found, {f"g{n}": await self._group(f"g{n}") for n in range(GROUPS)}, count)

    async def _group(self, group_id: str) -> EntanglementGroup | None:
        try:
            return await self._registry.get(group_id)
        except NotFound:
            return None


def run(life: Life) -> None:
    """Serve until killed."""

    Path(life.socket).unlink(missing_ok=True)

    async def main() -> None:
        server = Server(life)
        await (await asyncio.start_unix_server(server.serve, life.socket, limit=MAX_LINE)).serve_forever()

    asyncio.run(main())
