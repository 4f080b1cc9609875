"""What is kept is never older than the last acknowledged write: with slow and lost followers, and a new teller."""

from __future__ import annotations

import asyncio
import random

import pytest

from quantum_db.clock import SystemClock
from quantum_db.commits.changes import Changes, ChangeTeller, FollowedChanges, Place
from quantum_db.errors import Unavailable
from quantum_db.kept_answers import CachePolicy, KeptAnswers, Made, Outcome
from quantum_db.model import Answer, Refinement, StageTimes

CLOCK = SystemClock()
LEASE_S = 0.15
LIMIT_S = 60.0
COLLECTIONS = ("a", "b")
NOW = Answer((), "classical", 0, Refinement(False, "the mode runs no circuits", "exact"), StageTimes(0, 0, 0, 0))


class Hasty(ChangeTeller):
    """A planted fault: a write does not wait for those who keep."""

    async def changed(self, collection: str) -> None:
        asyncio.get_running_loop().create_task(super().changed(collection))
        await asyncio.sleep(0)


class Confused(ChangeTeller):
    """A planted fault: whichever collection has changed, another one is told of."""

    async def changed(self, collection: str) -> None:
        await super().changed("a")


class World:
    """A store of numbers, its teller, and replicas that keep what they read."""

    def __init__(self, kind: type[ChangeTeller], seed: int) -> None:
        self.rng = random.Random(seed)
        self.kind = kind
        self.started = 0
        self.stored = dict.fromkeys(COLLECTIONS, 0)
        self.acknowledged = dict.fromkeys(COLLECTIONS, 0)
        self.outcomes: list[Outcome] = []
        self.faults: list[str] = []
        self.teller = self.new_teller()
        self.replicas = [self.replica(f"r{i}") for i in range(3)]

    def new_teller(self) -> ChangeTeller:
        self.started += 1
        return self.kind(f"teller-{self.started}", CLOCK, lease_s=LEASE_S)

    def replica(self, name: str) -> tuple[FollowedChanges, KeptAnswers]:
        async def asked(follower: str, known: Place | None, hold_s: float) -> Changes:
            await self.pause()
            if self.rng.random() < 0.02:
                raise Unavailable("the question was lost")
            found = await self.teller.follow(follower, known, min(hold_s, 0.02))
            await self.pause()
            if self.rng.random() < 0.02:
                raise Unavailable("the answer was lost")
            return found

        versions = FollowedChanges(name, asked, CLOCK)
        return versions, KeptAnswers(CachePolicy(10_000, 60.0), versions, CLOCK, self.outcomes.append)

    async def pause(self) -> None:
        await asyncio.sleep(self.rng.choice([0.0, 0.0, 0.001, 0.004]))

    async def write(self, collection: str) -> None:
        """As the store's actor does: what is written is told to all before it is acknowledged."""
        self.stored[collection] += 1
        number = self.stored[collection]
        await self.teller.changed(collection)
        self.acknowledged[collection] = max(self.acknowledged[collection], number)

    async def read(self, cache: KeptAnswers, collection: str) -> None:
        async def make() -> Made:
            await self.pause()
            number = self.stored[collection]
            await self.pause()
            return Made(NOW, {"number": number})

        least = self.acknowledged[collection]
        found = (await cache.answer("tenant", collection, {"vector": [1.0]}, make))["number"]
        if found < least:
            self.faults.append(f"{collection}: {found} after {least} was acknowledged")

    async def run(self, writes: int) -> None:
        """Read without end, until each collection was written so often; in the middle there is a new teller."""
        for versions, _ in self.replicas:
            versions.start()

        async def read_on(cache: KeptAnswers) -> None:
            while True:
                await self.read(cache, self.rng.choice(COLLECTIONS))
                await self.pause()

        async def write_all(collection: str) -> None:
            for number in range(writes):
                if number == writes // 2 and collection == "a":
                    self.teller = self.new_teller()
                await self.write(collection)
                await self.pause()

        readers = [asyncio.create_task(read_on(cache)) for _, cache in self.replicas for _ in "ab"]
        try:
            async with asyncio.timeout(LIMIT_S):
                await asyncio.gather(*(write_all(collection) for collection in COLLECTIONS))
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            for versions, _ in self.replicas:
                await versions.stop()


async def test_no_answer_is_older_than_an_acknowledged_write() -> None:
    outcomes: set[Outcome] = set()
    for seed in range(2):
        world = World(ChangeTeller, seed)
        await world.run(12)
        assert world.faults == []
        outcomes |= set(world.outcomes)
    assert outcomes >= {"local", "joined", "computed"}, "what is kept was used"


@pytest.mark.parametrize("plant", [Hasty, Confused])
async def test_the_check_sees_planted_faults(plant: type[ChangeTeller]) -> None:
    for seed in range(20):
        world = World(plant, seed)
        await world.run(12)
        if world.faults:
            return
    pytest.fail(f"{plant.__name__} was not found out")


async def test_without_a_lease_nothing_that_is_kept_is_used() -> None:
    async def nobody(follower: str, known: Place | None, hold_s: float) -> Changes:
        raise Unavailable("nobody is there")

    versions = FollowedChanges("r", nobody, CLOCK)
    versions.start()
    outcomes: list[Outcome] = []
    cache = KeptAnswers(CachePolicy(10_000, 60.0), versions, CLOCK, outcomes.append)
    numbers = iter(range(10))

    async def make() -> Made:
        return Made(NOW, {"number": next(numbers)})

    found = [(await cache.answer("t", "a", {}, make))["number"] for _ in range(2)]
    await versions.stop()
    assert (found, outcomes) == ([0, 1], ["unknown_version", "unknown_version"])


async def test_a_write_waits_for_a_follower_that_stands_still_no_longer_than_its_lease() -> None:
    teller = ChangeTeller("t", CLOCK, lease_s=LEASE_S)
    await asyncio.sleep(LEASE_S)  # an earlier teller's leases
    await teller.changed("a")
    assert (await teller.follow("still", None, 0.0)).collections == {"a": 1}
    start_s = CLOCK.monotonic_s()
    await teller.changed("b")
    assert CLOCK.monotonic_s() - start_s > LEASE_S / 2
    told = await teller.follow("later", ("t", 1), 0.0)
    assert told.collections == {"b": 2}
    assert (await teller.follow("stranger", ("another", 2), 0.0)).collections == {"a": 1, "b": 2}
