"""How many of the project's own questions on the demo database are read as their gold SQL is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.sql_words import Database, Question, judge, load, outcomes

DATA = Path(__file__).parents[2] / "data" / "sql"
RIGHT = 0.9
RIGHT_OF_SUREST = 0.95


def test_the_demo_questions_are_read_right() -> None:
    pairs = list(outcomes(load(DATA / "chinook.sqlite", DATA / "questions" / "chinook.json")))
    assert len(pairs) >= 60
    ours = [one for one, _ in pairs]
    right = sum(one.multiset for one in ours) / len(ours)
    wrong = [one.question.text for one in ours if not one.multiset]
    assert right >= RIGHT, wrong
    surest = sorted(ours, key=lambda one: -one.confidence)[: round(0.4 * len(ours))]
    assert sum(one.multiset for one in surest) / len(surest) >= RIGHT_OF_SUREST
    peers = [peer for _, peer in pairs]
    assert right > sum(peer.multiset for peer in peers) / len(peers)


@pytest.mark.parametrize(("name", "floor"), [("football", 0.88), ("hospital", 0.92), ("shop", 0.84)])
def test_questions_on_other_schemas_are_read_right(name: str, floor: float) -> None:
    ours = [one for one, _ in outcomes(load(DATA, DATA / "questions" / f"{name}.json"))]
    wrong = [one.question.text for one in ours if not one.multiset]
    assert 1 - len(wrong) / len(ours) >= floor, wrong


def test_a_wrong_statement_is_judged_wrong() -> None:
    database = Database(DATA / "chinook.sqlite")
    gold = "SELECT Name, GenreId FROM Genre"
    rows = database.rows(gold)
    assert rows is not None
    (one, _), *_ = outcomes([Question(DATA / "chinook.sqlite", "How many genres are there?", [gold])])
    assert not one.multiset
    judge(one, database.rows("SELECT GenreId, Name FROM Genre ORDER BY Name"), [(gold, rows)])
    assert one.multiset
