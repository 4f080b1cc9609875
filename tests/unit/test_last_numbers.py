"""Numbers of what is gone: exact as long as there is room, and never below what was given."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db import last_numbers as module
from quantum_db.errors import CorruptData
from quantum_db.last_numbers import LastNumbers, split_numbers
from quantum_db.sharding import digest_of, shard_of, shard_of_digest

IDS = [f"e{number}" for number in range(60)]
PUTS = st.lists(st.dictionaries(st.sampled_from(IDS), st.integers(1, 50)), max_size=30)


def ids_of(names: list[str]) -> np.ndarray:
    return np.array(names, dtype=np.object_)


def put(numbers: LastNumbers, given: dict[str, int]) -> None:
    numbers.put(ids_of([*given]), np.array([*given.values()], dtype=np.uint32))


@settings(deadline=None)
@given(puts=PUTS, bound=st.sampled_from([2, 3, 10, 100]))
def test_it_is_exact_within_its_bound_and_never_too_low(puts: list[dict[str, int]], bound: int) -> None:
    numbers, model = LastNumbers(bound), dict[str, int]()
    for given_numbers in puts:
        put(numbers, given_numbers)
        for name, number in given_numbers.items():
            model[name] = max(model.get(name, 0), number)
    found = dict(zip(IDS, numbers.last(ids_of(IDS)).tolist(), strict=True))
    assert len(numbers) <= bound
    for name in IDS:
        assert found[name] >= model.get(name, 0)
        assert found[name] in (model.get(name, 0), numbers.floor)
    if len(model) <= bound:
        assert numbers.floor == 0
    again = LastNumbers(bound)
    for record in numbers.snapshot():
        again.restore(json.loads(json.dumps(record)))
    assert again.last(ids_of(IDS)).tolist() == [*found.values()]


def test_the_smaller_half_is_forgotten_first() -> None:
    numbers = LastNumbers(4)
    put(numbers, {"a": 1, "b": 9, "c": 2, "d": 8})
    put(numbers, {"e": 3})
    assert (numbers.floor, len(numbers)) == (2, 3)
    assert numbers.last(ids_of(["a", "b", "c", "d", "e", "new"])).tolist() == [2, 9, 2, 8, 3, 2]


@settings(deadline=None)
@given(given_numbers=st.dictionaries(st.sampled_from(IDS), st.integers(1, 50)), shards=st.integers(1, 5))
def test_a_snapshot_is_split_by_the_shards_of_the_ids(given_numbers: dict[str, int], shards: int) -> None:
    numbers = LastNumbers(100)
    put(numbers, given_numbers)
    parts = [LastNumbers(100) for _ in range(shards)]
    for record in numbers.snapshot():
        for shard, part in split_numbers(record, shards):
            parts[shard].restore(part)
    assert sum(map(len, parts)) == len(given_numbers)
    for name, number in given_numbers.items():
        assert parts[shard_of(name, shards)].last(ids_of([name])).tolist() == [number]


@given(name=st.text(), shards=st.integers(1, 9))
def test_a_digest_decides_the_same_shard_as_its_id(name: str, shards: int) -> None:
    assert shard_of_digest(digest_of(name), shards) == shard_of(name, shards) < shards


def test_hashes_are_the_same_in_every_version() -> None:
    """What is stored today is split by them tomorrow."""
    assert (shard_of("doc_123", 1 << 32), digest_of("doc_123")) == (566403758, 2432685620674303309)
    assert shard_of("\ud800", 7) < 7, "an id that is not valid UTF-8 has a shard, too"


def test_a_large_snapshot_is_several_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECORD_SIZE", 7)
    numbers = LastNumbers(100)
    put(numbers, dict.fromkeys(IDS, 3))
    records = list(numbers.snapshot())
    assert len(records) == 9
    again = LastNumbers(100)
    for record in records:
        again.restore(record)
    assert again.last(ids_of(IDS)).tolist() == [3] * len(IDS)


@pytest.mark.parametrize(
    "record",
    [
        {"floor": 1, "digests": [1]},
        {"floor": 1, "digests": [1], "numbers": []},
        {"floor": 1, "digests": [-1], "numbers": [1]},
        {"floor": 1, "digests": ["x"], "numbers": [1]},
        {"floor": -1, "digests": [], "numbers": []},
        {"floor": 1, "digests": [1], "numbers": [2**32]},
    ],
)
def test_a_broken_record_is_told(record: dict[str, object]) -> None:
    with pytest.raises(CorruptData, match="a record of last numbers cannot be read"):
        LastNumbers(10).restore(record)
