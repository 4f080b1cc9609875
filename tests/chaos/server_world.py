"""The world of the commit protocol with a store that several readers search by themselves, as a Qdrant server.

Real, besides: ``Visibility`` and ``ReaderLease``. Simulated: the server, which keeps versions, and readers that ask
over the network at which commit they may look; questions and answers are lost, late or repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from quantum_db.commits import steps
from quantum_db.commits.planning import Needs, Stored
from quantum_db.commits.visibility import KEEP_S, LEASE_S, LOOK_S, ReaderLease, Told, Visibility
from quantum_db.model import Entity
from tests.chaos.commit_parts import SimulatedStore
from tests.chaos.commit_world import Faults, World

READERS = 3
LATEST = 1 << 53
POLL_S = 0.3
ANSWER_S = 2.0
DROP_S = 5.0
READERS_UNTIL_S = 60.0
"""Readers end at some time before; their leases run out, and everything comes to an end."""


class SimulatedServer(SimulatedStore):
    """Versions of entities, as ``quantum_db.stores.points`` tells: by id and birth, with a death or without."""

    versions: dict[str, dict[int, tuple[Entity, int | None]]]

    def start(self) -> SimulatedServer:
        """Begin without entities."""
        self.versions = {}
        self.wrong: list[str] = []
        return self

    def seen_at(self, ids: Iterable[str], commit: int) -> dict[str, Entity | None]:
        """Return what a reader sees who looks at a commit."""
        found: dict[str, Entity | None] = {}
        for one in ids:
            seen = [
                entity
                for born, (entity, died) in self.versions.get(one, {}).items()
                if born <= commit and (died is None or died > commit)
            ]
            if len(seen) > 1:
                self.wrong.append(f"duplicate: {len(seen)} versions of {one} are seen at {commit}")
            found[one] = seen[0] if seen else None
        return found

    def fetch(self, ids: Iterable[str]) -> dict[str, Entity | None]:
        return self.seen_at(ids, LATEST)

    def read(self, needs: Needs) -> Stored:
        entities, found = self.fetch(needs.entities), self.fetch(needs.versions)
        versions = {one: None if entity is None else entity.version for one, entity in found.items()}
        return Stored(entities, versions, 2 if self.versions else None)

    def erase(self, ids: Sequence[str], probability: float, dies: float) -> list[bool]:
        there = [entity is not None for entity in self.fetch(ids).values()]
        self._change([(one, None) for one in ids], probability, dies)
        return there

    def apply(
        self, commit: int, upserts: Sequence[Entity], deletes: Sequence[str], probability: float, dies: float
    ) -> None:
        changes = [lambda one=one: self._write(one, commit) for one in upserts]
        ends = [lambda one=one: self._end(one, commit) for one in (*(entity.id for entity in upserts), *deletes)]
        self._in_part([*ends, *changes] if self.plant == "ended early" else [*changes, *ends], probability, dies)

    def sweep(self, through: int) -> int:
        """Drop the versions that are dead at a commit; return how many."""
        dead = [
            (one, born)
            for one, versions in self.versions.items()
            for born, (_, died) in versions.items()
            if died is not None and died <= through
        ]
        for one, born in dead:
            del self.versions[one][born]
        return len(dead)

    def _write(self, entity: Entity, born: int) -> None:
        self.versions.setdefault(entity.id, {})[born] = (entity, None)

    def _end(self, entity_id: str, commit: int) -> None:
        died = commit - 1 if self.plant == "ended early" else commit
        versions = self.versions.get(entity_id, {})
        for born, (entity, dead) in versions.items():
            if dead is None and born < commit:
                versions[born] = (entity, died)

    def _set(self, entity_id: str, entity: Entity | None) -> None:
        """Write plainly: in place of the latest version."""
        versions = self.versions.setdefault(entity_id, {})
        alive = [born for born, (_, died) in versions.items() if died is None]
        born = alive[0] if alive else max((died for _, died in versions.values() if died is not None), default=0)
        if entity is not None:
            versions[born] = (entity, None)
        elif alive:
            del versions[born]


class Reader:
    """A replica: it keeps its lease, and looks now and then."""

    def __init__(self, world: ServerWorld, name: str, until_s: float) -> None:
        self._world, self._name, self._until_s = world, name, until_s
        self._lease = ReaderLease()
        self._asked = 0

    def go_on(self) -> None:
        """Ask once more, unless this reader has ended."""
        world = self._world
        if world.now_s > self._until_s:
            return
        self._asked += 1
        question, asked_at_s, commit = self._asked, world.now_s, self._lease.commit

        def told(answer: Told) -> None:
            if question == self._asked:  # what comes later than the next question is not waited for
                self._lease.take(answer, asked_at_s)
                self._asked += 1
                world.later(world.delay(POLL_S), self.go_on, outside=True)

        def give_up() -> None:
            if question == self._asked:
                world.log["a reader asked in vain"] += 1
                self.go_on()

        world.later(ANSWER_S, give_up, outside=True)
        for after_s in world.arrivals(ANSWER_S):
            world.later(after_s, lambda: world.follow(self._name, commit, told), outside=True)

    def look(self) -> None:
        """Look at all entities at one commit, in two calls."""
        world = self._world
        commit = self._lease.at(world.now_s)
        if world.plant == "leases do not end":
            commit = self._lease.commit
        if commit is None:
            world.log["a reader had no lease"] += 1
            return
        begun_at, half = world.now_s, len(world.ids) // 2
        first = world.server.seen_at(world.ids[:half], commit)

        def rest() -> None:
            if world.now_s - begun_at <= LOOK_S:
                world.note_look(begun_at, first | world.server.seen_at(world.ids[half:], commit))

        long = world.rng.random() < 0.2
        world.later(float(world.rng.uniform(0.0, 1.2 * LOOK_S if long else 0.5)), rest, outside=True)


class ServerWorld(World):
    """One run; see ``World``."""

    server: SimulatedServer
    redoes = False

    def __init__(self, seed: int, *, faults: Faults | None = None, plant: str = "") -> None:
        super().__init__(seed, faults=faults, plant=plant)
        for n in range(READERS):
            until_s = float(self.rng.uniform(0.3, 1.0)) * READERS_UNTIL_S
            reader = Reader(self, f"r{n}", until_s)
            self.later(self.delay(), reader.go_on, outside=True)
            for _ in range(12):
                self.later(float(self.rng.uniform(0.5, until_s)), reader.look, outside=True)

    @property
    def ids(self) -> Sequence[str]:
        """All that there may be."""
        return self._ids

    def check(self) -> list[str]:
        return [*super().check(), *dict.fromkeys(self.server.wrong)]

    def note_look(self, begun_at: float, found: dict[str, Entity | None]) -> None:
        """Note what a reader saw."""
        self.log["looked"] += 1
        self._note_seen(begun_at, found)

    def follow(self, reader: str, commit: int | None, told: object) -> None:
        """A reader's question has arrived."""
        if self.protocol is None or not self.protocol.recovered:
            return
        assert callable(told)
        self.visibility.acknowledge(reader, commit)
        self._end_shows()
        answer = self.visibility.tell(reader, self.now_s)
        if not self.strikes(self.faults.lost):
            self.later(self.delay(), lambda: told(answer), outside=True)

    def _make_store(self) -> SimulatedStore:
        self.server = SimulatedServer(self.rng, self.strikes).start()
        return self.server

    def _read(self) -> None:
        """Look as a reader that has just come: at what is visible."""
        if self.protocol is not None and self.protocol.recovered:
            self._note_seen(self.now_s, self.server.seen_at(self._ids, self.visibility.commit))

    def _start(self) -> None:
        grace_s = 100.0 if self.plant == "earlier readers are forgotten" else 0.0
        keep_s = LEASE_S if self.plant == "dropped at once" else KEEP_S
        self.visibility = Visibility(self.now_s - grace_s, keep_s=keep_s)
        self._showing: list[steps.Show] = []
        super()._start()
        self._note_visible()
        self.later(DROP_S, self._drop)

    def _drop(self) -> None:
        through = self.visibility.droppable(self.now_s)
        if through:
            self.log["dropped"] += self.server.sweep(through)
        if self.now_s < READERS_UNTIL_S + 2.0 * KEEP_S:
            self.later(DROP_S, self._drop)

    def _on(self, event: steps.Event) -> None:
        super()._on(event)
        self._note_visible()

    def _note_visible(self) -> None:
        if self.protocol is not None:
            early = self.plant == "visible too early"
            self.visibility.raise_to(self.protocol._next - 1 if early else self.protocol.visible, self.now_s)
            self._end_shows()

    def _show(self, command: steps.Show) -> None:
        self._showing.append(command)
        self._end_shows()

    def _end_shows(self) -> None:
        shown = LATEST if self.plant == "readers are not waited for" else self.visibility.shown(self.now_s)
        for command in [one for one in self._showing if one.intent.commit <= shown]:
            self._showing.remove(command)
            self.later(0.0, lambda work=command.work: self._on(steps.Done(work)))
        end_s = self.visibility.next_end_s(self.now_s)
        if self._showing and end_s is not None:
            self.log["a lease was waited for"] += 1
            self.later(end_s - self.now_s, self._end_shows)


def _again(seed: int) -> None:
    world = ServerWorld(seed)
    world.run()
    for asked in world.history.asked.values():
        print(
            f"{asked.begun_at:8.3f} {asked.ended_at:8.3f} {asked.tag:3} {asked.outcome} {asked.commits} {asked.writes}"
        )
    print(dict(world.log))
    print("\n".join(world.check()) or "nothing is wrong")


if __name__ == "__main__":
    _again(int(sys.argv[1]))
