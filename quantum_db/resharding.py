"""Another number of shards: the records of the old shards' snapshots, each sent to its new shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from quantum_db.last_numbers import is_of_numbers, split_numbers
from quantum_db.sharding import shard_of

Record = Mapping[str, Any]


def resharded(
    snapshots: Iterable[Iterable[Record]], shards: int, key: Callable[[Record], str]
) -> Iterator[tuple[int, Record]]:
    """Yield (new shard, record), in order. Tables that restore the records of their shards hold what the old ones did.

    Args:
        snapshots: one for each old shard, whatever their number was.
        key: returns the id that decides a record's shard.
    """
    for snapshot in snapshots:
        for record in snapshot:
            if is_of_numbers(record):
                yield from split_numbers(record, shards)
            else:
                yield shard_of(key(record), shards), record
