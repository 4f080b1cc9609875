"""How many shards a kind of thing is split over, where their journals are, and the way to another number.

A layout has a generation. Its shards' journals bear it in their names, so those of two layouts never meet. The journal
of layouts has one record for each that came to be valid, and one when the journals of the one before it are gone:

    {"generation": 4, "shards": 2}        the new shards' journals are complete: from here on they are what counts
    {"removed": 3}                        those of the old layout have been emptied

A crash before the first of them leaves the old layout valid, and what was written of the new one is begun anew; a crash
between the two leaves journals that the next start removes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic

from quantum_db.errors import CorruptData
from quantum_db.journals.keeper import Held, load
from quantum_db.journals.open import open_journal
from quantum_db.ports import Journal

logger = logging.getLogger(__name__)

MAX_APPENDED: Final = 1_000
"""Records of a new shard that are written at once."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """Where a shard's records are: the URL of a journal, and the stream in it."""

    url: str
    stream: str


@dataclass(frozen=True, slots=True)
class Layout:
    """A number of shards, and which generation of layouts it is."""

    generation: int
    shards: int


@dataclass(frozen=True, slots=True)
class Places:
    """Where the journals of a kind of thing are.

    Attributes:
        kind: ``states``, ``groups``.
        folder: of SQLite files, one for each shard, where there is no ``url``.
        url: of one journal for all shards.
    """

    kind: str
    folder: Path
    url: str | None = None

    def layouts(self) -> ShardPlace:
        """Return where the layouts are told."""
        return self._place(f"{self.kind}-layouts")

    def shard(self, layout: Layout, shard: int) -> ShardPlace:
        """Return where a shard of a layout is."""
        return self._place(f"{self.kind}-{layout.generation}-{shard}")

    def _place(self, name: str) -> ShardPlace:
        return ShardPlace(self.url or f"sqlite:///{self.folder / name}.sqlite", name)


@dataclass(frozen=True, slots=True)
class Kind(Generic[Held]):
    """How the shards of a kind of thing are read and split.

    Attributes:
        fresh: returns an empty shard.
        split: yields (new shard, record) of all that a shard holds, for a number of shards.
    """

    fresh: Callable[[], Held]
    split: Callable[[Held, int], Iterator[tuple[int, Json]]]


def settle(places: Places, shards: int, kind: Kind[Held]) -> Layout:
    """Return the valid layout, made to have ``shards`` shards. No shard is in use meanwhile. Idempotent.

    Raises:
        CorruptData: a journal cannot be read; the old layout stays.
        Unavailable: a journal does not answer; the next call goes on.
    """
    place = places.layouts()
    journal = open_journal(place.url)
    try:
        epoch = journal.begin_epoch(place.stream)
        valid, old = _read(journal, place.stream)
        if valid is None or valid.shards != shards:
            new = Layout(1 if valid is None else valid.generation + 1, shards)
            if valid is not None:
                if old is not None:
                    _remove(places, old, journal, place.stream, epoch)
                logger.warning("%s go from %d to %d shards", places.kind, valid.shards, shards)
                _move(places, valid, new, kind)
            journal.append(place.stream, [{"generation": new.generation, "shards": shards}], epoch=epoch)
            valid, old = new, valid
        if old is not None:
            _remove(places, old, journal, place.stream, epoch)
        return valid
    finally:
        journal.close()


def _read(journal: Journal, stream: str) -> tuple[Layout | None, Layout | None]:
    """Return the valid layout, and the one before it if its journals may still be there."""
    valid = old = None
    for number, record in journal.read(stream):
        try:
            if "removed" in record:
                old = None
            else:
                valid, old = Layout(int(record["generation"]), int(record["shards"])), valid
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptData(f"record {number} of {stream} cannot be understood: {error!r}") from error
    return valid, old


def _move(places: Places, old: Layout, new: Layout, kind: Kind[Held]) -> None:
    """Write all that the old shards hold to the new ones, which begin empty. One old shard is in memory at a time."""
    opened = [places.shard(new, shard) for shard in range(new.shards)]
    targets = [(open_journal(place.url), place.stream) for place in opened]
    try:
        for journal, stream in targets:
            journal.compact(stream, journal.last(stream), [], epoch=journal.begin_epoch(stream))
        for shard in range(old.shards):
            parts: list[list[Json]] = [[] for _ in targets]
            for target, record in kind.split(_loaded(places.shard(old, shard), kind), new.shards):
                parts[target].append(record)
            for (journal, stream), records in zip(targets, parts, strict=True):
                for start in range(0, len(records), MAX_APPENDED):
                    journal.append(stream, records[start : start + MAX_APPENDED])
    finally:
        for journal, _ in targets:
            journal.close()


def _loaded(place: ShardPlace, kind: Kind[Held]) -> Held:
    kept, journal = kind.fresh(), open_journal(place.url)
    try:
        load(kept, journal, place.stream)
    finally:
        journal.close()
    return kept


def _remove(places: Places, old: Layout, layouts: Journal, stream: str, epoch: int) -> None:
    """Empty the journals of a layout that is not valid any more, and note that it has been done."""
    for shard in range(old.shards):
        place = places.shard(old, shard)
        journal = open_journal(place.url)
        try:
            journal.compact(place.stream, journal.last(place.stream), [], epoch=journal.begin_epoch(place.stream))
        finally:
            journal.close()
    layouts.append(stream, [{"removed": old.generation}], epoch=epoch)
