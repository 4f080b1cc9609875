"""Rows by key, against dicts; keys that collide too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quantum_db.hashing import NONE, HashChains, IdIndex

ROOM = 12
IDS = [f"id{number}" for number in range(20)]


class Colliding(str):
    """A string whose hash is one of two."""

    __slots__ = ()

    def __hash__(self) -> int:
        return len(self) % 2


class IndexMachine(RuleBasedStateMachine):
    kind: type[str] = str

    def __init__(self) -> None:
        super().__init__()
        self.index, self.model = IdIndex(ROOM), dict[str, int]()

    @rule(ids=st.lists(st.sampled_from(IDS), unique=True))
    def add(self, ids: list[str]) -> None:
        new = [self.kind(one) for one in ids if one not in self.model][: ROOM - len(self.model)]
        rows = self.index.add(np.array(new, dtype=np.object_))
        assert not {*rows.tolist()} & {*self.model.values()}
        self.model |= {str(one): row for one, row in zip(new, rows.tolist(), strict=True)}

    @rule(ids=st.lists(st.sampled_from(IDS), unique=True))
    def remove(self, ids: list[str]) -> None:
        known = [one for one in ids if one in self.model]
        self.index.remove(np.array([self.model.pop(one) for one in known], dtype=np.int32))

    @invariant()
    def agree(self) -> None:
        self.index.validate()
        assert sorted(self.index.rows().tolist()) == sorted(self.model.values())
        expected = [self.model.get(one, NONE) for one in IDS]
        asked = [self.kind(one) for one in IDS]
        assert self.index.find(np.array(asked, dtype=np.object_)).tolist() == expected
        assert [self.index.find_one(one) for one in asked] == expected


class CollidingMachine(IndexMachine):
    kind = Colliding


TestIndex = IndexMachine.TestCase
TestColliding = CollidingMachine.TestCase
TestIndex.settings = TestColliding.settings = settings(max_examples=40, deadline=None)


@given(keys=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, unique=True))
def test_any_64_bit_keys_are_found(keys: list[int]) -> None:
    chains, rows = HashChains(len(keys)), np.arange(len(keys), dtype=np.int32)
    chains.add(rows, np.array(keys, dtype=np.int64))
    np.testing.assert_array_equal(chains.find(np.array(keys, dtype=np.int64)), rows)
    assert chains.chain_lengths().sum() == len(keys)


@pytest.mark.parametrize("fault", ["cycle", "lost", "twice free"])
def test_validate_catches_a_broken_index(fault: str) -> None:
    index = IdIndex(4)
    index.add(np.array(["a", "b"], dtype=np.object_))
    if fault == "cycle":
        row = index.find_one("a")
        index._chains._next[row] = row
    elif fault == "lost":
        index._chains._heads[:] = NONE
    else:
        index._free[0] = index._free[1]
    with pytest.raises(AssertionError):
        index.validate()
