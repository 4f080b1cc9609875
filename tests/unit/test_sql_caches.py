"""Kept plans and results: versions, levels, strategies, damage; and one look-up counts once."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from quantum_db.errors import InvalidSettings
from sql_synthesizer.cache_levels import ENTRY_BYTES, Entry, FileLevel, MemoryLevel
from sql_synthesizer.caches import SqlCachePolicy, SqlCaches, cache_key
from sql_synthesizer.engines.ports import Limits
from sql_synthesizer.guard.check import Checked
from tests.unit.fakes import FakeClock
from tests.unit.test_kept_answers import Shared

CHECKED = Checked("SELECT 1 WHERE $1", (5,), frozenset({"t"}), frozenset(), False, exp.select("1"))
LIMITS = Limits(max_rows=100)
SMALL = ENTRY_BYTES + 60


def caches(clock: FakeClock | None = None, shared: Shared | None = None, **policy: object) -> SqlCaches:
    return SqlCaches(replace(SqlCachePolicy(), **policy), clock or FakeClock(), shared)


def name(number: int) -> bytes:
    return number.to_bytes(20, "big")


def test_the_name_changes_with_all_that_changes_the_answer() -> None:
    plain = ("result", "shop", CHECKED, "s1", "d1", LIMITS)
    others = [
        ("plan", "shop", CHECKED, "s1", "d1", LIMITS),
        ("result", "other", CHECKED, "s1", "d1", LIMITS),
        ("result", "shop", replace(CHECKED, parameters=("5",)), "s1", "d1", LIMITS),
        ("result", "shop", CHECKED, "s2", "d1", LIMITS),
        ("result", "shop", CHECKED, "s1", "d2", LIMITS),
        ("result", "shop", CHECKED, "s1", "d1", replace(LIMITS, max_rows=101)),
        ("result", "shop", CHECKED, "s1", "d1", replace(LIMITS, max_bytes=101)),
    ]
    names = {cache_key(*one) for one in (plain, *others)}  # type: ignore[arg-type]
    assert len(names) == 8
    assert cache_key("result", "shop", CHECKED, "s1", "d1", LIMITS) in names
    assert cache_key("result", "shop", replace(CHECKED, volatile=True), "s1", "d1", LIMITS) is None


async def test_one_lookup_counts_once_whatever_level_has_it() -> None:
    kept = caches(l1_bytes=SMALL, l2_bytes=SMALL * 2)
    kept.keep("result", name(1), {"a": 1}, 8.0)
    kept.keep("result", name(2), {"a": 2}, 4.0)  # 1 or 2 goes down to the second level
    assert await kept.find(name(1)) == {"a": 1}
    assert await kept.find(name(2)) == {"a": 2}
    assert await kept.find(name(3)) is None
    assert await kept.find(None) is None
    stats = kept.stats()
    assert sum(stats.outcomes.values()) == 4
    assert stats.outcomes["miss"] == 2
    assert set(stats.outcomes) == {"l1", "l2", "miss"} or stats.outcomes["l2"] == 2
    assert (stats.hit_rate, stats.saved_ms) == (0.5, 12.0)
    assert caches().stats().hit_rate is None


async def test_results_and_plans_are_kept_for_their_time() -> None:
    clock = FakeClock()
    kept = caches(clock, ttl_s=10.0, plan_ttl_s=100.0)
    kept.keep("result", name(1), {}, 1.0)
    kept.keep("plan", name(2), {}, 1.0)
    clock.time_s += 9.0
    assert await kept.find(name(1)) == {}
    clock.time_s += 2.0  # being found does not make it younger
    assert await kept.find(name(1)) is None
    assert await kept.find(name(2)) == {}


async def test_a_newer_value_is_never_followed_by_an_older_one() -> None:
    kept = caches(l1_bytes=SMALL, l2_bytes=SMALL * 4)
    kept.keep("result", name(1), {"v": "old"}, 1.0)
    kept.keep("result", name(2), {}, 9.0)
    kept.keep("result", name(1), {"v": "new"}, 1.0)
    for other in range(3, 12):
        kept.keep("result", name(other), {}, 9.0)
        found = await kept.find(name(1))
        assert found in (None, {"v": "new"})


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_lru_lets_go_what_was_used_least_lately_and_adaptive_what_saved_least(kind: str, tmp_path: Path) -> None:
    for strategy, gone in (("lru", 1), ("adaptive", 2)):
        size = 3 * Entry(b"x" * 50, 0.0, 0.0).size
        level = (
            MemoryLevel(size, strategy)  # type: ignore[arg-type]
            if kind == "memory"
            else FileLevel(tmp_path / strategy, size, strategy)  # type: ignore[arg-type]
        )
        for number, cost_ms in ((1, 500.0), (2, 1.0), (3, 300.0)):
            level.put(name(number), Entry(b"x" * 50, 99.0, cost_ms), 0.0)
        out = level.put(name(4), Entry(b"x" * 50, 99.0, 400.0), 0.0)
        assert [key for key, _ in out] == [name(gone)]
        assert level.counts() == (3, size)
        assert level.put(name(5), Entry(b"x" * 10_000, 99.0, 1.0), 0.0)[0][0] == name(5)


def test_what_was_dear_long_ago_ages() -> None:
    """One dear entry that is never asked again must go at last."""
    level = MemoryLevel(3 * (ENTRY_BYTES + 1), "adaptive")
    level.put(name(0), Entry(b"x", 9e9, 50.0), 0.0)
    for number in range(1, 400):
        level.put(name(number), Entry(b"x", 9e9, 5.0), 0.0)
    assert level.take(name(0), 0.0) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["lru", "adaptive"]))
def test_a_level_never_holds_more_than_it_may(seed: int, strategy: str) -> None:
    draw = random.Random(seed)
    level = MemoryLevel(2_000, strategy)  # type: ignore[arg-type]
    held: dict[bytes, int] = {}
    for _ in range(150):
        key = name(draw.randrange(12))
        if draw.random() < 0.4:
            entry = level.take(key, 0.0)
            assert (entry is not None) == (key in held)
            held.pop(key, None)
        else:
            entry = Entry(b"x" * draw.randrange(900), 9.0, draw.random())
            held[key] = entry.size
            for gone, _ in level.put(key, entry, 0.0):
                held.pop(gone)
        assert level.counts() == (len(held), sum(held.values()))
        assert sum(held.values()) <= 2_000


async def test_the_file_outlives_the_process_and_damage_is_a_miss(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "answers.sqlite"
    first = caches(file=path)
    first.keep("result", name(1), {"rows": [[1, "x"]]}, 3.0)
    first.close()
    first.close()
    second = caches(file=path)
    assert await second.find(name(1)) == {"rows": [[1, "x"]]}
    assert second.stats().outcomes == {"l3": 1}
    second.close()
    path.write_bytes(b"this is no database" * 100)
    third = caches(file=path)
    assert await third.find(name(1)) is None
    third.keep("result", name(2), {"b": 1}, 1.0)
    third.close()
    level = FileLevel(path, 10_000, "lru")
    planted = level.take(name(2), 0.0)
    assert planted is not None
    level.put(name(2), Entry(b"not deflated", planted.until_s, 1.0), 0.0)
    level.close()
    fourth = caches(file=path)
    assert await fourth.find(name(2)) is None
    fourth.close()
    with pytest.raises(InvalidSettings, match="cannot be written"):
        caches(file=tmp_path)


async def test_replicas_share_behind_the_levels() -> None:
    shared, clock = Shared(), FakeClock()
    one, other = caches(clock, shared), caches(clock, shared)
    one.keep("result", name(1), {"a": 1}, 7.0)
    assert await other.find(name(1)) == {"a": 1}
    assert await other.find(name(1)) == {"a": 1}
    assert other.stats().outcomes == {"shared": 1, "l1": 1}
    assert other.stats().saved_ms == 14.0
    shared.kept[name(2)] = (b"{damaged", 9.0)
    shared.kept[name(3)] = (orjson.dumps([1]), 9.0)
    shared.kept[name(4)] = (orjson.dumps({"content": "text"}), 9.0)
    assert [await other.find(name(planted)) for planted in (2, 3, 4)] == [None] * 3


async def test_clearing_forgets_all_levels(tmp_path: Path) -> None:
    kept = caches(l1_bytes=SMALL, l2_bytes=SMALL, file=tmp_path / "f")
    for number in range(5):
        kept.keep("plan", name(number), {}, 1.0)
    assert sum(kept.stats().entries.values()) == 5
    kept.clear()
    assert sum(kept.stats().entries.values()) == 0
    assert [await kept.find(name(number)) for number in range(5)] == [None] * 5
    kept.close()
