"""The second half of the SQL demo shows the engine's own plan, our order or why there is none, and both times."""

from __future__ import annotations

import pytest

from benchmarks import sql_show, sql_world
from benchmarks.sql import opened


def test_it_shows_plans_and_times(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_show, "LEAST_MS", 0.0)
    monkeypatch.setattr(sql_show, "SHOWN", 1)
    shop = sql_world.shop(skewed=True, scale=0.02)
    with opened("sqlite", shop) as engine:
        sql_show.show(engine, shop)
    told = capsys.readouterr().out
    for part in ("SELECT COUNT(*)", "sqlite's plan:", "the engine's own way:", "with all counting and searching:"):
        assert part in told


def test_it_says_where_there_is_nothing_to_gain(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_show, "SECONDS", 0.0)
    shop = sql_world.shop(skewed=False, scale=0.02)
    with opened("sqlite", shop) as engine:
        sql_show.show(engine, shop)
    assert "there is nothing to gain" in capsys.readouterr().out


def test_a_tree_is_written_with_its_names() -> None:
    assert sql_show.written(((0, 2), 1), ("a", "b", "c")) == "((a c) b)"
