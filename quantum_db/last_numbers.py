"""The last number of things that are gone, in bounded memory, so that no number is given twice to the same id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.errors import CorruptData
from quantum_db.hashing import NONE, HashChains
from quantum_db.sharding import digest_of, shard_of_digest

RECORD_SIZE: Final = 4_096
"""Ids in one record of a snapshot."""

_UINT32_MAX: Final = 2**32 - 1


class LastNumbers:
    """Remembers numbers by 64-bit digests of ids, 20 bytes for each id that it has room for.

    Beyond ``bound`` ids the smaller half of the numbers is forgotten, and ``floor`` becomes the largest forgotten one:
    who is not remembered is taken to have had ``floor``. So the next number of an id is always above all that it had,
    and it is exactly one above for as long as the id is remembered. Two ids with one digest share their numbers.
    """

    def __init__(self, bound: int) -> None:
        """Start empty. ``bound`` is at least 2."""
        self._bound = bound
        self._clear()
        self.floor = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self._numbers.nbytes + self._chains.nbytes

    def last(self, ids: NDArray[np.object_]) -> NDArray[np.uint32]:
        """Return the last number of each id, or ``floor``."""
        numbers = np.full(len(ids), self.floor, dtype=np.uint32)
        if self._count:
            rows = self._chains.find(_digests(ids))
            known = rows != NONE
            numbers[known] = np.maximum(self._numbers[rows[known]], numbers[known])
        return numbers

    def put(self, ids: NDArray[np.object_], numbers: NDArray[np.uint32]) -> None:
        """Remember numbers. A number below one that is known changes nothing."""
        above = numbers > self.floor
        if above.any():
            self._put(_digests(ids[above]), numbers[above])

    def snapshot(self) -> Iterator[dict[str, Any]]:
        """Return JSON records from which ``restore`` makes the same memory, as it is when this is called."""
        digests, numbers = self._chains.keys[: self._count].copy(), self._numbers[: self._count].copy()
        return _records(self.floor, digests.view(np.uint64), numbers)

    def restore(self, record: Mapping[str, Any]) -> None:
        """Take in one record of a snapshot, beside what is known. Raises CorruptData."""
        try:
            digests = np.array(record["digests"], dtype=np.uint64).view(np.int64)
            numbers = np.array(record["numbers"], dtype=np.uint32)
            floor = int(record["floor"])
            if digests.ndim != 1 or digests.shape != numbers.shape or not 0 <= floor <= _UINT32_MAX:
                raise ValueError("its columns do not fit")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CorruptData(f"a record of last numbers cannot be read: {error!r}") from error
        self.floor = max(self.floor, floor)
        self._put(digests, numbers)

    def _put(self, digests: NDArray[np.int64], numbers: NDArray[np.uint32]) -> None:
        step = self._bound // 2
        for start in range(0, len(digests), step):
            self._put_few(digests[start : start + step], numbers[start : start + step])

    def _put_few(self, digests: NDArray[np.int64], numbers: NDArray[np.uint32]) -> None:
        distinct, place = np.unique(digests, return_inverse=True)
        largest = np.zeros(len(distinct), dtype=np.uint32)
        np.maximum.at(largest, place, numbers)
        rows = self._chains.find(distinct)
        known = rows != NONE
        self._numbers[rows[known]] = np.maximum(self._numbers[rows[known]], largest[known])
        new = ~known & (largest > self.floor)
        if self._count + np.count_nonzero(new) > self._bound:
            self._forget()
            new &= largest > self.floor
        self._append(distinct[new], largest[new])

    def _append(self, digests: NDArray[np.int64], numbers: NDArray[np.uint32]) -> None:
        rows = np.arange(self._count, self._count + len(digests), dtype=np.int32)
        self._numbers[rows] = numbers
        self._chains.add(rows, digests)
        self._count += len(digests)

    def _forget(self) -> None:
        digests, numbers = self._chains.keys[: self._count], self._numbers[: self._count]
        forgotten = self._count - self._bound // 2
        self.floor = max(self.floor, int(np.partition(numbers, forgotten - 1)[forgotten - 1]))
        kept = numbers > self.floor
        self._clear()
        self._append(digests[kept], numbers[kept])

    def _clear(self) -> None:
        self._numbers = np.zeros(self._bound, dtype=np.uint32)
        self._chains = HashChains(self._bound)
        self._count = 0


def _records(floor: int, digests: NDArray[np.uint64], numbers: NDArray[np.uint32]) -> Iterator[dict[str, Any]]:
    for start in range(0, max(1, len(numbers)), RECORD_SIZE):
        part = slice(start, start + RECORD_SIZE)
        yield {"floor": floor, "digests": digests[part].tolist(), "numbers": numbers[part].tolist()}


def is_of_numbers(record: Mapping[str, Any]) -> bool:
    """Return whether a record of some table's snapshot is one of its last numbers."""
    return "floor" in record


def split_numbers(record: Mapping[str, Any], shards: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield what a record of last numbers tells each of the shards; all learn of the floor."""
    parts: list[tuple[list[int], list[int]]] = [([], []) for _ in range(shards)]
    for digest, number in zip(record["digests"], record["numbers"], strict=True):
        digests, numbers = parts[shard_of_digest(digest, shards)]
        digests.append(digest)
        numbers.append(number)
    for shard, (digests, numbers) in enumerate(parts):
        yield shard, {"floor": record["floor"], "digests": digests, "numbers": numbers}


def _digests(ids: NDArray[np.object_]) -> NDArray[np.int64]:
    return np.fromiter(map(digest_of, ids), dtype=np.uint64, count=len(ids)).view(np.int64)
