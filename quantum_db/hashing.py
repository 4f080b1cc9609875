"""Hash tables whose entries are rows of arrays, so that thousands of keys are looked up in a few array operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int32]
NONE: Final = -1


class HashChains:
    """Which rows have a 64-bit key: chained hashing, with the chains in arrays. 16 to 20 bytes a row.

    Rows are the caller's. Chains are about one row long on average, and a batch walks all of its chains side by side.
    """

    def __init__(self, rows: int) -> None:
        """Make room for rows below ``rows``. ``keys`` are those of all rows."""
        self.keys = np.zeros(rows, dtype=np.int64)
        self._next = np.full(rows, NONE, dtype=np.int32)
        self._heads = np.full(1 << max(1, (rows - 1).bit_length()), NONE, dtype=np.int32)
        self._mask = len(self._heads) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.keys.nbytes + self._next.nbytes + self._heads.nbytes

    def find(
        self, keys: NDArray[np.int64], same: Callable[[Rows, NDArray[np.intp]], NDArray[np.bool_]] | None = None
    ) -> Rows:
        """Return the row of each key, ``NONE`` where there is none.

        Args:
            same: tells which of the rows, whose keys are equal, belong to what is looked for at these positions.
        """
        found: Rows = self._heads[keys & self._mask]
        walking = np.flatnonzero(found != NONE)
        while walking.size:
            rows = found[walking]
            here = self.keys[rows] == keys[walking]
            if same is not None:
                here[here] = same(rows[here], walking[here])
            walking = walking[~here]
            found[walking] = self._next[found[walking]]
            walking = walking[found[walking] != NONE]
        return found

    def find_one(self, key: int, same: Callable[[int], bool]) -> int:
        """Return the row of one key, or ``NONE``."""
        row = int(self._heads[key & self._mask])
        while row != NONE and not (int(self.keys[row]) == key and same(row)):
            row = int(self._next[row])
        return row

    def add(self, rows: Rows, keys: NDArray[np.int64]) -> None:
        """Hold rows that are not held yet."""
        self.keys[rows] = keys
        self._link(rows)

    def remove(self, rows: Rows) -> None:
        """Let go of held rows. The chains that they are in are made anew."""
        buckets = np.unique(self.keys[rows] & self._mask)
        chained, members = self._heads[buckets], []
        while (chained := chained[chained != NONE]).size:
            members.append(chained)
            chained = self._next[chained]
        self._heads[buckets] = NONE
        if members:
            self._link(np.setdiff1d(np.concatenate(members), rows, assume_unique=True))

    def chain_lengths(self) -> NDArray[np.int64]:
        """Return the length of each chain; a cycle makes it longer than there are rows. For tests."""
        lengths, buckets = np.zeros(len(self._heads), dtype=np.int64), np.arange(len(self._heads))
        chained = self._heads
        while lengths.max() <= len(self.keys) and (buckets := buckets[chained != NONE]).size:
            lengths[buckets] += 1
            chained = self._next[chained[chained != NONE]]
        return lengths

    def _link(self, rows: Rows) -> None:
        if not rows.size:
            return
        packed = np.sort(((self.keys[rows] & self._mask) << 32) | rows)
        buckets, ordered = packed >> 32, (packed & 0xFFFFFFFF).astype(np.int32)
        last = np.append(buckets[1:] != buckets[:-1], True)
        following = np.append(ordered[1:], np.int32(NONE))
        self._next[ordered] = np.where(last, self._heads[buckets], following)
        first = np.append(True, last[:-1])
        self._heads[buckets[first]] = ordered[first]


class IdIndex:
    """Which row an id has; rows are handed out and taken back here.

    Ids are found by Python's keyed 64-bit hash, which a stranger cannot make collide, and are then compared as strings.
    """

    def __init__(self, rows: int) -> None:
        """Make room for ``rows`` ids."""
        self.ids: NDArray[np.object_] = np.full(rows, None, dtype=np.object_)
        self._chains = HashChains(rows)
        self._free = np.arange(rows - 1, -1, -1, dtype=np.int32)
        self._free_count = rows

    def __len__(self) -> int:
        return len(self.ids) - self._free_count

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, without the strings that they point to."""
        return self.ids.nbytes + self._free.nbytes + self._chains.nbytes

    def find(self, ids: NDArray[np.object_]) -> Rows:
        """Return the row of each id, ``NONE`` where there is none."""
        return self._chains.find(_hashes(ids), lambda rows, at: np.asarray(self.ids[rows] == ids[at], dtype=np.bool_))

    def find_one(self, one: str) -> int:
        """Return the row of one id, or ``NONE``."""
        return self._chains.find_one(hash(one), lambda row: bool(self.ids[row] == one))

    def add(self, ids: NDArray[np.object_]) -> Rows:
        """Give rows to ids that are distinct and have none. There must be room."""
        assert len(ids) <= self._free_count
        self._free_count -= len(ids)
        rows = self._free[self._free_count : self._free_count + len(ids)].copy()
        self.ids[rows] = ids
        self._chains.add(rows, _hashes(ids))
        return rows

    def remove(self, rows: Rows) -> None:
        """Take rows back."""
        self._chains.remove(rows)
        self.ids[rows] = None
        self._free[self._free_count : self._free_count + len(rows)] = rows
        self._free_count += len(rows)

    def rows(self) -> Rows:
        """Return the rows that are in use."""
        used = np.ones(len(self.ids), dtype=np.bool_)
        used[self._free[: self._free_count]] = False
        return np.flatnonzero(used).astype(np.int32)

    def validate(self) -> None:
        """Raise AssertionError if an invariant is broken. For tests."""
        rows = self.rows()
        assert len(rows) == len(self), "no row is free twice"
        assert self._chains.chain_lengths().sum() == len(self)
        np.testing.assert_array_equal(self.find(self.ids[rows]), rows)


def _hashes(ids: NDArray[np.object_]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, ids), dtype=np.int64, count=len(ids))
