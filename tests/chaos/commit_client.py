"""One client of the simulated world: asks, waits, asks again under the same key, and notes what it was told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from quantum_db.commits.operations import Transaction
from quantum_db.errors import Conflict, InvalidRequest, NotFound, QuantumDBError
from tests.chaos.commit_history import Asked
from tests.chaos.commit_requests import Requests

if TYPE_CHECKING:
    from tests.chaos.commit_world import World

REFUSALS: Final = (Conflict, NotFound, InvalidRequest)
PATIENCE_S: Final = 12.0
ATTEMPTS: Final = 4
ENTITIES: Final = 6
GROUPS: Final = 12


class Client:
    """Has one request under way at a time. A write without a key is sent once: sent again, it would be another one."""

    def __init__(self, world: World, client: int, clients: int, requests: int) -> None:
        self._world = world
        self._requests = Requests(world.rng, client, clients, entities=ENTITIES, groups=GROUPS)
        self._left = requests
        self._known: dict[str, int] = {}

    def go_on(self) -> None:
        """Ask for the next thing, if there is one left."""
        if self._left == 0:
            return
        self._left -= 1
        tag, request = self._requests.next(self._known)
        asked = self._world.history.ask(tag, request, self._world.now_s)
        self._attempt(asked, 1, doubtful=False)

    def _attempt(self, asked: Asked, attempt: int, *, doubtful: bool) -> None:
        """Send it. ``doubtful``: another copy of it may still be under way, so a refusal says nothing of that one."""
        world, settled = self._world, False
        arrivals = world.arrivals(PATIENCE_S)
        if not isinstance(asked.request, Transaction):
            arrivals = arrivals[:1]
        doubtful = doubtful or len(arrivals) > 1 or any(after_s >= PATIENCE_S for after_s in arrivals)

        def told(answer: Mapping[str, Any] | None, error: QuantumDBError | None) -> None:
            if not world.strikes(world.faults.lost):
                world.later(world.delay(), lambda: take_in(answer, error), outside=True)

        def take_in(answer: Mapping[str, Any] | None, error: QuantumDBError | None) -> None:
            nonlocal settled
            if settled:
                return
            settled = True
            if answer is not None:
                asked.done(int(answer["commit"]), world.now_s)
                self._known.update(
                    dict.fromkeys((one for one, there in asked.writes.items() if there), asked.commits[0])
                )
                world.log["done"] += 1
            elif isinstance(error, REFUSALS) and not doubtful:
                asked.refused(world.now_s)
                world.log["refused"] += 1
            elif isinstance(asked.request, Transaction) and attempt < ATTEMPTS and not isinstance(error, REFUSALS):
                world.log["asked again"] += 1
                world.later(
                    world.delay(3.0), lambda: self._attempt(asked, attempt + 1, doubtful=doubtful), outside=True
                )
                return
            else:
                world.log["unclear"] += 1
            world.later(world.delay(2.0), self.go_on, outside=True)

        world.later(PATIENCE_S, lambda: take_in(None, None), outside=True)
        for after_s in arrivals:
            world.later(after_s, lambda: world.ask(asked, told), outside=True)
